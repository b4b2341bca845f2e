"""Parquet: a table in columns, which DuckDB makes of CSV; the only file that knows DuckDB."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from daemon.errors import StorageError
from daemon.export.source import ExportSource
from daemon.export.tables import DETECTIONS, blocks, plain_csv_detections

COLUMNS = dict.fromkeys(DETECTIONS, "DOUBLE") | {"frame_index": "BIGINT", "class": "VARCHAR"}
"""Names and types."""
LONGEST_LINE_BYTES = 1_000_000
GROUP_ROWS = 20_480
"""Rows in a row group."""
MEMORY = "50MB"
"""What DuckDB may hold; the rest it puts into the folder."""


def detections(source: ExportSource) -> Iterator[bytes]:
    """Yield a Parquet file with a row for each detection.

    Raises:
        OSError, StorageError: the folder for what is written meanwhile cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=source.scratch, prefix=".parquet-") as folder:
        table, target = Path(folder) / "table.csv", Path(folder) / "table.parquet"
        with table.open("wb") as file:
            file.writelines(plain_csv_detections(source))
        _write(table, target)
        table.unlink()
        with target.open("rb") as made:
            yield from blocks(made)


def _write(table: Path, target: Path) -> None:
    import duckdb  # 50 MB that other formats do not need

    rows = (
        f"read_csv({_quoted(table)}, columns = {COLUMNS}, force_not_null = ['class'], auto_detect = false,"
        " header = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n', parallel = false,"
        f" max_line_size = {LONGEST_LINE_BYTES}, buffer_size = {2 * LONGEST_LINE_BYTES})"
    )
    try:
        with duckdb.connect(
            config={"threads": 1, "memory_limit": MEMORY, "temp_directory": str(target.parent)}
        ) as connection:
            connection.execute(
                f"COPY (FROM {rows}) TO {_quoted(target)}"
                f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})"
            )
    except duckdb.Error as error:
        raise StorageError(f"The table cannot be written: {str(error).splitlines()[0]}.") from error


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
