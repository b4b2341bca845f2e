"""Every setting, its default, unit and environment name; read once at start.

Sources, weakest first: the defaults here, one TOML file (``dropframe.toml`` in the home, or the one that
``DROPFRAME_CONFIG`` names), environment variables ``DROPFRAME_<NAME>``, flags of the command line. An unknown
name is an error, so that a typing mistake is never a silent default.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from daemon.errors import SettingsError
from daemon.executor_settings import ExecutorSettings
from daemon.setting_groups import (
    FolderSettings,
    InboxSettings,
    LimitSettings,
    NotificationSettings,
    ObjectStoreSettings,
    PipelineSettings,
    RetentionSettings,
    SidecarSettings,
)
from daemon.webhook_settings import sentence_on

ENV_PREFIX = "DROPFRAME_"
CONFIG_FILE = "dropframe.toml"
NOT_SETTINGS = frozenset({"DROPFRAME_CONFIG", "DROPFRAME_FAULT"})
"""Environment variables of ours that are not settings: where the TOML file is, and the failpoint of tests."""
FOLDERS = {"home": ".", "inbox_dir": "inbox", "outbox_dir": "outbox", "data_dir": "data", "weights": None}
"""The settings that are paths, with where they point below the home."""


NOT_FOR_CHILDREN = {"webhooks", "tokens", "on_completed"}
"""Settings that hold secrets, or may. All are lists."""


class Settings(
    SidecarSettings,
    NotificationSettings,
    RetentionSettings,
    LimitSettings,
    ExecutorSettings,
    PipelineSettings,
    InboxSettings,
    ObjectStoreSettings,
    FolderSettings,
    BaseSettings,
):
    """All settings of a Dropframe home. Paths are absolute once loaded."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    @property
    def spool_dir(self) -> Path:
        """Where tickets and uploads wait for the daemon."""
        return self.data_dir / "spool"

    @property
    def videos_dir(self) -> Path:
        """Where the videos and results of jobs are stored, under ``jobs.input_key`` and ``jobs.output_key``."""
        return self.data_dir / "video_jobs"

    @property
    def models_dir(self) -> Path:
        """Where the operator puts weights."""
        return self.data_dir / "models"

    @property
    def text_models_dir(self) -> Path:
        """Where recognisers of further scripts are."""
        return self.models_dir / "text"

    def without_effect(self) -> list[str]:
        """Return a sentence for each setting whose value can no longer be had."""
        if self.text_regions != "yolo":
            return []
        return [
            "text_regions = yolo has no effect: the text detector that came with Dropframe 0.1 is gone, and "
            "RapidOCR's finds the lines of text; remove the setting."
        ]

    @model_validator(mode="before")
    @classmethod
    def _folders_hang_off_home(cls, values: Any) -> Any:
        if any(not isinstance(values.get(name) or "", str | Path) for name in FOLDERS):
            return values  # each field says so itself
        home = Path(values.get("home") or ".").expanduser().resolve()
        below = {name: values.get(name) or default for name, default in FOLDERS.items()}
        placed = {name: None if path is None else home / Path(path).expanduser() for name, path in below.items()}
        return {**values, **placed, "home": home}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first: flags, environment, TOML file."""
        flags = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        home = flags.get("home") or os.environ.get(ENV_PREFIX + "HOME") or "."
        named = os.environ.get(ENV_PREFIX + "CONFIG")
        path = Path(named) if named else Path(home) / CONFIG_FILE
        if named and not path.is_file():
            raise SettingsError(f"DROPFRAME_CONFIG names {named}, which is not a file.")
        try:
            file = TomlConfigSettingsSource(settings_cls, path)
        except ValueError as error:
            raise SettingsError(f"{path} is not a TOML file: {error}.") from error
        return init_settings, EnvSettingsSource(settings_cls), file

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read all sources; a flag that is None counts as not given.

        Raises:
            SettingsError: a name is unknown or a value does not fit; the message names the setting.
        """
        _refuse_unknown_environment(os.environ)
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(" ".join(dict.fromkeys(map(_sentence, error.errors())))) from error
        except ValueError as error:  # a list in the environment that is not JSON
            named = re.search(r'field "(\w+)"', str(error))
            name = ENV_PREFIX + named[1].upper() if named else "A setting"
            raise SettingsError(f"""{name} must be a list in JSON, such as '["a", "b"]'.""") from error

    @classmethod
    def told(cls, record: Mapping[str, Any]) -> Self:
        """Return the settings that another process has loaded and dumped, whatever our own environment and file say.

        Raises:
            SettingsError: they are those of another version.
        """
        settings = cls.__new__(cls)
        try:
            BaseModel.__init__(settings, **record)  # ours would read all sources
        except ValidationError as error:
            raise SettingsError(" ".join(dict.fromkeys(map(_sentence, error.errors())))) from error
        return settings

    def for_children(self) -> dict[str, Any]:
        """Return the JSON form for a process that reads strangers' videos, without what holds secrets."""
        return {**self.model_dump(mode="json", exclude=NOT_FOR_CHILDREN), **{name: [] for name in NOT_FOR_CHILDREN}}


def nearest(name: str, names: list[str]) -> str:
    """Return ``"; did you mean …?"`` for the known name nearest to an unknown one, or all names."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the names are {', '.join(sorted(names))}."


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    known = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    for name in environment:
        if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS and name not in known:
            raise SettingsError(f"The environment variable {name} is not a setting{nearest(name, known)}")


def _sentence(error: Mapping[str, Any]) -> str:
    """Say which setting is wrong, what it must be and what it is."""
    name = str(error["loc"][0]) if error["loc"] else "settings"
    if name == "webhooks":
        return sentence_on(error)
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting{nearest(name, list(Settings.model_fields))}"
    if error["type"] == "value_error" and name in Settings.model_fields:
        return str(error["ctx"]["error"])
    if name not in Settings.model_fields:
        return f"{name}: {error['msg']}."
    return f"{name} must be {allowed_values(Settings.model_fields[name])}, not {error['input']!r}."


def allowed_values(field: FieldInfo) -> str:
    """Describe the values that a setting can have, such as ``a whole number from 0 to 65535``."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if "allowed" in extra:
        return str(extra["allowed"])
    if get_origin(field.annotation) is Literal:
        *others, last = (f"'{value}'" for value in get_args(field.annotation))
        return f"{', '.join(others)} or {last}"
    kinds: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        str | None: "a text",
        bool: "a boolean (true or false)",
        list[str]: "a list of texts",
    }
    kind = kinds.get(field.annotation, "a path")
    unit = f" of {extra['unit']}" if "unit" in extra else ""
    return kind + unit + _limits(field)


def _limits(field: FieldInfo) -> str:
    limits: dict[str, Any] = {}
    for rule in field.metadata:  # a setting's own come before those of its unit
        for name in ("gt", "ge", "lt", "le", "multiple_of"):
            if (value := getattr(rule, name, None)) is not None:
                limits.setdefault(name, value)
    if "lt" in limits:
        return f" between {limits['gt']} and {limits['lt']}"
    if "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    least = f" greater than {limits['gt']}" if "gt" in limits else f", {limits['ge']} or more" if "ge" in limits else ""
    return least + (f", a multiple of {limits['multiple_of']}" if "multiple_of" in limits else "")
