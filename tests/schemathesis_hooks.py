"""What Schemathesis cannot know from a schema: what a video is, where a range may lie, what can be searched for."""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies

HEAD = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08moov\0\0\0\0mdat"
VIDEO_BYTES = 5000

videos = strategies.binary(max_size=300).map(lambda rest: HEAD + bytes(64) + rest)
schemathesis.openapi.format("binary", videos)
schemathesis.openapi.media_type("video/mp4", videos)
schemathesis.openapi.format(
    "byte-range", strategies.integers(0, len(HEAD)).map(lambda start: f"bytes={start}-{start + 10}")
)
schemathesis.openapi.format("cursor", strategies.just(""))
schemathesis.openapi.format(
    "words", strategies.from_regex('[a-z\u6771\u4eac]{1,8}( [A-Z0-9"*]{1,8}){0,3}', fullmatch=True)
)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Give each submission a key of its own: the same key with another video is refused, rightly."""
    if re.fullmatch("[!-~]{1,255}", (case.headers or {}).get("Idempotency-Key", "")):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
