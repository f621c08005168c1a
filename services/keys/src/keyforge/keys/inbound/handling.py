"""What every route of the operators' API shares: pages, errors, and how an outcome becomes a response."""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Query

from keyforge.contracts.errors import Problem, not_found
from keyforge.runtime.http import ProblemError, operator_of
from keyforge.runtime.tokens import TokenVerifier

PAGE_MAX: Final = 500
PAGE_DEFAULT: Final = 100
"""Entries of one page. Doubled, a request for tenants or keys opens twice as many encrypted names before it answers."""

After = Annotated[str, Query(max_length=300, description="The `next` of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many entries a page has at most.")]

T = TypeVar("T")
R = TypeVar("R")


class Guard:
    """Who may call: a dependency of every route, as its parameter `by` or beside it."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self.reads: Any = Depends(operator_of(verifier))
        self.writes: Any = Depends(operator_of(verifier, writes=True))


def router(prefix: str, tag: str) -> APIRouter:
    """Return the router of one kind of object."""
    return APIRouter(prefix=prefix, tags=[tag])


def unwrap(outcome: T | Problem | None, what: str = "") -> T:
    """Return what a command or a look-up returned; end the handler with the problem if there was one.

    `what`: the name of what a look-up did not find.
    """
    if isinstance(outcome, Problem):
        raise ProblemError(outcome)
    if outcome is None:
        raise ProblemError(not_found(what or "object"))
    return outcome


def page(
    found: list[T], limit: int, render: Callable[[T], R], cursor: Callable[[T], str]
) -> tuple[list[R], str | None]:
    """Return a page of `limit` and its `next`: the cursor of its last entry, None if it is the last page.

    `found` holds one entry more than the page if there is a next.
    """
    shown = found[:limit]
    return [render(one) for one in shown], cursor(shown[-1]) if len(found) > limit else None
