"""How tests name what keys decided, and what holds for every refusal."""

from typing import Any

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Event


def outcome(decided: Event | Problem | None) -> Any:
    """Name an outcome: a problem's type and field, an event's own name, or that nothing was to do."""
    if isinstance(decided, Problem):
        assert names_its_field(decided), decided
        return (decided.kind.type, decided.param)
    return None if decided is None else type(decided).__name__


def names_its_field(refused: Problem) -> bool:
    """Whether its message, if it is not the catalogue's, names the field: `limits` for `limits.1`."""
    fields = [part for part in (refused.param or "").split(".") if not part.isdigit()]
    return not refused.message or fields == [""] or f"`{fields[-1]}`" in refused.message
