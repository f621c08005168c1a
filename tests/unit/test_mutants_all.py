"""Every fault that is put into the product is noticed by a test: minutes, so by hand (`./taskw test:slow`)."""

import subprocess
import sys

import pytest

from tests.mutants.faults import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_every_fault_is_noticed() -> None:
    command = (sys.executable, "-m", "tests.mutants")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
