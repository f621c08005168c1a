"""The faults as data: a snippet of the product, what replaces it, and the tests that must notice; one file an area."""

import ast
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLES = HERE / "faults"
FIELDS = frozenset({"name", "file", "old", "new", "tests", "reason"})


class StaleFault(ValueError):
    """A fault that no longer fits the product or the tests: it must be brought up to date, or taken out."""


@dataclass(frozen=True)
class Fault:
    """One small change of the product.

    `file` is below `src/keyforge` of its member; `old` is in it exactly once, and `new` takes its place. `tests` are
    files or tests of pytest, of which one must fail. `reason`: why none can, if the change makes no difference that
    anything could notice.
    """

    area: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    reason: str = ""

    @property
    def member(self) -> str:
        """The member that it is in, as `budget`."""
        return self.file.partition("/")[0]

    def __str__(self) -> str:
        return f"{self.area}: {self.name}"


def load(tables: Path = TABLES) -> list[Fault]:
    """Return all faults, in the order of the tables. Raises ValueError for a table that is none, or a name twice."""
    faults = [fault for table in sorted(tables.glob("*.toml")) for fault in _read(table)]
    names = [str(fault) for fault in faults]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"named twice: {', '.join(twice)}")
    return faults


def _read(table: Path) -> Iterator[Fault]:
    for row in tomllib.loads(table.read_text())["fault"]:
        fields: dict[str, Any] = {"tests": (), **row}
        if wrong := (FIELDS - {"reason"}) ^ (set(fields) - {"reason"}):
            raise ValueError(f"{table.name}: {row.get('name', '?')}: missing or unknown: {', '.join(sorted(wrong))}")
        yield Fault(table.stem, **(fields | {"tests": tuple(fields["tests"])}))


def chosen(faults: Iterable[Fault], names: Iterable[str]) -> list[Fault]:
    """Return the faults with one of `names` in theirs, all if there is none. ValueError for a name that none has."""
    faults, names = list(faults), list(names)
    if unknown := [name for name in names if not any(name in str(fault) for fault in faults)]:
        raise ValueError(f"no fault is called {unknown[0]!r}")
    return [fault for fault in faults if not names or any(name in str(fault) for name in names)]


def source_of(fault: Fault, root: Path = ROOT) -> Path:
    """Return the folder that holds `keyforge/<member>` in the checkout. Raises StaleFault."""
    found = [path for path in root.glob(f"*/{fault.member}/src") if (path / "keyforge" / fault.file).is_file()]
    if len(found) != 1:
        raise StaleFault(f"{fault}: there is no file {fault.file}")
    return found[0]


def with_fault(fault: Fault, text: str) -> str:
    """Return the text of its file with the fault in it. Raises StaleFault."""
    count = text.count(fault.old)
    if count != 1:
        raise StaleFault(f"{fault}: what it replaces is in {fault.file} {count} times, not once")
    changed = text.replace(fault.old, fault.new)
    try:
        same = ast.dump(ast.parse(changed)) == _tree(text)
    except SyntaxError as error:
        raise StaleFault(f"{fault}: {fault.file} does not parse with it: {error.msg}") from None
    if same:
        raise StaleFault(f"{fault}: it changes nothing")
    return changed


@cache
def _tree(text: str) -> str:
    return ast.dump(ast.parse(text))


def check(fault: Fault, root: Path = ROOT) -> None:
    """Raise StaleFault unless the fault fits its file, and its tests are there."""
    with_fault(fault, (source_of(fault, root) / "keyforge" / fault.file).read_text())
    if not fault.tests:
        raise StaleFault(f"{fault}: no test is named")
    for test in fault.tests:
        path, _, name = test.partition("::")
        if not (root / path).is_file():
            raise StaleFault(f"{fault}: there is no file {path}")
        function = name.partition("[")[0]
        if name and f"def {function}(" not in (root / path).read_text():
            raise StaleFault(f"{fault}: there is no test {test}")
