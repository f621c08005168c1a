"""House rules that read code: purity of the core, clocks, environment, randomness, spelled subjects, honest tests."""

import ast
import re
from collections.abc import Iterator

from tests.tidy import exceptions
from tests.tidy.tree import Source, Violation, comment_beside, dotted, imports

IMPURE = frozenset(
    """
    aiohttp asyncio chdb clickhouse_connect fastapi faststream http httptools httpx io logging multiprocessing
    nats os pathlib prometheus_client pydantic_settings random requests secrets shutil socket ssl starlette
    structlog subprocess sys tempfile threading time urllib uvicorn uvloop
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
PURE_PARTS = ("urllib.parse.",)
"""Parts of those that only read and write text."""
PURE_MEMBERS = frozenset({"contracts", "chain", "net"})
CORE_MAY_IMPORT = frozenset({"contracts", "chain", "net"})
TIME_OF_DAY = frozenset(
    """
    time.time time.time_ns datetime.now datetime.utcnow datetime.today datetime.datetime.now
    datetime.datetime.utcnow dt.datetime.now date.today datetime.date.today
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
RANDOM_IDS = re.compile(r"(^|\.)uuid[14]$")
NAMES_OF_THE_LOG = re.compile(r"(?<![\w.])(kf\.(log|platform|audit|reserve)\b|\$(JS|KV|O)\.|KF_[A-Z]|KV_KF)")
TEST_FILES = re.compile(r"(^test_.*|.*_test)\.py$")
MARKS = frozenset({"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"})
SECRETS = re.compile(
    r"(^|_)(digest|hexdigest|hash|h?mac|password|secret|signature|tag|user|fingerprint)s?(_|$)", re.IGNORECASE
)
SERVICES = frozenset({"edge", "budget", "keys", "audit"})


def is_pure(source: Source) -> bool:
    """Whether the rules of `core/` hold here: they do for the contracts and the chain as well."""
    return bool(source.package) and (source.package[0] in PURE_MEMBERS or "core" in source.package[:-1])


def purity(source: Source) -> Iterator[Violation]:
    """A core decides and nothing else: no I/O, no clock, no `async`, no randomness."""
    if not is_pure(source):
        return
    member = source.package[0]
    of_sys = {name for node in source.nodes if (name := dotted(node)).startswith("sys.")}
    for line, name in imports(source):
        top, *rest = name.split(".")
        if name == "sys" and of_sys == {"sys.version_info"}:
            continue  # which Python runs is no input
        if top in IMPURE and not name.startswith(PURE_PARTS):
            yield source.at(
                line, f"core imports {name}: values in, a named outcome out; do this in inbound/ or outbound/"
            )
        if top == "keyforge" and rest[0] not in CORE_MAY_IMPORT and rest[:2] != [member, "core"]:
            yield source.at(line, f"core imports {name}: only core, contracts, chain and net")
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield source.at(node.lineno, "core is not async")
        if isinstance(node, ast.Call) and dotted(node.func) in {"open", "print", "input"}:
            yield source.at(node.lineno, f"core does I/O: {dotted(node.func)}()")


def independence(source: Source) -> Iterator[Violation]:
    """A service imports no other (import-linter holds it too, this one names the line)."""
    if not source.package or source.package[0] not in SERVICES:
        return
    for line, name in imports(source):
        top, *rest = name.split(".")
        if top == "keyforge" and rest[0] in SERVICES - {source.package[0]}:
            yield source.at(line, f"{source.package[0]} imports {name}: services meet in contracts and on the log")


def clocks(source: Source) -> Iterator[Violation]:
    """The time of day comes from one clock and is passed in; monotonic time is free to all."""
    if not source.is_product or source.path in exceptions.CLOCKS:
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and (name := dotted(node)) in TIME_OF_DAY:
            yield source.at(node.lineno, f"{name}: take the time from keyforge.runtime.clock, or be given it")
    for line, name in imports(source):
        if name in {"time.time", "time.time_ns"}:
            yield source.at(line, f"{name}: take the time from keyforge.runtime.clock, or be given it")


def random_ids(source: Source) -> Iterator[Violation]:
    """uuid4 costs 2 µs and has no order; ids are UUIDv7 from pooled randomness (contracts.ids)."""
    if not source.is_product:
        return
    for line, name in imports(source):
        if RANDOM_IDS.search(name):
            yield source.at(line, f"{name}: use keyforge.contracts.ids")
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and RANDOM_IDS.search(dotted(node)):
            yield source.at(node.lineno, f"{dotted(node)}: use keyforge.contracts.ids")


def environment(source: Source) -> Iterator[Violation]:
    """Nothing happens at import, least of all a look at the environment."""
    if not source.is_product:
        return
    for node in _run_at_import(source.tree):
        if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv"}:
            yield source.at(node.lineno, f"{dotted(node)} at import: read it in settings, when built")
    for line, name in imports(source):
        if name in {"os.environ", "os.getenv"}:
            yield source.at(line, f"from os import {name[3:]}: read it in settings, when built")


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything but function bodies: those run later, their defaults and decorators do not."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*child.decorator_list, child.args):
                yield from ast.walk(part)
        elif not isinstance(child, ast.Lambda):
            yield child
            yield from _run_at_import(child)


def subjects(source: Source) -> Iterator[Violation]:
    """Subjects, streams and buckets are spelled in contracts/subjects.py, and the server's own in eventlog."""
    if not source.is_product or source.package[:1] == ("eventlog",) or source.path in exceptions.SUBJECTS:
        return
    documentation = {
        id(node.value) for node in source.nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in source.nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in documentation:
            continue
        if match := NAMES_OF_THE_LOG.search(node.value):
            yield source.at(node.lineno, f"`{match[0]}…` spelled by hand: use keyforge.contracts.subjects")


def honest_tests(source: Source) -> Iterator[Violation]:
    """A test is collected, runs, says why when it does not, and never mocks our own code."""
    if not source.is_test or not source.is_python:
        return
    has_tests = any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in source.tree.body
    )
    if has_tests and not TEST_FILES.match(source.parts[-1]):
        yield source.at(1, "has tests and a name that pytest does not collect: call it test_….py")
    for line, name in imports(source):
        if name.startswith("unittest.mock"):
            yield source.at(line, "no mocks: use a twin that passes the contract suite")
    for node in source.nodes:
        name = dotted(node.func) if isinstance(node, ast.Call) else dotted(node)
        if isinstance(node, ast.Attribute) and name in MARKS and not _has_reason(source, node):
            yield source.at(node.lineno, f"{name} without a reason")
        if isinstance(node, ast.Call) and name in {"pytest.skip", "pytest.xfail"} and not (node.args or node.keywords):
            yield source.at(node.lineno, f"{name} without a reason")
        if isinstance(node, ast.Call) and name == "time.sleep" and not comment_beside(source, node.lineno):
            yield source.at(node.lineno, "time.sleep without a comment that says why polling will not do")


def _has_reason(source: Source, mark: ast.Attribute) -> bool:
    """A mark is given its reason where it is called; a mark that is not called has none."""
    calls = (node for node in source.nodes if isinstance(node, ast.Call) and node.func is mark)
    return any(keyword.arg == "reason" for call in calls for keyword in call.keywords)


def secrets_compared(source: Source) -> Iterator[Violation]:
    """`==` ends at the first byte that differs, and how soon is measurable: digests are compared by compare_digest."""
    if not source.is_product:
        return
    for node in source.nodes:
        if not isinstance(node, ast.Compare) or not any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            continue
        sides = (node.left, *node.comparators)
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        names = [name for side in sides if not (name := _last_name(side)).isupper()]  # SECRET_BYTES is a length
        if name := next((name for name in names if SECRETS.search(name)), ""):
            yield source.at(node.lineno, f"`{name}` compared by == or !=: use hmac.compare_digest")


def _last_name(node: ast.expr) -> str:
    """What an expression is called: the variable, the attribute, the function that made it."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Subscript() | ast.Await() | ast.Starred():
            return _last_name(node.value)
        case ast.Call(func=ast.Attribute(attr="encode" | "hex" | "lower", value=text)):
            return _last_name(text)
        case ast.Call():
            return _last_name(node.func)
    return ""


ALL = (purity, independence, clocks, random_ids, environment, subjects, honest_tests, secrets_compared)
