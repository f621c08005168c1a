"""The release workflow: its shape, and all of it that runs without GitHub and Docker, run for real."""

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from packaging.utils import canonicalize_name

from tests.tidy.test_locks import MEMBERS, locked, project
from tests.tidy.tree import ROOT, paths, sources
from tests.tidy.workflows import loaded

VERSION = project(".")["project"]["version"]
NOTES = "- Something that users see."
BILL = f"keyforge-{VERSION}.cdx.json"
WORKFLOW = loaded(next(source for source in sources() if source.path == ".github/workflows/release.yml"))


def script(job: str, name: str) -> str:
    """What a step of the workflow runs."""
    return str(next(step["run"] for step in WORKFLOW["jobs"][job]["steps"] if step.get("name") == name))


def shell(text: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does."""
    command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text)
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def make(top: Path, *tag: str) -> subprocess.CompletedProcess[str]:
    """Run `./taskw dist` in a copy, as go-task would."""
    uv = ROOT / ".venv-tool" / "bin" / "uv"
    command = (sys.executable, str(top / "deploy" / "make_dist.py"), str(uv), str(top / "dist"), *tag)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    return subprocess.run(command, cwd=top, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which the changelog has a part about this version."""
    top = tmp_path_factory.mktemp("release")
    for path in paths():
        if path.startswith(("libs/", "services/", "deploy/", "pyproject.toml", "CHANGELOG.md")):
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, top / path)
    log = top / "CHANGELOG.md"
    log.write_text(
        f"# Changelog\n\n## [Unreleased]\n\n## [{VERSION}] - 2026-01-02\n\n{NOTES}\n\n## [0.0.1]\n\n- Old.\n"
    )
    return top


@pytest.fixture(scope="module")
def dist(checkout: Path) -> Path:
    """What the release carries, but for the image."""
    done = make(checkout, f"v{VERSION}")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "dist"


def test_it_runs_for_a_tag_of_a_version_and_for_nothing_else() -> None:
    assert WORKFLOW["on"] == {"push": {"tags": ["v*"]}}


def test_nothing_is_built_before_the_gate_and_nothing_published_before_it_is_built() -> None:
    assert {name: job.get("needs") for name, job in WORKFLOW["jobs"].items()} == {
        "gate": None,
        "build": "gate",
        "publish": "build",
    }
    assert script("gate", "Gate") == ".ci/run"


def test_what_its_steps_name_is_there() -> None:
    text = "\n".join(step.get("run", "") for job in WORKFLOW["jobs"].values() for step in job["steps"])
    named = re.findall(r"(?<![\w./])((?:\./|\.ci/|deploy/)[\w./-]+)", text)
    assert {"./taskw", ".ci/run", "deploy/Dockerfile"} <= set(named)
    assert all((ROOT / path).is_file() for path in named)
    chores = yaml.safe_load((ROOT / "Taskfile.yml").read_text())["tasks"]
    assert [chore for chore in re.findall(r"\./taskw ([\w:-]+)", text) if chore not in chores] == []


def test_the_image_is_built_from_the_dockerfile_and_carried() -> None:
    """There is no Docker where this runs: the Dockerfile itself is tested in tests/unit/test_deploy_image.py."""
    build, save = script("build", "Image").splitlines()
    assert build == 'docker build --file deploy/Dockerfile --tag "keyforge:${TAG#v}" .'
    assert save.endswith('> "dist/keyforge-image-${TAG#v}.tar.gz"')


def test_every_member_is_a_wheel_of_this_version(dist: Path) -> None:
    wheels = {f"keyforge_{Path(member).name}-{VERSION}-py3-none-any.whl" for member in MEMBERS}
    assert {path.name for path in dist.iterdir()} == wheels | {BILL, "NOTES.md"}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_wheel_holds_its_sources_and_nothing_else(dist: Path, member: str) -> None:
    name = f"keyforge_{Path(member).name}-{VERSION}"
    with zipfile.ZipFile(dist / f"{name}-py3-none-any.whl") as wheel:
        held = {path for path in wheel.namelist() if not path.startswith(f"{name}.dist-info/") and path[-1] != "/"}
        metadata = wheel.read(f"{name}.dist-info/METADATA").decode()
    folder = f"{member}/src/"
    assert held == {path.removeprefix(folder) for path in paths() if path.startswith(folder)}
    assert f"\nVersion: {VERSION}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def test_the_bill_names_everything_that_is_locked_for_the_image_and_every_member_in_it(dist: Path) -> None:
    bill = json.loads((dist / BILL).read_text())
    named = {component["name"]: component["version"] for component in bill["components"]}
    wanted = {name: str(version) for name, version in locked("deploy/image.lock").items()}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    installed = set(re.findall(r"\b(?:libs|services)/([a-z]+)\b", dockerfile))
    assert named == wanted | {f"keyforge-{name}": VERSION for name in installed}


def test_each_package_has_its_hashes_and_somebody_who_needs_it(dist: Path) -> None:
    bill = json.loads((dist / BILL).read_text())
    entries = re.split(r"\n(?=[a-z])", (ROOT / "deploy" / "image.lock").read_text())
    hashes = {entry.partition("==")[0]: set(re.findall(r"sha256:([0-9a-f]{64})", entry)) for entry in entries}
    needed = {one for edge in bill["dependencies"] for one in edge.get("dependsOn", ())}
    for component in bill["components"]:
        name = canonicalize_name(component["name"])
        assert component["purl"] == f"pkg:pypi/{name}@{component['version']}"
        assert component["bom-ref"] in needed, name
        if name in hashes:
            assert {one["content"] for one in component["hashes"]} == hashes[name]


def test_the_bill_is_cyclonedx(dist: Path) -> None:
    """By the schema that CycloneDX's own library brings."""
    folder = importlib.resources.files("cyclonedx.schema") / "_res"
    schemas: dict[str, Any] = {
        f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json": json.loads(
            (folder / f"{name}.SNAPSHOT.schema.json").read_text()
        )
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    bom, *_ = schemas.values()
    registry = jsonschema_rs.Registry(list(schemas.items()))
    validator = jsonschema_rs.validator_for(bom, registry=registry)
    bill = json.loads((dist / BILL).read_text())
    assert [str(error) for error in validator.iter_errors(bill)] == []
    assert not validator.is_valid(bill | {"components": [{"name": "of no type"}]})


def test_the_same_commit_makes_the_same_bytes(checkout: Path, dist: Path) -> None:
    first = {path.name: path.read_bytes() for path in dist.iterdir()}
    assert make(checkout, f"v{VERSION}").returncode == 0
    assert {path.name: path.read_bytes() for path in dist.iterdir()} == first


def test_the_notes_are_the_changelogs_part_about_this_version(dist: Path) -> None:
    assert (dist / "NOTES.md").read_text() == f"{NOTES}\n"
    assert "--notes-file NOTES.md" in script("publish", "Release")


def test_checksums_are_of_all_that_is_published_and_find_a_changed_byte(dist: Path, tmp_path: Path) -> None:
    top = tmp_path / "dist"
    shutil.copytree(dist, top)
    (top / f"keyforge-image-{VERSION}.tar.gz").write_bytes(b"an image")
    done = shell(script("build", "Checksums"), tmp_path)
    assert done.returncode == 0, done.stderr
    summed = {line.split()[-1] for line in (top / "SHA256SUMS").read_text().splitlines()}
    assert summed == {path.name for path in top.iterdir()} - {"SHA256SUMS", "NOTES.md"}
    assert shell(script("publish", "Checksums hold"), tmp_path).returncode == 0
    (top / BILL).write_text((top / BILL).read_text().replace(VERSION, "9.9.9", 1))
    assert shell(script("publish", "Checksums hold"), tmp_path).returncode != 0


def test_all_of_it_is_attached(dist: Path, tmp_path: Path) -> None:
    """`gh` is played by a program that writes down what it is given."""
    top = tmp_path / "dist"
    shutil.copytree(dist, top)
    (top / f"keyforge-image-{VERSION}.tar.gz").write_bytes(b"an image")
    (top / "SHA256SUMS").write_text("")
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/given"\n')
    gh.chmod(0o755)
    path = f"{gh.parent}:{os.environ['PATH']}"
    done = shell(script("publish", "Release"), tmp_path, PATH=path, TAG=f"v{VERSION}", GITHUB_REPOSITORY="a/b")
    assert done.returncode == 0, done.stderr
    given = (tmp_path / "given").read_text().splitlines()
    assert given[:3] == ["release", "create", f"v{VERSION}"]
    assert set(given[given.index("--") + 1 :]) == {path.name for path in top.iterdir()} - {"NOTES.md"}


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        pytest.param("v99.0.0", f"dist: the tag is v99.0.0, the version {VERSION}", id="a tag of another version"),
        pytest.param(f"v{VERSION}", f"dist: CHANGELOG.md has no part about {VERSION}", id="nothing in the changelog"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tag: str, says: str) -> None:
    if says.startswith("dist: CHANGELOG") and f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text():
        pytest.skip("this very checkout is a release: its changelog has the part")
    done = make(ROOT, tag)
    assert (done.returncode, done.stderr.strip()) == (1, says)


def test_members_of_two_versions_are_refused(checkout: Path, tmp_path: Path) -> None:
    top = tmp_path / "copy"
    shutil.copytree(checkout, top, ignore=shutil.ignore_patterns("dist"))
    member = top / "libs" / "chain" / "pyproject.toml"
    member.write_text(member.read_text().replace(f'version = "{VERSION}"', 'version = "9.9.9"'))
    assert make(top).stderr.strip() == f"dist: the workspace is {VERSION}, but libs/chain is 9.9.9"
