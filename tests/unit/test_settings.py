"""Settings: where they come from, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from daemon.errors import SettingsError
from daemon.settings import ENV_PREFIX, Settings, allowed_values


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def write(home: Path, text: str) -> None:
    (home / "dropframe.toml").write_text(text)


def test_everything_hangs_off_the_current_folder_by_default(home: Path) -> None:
    settings = Settings.load()
    assert settings.home == home
    assert (settings.inbox_dir, settings.outbox_dir, settings.data_dir) == (
        home / "inbox",
        home / "outbox",
        home / "data",
    )
    assert (settings.device, settings.max_attempts, settings.settle_seconds) == ("auto", 3, 2.0)


def test_each_source_is_stronger_than_the_one_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().max_attempts == 3
    write(home, "max_attempts = 4\nretry_seconds = 4\nstall_seconds = 4\n")
    assert Settings.load().max_attempts == 4
    monkeypatch.setenv("DROPFRAME_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("DROPFRAME_RETRY_SECONDS", "5")
    assert Settings.load().max_attempts == 5
    settings = Settings.load(max_attempts=6)
    assert (settings.max_attempts, settings.retry_seconds, settings.stall_seconds) == (6, 5.0, 4.0)


def test_a_flag_that_was_not_given_hides_nothing(home: Path) -> None:
    write(home, "device = 'cpu'\n")
    assert Settings.load(device=None).device == "cpu"


def test_the_home_can_come_from_a_flag_or_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (home / name).mkdir()
        write(home / name, f"default_pipeline = '{name}'\n")
    monkeypatch.setenv("DROPFRAME_HOME", "one")
    assert Settings.load().inbox_dir == home / "one" / "inbox"
    assert Settings.load().default_pipeline == "one"
    assert Settings.load(home=Path("two")).data_dir == home / "two" / "data"
    assert Settings.load(home=Path("two")).default_pipeline == "two"


def test_folders_can_be_put_elsewhere_from_the_home(home: Path) -> None:
    write(home, "inbox_dir = 'in'\noutbox_dir = '/mnt/out'\nweights = 'w.pt'\n")
    settings = Settings.load()
    assert settings.inbox_dir == home / "in"
    assert settings.outbox_dir == Path("/mnt/out")
    assert settings.weights == home / "w.pt"


def test_the_toml_file_can_be_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, "max_attempts = 4\n")
    (home / "other.toml").write_text("max_attempts = 7\n")
    monkeypatch.setenv("DROPFRAME_CONFIG", str(home / "other.toml"))
    assert Settings.load().max_attempts == 7


def test_a_toml_file_that_is_named_must_be_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_CONFIG", "missing.toml")
    with pytest.raises(SettingsError, match=r"DROPFRAME_CONFIG names missing\.toml, which is not a file"):
        Settings.load()


def test_an_empty_variable_counts_as_not_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_WEIGHTS", "")
    monkeypatch.setenv("DROPFRAME_PORT", "")
    assert Settings.load().weights is None
    assert Settings.load().port == 8000


def test_a_list_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_IGNORE", '["*.bak", "x*"]')
    assert Settings.load().ignore == ["*.bak", "x*"]
    monkeypatch.setenv("DROPFRAME_IGNORE", "*.bak")
    with pytest.raises(SettingsError, match=r"""^DROPFRAME_IGNORE must be a list in JSON, such as '\["a", "b"\]'\.$"""):
        Settings.load()


# What is said of a wrong one.


def test_an_unknown_key_in_the_file_names_the_nearest(home: Path) -> None:
    write(home, "setle_seconds = 3\n")
    with pytest.raises(SettingsError, match=r"setle_seconds is not a setting; did you mean settle_seconds\?"):
        Settings.load()


def test_an_unknown_table_in_the_file_names_the_nearest(home: Path) -> None:
    write(home, "[inbox]\npath = 'x'\n")
    with pytest.raises(SettingsError, match=r"inbox is not a setting; did you mean inbox_dir\?"):
        Settings.load()


def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_DEVISE", "cpu")
    with pytest.raises(SettingsError, match=r"DROPFRAME_DEVISE is not a setting; did you mean DROPFRAME_DEVICE"):
        Settings.load()


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"wieghts is not a setting; did you mean weights\?"):
        Settings.load(wieghts="x")


def test_a_name_like_no_other_is_told_all(home: Path) -> None:
    write(home, "qqqqqq = 1\n")
    told = r"qqqqqq is not a setting; the names are allowed_hosts, .*, weights, workers\."
    with pytest.raises(SettingsError, match=told):
        Settings.load()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("port = 'x'", "port must be a whole number from 0 to 65535, not 'x'."),
        ("port = 70000", "port must be a whole number from 0 to 65535, not 70000."),
        ("max_attempts = 0", "max_attempts must be a whole number, 1 or more, not 0."),
        ("max_attempts = 1.5", "max_attempts must be a whole number, 1 or more, not 1.5."),
        ("settle_seconds = -1", "settle_seconds must be a number of seconds, 0 or more, not -1."),
        ("poll_seconds = 0", "poll_seconds must be a number of seconds greater than 0, not 0."),
        ("min_free_bytes = 'much'", "min_free_bytes must be a whole number of bytes, 0 or more, not 'much'."),
        ("device = 'gpu'", "device must be auto, cpu or cuda:N, not 'gpu'."),
        ("device = 'cuda'", "device must be auto, cpu or cuda:N, not 'cuda'."),
        ("watch = 'sometimes'", "watch must be 'auto', 'events' or 'polling', not 'sometimes'."),
        ("text_engine = 5", "text_engine must be 'rapidocr' or 'tesseract', not 5."),
        ("ignore = 'x'", "ignore must be a list of texts, not 'x'."),
        ("ignore = [1, 2]", "ignore must be a list of texts, not 1. ignore must be a list of texts, not 2."),
        ("image_size = 100", "image_size must be a whole number of px, 64 or more, a multiple of 32, not 100."),
        ("text_confidence = 2", "text_confidence must be a number from 0 to 1, not 2."),
        ("home = 5", "home must be a path, not 5."),
        ("inbox_dir = 5", "inbox_dir must be a path, not 5."),
        ("weights = [1]", "weights must be a path, not [1]."),
        ("confidence = nan", "confidence must be a number between 0 and 1, not nan."),
    ],
)
def test_a_wrong_value_is_told_with_its_setting_and_what_is_allowed(home: Path, line: str, said: str) -> None:
    write(home, line + "\n")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(caught.value) == said


def test_every_wrong_value_is_named_at_once(home: Path) -> None:
    write(home, "port = 'x'\niou = 2\nfoo_bar = 1\n")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    for name in ("port", "iou", "foo_bar"):
        assert f"{name}" in str(caught.value)


@pytest.mark.parametrize("content", [b"port = = 1\n", b"port = 1", b"\xff\xfe"])
def test_a_toml_file_that_is_none_is_named(home: Path, content: bytes) -> None:
    (home / "dropframe.toml").write_bytes(content)
    if content == b"port = 1":
        assert Settings.load().port == 1
        return
    with pytest.raises(SettingsError, match=r"dropframe\.toml is not a TOML file: "):
        Settings.load()


def test_settings_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.load().port = 1  # type: ignore[misc]


def test_loaded_settings_loaded_again_are_the_same(home: Path) -> None:
    """The pipeline process gets them this way."""
    write(home, "inbox_dir = 'in'\nweights = 'w.pt'\nignore = ['a']\n")
    settings = Settings.load(port=5)
    assert Settings.load(**settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_says_in_a_sentence_what_it_is_and_in_which_unit(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert field.description[0].isupper() or field.description.split(",")[0] in ("auto", "cpu")
    assert field.description.endswith(".")
    extra = field.json_schema_extra
    if name.endswith(("_seconds", "_bytes", "_days")):
        assert isinstance(extra, dict)
        assert extra["unit"] == name.rpartition("_")[2]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_what_is_allowed_can_be_said_of_every_setting(name: str) -> None:
    assert allowed_values(Settings.model_fields[name]).startswith(("a ", "'", "auto, cpu"))
