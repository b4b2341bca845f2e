"""Paging: where a page of jobs ended, as the text that asks for the next one."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daemon.jobs import is_job_id


@dataclass(frozen=True)
class Place:
    """Where a page of a list ended."""

    job_id: str
    created_at: str
    sequence: int
    """0 for a submission that was not a job yet."""


def cursor_of(record: Mapping[str, Any]) -> str:
    """Return the cursor of the page that begins after a job.

    Args:
        record: As the store keeps it, or made of its ticket.
    """
    text = f"{record['sequence'] or 0} {record['job_id']} {record['created_at']}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Return where the page before ended.

    Raises:
        ValueError: it is not a cursor.
    """
    text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    sequence, job_id, created_at = text.split(" ")
    if not is_job_id(job_id) or not re.fullmatch(r"[0-9]{1,18}", sequence):
        raise ValueError("it is not a cursor")
    return Place(job_id, created_at, int(sequence))
