"""The address of the web page that the demo ends with is one where a browser finds it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from daemon.cli.common import out
from daemon.cli.demo import _page_has
from daemon.cli.greeting import Greeting, command, page_of
from daemon.settings import Settings


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("box.example", "box.example")],
)
def test_the_page_is_named_as_a_browser_here_takes_it(tmp_path: Path, host: str, shown: str) -> None:
    assert page_of(Settings.load(home=tmp_path, host=host, port=81)) == f"http://{shown}:81"


def test_only_a_sidecar_that_knows_the_job_or_wants_a_token_is_the_page_of_this_home(tmp_path: Path) -> None:
    answers = {"/v1/video/status/ours": 200, "/v1/video/status/closed": 401}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.get(self.path, 404))
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        settings = Settings.load(home=tmp_path, host="0.0.0.0", port=server.server_port)
        found = {name: _page_has(settings, name) for name in ("ours", "closed", "another")}
        server.shutdown()
        thread.join()
    assert found == {"ours": True, "closed": True, "another": False}
    assert not _page_has(settings, "ours")


def test_a_command_for_another_terminal_has_what_flags_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dropframe.toml").write_text("port = 8100\n")

    def flags(**given: object) -> str:
        return Greeting(Settings.load(home=tmp_path, **given), out)._demo_flags()

    assert flags(port=9000) == f" --home {tmp_path} --port 9000"
    monkeypatch.chdir(tmp_path)
    assert flags() == ""
    assert flags(port=0) == ""
    assert flags(port=9000, host="::1") == " --host ::1 --port 9000"


def test_the_command_is_named_for_a_python_right_below_the_root_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for python in ("/bin/python3", "/python3"):
        monkeypatch.setattr("sys.executable", python)
        assert command().endswith("dropframe")
