"""A bucket that several threads ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.objects.bucket import Bucket
from daemon.s3_address import S3Address
from daemon.settings import Settings

pytest.importorskip("obstore")


class Renewed(Bucket):
    """One whose credentials are refused to another thread at the worst moment, between any two looks at it."""

    looks: Any = ()

    @property
    def _made(self) -> Any:
        made, *self.looks = self.looks or [None]
        return made

    @_made.setter
    def _made(self, made: Any) -> None:
        self.looks = [made, None] if made else []


def test_what_another_thread_has_made_anew_meanwhile_is_not_missed(tmp_path: Path) -> None:
    bucket = Renewed(S3Address.of("s3://bucket"), Settings(home=tmp_path))
    first = bucket._store()
    bucket._made = first
    assert bucket._store() is first
