"""A newcomer's minute: each step of a request that README and docs/architecture.md name is in the file they name."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.tidy.tree import ROOT

ROW = re.compile(
    r"^\| (?P<step>[^|]+) \| (?P<member>[a-z]+) \| `(?P<file>[\w/.]+\.py)` \| (?P<names>`\w+`(?:, `\w+`)*) \|$"
)
MEMBERS = {path.name: path for path in (*ROOT.glob("services/*"), *ROOT.glob("libs/*")) if path.is_dir()}
STEPS_COUNT = {"README.md": 16, "docs/architecture.md": 62}
"""A step that leaves a page changes this as well, so that none is lost unseen."""
STEPS_OF_A_REQUEST = (
    "read the head, choose the route",
    "the whole story of a request",
    "identify the key",
    "judge and price",
    "worst case",
    "reserve, or give up and cancel",
    "take the reserve",
    "queue, append, answer",
    "decide it",
    "append under a condition",
    "choose a credential, rotate",
    "call the provider",
    "relay the answer, meter it",
    "record the outcome",
    "settle",
    "seal the record",
)
"""From the first byte to the record, in README: a newcomer can follow a request only if no step is left out."""


class Step(NamedTuple):
    page: str
    step: str
    member: str
    file: str
    names: tuple[str, ...]


def rows(page: str, text: str) -> Iterator[Step]:
    for line in text.splitlines():
        if row := ROW.match(line):
            names = tuple(re.findall(r"\w+", row["names"]))
            yield Step(page, row["step"].strip(), row["member"], row["file"], names)


def steps() -> Iterator[Step]:
    for page in STEPS_COUNT:
        yield from rows(page, (ROOT / page).read_text())


def lost(readme: str) -> list[str]:
    """Steps of a request that README does not have, or has elsewhere than in their order."""
    found = [step.step for step in rows("README.md", readme)]
    missing = [step for step in STEPS_OF_A_REQUEST if step not in found]
    return missing if missing or found == [*STEPS_OF_A_REQUEST] else [f"{len(found)} steps, or another order"]


@pytest.mark.parametrize("step", list(steps()), ids=lambda step: f"{step.page}: {step.step}")
def test_a_step_is_where_the_page_says(step: Step) -> None:
    path = MEMBERS[step.member] / "src" / "keyforge" / step.member / step.file
    assert path.is_file(), f"{step.page} names {path.relative_to(ROOT)}, which does not exist"
    defined = {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert set(step.names) <= defined, f"{step.page}: not in {step.file}: {sorted(set(step.names) - defined)}"


@pytest.mark.parametrize("page", STEPS_COUNT)
def test_the_table_is_found(page: str) -> None:
    assert sum(step.page == page for step in steps()) == STEPS_COUNT[page]


def test_no_step_of_a_request_is_lost() -> None:
    assert lost((ROOT / "README.md").read_text()) == []


def test_a_lost_step_is_noticed() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    at = {row["step"]: place for place, line in enumerate(lines) if (row := ROW.match(line))}
    for step in STEPS_OF_A_REQUEST:
        assert lost("\n".join([*lines[: at[step]], *lines[at[step] + 1 :]])) == [step]
    first, second = at[STEPS_OF_A_REQUEST[0]], at[STEPS_OF_A_REQUEST[1]]
    lines[first], lines[second] = lines[second], lines[first]
    assert lost("\n".join(lines))


def test_the_two_tables_name_the_same_files() -> None:
    """README's table is an extract of the one in docs/architecture.md."""
    files = {page: {(step.member, step.file) for step in steps() if step.page == page} for page in STEPS_COUNT}
    assert files["README.md"] - files["docs/architecture.md"] == set()


@pytest.mark.parametrize("page", STEPS_COUNT)
def test_no_row_of_the_table_is_passed_over(page: str) -> None:
    """A row that names a Python file and does not have the table's shape would not be looked at."""
    lines = [
        line for line in (ROOT / page).read_text().splitlines() if re.match(r"^\|.*`(?!tests/)[\w/]+\.py` \|", line)
    ]
    assert [line for line in lines if not ROW.match(line)] == []


def test_every_test_that_the_documents_name_is_there() -> None:
    pages = [
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("services/*/README.md"),
        *ROOT.glob("libs/*/README.md"),
    ]
    named = {
        (page.relative_to(ROOT), path)
        for page in pages
        for path in re.findall(r"`(tests/[\w/.*]+\.py)`", page.read_text())
    }
    assert len(named) > 30
    assert [(str(page), path) for page, path in sorted(named) if not list(ROOT.glob(path))] == []
