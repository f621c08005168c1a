"""House rules that read text: sizes, names, unfinished work, addresses and paths that belong to one machine."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from tests.tidy import exceptions
from tests.tidy.tree import Source, Violation

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50

VAGUE_FILES = re.compile(r"(^|[_/.-])(utils?|helpers?|common|misc|managers?)([_/.-]|$)")
VAGUE_CLASSES = re.compile(r"(Impl|Manager|Helpers?|Utils?)$")
CHOSEN = re.compile(r"\b[Cc]hosen\b[.:,]|\bChosen\b|\bchosen$")
REASON = re.compile(
    r"\d|`|\b[A-Z]+_[A-Z_]+\b|\bhalved\b|\bdoubled\b|\b(?:RFC|ADR|default)\b|\btwice\b|\btimes\b"
    r"|\b(?:half|third|quarter|fifth|sixth|tenth|twentieth|two|three|four|five|six|seven|eight|nine|ten)\b"
)
LIMIT = re.compile(r"_(S|MS|MAX|BYTES)$")
LIMITED = frozenset({"edge", "budget", "keys", "audit", "runtime", "eventlog", "net", "embedded"})
"""Members whose limits and times hold in production."""
UNFINISHED = re.compile("|".join((r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b", "NotImplemented" + "Error")))
CONFLICT = re.compile(r"(<{7}|>{7}|\|{7}) ")
REGISTRY = re.compile(
    r"https?://[^\s\"']*(/simple/?(?=[\"'\s]|$)|/packages/[0-9a-f]{2}/[0-9a-f]{2}/|/-/[^\s\"']*\.tgz|/debian/dists|/pool/main/)"
    r"|files\.python" + r"hosted\.org|registry\.npm" + r"js\.org"
)
MACHINE = re.compile(r"(?<![A-Za-z0-9._/\-$}*)])/(work|farm|root|Users)/[A-Za-z0-9._-]")
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bvk_[A-Za-z0-9]+_[A-Za-z0-9]{40,}"
)

TOP_LEVEL = frozenset(
    """
    .ci .github .gitignore .dockerignore .pre-commit-config.yaml CHANGELOG.md CONTRIBUTING.md LICENSE README.md
    SECURITY.md Taskfile.yml compose.yaml deploy docs libs pyproject.toml requirements.lock services taskw tests
    """.split()  # noqa: SIM905  # a list of words reads better as words
)


def parses(source: Source) -> Iterator[Violation]:
    """Python that does not parse is reported once, here; the other rules see it as empty."""
    if source.is_python and (fault := source.syntax_error) is not None:
        yield source.at(fault.lineno or 1, f"does not parse: {fault.msg}")


def file_length(source: Source) -> Iterator[Violation]:
    if not source.is_python:
        return
    long = len(source.lines) > FILE_LINES_MAX
    if long and source.path not in exceptions.LONG_FILES:
        yield source.at(
            FILE_LINES_MAX + 1, f"{len(source.lines)} lines, at most {FILE_LINES_MAX}: split by reason to change"
        )
    if not long and source.path in exceptions.LONG_FILES:
        yield source.at(1, "is short enough now: remove it from tests/tidy/exceptions.py")


def function_length(source: Source) -> Iterator[Violation]:
    """Lines from `def` to the end; a docstring is not counted, it may hold a spec."""
    if not source.is_python:
        return
    for node in source.nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if ast.get_docstring(node, clean=False) is not None:
            lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
        long, excepted = lines > FUNCTION_LINES_MAX, f"{source.path}::{node.name}" in exceptions.LONG_FUNCTIONS
        if long and not excepted:
            yield source.at(node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}")
        if excepted and not long:
            yield source.at(node.lineno, f"{node.name} is short enough now: remove it from tests/tidy/exceptions.py")


def module_docstring(source: Source) -> Iterator[Violation]:
    if not source.is_python or not source.text.strip() or not source.tree.body:
        return
    docstring = ast.get_docstring(source.tree)
    if not docstring:
        yield source.at(1, "no module docstring: one sentence that lets the reader close the file")
    elif not re.search(r"[.:?]", docstring):
        yield source.at(1, "the module docstring is not a sentence")


def conflicts(source: Source) -> Iterator[Violation]:
    for number, line in enumerate(source.lines, 1):
        if CONFLICT.match(line):
            yield source.at(number, "a merge that was not finished")


def vague_names(source: Source) -> Iterator[Violation]:
    """Names that say nothing of what is inside."""
    if match := VAGUE_FILES.search(source.path):
        yield source.at(1, f"the path says `{match[2]}`, which says nothing: name it after what it does")
    for node in source.nodes if source.is_python else ():
        if isinstance(node, ast.ClassDef) and (match := VAGUE_CLASSES.search(node.name)):
            yield source.at(node.lineno, f"class {node.name}: `{match[0]}` says nothing")


def reasons(source: Source) -> Iterator[Violation]:
    """A constant that was chosen says why: by a figure, another constant, a standard, or what goes wrong otherwise."""
    for node in source.nodes if source.is_product and source.is_python else ():
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        text = str(node.value.value)
        if (match := CHOSEN.search(text)) and not REASON.search(text, match.end()):
            yield source.at(node.lineno, f"`{match[0]}` without a reason: a figure, a constant, a standard")


def explained(source: Source) -> Iterator[Violation]:
    """A limit or a time is followed by its reason; one reason may serve constants that stand line by line above it."""
    if not source.is_python or not source.package or source.package[0] not in LIMITED:
        return
    body = source.tree.body
    for place, node in enumerate(body):
        if not isinstance(node, ast.AnnAssign) or "Final" not in ast.unparse(node.annotation):
            continue
        name = ast.unparse(node.target)
        if LIMIT.search(name) and not _has_docstring(body[place:]):
            yield source.at(
                node.lineno, f"{name} without a docstring: where it comes from, or what goes wrong otherwise"
            )


def _has_docstring(body: list[ast.stmt]) -> bool:
    """Whether a docstring comes next, or after more assignments with no line between."""
    for one, following in pairwise(body):
        if following.lineno != (one.end_lineno or one.lineno) + 1:
            return False
        if isinstance(following, ast.Expr):
            return isinstance(following.value, ast.Constant) and isinstance(following.value.value, str)
        if not isinstance(following, ast.Assign | ast.AnnAssign):
            return False
    return False


def unfinished(source: Source) -> Iterator[Violation]:
    if source.path.endswith((".lock", ".jsonl", ".json")):
        return
    for number, line in enumerate(source.lines, 1):
        if match := UNFINISHED.search(line):
            yield source.at(number, f"`{match[0]}`: finish it, or put it into an issue")


def addresses(source: Source) -> Iterator[Violation]:
    """No package registry, and no path that exists on one machine only."""
    for number, line in enumerate(source.lines, 1):
        if match := REGISTRY.search(line):
            yield source.at(number, f"address of a package registry: {match[0][:60]}")
        if match := MACHINE.search(line):
            yield source.at(number, f"path of one machine: {match[0]}…")


def secrets(source: Source) -> Iterator[Violation]:
    """Nothing that looks like a live secret; a fixture says that it is one."""
    for number, line in enumerate(source.lines, 1):
        if (match := SECRET.search(line)) and "fixture" not in line:
            yield source.at(number, f"looks like a secret: {match[0][:12]}…; a fixture has `fixture` in it")


def top_level(source: Source) -> Iterator[Violation]:
    if source.parts[0] not in TOP_LEVEL:
        yield source.at(1, f"`{source.parts[0]}` at the top: it shows {', '.join(sorted(TOP_LEVEL))} and nothing else")


def package_marker(source: Source) -> Iterator[Violation]:
    """keyforge itself is a namespace (no `__init__.py`); each folder below it is a package and needs one."""
    if source.path.endswith("src/keyforge/__init__.py"):
        yield source.at(1, "keyforge is a namespace package: no __init__.py here, it would hide the other members")
    if source.is_test and source.parts[-1] == "__init__.py":
        yield source.at(1, "tests are modules without packages (--import-mode=importlib)")


ALL = (
    parses,
    file_length,
    function_length,
    module_docstring,
    vague_names,
    reasons,
    explained,
    unfinished,
    conflicts,
    addresses,
    secrets,
    top_level,
    package_marker,
)
