"""What is due, and who may take it."""

from __future__ import annotations

import pytest

from daemon.pipeline import board as board_module
from daemon.pipeline.board import Board, Unit


class PlayedSlot:
    """A slot that does nothing."""

    def __init__(self, kind: str | None, is_up: bool = True, may_try: bool = False) -> None:
        self.kind, self.is_up, self.may_try = kind, is_up, may_try


def unit(kind: str | None) -> Unit:
    return Unit((0, 0), lambda process: None, kind)


def test_what_only_a_slot_that_left_could_do_is_an_orphan_unless_nobody_is_up() -> None:
    board, old, new = Board(lambda: None), PlayedSlot("old"), PlayedSlot("new")
    board.take(old, 0)
    board.take(new, 0)
    board.put(unit("old"))
    assert not board.has_orphans(0)
    board.leave(old)
    assert board.has_orphans(0)
    board.leave(new)
    assert not board.has_orphans(0), "the next one that comes up may be of the old kind"


def test_slots_of_a_kind_may_be_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(board_module.time, "monotonic", lambda: now[0])
    board, old, new = Board(lambda: None, away_seconds=60), PlayedSlot("old"), PlayedSlot("new")
    board.take(new, 0)
    board.put(unit("old"))
    assert not board.has_orphans(0)
    now[0] += 59
    assert not board.has_orphans(0)
    board._all.add(old)
    assert not board.has_orphans(0)
    board.leave(old)
    assert not board.has_orphans(0), "it was back in between"
    now[0] += 61
    assert board.has_orphans(0)
    board.withdraw(0)
    board.put(unit("old"))
    assert not board.has_orphans(0)


def test_a_slot_that_waits_for_a_machine_gets_nothing_and_is_no_room() -> None:
    board, waiting = Board(lambda: None), PlayedSlot(None, is_up=False)
    board.put(unit(None))
    assert board.take(waiting, 0) is None
    assert not board.has_room()
    waiting.is_up = True
    assert board.take(waiting, 0) is not None
