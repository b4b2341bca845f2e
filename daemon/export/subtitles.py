"""Subtitles: SubRip, WebVTT (https://www.w3.org/TR/webvtt1/) and ASS (https://github.com/libass/libass/wiki/ASS-File-Format-Guide)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from daemon.export.source import ExportSource, number
from daemon.export.tables import lines_of
from daemon.export.wording import spoken

Text = Mapping[str, Any]

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_BREAK = re.compile(r"\\(?=[Nnh])")
_TIME = re.compile(r"[0-9]+:[0-9]+")
_JOINER = "\u2060"
"""Word joiner: not seen, and keeps what precedes it from being read as the beginning of a command."""
UPRIGHT = 1.5
"""Heights by widths from which on a text of several letters runs upwards or downwards."""
LEAST_FONT, MOST_FONT = 8, 400
"""Pixels of a line of ASS."""


def srt(source: ExportSource) -> Iterator[bytes]:
    """Yield cues that do not overlap: one for each stretch in which the same texts are shown, in reading order."""
    return lines_of(_srt(source))


def _srt(source: ExportSource) -> Iterator[str]:
    number_of_cue = 0
    for start_ms, end_ms, texts in stretches(source.texts()):
        lines = [line for text in in_reading_order(texts) if (line := _in_srt(text["text"]))]
        if lines:
            number_of_cue += 1
            shown = "\n".join(lines)
            yield f"{number_of_cue}\n{_clock(start_ms, ',')} --> {_clock(end_ms, ',')}\n{shown}\n\n"


def _in_srt(text: str) -> str:
    """Return a text without what players take for tags, or for the time of a cue; SubRip cannot escape anything."""
    shown = _TAG.sub("\u2039", spoken(text).replace("-->", "\u2192")).replace("{\\", "{/")
    shown = _BREAK.sub("\\\\" + _JOINER, shown)
    return _JOINER + shown if _TIME.match(shown) else shown


def stretches(texts: Iterator[Text]) -> Iterator[tuple[int, int, list[Text]]]:
    """Cut the time at every beginning and end of a text.

    Args:
        texts: In order of their beginning.

    Yields:
        Beginning and end in milliseconds, and what is shown between them; memory holds that alone.
    """
    shown: list[Text] = []
    at = 0
    following = next(texts, None)
    while shown or following is not None:
        begins = None if following is None else _ms(following["start_s"])
        ends = min((_ms(text["end_s"]) for text in shown), default=None)
        until = min(moment for moment in (begins, ends) if moment is not None)
        if shown and until > at:
            yield at, until, list(shown)
        at = max(at, until)
        shown = [text for text in shown if _ms(text["end_s"]) > at]
        while following is not None and _ms(following["start_s"]) <= at:
            if _ms(following["end_s"]) > at:
                shown.append(following)
            following = next(texts, None)


def in_reading_order(texts: Sequence[Text]) -> list[Text]:
    """Return texts row by row, from left to right; what begins above the middle of a row's first is in that row.

    One that runs upwards or downwards is as tall as several rows, and of none: it comes before those that it is beside.
    """
    turned = [text for text in _from_the_top(texts) if _runs_up_or_down(text)]
    rows: list[list[Text]] = []
    for text in _from_the_top(texts):
        if _runs_up_or_down(text):
            continue
        if not rows or text["bbox"][1] > _middle(rows[-1][0]):
            rows.append([])
        rows[-1].append(text)
    ordered: list[Text] = []
    for row in rows:
        while turned and turned[0]["bbox"][1] <= _middle(row[0]):
            ordered.append(turned.pop(0))
        ordered += sorted(row, key=lambda text: text["bbox"][0])
    return ordered + turned


def _from_the_top(texts: Sequence[Text]) -> list[Text]:
    return sorted(texts, key=lambda text: (text["bbox"][1], text["bbox"][0]))


def _middle(text: Text) -> float:
    return float(text["bbox"][1] + text["bbox"][3]) / 2


def _runs_up_or_down(text: Text) -> bool:
    x1, y1, x2, y2 = text["bbox"]
    return len(text["text"]) > 1 and y2 - y1 >= UPRIGHT * (x2 - x1)


def vtt(source: ExportSource) -> Iterator[bytes]:
    """Yield a cue for each text, where it stands in the picture."""
    return lines_of(_vtt(source))


def _vtt(source: ExportSource) -> Iterator[str]:
    width, height = source.size
    yield "WEBVTT\n\n"
    for text in source.texts():
        start_ms, end_ms = _ms(text["start_s"]), _ms(text["end_s"])
        if not (shown := spoken(text["text"])) or end_ms <= start_ms:
            continue
        shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        x1, y1, x2, _ = text["bbox"]
        left, top, wide = _percent(x1, width), _percent(y1, height), _percent(x2 - x1, width)
        place = (
            f"line:{number(top)}% position:{number(left)}%,line-left size:{number(max(1.0, min(wide, 100 - left)))}%"
        )
        yield f"{_clock(start_ms, '.')} --> {_clock(end_ms, '.')} {place} align:left\n{shown}\n\n"


def _percent(pixels: float, of: int) -> float:
    return min(100.0, max(0.0, round(100 * pixels / of, 2)))


_ASS_HEAD = """\ufeff[Script Info]
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}
WrapStyle: 2
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,sans-serif,40,&H00FFFFFF,&H00FFFFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,0,7,0,0,0,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def ass(source: ExportSource) -> Iterator[bytes]:
    """Yield a line for each text, where it stands in the picture and as high as it is there."""
    return lines_of(_ass(source))


def _ass(source: ExportSource) -> Iterator[str]:
    width, height = source.size
    yield _ASS_HEAD.format(width=width, height=height)
    for text in source.texts():
        start, end = round(text["start_s"] * 100), round(text["end_s"] * 100)
        if not (shown := spoken(text["text"])) or end <= start:
            continue
        x1, y1, _, y2 = text["bbox"]
        font = min(MOST_FONT, max(LEAST_FONT, round(0.8 * (y2 - y1))))
        place = rf"{{\an7\pos({round(x1)},{round(y1)})\fs{font}}}"
        yield f"Dialogue: 0,{_ass_clock(start)},{_ass_clock(end)},Default,,0,0,0,,{place}{_in_ass(shown)}\n"


def _in_ass(text: str) -> str:
    return text.replace("\\", "\\" + _JOINER).replace("{", "\\{").replace("}", "\\}")


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _clock(ms: int, point: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _ass_clock(hundredths: int) -> str:
    hundredths = max(0, hundredths)
    return f"{hundredths // 360_000}:{hundredths // 6000 % 60:02}:{hundredths // 100 % 60:02}.{hundredths % 100:02}"
