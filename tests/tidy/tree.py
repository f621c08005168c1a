"""What the house rules look at: the files of this checkout, parsed once, and how a broken rule is written down."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Violation:
    """One broken rule at one place."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Source:
    """A text file, by its path from the top of the repository; Python is parsed on demand."""

    path: str
    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(self.path).parts

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def is_product(self) -> bool:
        """Whether this runs in production or in an operator's hands, as opposed to tests and chores."""
        return self.parts[0] in {"libs", "services"}

    @property
    def is_test(self) -> bool:
        return self.parts[0] == "tests"

    @property
    def package(self) -> tuple[str, ...]:
        """Where a product file stands: `("budget", "core", "admit.py")`; empty for anything else."""
        return self.parts[5:] and self.parts[4:] if self.is_product and self.parts[2:4] == ("src", "keyforge") else ()

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def tree(self) -> ast.Module:
        """The parsed file; empty if it does not parse, which is a violation of its own."""
        parsed = self._parsed
        return ast.Module(body=[], type_ignores=[]) if isinstance(parsed, SyntaxError) else parsed

    @property
    def syntax_error(self) -> SyntaxError | None:
        """Why it does not parse, if it does not."""
        parsed = self._parsed
        return parsed if isinstance(parsed, SyntaxError) else None

    @cached_property
    def _parsed(self) -> ast.Module | SyntaxError:
        try:
            return ast.parse(self.text)
        except SyntaxError as fault:
            return fault

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    def at(self, line: int, reason: str) -> Violation:
        return Violation(self.path, line, reason)


@cache
def paths() -> tuple[str, ...]:
    """Every file that is tracked or about to be: what git ignores is nobody's business."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    out = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(sorted({path for path in out.split("\0") if path and (ROOT / path).is_file()}))


@cache
def sources() -> tuple[Source, ...]:
    """Every text file of the checkout."""
    return tuple(_read())


def _read() -> Iterator[Source]:
    for path in paths():
        try:
            yield Source(path, (ROOT / path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # not text, or gone since it was listed


def tracked() -> frozenset[str]:
    """Paths in git's index."""
    out = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return frozenset(out.split("\0")) - {""}


def dotted(node: ast.AST) -> str:
    """`time.time` for the expression that reads so; empty for anything that is not a chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Every imported name, in full: `from a import b` is `a.b`."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def comment_beside(source: Source, line: int) -> bool:
    """Whether a comment stands on this line, or alone on the line above."""
    return "#" in source.lines[line - 1] or (line > 1 and source.lines[line - 2].lstrip().startswith("#"))
