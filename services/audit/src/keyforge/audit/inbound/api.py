"""The operators' API of audit: records of a chain, whether it verifies, spend, rebuild."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from pydantic import BaseModel

from keyforge.audit.application.freshness import WAIT_S, Wait, settle
from keyforge.audit.application.projection import Projection
from keyforge.audit.core.verifying import VERIFY_RECORDS_MAX, Reading
from keyforge.audit.errors import StoreError
from keyforge.audit.outbound.store import SPEND_BY, Store
from keyforge.chain.record import RECORD_TYPES, request_text, unpack
from keyforge.chain.seal import MasterKey, key_chain, tenant_chain
from keyforge.chain.verify import Stored
from keyforge.contracts.money import usd
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime.http import OperatorOf, fail

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


class SpendRow(BaseModel):
    """What one group spent. `group` has an entry for each name in `by`."""

    group: dict[str, str]
    requests: int
    settled_usd: str
    tokens: int


class SpendOut(BaseModel):
    """Spend by group and in all. `behind` counts the logs' messages that are not stored yet."""

    by: list[str]
    rows: list[SpendRow]
    total: SpendRow
    behind: int


class RebuildOut(BaseModel):
    """How the last rebuild fared."""

    state: Literal["none", "running", "done", "failed"]
    folded: int
    messages: int
    records: int
    identical: bool | None
    differences: list[str]
    error: str


class _Chains:
    """Reads stored chains."""

    def __init__(self, store: Store, projection: Projection, master: MasterKey) -> None:
        self._store, self._projection, self._master = store, projection, master

    async def records(self, chain: str, after_seq: int, limit: int, wait_s: float) -> RecordsOut:
        behind = await settle(self._projection, wait_s)
        head = self._head(chain, behind)
        found = await _asked(self._projection, self._store.records, chain, after_seq, head[0], limit)
        records = [_record(stored) for stored in found]
        last = records[-1].seq if records else after_seq
        return RecordsOut(
            chain=chain,
            head_seq=head[0],
            head_hash=head[1].hex(),
            records=records,
            next_after_seq=last if records and last < head[0] else None,
            behind=behind,
        )

    async def verify(self, chain: str, wait_s: float) -> VerdictOut:
        behind = await settle(self._projection, wait_s)
        head = self._head(chain, behind)
        reading = Reading(chain, self._master, head)
        while (after := reading.next_after) is not None:
            upto = min(after + VERIFY_RECORDS_MAX, head[0])
            found = await _asked(self._projection, self._store.records, chain, after, upto, 2 * VERIFY_RECORDS_MAX)
            reading.take(found, upto)
        stored = await _asked(self._projection, self._store.last_seq, chain)
        head_seq = max(self._head(chain, behind)[0], self._projection.folded_seq(chain))
        verdict = reading.verdict(stored_seq=stored, head_seq=head_seq)
        return VerdictOut(
            chain=chain,
            verdict=str(verdict),
            valid=verdict.valid,
            seq=verdict.seq,
            why=verdict.why,
            head_hash=verdict.head.hex(),
        )

    def _head(self, chain: str, behind: int) -> tuple[int, bytes]:
        head = self._projection.stored_head(chain)
        if head is None:
            if self._projection.writer is None:
                raise fail("store_unavailable")
            raise fail("not_stored_yet" if behind else "not_found")
        return head


def add_routes(app: FastAPI, store: Store, projection: Projection, master: MasterKey, reader: OperatorOf,
               admin: OperatorOf) -> None:  # fmt: skip
    """Add the routes. `reader` and `admin` are the dependencies that let an operator in."""
    app.include_router(_chain_routes(_Chains(store, projection, master)), dependencies=[Depends(reader)])
    app.include_router(_spend_routes(store, projection), dependencies=[Depends(reader)])
    app.include_router(_rebuild_routes(projection, admin), dependencies=[Depends(reader)])


def _chain_routes(chains: _Chains) -> APIRouter:
    routes = APIRouter(prefix="/v1/tenants/{tenant}", tags=["records"])

    @routes.get("/keys/{key_id}/records")
    async def records_of_key(
        tenant: str, key_id: str, after_seq: Seq = 0, limit: Limit = 100, wait_s: Wait = WAIT_S
    ) -> RecordsOut:
        return await chains.records(key_chain(tenant, key_id), after_seq, limit, wait_s)

    @routes.get("/keys/{key_id}/verify")
    async def verify_key(tenant: str, key_id: str, wait_s: Wait = WAIT_S) -> VerdictOut:
        return await chains.verify(key_chain(tenant, key_id), wait_s)

    @routes.get("/records")
    async def records_of_tenant(
        tenant: str, after_seq: Seq = 0, limit: Limit = 100, wait_s: Wait = WAIT_S
    ) -> RecordsOut:
        return await chains.records(tenant_chain(tenant), after_seq, limit, wait_s)

    @routes.get("/verify")
    async def verify_tenant(tenant: str, wait_s: Wait = WAIT_S) -> VerdictOut:
        return await chains.verify(tenant_chain(tenant), wait_s)

    return routes


def _spend_routes(store: Store, projection: Projection) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["spend"])

    @routes.get("/spend")
    async def spend(
        tenant: str | None = None,
        by: str = "",
        since: Annotated[datetime | None, Query(alias="from")] = None,
        until: Annotated[datetime | None, Query(alias="to")] = None,
        wait_s: Wait = WAIT_S,
    ) -> SpendOut:
        """Sum what was settled, by when it was admitted. `by`: names of groups, separated by commas."""
        names = [name for name in by.split(",") if name]
        if unknown := [name for name in names if name not in SPEND_BY]:
            raise fail("request_invalid", f"`by` takes {', '.join(SPEND_BY)}", param=f"by: {unknown[0][:40]}")
        if len(set(names)) != len(names):
            raise fail("request_invalid", "A name stands twice.", param="by")
        for name, value in (("from", since), ("to", until)):
            if value is not None and value.tzinfo is None:
                raise fail("request_invalid", "A time needs its zone.", param=name)
        behind = await settle(projection, wait_s)
        found = await _asked(projection, store.spend, names, tenant, since, until)
        rows = [_spend_row(names, row) for row in found]
        sums = [sum(column) for column in zip(*(row[len(names) :] for row in found), strict=True)] or [0, 0, 0]
        return SpendOut(by=names, rows=rows, total=_spend_row([], sums), behind=behind)

    return routes


def _rebuild_routes(projection: Projection, admin: OperatorOf) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["rebuild"])

    @routes.get("/rebuild")
    async def progress() -> RebuildOut:
        return RebuildOut(**msgspec.structs.asdict(projection.rebuilding))

    @routes.post("/rebuild", status_code=202, dependencies=[Depends(admin)])
    async def rebuild(response: Response) -> RebuildOut:
        """Throw the tables away and fold the logs again; goes on in the background."""
        if not await projection.rebuild():
            response.status_code = 200
        return RebuildOut(**msgspec.structs.asdict(projection.rebuilding))

    return routes


async def _asked(projection: Projection, call: Any, *args: Any) -> Any:
    """Ask the store, unless it is not open, or a rebuild takes the tables away meanwhile."""
    writer = projection.writer
    if writer is not None:
        try:
            found = await asyncio.to_thread(call, *args)
        except StoreError:
            raise fail("store_unavailable") from None
        if projection.writer is writer:
            return found
    raise fail("store_unavailable")


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


def _spend_row(names: list[str], row: Any) -> SpendRow:
    group = {
        name: value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)
        for name, value in zip(names, row, strict=False)
    }
    requests, settled_nusd, tokens = row[len(names) :]
    return SpendRow(group=group, requests=int(requests), settled_usd=usd(int(settled_nusd)), tokens=int(tokens))


def _time(time_ns: int) -> str:
    at = _EPOCH + timedelta(microseconds=time_ns // _NS_PER_US)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
