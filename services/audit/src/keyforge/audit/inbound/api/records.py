"""Routes of records: pages of a chain, and whether it verifies."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel

from keyforge.audit.application.chains import ChainMissing, Chains
from keyforge.audit.inbound.api.parameters import WAIT_S, Wait
from keyforge.chain.record import RECORD_TYPES, request_text, unpack
from keyforge.chain.seal import key_chain, tenant_chain
from keyforge.chain.verify import Stored
from keyforge.contracts.money import usd
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime.http import ProblemError, fail

LIMIT_MAX: Final = 1000
_TYPES: Final = {kind: name for name, kind in RECORD_TYPES.items()}
_NS_PER_US: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Seq = Annotated[int, Query(ge=0, le=2**63 - 1)]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]


class PositionOut(BaseModel):
    """Where the event stands in its log."""

    generation: int
    sequence: int
    index: int


class RecordOut(BaseModel):
    """One record: the fields of its header, its hash and MAC in hex, the event."""

    seq: int
    type: str
    chain_id: str
    key_version: int
    partition: int
    position: PositionOut
    time: str
    request_id: str | None
    amount_usd: str
    settled_usd: str
    reserved_usd: str
    body_commitment: str
    previous_hash: str
    hash: str
    mac: str
    header: str
    body: Any


class RecordsOut(BaseModel):
    """Records of one chain, in order. `next_after_seq` is None at its end; `behind` as for spend."""

    chain: str
    head_seq: int
    head_hash: str
    records: list[RecordOut]
    next_after_seq: int | None
    behind: int


class VerdictOut(BaseModel):
    """What re-reading and re-computing a stored chain came to."""

    chain: str
    verdict: str
    valid: bool
    seq: int
    why: str
    head_hash: str


def routes(chains: Chains) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/tenants/{tenant}", tags=["records"])

    @router.get("/keys/{key_id}/records")
    async def records_of_key(
        tenant: str, key_id: str, after_seq: Seq = 0, limit: Limit = 100, wait_s: Wait = WAIT_S
    ) -> RecordsOut:
        return await _records(chains, key_chain(tenant, key_id), after_seq, limit, wait_s)

    @router.get("/keys/{key_id}/verify")
    async def verify_key(tenant: str, key_id: str, wait_s: Wait = WAIT_S) -> VerdictOut:
        return await _verify(chains, key_chain(tenant, key_id), wait_s)

    @router.get("/records")
    async def records_of_tenant(
        tenant: str, after_seq: Seq = 0, limit: Limit = 100, wait_s: Wait = WAIT_S
    ) -> RecordsOut:
        return await _records(chains, tenant_chain(tenant), after_seq, limit, wait_s)

    @router.get("/verify")
    async def verify_tenant(tenant: str, wait_s: Wait = WAIT_S) -> VerdictOut:
        return await _verify(chains, tenant_chain(tenant), wait_s)

    return router


async def _records(chains: Chains, chain: str, after_seq: int, limit: int, wait_s: float) -> RecordsOut:
    page = await chains.records(chain, after_seq, limit, wait_s)
    if isinstance(page, ChainMissing):
        raise _missing(page)
    records = [_record(stored) for stored in page.records]
    last = records[-1].seq if records else after_seq
    return RecordsOut(
        chain=chain,
        head_seq=page.head_seq,
        head_hash=page.head_hash.hex(),
        records=records,
        next_after_seq=last if records and last < page.head_seq else None,
        behind=page.lag,
    )


async def _verify(chains: Chains, chain: str, wait_s: float) -> VerdictOut:
    verdict = await chains.verify(chain, wait_s)
    if isinstance(verdict, ChainMissing):
        raise _missing(verdict)
    return VerdictOut(
        chain=chain,
        verdict=str(verdict),
        valid=verdict.valid,
        seq=verdict.seq,
        why=verdict.why,
        head_hash=verdict.head.hex(),
    )


def _missing(missing: ChainMissing) -> ProblemError:
    return fail("not_stored_yet" if missing.lag else "not_found")


def _record(stored: Stored) -> RecordOut:
    header = unpack(stored.header)
    return RecordOut(
        seq=header.seq,
        type=_TYPES.get(header.type, str(header.type)),  # type: ignore[call-overload]  # an int that may be no member
        chain_id=header.chain_id.hex(),
        key_version=header.key_version,
        partition=header.partition,
        position=PositionOut(generation=header.generation, sequence=header.sequence, index=header.frame_index),
        time=_time(header.time_ns),
        request_id=request_text(header.request_id) or None,
        amount_usd=usd(header.amount_nusd),
        settled_usd=usd(header.settled_nusd),
        reserved_usd=usd(header.reserved_nusd),
        body_commitment=header.body.hex(),
        previous_hash=header.previous.hex(),
        hash=stored.hash.hex(),
        mac=stored.mac.hex(),
        header=stored.header.hex(),
        body=_body(stored.body or b"null"),
    )


def _body(body: bytes) -> Any:
    """Return the event; where the stored bytes are no JSON any more, what is left of them as text."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return body.decode("utf-8", "replace")


def _time(time_ns: int) -> str:
    at = _EPOCH + timedelta(microseconds=time_ns // _NS_PER_US)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
