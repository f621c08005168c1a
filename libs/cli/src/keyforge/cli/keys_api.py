"""What the commands over the API of `keys` share: one request, and how its response is shown."""

from typing import Any, Final
from urllib.parse import quote

from keyforge.cli.errors import AnswerLostError, OutputError, UsageError

PAGES_MAX: Final = 10_000
"""Of 100 entries each: a loop in what the service returns must not keep the command running."""


def get(path: str, url: str | None) -> Any:
    """Send a GET to `keys`."""
    from keyforge.cli.api import connect

    with connect("keys", url) as keys:
        return keys.get(path)


def pages(path: str, url: str | None, **query: str | None) -> list[Any]:
    """Return a complete list, read page by page."""
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


def post(path: str, body: dict[str, Any] | None, url: str | None, *due: str) -> dict[str, Any]:
    """Send a POST to `keys`. `due`: fields of the response beside its `id`, each a text."""
    from keyforge.cli.api import connect

    with connect("keys", url) as keys:
        return keys.post(path, body, due=dict.fromkeys(("id", *due), str))


def create_shown_once(
    noun: str, path: str, body: dict[str, Any], url: str | None, *due: str, as_json: bool, revoke: str
) -> None:
    """Create what is shown only once, and show it. `revoke` is the command that ends it, without its id; `due` is as
    for `post`.

    Raises OutputError: before anything is created if stdout is closed, else with the id of what exists and was not
    shown; AnswerLostError, of what may exist.
    """
    from keyforge.cli import output

    output.require_stdout()
    try:
        created = post(path, body, url, *due)
    except AnswerLostError as error:
        raise AnswerLostError(
            f"{error}; {noun} may have been created and was not shown: look for it, and end it with `keyforge {revoke}`"
        ) from error
    try:
        show_one(created, as_json=as_json)
        output.flush()
    except OutputError as error:
        raise OutputError(
            f"{error}; {noun} {created['id']} was created and not shown: end it with"
            f" `keyforge {revoke} {created['id']}`"
        ) from error


def segment(text: str) -> str:
    """Return one segment of a path, whatever it contains. Raises UsageError for what would make it another path."""
    if text in ("", ".", ".."):
        raise UsageError(f"not an id: {text!r}")
    return quote(text, safe="")


def show_one(value: Any, *, as_json: bool) -> None:
    """Print one object."""
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
