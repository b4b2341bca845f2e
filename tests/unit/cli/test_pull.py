"""Fetching official weights, from a server of our own."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from daemon.cli.pull import OFFICIAL, RECOGNISERS, Official, pull
from daemon.errors import ModelError
from daemon.settings import Settings

CONTENT = np.random.default_rng(7).bytes(400_000)
OTHER = CONTENT[:-1] + b"!"


@dataclass
class Server:
    """Serves CONTENT, and can break off."""

    url: str = ""
    content: bytes = CONTENT
    send_at_most: int | None = None
    ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(state.content) - first))
            self.end_headers()
            body = state.content[first:]
            with contextlib.suppress(ConnectionError):  # the other side may have heard enough
                self.wfile.write(body if state.send_at_most is None else body[: state.send_at_most])

        def log_message(self, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/m.pt"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def official(server: Server) -> dict[str, Official]:
    return {"tiny": Official(server.url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(home=tmp_path)


def files(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.data_dir / "models").iterdir())


def test_weights_arrive_whole_and_the_progress_is_told(server: Server, settings: Settings) -> None:
    told: list[tuple[int, int]] = []
    path = pull("tiny", settings, lambda done, total: told.append((done, total)), official(server))
    assert path == settings.data_dir / "models" / "tiny.pt"
    assert path.read_bytes() == CONTENT
    assert files(settings) == ["tiny.pt"]
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_what_is_there_is_not_fetched_again(server: Server, settings: Settings) -> None:
    pull("tiny", settings, official=official(server))
    pull("tiny", settings, official=official(server))
    assert len(server.asked) == 1


def test_damaged_weights_are_fetched_again(server: Server, settings: Settings) -> None:
    path = pull("tiny", settings, official=official(server))
    path.write_bytes(OTHER)
    assert pull("tiny", settings, official=official(server)).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_fetch_that_broke_off_goes_on_where_it_stopped(server: Server, settings: Settings, ranges: bool) -> None:
    server.send_at_most, server.ranges = 150_000, ranges
    with pytest.raises(ModelError, match=r"broke off; pull \w+ again to resume"):
        pull("tiny", settings, official=official(server))
    assert files(settings) == [".tiny.pt.part"]
    server.send_at_most = None
    told: list[int] = []
    assert pull("tiny", settings, lambda done, _: told.append(done), official(server)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=150000-"]
    assert told[0] > 150_000 or not ranges
    assert files(settings) == ["tiny.pt"]


def test_other_bytes_than_the_pinned_ones_are_not_kept(server: Server, settings: Settings) -> None:
    server.content = OTHER
    with pytest.raises(ModelError, match="checksum differs"):
        pull("tiny", settings, official=official(server))
    assert files(settings) == []
    server.content = CONTENT
    assert pull("tiny", settings, official=official(server)).read_bytes() == CONTENT


def test_a_longer_answer_than_expected_is_cut_short(server: Server, settings: Settings) -> None:
    server.content = CONTENT + bytes(5_000_000)
    told: list[int] = []
    with pytest.raises(ModelError, match="checksum differs"):
        pull("tiny", settings, lambda done, _: told.append(done), official(server))
    assert max(told) < len(CONTENT) + 100_000


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_says_how_to_do_without(server: Server, settings: Settings, status: int) -> None:
    server.status = status
    with pytest.raises(ModelError, match="Without internet, fetch it elsewhere and copy it to"):
        pull("tiny", settings, official=official(server))
    assert files(settings) == []


def test_an_unreachable_server_says_how_to_do_without(settings: Settings) -> None:
    nowhere = {"tiny": Official("http://127.0.0.1:1/m.pt", 5, "00")}
    with pytest.raises(ModelError, match=r"refused.*Without internet") as caught:
        pull("tiny", settings, official=nowhere)
    assert "\n" not in str(caught.value)


def recogniser(server: Server) -> dict[str, Official]:
    return {"text:xx": Official(server.url, None, hashlib.sha256(CONTENT).hexdigest(), "text/some_rec.onnx")}


def test_a_recogniser_whose_size_is_not_known_before_arrives_whole(server: Server, settings: Settings) -> None:
    told: list[tuple[int, int]] = []
    path = pull("text:xx", settings, lambda done, total: told.append((done, total)), recogniser(server))
    assert path == settings.text_models_dir / "some_rec.onnx"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    pull("text:xx", settings, official=recogniser(server))
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_recogniser_that_broke_off_goes_on_where_it_stopped(server: Server, settings: Settings, ranges: bool) -> None:
    server.send_at_most, server.ranges = 150_000, ranges
    with pytest.raises(ModelError, match="broke off; pull text:xx again to resume"):
        pull("text:xx", settings, official=recogniser(server))
    server.send_at_most = None
    assert pull("text:xx", settings, official=recogniser(server)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=150000-"]


def test_a_recogniser_that_was_whole_before_the_end_is_not_fetched_again(server: Server, settings: Settings) -> None:
    settings.text_models_dir.mkdir(parents=True)
    (settings.text_models_dir / ".some_rec.onnx.part").write_bytes(CONTENT)
    assert pull("text:xx", settings, official=recogniser(server)).read_bytes() == CONTENT
    assert server.asked == []


def test_a_recogniser_of_other_bytes_is_not_kept(server: Server, settings: Settings) -> None:
    server.content = OTHER
    with pytest.raises(ModelError, match="checksum differs"):
        pull("text:xx", settings, official=recogniser(server))
    assert list(settings.text_models_dir.iterdir()) == []


def test_a_language_without_a_recogniser_of_its_own_is_named(settings: Settings) -> None:
    with pytest.raises(ModelError, match=r"docs/text-languages\.md says what reads Hebrew"):
        pull("text:he", settings)
    with pytest.raises(ModelError, match="recognisers of text such as text:ru"):
        pull("text:russian", settings)


def test_only_what_is_pinned_can_be_pulled(settings: Settings) -> None:
    with pytest.raises(ModelError, match="'resnet' cannot be pulled; yolo11n, yolo26n, yolov8n can"):
        pull("resnet", settings)
    for each in (*OFFICIAL.values(), *RECOGNISERS.values()):
        assert each.url.startswith("https://")
        assert len(each.sha256) == 64
