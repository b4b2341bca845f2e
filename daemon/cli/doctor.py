"""Commands that say how it goes: doctor for a person who sets Dropframe up, health for a monitor."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import typer

from daemon.cli.common import (
    FAILED,
    DeviceOption,
    HomeOption,
    JsonOption,
    WeightsOption,
    escape,
    load,
    out,
    reading,
    show_json,
)
from daemon.errors import StoreError
from daemon.ipc import health
from daemon.settings import Settings

app = typer.Typer()


@app.command()
def doctor(
    home: HomeOption = None, weights: WeightsOption = None, device: DeviceOption = None, as_json: JsonOption = False
) -> None:
    """Check folders, disk, libraries, models, device and the job store; say what to do about each problem."""
    settings = load(home, weights=weights, device=device)
    from daemon.preflight import all_checks

    checks = []
    for check in all_checks(settings):
        checks.append(check)
        if not as_json:
            mark = "[green]ok[/]  " if check.ok else "[red]FAIL[/]"
            out.print(f"{mark} {check.name}: {escape(check.sentence)}", soft_wrap=True)
    if as_json:
        show_json([asdict(check) for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def store_problem(settings: Settings) -> str | None:
    """Return why the job store cannot be read, in a sentence that names no folder; None if it can."""
    try:
        with reading(settings):
            return None
    except StoreError:
        return "The job store cannot be read; dropframe doctor says why."


@app.command("health")
def show_health(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say whether Dropframe works, for monitors: the exit code is 0 if it does, 1 if not."""
    settings = load(home)
    heartbeat, now = health.read(settings.data_dir), datetime.now(UTC)
    parts = health.judge(heartbeat, settings, now, store_problem=store_problem(settings))
    optional = {name: parts[name] for name in parts if name in health.OPTIONAL_PARTS}
    problem = health.explain({name: parts[name] for name in parts if name not in optional}, heartbeat, now)
    if as_json:
        show_json({"ok": not problem, "parts": {name: asdict(part) for name, part in parts.items()}})
    else:
        besides = health.explain(optional, heartbeat, now)
        out.print(escape(f"{problem or 'Dropframe works.'} {besides}".strip()), soft_wrap=True)
    if problem:
        raise typer.Exit(FAILED)
