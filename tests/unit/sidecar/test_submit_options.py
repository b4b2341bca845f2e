from __future__ import annotations

import re

import pytest

from daemon.errors import BadOptions
from daemon.fs.moves import NAME_BYTES
from daemon.jobs import MOST_FRAMES, Options
from daemon.pipeline.pipelines import PIPELINES
from sidecar.problems import Problem
from sidecar.submit_options import SubmitOptions, read_submit_options, source_name

KNOWN = {pipeline.pipeline_id: pipeline for pipeline in PIPELINES}


def read(**values: str) -> SubmitOptions:
    return read_submit_options(values, KNOWN, "yolo_ocr")


def test_what_is_missing_or_empty_has_its_default() -> None:
    assert read() == read(frame_stride="", max_frames=" ", pipeline_id="") == SubmitOptions("yolo_ocr", Options())
    assert read(frame_stride="5", max_frames=" 7 ", pipeline_id="yolo") == SubmitOptions("yolo", Options(5, 7))
    assert read(exports="csv, srt").options == Options(exports=("csv", "srt"))
    assert read(frame_stride=str(MOST_FRAMES)).options.frame_stride == MOST_FRAMES


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "٣", str(MOST_FRAMES + 1), "9" * 5000, "1e3", "None"])
def test_a_wrong_number_is_refused_in_the_words_of_the_options_file(value: str) -> None:
    with pytest.raises(Problem) as caught:
        read(max_frames=value)
    number = int(value) if re.fullmatch("-?[0-9]{1,18}", value) else value  # as it is written in JSON
    with pytest.raises(BadOptions) as in_the_folder:
        Options.from_mapping({"max_frames": number})
    assert caught.value.extra["errors"] == [{"field": "max_frames", "message": str(in_the_folder.value)}]
    assert len(caught.value.detail) < 300


def test_a_client_of_another_service_is_warned_not_refused() -> None:
    asked = read(plugin_id="x", tool="y")
    assert (asked.pipeline_id, len(asked.warnings)) == ("yolo_ocr", 2)


def test_an_unknown_pipeline_is_404_with_those_there_are() -> None:
    with pytest.raises(Problem, match="the pipelines are ocr_only, yolo, yolo_ocr") as caught:
        read(pipeline_id="nope")
    assert caught.value.status == 404


def test_a_repetition_is_recognised_by_its_options() -> None:
    record = {"pipeline_id": "yolo", "options": {"frame_stride": 5, "max_frames": None}}
    assert read(pipeline_id="yolo", frame_stride="5", tool="x").asked_for(record)
    assert not read(pipeline_id="yolo").asked_for(record)
    assert not read(frame_stride="5").asked_for(record)
    assert not read(pipeline_id="yolo", frame_stride="5", exports="csv").asked_for(record)
    assert read(pipeline_id="yolo", frame_stride="5", exports="csv").asked_for({**record, "asked_exports": ["csv"]})
    assert not read(pipeline_id="yolo", frame_stride="5").asked_for({**record, "asked_exports": ["csv"]})
    both = {**record, "asked_exports": ["csv", "srt"]}
    assert all(read(pipeline_id="yolo", frame_stride="5", exports=e).asked_for(both) for e in ("csv,srt", "srt,csv"))
    assert not read(pipeline_id="yolo", frame_stride="5", exports="srt").asked_for(both)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.mp4", "a.mp4"),
        ("C:\\videos\\a.mp4", "a.mp4"),
        ("/x/", "video.mp4"),
        ("é" * 300, "é" * 127),
        ("é" * 300 + ".mp4", "é" * 125 + ".mp4"),
    ],
)
def test_a_name_is_kept_without_its_folders(given: str, name: str) -> None:
    assert source_name(given) == name


@pytest.mark.parametrize("given", ["../a.mp4", "a\0.mp4", "x\\..\\a.mp4"])
def test_a_name_that_leads_upwards_is_refused(given: str) -> None:
    with pytest.raises(Problem):
        source_name(given)


@pytest.mark.parametrize("text", ["5", "+5", "0005"])
def test_a_whole_number_is_one_however_it_is_written(text: str) -> None:
    assert read(frame_stride=text).options == Options(5)


def test_a_pipeline_in_capitals_is_told_what_was_probably_meant() -> None:
    with pytest.raises(Problem, match=r"did you mean yolo_ocr\?"):
        read(pipeline_id="YOLO-OCR")


def test_a_name_that_is_cut_keeps_its_ending() -> None:
    cut = source_name("\u00e9" * 300 + ".mp4")
    assert cut.endswith("\u00e9.mp4")
    assert NAME_BYTES - 1 <= len(cut.encode()) <= NAME_BYTES
    assert source_name("a." + "b" * 400) == ("a." + "b" * 400)[:NAME_BYTES]
    assert source_name("." + "b" * 400).encode() == ("." + "b" * 400).encode()[:NAME_BYTES]
