"""CPU of the edge's own code per request: real code from the agent's bytes to its answer, no sockets and no NATS.

    python -m tests.bench.edge_pieces_bench [--rounds 150] [--runs 7] [--stream] [--steps]

`--stream`: streams of 100 chunks that come one by one, in place of JSON answers. `--steps`: no times, but what Python
does for a request, by function.

The difference to `edge_bench` is the kernel, the bus, and caches that others use too. Under `valgrind --tool=callgrind`
two runs that differ in `--rounds` alone give instructions per request, exact to a fraction of a percent however busy
the machine is (it knows no SHA instructions: some 70,000 of them are hashing).
"""

import argparse
import asyncio
import gc
import json
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import msgspec
import uvicorn
import uvloop
from pydantic import SecretStr
from uvicorn.server import ServerState

from keyforge.contracts import keyformat
from keyforge.contracts.directory import CredentialEntry, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.events import KeyCreated
from keyforge.contracts.ids import (
    CredentialId,
    EdgeId,
    KeyId,
    ModelName,
    PriceId,
    ProviderId,
    TenantId,
    TokenId,
)
from keyforge.contracts.usage import UnitPrices
from keyforge.edge.app import GC_THRESHOLDS, Ports, Shared, agent_routes
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.settlement.commitment import TenantKey
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.inbound.fast_path import EdgeProtocol
from keyforge.edge.inbound.routes import AgentRoutes
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.budget_client import NatsBudgetClient, ReserveBounds
from keyforge.edge.outbound.feeds.key_directory import BucketKeyDirectory
from keyforge.edge.outbound.feeds.provider_registry import BucketProviderRegistry
from keyforge.edge.outbound.outcome_log import FramedOutcomeLog
from keyforge.edge.outbound.provider_http import client
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.edge.outbound.provider_http.connection import ProviderConnection
from keyforge.edge.settings import EdgeSettings
from keyforge.runtime.buckets import Entry
from keyforge.runtime.clock import SystemClock
from keyforge.testkit.encrypted_names import encrypted
from tests.bench import bodies
from tests.bench.edge_stand_ins import RESPONSE, STREAM, Always, Bus, Log, Transport
from tests.bench.steps import Steps

CONNECTIONS = 64
WARM_ROUNDS = 30
STEPS_ROWS = 60
EDGE = EdgeId("edge-0")
PROVIDER = ProviderId("bench")
BASE_URL = "http://127.0.0.1:9/v1"


class Agents:
    """Connections of agents that all ask at once."""

    def __init__(self, routes: AgentRoutes, request: bytes, end: bytes) -> None:
        config = uvicorn.Config(
            routes,
            http=EdgeProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            interface="asgi3",
        )
        config.load()
        self._request = request
        self._end = end
        self._left = 0
        self._done: asyncio.Future[None]
        self._connections: list[EdgeProtocol] = []
        for _ in range(CONNECTIONS):
            connection = EdgeProtocol(config, ServerState(), {}, asyncio.get_running_loop())
            connection.connection_made(Transport(self._answered))  # type: ignore[arg-type]
            self._connections.append(connection)

    async def round(self) -> None:
        """Ask once on every connection; return when all are answered."""
        self._left = CONNECTIONS
        self._done = asyncio.get_running_loop().create_future()
        for connection in self._connections:
            connection.data_received(self._request)
        await self._done

    def _answered(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not what was expected: {data!r}")
        if data.endswith(self._end):
            self._left -= 1
            if not self._left:
                self._done.set_result(None)


async def dial(
    _origin: object, connection: Callable[[], ProviderConnection], *_: object, time_limit_s: float
) -> ProviderConnection:
    """Connect to a provider that answers from the next turn on, one piece a turn."""
    del time_limit_s
    made, loop = connection(), asyncio.get_running_loop()

    def say(pieces: Sequence[bytes]) -> None:
        made.data_received(pieces[0])
        if len(pieces) > 1:
            loop.call_soon(say, pieces[1:])

    ends = socket.socketpair()
    named = {"socket": ends[0], "other": ends[1]}

    def wrote(data: bytes) -> None:
        loop.call_soon(say, STREAM if b'"stream":true' in data else (RESPONSE,))

    made.connection_made(Transport(wrote, named))  # type: ignore[arg-type]
    return made


def registry() -> BucketProviderRegistry:
    """Return one provider with a price and a credential."""
    prices = UnitPrices(
        input_nusd=150, cache_read_nusd=75, cache_write_nusd=150, cache_write_1h_nusd=150, input_audio_nusd=150,
        output_nusd=600, reasoning_nusd=600, output_audio_nusd=600,
    )  # fmt: skip
    price = PriceEntry(price_id=PriceId("bench-1"), prices=prices, max_output_tokens=None, context_tokens=None)
    credential = CredentialEntry(
        credential=CredentialId("one"), provider=PROVIDER, base_url=BASE_URL, encrypted="-", encrypted_to="-", weight=1,
        quota_group="one", version=1,
    )  # fmt: skip
    providers = BucketProviderRegistry(lambda _: "fixture-bench")
    provider = ProviderEntry(provider=PROVIDER, kind="openai", base_url=BASE_URL, allow_insecure=True, revision=1)
    for apply, entry in (
        (providers.apply_providers, provider),
        (providers.apply_prices, PriceBook(provider=PROVIDER, models={ModelName(bodies.MODEL): price})),
        (providers.apply_credentials, credential),
    ):
        apply([Entry(PROVIDER, msgspec.json.encode(entry), 1)], loaded=True)
    return providers


class TenantKeys:
    """In place of the bucket of secrets: one key, always at hand."""

    def __init__(self) -> None:
        self._key = TenantKey(1, bytes(32))

    def known(self, _tenant: str) -> TenantKey:
        return self._key

    async def load(self, _tenant: str) -> TenantKey:
        return self._key


def build(keys: BucketKeyDirectory) -> tuple[AgentRoutes, FramedOutcomeLog]:
    """Put an edge together that knows one provider: the product's own wiring, over stand-ins for what does I/O."""
    client.dial = dial  # type: ignore[assignment,attr-defined]
    clock, always = SystemClock(), Always()
    shared = Shared(
        edge_id=EDGE, clock=clock, running=RunningRequests(), refusals=RefusalCounter(EDGE), pending=PendingOutcomes(),
        metrics=Metrics(),
    )  # fmt: skip
    outcomes = FramedOutcomeLog(Log(), EDGE, clock.now, shared.pending)  # type: ignore[arg-type]
    ports = Ports(
        keys=keys,
        tenant_keys=TenantKeys(),
        providers=registry(),
        budget=NatsBudgetClient(Bus(), always, EDGE, ReserveBounds(), clock.monotonic),  # type: ignore[arg-type]
        outcomes=outcomes,
        control_feed=always,
        upstream=HttpUpstream(clock.monotonic),
    )
    secret = SecretStr((b"c" * 32).hex())
    settings = EdgeSettings(
        edge_private_key=secret, commitment_secret=secret, key_secret=secret, open_requests_max=10_000
    )
    return agent_routes(settings, ports, shared, None), outcomes  # type: ignore[arg-type]


def request_of(key: str, *, stream: bool) -> bytes:
    """Return the bench's request as an agent writes it."""
    body = json.dumps({**bodies.REQUEST, "stream": stream}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def main(rounds: int, runs: int, *, stream: bool, steps: bool) -> None:
    """Print one line, or a table of steps."""
    secrets = keyformat.KeySecrets.derive(b"fixture-of-the-bench-32-bytes---")
    minted = keyformat.mint("vk", secrets, b"i" * keyformat.ID_BYTES, b"s" * keyformat.SECRET_BYTES)
    keys = BucketKeyDirectory(None, secrets, SystemClock().monotonic, Metrics(), bytes_max=1 << 20)  # type: ignore[arg-type]
    routes, outcomes = build(keys)
    created = KeyCreated(
        tenant=TenantId("bench"), key_id=KeyId(minted.id), name=encrypted("bench"), digest=minted.digest,
        models=None, limits=(), max_output_tokens=None, expires_at=None, revision=1, secret_version=1,
        by=TokenId("bench"),
    )  # fmt: skip
    keys.apply(0, created)
    agents = Agents(
        routes,
        request_of(minted.text, stream=stream),
        b"0\r\n\r\n" if stream else b"}",
    )
    for _ in range(WARM_ROUNDS):
        await agents.round()
    if steps:
        counted = Steps()
        with counted.counting():
            await agents.round()
            await outcomes.drain()
        sys.stdout.write(counted.table(CONNECTIONS, STEPS_ROWS) + "\n")
        return
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()
    found: list[float] = []
    for _ in range(runs):
        begun_s = time.process_time()
        for _ in range(rounds):
            await agents.round()
        await outcomes.drain()
        found.append((time.process_time() - begun_s) / rounds / CONNECTIONS * 1e6)
    sys.stdout.write(f"us a request: median {statistics.median(found):.1f}, least {min(found):.1f}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--steps", action="store_true")
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(chosen.rounds, chosen.runs, stream=chosen.stream, steps=chosen.steps))
