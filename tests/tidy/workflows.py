"""House rules for GitHub's workflows: actions by commit, few permissions, an end to every job, no text as code."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.tidy.tree import Source, Violation

FOLDER = ".github/workflows/"
PINNED = re.compile(r"^\s*-? *uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$")
USES = re.compile(r"^\s*-? *uses: (?!\./)")
JOB_MINUTES_MAX = 60
READ = {"contents": "read"}
WRITERS = {("release.yml", "publish"): {"contents": "write"}}
"""Jobs that may do more than read, each with why it is here: the release is made by one that runs nothing of ours."""


def loaded(source: Source) -> dict[str, Any]:
    """The workflow with its `on`, which YAML 1.1 takes for a truth."""
    document = yaml.safe_load(source.text)
    return {"on" if name is True else name: value for name, value in document.items()}


def pinned(source: Source) -> Iterator[Violation]:
    """A tag can be moved to other code, a commit cannot; the comment says which version it is."""
    if not source.path.startswith(FOLDER):
        return
    versions: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(source.lines, 1):
        if not USES.match(line):
            continue
        if not (match := PINNED.match(line)):
            yield source.at(number, f"`{line.strip()}`: owner/name@<40 hex digits of the commit> # v1.2.3")
        elif versions.setdefault(match[1], (match[2], match[3])) != (match[2], match[3]):
            yield source.at(number, f"{match[1]} is pinned to two versions")


def permissions(source: Source) -> Iterator[Violation]:
    """The token can read this repository at most; a job that writes is listed, and checks nothing out."""
    if not source.path.startswith(FOLDER):
        return
    document = loaded(source)
    if document.get("permissions") not in ({}, READ):
        yield source.at(1, "permissions at the top: {} or contents: read")
    for name, job in document["jobs"].items():
        allowed = WRITERS.get((source.parts[-1], name), READ)
        given = job.get("permissions", document.get("permissions"))
        if given not in ({}, READ, allowed):
            yield source.at(1, f"{name}: permissions {given}, at most {allowed}")
        if given not in ({}, READ) and any("actions/checkout" in step.get("uses", "") for step in job["steps"]):
            yield source.at(1, f"{name}: it may write, so it checks nothing out")


def bounded(source: Source) -> Iterator[Violation]:
    """A job that hangs ends within the hour."""
    if not source.path.startswith(FOLDER):
        return
    for name, job in loaded(source)["jobs"].items():
        if not 0 < job.get("timeout-minutes", 0) <= JOB_MINUTES_MAX:
            yield source.at(1, f"{name}: timeout-minutes, at most {JOB_MINUTES_MAX}")


def no_text_as_code(source: Source) -> Iterator[Violation]:
    """What others may write (a branch's name, a title) reaches a script as a variable, never as a part of it."""
    if not source.path.startswith(FOLDER):
        return
    document = loaded(source)
    if "pull_request_target" in document["on"] or "workflow_run" in document["on"]:
        yield source.at(1, "runs with this repository's token on what others sent")
    for name, job in document["jobs"].items():
        for step in job["steps"]:
            if "${{" in step.get("run", ""):
                yield source.at(1, f"{name}: an expression inside a script; give it as a variable (env)")
            if "actions/checkout" in step.get("uses", "") and step.get("with", {}).get("persist-credentials", True):
                yield source.at(1, f"{name}: persist-credentials: false")


ALL = (pinned, permissions, bounded, no_text_as_code)
