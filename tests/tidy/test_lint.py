"""The hooks of .pre-commit-config.yaml as tests: ruff, import-linter, mypy, so that one summary tells of everything."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tidy.tree import ROOT

CONFIG = ROOT / ".pre-commit-config.yaml"
HOOKS: list[dict[str, Any]] = [hook for repo in yaml.safe_load(CONFIG.read_text())["repos"] for hook in repo["hooks"]]
PYTEST = "-m pytest -n 0 -q"
"""A hook that runs tests runs those that this very run has."""
TOOLS = [hook for hook in HOOKS if PYTEST not in hook["entry"]]
TESTS = [hook for hook in HOOKS if PYTEST in hook["entry"]]


def run(*command: str | Path, **variables: str) -> None:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)


def test_every_tool_is_a_hook_and_none_is_fetched() -> None:
    assert {hook["id"] for hook in HOOKS} == {"format", "ruff", "imports", "rules", "mypy"}
    assert {hook["language"] for hook in HOOKS} == {"system"}
    assert {repo["repo"] for repo in yaml.safe_load(CONFIG.read_text())["repos"]} == {"local"}
    assert [hook["id"] for hook in HOOKS if "pre-push" in hook.get("stages", ())] == ["mypy"]


@pytest.mark.timeout(900)  # mypy without its cache reads every library once
@pytest.mark.parametrize("hook", TOOLS, ids=lambda hook: hook["id"])
def test_clean(hook: dict[str, Any]) -> None:
    run(*shlex.split(hook["entry"]))


@pytest.mark.parametrize("hook", TESTS, ids=lambda hook: hook["id"])
def test_a_hook_of_tests_names_tests_of_this_run(hook: dict[str, Any]) -> None:
    program, _, files = hook["entry"].partition(f" {PYTEST} ")
    assert (ROOT / program).is_file()
    assert files.split()
    assert all((ROOT / file).is_file() and file.startswith("tests/tidy/test_") for file in files.split())


def test_pre_commit_takes_the_configuration_and_runs_a_hook(tmp_path: Path) -> None:
    pre_commit = (sys.executable, "-m", "pre_commit")
    run(*pre_commit, "validate-config", CONFIG)
    run(*pre_commit, "run", "format", "--all-files", PRE_COMMIT_HOME=str(tmp_path))


def test_the_chore_runs_the_same_commands() -> None:
    """`./taskw lint` is every hook that is a tool."""
    tasks = yaml.safe_load((ROOT / "Taskfile.yml").read_text())
    words = {"{{.PY}}": tasks["vars"]["PY"], "{{.SOURCES}}": tasks["vars"]["SOURCES"], " --output-format=concise": ""}
    commands = ["\n".join(tasks["tasks"]["lint"]["cmds"]), "\n".join(hook["entry"] for hook in TOOLS)]
    for word, meant in words.items():
        commands = [text.replace(word, meant) for text in commands]
    assert set(commands[0].splitlines()) == set(commands[1].splitlines())
