"""An agent's request, judged and priced: everything that the rest of its way needs."""

from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.ids import RequestId
from keyforge.contracts.limits import CAP_MAX
from keyforge.contracts.reserve import Reserve
from keyforge.edge.core.dialects import registry
from keyforge.edge.core.dialects.additions import NOTHING, OUTPUT_TOKENS_DEFAULT, Additions, Concessions
from keyforge.edge.core.dialects.base import ParsedRequest, ProviderDialect, Sending, ServedEndpoint
from keyforge.edge.core.dialects.provider_error import ProviderError
from keyforge.edge.core.dialects.quirks import Quirks, quirks_of
from keyforge.edge.core.dialects.registry import AgentRoute
from keyforge.edge.core.pricing import worst_case
from keyforge.edge.core.pricing.workload import Workload
from keyforge.edge.core.pricing.worst_case import WorstCase
from keyforge.edge.core.routing import policy
from keyforge.edge.core.routing.catalogue import Catalogue, Route
from keyforge.edge.core.settlement.commitment import Commitments, TenantKey

WAYS_MAX: Final = 256
"""Pairs of an agent's endpoint and a kind of provider that are kept. Chosen: four routes times the 20 kinds that are
known are 80; what does not fit is found again at each request, in some microseconds."""


class AgentRequest(msgspec.Struct, frozen=True):
    """What an agent sent, besides its key."""

    request_id: RequestId
    on: AgentRoute
    body: bytes
    idempotency_key: bytes
    ttl_ms: int


class OutgoingRequest(msgspec.Struct, frozen=True):
    """What is sent to a provider, in which dialect, and what it can cost."""

    route: Route
    speaks: ProviderDialect
    served: ServedEndpoint
    request: ParsedRequest
    workload: Workload
    sending: Sending
    body: bytes
    worst: WorstCase
    ignored: tuple[str, ...] = ()
    """Paths of what the agent sent and the provider is not sent, as it would change nothing."""

    def conceding(self, error: ProviderError) -> "OutgoingRequest | None":
        """Return the request to send once more, where its provider refused something that we had added; None: it
        refused something else. It costs no more than was reserved: its cap is no higher, and no model reads the name of
        a field."""
        conceded = self.speaks.conceded(self.request, self.workload, self.sending, error)
        if conceded is None:
            return None
        cap = self.sending.cap if conceded.cap_max is None else min(self.sending.cap, conceded.cap_max)
        sending = msgspec.structs.replace(self.sending, cap=cap, concessions=conceded, again=True)
        return msgspec.structs.replace(self, sending=sending, body=self.speaks.render(self.request, sending))


class PricedRequest(msgspec.Struct, frozen=True):
    """What to ask budget, and what to send if it allows it. `at`: when it was judged; `on`: the agent's route."""

    at: datetime
    on: AgentRoute
    key: KeyEntry
    outgoing: OutgoingRequest
    commitments: Commitments
    reserve: Reserve


def judge(
    request: AgentRequest,
    key: KeyEntry,
    catalogue: Catalogue,
    tenant_key: TenantKey,
    additions: Additions,
    *,
    now: datetime,
) -> PricedRequest | Problem:
    """Return what to ask budget, or why budget is not even asked. `tenant_key` makes commitments."""
    if refused := policy.refuse_key(key, now=now):
        return refused
    parsed = request.on.parse(request.body)
    if isinstance(parsed, Problem):
        return parsed
    route = policy.resolve(parsed.model, key, catalogue)
    if isinstance(route, Problem):
        return route
    outgoing = outgoing_for(
        request.on,
        parsed,
        route,
        key,
        additions.conceded(route.provider, route.model, now),
        output_tokens_default=additions.output_tokens_default,
    )
    if isinstance(outgoing, Problem):
        return outgoing
    worst, price = outgoing.worst, route.price
    if worst.nusd > CAP_MAX or worst.tokens > CAP_MAX:
        return problem("budget_exceeded")  # no budget is so large, and the message that asks for it holds 64 bits
    commitments = tenant_key.of(request.request_id)
    named = request.idempotency_key
    reserve = Reserve(
        request_id=request.request_id,
        tenant=key.tenant,
        key_id=key.key_id,
        policy_revision=key.revision,
        endpoint=request.on.endpoint,
        provider=route.provider,
        model=route.model,
        price_id=price.price_id,
        prices=price.prices,
        worst_nusd=worst.nusd,
        worst_tokens=worst.tokens,
        ttl_ms=request.ttl_ms,
        body_commitment=commitments.of_request(request.body),
        idempotency_hash=tenant_key.idempotency_hash(key.key_id, named) if named else None,
        secret_version=tenant_key.version,
    )
    return PricedRequest(now, request.on, key, outgoing, commitments, reserve)


def outgoing_for(
    on: AgentRoute,
    parsed: ParsedRequest,
    route: Route,
    key: KeyEntry,
    concessions: Concessions = NOTHING,
    *,
    output_tokens_default: int = OUTPUT_TOKENS_DEFAULT,
) -> OutgoingRequest | Problem:
    """Prepare a request for the provider of `route`; a problem if its cost cannot be bounded, or if the provider would
    ignore a part of it."""
    way = _way(on.agent.name, on.endpoint, route.dialects, route.kind)
    if way is None:
        return problem("endpoint_unsupported", param="model")
    speaks, served, quirks = way
    ignored = speaks.fit(parsed, quirks)
    if isinstance(ignored, Problem):
        return ignored
    workload, price = on.price(parsed), route.price
    cap = worst_case.output_cap(workload, key.max_output_tokens, price, output_tokens_default, concessions.cap_max)
    sending = Sending(route.model, cap, quirks, concessions)
    body = speaks.render(parsed, sending)
    worst = worst_case.worst_case(workload, len(body), cap, quirks, price.prices, price.max_thinking_tokens)
    if isinstance(worst, Problem):
        return worst
    return OutgoingRequest(route, speaks, served, parsed, workload, sending, body, worst, ignored)


@lru_cache(maxsize=WAYS_MAX)
def _way(
    agent: str, endpoint: Endpoint, dialects: tuple[str, ...], kind: str
) -> tuple[ProviderDialect, ServedEndpoint, Quirks] | None:
    """Return how an endpoint of an agent's dialect is served by a provider of these dialects and this kind; None: it is
    not."""
    speaks = registry.spoken(dialects, agent)
    served = speaks.served(endpoint) if speaks else None
    return None if speaks is None or served is None else (speaks, served, quirks_of(kind))
