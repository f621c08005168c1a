"""Routes of records: pages of a chain, and its verification."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from keyforge.audit.application.chains import ChainMissing, Chains, NotStoredYet
from keyforge.audit.core.evidence import Disagreement
from keyforge.audit.inbound.api.answers import evidence_disagrees, missing
from keyforge.audit.inbound.api.parameters import WAIT_S, Wait
from keyforge.chain.record import RECORD_TYPES, request_text, unpack
from keyforge.chain.seal import key_chain, tenant_chain
from keyforge.chain.verify import Stored
from keyforge.contracts.money import usd
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime.http import fail

LIMIT_MAX: Final = 1000
"""Records of one page. Chosen: a response of 2 MB: a record has 1.1 KB (measured), of which a quarter is sent as
hex."""
SEQ_MAX: Final = 2**63 - 1
"""The largest signed number of 64 bits; the column is a UInt64, which holds every `after` that is let in."""
_TYPES: Final = {kind: name for name, kind in RECORD_TYPES.items()}
_NS_PER_US: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]


def _after(
    after: Annotated[int | None, Query(ge=0, le=SEQ_MAX, description="Return records after this seq.")] = None,
    after_seq: Annotated[
        int | None, Query(ge=0, le=SEQ_MAX, deprecated=True, description="The former name of `after`.")
    ] = None,
) -> int:
    if after is not None and after_seq is not None:
        message = "`after_seq` is the former name of `after`, and must not be given together with it."
        raise fail("request_invalid", message, param="query.after_seq")
    return after if after is not None else after_seq or 0


After = Annotated[int, Depends(_after)]


class PositionResponse(BaseModel):
    """The position of the event in its log."""

    generation: int
    sequence: int
    index: int


class RecordResponse(BaseModel):
    """One record: the fields of its header, its hash and MAC in hex, the event."""

    seq: int
    type: str
    chain_id: str
    key_version: int
    partition: int
    position: PositionResponse
    time: str
    request_id: str | None
    amount_usd: str
    settled_usd: str
    reserved_usd: str
    body_hash: str
    previous_hash: str
    hash: str
    mac: str
    header: str
    body: Any


class RecordsResponse(BaseModel):
    """A page of one chain, in order, each record as the log has it. `next` is the `after` of the next page, None at the
    end; `lag` counts messages of the chain's log that are not stored yet."""

    chain: str
    head_seq: int
    head_hash: str
    records: list[RecordResponse]
    next: int | None
    lag: int


class VerdictResponse(BaseModel):
    """The verdict on a stored chain: every hash and MAC was computed again, the head compared with the log's.

    Of an invalid one `seq` is the first record that is missing, altered or surplus; where `exact` is false, it may be
    an earlier one. `log_end`: the last message of its log; `lag`: how many of the log's messages are not stored.
    `spend_agrees`: whether what is stored of a key's requests is what its chain settled; null for other chains.
    `rule`: the rule of docs/spec/audit-format.md that is broken, if any; `open`: requests without an end so far.
    """

    chain: str
    verdict: str
    valid: bool
    seq: int
    exact: bool
    why: str
    rule: str | None
    open: int
    head_hash: str
    log: str | None
    log_end: int
    lag: int
    spend_agrees: bool | None


def routes(chains: Chains) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/tenants/{tenant}", tags=["records"])

    @router.get("/keys/{key_id}/records")
    async def records_of_key(
        tenant: str, key_id: str, after: After, limit: Limit = 100, wait_s: Wait = WAIT_S
    ) -> RecordsResponse:
        return await _records(chains, key_chain(tenant, key_id), after, limit, wait_s)

    @router.get("/keys/{key_id}/verify")
    async def verify_key(tenant: str, key_id: str, wait_s: Wait = WAIT_S) -> VerdictResponse:
        return await _verify(chains, key_chain(tenant, key_id), wait_s)

    @router.get("/records")
    async def records_of_tenant(
        tenant: str, after: After, limit: Limit = 100, wait_s: Wait = WAIT_S
    ) -> RecordsResponse:
        return await _records(chains, tenant_chain(tenant), after, limit, wait_s)

    @router.get("/verify")
    async def verify_tenant(tenant: str, wait_s: Wait = WAIT_S) -> VerdictResponse:
        return await _verify(chains, tenant_chain(tenant), wait_s)

    return router


async def _records(chains: Chains, chain: str, after: int, limit: int, wait_s: float) -> RecordsResponse:
    page = await chains.records(chain, after, limit, wait_s)
    if isinstance(page, ChainMissing):
        raise missing(_what(chain), page.lag)
    if isinstance(page, Disagreement):
        raise evidence_disagrees(page)
    records = [_record(stored) for stored in page.records]
    last = records[-1].seq if records else after
    return RecordsResponse(
        chain=chain,
        head_seq=page.head.seq,
        head_hash=page.head.hash.hex(),
        records=records,
        next=last if records and last < page.head.seq else None,
        lag=page.lag,
    )


async def _verify(chains: Chains, chain: str, wait_s: float) -> VerdictResponse:
    found = await chains.verify(chain, wait_s)
    if isinstance(found, ChainMissing):
        raise missing(_what(chain), found.lag)
    if isinstance(found, NotStoredYet):
        raise fail("not_stored_yet", metadata={"lag": found.lag})
    if isinstance(found, Disagreement):
        raise evidence_disagrees(found)
    verdict, exact = found.examination
    return VerdictResponse(
        chain=chain,
        verdict=str(verdict),
        valid=verdict.valid,
        seq=verdict.seq,
        exact=exact,
        why=verdict.why,
        rule=verdict.rule or None,
        open=verdict.open,
        head_hash=verdict.head.hex(),
        log=found.log or None,
        log_end=found.log_end,
        lag=found.lag,
        spend_agrees=found.spend_agrees,
    )


def _what(chain: str) -> Literal["tenant", "key"]:
    return "key" if chain.startswith("key/") else "tenant"


def _record(stored: Stored) -> RecordResponse:
    header = unpack(stored.header)
    return RecordResponse(
        seq=header.seq,
        type=_TYPES.get(header.type, str(header.type)),  # type: ignore[call-overload]  # an int that may be no member
        chain_id=header.chain_id.hex(),
        key_version=header.key_version,
        partition=header.partition,
        position=PositionResponse(generation=header.generation, sequence=header.sequence, index=header.frame_index),
        time=_time(header.time_ns),
        request_id=request_text(header.request_id) or None,
        amount_usd=usd(header.amount_nusd),
        settled_usd=usd(header.settled_nusd),
        reserved_usd=usd(header.reserved_nusd),
        body_hash=header.body_hash.hex(),
        previous_hash=header.previous.hex(),
        hash=stored.hash.hex(),
        mac=stored.mac.hex(),
        header=stored.header.hex(),
        body=_body(stored.body or b"null"),
    )


def _body(body: bytes) -> Any:
    """Return the event as JSON; stored bytes that are no longer JSON are returned as text."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return body.decode("utf-8", "replace")


def _time(time_ns: int) -> str:
    at = _EPOCH + timedelta(microseconds=time_ns // _NS_PER_US)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
