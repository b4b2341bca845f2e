"""Texts over time: what stayed on the screen, from when to when, though it is read differently from frame to frame."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from daemon.derive.document import FinishedDocument
from daemon.derive.segments import MOST_FORMS, MOST_KEYS, Segment
from daemon.derive.text_keys import Relation, key_of, relation
from daemon.derive.texts import MOST_LINES, ScreenTexts
from tests.derived_clips import CLIPS, CLOCK, LOW, SMALL, in_turn, wanted
from tests.derived_documents import Clip, Shown, frame, frames_of, write_document

Frames = list[dict[str, Any]]


def texts_of(folder: Path, frames: Any) -> list[Segment]:
    document, screen = FinishedDocument(write_document(folder / "r.json", frames)), ScreenTexts()
    found = [text for each in document.frames() for text in screen.add(each)]
    return sorted([*found, *screen.finish(document.frame_seconds())], key=lambda text: text.first.position)


def reads(*texts: str, step_s: float = 0.04, confidence: float = 0.97, place: Any = CLOCK) -> Frames:
    """One line of text, read in these ways from frame to frame; "" where it is not read."""
    blocks = [[{"bbox": list(place), "confidence": confidence, "text": text}] if text else [] for text in texts]
    return [frame(number, round(number * step_s, 6), block, []) for number, block in enumerate(blocks)]


def spans(found: list[Segment]) -> list[tuple[str, int, int]]:
    return [(text.text, text.first.position, text.last.position) for text in found]


def is_found(line: Shown, found: list[Segment]) -> bool:
    return any(
        abs(text.first.position - line.first) <= 1
        and abs(text.last.position - line.last) <= 1
        and key_of(text.text) == key_of(line.text)
        for text in found
    )


def test_nearly_all_spans_are_found_to_the_frame_and_nearly_no_others(tmp_path: Path) -> None:
    known = right = more = 0
    for clip in CLIPS:
        found = texts_of(tmp_path, frames_of(clip))
        known += len(wanted(clip))
        right += sum(is_found(line, found) for line in wanted(clip))
        more += max(0, len(found) - len(wanted(clip)))
    assert len(CLIPS) >= 20
    assert right >= 0.97 * known
    assert more <= 0.03 * known


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_without_noise_every_span_is_found_and_no_other(tmp_path: Path, clip: Clip) -> None:
    shown = [replace(line, fade=0) for line in clip.shown]
    found = texts_of(tmp_path, frames_of(replace(clip, noise=0.0, missed=0.0, shown=shown)))
    assert sorted((key_of(text), first, last) for text, first, last in spans(found)) == sorted(
        (key_of(line.text), line.first, line.last) for line in wanted(clip)
    )


def test_a_text_ends_when_the_frame_after_it_is_shown(tmp_path: Path) -> None:
    frames = [*reads(*["NEWS AT TEN"] * 3), *reads(*[""] * 20)]
    for number, (record, time_s) in enumerate(zip(frames, [0.0, 0.5, 0.7, 3.0, *range(4, 30)], strict=False)):
        record.update(frame_index=number * 5, timestamp_s=time_s)
    [text] = texts_of(tmp_path, frames)
    assert (text.first.time_s, text.end_s, text.first.frame_index, text.last.frame_index) == (0.0, 3.0, 0, 10)


def test_the_last_frame_lasts_as_long_as_the_one_before_it(tmp_path: Path) -> None:
    [text] = texts_of(tmp_path, reads(*["NEWS"] * 5, step_s=0.2))
    assert text.end_s == 1.0


def test_the_only_frame_of_a_video_lasts_as_long_as_its_frame_rate_says(tmp_path: Path) -> None:
    [text] = texts_of(tmp_path, reads("NEWS"))
    assert (text.end_s, text.reads) == (0.04, 1)


def test_the_form_with_the_most_summed_confidence_is_the_text(tmp_path: Path) -> None:
    [text] = texts_of(tmp_path, reads(*["QUARTER FINAL"] * 9, *["Quarter-Final"] * 8, *["QUARTER FINA1"] * 3))
    assert (text.text, text.reads) == ("QUARTER FINAL", 20)


def test_a_digit_that_is_misread_for_a_while_and_then_right_again_was_a_misreading(tmp_path: Path) -> None:
    [text] = texts_of(tmp_path, reads(*["GATE 12"] * 20, *["GATE 72"] * 12, *["GATE 12"] * 20))
    assert spans([text]) == [("GATE 12", 0, 51)]


def test_a_digit_that_is_followed_by_another_was_a_new_text(tmp_path: Path) -> None:
    found = texts_of(tmp_path, reads(*["GATE 12"] * 20, *["GATE 13"] * 6, *["GATE 14"] * 20))
    assert spans(found) == [("GATE 12", 0, 19), ("GATE 13", 20, 25), ("GATE 14", 26, 45)]


def test_a_dropped_digit_is_the_same_text(tmp_path: Path) -> None:
    assert spans(texts_of(tmp_path, reads(*["LAP 12 OF 50", "LAP 2 OF 50"] * 20))) == [("LAP 12 OF 50", 0, 39)]


def test_a_letter_that_changes_for_good_is_another_text_and_one_that_comes_back_is_not(tmp_path: Path) -> None:
    one, other = "WE MEET AT DAWN", "WE MELT AT DAWN"
    assert spans(texts_of(tmp_path, reads(*[one] * 40, *[other] * 40))) == [(one, 0, 39), (other, 40, 79)]
    assert spans(texts_of(tmp_path, reads(*[one] * 40, *[other] * 40, *[one] * 40))) == [(one, 0, 119)]
    assert spans(texts_of(tmp_path, reads(*[one] * 40, *[other] * 8))) == [(one, 0, 47)]


def test_a_text_may_be_away_for_half_a_second(tmp_path: Path) -> None:
    assert spans(texts_of(tmp_path, reads(*["LIVE NOW"] * 10, *[""] * 12, *["LIVE NOW"] * 10))) == [("LIVE NOW", 0, 31)]
    assert len(texts_of(tmp_path, reads(*["LIVE NOW"] * 10, *[""] * 13, *["LIVE NOW"] * 10))) == 2


def test_a_text_that_moves_may_be_away_for_longer(tmp_path: Path) -> None:
    def moving(gap: int, speed: float) -> list[dict[str, Any]]:
        rows = [500 - speed * n for n in range(40 + gap)]
        shown = [[{"bbox": [714, y, 754, y + 22], "confidence": 0.97, "text": "EMT"}] for y in rows]
        return [frame(n, n * 0.04, [] if 20 <= n < 20 + gap else block, []) for n, block in enumerate(shown)]

    assert spans(texts_of(tmp_path, moving(19, 2.2))) == [("EMT", 0, 58)]
    assert len(texts_of(tmp_path, moving(21, 2.2))) == 2
    assert len(texts_of(tmp_path, moving(19, 0.2))) == 2


def test_a_text_may_be_away_for_two_frames_however_long_they_are(tmp_path: Path) -> None:
    away_two = reads("LIVE NOW", "LIVE NOW", "", "", "LIVE NOW", step_s=2.0)
    assert spans(texts_of(tmp_path, away_two)) == [("LIVE NOW", 0, 4)]
    assert len(texts_of(tmp_path, reads("LIVE NOW", "LIVE NOW", "", "", "", "LIVE NOW", step_s=2.0))) == 2


def test_specks_that_were_hardly_seen_are_not_listed(tmp_path: Path) -> None:
    assert texts_of(tmp_path, reads("", "", "M3 m1", "", "", confidence=0.55)) == []
    assert texts_of(tmp_path, reads("", "M3 m1", "", "", step_s=1.0, confidence=0.55)) == []
    assert len(texts_of(tmp_path, reads("", "M3 m1", "", "", step_s=1.0, confidence=0.75))) == 1
    assert texts_of(tmp_path, reads("", "M3 m1", "M3 m1", "", step_s=1.0, confidence=0.55)) == []


def test_one_letter_is_listed_if_it_was_read_well(tmp_path: Path) -> None:
    assert texts_of(tmp_path, reads("", "s", "s", "", step_s=1.0, confidence=0.8)) == []
    assert len(texts_of(tmp_path, reads("", "7", "7", "", step_s=1.0, confidence=0.95))) == 1


@pytest.mark.parametrize(("text", "misread"), [("EMT", "EMT"), ("pruebelo", "prueblo"), ("10", "10")])
def test_a_text_that_moves_off_its_row_from_read_to_read_is_one_text(tmp_path: Path, text: str, misread: str) -> None:
    blocks = [
        [{"bbox": [714, 518 - 25 * n, 754, 540 - 25 * n], "confidence": 0.97, "text": misread if n == 4 else text}]
        for n in range(12)
    ]
    found = texts_of(tmp_path, [frame(n, n * 0.4, block, []) for n, block in enumerate(blocks)])
    assert spans(found) == [(text, 0, 11)]


def test_lines_that_scroll_by_one_row_a_read_stay_apart(tmp_path: Path) -> None:
    names = [f"by {name}" for name in ("Ann Lee", "Bob Ray", "Cy Fox", "Dee Oak", "Eve Sun", "Flo Hart", "Guy Pike")]
    frames = []
    for n in range(12):
        rows = [(name, 400 + 30 * row - 30 * n) for row, name in enumerate(names)]
        shown = [
            {"bbox": [500, top, 620, top + 24], "confidence": 0.97, "text": name}
            for name, top in rows
            if 100 < top < 500
        ]
        frames.append(frame(n, n * 0.4, shown, []))
    assert sorted(text.text for text in texts_of(tmp_path, frames)) == names


def test_two_lines_that_stand_side_by_side_stay_apart(tmp_path: Path) -> None:
    shown = [*in_turn(["HOME 1", "HOME 2"], 50, LOW), *in_turn(["HOME 7"], 100, SMALL)]
    found = texts_of(tmp_path, frames_of(Clip("", 100, shown, noise=0.0, missed=0.0)))
    assert sorted(spans(found)) == [("HOME 1", 0, 49), ("HOME 2", 50, 99), ("HOME 7", 0, 99)]


def test_a_crawling_ticker_is_a_chain_of_parts_without_a_gap(tmp_path: Path) -> None:
    news = "BREAKING NEWS FROM ALL OVER THE WORLD: MARKETS CLOSE HIGHER AFTER A QUIET DAY *** RAIN IN THE NORTH *** "
    found = texts_of(tmp_path, reads(*[(news * 2)[n // 3 : n // 3 + 40] for n in range(300)], place=LOW))
    assert 2 <= len(found) <= 15
    assert all(after.first.position - text.last.position == 1 for text, after in pairwise(found))


def test_hostile_texts_come_through_as_they_are(tmp_path: Path) -> None:
    for text in ("\0NUL\0 and more", "\u202eevil\u202c txt", "x" * 10_000, "\ud800 half", "ﷺ" * 3000, "=1+1", "̈" * 9):
        [found] = texts_of(tmp_path, reads(*[text] * 30))
        assert found.text == text
        assert found.reads == 30


def test_memory_is_what_is_on_the_screen(tmp_path: Path) -> None:
    crowd = [
        {"bbox": [x * 60, y * 11, x * 60 + 50, y * 11 + 10], "confidence": 0.9, "text": f"{n}-{x}-{y}"}
        for n in range(3)
        for x in range(20)
        for y in range(40)
    ]
    screen = ScreenTexts()
    path = write_document(tmp_path / "r.json", [frame(n, n * 0.04, crowd, []) for n in range(3)])
    for each in FinishedDocument(path).frames():
        list(screen.add(each))
    assert len(screen._places) <= 2 * MOST_LINES
    [text] = texts_of(
        tmp_path, reads(*[f"WEATHER SUNNY {chr(97 + n % 26)}{chr(97 + n // 26 % 26)}" for n in range(600)])
    )
    assert text.reads == 600
    assert len(text.keys) <= MOST_KEYS
    assert max(len(key.forms) for key in text.keys.values()) <= MOST_FORMS


@pytest.mark.parametrize(
    ("text", "reading", "what"),
    [
        ("QUARTER FINAL", "Quarter-Final!", Relation.SAME),
        ("QUARTER FINAL", "QUARTER F1NAL", Relation.SAME),
        ("M15O/SEUILLA", "M150/SEUILLA", Relation.SAME),
        ("BALL", "BAIL", Relation.VARIANT),
        ("CAM 03 08:10", "CAM 03 08:1", Relation.VARIANT),
        ("CAM 03 08:10", "CAM 03 08:11", Relation.RIVAL),
        ("LAP 9", "LAP 10", Relation.RIVAL),
        ("3", "2", Relation.STRANGER),
    ],
)
def test_what_a_reading_is_to_a_text(text: str, reading: str, what: Relation) -> None:
    assert relation(key_of(text), key_of(reading), 0.6) is what
