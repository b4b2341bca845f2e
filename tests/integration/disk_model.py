"""A model of a disk under the system calls of real processes: what could be on it after a power cut.

``traced`` runs a command under strace, ``operations`` reads the trace, and ``Disk`` carries the operations out.
A written byte is sure to be on the disk once its file was synced, a name once its folder was. A rename is one step,
between two folders too, and a new folder is there with the first thing synced in it (as on ext4, XFS and btrfs).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests import programs

CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,link,linkat,sendfile"
WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
DESCRIPTOR = re.compile(r"^(?:AT_FDCWD|\d+)(?:<(.*)>)?$")
OWN_DESCRIPTOR = re.compile(r"^/proc/self/fd/(\d+)/(.*)$")


@dataclass(frozen=True)
class Operation:
    """One thing that a process did to files. Paths are relative to the home."""

    kind: str
    """create, write, truncate, sync, rename, link, unlink, said (to its standard output or error)."""
    path: str
    other: str = ""
    """Second path of rename and link."""
    data: bytes = b""
    size: int = 0
    """Of truncate; offset of a copied piece in ``other``, which then names where it came from."""


def traced(command: Sequence[object], trace: Path) -> list[str]:
    """Return the command that runs another and writes its system calls, and those of its children, to a file."""
    programs.skip_without("strace")
    strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "100000000", "--seccomp-bpf", "-e", "signal=none"]
    return [*strace, "-e", f"trace={CALLS}", "-o", str(trace), *map(str, command)]


def operations(trace: Path, home: Path, output: Path) -> Iterator[Operation]:
    """Read a trace: what was done below a home, and what was said to a file of output."""
    waiting: dict[str, str] = {}
    folders: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        if begun := BEGUN.match(line):
            waiting[begun[1]] = f"{begun[1]} {begun[2]}({begun[3]}"
            continue
        if ended := ENDED.match(line):
            line = waiting.pop(ended[1]) + ended[3]
        whole = WHOLE.match(line)
        if whole is None or int(whole[4]) < 0:
            continue
        call, result = whole[2], int(whole[4])
        arguments = [_Argument(text) for text in whole[3].split(", ")]
        if call == "openat":
            opened = re.search(r"= \d+<(.*)>$", line)
            if opened and "O_DIRECTORY" in line:
                folders[str(result)] = _plain(opened[1])
        yield from _operation(call, arguments, result, home, output, folders)


def _operation(
    call: str, a: list[_Argument], result: int, home: Path, output: Path, folders: Mapping[str, str]
) -> Iterator[Operation]:
    def at(folder: _Argument | None, name: _Argument) -> str | None:
        """Return a path relative to the home, or None if it is elsewhere."""
        text = name.text
        if own := OWN_DESCRIPTOR.match(text):
            text = f"{folders[own[1]]}/{own[2]}"
        elif folder is not None and not text.startswith("/"):
            text = f"{folder.path}/{text}"
        return _below(text, home)

    if call == "openat" and ("O_CREAT" in a[2].raw or "O_TRUNC" in a[2].raw) and (path := at(a[0], a[1])):
        yield Operation("create", path)
        if "O_TRUNC" in a[2].raw:
            yield Operation("truncate", path)
    elif call in ("write", "pwrite64"):
        if path := _below(a[0].path, home):
            yield Operation("write", path, data=a[1].data[:result])
        elif a[0].path == str(output):
            yield Operation("said", "", data=a[1].data)
    elif call == "sendfile" and (path := _below(a[0].path, home)):
        start = int(re.search(r"\[(\d+)\]", a[2].raw)[1])  # type: ignore[index]
        yield Operation("copy", path, _below(a[1].path, home) or "", size=start, data=b"\0" * result)
    elif call in ("fsync", "fdatasync") and (path := _below(a[0].path, home)):
        yield Operation("sync", path)
    elif call == "ftruncate" and (path := _below(a[0].path, home)):
        yield Operation("truncate", path, size=int(a[1].raw))
    elif call in ("rename", "renameat", "renameat2", "link", "linkat"):
        short = call in ("rename", "link")
        source, target = (at(None, a[0]), at(None, a[1])) if short else (at(a[0], a[1]), at(a[2], a[3]))
        if source or target:
            yield Operation("link" if call.startswith("link") else "rename", source or "", target or "")
    elif call in ("unlink", "unlinkat") and (path := at(None, a[0]) if call == "unlink" else at(a[0], a[1])):
        yield Operation("unlink", path)  # removing a folder so has no effect: it is no name of a file


class _Argument:
    """One argument of a system call, as strace shows it."""

    def __init__(self, raw: str) -> None:
        self.raw = raw

    @property
    def path(self) -> str:
        """The path of a descriptor."""
        shown = DESCRIPTOR.match(self.raw)
        return _plain(shown[1]) if shown and shown[1] else ""

    @property
    def data(self) -> bytes:
        return bytes.fromhex(self.raw.strip('"').replace("\\x", ""))

    @property
    def text(self) -> str:
        return self.data.decode()


def _plain(shown: str) -> str:
    text = bytes.fromhex(shown.replace("\\x", "")).decode() if shown.startswith("\\x") else shown
    return text.removesuffix(" (deleted)")


def _below(path: str, home: Path) -> str | None:
    return path[len(str(home)) + 1 :] if path.startswith(f"{home}/") else None


@dataclass(frozen=True)
class Name:
    """A change of a folder that may not be on the disk yet: a file gets a name, or loses one, or both."""

    number: int
    gained: str | None
    lost: str | None

    def apply(self, names: dict[str, int]) -> None:
        """Carry it out."""
        if self.lost is not None and names.get(self.lost) == self.number:
            del names[self.lost]
        if self.gained is not None:
            names[self.gained] = self.number

    def is_in(self, folder: str) -> bool:
        """Tell whether syncing a folder makes it sure."""
        return str(PurePosixPath(self.gained or self.lost or "").parent) == folder


State = tuple[tuple[str, int, bytes], ...]
"""Path, number of the file and content of every file that is there."""


class Disk:
    """What processes see, and what of it is sure to be on the disk.

    Args:
        files: What is there and sure at the beginning.
        relevant: Says which paths count.
    """

    def __init__(self, files: Mapping[str, bytes], relevant: Callable[[str], bool]) -> None:
        self.names = {path: number for number, path in enumerate(sorted(files))}
        self._content = {number: files[path] for path, number in self.names.items()}
        self._sure = dict(self._content)
        self._sure_names = dict(self.names)
        self._pending: list[Name] = []
        self._relevant = relevant
        self._last: tuple[int, bytes] | None = None
        """The file that the last operation wrote to, and its content before."""

    def carry_out(self, operation: Operation) -> None:
        """Do what a process did."""
        self._last = None
        kind, path, other = operation.kind, operation.path, operation.other
        if kind == "create" and path not in self.names:
            number = len(self._content)
            self._content[number] = self._sure[number] = b""
            self._rename(Name(number, path, None))
        elif kind in ("write", "copy") and path in self.names:
            number = self.names[path]
            data = operation.data
            if kind == "copy":
                data = self._content[self.names[other]][operation.size :][: len(data)]
            self._last = number, self._content[number]
            self._content[number] += data
        elif kind == "truncate" and path in self.names:
            number = self.names[path]
            self._content[number] = self._content[number][: operation.size]
        elif kind == "sync":
            if path in self.names:
                number = self.names[path]
                self._sure[number] = self._content[number]
            self._sync_folder(path)
        elif kind == "rename" and path in self.names:
            self._rename(Name(self.names[path], other, path))
        elif kind == "link":
            self._rename(Name(self.names[path], other, None))
        elif kind == "unlink" and path in self.names:
            self._rename(Name(self.names[path], None, path))

    def _rename(self, change: Name) -> None:
        change.apply(self.names)
        self._pending.append(change)

    def _sync_folder(self, folder: str) -> None:
        for change in [change for change in self._pending if change.is_in(folder)]:
            change.apply(self._sure_names)
            self._pending.remove(change)

    def states(self) -> dict[str, State]:
        """Return what may be found after a power cut at this moment, by what the disk has done with it."""
        torn = dict(self._content)
        if self._last is not None:
            number, before = self._last
            written = torn[number][len(before) :]
            torn[number] = before + written[: len(written) // 2]
        return {
            "all is on the disk": self._state(self.names, self._content),
            "the last write is torn": self._state(self.names, torn),
            "only what was synced is on the disk": self._state(self._sure_names, self._sure),
            "names came before what they name": self._state(self.names, self._sure),
            "contents came before names": self._state(self._sure_names, self._content),
        }

    def _state(self, names: Mapping[str, int], content: Mapping[int, bytes]) -> State:
        return tuple((path, n, content[n]) for path, n in sorted(names.items()) if self._relevant(path))


def run_traced(command: Sequence[object], trace: Path, output: Path, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a command under strace, what it says going to a file."""
    with output.open("ab") as said:
        return subprocess.Popen(traced(command, trace), cwd=cwd, stdout=said, stderr=said)
