"""Libraries: what is imported of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from daemon.pipeline.libraries import without_init


def test_a_module_is_imported_without_what_its_package_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("WHOLE = True\n")
    (package / "part.py").write_text("SMALL = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with without_init("heavy_package"):
        part = importlib.import_module("heavy_package.part")
        assert not hasattr(sys.modules["heavy_package"], "WHOLE")
    assert part.SMALL == 1
    whole = importlib.import_module("heavy_package")
    assert whole.WHOLE  # whoever imports the package afterwards gets all of it
    with without_init("heavy_package"):
        assert sys.modules["heavy_package"] is whole
    for name in ("heavy_package.part", "heavy_package"):
        monkeypatch.delitem(sys.modules, name)


def test_a_package_that_is_missing_is_told_by_the_import() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), without_init("no_such_package"):
        importlib.import_module("no_such_package.part")
