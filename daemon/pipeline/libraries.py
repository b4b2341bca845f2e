"""Which libraries the pipeline needs, and what to do about one that cannot be loaded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType

SYSTEM_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libgomp.so.1": "libgomp1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libstdc++.so.6": "libstdc++6",
    "libxcb.so.1": "libxcb1",
    "libz.so.1": "zlib1g",
}
"""Debian packages by the shared library that they hold."""

LIBRARIES = (
    "av",
    "cv2",
    "numpy",
    "openvino",
    "pytesseract",
    "rapidocr",
    "starlette",
    "tinydb",
    "torch",
    "watchdog",
)


def version_of(module: ModuleType) -> str:
    """Return a library's version, and that of the FFmpeg inside it, which no system update reaches."""
    version = str(getattr(module, "__version__", "can be loaded"))
    if module.__name__ == "av":
        return f"{version} with FFmpeg {module.ffmpeg_version_info}"
    if module.__name__ == "cv2":
        inside = re.search(r"avformat: *YES \(([\d.]+)\)", module.getBuildInformation())
        return f"{version} with libavformat {inside[1]}" if inside else version
    return version


def missing_library(name: str, error: Exception) -> str:
    """Return what to do about a library that cannot be imported."""
    found = re.search(r"(lib[\w+.-]+\.so[.\d]*)", str(error))
    if found is None:
        return f"{name} cannot be imported ({error}); install Dropframe again."
    package = SYSTEM_PACKAGES.get(found[1])
    where = f"the package {package}" if package else "the package that has it (apt-file search finds it)"
    return f"{name} needs the system library {found[1]}; install {where}."


@contextmanager
def without_init(package: str) -> Iterator[None]:
    """Let modules of a package be imported without all that its ``__init__`` imports."""
    spec = None if package in sys.modules else find_spec(package)
    if spec is None:  # it is there as a whole, or an import says that it is missing
        yield
        return
    sys.modules[package] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]
