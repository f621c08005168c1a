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
STEPS_MIN = {"README.md": 12, "docs/architecture.md": 30}


class Step(NamedTuple):
    page: str
    step: str
    member: str
    file: str
    names: tuple[str, ...]


def steps() -> Iterator[Step]:
    for page in STEPS_MIN:
        for line in (ROOT / page).read_text().splitlines():
            if row := ROW.match(line):
                names = tuple(re.findall(r"\w+", row["names"]))
                yield Step(page, row["step"].strip(), row["member"], row["file"], names)


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


@pytest.mark.parametrize("page", STEPS_MIN)
def test_the_table_is_found(page: str) -> None:
    assert sum(step.page == page for step in steps()) >= STEPS_MIN[page]


@pytest.mark.parametrize("page", STEPS_MIN)
def test_no_row_of_the_table_is_passed_over(page: str) -> None:
    """A row that names a Python file and does not have the table's shape would not be looked at."""
    rows = [
        line for line in (ROOT / page).read_text().splitlines() if re.match(r"^\|.*`(?!tests/)[\w/]+\.py` \|", line)
    ]
    assert [line for line in rows if not ROW.match(line)] == []


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
