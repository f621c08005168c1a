"""What an edge that is ended in the middle of an ask still tells the log."""

import asyncio
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from keyforge.contracts import directory, frame, subjects
from keyforge.contracts.directory import KeyEntry, Lease, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.events import RequestCancelled
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import (
    CredentialId,
    EdgeId,
    KeyId,
    ModelName,
    OwnerId,
    PriceId,
    ProviderId,
    RequestId,
    TenantId,
)
from keyforge.contracts.usage import UnitPrices
from keyforge.edge.application.call import Call
from keyforge.edge.application.context import Edge
from keyforge.edge.application.flow import admission
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.routing.credential_pool import Member, Pool
from keyforge.edge.core.settlement.commitment import CommitmentKey
from keyforge.edge.outbound.budget_client import ReserveBounds, ReserveClient
from keyforge.edge.outbound.feeds.owners import Leases
from keyforge.edge.outbound.outcome_log import Outcomes
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.nats.client import Link
from keyforge.runtime.buckets import Entry

EDGE, PROVIDER = EdgeId("edge-0"), ProviderId("one")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
KEY = KeyEntry(
    key_id=KeyId("k"), tenant=TenantId("t"), partition=0, digest="", status="active", models=None,
    max_output_tokens=None, expires_at=None, revision=1,
)  # fmt: skip
FREE = UnitPrices(
    input_nusd=0, cache_read_nusd=0, cache_write_nusd=0, input_audio_nusd=0, output_nusd=0, reasoning_nusd=0,
    output_audio_nusd=0,
)  # fmt: skip


class Silent:
    """A link on which nothing is ever answered."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ask(self, *_: Any, **__: Any) -> None:
        self.asked.set()
        await asyncio.Event().wait()


def edge(link: Silent, log: MemoryLog) -> Edge:
    """Return as much of an edge as an admission needs."""
    leases = Leases(1, time.monotonic)
    leases.hear([Entry("0", directory.encode(Lease(partition=0, epoch=1, owner=OwnerId("b"))), 1)], loaded=True)
    price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
    provider = ProviderEntry(provider=PROVIDER, kind="openai", base_url="https://x", allow_insecure=False, revision=1)
    known = SimpleNamespace(
        catalogue=Catalogue.of([provider], [PriceBook(provider=PROVIDER, models={ModelName("m"): price})]),
        pool=lambda _: Pool([Member(CredentialId("c"), 1, "g")]),
        address=lambda _: "somewhere",
    )
    reserves = ReserveClient(cast("Link", link), leases, EDGE, ReserveBounds(), time.monotonic)
    parts: dict[str, Any] = dict.fromkeys(Edge.__struct_fields__) | {
        "edge_id": EDGE,
        "bounds": SimpleNamespace(request_s=60, reserves=True),
        "clock": SimpleNamespace(now=lambda: NOW, monotonic=time.monotonic),
        "commitment_key": CommitmentKey(bytes(32)),
        "providers": known,
        "reserves": reserves,
        "outcomes": Outcomes(log, EDGE, lambda: NOW),
    }
    return Edge(**parts)


async def test_who_is_ended_while_it_waits_for_an_admission_gives_it_back() -> None:
    """Else the admission would stay open to its deadline, and then count as spent, for a request that nobody sends."""
    link, log = Silent(), MemoryLog.of_partitions(1)
    call = cast("Call", SimpleNamespace(request_id=RequestId("r"), told=SimpleNamespace(idempotency_key=b"")))
    running = edge(link, log)
    waiting = asyncio.create_task(admission(running, call, "chat.completions", KEY, BODY))
    await link.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await running.outcomes.drain()
    assert await log.end(subjects.log_stream(0)) == 1
    messages = await anext(aiter(log.read(subjects.log_stream(0))))
    told = [one for message in messages for one in frame.decode(message.data, message.subject)]
    assert len(told) == 1
    assert isinstance(told[0], Recorded)
    assert isinstance(told[0].event, RequestCancelled)
    assert told[0].event.request_id == "r"
