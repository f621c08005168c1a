"""What commands have in common: one question to keys, and how its answer is shown."""

from typing import Any, Final
from urllib.parse import quote

from keyforge.embedded.errors import UsageError

PAGES_MAX: Final = 10_000


def get(path: str, url: str | None) -> Any:
    """GET of keys."""
    from keyforge.cli.api import connect

    with connect("keys", url) as keys:
        return keys.get(path)


def pages(path: str, url: str | None, **query: str | None) -> list[Any]:
    """Return a whole list, page by page; the last part of its path names it in the response."""
    from keyforge.cli.api import connect

    found: list[Any] = []
    noun = path.rpartition("/")[2]
    with connect("keys", url) as keys:
        for _ in range(PAGES_MAX):
            page = keys.get(path, **query)
            found += page[noun]
            if not page.get("next"):
                break
            query = {**query, "after": page["next"]}
    return found


def post(path: str, body: dict[str, Any] | None, url: str | None) -> Any:
    """POST to keys."""
    from keyforge.cli.api import connect

    with connect("keys", url) as keys:
        return keys.post(path, body)


def part(text: str) -> str:
    """One part of a path, whatever it holds. Raises UsageError for what would make it another path."""
    if text in ("", ".", ".."):
        raise UsageError(f"not an id: {text!r}")
    return quote(text, safe="")


def show_one(value: Any, *, as_json: bool) -> None:
    """Print one thing."""
    from keyforge.cli import show

    if as_json:
        show.as_json(value)
    elif isinstance(value, dict):
        show.fields(value)


def show_list(noun: str, rows: list[Any], columns: tuple[str, ...], *, as_json: bool) -> None:
    """Print many things."""
    from keyforge.cli import show

    if as_json:
        show.as_json({noun: rows})
    else:
        show.table(rows, columns)
