from __future__ import annotations

import random

import pytest

from sidecar.multipart import MAX_PARTS, FormReader, boundary_of
from sidecar.problems import Problem

BOUNDARY = b"xyz"


def part(disposition: bytes, content: bytes) -> bytes:
    return b"--xyz\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"


def feed(body: bytes, cuts: list[int]) -> tuple[FormReader, bytes]:
    reader, video = FormReader(BOUNDARY), b""
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        video += b"".join(reader.feed(body[start:end]))
    return reader, video


VIDEO = b"\0\0\0\x18ftypmp42" + b"\r\n--xy\r\n--\r\n-" * 50 + bytes(range(256))


def test_wherever_a_form_is_cut_the_same_video_comes_out() -> None:
    body = (
        part(b'name="frame_stride"', b"5")
        + part(b'name="file"; filename="a.mp4"', VIDEO)
        + part(b'name="other"', b"x" * 100)
        + part(b'name="pipeline_id"', b"yolo")
        + b"--xyz--\r\n"
    )
    chance = random.Random(1)
    for cut in range(len(body)):
        cuts = sorted({cut, *chance.sample(range(len(body)), 5)})
        reader, video = feed(body, cuts)
        assert video == VIDEO
        assert reader.fields == {"frame_stride": "5", "pipeline_id": "yolo"}
        assert reader.file_name == "a.mp4"
        reader.check_complete()


def test_a_video_full_of_what_looks_like_a_boundary_comes_out_as_it_went_in() -> None:
    chance = random.Random(5)
    pieces = [b"\r", b"\n", b"-", b"--x", b"\r\n--x", b"\r\n--xy", b"xyz", b"\r\n--xy\r\n", bytes(30)]
    for _ in range(300):
        video = b"".join(chance.choices(pieces, k=60))
        while b"\r\n--xyz" in video:
            video = video.replace(b"\r\n--xyz", b"")
        body = part(b'name="file"; filename="a.mp4"', video) + b"--xyz--\r\n"
        cuts = sorted(chance.sample(range(len(body)), 12))
        reader, came = feed(body, cuts)
        assert came == video
        reader.check_complete()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"--other\r\n\r\n", 400),
        (b"no boundary at all", 400),
        (part(b'name="file"; filename="a.mp4"', VIDEO), 400),
        (part(b'name="frame_stride"', b"5") + b"--xyz--\r\n", 422),
        (part(b'name="file"', b"clip.mp4") + b"--xyz--\r\n", 422),
        (part(b'name="file"; filename="a"', b"1") + part(b'name="file"; filename="b"', b"2") + b"--xyz--\r\n", 422),
        (part(b'name="f"', b"") * (MAX_PARTS + 1), 400),
        (part(b'name="f"', b"x" * (2 << 20)), 400),
        (part(b'name="pipeline_id"', b"x" * 5000), 422),
        (b"--xyz\r\n" + b"A: b\r\n" * 50 + b"\r\n", 400),
        (b"--xyz\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", 400),
    ],
)
def test_a_form_that_cannot_be_used_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        feed(body, [])[0].check_complete()
    assert caught.value.status == status


def test_a_form_that_gives_an_option_twice_is_refused() -> None:
    options = part(b'name="frame_stride"', b"1") + part(b'name="frame_stride"', b"5")
    with pytest.raises(Problem, match="frame_stride is given more than once"):
        feed(options + part(b'name="file"; filename="a.mp4"', VIDEO) + b"--xyz--\r\n", [])


def test_a_form_whose_file_has_another_name_is_told_the_name() -> None:
    body = part(b'name="video"; filename="a.mp4"', VIDEO) + b"--xyz--\r\n"
    with pytest.raises(Problem, match="The form has no field named file; send the video in it"):
        feed(body, [])[0].check_complete()


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/x-www-form-urlencoded; charset=punycode", 415),
        ("multipart/mixed; boundary=x", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "x" * 71, 400),
    ],
)
def test_only_a_form_with_a_boundary_is_read(content_type: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        boundary_of(content_type)
    assert caught.value.status == status


def test_a_quoted_boundary_is_understood() -> None:
    assert boundary_of('multipart/form-data; charset=punycode; boundary="a b"') == b"a b"
