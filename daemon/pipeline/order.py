"""Reading order: the order in which people read the lines of a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

import numpy as np

from daemon.pipeline.records import Box, TextBlock
from daemon.pipeline.regions import Quad, spans

COLUMN_LINES = 3
"""Lines that stand below each other on each side of a gutter, at least, to be two columns."""
COLUMN_WORDS = 3
"""Words in the middling line of a column, at least: shorter ones are cells of a table or names beside what they are
of, and are read row by row."""
EASTERN_WORD = 3
"""Chinese, Japanese and Korean letters that count as a word; they are written without spaces."""
LINE_GAP = 1.0
"""Heights of a line by which the middling line of a column lies below the one before, at most: what stands wider, as
the rows of a form do, is read row by row."""
PARAGRAPH_GAP = 1.5
"""Heights of a line by which the next may lie below it in the same column."""
MOST_LINES = 100
"""Lines of a frame among which columns are looked for, at most: it takes a hundredth of a second for 50."""
UPRIGHT = 1.5
"""Heights by widths of a line from which on it runs downwards."""
UPRIGHT_COSINE = 0.996
"""Cosine of the angle, 5 degrees, up to which a line counts as lying across."""
SAME_WAY_COSINE = 0.94
"""Cosine of the angle, 20 degrees, up to which lines run the same way."""
GUTTER_SLACK = 0.3
"""Heights of a line by which it may reach into a gutter."""

EASTERN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def in_turned_order(lines: Sequence[tuple[TextBlock, Quad, Quad]]) -> list[TextBlock]:
    """Sort lines of text as they are read with the head turned the way in which most of the text runs.

    Args:
        lines: Each with its corners and the direction, of length 1, in which it is read.
    """
    ways = [(block, (1.0, 0.0) if _runs_downwards(block) else tuple(way.tolist())) for block, _, way in lines]
    main = max(ways, key=lambda each: len(each[0].text), default=(None, (1.0, 0.0)))[1]
    along = [len(block.text) for block, way in ways if way[0] * main[0] + way[1] * main[1] >= SAME_WAY_COSINE]
    if main[0] >= UPRIGHT_COSINE or 2 * sum(along) <= sum(len(block.text) for block, _ in ways):
        return in_reading_order([block for block, _, _ in lines])
    seen = [replace(block, box=spans(quad, np.asarray(main, np.float32))) for block, quad, _ in lines]
    places = {id(new): block for new, (block, _, _) in zip(seen, lines, strict=True)}
    return [places[id(new)] for new in in_reading_order(seen)]


def in_reading_order(blocks: Sequence[TextBlock]) -> list[TextBlock]:
    """Sort lines of text from top to bottom, those at one height from left to right, but columns one by one.

    Chinese, Japanese and Korean lines that run downwards come from right to left. Two columns are lines of several
    words that stand below each other on both sides of a gutter. A line that is as tall as several beside it comes
    before them.
    """
    split = _two_columns(blocks) if len(blocks) <= MOST_LINES else None
    if split is None:
        return _row_by_row(blocks)
    return [block for part in split for block in in_reading_order(part)]


def _row_by_row(blocks: Sequence[TextBlock]) -> list[TextBlock]:
    downwards = [block for block in blocks if _runs_downwards(block)]
    parts = [[block] for block in blocks if not _runs_downwards(block)] + _beside_each_other(downwards)
    ordered: list[TextBlock] = []
    row: list[tuple[Box, list[TextBlock]]] = []
    for box, part in sorted(((_around(part), part) for part in parts), key=lambda p: (p[0][1] + p[0][3], p[0])):
        if row and (box[1] + box[3]) / 2 > row[0][0][3]:
            ordered += _from_left(row)
            row = []
        row.append((box, part))
    return ordered + _from_left(row)


def _from_left(row: Sequence[tuple[Box, list[TextBlock]]]) -> list[TextBlock]:
    return [block for _, part in sorted(row, key=lambda p: p[0]) for block in part]


def _beside_each_other(downwards: Sequence[TextBlock]) -> list[list[TextBlock]]:
    """Put lines that run downwards at one height together, from right to left."""
    parts: list[list[TextBlock]] = []
    for block in sorted(downwards, key=lambda b: b.box[1]):
        if not parts or block.box[1] >= _around(parts[-1])[3]:
            parts.append([])
        parts[-1].append(block)
    return [sorted(part, key=lambda b: b.box, reverse=True) for part in parts]


def _around(blocks: Sequence[TextBlock]) -> Box:
    lefts, tops, rights, bottoms = zip(*(block.box for block in blocks), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _runs_downwards(block: TextBlock) -> bool:
    width = block.box[2] - block.box[0]
    return len(EASTERN.findall(block.text)) > 1 and _height(block) >= UPRIGHT * width


def _two_columns(blocks: Sequence[TextBlock]) -> tuple[list[TextBlock], ...] | None:
    """Return what is above two columns, the left one, the right one and what is below; None if there are none.

    Of several, the two that hold most lines; the right one may hold columns again.
    """
    best: tuple[list[TextBlock], list[TextBlock]] | None = None
    for edge in sorted({block.box[0] for block in blocks}):
        left = [b for b in blocks if b.box[0] < edge and b.box[2] <= edge + GUTTER_SLACK * _height(b)]
        right = [b for b in blocks if b.box[0] >= edge]
        across = [_middle(b) for b in blocks if b.box[0] < edge < b.box[2] - GUTTER_SLACK * _height(b)]
        rights = _stacks(right, across)
        for one in _stacks(left, across):
            for other in rights:
                if _are_columns(one, other) and (best is None or len(one) + len(other) > len(best[0]) + len(best[1])):
                    best = one, other
    if best is None:
        return None
    taken = {id(block) for column in best for block in column}
    rest = [block for block in blocks if id(block) not in taken]
    top = min(block.box[1] for column in best for block in column)
    above = [block for block in rest if _middle(block) < top]
    return above, *best, [block for block in rest if _middle(block) >= top]


def _stacks(blocks: Sequence[TextBlock], across: Sequence[float]) -> list[list[TextBlock]]:
    """Cut lines where there is a gap between one and the next, or a line across the gutter."""
    stacks: list[list[TextBlock]] = []
    bottom = 0.0
    for block in sorted(blocks, key=lambda b: b.box[1]):
        last = stacks[-1][-1] if stacks else None
        cut = last is None or block.box[1] - bottom > PARAGRAPH_GAP * min(_height(block), _height(last))
        if last is None or cut or any(_middle(last) < middle < _middle(block) for middle in across):
            stacks.append([])
            bottom = block.box[3]
        stacks[-1].append(block)
        bottom = max(bottom, block.box[3])
    return stacks


def _are_columns(left: Sequence[TextBlock], right: Sequence[TextBlock]) -> bool:
    beside = [b for b in right if left[0].box[1] < _middle(b) < max(other.box[3] for other in left)]
    if len(left) == 1:  # a tall one beside several
        return not _runs_downwards(left[0]) and len(beside) > 1 and len(beside) == len(right) and len(_rows(right)) > 1
    both = len(_rows(beside)) >= COLUMN_LINES and len(_rows(left)) >= COLUMN_LINES
    return both and all(_is_running_text(column) for column in (left, right))


def _is_running_text(column: Sequence[TextBlock]) -> bool:
    too_wide = [below.box[1] - block.box[3] - LINE_GAP * _height(block) for block, below in pairwise(column)]
    return median(map(_words, column)) >= COLUMN_WORDS and median(too_wide) <= 0


def _rows(blocks: Sequence[TextBlock]) -> list[float]:
    """Return the middles of the rows in which lines stand."""
    rows: list[float] = []
    bottom = float("-inf")
    for block in sorted(blocks, key=_middle):
        if _middle(block) > bottom:
            rows.append(_middle(block))
            bottom = block.box[3]
    return rows


def _words(block: TextBlock) -> float:
    return max(len(block.text.split()), len(EASTERN.findall(block.text)) / EASTERN_WORD)


def _middle(block: TextBlock) -> float:
    return (block.box[1] + block.box[3]) / 2


def _height(block: TextBlock) -> float:
    box: Box = block.box
    return box[3] - box[1]
