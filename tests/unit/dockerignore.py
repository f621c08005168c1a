"""What of a folder reaches an image's build, as Docker reads .dockerignore, and as Buildah 1.28 (Debian 12) does.

Both take the last pattern that matches. Docker looks at each file and its folders. Buildah 1.28 (`copier.go`) walks
down from what COPY names, which must not be excluded itself, and leaves out an excluded folder with all that is in it
unless the text of an exception, as it is written, begins with the folder's path: a wildcard there stands for nothing.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Engine = Callable[[Sequence[str], Path, Sequence[str]], set[str]]


def docker(patterns: Sequence[str], root: Path, sources: Sequence[str]) -> set[str]:
    """Return the files that COPY finds."""
    return {path for path in _files(root, sources) if not _excluded(patterns, path)}


def buildah_1_28(patterns: Sequence[str], root: Path, sources: Sequence[str]) -> set[str]:
    """Return the files that COPY finds; it fails for a source that is excluded."""
    exceptions = [pattern[1:].strip("/") + "/" for pattern in patterns if pattern.startswith("!")]

    def left_out(path: str) -> bool:
        folders = [path.rsplit("/", depth)[0] for depth in range(path.count("/"), 0, -1)]
        skipped = (_excluded(patterns, one) and not any(text.startswith(one) for text in exceptions) for one in folders)
        return any(skipped) or _excluded(patterns, path)

    copied = [source for source in sources if not _excluded(patterns, source)]
    return {path for path in _files(root, copied) if not left_out(path)}


def patterns_of(text: str) -> list[str]:
    """Return the patterns of a .dockerignore."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _files(root: Path, sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        found = [root / source] if (root / source).is_file() else (root / source).rglob("*")
        yield from (path.relative_to(root).as_posix() for path in found if path.is_file())


def _excluded(patterns: Sequence[str], path: str) -> bool:
    found = False
    for pattern in patterns:
        if re.fullmatch(_regex(pattern.removeprefix("!")), path):
            found = not pattern.startswith("!")
    return found


def _regex(pattern: str) -> str:
    """`*` and `?` stay within a folder, `**` does not; what matches a folder matches all that is in it."""
    parts = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    return "".join(parts.get(word, re.escape(word)) for word in words) + "(/.*)?"
