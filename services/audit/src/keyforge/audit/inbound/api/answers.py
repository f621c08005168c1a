"""What several routes answer with."""

from typing import Literal

from pydantic import BaseModel

from keyforge.audit.core.evidence import Disagreement
from keyforge.contracts.errors import not_found
from keyforge.runtime.http import ProblemError, fail


class DisagreementResponse(BaseModel):
    """Where a table and the log disagree. `seq`: the first record of the chain that is missing, altered or surplus.

    `log` is None where no log has the chain.
    """

    table: str
    log: str | None
    chain: str
    seq: int | None
    why: str


def disagreement_response(found: Disagreement) -> DisagreementResponse:
    """Return a disagreement as it is answered."""
    return DisagreementResponse(
        table=found.table, log=found.log or None, chain=found.chain, seq=found.seq, why=found.why
    )


def evidence_disagrees(found: Disagreement) -> ProblemError:
    """Return the error that ends a request whose answer would come from rows that the log contradicts."""
    message = f"What is stored differs from the log: {found}."
    return fail("evidence_disagrees", message, metadata=disagreement_response(found).model_dump())


def missing(what: Literal["tenant", "key"], lag: int) -> ProblemError:
    """Return the error of a tenant or a key that no log has. With a `lag` it may still come."""
    if lag:
        return fail("not_stored_yet", metadata={"lag": lag})
    return ProblemError(not_found(what))
