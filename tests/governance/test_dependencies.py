"""What is installed is what is pinned, and each dependency is accounted for."""

import re
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import audit

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
FROM_THE_VENV = {"pip"}


def pins() -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {
        canonicalize_name(name): pinned
        for name, pinned in (line.split("==") for line in lines if line and not line.startswith("#"))
    }


def needed() -> dict[str, str]:
    """Return the version of everything that the dependencies need here, they themselves included."""
    found: dict[str, str] = {}
    todo, seen = [Requirement(line) for line in DIRECT], set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found[key[0]] = version(requirement.name).split("+")[0]  # of torch there are builds, such as 2.13.0+cpu
        for line in distribution(requirement.name).requires or []:
            below = Requirement(line)
            extras = requirement.extras or {""}
            if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(below)
    return {name: there for name, there in found.items() if name not in FROM_THE_VENV and not is_cuda(name)}


def is_cuda(name: str) -> bool:
    """Tell whether a package comes with torch's CUDA build, which pins it itself."""
    return name == "triton" or re.fullmatch(r"nvidia-.*(cu\d+|cuda.*)|cuda-.*", name) is not None


def test_what_is_installed_is_what_is_pinned() -> None:
    assert needed() == pins()


def test_each_dependency_has_a_lower_bound_and_one_of_private_names_an_upper() -> None:
    bounds = {line.name: {bound.operator for bound in line.specifier} for line in map(Requirement, DIRECT)}
    assert [name for name, operators in bounds.items() if ">=" not in operators] == []
    private = {"h11", "openvino", "rapidocr", "tinydb", "torch", "ultralytics-opencv-headless", "uvicorn", "watchdog"}
    assert [name for name in private & set(bounds) if "<" not in bounds[name]] == []


def test_each_dependency_is_accounted_for() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(Requirement(line).name for line in DIRECT)
    assert [name for name, *cells in rows if not all(cell.strip() for cell in cells)] == []


def test_the_licences_named_are_those_of_the_packages() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    short = {"BSD-3-Clause": "BSD", "Apache-2.0": "Apache", "AGPL-3.0": "AGPL", "GPL-3.0": "GPL", "MPL-2.0": "MPL"}
    for name, licence in re.findall(r"^\| `([^`]+)` \| .+ \| ([^|(,]+?)(?: \(.*|, .*)? \| .+ \|$", page, re.MULTILINE):
        about = distribution(name).metadata
        said = " ".join([about.get("License-Expression") or "", about.get("License") or ""])
        said += " ".join(line for line in about.get_all("Classifier") or [] if line.startswith("License"))
        wanted = short.get(licence, licence.split("-")[0])
        assert wanted in said or wanted in said.replace("Affero General Public", "AGPL"), (name, licence, said)


def test_an_audit_that_could_look_at_nothing_says_so_and_is_no_failure() -> None:
    skipped = '{"dependencies": [{"name": "a", "skip_reason": "not found"}, {"name": "b", "skip_reason": "x"}]}'
    assert audit.report(skipped) == (0, [f"{audit.SKIPPED}: it knows none of the 2 packages."])
    assert audit.report("") == (0, [f"{audit.SKIPPED}."])


def test_an_audit_that_finds_a_vulnerability_fails_and_names_it() -> None:
    found = """{"dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "aliases": []}]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not found"}]}"""
    code, lines = audit.report(found)
    assert code == 1
    assert lines == ["a 1: CVE-1, mended in 2", "2 packages were looked at, 1 vulnerabilities found; not known: c."]
