"""What our processes have in common."""

from __future__ import annotations

import os


def keep_standard_files_open() -> None:
    """Put /dev/null where a process was started without standard input, output or error.

    Otherwise the next file to be opened, perhaps the job store's, would get that number, and what a library prints
    would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
