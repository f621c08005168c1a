"""Twins of the edge's ports, in memory: a key, credentials, an owner and a provider that follow scripts."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from keyforge.contracts.directory import KeyEntry, PriceBook, PriceEntry, ProviderEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId, EdgeId, KeyId, ModelName, PriceId, ProviderId, RequestId, TenantId
from keyforge.contracts.reserve import Answer, Reserve
from keyforge.contracts.usage import UnitPrices
from keyforge.edge.application.admitted_request import AdmittedRequest
from keyforge.edge.application.agent_stream import AgentStream
from keyforge.edge.application.answer_headers import sent_as
from keyforge.edge.application.call import Headers, RequestHead
from keyforge.edge.application.ports import OutcomeEvent, Unanswered
from keyforge.edge.application.provider_call import HeaderBlock, UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamError
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.dialects.additions import Additions
from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.core.judge import AgentRequest, PricedRequest, judge
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.routing.credential_pool import CredentialPool, PooledCredential
from keyforge.edge.core.routing.origin import Origin, ProviderAddress
from keyforge.edge.core.settlement.commitment import TenantKey
from keyforge.edge.core.settlement.outcome import Outcome

EDGE, PROVIDER = EdgeId("edge-0"), ProviderId("one")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY = KeyEntry(
    key_id=KeyId("k"), tenant=TenantId("t"), partition=0, digest="", status="active", models=None,
    max_output_tokens=None, expires_at=None, revision=1,
)  # fmt: skip
FREE = UnitPrices(
    input_nusd=0, cache_read_nusd=0, cache_write_nusd=0, cache_write_1h_nusd=0, input_audio_nusd=0, output_nusd=0,
    reasoning_nusd=0, output_audio_nusd=0,
)  # fmt: skip
ALLOW = Answer("allow", sequence=1)
CHAT = ROUTES["/v1/chat/completions"]


def secret(credential: str) -> bytes:
    """Return what stands for the secret of a credential."""
    return b"fixture-secret-of-%s" % credential.encode()


def priced(**fields: Any) -> PricedRequest:
    """Return a request of the model `m`, judged and priced."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    request = AgentRequest(RequestId("r"), CHAT, json.dumps(body).encode(), b"", 60_000)
    found = judge(request, KEY, Registry().catalogue, TenantKey(1, bytes(32)), Additions(), now=NOW)
    assert isinstance(found, PricedRequest), found
    return found


def admitted(
    agent: "Agent", priced: PricedRequest, outcome: Outcome, *, deadline: float = 60.0, early_head_s: float = 10.0
) -> AdmittedRequest:
    """Return an admitted request on its way, with the agent's side of a stream if it asked for one."""
    running = RunningRequests().entered(KEY)
    if priced.outgoing.request.stream:
        running.stream = AgentStream(agent, sent_as(priced), early_head_s=early_head_s)
    return AdmittedRequest(agent, priced, outcome, running, deadline, running.stream)


class TenantKeys:
    """The twin of `outbound.feeds.tenant_keys.BucketTenantKeys`. `version` 0: the tenant has no secret."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.loads = 0
        self._known: TenantKey | None = None

    def known(self, _tenant: TenantId) -> TenantKey | None:
        return self._known

    async def load(self, _tenant: TenantId) -> TenantKey | Problem:
        self.loads += 1
        if not self.version:
            return problem("policy_unavailable")
        self._known = TenantKey(self.version, bytes(32))
        return self._known


class Keys:
    """`KeyDirectory`: knows the entries it is given, the last one for good."""

    def __init__(self, *entries: KeyEntry) -> None:
        self._entries = deque(entries)
        self.refreshed = 0

    def known(self, text: bytes) -> KeyEntry | None:
        return None

    async def identify(self, text: bytes) -> KeyEntry | Problem:
        return self._entries[0] if text else problem("key_invalid")

    async def refresh(self, key_id: KeyId) -> KeyEntry | Problem:
        self.refreshed += 1
        entry = self._entries.popleft() if len(self._entries) > 1 else self._entries[0]
        return entry if entry.key_id == key_id else problem("key_invalid")


class Registry:
    """`ProviderRegistry`: one provider with the model `m`, and a credential for each (name, quota group)."""

    def __init__(self, *credentials: tuple[str, str]) -> None:
        price = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)
        entry = ProviderEntry(provider=PROVIDER, kind="openai", base_url="https://x", allow_insecure=False, revision=1)
        self.catalogue = Catalogue.of([entry], [PriceBook(provider=PROVIDER, models={ModelName("m"): price})])
        self.additions = Additions()
        self._pool = CredentialPool(PooledCredential(CredentialId(name), 1, group) for name, group in credentials)

    def address(self, provider: ProviderId) -> ProviderAddress | None:
        return ProviderAddress(Origin("https", "x", 443), "/v1") if provider == PROVIDER else None

    def pool(self, provider: ProviderId) -> CredentialPool:
        return self._pool if provider == PROVIDER else CredentialPool()

    def headers(self, credential: CredentialId) -> HeaderBlock | None:
        return HeaderBlock.of([(b"authorization", b"Bearer " + secret(credential))])

    def redact(self, attempts: Iterable[Attempt], text: bytes) -> bytes:
        for attempt in attempts:
            text = text.replace(secret(attempt.credential), b"[redacted]")
        return text


class Budget:
    """`BudgetClient`: answers as scripted, the last answer for good; keeps what was asked."""

    def __init__(self, *answers: Answer | Unanswered) -> None:
        self.asked: list[Reserve] = []
        self._answers = deque(answers)

    async def ask(self, partition: int, reserve: Reserve) -> Answer | Unanswered:
        assert partition == KEY.partition
        self.asked.append(reserve)
        return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


class Outcomes:
    """`OutcomeLog`: keeps events; unavailable if it is given a problem."""

    def __init__(self, wrong: Problem | None = None) -> None:
        self.events: list[OutcomeEvent] = []
        self._wrong = wrong

    def append(self, partition: int, event: OutcomeEvent) -> None:
        assert partition == KEY.partition
        self.events.append(event)

    def unavailable(self, partition: int) -> Problem | None:
        return self._wrong if partition == KEY.partition else None

    def has_room(self, partition: int) -> bool:
        return partition >= 0

    def waiting(self) -> int:
        return 0

    async def drain(self) -> None:
        """Everything is stored at once."""

    def give_up(self) -> int:
        return 0


class Feed:
    """`ControlFeed`: stale or not, readable."""

    def __init__(self, *, stale: bool = False) -> None:
        self._stale = stale

    def unreadable(self) -> bool:
        return False

    def stale(self, partition: int) -> bool:
        return self._stale and partition == KEY.partition


class Response:
    """`UpstreamResponse`: a whole body in pieces, then perhaps an error."""

    def __init__(self, status: int, *pieces: bytes, error: UpstreamError | None = None) -> None:
        self.status = status
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.abandoned = False
        self._pieces = deque(pieces)
        self._error = error

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._pieces:
            yield self._pieces.popleft()
            await asyncio.sleep(0)
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        self.abandoned = True


class Upstream:
    """`Upstream`: each call ends as scripted; keeps the calls."""

    def __init__(self, *outcomes: Response | UpstreamError) -> None:
        self.calls: list[UpstreamRequest] = []
        self._outcomes = deque(outcomes)

    async def send(self, request: UpstreamRequest) -> Response:
        self.calls.append(request)
        outcome = self._outcomes.popleft()
        if isinstance(outcome, UpstreamError):
            raise outcome
        return outcome


class Agent:
    """`Call`: a request with a body, and what it was answered."""

    def __init__(self, body: bytes = b"", key_text: bytes = b"vk") -> None:
        self.request_id = RequestId("r")
        self.head = RequestHead(key_text, b"", len(body), expects=False)
        self.began = 0.0
        self.status = 0
        self.answered = b""
        self.headers: dict[bytes, bytes] = {}
        self.ended = False
        self.hung_up = asyncio.Event()
        self._body = body

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:
        assert time_limit_s > 0
        return self._body if len(self._body) <= bytes_max else problem("body_too_large")

    async def gone(self) -> None:
        await self.hung_up.wait()

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        self.headers = dict(headers or ())
        self.status, self.answered, self.ended = status, body, True

    async def start(self, status: int, headers: Headers) -> None:
        self.headers, self.status = dict(headers), status

    async def piece(self, data: bytes) -> None:
        self.answered += data

    async def end(self) -> None:
        self.ended = True
