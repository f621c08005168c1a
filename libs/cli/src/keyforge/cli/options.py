"""Options and arguments that many commands share, and how limits are written on a command line."""

from typing import Annotated, Any, Final

import typer

from keyforge.cli.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[str | None, typer.Option("--url", help="Address of the service; from $KEYFORGE_HOME if omitted.")]
Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, not the key itself.")]
Reason = Annotated[str | None, typer.Option(help="Why, for the audit record.")]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="UNIT/WINDOW=CAP", help="Such as usd/month=5, requests/minute=60, concurrency=4."),
]

CAP_DIGITS_MAX: Final = 30
"""Python refuses to read more than 4300 digits; the service refuses what is larger than CAP_MAX."""
_TOTAL: Final = "total"


def limits(texts: list[str] | None) -> list[dict[str, Any]] | None:
    """Return limits as the API takes them. Raises UsageError."""
    if texts is None:
        return None
    return [_limit(text) for text in texts]


def _limit(text: str) -> dict[str, Any]:
    from keyforge.contracts.limits import UNITS, WINDOWS

    scope, equals, cap = text.partition("=")
    unit, _, window = scope.partition("/")
    window = window or (_TOTAL if unit == "concurrency" else "")
    if not equals or unit not in UNITS or window not in WINDOWS:
        raise UsageError(
            f"not a limit: {text!r}; write UNIT/WINDOW=CAP with a unit of {', '.join(UNITS)} "
            f"and a window of {', '.join(WINDOWS)}"
        )
    if unit == "usd":
        return {"unit": unit, "window": window, "cap": cap}
    if not cap.isascii() or not cap.isdigit() or len(cap) > CAP_DIGITS_MAX:
        raise UsageError(f"not a limit: {text!r}; a cap on {unit} must be a whole number")
    return {"unit": unit, "window": window, "cap": int(cap)}


def key_id(text: str) -> str:
    """Refuse a key in place of its id: it would end up in logs and shell histories. Raises UsageError."""
    if text.startswith("vk_"):
        raise UsageError(
            "this is a key; give its id (see `keyforge key list`), and never write a key on a command line"
        )
    return text


def token_id(text: str) -> str:
    """Refuse a token in place of its id, as with keys. Raises UsageError."""
    if text.startswith("kfa_"):
        raise UsageError(
            "this is a token; give its id (see `keyforge operator list`), and never write a token on a command line"
        )
    return text
