"""A bucket that several threads ask, and one that gives what was not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import ObjectChanged, ObjectStoreError
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.s3_address import S3Address
from daemon.settings import Settings

obstore = pytest.importorskip("obstore")
WANTED = RemoteObject("a.mp4", '"etag"', 10, datetime.now(UTC))


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


@dataclass
class Answer:
    """What a service says of an object of ten bytes."""

    range: tuple[int, int]
    blocks: list[bytes]
    etag: str = '"etag"'

    @property
    def meta(self) -> dict[str, Any]:
        return {"path": "a.mp4", "e_tag": self.etag, "size": 10, "last_modified": datetime.now(UTC)}

    def stream(self, size: int) -> Iterator[bytes]:
        return iter(self.blocks)


@pytest.mark.parametrize(
    "answer",
    [
        Answer((0, 10), [b"0123456789"]),
        Answer((3, 10), [b"3456789"]),
        Answer((3, 6), [b"34", b"5", b"6789"]),
        Answer((3, 6), [b"345"], '"another"'),
    ],
)
def test_no_byte_comes_that_was_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(obstore, "get", lambda *_, **__: answer)
    come: list[bytes] = []
    with pytest.raises(ObjectChanged):
        come.extend(Bucket(S3Address.of("s3://bucket"), Settings(home=tmp_path)).read(WANTED, 3, 6))
    assert b"345".startswith(b"".join(come))


def test_an_object_that_ends_too_early_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obstore, "get", lambda *_, **__: Answer((3, 6), [b"34"]))
    read = Bucket(S3Address.of("s3://bucket"), Settings(home=tmp_path)).read(WANTED, 3, 6)
    assert next(read) == b"34"
    with pytest.raises(ObjectStoreError, match="ends too early"):
        next(read)


def test_of_what_is_there_already_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service refuses to send the bytes behind the last one, as if the object were another."""
    monkeypatch.setattr(obstore, "get", lambda *_, **__: pytest.fail("it was asked"))
    assert list(Bucket(S3Address.of("s3://bucket"), Settings(home=tmp_path)).read(WANTED, 10)) == []
