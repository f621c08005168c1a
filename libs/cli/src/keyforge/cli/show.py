"""How responses are printed: JSON for programs, a table for people; no colours and no truncation when piped."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from keyforge.contracts.visible import visible

PIPED_WIDTH: Final = 1000
"""Columns of a table that is not printed on a terminal: wide enough that no cell is wrapped."""


def as_json(value: Any) -> None:
    """Print one JSON document; on one line when piped, so that several are JSON lines."""
    indent = 2 if sys.stdout.isatty() else None
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=not utf8) + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows, with those of `columns` that any of them has."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    if not rows:
        console.print("no results")
        return
    shown = [column for column in columns if any(column in row for row in rows)]
    grid = Table(*shown, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        grid.add_row(*(Text(text(row.get(column))) for column in shown))
    console.print(grid)


def fields(value: Mapping[str, Any]) -> None:
    """Print one object, a field per line."""
    width = max((len(name) for name in value), default=0)
    for name, found in value.items():
        sys.stdout.write(f"{visible(name):<{width}}  {text(found)}\n")


def text(value: Any) -> str:
    """Return a value for people: limits and lists on one line, control characters escaped, an empty text for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(text(item) for item in value)
        case {"unit": unit, "window": window, "cap": cap}:
            return f"{text(unit)}/{text(window)}={text(cap)}"
        case dict():
            return " ".join(f"{visible(str(name))}={text(item)}" for name, item in value.items())
        case _:
            return visible(str(value))
