"""``dropframe mcp``: a server of the Model Context Protocol, by which agents use Dropframe. It knows the library."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import typer

from daemon import __version__
from daemon.cli.common import INTERRUPTED, HomeOption, err, load_existing, say
from daemon.errors import DropframeError, MachineError
from daemon.settings import Settings

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.tools import Tool

app = typer.Typer()

INSTRUCTIONS = (
    "Dropframe analyses videos on this machine: which objects and which text each frame shows. submit takes a video, "
    "status says when its job is completed, texts and tracks list what was seen and when, search looks through all "
    "videos, export writes files for other programs. Times are seconds from the beginning of the video."
)
CHANGING = frozenset({"submit", "export"})


@app.command()
def mcp(home: HomeOption = None) -> None:
    """Serve agents over standard input and output (Model Context Protocol). An agent's program starts this."""
    settings = load_existing(home)
    server = server_of(settings)
    if sys.stdin.isatty():
        say(err, "This waits for the messages of an agent's program, which is to start it; Ctrl-C ends it.")
    try:
        server.run("stdio")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def server_of(settings: Settings) -> MCPServer:
    """Return the server of a home.

    Raises:
        MachineError: the library is not installed.
    """
    try:
        from mcp.server import MCPServer
    except ImportError as error:
        raise MachineError("Serving agents needs the package mcp: pip install 'dropframe[mcp]'.") from error
    from daemon.cli.agent_tools import AgentTools

    tools = [_tool(function) for function in AgentTools(settings).all()]
    return MCPServer("dropframe", version=__version__, instructions=INSTRUCTIONS, tools=tools, log_level="WARNING")


def _tool(function: Callable[..., Any]) -> Tool:
    from mcp.server.mcpserver.tools import Tool
    from mcp_types import ToolAnnotations

    hints = ToolAnnotations(
        read_only_hint=function.__name__ not in CHANGING, destructive_hint=False, open_world_hint=False
    )
    tool = Tool.from_function(_with_sentences(function), annotations=hints)
    # An argument that there is not would be ignored, and the agent would believe that it had an effect.
    arguments = tool.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema(by_alias=True)
    return tool


def _with_sentences(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a tool tell its agent what went wrong; of other errors the library says nothing."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except DropframeError as error:
            raise ToolError(str(error)) from error
        except OSError as error:
            raise ToolError(f"It cannot be done at the moment: {error.strerror or error}.") from error

    return call
