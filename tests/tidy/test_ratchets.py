"""What pyproject.toml may not loosen: imports that a contract does not look at, and the floor of coverage."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.tidy.test_rules import fail_with
from tests.tidy.tree import ROOT, Violation

COVERAGE_PERCENT_MIN = 81
"""What the tests reached when the floor was set; it is raised together with the floor, and neither is lowered."""


def ignored_imports(project: dict[str, Any]) -> Iterator[Violation]:
    """An import that a contract ignores is a hole in the layers, and the contract still reads as kept."""
    for contract in project["tool"]["importlinter"]["contracts"]:
        if "ignore_imports" in contract:
            yield Violation("pyproject.toml", 1, f"contract {contract['id']}: ignore_imports; move the code instead")


def coverage_floor(project: dict[str, Any]) -> Iterator[Violation]:
    floor = project["tool"]["coverage"]["report"].get("fail_under", 0)
    if floor < COVERAGE_PERCENT_MIN:
        yield Violation("pyproject.toml", 1, f"the floor of coverage is {floor} %, at least {COVERAGE_PERCENT_MIN}")


def pyproject(text: str = "") -> dict[str, Any]:
    return tomllib.loads(text or (ROOT / "pyproject.toml").read_text())


def test_no_contract_ignores_an_import() -> None:
    assert len(pyproject()["tool"]["importlinter"]["contracts"]) >= 9
    fail_with(list(ignored_imports(pyproject())))


@pytest.mark.parametrize("ignored", ["[]", '["keyforge.edge.app -> keyforge.keys.app"]'])
def test_an_ignored_import_bites_in_every_contract(ignored: str) -> None:
    heads = (ROOT / "pyproject.toml").read_text().split("[[tool.importlinter.contracts]]\n")
    for place in range(1, len(heads)):
        loose = [*heads[:place], f"ignore_imports = {ignored}\n{heads[place]}", *heads[place + 1 :]]
        assert len(list(ignored_imports(pyproject("[[tool.importlinter.contracts]]\n".join(loose))))) == 1


def test_the_coverage_floor_stays() -> None:
    fail_with(list(coverage_floor(pyproject())))


@pytest.mark.parametrize(
    ("report", "found"),
    [
        pytest.param("fail_under = 80.9", 1, id="lower"),
        pytest.param("precision = 1", 1, id="none"),
        pytest.param("fail_under = 81", 0, id="as it is"),
        pytest.param("fail_under = 85", 0, id="higher"),
    ],
)
def test_a_lower_floor_bites(report: str, found: int) -> None:
    assert len(list(coverage_floor(pyproject(f"[tool.coverage.report]\n{report}")))) == found
