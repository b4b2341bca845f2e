"""Dropframe speaks to nobody outside the machine, also where the kernel refuses a network namespace of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.system.running import environment

pytestmark = pytest.mark.slow

OUTWARD = re.compile(r"\bAF_INET6?\b")
ADDRESS = re.compile(r'htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)')


@pytest.mark.needs("strace")
def test_no_name_is_looked_up_and_nobody_outside_is_called(tmp_path: Path, weights: Path) -> None:
    """From the first start with new weights to the end of a job, without the isolation of the pipeline process."""
    home, trace = tmp_path / "home", tmp_path / "trace"
    (home / "inbox").mkdir(parents=True)
    (home / "data" / "models").mkdir(parents=True)
    (home / "data" / "models" / weights.name).symlink_to(weights)
    clip = make_clip(tmp_path / "clip.mp4", frames=8)
    variables = {**environment(), "HOME": str(tmp_path), "DROPFRAME_RETRY_SECONDS": "60"}
    variables.pop("CI", None)  # some libraries hold their tongue where they take the machine for a CI's
    strace = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=connect,sendto,sendmsg,sendmmsg,unshare"]
    strace += ["-e", "inject=unshare:error=EPERM"]
    dropframe = [sys.executable, "-m", "daemon"]
    with subprocess.Popen(
        [*strace, *dropframe, "daemon", "--home", str(home)],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as daemon:
        try:
            submit = [*dropframe, "submit", str(clip), "--wait", "--home", str(home)]
            subprocess.run(submit, env=variables, check=True, capture_output=True, timeout=200)
        finally:
            subprocess.run(["pkill", "-TERM", "-P", str(daemon.pid)], check=False)
            daemon.wait(30)
    lines = trace.read_text().splitlines()
    assert any("unshare(" in line and "INJECTED" in line for line in lines), "the isolation was not refused"
    outward = [line for line in lines if OUTWARD.search(line)]
    calls = [(port, address) for line in outward for port, address in ADDRESS.findall(line)]
    assert [call for call in calls if call[0] == "53" or call[1] not in ("127.0.0.1", "::1")] == []
    assert not (tmp_path / "intel").exists(), "OpenVINO keeps an id for its reports there"
