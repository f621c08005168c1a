"""The way of one request, from its first byte to its settlement."""

import asyncio
from datetime import timedelta
from typing import Final

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.reserve import Answer
from keyforge.edge.application.call import Call, refuse
from keyforge.edge.application.context import Edge
from keyforge.edge.application.dispatch import dispatch, unready
from keyforge.edge.application.relay import hand_over, relay
from keyforge.edge.core.judge import Asked, Question, judge
from keyforge.edge.core.settlement import refusal_answers
from keyforge.edge.core.settlement.outcome import Outcome, cancelled
from keyforge.edge.core.settlement.pending_outcomes import PAUSES_S, Appeal
from keyforge.edge.outbound.budget_client import Unanswered

POLICY_TRIES: Final = 8
POLICY_PAUSE_S: Final = 0.1
"""Between two looks at a policy that budget knows better: the directory follows the log within about this."""


async def serve(edge: Edge, call: Call, endpoint: Endpoint) -> None:
    """Carry one request to its end: who asks, what, is there money, forward, settle. Any step may end it."""
    # Who asks?
    key = await caller(edge, call)
    if key is None:
        return

    # What do they ask? Bounded in bytes and time.
    body = await call.body(edge.bounds.body_bytes_max, edge.bounds.body_s)
    if isinstance(body, Problem):
        await edge.refuse(call, key, body)
        return

    # From here on a revocation cuts it. The deadline runs before the money is set aside, so it ends before that does.
    deadline = edge.clock.monotonic() + edge.bounds.request_s
    with edge.streams.entered(key) as running:
        # May they, what can it cost at most, and is there money for that? Not one byte goes out before a yes.
        asked = await admission(edge, call, endpoint, key, body)
        if isinstance(asked, Problem):
            await edge.refuse(call, key, asked)
            return

        # Whatever happens now, the log is told an end.
        outcome = Outcome(call.request_id, asked.key, edge.edge_id, asked.at, edge.bounds.request_s)
        try:
            answer = await dispatch(edge, asked, outcome, deadline)
            outcome.first_byte_ms = _since_ms(edge, call)
            if isinstance(answer, Problem):
                await refuse(call, answer)
            elif asked.plan.stream and answer.status < 400:
                await relay(edge, call, asked, answer, outcome, running, deadline)
            else:
                await hand_over(edge, call, asked, answer, outcome)
        finally:
            edge.outcomes.tell(key.partition, outcome.event(_since_ms(edge, call)))
            edge.metrics.outcomes[outcome.name] += 1


async def caller(edge: Edge, call: Call) -> KeyEntry | None:
    """Return the key that the request shows. A text that is no key is told so; there is no tenant to count it for."""
    key = await edge.directory.identify(call.told.key_text) if call.told.key_text else problem("key_missing")
    if not isinstance(key, Problem):
        return key
    edge.metrics.unknown_keys += 1
    await refuse(call, key)
    return None


async def admission(edge: Edge, call: Call, endpoint: Endpoint, key: KeyEntry, body: bytes) -> Asked | Problem:
    """Judge the request and reserve its worst case. If budget knows a newer policy of the key, judge anew by that."""
    question = Question(call.request_id, endpoint, body, call.told.idempotency_key, edge.bounds.request_s * 1000)
    appeal: Appeal | None = None
    for _ in range(POLICY_TRIES + len(PAUSES_S)):
        asked = judge(question, key, edge.providers.catalogue, edge.commitment_key, now=edge.clock.now())
        if isinstance(asked, Problem):
            return asked
        if trouble := edge.outcomes.trouble(key.partition) or unready(edge, asked.plan.route):
            return trouble
        if asked.plan.stream and edge.hearing.deaf(key.partition):
            return problem("log_unavailable")  # nobody could cut it
        if not edge.bounds.reserves:
            return asked
        answer = await _reserve(edge, call, key, asked)
        if isinstance(answer, Unanswered):
            return _given_up(edge, call, key, answer)
        if answer.verdict == "allow":
            return asked
        appeal = appeal or edge.outcomes.settling.appeal(key.key_id)
        if (pause_s := appeal.pause_s(answer.type, answer.sequence)) is not None:
            await asyncio.sleep(pause_s)
            continue
        if answer.type != "stale_policy":
            return refusal_answers.refusal(answer, as_openrouter=edge.bounds.as_openrouter)
        fresh = await edge.directory.refresh(key.key_id)
        if isinstance(fresh, Problem):
            return fresh
        if fresh.revision == key.revision:
            await asyncio.sleep(POLICY_PAUSE_S)
        key = fresh
    return problem("stale_policy")


async def _reserve(edge: Edge, call: Call, key: KeyEntry, asked: Asked) -> Answer | Unanswered:
    try:
        return await edge.reserves.ask(key.partition, asked.reserve)
    except asyncio.CancelledError:  # this edge ends, whatever the answer would have been
        _given_up(edge, call, key, Unanswered(asked=True))
        raise


def _given_up(edge: Edge, call: Call, key: KeyEntry, answer: Unanswered) -> Problem:
    """Cancel a reserve that was asked and not answered: admitted now or later, it costs nothing, and is never sent."""
    if answer.asked:
        until = edge.clock.now() + timedelta(seconds=edge.bounds.request_s)
        ended = cancelled(call.request_id, key, edge.edge_id, "owner_unavailable", until)
        edge.outcomes.tell(key.partition, ended)
    return problem("owner_unavailable")


def _since_ms(edge: Edge, call: Call) -> int:
    return round((edge.clock.monotonic() - call.began) * 1000)
