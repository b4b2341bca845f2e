"""Query: a request's query parameters, read one by one; all that are wrong are refused together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import Request

from daemon.jobs import timestamp
from daemon.unknown_names import NAME_LENGTH, no_such
from sidecar.problems import bad_fields

MOST_JOBS = 500
"""On a page of a list."""
MOST_HITS = 500
"""On a page of what is searched for."""
MOST_RESULTS = 100_000
"""Frames in a part of a result."""
MOST_FRAME_INDEX = 2**53
"""Above it, programs that keep numbers as floats lose the last digits."""
MOST_SECONDS = 100_000_000.0
"""Of a time in a video."""
MOST_NAMED = 10
"""Of unknown fields: no more is repeated in an answer."""

Choice = TypeVar("Choice", bound=StrEnum)


def unknown_fields(kind: str, names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return a sentence on each name that is not known, with the known one that was probably meant."""
    unknown = [name for name in names if name not in known]
    return {name[:NAME_LENGTH]: no_such(kind, name, known) for name in unknown[:MOST_NAMED]}


def given_twice(name: str) -> str:
    """Return the sentence on a field that is given more than once, so that nobody can tell which is meant."""
    return f"{name} is given more than once."


def refuse_repeated(values: QueryParams) -> None:
    """Refuse a query that names something twice.

    Raises:
        Problem: 422, naming it.
    """
    if repeated := [name[:NAME_LENGTH] for name in values if len(values.getlist(name)) > 1]:
        raise bad_fields({name: given_twice(name) for name in repeated[:MOST_NAMED]})


class Query:
    """Reads parameters; what has not been read by the time of ``check`` is unknown.

    Args:
        request: Whose.
    """

    def __init__(self, request: Request) -> None:
        self._values = request.query_params
        self._known: list[str] = []
        self._errors: dict[str, str] = {}

    def text(self, name: str) -> str | None:
        """Return a parameter, or None where it is missing."""
        self._known.append(name)
        return self._values.get(name)

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """Return a whole number within bounds."""
        text = self.text(name)
        if text is None:
            return default
        if re.fullmatch(r"[0-9]{1,16}", text) and least <= int(text) <= most:
            return int(text)
        self._errors[name] = f"{name} must be a whole number from {least} to {most}."
        return default

    def seconds(self, name: str, most: float) -> float | None:
        """Return a number of seconds, or None where it is missing."""
        text = self.text(name)
        if text is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?([eE]-[0-9]{1,3})?", text) and float(text) <= most:
            return float(text)
        self._errors[name] = f"{name} must be a number of seconds from 0 to {most:g}."
        return None

    def number(self, name: str, most: float, default: float) -> float:
        """Return a number from 0 on."""
        text = self.text(name)
        if text is None:
            return default
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?([eE]-[0-9]{1,3})?", text) and float(text) <= most:
            return float(text)
        self._errors[name] = f"{name} must be a number from 0 to {most:g}."
        return default

    def choice(self, name: str, kind: type[Choice]) -> Choice | None:
        """Return a member of an enumeration, or None where it is missing."""
        text = self.text(name)
        if text is None:
            return None
        if text in list(kind):
            return kind(text)
        self._errors[name] = f"{name} must be one of {', '.join(kind)}."
        return None

    def moment(self, name: str) -> str | None:
        """Return a time as the store writes it, so that times compare as texts; None where it is missing."""
        text = self.text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text.replace(" ", "+"))  # a "+" in a query that was not escaped
            return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        except (ValueError, OverflowError):
            self._errors[name] = f"{name} must be a time such as 2026-01-31T12:00:00Z."
            return None

    def refuse(self, name: str, message: str) -> None:
        """Note that a parameter is wrong for another reason."""
        self._errors[name] = message

    def check(self) -> None:
        """Refuse what is wrong.

        Raises:
            Problem: 422, naming each parameter that is wrong or unknown.
        """
        for name in self._values:
            if name in self._known and len(self._values.getlist(name)) > 1:
                self._errors[name] = given_twice(name)
        if errors := self._errors | unknown_fields("parameter", self._values, self._known):
            raise bad_fields(errors)
