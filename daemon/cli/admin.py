"""Commands that look after an installation: models, settings, tokens, cleaning up, going back a version."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from daemon.cli.common import (
    HomeOption,
    JsonOption,
    WeightsOption,
    err,
    escape,
    load,
    out,
    reading,
    show_json,
)
from daemon.errors import ModelError
from daemon.fs.identity import shown
from daemon.jobs import timestamp
from daemon.settings import CONFIG_FILE
from daemon.store.migrations import SCHEMA_VERSION
from daemon.tokens import Rights, new_token, toml_line

app = typer.Typer()
models_app = typer.Typer(help="Weights: what is used, fetch official ones, prepare them.", no_args_is_help=True)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")


@app.command()
def downgrade(
    schema: Annotated[int, typer.Option(help="Schema version to go back to.")] = SCHEMA_VERSION - 1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the job store as an older Dropframe reads it, before that is installed. The daemon must not run."""
    from daemon.store.job_store import JobStore

    settings = load(home)
    with JobStore.open(settings.data_dir) as store:
        count = len(store.jobs())
        store.downgrade(schema)
    if as_json:
        show_json({"jobs": count, "schema_version": schema})
        return
    out.print(f"{count} jobs are in schema version {schema} now; jobs.v{SCHEMA_VERSION}.json is what was there before.")


@app.command()
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what the retention settings (keep_…) do not keep. The daemon does it by itself once an hour."""
    from daemon import retention

    settings = load(home)
    with reading(settings) as reader:
        found = retention.plan(settings, reader.find, datetime.now(UTC))
    if found and not dry_run:
        found = retention.clean_without_daemon(settings)
    if as_json:
        show_json([{**asdict(kept), "name": shown(kept.name), "since": timestamp(kept.since)} for kept in found])
        return
    for kept in found:
        out.print(escape(f"{kept.kind} {kept.name}, {kept.size_bytes} bytes, since {timestamp(kept.since)}"))
    if not retention.wanted(settings):
        err.print("Everything is kept: no keep setting is set (dropframe config show).")
    total = sum(kept.size_bytes for kept in found)
    err.print(f"{len(found)} {'to be removed' if dry_run else 'removed'}, {total / 1e6:.1f} MB.")


@models_app.command("list")
def models_list(home: HomeOption = None, weights: WeightsOption = None, as_json: JsonOption = False) -> None:
    """Show which weights are used for what, and which official ones can be pulled."""
    from daemon.cli.pull import OFFICIAL
    from daemon.pipeline.models import bundled_weights, find_weights, finds_own_regions

    settings = load(home, weights=weights)
    found = find_weights(settings)
    regions = bundled_weights() if finds_own_regions(settings, objects=found is not None) else None
    if as_json:
        used = {
            role: None if w is None else {"name": w.name, "path": str(w.path), "sha256": w.sha256}
            for role, w in (("objects", found), ("text_regions", regions))
        }
        show_json({**used, "official": sorted(OFFICIAL)})
        return
    out.print(
        f"objects: {escape(str(found.path))} (sha256 {found.sha256[:12]}…)" if found else "objects: none",
        soft_wrap=True,
    )
    if regions:
        out.print(f"text regions: {regions.name}, which comes with Dropframe (sha256 {regions.sha256[:12]}…)")
    else:
        out.print("text regions: RapidOCR's detector")
    out.print(f"text: {'Tesseract' if settings.text_engine == 'tesseract' else 'RapidOCR'}")
    out.print(f"can be pulled: {', '.join(sorted(OFFICIAL))}  (dropframe models pull NAME)")


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="yolo26n, yolo11n or yolov8n.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch official object weights into data/models/, with their checksum pinned. Goes on where it stopped."""
    from daemon.cli.pull import pull

    settings = load(home)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars:
        bar = bars.add_task(name, total=None)
        path = pull(name, settings, lambda done, total: bars.update(bar, completed=done, total=total))
    if as_json:
        show_json({"path": str(path)})
        return
    out.print(f"{escape(str(path))} is in place; it is used from the next start on.", soft_wrap=True)


@models_app.command("export")
def models_export(home: HomeOption = None, weights: WeightsOption = None, as_json: JsonOption = False) -> None:
    """Prepare the object weights for the CPU now; otherwise the first start does it."""
    from daemon.pipeline.models import export, find_weights
    from daemon.pipeline.pipelines import NO_WEIGHTS

    settings = load(home, weights=weights)
    found = find_weights(settings)
    if found is None:
        raise ModelError(NO_WEIGHTS)
    folder = export(found, settings).xml.parent
    if as_json:
        show_json({"path": str(folder)})
        return
    out.print(f"{escape(str(folder))} is ready.", soft_wrap=True)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who will use it: letters, digits, '.', '_' and '-'.")],
    rights: Annotated[Rights, typer.Option(help="read, or submit as well.")] = Rights.READ,
) -> None:
    """Make an API token for the HTTP sidecar. It is shown once; only its checksum is kept, in the settings."""
    secret, made = new_token(name, rights)
    out.print(f"Give this to {escape(name)}; it cannot be shown again:\n  {secret}", soft_wrap=True)
    out.print(f"Add this to the list tokens in {CONFIG_FILE}, then start the sidecar again:", soft_wrap=True)
    out.print(escape(f"  {toml_line([made])}"), soft_wrap=True)


@config_app.command("show")
def config_show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show every setting in force."""
    values = load(home).model_dump(mode="json")
    if as_json:
        show_json(values)
        return
    for name, value in values.items():
        out.print(escape(f"{name} = {json.dumps(value)}"), soft_wrap=True)
