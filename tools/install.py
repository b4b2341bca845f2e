"""Make ``.venv`` with Dropframe in it, step by step, and say how far that is: what ``make install`` calls.

It runs under whatever Python starts it, with nothing installed. Only wheels are taken, at the versions of
constraints.txt. torch comes first, by pip: without an NVIDIA driver in its CPU build, which is a tenth of the other.
The rest is installed by uv where there is one. uv does not do all of it, as it takes no index of its own for one
package without a project file, and does not know the folders of wheels that pip is set up with.

What only runs Dropframe is installed without what Ultralytics needs for training and plots: Ultralytics comes last and
without what it asks for, as pip cannot leave out a part of that. ``pip check`` names what is left out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv"
BIN = VENV / "bin"
DRIVER = Path("/proc/driver/nvidia/version")
"""There where the kernel has NVIDIA's driver."""
INDEX_SECONDS = 5.0
"""How long the index of torch's CPU builds may take to answer; without it pip's own index is asked."""
LINE_SECONDS = 5.0
"""Time between two lines on progress where nobody can see one change."""
UNUSED = (
    "torch/test",
    "torch/include",
    "torch/bin/test_*",
    "torch/bin/protoc*",
    "openvino/libs/libopenvino_intel_[gn]pu_plugin.so",
    "openvino/libs/cache.json",
)
"""What is never loaded here and takes 190 MB: tests and headers of torch, and the devices that OpenVINO is not asked to
use."""
ULTRALYTICS = "ultralytics-opencv-headless"
LEFT_OUT = ("matplotlib", "polars")
"""What Ultralytics asks for to train and to plot. Dropframe never loads it: 230 MB with what it needs in turn."""
TAKEN = (
    "nvidia-ml-py",
    "pillow",
    "psutil",
    "pyyaml",
    "requests",
    "torchvision",
    "ultralytics-platform",
    "ultralytics-thop",
)
"""What else Ultralytics asks for and Dropframe itself does not name. Of torchvision it reads the version."""
STEPS = 4
"""The last one, models, is done by dropframe run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Install; return the exit code."""
    parser = argparse.ArgumentParser(description="Make .venv with Dropframe in it.")
    parser.add_argument("--dev", action="store_true", help="with what tests and checks need")
    parser.add_argument("--gpu", action="store_true", help="with CUDA, also where no NVIDIA driver is found")
    parser.add_argument("--extras", default="", metavar="NAMES", help="extras of pyproject.toml, such as s3,mcp")
    flags = parser.parse_args(arguments)
    if wrong := wrong_python(sys.version_info[:2]):
        print(wrong, file=sys.stderr)
        return 2
    begun = time.monotonic()
    gpu = flags.gpu or DRIVER.exists()
    step(1, f"Virtual environment in {VENV}")
    if not (BIN / "pip").exists():
        try:
            venv.create(VENV, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(VENV, ignore_errors=True)
            print(
                "It cannot be made: Python's venv is not whole here; on Debian, install python3-venv.", file=sys.stderr
            )
            return 1
    extras = [name for name in flags.extras.split(",") if name]
    extras += ["dev"] * flags.dev + ["gpu"] * gpu
    slim = not (flags.dev or gpu)
    try:
        needed = requirements(extras, slim=slim)
    except KeyError as error:
        print(f"There is no extra {error}.", file=sys.stderr)
        return 2
    libraries = VENV / "requirements.txt"
    libraries.write_text("\n".join(needed) + "\n")
    uv = shutil.which("uv")
    step(2, f"Libraries: torch {'with CUDA' if gpu else 'for the CPU'}, then {len(needed)} more and what they need")
    code = run(2, torch_command(needed, gpu)) or run(2, library_command(libraries, uv))
    if code == 0:
        step(3, "Dropframe itself")
        own = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
        code = run(3, [*pip(), *own, *(["--only-binary", ULTRALYTICS, ULTRALYTICS] if slim else [])])
        trim()
    if code:
        print("The lines above say what is wrong; make goes on from here when it is called again.", file=sys.stderr)
        return code
    for stamp in (".installed", *([".dev-installed"] if flags.dev else [])):
        (VENV / stamp).touch()
    print(f"    done in {time.monotonic() - begun:.0f} s", flush=True)
    return 0


def wrong_python(version: tuple[int, int]) -> str:
    """Return what to do about a Python that Dropframe does not run on; nothing if it does."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', text, re.MULTILINE)
    assert found is not None
    oldest, after = int(found[1]), int(found[2])
    if (3, oldest) <= version < (3, after):
        return ""
    return (
        f"Dropframe needs Python 3.{oldest} to 3.{after - 1}, and this is {version[0]}.{version[1]}; name another one, "
        f"such as make run PYTHON=python3.{oldest}."
    )


def requirements(extras: Sequence[str], *, slim: bool) -> list[str]:
    """Return what pyproject.toml asks for, and what building Dropframe itself needs.

    Args:
        extras: Names of extras.
        slim: Without Ultralytics, whose turn comes later, and with what is taken of what it asks for.

    Raises:
        KeyError: there is no such extra.
    """
    import tomllib  # older ones than the oldest that runs Dropframe do not have it, and must hear which one does

    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[str] = [*about["project"]["dependencies"], *about["build-system"]["requires"]]
    for name in extras:
        found += about["project"]["optional-dependencies"][name]
    if "gpu" in extras:  # two packages of one module
        found = [line for line in found if not line.startswith("onnxruntime>")]
    return [line for line in found if not line.startswith(ULTRALYTICS)] + list(TAKEN) if slim else found


def pip() -> list[str]:
    """Return the command that installs, without bytecode: what is imported gets its own."""
    flags = [
        "--disable-pip-version-check",
        "--no-compile",
        "--progress-bar",
        "off",
        "-c",
        str(ROOT / "constraints.txt"),
    ]
    return [str(BIN / "python"), "-m", "pip", "install", *flags]


def torch_command(needed: Sequence[str], gpu: bool) -> list[str]:
    """Return the command that installs torch, from the index of its CPU builds where that is wanted and answers."""
    torch = next(line for line in needed if re.match(r"torch\b", line))
    index = cpu_index()
    more = [] if gpu or not answers(index) else ["--extra-index-url", index]
    return [*pip(), "--only-binary", ":all:", *more, torch]


def cpu_index() -> str:
    """Return the address of the index of torch's CPU builds, which the container image names."""
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    named = re.search(r"^ARG TORCH_INDEX=(\S+)$", text, re.MULTILINE)
    return os.environ.get("TORCH_INDEX") or (named[1] if named else "")


def answers(address: str) -> bool:
    """Tell whether somebody answers at an address, soon."""
    try:
        with urllib.request.urlopen(f"{address}/torch/", timeout=INDEX_SECONDS):
            return True
    except (OSError, ValueError, urllib.error.URLError):
        return False


def library_command(libraries: Path, uv: str | None) -> list[str]:
    """Return the command that installs all but torch."""
    if uv is None:
        return [*pip(), "--only-binary", ":all:", "-r", str(libraries)]
    python = ["--python", str(BIN / "python")]
    return [
        uv,
        "pip",
        "install",
        *python,
        "--only-binary",
        ":all:",
        "-c",
        str(ROOT / "constraints.txt"),
        "-r",
        str(libraries),
    ]


def trim() -> None:
    """Remove what is never loaded."""
    for packages in VENV.glob("lib/python3*/site-packages"):
        for path in itertools.chain.from_iterable(map(packages.glob, UNUSED)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def step(number: int, text: str) -> None:
    """Say that a step begins."""
    print(f"{number}/{STEPS} {text}", flush=True)


def run(number: int, command: Sequence[str]) -> int:
    """Run a command; show what it is at, and all that it said if it fails; return its exit code."""
    said: list[str] = []
    shown = 0.0
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if doing := what_it_does(line):
                if sys.stdout.isatty():
                    print(f"\r\033[K{number}/{STEPS} {doing}"[:120], end="", flush=True)
                elif time.monotonic() - shown > LINE_SECONDS:
                    shown = time.monotonic()
                    print(f"    {doing}", flush=True)
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)
    if process.returncode:
        print("".join(last_lines(said)), file=sys.stderr)
    return process.returncode


def what_it_does(line: str) -> str:
    """Return what a line of pip or uv says that it is at, shortly; nothing if it says something else."""
    if found := re.match(r"Collecting ([A-Za-z0-9._-]+)", line):
        return f"fetching {found[1]}"
    if found := re.match(r" *Downloading (\S+?)(?:-\d\S*)?( \([^)]*\))?\s*$", line):
        return f"fetching {found[1].rsplit('/', 1)[-1]}{found[2] or ''}"
    if found := re.match(r"Installing collected packages: (.*)", line):
        return f"unpacking {found[1].count(',') + 1} packages"
    if re.match(r"(Resolved|Prepared|Installed|Installing|Building|Preparing)\b", line):
        return line.strip()
    return ""


def last_lines(said: Sequence[str], count: int = 30) -> Iterator[str]:
    """Yield the end of what was said."""
    yield from said[-count:]


if __name__ == "__main__":
    sys.exit(main())
