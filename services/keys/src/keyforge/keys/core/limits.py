"""Limits as an operator writes them, turned into limits as budget enforces them.

A key's cap may be above its tenant's: both are enforced on every request, so the larger one grants nothing.
"""

from collections.abc import Sequence

import msgspec

from keyforge.contracts import money
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.limits import CAP_MAX, LIMITS_MAX, Limit, Unit, Window


class LimitAsk(msgspec.Struct, frozen=True):
    """What was asked: dollars are a decimal string, everything else a whole number. No window: `total`."""

    unit: Unit
    window: Window | None
    cap: str | int


def limits_of(asks: Sequence[LimitAsk]) -> tuple[Limit, ...] | Problem:
    """Return the limits, or what is wrong with one of them."""
    if len(asks) > LIMITS_MAX:
        return problem("request_invalid", f"At most {LIMITS_MAX} limits.", param="limits")
    limits: list[Limit] = []
    for index, ask in enumerate(asks):
        limit = _limit(ask, f"limits.{index}")
        if isinstance(limit, Problem):
            return limit
        if any((other.unit, other.window) == (limit.unit, limit.window) for other in limits):
            return problem(
                "request_invalid", f"Two limits on {limit.unit} per {limit.window}.", param=f"limits.{index}"
            )
        limits.append(limit)
    return tuple(limits)


def _limit(ask: LimitAsk, param: str) -> Limit | Problem:
    if ask.unit == "concurrency" and ask.window not in (None, "total"):
        return problem("request_invalid", "concurrency has the window `total`.", param=f"{param}.window")
    if ask.window is None and ask.unit != "concurrency":
        return problem("request_invalid", "This limit needs a window.", param=f"{param}.window")
    cap = _cap(ask)
    if isinstance(cap, str):
        return problem("request_invalid", cap, param=f"{param}.cap")
    return Limit(unit=ask.unit, window=ask.window or "total", cap=cap)


def _cap(ask: LimitAsk) -> int | str:
    """Return the cap, or what is wrong with it."""
    if ask.unit != "usd":
        if isinstance(ask.cap, str):
            return f"A cap on {ask.unit} is a whole number."
        return ask.cap if 0 <= ask.cap <= CAP_MAX else f"From 0 to {CAP_MAX}."
    if not isinstance(ask.cap, str):
        return 'A cap on usd is a decimal string of dollars, such as "5.00".'
    try:
        return money.nusd(ask.cap)
    except money.MoneyError as error:
        return f"A cap on usd is a decimal string of dollars: {error}."


def cap_text(limit: Limit) -> str | int:
    """Write a cap as an operator would."""
    return money.usd(limit.cap) if limit.unit == "usd" else limit.cap
