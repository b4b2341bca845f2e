"""A start without object weights fetches the default ones, from a server of our own."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.pipeline import auto_pull
from daemon.pipeline.auto_pull import AutoPull
from daemon.pipeline.pull import DEFAULT, OFFICIAL, Official
from daemon.settings import Settings
from tests.weights_server import CONTENT, OTHER, Server, serve, wait_until


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as state:
        yield state


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(home=tmp_path, auto_pull=True)


def weights(settings: Settings) -> Path:
    return settings.models_dir / f"{DEFAULT}.pt"


def started(settings: Settings, server: Server, **how: float) -> AutoPull:
    fetching = AutoPull(settings, server.official(DEFAULT), **how)
    fetching.start()
    return fetching


def test_weights_are_there_before_the_models_are_loaded(
    settings: Settings, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    fetching = started(settings, server)
    fetching.wait()
    assert weights(settings).read_bytes() == CONTENT
    assert fetching.note == ""
    (first, last) = caplog.messages
    assert first == (
        f"No object weights: fetching {DEFAULT}, 0.4 MB from {server.url} (auto_pull = false or --offline forbids it)"
    )
    assert last == f"{DEFAULT} is there"


def test_the_default_is_one_whose_size_and_checksum_are_pinned() -> None:
    assert OFFICIAL[DEFAULT].size_bytes
    assert len(OFFICIAL[DEFAULT].sha256) == 64


def test_nothing_is_fetched_where_that_is_forbidden(tmp_path: Path, server: Server) -> None:
    started(Settings.load(home=tmp_path, auto_pull=False), server).wait()
    assert server.asked == []


def test_nothing_is_fetched_where_there_are_weights(settings: Settings, server: Server) -> None:
    settings.models_dir.mkdir(parents=True)
    (settings.models_dir / "mine.pt").write_bytes(b"x")
    started(settings, server).wait()
    named = settings.model_copy(update={"weights": settings.home / "other.pt"})
    started(named, server).wait()
    assert server.asked == []


def test_tests_fetch_nothing_by_themselves(tmp_path: Path) -> None:
    assert not Settings.load(home=tmp_path).auto_pull


def test_slow_weights_hold_up_the_first_job_only_for_a_while(
    settings: Settings, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.pause_seconds = 0.01
    fetching = started(settings, server)
    fetching.wait(patience_seconds=0.3)
    assert not weights(settings).exists()
    assert "arrives slowly" in caplog.text
    assert f"{DEFAULT} is being fetched (" in fetching.note
    wait_until(lambda: weights(settings).exists())
    assert weights(settings).read_bytes() == CONTENT


def test_a_fetch_that_breaks_off_goes_on_by_itself(settings: Settings, server: Server) -> None:
    server.send_at_most = 150_000
    started(settings, server, again_seconds=0.01).wait()
    assert weights(settings).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=150000-", "bytes=300000-"]


def test_a_fetch_that_was_stopped_goes_on_at_the_next_start(settings: Settings, server: Server) -> None:
    server.pause_seconds = 0.01
    fetching = started(settings, server)
    wait_until(lambda: "(" in fetching.note and "(0 %)" not in fetching.note)
    fetching.stop()
    wait_until(lambda: not fetching._thread.is_alive())
    assert not weights(settings).exists()
    server.pause_seconds = 0.0
    started(settings, server).wait()
    assert weights(settings).read_bytes() == CONTENT
    assert server.asked[-1] not in (None, "bytes=0-")


def test_other_bytes_than_the_pinned_ones_are_not_kept(
    settings: Settings, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.content = OTHER
    fetching = started(settings, server, again_seconds=0.01)
    fetching.wait()
    assert list(settings.models_dir.iterdir()) == []
    assert "its checksum differs" in caplog.text
    assert fetching.note == f"{DEFAULT} could not be fetched."


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_leaves_text_and_says_how_to_add_objects(
    settings: Settings, server: Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = status
    started(settings, server).wait()
    assert len(server.asked) == 1
    assert "Only text is read. To find objects too, run dropframe models pull" in caplog.text


def test_an_address_that_refuses_is_given_up_at_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = {DEFAULT: Official("http://127.0.0.1:1/m.pt", 5, "00")}
    fetching = AutoPull(settings, nowhere)
    begun = time.monotonic()
    fetching.start()
    fetching.wait()
    assert time.monotonic() - begun < 5
    assert "refused" in caplog.text
    assert "Only text is read." in caplog.text


def test_an_address_that_does_not_answer_is_given_up_after_ten_seconds(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auto_pull.TIMEOUT_SECONDS == 10
    monkeypatch.setattr(auto_pull, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
        fetching = AutoPull(settings, {DEFAULT: Official(f"http://127.0.0.1:{silent.getsockname()[1]}/m.pt", 5, "00")})
        fetching.start()
        fetching.wait()
        assert "did not answer within" in caplog.text
        assert caplog.text.count("Only text is read.") == 1
    wait_until(lambda: not fetching._thread.is_alive(), 15)
    assert caplog.text.count("Only text is read.") == 1


def test_a_proxy_of_the_environment_is_used(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/m.pt"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    wanted = server.official(DEFAULT)[DEFAULT]
    fetching = AutoPull(settings, {DEFAULT: Official("http://weights.invalid/a.pt", wanted.size_bytes, wanted.sha256)})
    fetching.start()
    fetching.wait()
    assert weights(settings).read_bytes() == CONTENT
    assert server.addresses == ["http://weights.invalid/a.pt"]
