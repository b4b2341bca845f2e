"""The list of rejected files over HTTP."""

from __future__ import annotations

from pathlib import Path

from daemon.ipc import rejected_list
from daemon.ipc.rejected_list import Note, RejectedList, RejectedRecord
from tests.unit.sidecar.test_app import Client, call


def record(number: int, note: Note = Note.PUBLISHED) -> RejectedRecord:
    at = f"2026-01-31T12:{number // 2:02}:00.000000+00:00"  # two share each time
    return RejectedRecord(f"b/{number} ü.mp4", f"rejected/b/{number} ü.mp4", "It is text.", at, 7, note=note)


def write(home: Path, *records: RejectedRecord) -> None:
    (home / "data").mkdir(exist_ok=True)
    newest = sorted(records, key=lambda one: (one.rejected_at, one.path), reverse=True)
    rejected_list.write(home / "data", RejectedList(tuple(newest), len(records)))


def test_rejected_files_are_listed_page_by_page(tmp_path: Path) -> None:
    write(tmp_path, *(record(number) for number in range(7)))

    async def work(client: Client) -> None:
        found, cursor, pages = [], "", 0
        while cursor is not None:
            page = (await client.get(f"/v1/rejected?limit=3&cursor={cursor}")).json()
            found += page["rejected"]
            cursor, pages = page["next_cursor"], pages + 1
            assert page["count"] == 7
        assert pages == 3
        assert [int(one["name"][2]) for one in found] == [6, 5, 4, 3, 2, 1, 0]
        assert found[0] == {
            "name": "b/6 ü.mp4",
            "path": "rejected/b/6 ü.mp4",
            "reason": "It is text.",
            "rejected_at": "2026-01-31T12:03:00.000000+00:00",
            "size_bytes": 7,
        }

    call(tmp_path, work)


def test_the_list_follows_the_daemons(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        nothing: dict[str, object] = {"rejected": [], "next_cursor": None, "count": 0}
        assert (await client.get("/v1/rejected")).json() == nothing
        write(tmp_path, record(1))
        assert len((await client.get("/v1/rejected")).json()["rejected"]) == 1
        write(tmp_path, record(1), record(2), record(3, Note.OUTDATED))
        assert len((await client.get("/v1/rejected")).json()["rejected"]) == 2

    call(tmp_path, work)


def test_wrong_parameters_are_named(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for query, field in (
            ("limit=0", "limit"),
            ("cursor=x", "cursor"),
            ("cursor=%C3%A9", "cursor"),
            ("page=2", "page"),
        ):
            answer = await client.get(f"/v1/rejected?{query}")
            assert answer.status_code == 422
            assert [error["field"] for error in answer.json()["errors"]] == [field]

    call(tmp_path, work)
