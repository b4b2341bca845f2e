"""A disk that falls sick and gets well: for the processes that are started with its environment, and no others.

A small library is compiled and loaded before the C library's own functions (ld.so(8), LD_PRELOAD). While a folder is
said to be sick, calls that touch it or an open file below it fail as the kernel has them fail. A real device that
does so needs kernel modules that test machines do not have.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path

from daemon.jobs import Job, JobStatus
from tests import programs

GOES_ON_SECONDS = 30.0
"""From when a disk is well again until all that it held up has been begun."""


class Sickness(Enum):
    """What fails, and how the kernel says so."""

    DEAD = "rws", errno.EIO
    """Nothing works, as on a file system that has shut itself down: not even looking at a file."""
    UNSYNCED = "s", errno.EIO
    """Writes are taken and never reach the disk; fsync says so."""
    READ_ONLY = "w", errno.EROFS
    """Nothing can be written any more, to files that are open for it neither; a mount with such files that is made
    read-only by hand is refused by the kernel."""


SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    char kinds[8]; /* of calls that fail: r(ead), w(rite), s(ync) */
    int number;    /* of the error */
    char folder[4084];
} *said;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("SICK_DISK"), O_RDONLY | O_CLOEXEC);
    void *shared = file < 0 ? MAP_FAILED : mmap(0, sizeof *said, PROT_READ, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) said = shared;
    if (file >= 0) close(file);
}

/* The path of an open file, of "path" in the open folder "at", or of both written as /proc/self/fd/... */
static int sick(char kind, int at, const char *path) {
    char whole[8192], link[64];
    long length = 0;
    int skipped = 0;
    if (!said || !*(volatile char *)said->kinds || !strchr(said->kinds, kind)) return 0;
    if (path && sscanf(path, "/proc/self/fd/%d%n", &at, &skipped) == 1) path += skipped;
    else if (path && *path == '/') at = -1;
    if (at >= 0 || at == AT_FDCWD) {
        if (at == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else sprintf(link, "/proc/self/fd/%d", at);
        length = syscall(SYS_readlink, link, whole, 4096);
        if (length < 0) return 0;
    }
    whole[length] = 0;
    if (path && *path) snprintf(whole + length, sizeof whole - length, "%s%s", *path == '/' ? "" : "/", path);
    length = strlen(said->folder);
    if (strncmp(whole, said->folder, length) || (whole[length] && whole[length] != '/')) return 0;
    errno = said->number;
    return 1;
}

#define WRAP(type, fails, name, fault, given, passed) \
    type name given { \
        static type (*real) given; \
        if (fault) return fails; \
        if (!real) real = (type(*) given)dlsym(RTLD_NEXT, #name); \
        return real passed; \
    }
#define FD(type, kind, name, given, passed) WRAP(type, -1, name, sick(kind, fd, 0), given, passed)
#define PATH(type, kind, name, given, passed) WRAP(type, -1, name, sick(kind, AT_FDCWD, path), given, passed)
#define AT(type, kind, name, given, passed) WRAP(type, -1, name, sick(kind, at, path), given, passed)

FD(ssize_t, 'r', read, (int fd, void *to, size_t size), (fd, to, size))
FD(ssize_t, 'r', pread64, (int fd, void *to, size_t size, off64_t from), (fd, to, size, from))
FD(ssize_t, 'w', write, (int fd, const void *data, size_t size), (fd, data, size))
FD(ssize_t, 'w', pwrite64, (int fd, const void *data, size_t size, off64_t to), (fd, data, size, to))
FD(ssize_t, 'w', writev, (int fd, const struct iovec *data, int count), (fd, data, count))
FD(int, 'w', ftruncate64, (int fd, off64_t size), (fd, size))
FD(int, 'w', futimens, (int fd, const struct timespec *times), (fd, times))
FD(int, 's', fsync, (int fd), (fd))
FD(int, 's', fdatasync, (int fd), (fd))
FD(int, 'r', fstat64, (int fd, struct stat64 *to), (fd, to))
WRAP(ssize_t, -1, sendfile64, sick('w', fd, 0) || sick('r', from, 0),
     (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))
WRAP(DIR *, 0, fdopendir, sick('r', fd, 0), (int fd), (fd))
WRAP(DIR *, 0, opendir, sick('r', AT_FDCWD, path), (const char *path), (path))
PATH(int, 'r', stat64, (const char *path, struct stat64 *to), (path, to))
PATH(int, 'r', lstat64, (const char *path, struct stat64 *to), (path, to))
AT(int, 'r', fstatat64, (int at, const char *path, struct stat64 *to, int flags), (at, path, to, flags))
PATH(int, 'w', unlink, (const char *path), (path))
AT(int, 'w', unlinkat, (int at, const char *path, int flags), (at, path, flags))
PATH(int, 'w', mkdir, (const char *path, mode_t mode), (path, mode))
AT(int, 'w', mkdirat, (int at, const char *path, mode_t mode), (at, path, mode))
WRAP(int, -1, rename, sick('w', AT_FDCWD, path) || sick('w', AT_FDCWD, to), (const char *path, const char *to),
     (path, to))
WRAP(int, -1, renameat, sick('w', at, path) || sick('w', in, to), (int at, const char *path, int in, const char *to),
     (at, path, in, to))
WRAP(int, -1, renameat2, sick('w', at, path) || sick('w', in, to),
     (int at, const char *path, int in, const char *to, unsigned flags), (at, path, in, to, flags))
WRAP(int, -1, link, sick('w', AT_FDCWD, path) || sick('w', AT_FDCWD, to), (const char *path, const char *to),
     (path, to))

int statvfs64(const char *path, struct statvfs64 *to) {
    static int (*real)(const char *, struct statvfs64 *);
    if (sick('r', AT_FDCWD, path)) return -1;
    if (!real) real = (int (*)(const char *, struct statvfs64 *))dlsym(RTLD_NEXT, "statvfs64");
    int failed = real(path, to);
    if (!failed && sick('w', AT_FDCWD, path) && errno == EROFS) to->f_flag |= ST_RDONLY;
    return failed;
}

static int open_unless_sick(int at, const char *path, int flags, mode_t mode) {
    if (sick(flags & (O_CREAT | O_TRUNC | O_ACCMODE) ? 'w' : 'r', at, path)) return -1;
    return syscall(SYS_openat, at, path, flags, mode);
}

#define OPEN(name, at, ...) \
    int name(__VA_ARGS__, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return open_unless_sick(at, path, flags, mode); \
    }

OPEN(open, AT_FDCWD, const char *path)
OPEN(open64, AT_FDCWD, const char *path)
OPEN(openat, at, int at, const char *path)
OPEN(openat64, at, int at, const char *path)
"""


class SickDisk:
    """A folder below which calls can be had to fail with EIO.

    Args:
        folder: For the library and the file that says what is sick.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "sick"
        self._file.write_bytes(bytes(4096))
        library = folder / "sick.so"
        programs.skip_without("gcc")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-", "-ldl"]
        subprocess.run(command, input=SOURCE, text=True, check=True, capture_output=True)
        self.environment = {"LD_PRELOAD": str(library), "SICK_DISK": str(self._file)}

    @contextmanager
    def sick(self, folder: Path, sickness: Sickness) -> Iterator[None]:
        """Have calls below a folder, an absolute path without links, fail for a while."""
        kinds, number = sickness.value
        with self._file.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("i", number) + os.fsencode(folder) + b"\0", 8)
            os.pwrite(file.fileno(), kinds.encode(), 0)
            try:
                yield
            finally:
                os.pwrite(file.fileno(), bytes(8), 0)


def places(home: Path) -> dict[str, Path]:
    """Return every folder of a home that may be on a disk of its own, by name."""
    return {
        "data": home / "data",
        "spool": home / "data" / "spool",
        "inbox": home / "inbox",
        "outbox": home / "outbox",
        "temp": home / "temp",
    }


def check_went_on(jobs: Iterable[Job], well: datetime) -> None:
    """Fail unless jobs that a disk held up are completed, in one attempt that began soon after it was well."""
    jobs = list(jobs)
    assert {(job.status, job.attempts, job.error_message) for job in jobs} == {(JobStatus.COMPLETED, 1, None)}
    begun = max(datetime.fromisoformat(job.started_at or "") for job in jobs)
    seconds = max(0.0, (begun - well).total_seconds())
    print(f"all that was held up had begun {seconds:.1f} s after the disk was well")
    assert seconds < GOES_ON_SECONDS
