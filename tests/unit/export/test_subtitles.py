"""Subtitles of any texts: whatever they hold and however they lie, what is written has only the cues that it should."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.export.subtitles import _in_ass, _in_srt, in_reading_order, stretches
from daemon.export.wording import cell, plain, spoken

SYNTAX = "<>&{}\\-|:,0123456789 \n\r\t\x00\u202e\u2028\ud800='+@;\"/bNnh"
WORDS = st.text(st.one_of(st.sampled_from(SYNTAX), st.characters()), max_size=60)
BOX = st.tuples(*(st.floats(0, 1000) for _ in range(4))).map(list)


@st.composite
def spans(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for start, length in draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2000)), max_size=12)):
        found.append({"start_s": start / 1000, "end_s": (start + length) / 1000, "text": "x", "bbox": draw(BOX)})
    return sorted(found, key=lambda span: span["start_s"])


@given(spans())
@settings(max_examples=200, deadline=None)
def test_stretches_do_not_overlap_and_hold_what_is_shown(found: list[dict[str, Any]]) -> None:
    before = 0
    cut = list(stretches(iter(found)))
    for start, end, texts in cut:
        assert before <= start < end
        before = end
        shown = [text for text in found if text["start_s"] * 1000 <= start + 0.5 and end <= text["end_s"] * 1000 + 0.5]
        assert sorted(map(id, texts)) == sorted(map(id, shown))
        assert sorted(map(id, in_reading_order(texts))) == sorted(map(id, texts))
    shown_ms = sum((end - start) * len(texts) for start, end, texts in cut)
    assert shown_ms == sum(round(text["end_s"] * 1000) - round(text["start_s"] * 1000) for text in found)


@given(WORDS)
@settings(max_examples=500, deadline=None)
def test_any_text_stays_a_text(text: str) -> None:
    shown = _in_srt(text)
    assert "\n" not in shown
    assert "-->" not in shown
    assert re.search(r"<[A-Za-z/]|\{\\|\\[Nnh]|^[0-9]+:[0-9]", shown) is None
    assert re.sub(r"\\[{}]|\\\u2060", "", _in_ass(spoken(text))).strip("\u2060").count("{") == 0
    assert re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", plain(text)) is None
    assert not cell(text).lstrip().startswith(("=", "+", "-", "@"))
    plain(text).encode()


def test_rows_are_read_from_left_to_right() -> None:
    boxes = {"left": [10, 12, 50, 30], "right": [100, 10, 150, 30], "below": [10, 40, 50, 60]}
    texts = [{"text": name, "bbox": box} for name, box in boxes.items()]
    assert [text["text"] for text in in_reading_order(texts[::-1])] == ["left", "right", "below"]


def test_a_text_that_runs_upwards_comes_before_the_rows_beside_it_and_leaves_their_order() -> None:
    boxes = {"above": [200, 0, 260, 20], "side": [10, 30, 30, 130], "one": [90, 32, 200, 50]}
    boxes |= {"two": [60, 60, 200, 80], "three": [40, 90, 200, 110], "below": [0, 140, 99, 160]}
    texts = [{"text": name, "bbox": box} for name, box in boxes.items()]
    assert [text["text"] for text in in_reading_order(texts[::-1])] == list(boxes)
