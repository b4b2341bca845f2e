"""Endpoints come from the operator's file alone, and what is secret of them is never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.errors import SettingsError
from daemon.pipeline import pipeline_child
from daemon.settings import Settings
from daemon.webhook_settings import EventType, WebhookSettings
from tests.webhook_receiver import OTHER_SECRET, SECRET

URL = "https://hooks.example.org:8443/services/T0K3N?key=hidden"


def load(home: Path, text: str) -> Settings:
    (home / "dropframe.toml").write_text(text)
    return Settings.load(home=home)


def endpoint(**values: object) -> str:
    given = {"url": URL, "secret": SECRET, **values}
    return "[[webhooks]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())


def test_endpoints_are_read_from_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'on_completed = ["sync-to-nas", "--fast"]\n'
        + endpoint()
        + endpoint(url="http://10.0.0.1/", secret=[OTHER_SECRET, SECRET], events=["job.failed"], allow_private=True),
    )
    first, second = settings.webhooks
    assert (first.url, first.events, first.allow_private) == (URL, tuple(EventType), False)
    assert first.keys == (bytes(range(32)),)
    assert (second.events, second.allow_private) == ((EventType.FAILED,), True)
    assert second.keys == (bytes(range(32, 64)), bytes(range(32)))
    assert (settings.on_completed, settings.on_completed_seconds) == (["sync-to-nas", "--fast"], 600.0)


def test_they_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_WEBHOOKS", json.dumps([{"url": URL, "secret": SECRET}]))
    assert Settings.load(home=tmp_path).webhooks[0].url == URL


def test_an_endpoint_stays_the_same_when_its_secret_is_exchanged() -> None:
    old, new = (WebhookSettings(url=URL, secret=secret) for secret in (SECRET, OTHER_SECRET))  # type: ignore[arg-type]
    assert old.key == new.key
    assert old.key != WebhookSettings(url=URL + "2", secret=SECRET).key  # type: ignore[arg-type]


SECRETS = ("T0K3N", "hidden", SECRET, SECRET.removeprefix("whsec_"))


@pytest.mark.parametrize("arguments", [["config", "show"], ["config", "show", "--json"], ["webhooks", "list"]])
def test_no_command_shows_a_secret_or_the_path_of_an_address(tmp_path: Path, arguments: list[str]) -> None:
    settings = load(tmp_path, endpoint())
    said = CliRunner().invoke(app, [*arguments, "--home", str(tmp_path)])
    assert said.exit_code == 0
    assert "hooks.example.org:8443" in said.output
    for shown in (said.output, repr(settings), str(settings), repr(settings.webhooks[0])):
        assert not any(secret in shown for secret in SECRETS)


def test_the_pipeline_is_not_told_of_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    class Pipe:
        def write(self, line: bytes) -> None:
            written.append(line)

        def flush(self) -> None:
            """Nothing is held back."""

    class Process:
        stdin, stdout = Pipe(), None

        def __init__(self, *_: object, **__: object) -> None:
            """Start nothing."""

    monkeypatch.setattr(pipeline_child.subprocess, "Popen", Process)
    monkeypatch.setattr(pipeline_child.PipelineChild, "_read", lambda self: None)
    pipeline_child.PipelineChild(load(tmp_path, endpoint()), None)
    told = json.loads(written[0])["settings"]
    assert told["webhooks"] == []
    assert Settings(**told).webhooks == []
    assert not any(secret in written[0].decode() for secret in SECRETS)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"url": "ftp://T0K3N/"}, "A webhook's url must be an address such as https://example.org/hook."),
        ({"url": "https:///T0K3N"}, "A webhook's url must be an address"),
        ({"url": "https://a:T0K3N/"}, "A webhook's url must be an address"),
        ({"url": "https://[T0K3N/"}, "A webhook's url must be an address"),
        ({"url": "https://a/T0K3N\r\nx: y"}, "in ASCII and without spaces"),
        ({"url": "https://bücher.example/T0K3N"}, "in ASCII and without spaces"),
        ({"url": "https://user:T0K3N@a/"}, "neither a user name nor a fragment"),
        ({"url": "https://a/#T0K3N"}, "neither a user name nor a fragment"),
        ({"url": 5}, "webhooks: 1.url: Input should be a valid string."),
        ({"secret": "whsec_T0K3N"}, "24 to 64 bytes in base64; dropframe webhooks secret makes one."),
        ({"secret": SECRET.removeprefix("whsec_")}, "A webhook's secret must be whsec_"),
        ({"secret": ["whsec_" + "T0K3" * 40]}, "24 to 64 bytes"),
        ({"secret": []}, "webhooks: 1.secret"),
        ({"secret": [SECRET] * 6}, "webhooks: 1.secret"),
        ({"secret": ["T0K3N", 5]}, "webhooks: 1.secret.2"),
        ({"events": ["job.T0K3N"]}, "webhooks: 1.events.1: Input should be 'job.completed'"),
        ({"alow_private": True}, "webhooks: 1.alow_private: Extra inputs are not permitted."),
    ],
)
def test_a_mistake_is_named_and_what_was_written_is_not_repeated(
    tmp_path: Path, values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, endpoint(**values))
    assert sentence in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("T0K3N", *SECRETS))


def test_a_missing_secret_and_an_endpoint_that_comes_twice_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"webhooks: 1\.secret: Field required\."):
        load(tmp_path, f'[[webhooks]]\nurl = "{URL}"\n')
    with pytest.raises(SettingsError, match="Two webhooks have the same url"):
        load(tmp_path, endpoint() + endpoint(secret=OTHER_SECRET))
    with pytest.raises(SettingsError, match="webhooks: Input should be a valid list"):
        load(tmp_path, "webhooks = 5\n")


def test_a_program_is_a_list_of_texts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="on_completed must be a list of texts"):
        load(tmp_path, 'on_completed = "rm -rf x"\n')
