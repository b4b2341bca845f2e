"""``dropframe search``: texts and objects of all videos."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from daemon.cli.common import HomeOption, JsonOption, err, escape, load_existing, out, reading, show_json
from daemon.cli.derived import clock
from daemon.errors import SettingsError
from daemon.search.reader import FoundKind, place_of, search, shown_name

app = typer.Typer()


@app.command(name="search")
def search_command(
    words: Annotated[list[str], typer.Argument(help="Words that must all be in a text, also inside of its words.")],
    kind: Annotated[FoundKind | None, typer.Option(help="Only texts, or only objects by their class.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most N hits, newest videos first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The next_cursor of the hits before, for the next ones.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for texts and objects in all videos."""
    settings = load_existing(home)
    try:
        before = place_of(cursor)
    except ValueError as error:
        raise SettingsError("--cursor must be the next_cursor of earlier hits.") from error
    page = search(settings.data_dir, " ".join(words), limit, before=before, kind=kind)
    with reading(settings) as reader:
        found = {hit.job_id: reader.find(hit.job_id) for hit in page.hits}
    public = page.to_public(lambda job_id: shown_name(vars(job) if (job := found[job_id]) else None))
    if as_json:
        show_json(public)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("video", "job", "from", "to", "kind", "text"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("video", "text"))
    for hit in public["hits"]:
        times = clock(hit["start_s"]), clock(hit["end_s"])
        table.add_row(escape(hit["source_name"]), hit["job_id"][:8], *times, hit["kind"], escape(hit["text"]))
    out.print(table if public["hits"] else "Nothing was found.")
    if public["next_cursor"]:
        err.print(f"There is more: --cursor {public['next_cursor']}")
    if not public["complete"]:
        err.print("Not all results have been searched: the daemon is still making the index.")
