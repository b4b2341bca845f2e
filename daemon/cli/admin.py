"""Commands that look after an installation: models, settings, tokens, cleaning up, going back a version."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon.cli.common import (
    HomeOption,
    JsonOption,
    WeightsOption,
    err,
    escape,
    load,
    out,
    reading,
    say,
    show_json,
)
from daemon.errors import DropframeError, ModelError
from daemon.fs.identity import shown
from daemon.jobs import timestamp
from daemon.settings import CONFIG_FILE, Settings
from daemon.store.migrations import SCHEMA_VERSION
from daemon.tokens import Rights, new_token, toml_line

app = typer.Typer()
models_app = typer.Typer(help="Show, fetch and prepare weights.", no_args_is_help=True)
config_app = typer.Typer(help="Show the settings.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")


@app.command()
def downgrade(
    schema: Annotated[int, typer.Option(help="Schema version to go back to.")] = SCHEMA_VERSION - 1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rewrite the job store for an older Dropframe before you install that. The daemon must not be running."""
    settings = load(home)
    from daemon.store.job_store import JobStore

    with JobStore.open(settings.data_dir) as store:
        count = len(store.jobs())
        store.downgrade(schema)
    if as_json:
        show_json({"jobs": count, "schema_version": schema})
        return
    out.print(
        f"{count} jobs now have schema version {schema}; jobs.v{SCHEMA_VERSION}.json holds what was there before."
    )


@app.command()
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what the retention settings (keep_…) do not keep. The daemon does this by itself once an hour."""
    settings = load(home)
    from daemon import retention

    with reading(settings) as reader:
        found = retention.plan(settings, reader.find, datetime.now(UTC))
    if found and not dry_run:
        found = retention.clean_without_daemon(settings)
    if as_json:
        show_json(
            [{**asdict(expired), "name": shown(expired.name), "since": timestamp(expired.since)} for expired in found]
        )
        return
    for expired in found:
        out.print(
            escape(f"{expired.kind} {expired.name}, {expired.size_bytes} bytes, since {timestamp(expired.since)}")
        )
    if not retention.wanted(settings):
        err.print("Everything is kept: no keep_… setting is in force (dropframe config show).")
    total = sum(expired.size_bytes for expired in found)
    err.print(f"{len(found)} {'to be removed' if dry_run else 'removed'}, {total / 1e6:.1f} MB.")


@models_app.command("list")
def models_list(home: HomeOption = None, weights: WeightsOption = None, as_json: JsonOption = False) -> None:
    """Show which weights are used for what, and which official ones can be fetched."""
    settings = load(home, weights=weights)
    from daemon.pipeline.models import Weights, file_sha256, find_weights
    from daemon.pipeline.pull import OFFICIAL, RECOGNISERS
    from daemon.pipeline.regions import rapidocr_models
    from daemon.pipeline.unused_weights import unused_weights

    found = find_weights(settings)
    detector = rapidocr_models()[0]
    regions = Weights(detector, detector.stem, file_sha256(detector))
    unused = unused_weights(settings, found.path if found else None)
    if as_json:
        used = {
            role: None if w is None else {"name": w.name, "path": str(w.path), "sha256": w.sha256}
            for role, w in (("objects", found), ("text_regions", regions))
        }
        show_json({**used, "unused": [asdict(file) for file in unused], "official": sorted(OFFICIAL)})
        return
    out.print(
        f"objects: {escape(str(found.path))} (sha256 {found.sha256[:12]}…)" if found else "objects: none",
        soft_wrap=True,
    )
    out.print("text regions: RapidOCR's detector")
    out.print(f"text: {'Tesseract' if settings.text_engine == 'tesseract' else 'RapidOCR'}")
    out.print(f"text languages: {_text_languages(settings)}", soft_wrap=True)
    for file in unused:
        out.print(escape(f"not used: {file.name}: {file.reason}"), soft_wrap=True)
    out.print(f"can be pulled: {', '.join(sorted(OFFICIAL))}  (dropframe models pull NAME)")
    out.print(f"and for languages of text: {', '.join(sorted(RECOGNISERS))}", soft_wrap=True)


def _text_languages(settings: Settings) -> str:
    from daemon.pipeline.recognisers import plan

    try:
        return escape(plan(settings).describe())
    except DropframeError as error:
        return escape(str(error))


@models_app.command("pull")
def models_pull(
    name: Annotated[
        str, typer.Argument(help="yolo26n, yolo11n or yolov8n; or text:ru and the like for a language of text.")
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch official weights into data/models/ and check their pinned checksum. An interrupted fetch resumes."""
    settings = load(home)
    from daemon.pipeline.pull import pull

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
    out.print(f"{escape(str(path))} is in place; the next job uses it, without a restart.", soft_wrap=True)


@models_app.command("export")
def models_export(home: HomeOption = None, weights: WeightsOption = None, as_json: JsonOption = False) -> None:
    """Prepare the object weights for the CPU now, instead of at the first start."""
    settings = load(home, weights=weights)
    from daemon.pipeline.models import export, find_weights
    from daemon.pipeline.pipelines import NO_WEIGHTS

    found = find_weights(settings)
    if found is None:
        raise ModelError(NO_WEIGHTS)
    folder = export(found, settings).xml.parent
    if as_json:
        show_json({"path": str(folder)})
        return
    out.print(f"{escape(str(folder))} is ready.", soft_wrap=True)


@models_app.command("quantize")
def models_quantize(
    name: Annotated[str, typer.Argument(help="Weights: a name in data/models/, or a .pt file.")],
    first: Annotated[
        list[Path],
        typer.Option("--from", metavar="CLIP…", exists=True, dir_okay=False, help="Videos like those to be analysed."),
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="CLIP", exists=True, dir_okay=False, hidden=True)] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an int8 model of object weights for the CPU, calibrated with about 100 frames of your own videos.

    It is used with precision = "int8", and for these weights alone. What it costs in boxes is printed. Needs the
    extra int8.
    """
    settings = load(home)
    from daemon.pipeline.models import named_weights
    from daemon.pipeline.quantize import quantize

    clips = [*first, *(more or [])]
    path, record = quantize(named_weights(name, settings), clips, settings, lambda step: say(err, escape(step)))
    if as_json:
        show_json({"path": str(path), **record})
    else:
        _show_agreement(path, record)


def _show_agreement(path: Path, record: dict[str, Any]) -> None:
    """Print how well each precision agrees with fp32, and what that means."""
    table = Table("precision", "boxes at IoU 0.9", "at IoU 0.5", "CPU ms a picture", box=None, pad_edge=False)
    for each in record["agreement"]:
        shares = (f"{each[share]:.1%}" if each["precision"] != "fp32" else "" for share in ("same", "near"))
        table.add_row(each["precision"], *shares, f"{each['milliseconds']:.1f}")
    out.print(table)
    by_name = {each["precision"]: each for each in record["agreement"]}
    int8, half = by_name["int8"], by_name.get("bf16")
    lines = [
        f"Calibrated with {record['frames']} frames. {record['held_back']} others of the same clips were compared: "
        f"{int8['boxes']} boxes in fp32 and int8 together.",
        f"Of 100 boxes, {100 * (1 - int8['near']):.1f} are missing, new or of another class in int8, and "
        f"{100 * (int8['near'] - int8['same']):.1f} more are shifted. Other videos may lose more.",
        f'{path} is in place. With precision = "int8" in {CONFIG_FILE} it is used from the next start on.',
    ]
    if half and half["milliseconds"] <= int8["milliseconds"]:
        lines.append('But bf16 takes no longer here, and precision = "auto" uses it: int8 gains nothing.')
    for line in lines:
        out.print(escape(line), soft_wrap=True)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who will use it; letters, digits, '.', '_' and '-'.")],
    rights: Annotated[
        Rights, typer.Option(help="read: only look; submit: also submit, cancel and retry.")
    ] = Rights.READ,
) -> None:
    """Make an API token for the HTTP sidecar. It is shown once; the settings hold only its checksum."""
    secret, made = new_token(name, rights)
    out.print(f"Give this to {escape(name)}; it cannot be shown again:\n  {secret}", soft_wrap=True)
    out.print(f"Add this to the list tokens in {CONFIG_FILE}, then restart the sidecar:", soft_wrap=True)
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
