"""What the commands share: consoles, flags, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import markup
from rich.console import Console

from daemon.errors import MachineError, SettingsError
from daemon.fs.identity import shown
from daemon.settings import CONFIG_FILE, Settings
from daemon.store.job_reader import JobReader

OK, FAILED, USAGE, UNKNOWN, WRONG_STATE, MACHINE = range(6)
INTERRUPTED = 130
"""As shells give it for a command that Ctrl-C ended."""


class PatientConsole(Console):
    """A console whose output may be read by nobody (``dropframe run | head -1``): then it costs nothing."""

    def on_broken_pipe(self) -> None:
        """Send what is printed from now on nowhere; rich itself would end the process."""
        discard_output(2 if self.stderr else 1)


out = PatientConsole(highlight=False)
err = PatientConsole(stderr=True, highlight=False)

HomeOption = Annotated[
    Path | None, typer.Option(help="Folder with inbox, outbox and data (default: the current folder).")
]
WeightsOption = Annotated[Path | None, typer.Option(help="Object weights: an Ultralytics .pt file.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Fetch no weights by itself, as the setting auto_pull = false does.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def load(home: Path | None, **flags: Any) -> Settings:
    """Read the settings; paths in flags are relative to the current folder, as people mean them.

    Raises:
        MachineError: this system cannot hold a home.
    """
    require_linux()
    if flags.get("weights") is not None:
        flags["weights"] = Path(flags["weights"]).resolve()
    return Settings.load(home=home, **flags)


def require_linux() -> None:
    """See that this is Linux, whose inotify, locks and ways to move a file nothing here goes without.

    Raises:
        MachineError: it is another system.
    """
    if sys.platform != "linux":
        raise MachineError(
            "Dropframe runs on Linux only. Elsewhere run it in WSL 2, a virtual machine or a container, and use it "
            "over HTTP or through a shared inbox."
        )


def load_existing(home: Path | None, **flags: Any) -> Settings:
    """Read the settings of a home that exists, for commands that would make no sense beside an empty folder.

    Raises:
        SettingsError: it does not: its name is mistyped, or it is another folder than the user thinks.
    """
    settings = load(home, **flags)
    signs = (settings.data_dir, settings.inbox_dir, settings.home / CONFIG_FILE)
    if not any(sign.exists() for sign in signs) and (home is None or not home.exists()):
        raise SettingsError(
            f"{shown(str(settings.home))} is not a Dropframe home; with --home, name the folder that has inbox, outbox "
            "and data, or make it one: dropframe run."
        )
    return settings


@contextmanager
def reading(settings: Settings) -> Iterator[JobReader]:
    """Open the job store for reading, up to date."""
    with JobReader(settings.data_dir) as reader:
        reader.refresh()
        yield reader


def show_json(value: Any) -> None:
    """Print JSON."""
    with writing_output():
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def writing_output() -> Iterator[None]:
    """Write to standard output; that nobody reads it to its end is not an error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output(1)


def discard_output(descriptor: int) -> None:
    """Let what is written to a standard file from now on, or still waits to be, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def escape(text: str) -> str:
    """Return text that rich prints as it is, whatever a file name or a video's text holds."""
    return markup.escape(shown(text))


def say(console: Console, text: str) -> None:
    """Print a line whose failure must stop nothing, for instance because the disk that the log is on is full."""
    try:
        console.print(text, soft_wrap=True)
    except OSError:  # what could not be written would be tried again at the very end, and change the exit code
        name = "stderr" if console.stderr else "stdout"
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
