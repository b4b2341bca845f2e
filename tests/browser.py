"""Browser: a headless Chromium, driven over the DevTools protocol by a pipe, as a person would use the page."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import programs

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)

KEYS = {
    " ": ("Space", 32),
    "Enter": ("Enter", 13),
    "Escape": ("Escape", 27),
    "Tab": ("Tab", 9),
    "Home": ("Home", 36),
    "End": ("End", 35),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
}
"""Code and number of keys that are not letters."""
SHIFT = 8

START = """
import os, sys
commands, answers = [os.dup(int(text)) for text in sys.argv[1:3]]
os.dup2(commands, 3)  # where a browser reads commands
os.dup2(answers, 4)  # and answers
for descriptor in (3, 4):
    os.set_inheritable(descriptor, True)
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Work:
    """What a page had to do, in milliseconds of processor time."""

    all_ms: float = 0.0
    longest_ms: float = 0.0
    """Of the longest task; during it the page does not answer."""


class Browser:
    """One page.

    Args:
        to_browser: Descriptor that commands are written to.
        from_browser: Descriptor that answers and events are read from.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._received = b""
        self._last = 0
        self._session: str | None = None
        self.errors: list[str] = []
        """What the page has thrown and not caught."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its answer."""
        self._last += 1
        command = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next(60)
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            if message.get("id") == self._last:
                assert "error" not in message, (method, message["error"])
                answer: dict[str, Any] = message["result"]
                return answer

    def _next(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert select.select([self._from], [], [], seconds)[0], "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has ended"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def new_tab(self) -> Browser:
        """Return another page of the same browser; commands are given to one at a time."""
        return Browser(self._to, self._from)

    def open(self, url: str) -> None:
        """Go to a page and wait until it is there."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> Any:
        """Return the value of an expression once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            assert time.monotonic() < deadline, (
                expression,
                self.ask("document.activeElement.outerHTML.slice(0, 200)"),
                self.ask("document.body.innerText"),
            )
            time.sleep(0.05)
        return value

    def press(self, *keys: str, shift: bool = False) -> None:
        """Press keys one after the other, as ``Tab``, ``Enter`` or a letter."""
        for key in keys:
            code, number = KEYS.get(key, (f"Key{key.upper()}", ord(key[0].upper()) if key.isalnum() else 0))
            text = {"Enter": "\r"}.get(key, key) if len(key) == 1 or key == "Enter" else None
            about = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": SHIFT if shift else 0}
            self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, text: str) -> None:
        """Write into what has the focus."""
        self.call("Input.insertText", text=text)

    def show_on(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a screen of that size in CSS pixels, whose user likes it light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def choose_files(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files for an input, as its dialogue does."""
        node = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=node, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=found, files=[str(file) for file in files])

    def drop_files(self, selector: str, files: Sequence[Path]) -> None:
        """Drag files from outside over an element and let them go."""
        box = self.ask(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def screencast(self, seconds: float) -> list[bytes]:
        """Return what is painted during a time, a PNG each."""
        pictures, deadline = [], time.monotonic() + seconds
        self.call("Page.startScreencast", format="png")
        while (left := deadline - time.monotonic()) > 0:
            if b"\0" not in self._received and not select.select([self._from], [], [], left)[0]:
                break
            message = self._next(left)
            if message.get("method") == "Page.screencastFrame":
                pictures.append(base64.b64decode(message["params"]["data"]))
                self.call("Page.screencastFrameAck", sessionId=message["params"]["sessionId"])
        self.call("Page.stopScreencast")
        return pictures

    def screenshot(self, path: Path) -> None:
        """Save what is seen as a PNG."""
        path.write_bytes(self.picture())

    def picture(self, selector: str = "") -> bytes:
        """Return what is seen as a PNG, of one element if a selector is given."""
        within: dict[str, Any] = {}
        if selector:
            box = self.ask(
                f"(({{x, y, width, height}}) => ({{x, y, width, height, scale: 1}}))"
                f"(document.querySelector({selector!r}).getBoundingClientRect())"
            )
            within = {"clip": box}
        return base64.b64decode(self.call("Page.captureScreenshot", **within)["data"])

    @contextlib.contextmanager
    def working(self) -> Iterator[Work]:
        """Measure what the page does meanwhile, in processor time: what else the machine does is left out."""
        work = Work()
        categories = ["disabled-by-default-devtools.timeline"]
        self.call("Tracing.start", traceConfig={"includedCategories": categories}, transferMode="ReportEvents")
        yield work
        self.call("Tracing.end")
        events: list[dict[str, Any]] = []
        while (message := self._next(60)).get("method") != "Tracing.tracingComplete":
            if message.get("method") == "Tracing.dataCollected":
                events += message["params"]["value"]
        pages = {e["tid"] for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"}
        tasks = [e["tdur"] / 1000 for e in events if e["name"] == "RunTask" and e["tid"] in pages and "tdur" in e]
        work.all_ms, work.longest_ms = sum(tasks), max(tasks)


@contextlib.contextmanager
def browsing(profile: Path, size: tuple[int, int] = (1280, 900), more: Sequence[str] = ()) -> Iterator[Browser]:
    """Run a browser.

    Args:
        profile: Folder for what it keeps.
        size: Of its window in pixels.
        more: Flags.
    """
    to_browser, commands = os.pipe()[::-1]
    answers, from_browser = os.pipe()[::-1]
    flags = [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", *more, "about:blank"]
    chromium = str(programs.find("chromium"))
    command = [sys.executable, "-c", START, str(commands), str(answers), chromium, *FLAGS, *flags]
    with (profile.parent / "browser.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(commands, answers), stdout=log, stderr=log)
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        os.close(to_browser)  # ends it
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_browser)
