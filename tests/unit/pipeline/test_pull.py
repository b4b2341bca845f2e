"""Fetching official weights, from a server of our own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import ModelError
from daemon.pipeline.pull import OFFICIAL, RECOGNISERS, Official, pull
from daemon.settings import Settings
from tests.weights_server import CONTENT, OTHER, Server, serve


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as state:
        yield state


def official(server: Server) -> dict[str, Official]:
    return server.official()


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


def test_two_that_fetch_the_same_do_not_write_into_one_file(server: Server, settings: Settings) -> None:
    asked: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        if not asked:
            with pytest.raises(ModelError, match="tiny is being fetched by another process already") as caught:
                pull("tiny", settings, official=official(server))
            asked.append(str(caught.value))

    assert pull("tiny", settings, meanwhile, official(server)).read_bytes() == CONTENT
    assert len(asked) == 1
