"""Clients of others: two that their tools make from our description, and two that resume uploads; and judges of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.export_formats import FORMATS
from daemon.ipc import spool
from daemon.ipc.partial_uploads import FOLDER as UPLOADS
from daemon.tokens import Rights, new_token
from tests import programs
from tests.clips import make_clip
from tests.integration.test_http_daemon import running_daemon
from tests.sidecar_process import Sidecar, running_sidecar
from tests.system.documents import blocks
from tests.system.running import ROOT
from tests.troubled_line import TroubledLine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FOLDER = Path(__file__).parents[1] / "clients"
SENTENCE = "HOME 2 - 1 AWAY"
INSTALL_SECONDS = 600.0

EXPORTED = {each.media_type.partition(";")[0] for each in FORMATS.values()}
UNKNOWN = {"video/mp4", "image/jpeg", *(kind for kind in EXPORTED if not kind.startswith("text/"))} - {
    "application/json"
}
"""Types that the tool does not know."""
CONFIG = f"""
package_name_override: dropframe_client
post_hooks: []
content_type_overrides: {json.dumps(dict.fromkeys(sorted(UNKNOWN), "application/octet-stream"))}
"""
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command, which must end well; return what it writes."""
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=own | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(root: Path, names: tuple[str, ...], registry: str, *commands: list[object]) -> Path:
    """Return a folder into which commands have installed what some files of ours name; done once, and kept.

    Where the registry cannot be reached the test is skipped.
    """
    known = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in names)).hexdigest()[:12]
    folder = root / ".pytest_cache" / "clients" / f"{names[0]}-{known}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for name in names:
                shutil.copy(FOLDER / name, folder)
            for command in commands:
                done = subprocess.run(
                    [str(part) for part in command], cwd=folder, capture_output=True, timeout=INSTALL_SECONDS
                )
                if done.returncode != 0:
                    pytest.skip(f"{programs.MISSING}{registry} (it said: {done.stderr.decode()[-300:]})")
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="module")
def npm(pytestconfig: pytest.Config) -> Path:
    """A folder with the tools in node_modules."""
    programs.skip_without("node", "npm")
    install: list[object] = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--cache", "cache"]
    return installed(pytestconfig.rootpath, ("package.json", "package-lock.json"), "the npm registry", install)


@pytest.fixture(scope="module")
def made_for_python(pytestconfig: pytest.Config) -> Path:
    """A virtual environment with the tool, apart from ours, as it pins libraries that we use in other versions."""
    programs.skip_without("python3-venv")
    make: list[object] = [sys.executable, "-m", "venv", "venv"]
    install: list[object] = ["venv/bin/pip", "install", "--quiet", "-r", "requirements.txt"]
    return installed(pytestconfig.rootpath, ("requirements.txt",), "the Python registry", make, install)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar and a daemon."""
    home = tmp_path_factory.mktemp("home")
    for name in ("inbox", "outbox", "data"):
        (home / name).mkdir()
    with running_sidecar(home) as sidecar, running_daemon(home):
        yield sidecar


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=6, size=(320, 240), text=SENTENCE)


def check(printed: str, sidecar: Sidecar) -> None:
    """What a client has seen is what was there."""
    seen: dict[str, Any] = json.loads(printed)
    assert seen["status"] == "completed"
    assert seen["texts"] == [SENTENCE]
    assert seen["frames"] == 3
    assert seen["newest"] == seen["job_id"]
    assert seen["refusal"] == "urn:dropframe:problem:unknown-job"
    assert httpx.get(f"{sidecar.url}/v1/video/status/{seen['job_id']}").json()["source_name"] == "clip.mp4"


def test_a_client_made_for_python_submits_follows_and_reads(
    made_for_python: Path, served: Sidecar, clip: Path, tmp_path: Path
) -> None:
    programs_of = made_for_python / "venv" / "bin"
    (tmp_path / "config.yml").write_text(CONFIG)
    made = run(
        *(programs_of / "openapi-python-client", "generate", "--url", served.url + "/openapi.json"),
        *("--meta", "none", "--config", "config.yml", "--output-path", "dropframe_client", "--fail-on-warning"),
        cwd=tmp_path,
    )
    assert "Unable to parse" not in made
    assert "WARNING" not in made
    shutil.copy(FOLDER / "client.py", tmp_path)
    check(run(programs_of / "python", "client.py", served.url, clip, cwd=tmp_path), served)


def test_a_client_made_for_typescript_fits_its_types_and_submits_follows_and_reads(
    npm: Path, served: Sidecar, clip: Path, tmp_path: Path
) -> None:
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(npm / "node_modules")
    (tmp_path / "openapi.json").write_text(httpx.get(served.url + "/openapi.json").text)
    tools = npm / "node_modules" / ".bin"
    run(tools / "openapi-typescript", "openapi.json", "--output", "schema.d.ts", cwd=tmp_path)
    run(tools / "tsc", cwd=tmp_path)
    check(run("node", "client.js", served.url, clip, cwd=tmp_path), served)


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "with tokens"])
def test_redocly_and_spectral_find_no_error_in_the_description(npm: Path, guarded: bool, tmp_path: Path) -> None:
    secret, token = new_token("tester", Rights.READ)
    with running_sidecar(tmp_path, tokens=[str(token)] if guarded else []) as sidecar:
        sent = {"authorization": f"Bearer {secret}"}
        (tmp_path / "openapi.json").write_text(httpx.get(sidecar.url + "/openapi.json", headers=sent).text)
    tools = npm / "node_modules" / ".bin"
    said = run(tools / "redocly", "lint", "--extends", "recommended", "openapi.json", cwd=tmp_path, **QUIET)
    assert "warning" not in said
    ruleset = FOLDER / "spectral.yaml"
    run(tools / "spectral", "lint", "--ruleset", ruleset, "--fail-severity", "warn", "openapi.json", cwd=tmp_path)


def recipes(language: str, sidecar: Sidecar) -> str:
    """Return the blocks of a language in the page for programs, one after the other."""
    found = blocks(ROOT / "docs" / "programs.md", (language,))
    assert found
    return "\n".join(block.commands for block in found).replace("http://127.0.0.1:8000", sidecar.url)


def test_the_recipes_for_python_do_what_they_say(
    made_for_python: Path, served: Sidecar, clip: Path, tmp_path: Path
) -> None:
    shutil.copy(clip, tmp_path / "street.mp4")
    (tmp_path / "recipes.py").write_text(recipes("python", served))
    said = run(made_for_python / "venv" / "bin" / "python", "recipes.py", cwd=tmp_path).splitlines()
    assert said[0] == "completed None"
    assert said[1:4] == [f"{seconds} {SENTENCE}" for seconds in (0.0, 0.08, 0.16)]
    assert said[4] == f"0.0 0.24 {SENTENCE}"
    assert said[5] in ("pending", "running", "completed")
    assert SENTENCE in (tmp_path / "street.csv").read_text()


def test_the_recipe_for_javascript_submits(npm: Path, served: Sidecar, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "street.mp4")
    (tmp_path / "node_modules").symlink_to(npm / "node_modules")
    (tmp_path / "recipe.mjs").write_text(recipes("js", served))
    job_id = run("node", "recipe.mjs", cwd=tmp_path).strip()
    assert httpx.get(f"{served.url}/v1/video/status/{job_id}").json()["source_name"] == "street.mp4"


LARGE_BYTES = 300_000_000
TROUBLES = [(40_000_000, "kill"), (110_000_000, "kill"), (190_000_000, "cut"), (260_000_000, "kill")]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 300 MB, no two parts of which are alike."""
    folder = tmp_path_factory.mktemp("large")
    begin = make_clip(folder / "clip.mp4", frames=4).read_bytes()
    with (folder / "large.mp4").open("wb") as file:
        file.write(begin + (LARGE_BYTES - len(begin)).to_bytes(4, "big") + b"free")
        while (left := LARGE_BYTES - file.tell()) > 0:
            file.write(os.urandom(min(left, 8 << 20)))
    return folder / "large.mp4"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_one_job(line: TroubledLine, job_id: str, large: Path) -> None:
    assert line.happened == [trouble for _, trouble in TROUBLES]
    [ticket] = spool.pending_submissions(line.sidecar.spool)
    assert (ticket.job_id, ticket.source_name, ticket.options["frame_stride"]) == (job_id, "large.mp4", 5)
    stored = line.sidecar.spool / ticket.video_name
    assert digest(stored) == digest(large)
    assert os.listdir(line.sidecar.spool / UPLOADS) == []
    assert httpx.get(f"{line.url}/v1/jobs/{job_id}").json()["status"] == "pending"
    stored.unlink()  # 300 MB


@pytest.mark.parametrize("piece_bytes", [0, 64_000_000], ids=["whole", "in pieces"])
def test_tus_js_client_uploads_through_three_kills_and_a_cut(
    npm: Path, large: Path, tmp_path: Path, piece_bytes: int
) -> None:
    shutil.copy(FOLDER / "resumable.js", npm)
    with TroubledLine(tmp_path / "home", TROUBLES) as line:
        job_id = run("node", "resumable.js", line.url, large, piece_bytes, cwd=npm).strip()
        is_one_job(line, job_id, large)


def test_tuspy_uploads_through_three_kills_and_a_cut(made_for_python: Path, large: Path, tmp_path: Path) -> None:
    python = made_for_python / "venv" / "bin" / "python"
    with TroubledLine(tmp_path / "home", TROUBLES) as line:
        job_id = run(python, FOLDER / "resumable.py", line.url, large, 64_000_000, cwd=tmp_path)
        is_one_job(line, job_id, large)
