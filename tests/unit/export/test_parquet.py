"""A table as Parquet, read back by another program's reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars
import pytest

from daemon.export import parquet
from daemon.export.parquet import GROUP_ROWS

COLUMNS = {"frame_index": int, "class": str, "confidence": float}


def rows(count: int) -> list[tuple[object, ...]]:
    words = ("cat", "", "Straße 🚌", "x" * 70_000)
    return [(number * 2**40, words[number % (4 if number < 50 else 3)], number / 3) for number in range(count)]


def read(folder: Path, columns: dict[str, type], table: list[tuple[object, ...]]) -> polars.DataFrame:
    path = folder / "t.parquet"
    path.write_bytes(b"".join(parquet.parquet(columns, iter(table))))
    return polars.read_parquet(path)


@pytest.mark.parametrize("count", [0, 1, 2, 300, GROUP_ROWS, GROUP_ROWS + 1])
def test_each_value_comes_back_as_it_was(tmp_path: Path, count: int) -> None:
    found = read(tmp_path, COLUMNS, rows(count))
    assert found.schema == {"frame_index": polars.Int64, "class": polars.String, "confidence": polars.Float64}
    assert found.rows() == rows(count)


@pytest.mark.parametrize("count", [14, 15, 16, 200])
def test_however_many_columns_and_groups_there_are(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3)
    table: list[tuple[object, ...]] = [tuple(range(row, row + count)) for row in range(3 * count + 1)]
    assert read(tmp_path, {f"c{number}": int for number in range(count)}, table).rows() == table


def test_it_is_made_while_rows_come() -> None:
    taken = 0

    def coming() -> Iterator[tuple[object, ...]]:
        nonlocal taken
        for row in rows(2 * GROUP_ROWS):
            taken += 1
            yield row

    made = parquet.parquet(COLUMNS, coming())
    assert [next(made), next(made)][0] == b"PAR1"
    assert taken == GROUP_ROWS
