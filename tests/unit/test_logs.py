"""LogOnce: a lasting problem is one line of the log."""

import logging

import pytest

from daemon.logs import LogOnce


def test_a_reason_is_logged_once_until_it_changes_or_is_solved(caplog: pytest.LogCaptureFixture) -> None:
    once = LogOnce(logging.getLogger("a"))
    for sentence in ("full", "full", "gone", "gone"):
        once(sentence)
    assert once.solved()
    assert not once.solved()
    once("gone")
    assert [record.message for record in caplog.records] == ["full", "gone", "gone"]
