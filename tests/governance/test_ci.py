"""CI, the hooks and people run the same commands, in the order that was agreed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
ORDER = ["governance", "lint", "types", "coverage", "smoke", "registry"]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def targets() -> dict[str, str]:
    """Return the recipe of each make target."""
    text = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)*)", text, re.MULTILINE))


def workflow_steps() -> list[dict[str, Any]]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    steps: list[dict[str, Any]] = loaded["jobs"]["ci"]["steps"]
    return steps


def made(script: str) -> list[str]:
    """Return the make targets that a script runs, in order."""
    return re.findall(r"\bmake ([a-z-]+)", script)


def test_the_workflow_runs_on_every_push_and_pull_request() -> None:
    loaded = yaml.safe_load(WORKFLOW.read_text())
    assert loaded[True] == ["push", "pull_request"]  # YAML reads the key "on" as true


def test_the_pythons_of_the_workflow_are_those_that_the_package_names() -> None:
    loaded = yaml.safe_load(WORKFLOW.read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [line.rpartition(" :: ")[2] for line in project["classifiers"] if ":: Python :: 3." in line]
    assert loaded["jobs"]["ci"]["strategy"]["matrix"]["python"] == named
    assert [f"3.{minor}" for minor in range(20) if f"3.{minor}" in SpecifierSet(project["requires-python"])] == named


def test_workflow_hooks_and_our_ci_run_the_same_targets_governance_first() -> None:
    in_workflow = [target for step in workflow_steps() for target in made(step.get("run", ""))]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    in_hooks = [target for repo in hooks for hook in repo["hooks"] for target in made(hook["entry"])]
    in_ours = made((ROOT / ".ci" / "run").read_text())
    assert in_hooks == ORDER
    assert in_workflow == in_ours == [*ORDER, "audit"]
    assert set(in_ours) <= set(targets())


def test_the_coverage_gate_is_90_percent_of_both_packages() -> None:
    measured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]
    assert measured["run"]["source"] == ["daemon", "sidecar"]
    assert measured["report"]["fail_under"] == 90
    assert "--cov" in targets()["coverage"]


def test_every_target_is_explained_by_make_help() -> None:
    command = ["make", "--no-print-directory", "help"]  # make run by make says where it is
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in said.splitlines()} == set(targets())


@pytest.mark.parametrize(
    "command",
    [
        ["check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW],
        ["pre_commit", "validate-config", ROOT / ".pre-commit-config.yaml"],
    ],
    ids=["workflow", "hooks"],
)
def test_configuration_is_valid(command: list[object]) -> None:
    done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("shellcheck")
def test_each_shell_script_passes_shellcheck() -> None:
    own = [ROOT / ".ci" / "run", ROOT / "tests" / "first_run.sh"]
    scripts = [
        path
        for path in [*own, *(ROOT / "deploy").rglob("*"), *(ROOT / "tools").rglob("*")]
        if path.is_file() and re.match(rb"#!.*\b(ba)?sh\n", path.read_bytes()[:80])
    ]
    assert len(scripts) >= 3
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
