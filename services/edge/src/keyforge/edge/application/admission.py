"""Whether a request may be sent: judged by its key's policy, priced at its worst case, that reserved with budget."""

import asyncio
from datetime import timedelta
from typing import Final

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, log_full, problem
from keyforge.contracts.ids import EdgeId, RequestId
from keyforge.contracts.reserve import Answer
from keyforge.contracts.subjects import log_stream
from keyforge.edge.application.call import Call
from keyforge.edge.application.dispatch import unavailable_provider
from keyforge.edge.application.ports import (
    BudgetClient,
    ControlFeed,
    KeyDirectory,
    OutcomeLog,
    ProviderRegistry,
    TenantKeys,
    Unanswered,
)
from keyforge.edge.core.dialects.registry import AgentRoute
from keyforge.edge.core.judge import AgentRequest, PricedRequest, judge
from keyforge.edge.core.settlement import refusal_answers
from keyforge.edge.core.settlement.outcome import cancelled
from keyforge.edge.core.settlement.pending_outcomes import PAUSES_S, PendingOutcomes, RefusalRetry
from keyforge.runtime.clock import Clock

POLICY_READS_MAX: Final = 8
"""How often a policy that budget knows better is read again for one request."""
POLICY_PAUSE_S: Final = 0.1
"""Between two reads that found the same policy: the directory follows the log within about this."""
ASKS_MAX: Final = POLICY_READS_MAX + len(PAUSES_S)
"""One ask for each read of the policy and for each pause of a retry."""


class Admission:
    """Reserves the worst case of requests."""

    __slots__ = (
        "_budget",
        "_clock",
        "_control_feed",
        "_edge_id",
        "_keys",
        "_outcomes",
        "_pending",
        "_providers",
        "_request_s",
        "_tenant_keys",
    )

    def __init__(
        self,
        *,
        edge_id: EdgeId,
        keys: KeyDirectory,
        tenant_keys: TenantKeys,
        providers: ProviderRegistry,
        budget: BudgetClient,
        outcomes: OutcomeLog,
        pending: PendingOutcomes,
        control_feed: ControlFeed,
        clock: Clock,
        request_s: int,
    ) -> None:
        self._edge_id = edge_id
        self._keys = keys
        self._tenant_keys = tenant_keys
        self._providers = providers
        self._budget = budget
        self._outcomes = outcomes
        self._pending = pending
        self._control_feed = control_feed
        self._clock = clock
        self._request_s = request_s

    async def reserve(self, call: Call, on: AgentRoute, key: KeyEntry, body: bytes) -> PricedRequest | Problem:
        """Return the request as it may be sent, or why not. If budget knows a newer policy, judge again by that."""
        request = AgentRequest(call.request_id, on, body, call.head.idempotency_key, self._request_s * 1000)
        tenant_key = self._tenant_keys.known(key.tenant) or await self._tenant_keys.load(key.tenant)
        if isinstance(tenant_key, Problem):
            return tenant_key
        retry: RefusalRetry | None = None
        for _ in range(ASKS_MAX):
            providers, now = self._providers, self._clock.now()
            priced = judge(request, key, providers.catalogue, tenant_key, providers.additions, now=now)
            if isinstance(priced, Problem):
                return priced
            if wrong := self._outcomes.unavailable(key.partition) or unavailable_provider(
                self._providers, priced.outgoing.route, self._clock.monotonic()
            ):
                return wrong
            if priced.outgoing.request.stream and self._control_feed.stale(key.partition):
                return problem("log_unavailable")  # a revocation could not cut it
            try:
                answer = await self._budget.ask(key.partition, priced.reserve)
            except asyncio.CancelledError:  # this edge ends, whatever the answer would have been
                self._given_up(call.request_id, key, Unanswered(asked=True))
                raise
            if isinstance(answer, Unanswered):
                return self._given_up(call.request_id, key, answer)
            if answer.verdict == "allow":
                return priced
            retry = retry or self._pending.retry(key.key_id)
            if (pause_s := retry.pause_s(answer.type, answer.sequence)) is not None:
                await asyncio.sleep(pause_s)
                continue
            if answer.type != "stale_policy":
                return self._refused(on, key, answer)
            fresh = await self._renewed(key)
            if isinstance(fresh, Problem):
                return fresh
            key = fresh
        return problem("stale_policy")

    async def _renewed(self, key: KeyEntry) -> KeyEntry | Problem:
        """Read a key again, whose policy budget knows better; wait a moment if it is still the same."""
        fresh = await self._keys.refresh(key.key_id)
        if not isinstance(fresh, Problem) and fresh.revision == key.revision:
            await asyncio.sleep(POLICY_PAUSE_S)
        return fresh

    @staticmethod
    def _refused(on: AgentRoute, key: KeyEntry, answer: Answer) -> Problem:
        if answer.type == "log_full":
            return log_full(log_stream(key.partition))
        return refusal_answers.refusal(answer, shape=on.errors)

    def _given_up(self, request_id: RequestId, key: KeyEntry, answer: Unanswered) -> Problem:
        """Cancel a reserve that was asked and not answered: admitted now or later, it costs nothing and is not sent."""
        if answer.asked:
            until = self._clock.now() + timedelta(seconds=self._request_s)
            event = cancelled(request_id, key, self._edge_id, "owner_unavailable", until)
            self._outcomes.append(key.partition, event)
        return problem("owner_unavailable")
