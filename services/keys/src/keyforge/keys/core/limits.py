"""Limits as an operator writes them, turned into limits as budget enforces them.

A key's cap may be above its tenant's: both are enforced on every request, so the larger one grants nothing.
"""

from collections.abc import Sequence

import msgspec

from keyforge.contracts import money
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.limits import CAP_MAX, LIMITS_MAX, WINDOWS, Limit, Unit, Window


class NewLimit(msgspec.Struct, frozen=True):
    """A limit as requested: a cap on usd is a decimal string of dollars, any other a whole number. None: `total`."""

    unit: Unit
    window: Window | None
    cap: str | int


def limits_of(requested: Sequence[NewLimit]) -> tuple[Limit, ...] | Problem:
    """Return the limits, or what is wrong with one of them."""
    if len(requested) > LIMITS_MAX:
        return problem("request_invalid", f"`limits` must contain at most {LIMITS_MAX} limits.", param="limits")
    limits: list[Limit] = []
    for index, new in enumerate(requested):
        limit = _limit(new, f"limits.{index}")
        if isinstance(limit, Problem):
            return limit
        if any((other.unit, other.window) == (limit.unit, limit.window) for other in limits):
            return problem(
                "request_invalid",
                f"`limits` must contain one limit per unit and window; {limit.unit} per {limit.window} is a duplicate.",
                param=f"limits.{index}",
            )
        limits.append(limit)
    return tuple(limits)


def _limit(new: NewLimit, param: str) -> Limit | Problem:
    if new.unit == "concurrency" and new.window not in (None, "total"):
        return problem("request_invalid", "`window` must be `total` for concurrency.", param=f"{param}.window")
    if new.window is None and new.unit != "concurrency":
        message = f"`window` is required for {new.unit}: one of {', '.join(WINDOWS)}."
        return problem("request_invalid", message, param=f"{param}.window")
    cap = _cap(new)
    if isinstance(cap, str):
        return problem("request_invalid", cap, param=f"{param}.cap")
    return Limit(unit=new.unit, window=new.window or "total", cap=cap)


def _cap(new: NewLimit) -> int | str:
    """Return the cap, or what is wrong with it."""
    if new.unit != "usd":
        if isinstance(new.cap, str):
            return f"`cap` on {new.unit} must be a whole number."
        return new.cap if 0 <= new.cap <= CAP_MAX else f"`cap` on {new.unit} must be between 0 and {CAP_MAX}."
    if not isinstance(new.cap, str):
        return '`cap` on usd must be a decimal string of dollars, such as "5.00".'
    try:
        return money.nusd(new.cap)
    except money.MoneyError as error:
        return f'`cap` on usd must be a decimal string of dollars, such as "5.00": {error}.'


def cap_text(limit: Limit) -> str | int:
    """Write a cap as an operator would."""
    return money.usd(limit.cap) if limit.unit == "usd" else limit.cap
