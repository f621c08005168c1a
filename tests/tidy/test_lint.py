"""ruff, mypy and import-linter as tests, so that one command and one summary tell of everything."""

import subprocess
import sys

import pytest

from tests.tidy.tree import ROOT

PYTHON_FOLDERS = ("libs", "services", "tests", "deploy")


@pytest.mark.timeout(900)  # mypy without its cache reads every library once
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("-m", "ruff", "format", "--check", *PYTHON_FOLDERS), id="format"),
        pytest.param(("-m", "ruff", "check", "--output-format=concise", *PYTHON_FOLDERS), id="ruff"),
        pytest.param(("-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-logo"), id="imports"),
        pytest.param(("-m", "mypy", *PYTHON_FOLDERS), id="mypy"),
    ],
)
def test_clean(command: tuple[str, ...]) -> None:
    done = subprocess.run((sys.executable, *command), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
