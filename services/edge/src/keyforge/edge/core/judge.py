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
from keyforge.edge.core.dialects.openai_chat.render import Plan
from keyforge.edge.core.routing import policy
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.settlement.commitment import CommitmentKey, Commitments


class Asked(msgspec.Struct, frozen=True):
    """What is asked of budget, and what is to be sent if it allows it."""

    at: datetime
    key: KeyEntry
    plan: Plan
    commitments: Commitments
    reserve: Reserve


class Question(msgspec.Struct, frozen=True):
    """What an agent sent, beside its key."""

    request_id: RequestId
    endpoint: Endpoint
    body: bytes
    idempotency_key: bytes
    ttl_ms: int


def judge(
    question: Question, key: KeyEntry, catalogue: Catalogue, secret: CommitmentKey, *, now: datetime
) -> Asked | Problem:
    """Return what to ask budget, or why the request may not even be asked for. `secret` makes commitments."""
    if refused := policy.refuse_key(key, now=now):
        return refused
    request = strict_json.read(question.body, question.endpoint)
    if isinstance(request, Problem):
        return request
    route = policy.resolve(request.model, key, catalogue)
    if isinstance(route, Problem):
        return route
    plan = render.plan(request, route, key)
    if isinstance(plan, Problem):
        return plan
    if max(plan.worst.nusd, plan.worst.tokens) > CAP_MAX:
        return problem("budget_exceeded")  # no budget is so large, and the message that asks for it holds 64 bits
    commitments = secret.of(question.request_id)
    named = question.idempotency_key
    reserve = Reserve(
        request_id=question.request_id,
        tenant=key.tenant,
        key_id=key.key_id,
        policy_revision=key.revision,
        endpoint=question.endpoint,
        provider=route.provider,
        model=route.model,
        price_id=route.price.price_id,
        prices=route.price.prices,
        worst_nusd=plan.worst.nusd,
        worst_tokens=plan.worst.tokens,
        ttl_ms=question.ttl_ms,
        body_commitment=commitments.of_request(question.body),
        idempotency_hash=secret.idempotency_hash(key.key_id, named) if named else None,
    )
    return Asked(now, key, plan, commitments, reserve)
