"""The ``dropframe`` command. Output for people by default, ``--json`` for programs.

Exit codes: 0 done; 1 it was tried and failed (a job failed, a check is not ok); 2 wrong usage or settings;
3 no such job; 4 the job is in the wrong state; 5 this machine or home cannot be used as set up.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from daemon import __version__
from daemon.cli import (
    admin,
    agent,
    demo,
    derived,
    doctor,
    export,
    frame,
    import_jobs,
    jobs,
    requests,
    search,
    webhooks,
)
from daemon.cli.common import (
    FAILED,
    MACHINE,
    UNKNOWN,
    USAGE,
    WRONG_STATE,
    DeviceOption,
    HomeOption,
    OfflineOption,
    WeightsOption,
    err,
    escape,
    load,
    out,
    say,
)
from daemon.errors import (
    BadOptions,
    DropframeError,
    IllegalMove,
    MachineError,
    ModelError,
    SettingsError,
    StoreError,
    UnknownJob,
)
from daemon.fs.space import FULL
from daemon.ipc.process import keep_standard_files_open
from daemon.logs import setup_logging

app = typer.Typer(
    help="Drop a video into a folder and get one JSON file that says what is in every frame.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 no such job, 4 wrong state, 5 machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; every error of ours becomes one sentence and an exit code."""
    keep_standard_files_open()
    try:
        app()
    except DropframeError as error:
        say(err, f"[bold red]dropframe:[/] {escape(str(error))}")
        sys.exit(exit_code(error))
    except OSError as error:
        full = "The disk is full; make room, and then do it again." if error.errno in FULL else str(error)
        say(err, f"[bold red]dropframe:[/] {escape(full)}")
        sys.exit(MACHINE)


def exit_code(error: DropframeError) -> int:
    """Return the exit code that goes with an error."""
    codes: list[tuple[type[DropframeError], int]] = [
        (SettingsError, USAGE),
        (BadOptions, USAGE),
        (UnknownJob, UNKNOWN),
        (IllegalMove, WRONG_STATE),
        (MachineError, MACHINE),
        (ModelError, MACHINE),
        (StoreError, MACHINE),
    ]
    return next((code for kind, code in codes if isinstance(error, kind)), FAILED)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"dropframe {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    home: HomeOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    host: Annotated[str | None, typer.Option(help="Address of the HTTP sidecar.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP sidecar.")] = None,
    offline: OfflineOption = False,
    step: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Start Dropframe: the daemon and the HTTP sidecar. One that dies is restarted; Ctrl-C stops both."""
    from daemon.cli.greeting import Greeting
    from daemon.cli.supervisor import supervise

    settings = load(home, weights=weights, device=device, host=host, port=port, auto_pull=False if offline else None)
    setup_logging(settings.log_level)
    greeting = Greeting(settings, out, step)
    greeting.begin()
    flags = {"home": settings.home, "weights": settings.weights, "device": device}
    quietly = ["--quiet", *(["--offline"] if offline else [])]
    sys.exit(
        supervise(
            {
                "daemon": [sys.executable, "-m", "daemon", "daemon", *quietly, *as_flags(flags)],
                "sidecar": [
                    sys.executable,
                    "-m",
                    "sidecar",
                    *as_flags({"home": settings.home, "host": host, "port": port}),
                ],
            },
            greeting.look,
        )
    )


@app.command()
def daemon(
    home: HomeOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", hidden=True)] = False,
) -> None:
    """Start only the daemon: watch the inbox and run the jobs. Ctrl-C or SIGTERM stops it within 10 s."""
    settings = load(home, weights=weights, device=device, auto_pull=False if offline else None)
    from daemon.pipeline.auto_pull import HOW_TO_ADD
    from daemon.pipeline.client import Ready
    from daemon.service import DaemonService

    setup_logging(settings.log_level)

    def say_ready(ready: Ready) -> None:
        names = ", ".join(f"{m['name']} ({m['role'].replace('_', ' ')}, {m['runtime']})" for m in ready.models)
        if not any(m["role"] == "objects" for m in ready.models):
            names += f". {HOW_TO_ADD}"
        say(out, f"Models on {ready.device}: {escape(names)}")

    service = DaemonService(settings, (lambda ready: None) if quiet else say_ready)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    if not quiet:  # then dropframe run says it
        say(out, f"Drop videos into {escape(str(settings.inbox_dir))}")
        say(out, f"Results appear in {escape(str(settings.outbox_dir))}")
    service.run()


@app.command()
def sidecar(
    home: HomeOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Start only the HTTP sidecar."""
    settings = load(home, host=host, port=port)
    flags = as_flags({"home": settings.home, "host": host, "port": port})
    os.execv(sys.executable, [sys.executable, "-m", "sidecar", *flags])  # noqa: S606 - no shell


def as_flags(values: dict[str, Any]) -> list[str]:
    """Return flags for another of our processes."""
    return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]


for part in (
    demo,
    jobs,
    requests,
    derived,
    search,
    frame,
    export,
    agent,
    doctor,
    admin,
    webhooks,
    import_jobs,
):  # in this order in the help, after the ones above
    app.add_typer(part.app)
