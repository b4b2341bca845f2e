"""Which code made the frames so far: any change of it is another version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import daemon
from daemon.pipeline.code_version import code_version, digest_of

PACKAGE = Path(daemon.__file__).parent
CODE = "from daemon.pipeline.code_version import code_version; print(code_version(()))"


def test_a_constant_that_is_changed_is_another_version(tmp_path: Path) -> None:
    copy = tmp_path / "daemon"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert digest_of([copy]) == digest_of([PACKAGE]), "compiled files and places make no difference"
    looks = copy / "pipeline" / "looks.py"
    looks.write_text(re.sub(r"RECENT_LOOKS = \d+", "RECENT_LOOKS = 7", looks.read_text()))
    assert digest_of([copy]) != digest_of([PACKAGE])
    told = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    assert told == f"daemon={digest_of([copy])}" != code_version(())


def test_the_code_of_another_package_s_stages_counts_too(tmp_path: Path) -> None:
    (tmp_path / "brightness.py").write_text("class Stage: pass\n")
    code = "from brightness import Stage; from daemon.pipeline.code_version import code_version;"
    told = []
    for more in ("", "LEAST = 3\n"):
        with (tmp_path / "brightness.py").open("a") as file:
            file.write(more)
        environment = {"PYTHONPATH": f"{tmp_path}:{PACKAGE.parent}"}
        done = subprocess.run(
            [sys.executable, "-c", f"{code} print(code_version([Stage()]))"],
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        )
        told.append(done.stdout.split())
    assert [part.partition("=")[0] for part in told[0]] == ["brightness", "daemon"]
    assert told[0][0] != told[1][0]
    assert told[0][1] == told[1][1]
