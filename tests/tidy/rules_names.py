"""House rules about names over the whole product: none that nothing uses, none that two things share."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.tidy import exceptions
from tests.tidy.tree import Source, Violation, dotted

SHAPING = frozenset(
    """
    abstractmethod asynccontextmanager cache cached_property classmethod contextmanager final functools.cache
    functools.cached_property functools.lru_cache lru_cache overload override property staticmethod
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Decorators that change a function; any other hands it to somebody who calls it."""
CALL_NOTHING = frozenset(
    """
    object Protocol Generic NamedTuple TypedDict Enum IntEnum StrEnum enum.Enum Struct msgspec.Struct BaseModel
    BaseSettings Exception RuntimeError ValueError OSError LookupError KeyError ConnectionError TimeoutError
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Classes of others that call no method of ours by its name; any other may."""
WORD = re.compile(r"[A-Za-z_]\w*")
NAMES = re.compile(r"[\w.:\[\], |]+")
"""A string that may name something: a type, a module's member, an error."""


@dataclass(frozen=True)
class Definition:
    """A function, class, method, constant or error of the catalogue, with the lines that are its own."""

    source: Source
    name: str
    first: int
    last: int

    @property
    def key(self) -> str:
        return f"{self.source.package[0]}::{self.name}"


def unused(product: Iterable[Source], tests: Iterable[Source] = (), outside: str = "") -> Iterator[Definition]:
    """Definitions that nothing in the product uses; what the testkit offers is used by tests.

    `outside` is other text that names things: the programs of pyproject files.
    """
    product = [source for source in product if source.is_python]
    used, used_by_tests = _used(product), _used(tests)
    programs = set(WORD.findall(outside))
    silent = _silent(product)
    for source in product:
        for one in _definitions(source, silent):
            elsewhere = [at for at in used[one.name] if at[0] != source.path or not one.first <= at[1] <= one.last]
            by_tests = source.package[:1] == ("testkit",) and one.name in used_by_tests
            if not elsewhere and not by_tests and one.name not in programs:
                yield one


def dead_names(product: Iterable[Source], tests: Iterable[Source] = (), outside: str = "") -> Iterator[Violation]:
    """What nothing uses is read, kept and tested for nothing; an exception that is not needed is an error as well."""
    found = {one.key: one for one in unused(product, tests, outside)}
    for key, one in found.items():
        if key not in exceptions.UNUSED:
            yield one.source.at(one.first, f"nothing in the product uses `{one.name}`")
    for key in exceptions.UNUSED.keys() - found.keys():
        yield Violation("tests/tidy/exceptions.py", 1, f"{key} is used, or gone: remove it")


def one_word_one_thing(product: Iterable[Source]) -> Iterator[Violation]:
    """A class has its name for itself, in all of the product."""
    classes: dict[str, list[tuple[Source, ast.ClassDef]]] = defaultdict(list)
    for source in product:
        for node in source.nodes if source.is_python else ():
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append((source, node))
    for name, found in classes.items():
        if len(found) > 1 and name not in exceptions.SHARED_NAMES:
            others = ", ".join(source.path for source, _ in found[1:])
            yield found[0][0].at(found[0][1].lineno, f"class {name} is also in {others}: one word, one thing")
    for name in exceptions.SHARED_NAMES:
        if len(classes[name]) < 2:
            yield Violation("tests/tidy/exceptions.py", 1, f"{name} is one class, or none: remove it from SHARED_NAMES")


def _definitions(source: Source, silent: frozenset[str]) -> Iterator[Definition]:
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef):
            yield _of(source, node.name, node)
            if node.name in silent:
                yield from (one for child in node.body for one in _function(source, child))
        for target in _targets(node):
            yield _of(source, target, node)
        yield from _function(source, node)
    for call in source.nodes:
        if isinstance(call, ast.Call) and dotted(call.func) == "ErrorType" and call.args:
            (name, *_) = call.args
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield _of(source, name.value, call)


def _of(source: Source, name: str, node: ast.stmt | ast.expr) -> Definition:
    return Definition(source, name, node.lineno, node.end_lineno or node.lineno)


def _targets(node: ast.stmt) -> list[str]:
    """Names that a statement of a module gives a value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("__")]


def _function(source: Source, node: ast.stmt) -> Iterator[Definition]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith(("__", "pytest_")):
        return
    decorators = [dotted(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list]
    if all(one in SHAPING or one.endswith(".setter") for one in decorators):
        yield _of(source, node.name, node)


def _silent(product: Iterable[Source]) -> frozenset[str]:
    """Classes whose methods are called by us alone: every base is ours or calls nothing."""
    bases: dict[str, set[str]] = defaultdict(set)
    for source in product:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] |= {
                    dotted(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases
                }
    loud: set[str] = set()
    while more := {
        name
        for name, of in bases.items()
        if name not in loud and any(base in loud or (base not in bases and base not in CALL_NOTHING) for base in of)
    }:
        loud |= more
    return frozenset(bases) - loud


def _used(sources: Iterable[Source]) -> dict[str, list[tuple[str, int]]]:
    """Where each name is read, taken as an attribute or written in a string that is nothing but names."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for source in sources:
        for node in source.nodes if source.is_python else ():
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found[node.id].append((source.path, node.lineno))
            elif isinstance(node, ast.Attribute):
                found[node.attr].append((source.path, node.lineno))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"[\w.:\[\], |]+", node.value)
            ):
                for word in WORD.findall(node.value):
                    found[word].append((source.path, node.lineno))
    return found
