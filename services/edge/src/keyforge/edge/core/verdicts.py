"""What an agent is told when budget refuses its request."""

from typing import Any

from keyforge.contracts.errors import CATALOGUE, Problem, problem
from keyforge.contracts.reserve import Answer


def refusal(answer: Answer) -> Problem:
    """Return the problem that a refusing `answer` stands for. A type that is not in the catalogue is our own fault."""
    if answer.type not in CATALOGUE:
        return problem("internal")
    metadata: dict[str, Any] = {}
    if answer.scope:
        metadata |= {"scope": answer.scope, "unit": answer.unit, "window": answer.window}
    if answer.first_request:
        metadata |= {"request_id": answer.first_request, "state": answer.first_state}
    return problem(answer.type, metadata=metadata, retry_after_s=answer.retry_after_s)
