"""Whether a request may be sent: what budget is asked, what its answers lead to, what is recorded if it gives none."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from keyforge.contracts import directory, frame, subjects
from keyforge.contracts.directory import KeyEntry, Lease
from keyforge.contracts.errors import Problem, log_full, problem
from keyforge.contracts.events import RequestCancelled
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import OwnerId
from keyforge.contracts.reserve import Answer
from keyforge.edge.application import admission as module
from keyforge.edge.application.admission import ASKS_MAX, Admission
from keyforge.edge.application.ports import Unanswered
from keyforge.edge.core.judge import PricedRequest
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.edge.outbound.budget_client import NatsBudgetClient, ReserveBounds
from keyforge.edge.outbound.feeds.owners import Owners
from keyforge.edge.outbound.outcome_log import FramedOutcomeLog
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.runtime.buckets import Entry
from keyforge.runtime.clock import SetClock
from tests.unit.edge_twins import ALLOW, CHAT, EDGE, KEY, NOW, Agent, Budget, Feed, Keys, Outcomes, Registry, TenantKeys

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
STREAM = BODY[:-1] + b',"stream":true}'
REQUEST_S = 60


def admission(**changed: Any) -> Admission:
    """Return an admission over twins; `changed` replaces some of its ports."""
    ports: dict[str, Any] = {
        "keys": Keys(KEY),
        "tenant_keys": TenantKeys(),
        "providers": Registry(("c", "g")),
        "budget": Budget(ALLOW),
        "outcomes": Outcomes(),
        "pending": PendingOutcomes(),
        "control_feed": Feed(),
    }
    ports |= changed
    return Admission(**ports, edge_id=EDGE, clock=SetClock(NOW), request_s=REQUEST_S)


async def reserve(admission: Admission, body: bytes = BODY, key: KeyEntry = KEY) -> PricedRequest | str:
    """Return what comes of a request: what may be sent, or the type of the problem."""
    found = await admission.reserve(Agent(body), CHAT, key, body)
    return found.kind.type if isinstance(found, Problem) else found


async def test_an_allowed_request_is_returned_as_it_was_reserved() -> None:
    budget = Budget(ALLOW)
    priced = await reserve(admission(budget=budget))
    assert isinstance(priced, PricedRequest)
    assert budget.asked == [priced.reserve]
    assert (priced.reserve.request_id, priced.reserve.key_id, priced.reserve.policy_revision) == ("r", KEY.key_id, 1)
    assert priced.reserve.worst_tokens == priced.outgoing.worst.tokens > 0
    assert priced.reserve.ttl_ms == REQUEST_S * 1000


@pytest.mark.parametrize(
    ("changed", "body", "type_"),
    [
        pytest.param({}, b"{", "json_invalid", id="no request"),
        pytest.param(
            {"outcomes": Outcomes(problem("log_full"))}, BODY, "log_full", id="its outcome could not be stored"
        ),
        pytest.param({"providers": Registry()}, BODY, "no_credential", id="nothing to call the provider with"),
        pytest.param(
            {"control_feed": Feed(stale=True)}, STREAM, "log_unavailable", id="a stream that could not be cut"
        ),
    ],
)
async def test_what_cannot_be_sent_or_recorded_is_not_reserved(changed: Any, body: bytes, type_: str) -> None:
    budget = Budget(ALLOW)
    assert await reserve(admission(budget=budget, **changed), body) == type_
    assert budget.asked == []


async def test_a_stale_control_feed_refuses_streams_alone() -> None:
    assert isinstance(await reserve(admission(control_feed=Feed(stale=True))), PricedRequest)


@pytest.mark.parametrize("asked", [True, False])
async def test_what_was_asked_and_not_answered_is_cancelled(asked: bool) -> None:
    outcomes = Outcomes()
    assert await reserve(admission(budget=Budget(Unanswered(asked)), outcomes=outcomes)) == "owner_unavailable"
    assert [(type(event), event.request_id) for event in outcomes.events] == [(RequestCancelled, "r")] * asked


async def test_a_refusal_that_a_pending_outcome_may_lift_is_asked_for_again() -> None:
    """The agent's last request is not folded yet by the owner that refuses this one."""
    pending = PendingOutcomes()
    pending.submitted(KEY.key_id)
    pending.stored([KEY.key_id], 7)
    budget = Budget(Answer("refuse", "budget_exceeded", sequence=6), ALLOW)
    assert isinstance(await reserve(admission(budget=budget, pending=pending)), PricedRequest)
    assert len(budget.asked) == 2
    folded = Budget(Answer("refuse", "budget_exceeded", sequence=7), ALLOW)
    assert await reserve(admission(budget=folded, pending=pending)) == "budget_exceeded"
    assert len(folded.asked) == 1


async def test_a_log_that_is_full_is_named_to_the_agent() -> None:
    full = admission(budget=Budget(Answer("refuse", "log_full")))
    found = await full.reserve(Agent(BODY), CHAT, KEY, BODY)
    assert isinstance(found, Problem)
    assert found == log_full(subjects.log_stream(KEY.partition))
    assert found.metadata == {"stream": f"KF_LOG_{KEY.partition}"}
    assert ("retry-after", "30") in found.headers()
    assert ("x-should-retry", "false") not in found.headers(), "it may be raised meanwhile"


async def test_a_newer_policy_is_read_and_judged_by() -> None:
    stale, newer = Answer("refuse", "stale_policy"), msgspec.structs.replace(KEY, revision=2)
    budget, keys = Budget(stale, ALLOW), Keys(newer)
    priced = await reserve(admission(budget=budget, keys=keys))
    assert isinstance(priced, PricedRequest)
    assert (priced.key, keys.refreshed) == (newer, 1)
    assert [asked.policy_revision for asked in budget.asked] == [1, 2]
    without_models = msgspec.structs.replace(newer, models=())
    assert await reserve(admission(budget=Budget(stale, ALLOW), keys=Keys(without_models))) == "model_forbidden"


async def test_a_policy_that_stays_behind_ends_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLICY_PAUSE_S", 0.0)
    budget = Budget(Answer("refuse", "stale_policy"))
    assert await reserve(admission(budget=budget)) == "stale_policy"
    assert len(budget.asked) == ASKS_MAX


class Silent:
    """A client on which nothing is ever answered."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def request(self, *_: Any, **__: Any) -> None:
        self.asked.set()
        await asyncio.Event().wait()


async def test_who_is_ended_while_it_waits_for_an_admission_gives_it_back() -> None:
    """Else the admission would stay open to its deadline, and then count as spent, for a request that nobody sends."""
    client, log, pending, clock = Silent(), MemoryLog.of_partitions(1), PendingOutcomes(), SetClock(NOW)
    owners = Owners(clock.monotonic)
    owners.apply([Entry("0", directory.encode(Lease(partition=0, epoch=1, owner=OwnerId("b"))), 1)], loaded=True)
    budget = NatsBudgetClient(cast("NatsClient", client), owners, EDGE, ReserveBounds(), clock.monotonic)
    outcomes = FramedOutcomeLog(log, EDGE, clock.now, pending)
    waiting = asyncio.create_task(reserve(admission(budget=budget, outcomes=outcomes, pending=pending)))
    await client.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await outcomes.drain()
    assert await log.end(subjects.log_stream(0)) == 1
    messages = await anext(aiter(log.read(subjects.log_stream(0))))
    recorded = [one for message in messages for one in frame.decode(message.data, message.subject)]
    assert len(recorded) == 1
    assert isinstance(recorded[0], Recorded)
    assert isinstance(recorded[0].event, RequestCancelled)
    assert recorded[0].event.request_id == "r"


async def test_a_tenants_secret_is_loaded_once_and_named_in_the_reserve() -> None:
    budget, tenant_keys = Budget(ALLOW), TenantKeys(version=3)
    gate = admission(budget=budget, tenant_keys=tenant_keys)
    for _ in range(2):
        priced = await reserve(gate)
        assert isinstance(priced, PricedRequest)
        assert priced.reserve.secret_version == 3
    assert tenant_keys.loads == 1


async def test_without_its_tenants_secret_nothing_is_reserved() -> None:
    budget = Budget(ALLOW)
    assert await reserve(admission(budget=budget, tenant_keys=TenantKeys(version=0))) == "policy_unavailable"
    assert budget.asked == []
