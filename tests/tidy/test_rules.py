"""Every house rule over every file of the checkout; a failure lists file, line and reason."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

import pytest

from tests.tidy import exceptions, rules_code, rules_pace, rules_routes, rules_text
from tests.tidy.tree import ROOT, Source, Violation, sources, tracked

Rule = Callable[[Source], Iterator[Violation]]


def fail_with(violations: list[Violation]) -> None:
    if violations:
        pytest.fail("\n".join(str(violation) for violation in violations), pytrace=False)


@pytest.mark.parametrize(
    "rule",
    [*rules_text.ALL, *rules_code.ALL, *rules_pace.ALL, *rules_routes.ALL],
    ids=lambda rule: rule.__name__,
)
def test_rule(rule: Rule) -> None:
    fail_with([violation for source in sources() for violation in rule(source)])


def test_every_folder_of_a_package_is_a_package() -> None:
    """Without `__init__.py` import-linter and mypy would pass over the folder in silence."""
    folders = {PurePosixPath(source.path).parent for source in sources() if source.is_python and source.package}
    missing = sorted(folder for folder in folders if not (ROOT / folder / "__init__.py").is_file())
    fail_with([Violation(str(folder), 1, "no __init__.py (a docstring of one line)") for folder in missing])


def test_exceptions_are_about_something() -> None:
    tables = (exceptions.LONG_FILES, exceptions.LONG_FUNCTIONS, exceptions.CLOCKS, exceptions.SUBJECTS)
    named = {key.partition("::")[0] for table in tables for key in table}
    gone = sorted(path for path in named if not (ROOT / path).is_file())
    fail_with([Violation("tests/tidy/exceptions.py", 1, f"{path} does not exist") for path in gone])


def test_generated_files_are_not_tracked() -> None:
    made_here = ("uv.lock", ".venv", ".keyforge", ".mypy_cache")
    fail_with([Violation(path, 1, "is made here, not kept") for path in tracked() if path.startswith(made_here)])
