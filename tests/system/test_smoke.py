"""The smoke test tells a Dropframe that works from one that does not. `make smoke` itself is a step of CI."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sidecar_process import running_sidecar
from tests.system import smoke
from tests.system.running import ROOT, environment


def run_smoke(*flags: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.system.smoke", *map(str, flags)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_an_address_where_nobody_answers_fails() -> None:
    done = run_smoke("--base-url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL /readyz gave no answer")


def test_a_sidecar_without_a_daemon_fails_and_says_what_is_wrong(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar:
        done = run_smoke("--base-url", sidecar.url)
    assert done.returncode == 1
    assert "FAIL /readyz answered 503" in done.stdout
    assert "The daemon has never run here" in done.stdout


def test_without_the_right_token_it_fails_with_what_the_sidecar_says(tmp_path: Path) -> None:
    token = f"smoke:submit:{hashlib.sha256(b'secret').hexdigest()}"
    with running_sidecar(tmp_path, tokens=[token]) as sidecar:
        assert "answered 401" in run_smoke("--base-url", sidecar.url).stdout
        assert "answered 503" in run_smoke("--base-url", sidecar.url, "--token", "secret").stdout


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"results": [], "summary": {"texts": [smoke.TEXT]}}, "holds the frames"),
        (
            {"results": [{"frame_index": n} for n in range(smoke.FRAMES)], "summary": {"texts": ["SM0KE"]}},
            "holds the texts",
        ),
    ],
)
def test_a_result_with_the_wrong_content_fails(document: dict[str, object], why: str) -> None:
    with pytest.raises(smoke.Failed, match=why):
        smoke.check_document(document)
