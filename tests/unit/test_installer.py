"""``make install``: what it asks pip and uv for, and what it says meanwhile."""

from __future__ import annotations

import itertools
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.weights_server import serve
from tools import install


def test_what_runs_dropframe_is_installed_without_what_tests_need() -> None:
    names = {Requirement(line).name for line in install.requirements([], slim=True)}
    assert {"torch", "starlette", "setuptools"} <= names
    assert names & {"pytest", "mypy", "ruff", "onnxruntime-gpu", "obstore"} == set()
    assert "onnxruntime-gpu==1.31.1" in install.requirements(["gpu"], slim=False)
    on_gpu, on_cpu = install.requirements(["dev", "gpu"], slim=False), install.requirements(["dev"], slim=False)
    assert [line for line in on_gpu if line.startswith("onnxruntime")] == ["onnxruntime-gpu==1.31.1"]  # one module
    assert [line for line in on_cpu if line.startswith("onnxruntime")] == ["onnxruntime>=1.31,<1.32"]
    assert any(line.startswith("pytest>") for line in install.requirements(["dev"], slim=False))
    assert {"obstore", "mcp"} <= {Requirement(line).name for line in install.requirements(["s3", "mcp"], slim=True)}
    with pytest.raises(KeyError, match="s4"):
        install.requirements(["s4"], slim=True)


def test_a_python_that_is_too_old_or_too_new_is_told_which_ones_run_dropframe() -> None:
    assert [install.wrong_python((3, minor)) for minor in (11, 12, 13, 14)] == [""] * 4
    assert install.wrong_python((3, 10)) == (
        "Dropframe needs Python 3.11 to 3.14, and this is 3.10; name another one, such as make run PYTHON=python3.11."
    )
    assert "this is 3.15;" in install.wrong_python((3, 15))


def test_a_python_without_tomllib_is_told_so_too(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['tomllib'] = None; sys.version_info = (3, 10, 12); import runpy; "
    code = hide + "sys.argv[0] = sys.argv.pop(1); runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(install.__file__)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Dropframe needs Python 3.11 to 3.14, and this is 3.10;")


def test_of_what_ultralytics_asks_for_everything_is_taken_but_what_is_left_out() -> None:
    asked = {line.name for line in map(Requirement, distribution(install.ULTRALYTICS).requires or []) if for_all(line)}
    direct = {Requirement(line).name for line in install.requirements([], slim=True)}
    assert direct & set(install.LEFT_OUT) == set()
    assert asked - direct == set(install.LEFT_OUT)
    assert set(install.TAKEN) <= asked
    assert install.ULTRALYTICS in {Requirement(line).name for line in install.requirements(["dev"], slim=False)}


def for_all(line: Requirement) -> bool:
    return line.marker is None or line.marker.evaluate({"extra": ""})


def test_make_says_which_extra_there_is_none_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(install, "VENV", tmp_path)
        patch.setattr(install, "BIN", tmp_path / "bin")
        assert install.main(["--extras", "s3,s4"]) == 2
    assert capsys.readouterr().err == "There is no extra 's4'.\n"


def test_without_a_gpu_torch_comes_from_the_index_that_the_image_names(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = install.requirements([], slim=True)
    dockerfile = (install.ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert install.cpu_index()
    assert f"ARG TORCH_INDEX={install.cpu_index()}\n" in dockerfile
    with serve() as server:
        monkeypatch.setenv("TORCH_INDEX", server.url)
        for gpu, asked in ((False, [server.url]), (True, [])):
            command = install.torch_command(needed, gpu)
            assert command[-1].startswith("torch>=")
            assert [word for flag, word in itertools.pairwise(command) if "extra-index" in flag] == asked


def test_an_index_that_does_not_answer_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_INDEX", "http://127.0.0.1:1")
    assert "--extra-index-url" not in install.torch_command(["torch>=2"], gpu=False)


def test_uv_installs_the_rest_where_there_is_one() -> None:
    wheels_alone = ["--only-binary", ":all:"]
    for uv, program in (("/usr/bin/uv", "/usr/bin/uv"), (None, str(install.BIN / "python"))):
        command = install.library_command(Path("r.txt"), uv)
        assert command[0] == program
        assert command[command.index("--only-binary") :][:2] == wheels_alone
        assert command[-2:] == ["-r", "r.txt"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Collecting numpy>=2.4 (from -r r.txt (line 4))\n", "fetching numpy"),
        ("  Downloading av-18.1.0-cp311-manylinux.whl (40.1 MB)\n", "fetching av (40.1 MB)"),
        ("Installing collected packages: a, b, c\n", "unpacking 3 packages"),
        ("Prepared 63 packages in 6.18s\n", "Prepared 63 packages in 6.18s"),
        ("Requirement already satisfied: torch\n", ""),
    ],
)
def test_what_pip_is_at_is_said_shortly(line: str, said: str) -> None:
    assert install.what_it_does(line) == said


def test_a_step_that_fails_shows_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert install.run(2, [sys.executable, "-c", "print('Collecting torch'); print('no space left'); exit(3)"]) == 3
    out, err = capsys.readouterr()
    assert "fetching torch" in out
    assert "no space left" in err


def test_it_is_read_by_a_python_that_has_nothing_installed() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-S", "-I", "-c", code, str(install.__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"daemon", "packaging", "rich", "typer"} == set()
