"""House rules for GitHub's workflows: actions by commit, few permissions, an end to every job, no text as code."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.tidy.tree import Source, Violation

FOLDER = ".github/workflows/"
ACTIONS = ".github/"
"""Actions of our own are here as well, and use others."""
PINNED = re.compile(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40})")
IMAGE = re.compile(r"docker://[\w.:/-]+@sha256:[0-9a-f]{64}")
VERSION = re.compile(r" # (v\d+\.\d+\.\d+)$")
JOB_MINUTES_MAX = 60
READ = {"contents": "read"}
WRITERS = {("release.yml", "publish"): {"contents": "write"}}
"""Jobs that may do more than read, each with why it is here: the release is made by one that runs nothing of ours."""


def loaded(source: Source) -> dict[str, Any]:
    """The workflow with its `on`, which YAML 1.1 takes for a truth."""
    document = yaml.safe_load(source.text)
    return {"on" if name is True else name: value for name, value in document.items()}


def used(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Every value of a key `uses`, however it is written: in a block, in braces, in quotation marks."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "uses" and isinstance(value, yaml.ScalarNode):
                yield value
            yield from used(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from used(item)


def pinned(source: Source) -> Iterator[Violation]:
    """A tag can be moved to other code, a commit or a digest cannot; the comment says which version a commit is."""
    if not source.path.startswith(ACTIONS) or not source.path.endswith((".yml", ".yaml")):
        return
    versions: dict[str, tuple[str, str]] = {}
    for node in used(yaml.compose(source.text, yaml.SafeLoader)):
        line = node.start_mark.line + 1
        if node.value.startswith("./") or IMAGE.fullmatch(node.value):
            continue
        match, version = PINNED.fullmatch(node.value), VERSION.search(source.lines[line - 1])
        if not match or not version:
            yield source.at(
                line, f"`{node.value}`: owner/name@<40 hex digits> # v1.2.3, or docker://name@sha256:<64 hex digits>"
            )
        elif versions.setdefault(match[1], (match[2], version[1])) != (match[2], version[1]):
            yield source.at(line, f"{match[1]} is pinned to two versions")


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
