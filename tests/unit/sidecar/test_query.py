from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from daemon.jobs import JobStatus
from sidecar.problems import Problem
from sidecar.query import Query, unknown_fields


def query(text: str) -> Query:
    return Query(Request({"type": "http", "query_string": text.encode(), "headers": []}))


def errors_of(asked: Query) -> dict[str, str]:
    with pytest.raises(Problem) as caught:
        asked.check()
    assert caught.value.status == 422
    return {error["field"]: error["message"] for error in caught.value.extra["errors"]}


READ: dict[str, Callable[[Query], Any]] = {
    "whole": lambda q: q.whole("x", 1, 500, 50),
    "seconds": lambda q: q.seconds("x", 60),
    "choice": lambda q: q.choice("x", JobStatus),
    "moment": lambda q: q.moment("x"),
}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("whole", "", 50),
        ("whole", "x=1", 1),
        ("whole", "x=500", 500),
        ("seconds", "", None),
        ("seconds", "x=0.5", 0.5),
        ("seconds", "x=5e-1", 0.5),
        ("choice", "", None),
        ("choice", "x=failed", JobStatus.FAILED),
        ("moment", "", None),
        ("moment", "x=2026-01-31", "2026-01-31T00:00:00.000000+00:00"),
        ("moment", "x=2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000000+00:00"),
        ("moment", "x=2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000+00:00"),
    ],
)
def test_a_right_value_is_read(kind: str, text: str, value: object) -> None:
    asked = query(text)
    assert READ[kind](asked) == value
    asked.check()


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("whole", ["0", "501", "-1", "1e2", "٣", "1" * 5000, "", "1.0"]),
        ("seconds", ["61", "-1", "nan", "inf", "1e3", ""]),
        ("choice", ["done", "", "FAILED"]),
        ("moment", ["yesterday", "", "99999-01-01", "0001-01-01T00:00:00+23:59"]),
    ],
)
def test_a_wrong_value_is_named(kind: str, texts: list[str]) -> None:
    for text in texts:
        asked = query(f"x={text}")
        READ[kind](asked)
        assert list(errors_of(asked)) == ["x"], text


def test_all_that_is_wrong_is_named_at_once() -> None:
    asked = query("limit=0&status=done&skip=10")
    asked.whole("limit", 1, 500, 50)
    asked.choice("status", JobStatus)
    assert list(errors_of(asked)) == ["limit", "status", "skip"]


def test_an_unknown_name_is_refused_with_the_one_that_was_probably_meant() -> None:
    known = ("pipeline_id", "frame_stride")
    assert unknown_fields("field", ["pipeline_id"], known) == {}
    assert unknown_fields("field", ["stride"], known) == {
        "stride": "There is no field 'stride' (did you mean frame_stride?)."
    }
    assert "the fields are pipeline_id, frame_stride" in unknown_fields("field", ["colour"], known)["colour"]


def test_a_flood_of_unknown_names_is_answered_in_short() -> None:
    wrong = unknown_fields("field", [f"{i}{'x' * 10_000}" for i in range(1000)], ("a",))
    assert len(wrong) == 10
    assert sum(map(len, wrong.values())) < 3000


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    asked = query("x=1&x=2")
    asked.whole("x", 1, 500, 50)
    assert errors_of(asked) == {"x": "x is given more than once."}
