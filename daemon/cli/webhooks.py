"""Commands about those who are told of events: list, test, resend, secret."""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict
from typing import Annotated, Any

import typer

from daemon.cli.common import FAILED, HomeOption, JsonOption, err, escape, load_existing, out, show_json
from daemon.cli.lookup import known_jobs
from daemon.errors import IllegalMove, SettingsError
from daemon.ipc import health
from daemon.ipc.receivers import ReceiverBeat
from daemon.public_job import state_of
from daemon.settings import CONFIG_FILE, Settings
from daemon.webhook_settings import ON_COMPLETED, SECRET_PREFIX, EventType, WebhookSettings

app = typer.Typer()
webhooks_app = typer.Typer(help="Show and test those who are told of events.", no_args_is_help=True)
app.add_typer(webhooks_app, name="webhooks")

SECRET_BYTES = 32
ToOption = Annotated[str, typer.Option("--to", help="Only to this receiver: a key that dropframe webhooks list shows.")]


@webhooks_app.command("list")
def list_receivers(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the receivers of events, and how it goes with each: what waits, what was given up, what is wrong."""
    settings = load_existing(home)
    heartbeat = health.read(settings.data_dir)
    known = {beat.key: beat for beat in heartbeat.receivers} if heartbeat else {}
    listed = [_described(key, name, types, known.get(key)) for key, name, types in _receivers(settings)]
    if as_json:
        show_json(listed)
        return
    for receiver in listed:
        out.print(escape(f"{receiver['key']}  {receiver['name']}  {', '.join(receiver['events'])}"), soft_wrap=True)
        out.print(escape(f"    {_sentence(receiver)}"), soft_wrap=True)
    if not listed:
        err.print(f"Nobody is told of events: {CONFIG_FILE} has neither [[webhooks]] nor on_completed.", markup=False)
    elif health.of_running_daemon(settings.data_dir) is None:
        err.print("No daemon is running here, so nobody is told of anything; these are its last figures.")


@webhooks_app.command("test")
def send_test(
    to: ToOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test event (webhook.test) to every endpoint, from this command itself, and say how it was answered."""
    from daemon.ingest.owner import home_id
    from daemon.webhooks.delivery import DeliveryEnd
    from daemon.webhooks.endpoint import Endpoint
    from daemon.webhooks.event import Event

    settings = load_existing(home)
    chosen = [webhook for webhook in settings.webhooks if to in ("", webhook.key)]
    if not chosen:
        raise SettingsError(f"No endpoint has the key {to!r}." if to else f"{CONFIG_FILE} has no [[webhooks]].")
    source = f"urn:dropframe:{home_id(settings.data_dir)}"
    answers = []
    for webhook in chosen:
        delivery = Endpoint(webhook, source).deliver(Event.for_test())
        well = delivery.end is DeliveryEnd.DONE
        answers.append({"key": webhook.key, "name": webhook.name, "ok": well, "problem": delivery.problem or None})
        if not as_json:
            mark = "[green]ok[/]  " if well else "[red]FAIL[/]"
            out.print(f"{mark} {webhook.key} {escape(webhook.name)} {escape(delivery.problem)}", soft_wrap=True)
    if as_json:
        show_json(answers)
    if not all(answer["ok"] for answer in answers):
        raise typer.Exit(FAILED)


@webhooks_app.command()
def resend(
    jobs: Annotated[
        list[str] | None, typer.Argument(help="Ids of jobs that have ended, their first characters, or names.")
    ] = None,
    undelivered: Annotated[
        bool, typer.Option("--undelivered", help="All events that could not be delivered, also those given up.")
    ] = False,
    to: ToOption = "",
    home: HomeOption = None,
) -> None:
    """Have events sent again, with the same ids; a receiver that is switched off is switched on again."""
    from daemon.webhooks.resend import ALL, UNDELIVERED, ResendRequest, ask

    settings = load_existing(home)
    if (not jobs) == (not undelivered):
        raise SettingsError("Name at least one job, or pass --undelivered.")
    keys = [key for key, *_ in _receivers(settings)]
    if not keys or to not in ("", *keys):
        raise SettingsError(f"There is no receiver {to!r}; dropframe webhooks list shows those there are.")
    with known_jobs(settings) as known:
        chosen = [known.find(job) for job in jobs or ()]
    for job in chosen:
        if not job.ended:
            raise IllegalMove(f"Job {job.job_id} is {state_of(vars(job))}; it has to end first.")
    for what in [job.job_id for job in chosen] or [UNDELIVERED]:
        ask(settings.spool_dir, ResendRequest(what, to or ALL))
    out.print("The daemon sends them again, now or when it runs.")


@webhooks_app.command("secret")
def make_secret() -> None:
    """Make a secret for an endpoint; it and the receiver are given the same one."""
    made = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    out.print(f"{SECRET_PREFIX}{made}", soft_wrap=True)


def _receivers(settings: Settings) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return key, name and types of events of each receiver."""
    found: list[tuple[str, str, tuple[str, ...]]] = [_endpoint(webhook) for webhook in settings.webhooks]
    if settings.on_completed:
        found.append((ON_COMPLETED, settings.on_completed[0], (EventType.COMPLETED,)))
    return found


def _endpoint(webhook: WebhookSettings) -> tuple[str, str, tuple[str, ...]]:
    return webhook.key, webhook.name, webhook.events


def _described(key: str, name: str, types: tuple[str, ...], beat: ReceiverBeat | None) -> dict[str, Any]:
    return {**asdict(beat or ReceiverBeat(key, name)), "events": list(types)}


def _sentence(receiver: dict[str, Any]) -> str:
    waits = f"{receiver['waiting']} events wait"
    if receiver["oldest"]:
        waits += f", the oldest since {receiver['oldest'][:19].replace('T', ' ')} UTC"
    given_up = f" {receiver['given_up']} were given up." if receiver["given_up"] else ""
    off = f" It has been switched off since {receiver['off_since'][:19]} UTC." if receiver["off_since"] else ""
    problem = f" {receiver['problem']}" if receiver["problem"] else ""
    return f"{waits}.{given_up}{off}{problem}"
