"""What an agent gets when budget refuses its request."""

import dataclasses
from typing import Any

import msgspec

from keyforge.contracts.errors import CATALOGUE, Problem, problem
from keyforge.contracts.reserve import Answer
from keyforge.edge.core.dialects.registry import ErrorShape


def refusal(answer: Answer, *, shape: ErrorShape = "openai") -> Problem:
    """Return the problem that a refusing `answer` stands for. A type that the catalogue lacks is a fault of ours.

    `shape` openrouter: a key's own cap answers 403, as it does there, where 402 is about the account.
    """
    if answer.type not in CATALOGUE:
        return problem("internal")
    metadata: dict[str, Any] = {}
    if answer.scope:
        metadata |= {"scope": answer.scope, "unit": answer.unit, "window": answer.window}
    if answer.first_request:
        metadata |= {"request_id": answer.first_request, "state": answer.first_state}
    message = f"{CATALOGUE[answer.type].message} {_limit(answer)}" if answer.scope else ""
    wrong = problem(answer.type, message, metadata=metadata, retry_after_s=answer.retry_after_s)
    if shape == "openrouter" and answer.type == "budget_exceeded" and answer.scope == "key":
        return dataclasses.replace(wrong, kind=msgspec.structs.replace(wrong.kind, status=403))
    return wrong


def _limit(answer: Answer) -> str:
    """Name the limit that was reached: clients that show a message alone show no metadata."""
    window = " in total" if answer.window == "total" else f" per {answer.window}"
    if answer.unit == "concurrency":  # at any time
        window = ""
    return f"The limit is the {answer.scope}'s, on {answer.unit}{window}."
