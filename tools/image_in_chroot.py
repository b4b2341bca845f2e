"""Carry out a Dockerfile where there is no container engine: its steps in a chroot, then the image's command.

``sudo python -m tools.image_in_chroot deploy/docker/Dockerfile FOLDER`` needs debootstrap, Debian's archive and a
package index. It is not a sandbox and makes no image: it shows that the commands work. The base image is Debian's
release of the tag's name with Debian's own Python, so a Dockerfile whose Python is another one cannot be tried.
Variables that set up pip (PIP_…) and the Dockerfile's ARGs are taken from the environment; ``--bind`` shows a folder of
this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = re.compile(r"python:3\.\d+-slim-(\w+)|debian:(\w+)-slim")
PYTHON = "ca-certificates,python3,python3-venv"
OWN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
INSIDE = """
set -e
root=$1 user=$2 folder=$3
shift 3
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
cp /etc/resolv.conf "$root/etc/resolv.conf"
for bound in $BOUND; do
    mkdir -p "$root$bound"
    mount --bind "$bound" "$root$bound"
done
exec env -i "${@:2:$1}" chroot --userspec="$user" "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$folder" "${@:$(($1 + 2))}"
"""
"""$1: the root; $2: the user; $3: the folder; then how many variables, they themselves, and the command."""
READY_SECONDS = 120.0


@dataclass
class Stage:
    """What a stage of a build has come to."""

    root: Path
    bound: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": OWN_PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command in it."""
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        named = {**pip, **self.arguments, **self.environment}
        variables = [f"{name}={value}" for name, value in named.items()]
        inside = [str(self.root), self.user, self.folder, str(len(variables)), *variables, *command]
        environment = {**os.environ, "BOUND": " ".join(self.bound)}
        return subprocess.Popen([*NAMESPACES, "bash", "-c", INSIDE, "bash", *inside], env=environment)

    def run(self, command: Sequence[str]) -> None:
        """Run a command in it.

        Raises:
            subprocess.CalledProcessError: it fails.
        """
        with self.start(command) as process:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, command)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions as name and arguments."""
    text = re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, rest in re.findall(r"^([A-Z]+) +(.*)$", text, re.MULTILINE)]


def build(path: Path, folder: Path, bound: Sequence[str]) -> tuple[Stage, Mapping[str, str]]:
    """Carry out a Dockerfile; return its last stage, and by name what the image says of running it."""
    stages: dict[str, Stage] = {}
    said: dict[str, str] = {}
    for number, (name, rest) in enumerate(instructions(path), 1):
        print(f"--- {number}: {name} {rest}", flush=True)
        if name == "FROM":
            base, *named = re.split(r" +AS +", rest)
            stage = Stage(_copy(_base(base, folder), folder / f"stage-{len(stages)}"), bound)
            stages[named[0] if named else ""] = stage
        elif name == "ARG":
            key, _, value = rest.partition("=")
            stage.arguments[key] = os.environ.get(key, value)
        elif name == "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                stage.environment[key] = string.Template(value).substitute(stage.environment)
        elif name == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        elif name == "COPY":
            _put(stage, stages, shlex.split(rest))
        elif name == "RUN":
            stage.run(["/bin/sh", "-c", rest])
        else:
            said[name] = rest
    return stage, said


def _base(image: str, folder: Path) -> Path:
    """Return a root of the Debian that an image is made of, made by debootstrap if it is not there yet."""
    found = BASE.fullmatch(image)
    if found is None:
        raise SystemExit(f"{image} is not made of a release of Debian.")
    release = found[1] or found[2]
    root = folder / release
    if not (root / "usr" / "local" / "bin" / "python").is_symlink():
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PYTHON}", release, root], check=True)
        (root / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
    return root


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    return target


def _put(stage: Stage, stages: Mapping[str, Stage], words: Sequence[str]) -> None:
    """COPY [--from=STAGE] SOURCE… TARGET, of folders their content."""
    origin = ROOT
    if words[0].startswith("--from="):
        origin, words = stages[words[0].removeprefix("--from=")].root, words[1:]
    *sources, target = words
    place = stage.root / os.path.join(stage.folder, target).lstrip("/")
    for source in (origin / name.lstrip("/") for name in sources):
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)


def try_it(stage: Stage, said: Mapping[str, str]) -> None:
    """Start what the image starts, until its own check says that it is well; then end it.

    Raises:
        SystemExit: it does not become healthy, or does not end well.
    """
    check = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
    with stage.start([*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"])]) as process:
        for _ in _seconds(READY_SECONDS):
            if process.poll() is not None:
                raise SystemExit(f"it ended with {process.returncode}")
            if subprocess.run(_inside(process.pid, stage, check), stdout=subprocess.DEVNULL).returncode == 0:
                break
        else:
            # Another user's process does not get the signal that would end it with its parent.
            subprocess.run(["pkill", "--signal", "KILL", "--parent", str(process.pid)], check=False)
            raise SystemExit(f"it was not healthy within {READY_SECONDS:.0f} s")
        print("--- healthy; ending it", flush=True)
        subprocess.run(["pkill", "--parent", str(process.pid)], check=True)
        if process.wait(30):
            raise SystemExit(f"it ended with {process.returncode}")


def _inside(pid: int, stage: Stage, command: Sequence[str]) -> list[str]:
    """Return a command as one of the container's."""
    variables = [f"{name}={value}" for name, value in stage.environment.items()]
    enter = ["nsenter", "--target", str(pid), "--mount", "--", "env", "-i", *variables]
    return [*enter, "chroot", f"--userspec={stage.user}", str(stage.root), *command]


def _seconds(most: float) -> Iterator[None]:
    end = time.monotonic() + most
    while time.monotonic() < end:
        yield
        time.sleep(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, try, and return the exit code."""
    parser = argparse.ArgumentParser(description="Carry out a Dockerfile in a chroot.")
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("folder", type=Path, help="where roots are made; 3 GB, kept for the next time")
    parser.add_argument("--bind", action="append", default=[], metavar="PATH", help="a folder to show inside")
    flags = parser.parse_args(arguments)
    flags.folder.mkdir(parents=True, exist_ok=True)
    stage, said = build(flags.dockerfile, flags.folder.resolve(), flags.bind)
    try_it(stage, said)
    print("--- it works", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
