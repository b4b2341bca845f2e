"""A wall clock that a test can move: for the processes that are started with its environment, and no others.

A small library is compiled and loaded before the C library's own functions (ld.so(8), LD_PRELOAD). The steady clock,
which waits are measured by, is left alone, as it is when somebody sets the clock of a machine.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests import programs

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("MOVED_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *shared = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) offset = shared;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, which, now);
    if (!failed && offset && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *stored) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (stored) *stored = precise.tv_sec;
    return precise.tv_sec;
}
"""


class MovedClock:
    """A clock that differs from the machine's.

    Args:
        folder: For the library and the file that holds the difference.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        library = folder / "clock.so"
        self.move(0)
        programs.skip_without("gcc")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-"]
        subprocess.run(command, input=SOURCE, text=True, check=True, capture_output=True)
        self.environment = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self._file)}

    def move(self, seconds: int) -> None:
        """Have it differ by so many seconds from now on."""
        flags = "r+b" if self._file.exists() else "wb"
        with self._file.open(flags) as file:
            file.write(struct.pack("l", seconds))
