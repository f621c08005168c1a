"""An agent's request, judged and priced: everything that the rest of its way needs."""

from datetime import datetime

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.ids import RequestId
from keyforge.contracts.limits import CAP_MAX
from keyforge.contracts.reserve import Reserve
from keyforge.edge.core.dialects import strict_json
from keyforge.edge.core.dialects.openai_chat import render
from keyforge.edge.core.dialects.openai_chat.render import OutgoingRequest
from keyforge.edge.core.routing import policy
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.settlement.commitment import Commitments, TenantKey


class AgentRequest(msgspec.Struct, frozen=True):
    """What an agent sent, besides its key."""

    request_id: RequestId
    endpoint: Endpoint
    body: bytes
    idempotency_key: bytes
    ttl_ms: int


class PricedRequest(msgspec.Struct, frozen=True):
    """What to ask budget, and what to send if it allows it. `at`: when it was judged."""

    at: datetime
    key: KeyEntry
    outgoing: OutgoingRequest
    commitments: Commitments
    reserve: Reserve


def judge(
    request: AgentRequest, key: KeyEntry, catalogue: Catalogue, tenant_key: TenantKey, *, now: datetime
) -> PricedRequest | Problem:
    """Return what to ask budget, or why budget is not even asked. `tenant_key` makes commitments."""
    if refused := policy.refuse_key(key, now=now):
        return refused
    parsed = strict_json.read(request.body, request.endpoint)
    if isinstance(parsed, Problem):
        return parsed
    route = policy.resolve(parsed.model, key, catalogue)
    if isinstance(route, Problem):
        return route
    outgoing = render.render(parsed, route, key)
    if isinstance(outgoing, Problem):
        return outgoing
    if max(outgoing.worst.nusd, outgoing.worst.tokens) > CAP_MAX:
        return problem("budget_exceeded")  # no budget is so large, and the message that asks for it holds 64 bits
    commitments = tenant_key.of(request.request_id)
    named = request.idempotency_key
    reserve = Reserve(
        request_id=request.request_id,
        tenant=key.tenant,
        key_id=key.key_id,
        policy_revision=key.revision,
        endpoint=request.endpoint,
        provider=route.provider,
        model=route.model,
        price_id=route.price.price_id,
        prices=route.price.prices,
        worst_nusd=outgoing.worst.nusd,
        worst_tokens=outgoing.worst.tokens,
        ttl_ms=request.ttl_ms,
        body_commitment=commitments.of_request(request.body),
        idempotency_hash=tenant_key.idempotency_hash(key.key_id, named) if named else None,
        secret_version=tenant_key.version,
    )
    return PricedRequest(now, key, outgoing, commitments, reserve)
