"""Greeting: what ``dropframe run`` tells a person, from the start to the moment when videos can be dropped."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rich.console import Console

from daemon.cli.common import escape, say
from daemon.ipc import health
from daemon.ipc.health import Heartbeat
from daemon.jobs import utc_now
from daemon.pipeline.auto_pull import HOW_TO_ADD
from daemon.settings import Settings

QUARTER = 25


class Greeting:
    """Looks at the heartbeat until the models are loaded, then says once what to do next, in three lines.

    Args:
        settings: Say where everything is.
        console: Where it is said.
        step: Put before the line on models, such as ``4/4 ``.
    """

    def __init__(self, settings: Settings, console: Console, step: str = "") -> None:
        self._settings = settings
        self._console = console
        self._step = step
        self._begun = utc_now()
        self._percent = -1
        self._over = False

    def begin(self) -> None:
        """Say what is going to happen."""
        if self._settings.port:  # 0 is any free one, which the sidecar's log names
            say(self._console, f"The web page is on {escape(self._page())}")
        say(self._console, f"{self._step}Models are being loaded; the first time this takes a little longer.")

    def look(self) -> None:
        """Say what is new; cheap, and quiet once everything is said."""
        if self._over:
            return
        heartbeat = health.read(self._settings.data_dir)
        if heartbeat is None or heartbeat.started_at < self._begun:  # of a daemon that ran before
            return
        self._say_progress(heartbeat.weights_percent)
        if heartbeat.state == "running":
            self._over = True
            for line in self._lines(heartbeat):
                say(self._console, escape(line))

    def _say_progress(self, percent: int | None) -> None:
        if percent is not None and percent // QUARTER > self._percent // QUARTER:
            self._percent = percent
            say(
                self._console, f"{self._step}Models: {percent // QUARTER * QUARTER} % of the weights have been fetched."
            )

    def _lines(self, heartbeat: Heartbeat) -> list[str]:
        names = {str(model.get("role")): str(model.get("name")) for model in heartbeat.models}
        if "objects" in names:
            found = f"Ready: {names['objects']} finds objects, {names.get('text', 'nothing')} reads text"
            found += f", on {heartbeat.device}."
        else:
            found = f"Ready to read text, on {heartbeat.device}. {HOW_TO_ADD}"
        home = self._settings
        page = f" or on {self._page()}" if home.port else ""
        return [
            found,
            f"Drop videos into {home.inbox_dir}{page}; results appear in {home.outbox_dir}.",
            f"No video at hand? In another terminal: {command()} demo{self._demo_flags()}",
        ]

    def _page(self) -> str:
        return page_of(self._settings)

    def _demo_flags(self) -> str:
        """Return what another terminal has to be told: the home, and where the page is if a flag says so."""
        home, usual = self._settings.home, Settings.load(home=self._settings.home)
        told = [("home", home, Path.cwd()), ("host", self._settings.host, usual.host)]
        told.append(("port", self._settings.port, usual.port))
        return "".join(f" --{name} {value}" for name, value, known in told if value not in (known, 0))


def page_of(settings: Settings) -> str:
    """Return the address of the web page, as a browser on this machine takes it."""
    host = connect_host(settings)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def connect_host(settings: Settings) -> str:
    """Return the host under which this machine reaches the sidecar."""
    known = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound here
    return known.get(settings.host, settings.host).strip("[]")


def command() -> str:
    """Return how this very program is called, as short as it can be typed here."""
    program = Path(sys.executable).with_name("dropframe")
    if Path.cwd() in program.parents[2:3]:  # .venv/bin/ of a checkout
        return str(program.relative_to(Path.cwd()))
    on_path = shutil.which("dropframe")
    return "dropframe" if on_path or not program.exists() else str(program)
