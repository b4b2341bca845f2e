"""What is said of a name that there is not, at every door the same."""

from __future__ import annotations

import difflib
from collections.abc import Collection

NAME_LENGTH = 100
"""No more of a name is repeated."""


def no_such(kind: str, name: str, known: Collection[str]) -> str:
    """Return a sentence with the name that was probably meant, or with all that there are.

    Args:
        kind: What it should name, such as ``option``; an "s" makes it plural.
        name: As it was given.
        known: All the names that there are.
    """
    spelled = {_spelling(each): each for each in known}
    close = difflib.get_close_matches(_spelling(name[:NAME_LENGTH]), spelled, 1)
    advice = f"did you mean {spelled[close[0]]}?" if close else f"the {kind}s are {', '.join(known)}"
    return f"There is no {kind} {name[:NAME_LENGTH]!r} ({advice})."


def _spelling(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")
