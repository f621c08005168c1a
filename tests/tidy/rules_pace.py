"""House rules about the pace of a machine: a slow one fails no test, so what guards against a hang is generous."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache

from tests.tidy.tree import ROOT, Source, Violation, comment_beside, dotted

GUARD_S_MIN = 20
"""A wait that is met ends at once, so a long one costs nothing."""
GUARDS = {
    "asyncio.timeout": (0, ""),
    "asyncio.wait_for": (1, "timeout"),
    "subprocess.run": (None, "timeout"),
    "wait_until": (None, "timeout_s"),
    "until": (None, "within_s"),
}
"""What ends a wait → the place and the name of its seconds."""
PROFILE = "tests/conftest.py"


def patience(source: Source) -> Iterator[Violation]:
    """A wait in a test ends when what is waited for came, or late; one that is meant to be short says why beside it."""
    if not source.is_test or not source.is_python or source.parts[1] == "bench":
        return
    constants = dict(_constants(source))
    for node in source.nodes:
        if not isinstance(node, ast.Call) or (bound := _seconds(node)) is None:
            continue
        name = dotted(bound)
        seconds, line = constants.get(name, (None, 0)) if name else (_number(bound), bound.lineno)
        if seconds is None or seconds >= GUARD_S_MIN or comment_beside(source, line):
            continue
        yield source.at(
            bound.lineno, f"waits {seconds:g} s at most, a slow machine needs more: {GUARD_S_MIN} or say why"
        )


def hangs(source: Source) -> Iterator[Violation]:
    """pytest's own limit is for what hangs; a mark may lengthen it, never shorten it."""
    if not source.is_test or not source.is_python:
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and dotted(node.func) == "pytest.mark.timeout" and node.args:
            seconds = _number(node.args[0])
            if seconds is not None and seconds <= limit_s():
                yield source.at(node.lineno, f"at most {seconds:g} s, every test has {limit_s()}: leave the mark out")


def hypothesis_pace(source: Source) -> Iterator[Violation]:
    """Deadlines of examples are off in one profile; a test that sets its own would fail where the machine is slow."""
    if not source.is_test or not source.is_python or source.path == PROFILE:
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and dotted(node.func) in {"settings", "hypothesis.settings"}:
            for keyword in node.keywords:
                if keyword.arg == "deadline":
                    yield source.at(keyword.value.lineno, f"the deadline of examples is set in {PROFILE}")


@cache
def limit_s() -> int:
    """Seconds that pytest gives a test."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return int(options["timeout"])


def _constants(source: Source) -> Iterator[tuple[str, tuple[float, int]]]:
    """Numbers that the module names, with their lines."""
    for node in source.tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and value is not None and (number := _number(value)) is not None:
            yield target.id, (number, node.lineno)


def _seconds(call: ast.Call) -> ast.expr | None:
    """The expression that bounds this wait; None if it is no wait that we know."""
    name = dotted(call.func)
    place, word = GUARDS.get(name, GUARDS.get(name.rpartition(".")[2], (None, "")))
    if name.endswith(".wait") and "process" in name:
        place, word = 0, "timeout"
    if place is not None and len(call.args) > place:
        return call.args[place]
    return next((keyword.value for keyword in call.keywords if keyword.arg == word), None)


def _number(node: ast.expr) -> float | None:
    return float(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None


ALL = (patience, hangs, hypothesis_pace)
