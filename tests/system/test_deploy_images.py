"""The container files: linted, held against the code, and their restrictions tried with the real daemon.

The images themselves are not built here; that needs a container engine.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.settings import Settings
from tests import programs
from tests.clips import make_clip
from tests.system.running import FAST, ROOT, children, environment, wait_for

DOCKER = ROOT / "deploy" / "docker"
IMAGES = sorted(path for path in DOCKER.glob("Dockerfile*") if path.suffix != ".dockerignore")
OURS = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda"]
COMPOSE = sorted(DOCKER.glob("compose*.yml"))
UID = 10001
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--net", "--kill-child"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions as name and arguments."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, rest in re.findall(r"^([A-Z]+) +(.*)$", text, re.MULTILINE)]


def last(path: Path, name: str) -> str:
    return [rest for found, rest in instructions(path) if found == name][-1]


def services(*names: str) -> dict[str, Any]:
    """Return the services of compose files laid over each other, as compose does it."""
    found: dict[str, Any] = {}
    for name in names:
        for service, values in yaml.safe_load((DOCKER / name).read_text())["services"].items():
            merged = found.setdefault(service, {})
            for key, value in values.items():
                merged[key] = {**merged[key], **value} if isinstance(merged.get(key), dict) else value
    return found


@functools.cache
def help_of(command: str) -> str:
    """Return what a command of Dropframe says of itself."""
    words = [sys.executable, "-m", "daemon", command, "--help"]
    return subprocess.run(words, env=environment(), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_a_dockerfile_passes_the_linter(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--failure-threshold", "style", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_a_compose_file_is_valid(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_what_an_image_copies_is_there_and_is_let_through(path: Path) -> None:
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    copied = [
        source
        for name, rest in instructions(path)
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert {"daemon", "sidecar", "pyproject.toml", "constraints.txt"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_an_image_runs_commands_that_exist_as_a_fixed_user_behind_an_init(path: Path) -> None:
    assert last(path, "USER") == f"{UID}:{UID}"
    assert f"--uid {UID}" in path.read_text()
    assert json.loads(last(path, "ENTRYPOINT")) == ["tini", "--", "dropframe"]
    health = json.loads(last(path, "HEALTHCHECK").partition("CMD ")[2])
    assert health == ["dropframe", "health"]
    commands = [json.loads(last(path, "CMD")), health[1:]]
    for service in services("compose.yml").values():
        commands.append(service["command"])
    for command in commands:
        flags = [part for part in command if part.startswith("--")]
        assert [flag for flag in flags if flag not in help_of(command[0])] == [], command


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_folders_port_and_settings_of_an_image_are_those_of_the_code(path: Path) -> None:
    assert last(path, "EXPOSE") == str(Settings.model_fields["port"].default)
    home = last(path, "WORKDIR")
    assert json.loads(last(path, "VOLUME")) == [home]
    named = set(re.findall(r"\b(DROPFRAME_[A-Z_]+)=", path.read_text()))
    assert named <= {f"DROPFRAME_{name.upper()}" for name in Settings.model_fields}
    assert f"DROPFRAME_HOME={home}" in path.read_text()
    for name in ("inbox_dir", "outbox_dir", "data_dir"):
        assert f"{home}/{Settings.model_fields[name].default}" in path.read_text()


@pytest.mark.parametrize("overlay", [None, *(path.name for path in COMPOSE if path.name != "compose.yml")])
def test_compose_restricts_every_service_and_names_real_files_ports_and_settings(overlay: str | None) -> None:
    for name, service in services("compose.yml", *([overlay] if overlay else [])).items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        for setting in service.get("environment", {}):
            known = {f"DROPFRAME_{field.upper()}" for field in Settings.model_fields}
            assert setting in known or setting in {"SHARE_PASSWORD", "DROPFRAME_SITE", "DROPFRAME_UPSTREAM"}, setting
        if "build" in service:
            context = DOCKER / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".."):
                assert (DOCKER / source).exists(), volume
        if name in ("daemon", "sidecar"):
            assert service["read_only"] is True
            assert service["user"] == f"{UID}:{UID}"
            assert service["stop_grace_period"] == "20s"
    assert services("compose.yml")["daemon"]["network_mode"] == "none"
    assert services("compose.yml")["sidecar"]["ports"] == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_an_image_has_extras_and_a_python_that_the_package_names(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r"\['optional-dependencies'\]\['(\w+)'\]", path.read_text()))
    assert extras == ({"s3", "gpu"} if path.suffix else {"s3"})
    assert extras <= set(project["optional-dependencies"])
    pythons = {match for name, rest in instructions(path) if name == "FROM" for match in re.findall(r"\d+\.\d+", rest)}
    assert len(pythons) == 1
    assert {f"Programming Language :: Python :: {version}" for version in pythons} <= set(project["classifiers"])


def test_the_image_for_a_gpu_differs_from_the_other_in_libraries_and_variables_alone() -> None:
    plain, cuda = (instructions(path) for path in OURS)
    differing = {name for name, _ in set(plain) ^ set(cuda)}
    assert differing == {"ARG", "RUN", "ENV"}
    assert [rest for name, rest in plain if name == "RUN" and "-r requirements.txt" not in rest] == [
        rest for name, rest in cuda if name == "RUN" and "-r requirements.txt" not in rest
    ]
    device = re.search(r"DROPFRAME_DEVICE=(\S+)", last(OURS[1], "ENV"))
    assert device is not None
    assert Settings(device=device[1]).device == "cuda:0"
    gpu = services("compose.gpu.yml")
    assert {service["image"] for service in gpu.values()} == {"dropframe:cuda"}
    assert gpu["daemon"]["build"]["dockerfile"] == f"deploy/docker/{OURS[1].name}"


RESTRICTED = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=1g,mode=1777,noexec,nosuid,nodev tmpfs "$1/tmp"
mount --bind "$1/home" "$1/home"
mount --bind "$2" "$1/python"
mount --bind "$3" "$1/code"
case "$4" in /root/*)
    mount --bind "$4" "$1/base"
    mount -t tmpfs -o mode=755 tmpfs /root
    mkdir -p "$4"
    mount --bind "$1/base" "$4"
esac
mount --bind "$1/tmp" /tmp
mount -o remount,bind,ro /
exec setpriv --reuid 12345 --regid 12345 --clear-groups --bounding-set=-all --no-new-privs \\
    tini -s -- "$1/python/bin/python" -P -m daemon daemon --home "$1/home"
"""
"""As in the compose file: read-only root, a small /tmp without exec, no rights, an init, a user nobody knows. $1 is
the folder; the Python environment $2, the code $3 and the Python below them $4 are put where any user can read them.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that any user can reach, as pytest's own cannot be."""
    made = Path("/var/tmp") / f"dropframe-image-{os.getpid()}"
    shutil.rmtree(made, ignore_errors=True)
    for name in ("home/inbox", "home/outbox", "home/data", "tmp", "python", "code", "base"):
        (made / name).mkdir(parents=True)
    for path in (made / "home").rglob("*"):
        os.chown(path, 12345, 12345)
    os.chown(made / "home", 12345, 12345)
    yield made
    shutil.rmtree(made)


@contextmanager
def contained(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start the daemon restricted as in a container; yield the outer process and its log."""
    programs.skip_without("tini", "root")
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*NAMESPACES, "bash", "-c", RESTRICTED, "bash", str(folder), sys.prefix, str(ROOT), sys.base_prefix],
            env={
                **environment(FAST),
                "HOME": "/tmp",
                "TMPDIR": "/tmp",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(folder / "code"),
            },
            cwd="/",
            stdout=output,
            stderr=output,
        )
    try:
        yield process, log
    finally:
        for inside in children(process.pid):  # setpriv takes away the signal that would end it with its parent
            os.kill(inside, signal.SIGKILL)
        process.kill()
        process.wait(30)


@pytest.mark.slow
def test_the_daemon_works_as_a_foreign_user_on_a_read_only_root_and_ends_on_term(folder: Path) -> None:
    clip = make_clip(folder / "home" / "inbox" / "a.mp4", frames=8, size=(640, 360), text="GOAL 42")
    os.chown(clip, 12345, 12345)
    with contained(folder) as (process, log):
        result = folder / "home" / "outbox" / "a.mp4.json"

        def done() -> bool:
            assert process.poll() is None, log.read_text()
            return result.exists()

        wait_for(done, 240, "there was no result")
        assert json.loads(result.read_text())["summary"]["texts"] == ["GOAL 42"], log.read_text()
        assert result.stat().st_uid == 12345
        health = subprocess.run(
            [sys.executable, "-m", "daemon", "health", "--home", str(folder / "home")],
            env=environment(FAST),
            capture_output=True,
            text=True,
        )
        assert health.returncode == 0, health.stdout
        (init,) = children(process.pid)
        os.kill(init, signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data", "inbox", "outbox"])
def test_a_folder_of_another_user_is_named_with_what_to_do(folder: Path, name: str) -> None:
    os.chown(folder / "home" / name, 0, 0)
    (folder / "home" / name).chmod(0o755)
    with contained(folder) as (process, log):
        assert process.wait(120) == 5, log.read_text()
        assert f"{folder / 'home' / name} cannot be used" in log.read_text()
        assert "Give user 12345 the right to write" in log.read_text()
