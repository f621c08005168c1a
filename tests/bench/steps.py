"""Counts what Python does: bytecodes and calls by function, the same on every machine however busy it is.

Bytecodes differ between versions of CPython, so only counts of one version compare.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Steps:
    """What was counted, by the code of a function."""

    def __init__(self) -> None:
        self.bytecodes: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()
        """A coroutine counts each time that it goes on."""

    def table(self, count: int, rows: int) -> str:
        """Return so many functions that take the most, and the sum of all: for one of `count` equal pieces of work."""
        found = [
            _row(bytecodes / count, self.calls[code] / count, f"{Path(code.co_filename).name}:{code.co_qualname}")
            for code, bytecodes in self.bytecodes.most_common(rows)
        ]
        every = _row(self.bytecodes.total() / count, self.calls.total() / count, "all")
        return "\n".join(["bytecodes   calls", *found, every])

    def _called(self, frame: FrameType, *_: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.calls[frame.f_code] += 1
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode":
            self.bytecodes[frame.f_code] += 1
        return self._stepped

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what functions do that are called from here on, until the end of the block."""
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)


def _row(bytecodes: float, calls: float, name: str) -> str:
    return f"{bytecodes:9.1f} {calls:7.2f}  {name}"
