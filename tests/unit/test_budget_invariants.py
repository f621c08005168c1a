"""The six invariants of a budget, against an owner with a lag, an edge that records anything, and an oracle.

The machine keeps a log as the server would: frames are conditional on the control clock, so a frame that was decided on
a stale view is refused. The oracle knows no ledger; it adds up the log from the beginning.
"""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keyforge.budget.core.fold import Halt, fold
from keyforge.budget.core.holds import HeldFrame
from keyforge.budget.core.overdue import Overdue
from keyforge.budget.core.state_hash import state_hash
from keyforge.contracts import frame, subjects
from keyforge.contracts.events import (
    Event,
    PartitionFenced,
    RequestAdmitted,
)
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import KeyId
from keyforge.contracts.limits import Limit
from keyforge.contracts.reserve import Reserve
from tests.unit.budget_facts import (
    EDGE,
    Story,
    after,
    ask,
    cancelled,
    cap,
    completed,
    fenced,
    key_created,
    key_revoked,
    key_updated,
    replay,
    resumed,
    rid,
    tenant_created,
    tenant_updated,
)
from tests.unit.budget_oracle import Oracle

KEYS = (KeyId("key1"), KeyId("key2"))
NAMED = st.sampled_from([None, None, None, *KEYS])
LIMITS = st.lists(
    st.builds(
        cap,
        st.sampled_from(["usd", "requests", "tokens", "concurrency"]),
        st.sampled_from(["minute", "hour", "total"]),
        st.sampled_from([0, 2, 20, 40, 60, 100]),
    ),
    max_size=3,
    unique_by=lambda limit: (limit.unit, limit.window),
).map(tuple)
GRACE = timedelta(seconds=10)


class Owner(RuleBasedStateMachine):
    """One owner, its log, and everybody who writes there."""

    breaches = False
    forgets = False

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.oracle = Oracle()
        self.folded = 0
        self.revision: Counter[str] = Counter()
        self.number = 0
        self.overdue = Overdue(GRACE)
        self.held: list[RequestAdmitted] = []

    # --- the log ------------------------------------------------------------------------------------------------------

    def append(self, subject: str, *events: Event) -> None:
        story = self.story
        at = max(story.now, story.ledger.last_at)
        recorded = [Recorded(f"{len(story.messages)}.{i}", "test", at, e) for i, e in enumerate(events)]
        for one in recorded:
            self.oracle.observe(one)
        story.messages.append((subject, story.now, recorded))

    def fold_to(self, end: int) -> None:
        while self.folded < end:
            subject, at, recorded = self.story.messages[self.folded]
            self.folded += 1
            assert not isinstance(fold(self.story.ledger, self.folded, subject, at, recorded), Halt)
            for one in recorded:
                if isinstance(one.event, RequestAdmitted):
                    self.story.holds.release(one.event.request_id)

    @property
    def stale(self) -> bool:
        return any(subject == subjects.ctl(0) for subject, _, _ in self.story.messages[self.folded :])

    # --- rules --------------------------------------------------------------------------------------------------------

    @initialize(tenant=LIMITS, key1=LIMITS, key2=LIMITS)
    def begin(self, tenant: tuple[Limit, ...], key1: tuple[Limit, ...], key2: tuple[Limit, ...]) -> None:
        keys = [key_created(*limits, key_id=key) for key, limits in zip(KEYS, (key1, key2), strict=True)]
        self.append(subjects.ctl(0), tenant_created(*tenant), *keys, fenced(1))
        self.revision.update(KEYS)
        self.fold_to(1)

    def draw_asks(self, amounts: list[int], key: KeyId, repeat: int | None) -> list[Reserve]:
        asks = []
        for amount in amounts:
            self.number += 1
            again = repeat is not None and not self.forgets  # an id that was forgotten may be admitted once more
            number = max(1, self.number - (repeat or 0)) if again else self.number
            revision = self.revision[key]
            asks.append(ask(number, amount, key_id=key, policy_revision=revision, idempotency_hash=f"h{number % 7}"))
        return asks

    @rule(
        amounts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
        key=st.sampled_from(KEYS),
        repeat=st.none() | st.integers(1, 5),
        outcome=st.sampled_from(["acknowledged", "acknowledged", "acknowledged", "refused", "lost", "ack lost"]),
    )
    def reserve(self, amounts: list[int], key: KeyId, repeat: int | None, outcome: str) -> None:
        """Decide several asks in one frame, and let the server do with it what servers do."""
        story = self.story
        before = state_hash(story.ledger)
        frame_of: list[RequestAdmitted] = []
        for one in self.draw_asks(amounts, key, repeat):
            verdict = story.decide(one)
            if isinstance(verdict, RequestAdmitted):
                story.holds.hold(story.ledger, verdict, HeldFrame())
                frame_of.append(verdict)
        assert state_hash(story.ledger) == before, "deciding changed the ledger"
        if not frame_of:
            return
        stored = not self.stale and outcome in {"acknowledged", "ack lost"}
        if stored:
            self.append(subjects.adm(0), *frame_of)
        if outcome in {"lost", "ack lost"} and not self.stale:
            self.append(subjects.ctl(0), fenced(self.epoch() + 1))
            self.fold_to(len(story.messages))
        if not stored:
            for admitted in frame_of:
                story.holds.release(admitted.request_id)
            if self.folded == len(story.messages):
                assert not story.held(), "undoing left something"

    def epoch(self) -> int:
        fences = [e.event for _, _, r in self.story.messages for e in r if isinstance(e.event, PartitionFenced)]
        return fences[-1].epoch

    @rule(count=st.integers(1, 10))
    def read(self, count: int) -> None:
        self.fold_to(min(len(self.story.messages), self.folded + count))

    def number_of(self, back: int) -> int:
        """One of the last admitted; negative: one that will be asked for."""
        if back < 0 or not self.oracle.admitted:
            return self.number - back
        admitted = list(self.oracle.admitted)
        return int(admitted[-1 - min(back, len(admitted) - 1)].removeprefix("r-"))

    @rule(back=st.integers(0, 4), part=st.sampled_from([None, 0.0, 0.3, 1.0]), named=NAMED)
    def complete(self, back: int, part: float | None, named: KeyId | None) -> None:
        number = self.number_of(back)
        admitted = self.oracle.admitted.get(rid(number))
        used = None if part is None or admitted is None else round(part * admitted.reserved.nusd)
        if used is not None and self.breaches and part == 1:
            used += 5
        self.append(subjects.use(0, EDGE), completed(number, used, key_id=named or self.oracle.key_of(number)))

    @rule(back=st.integers(-2, 4), named=NAMED)
    def cancel(self, back: int, named: KeyId | None) -> None:
        """Also before it is admitted, and before it is asked at all."""
        number = self.number_of(back)
        key_id = named or self.oracle.key_of(number)
        self.append(subjects.use(0, EDGE), cancelled(number, key_id=key_id, deadline=self.story.now))

    @rule(seconds=st.sampled_from([1, 20, 65, 3700, 100_000]))
    def wait(self, seconds: int) -> None:
        if self.forgets or self.story.now + timedelta(seconds=seconds) < after(20 * 3600):
            self.story.now += timedelta(seconds=seconds)

    @precondition(lambda self: not self.stale)
    @rule(seconds=st.sampled_from([0, 80]))
    def append_overdue(self, seconds: int) -> None:
        self.wait(seconds)
        events = self.overdue.due(self.story.ledger, self.story.now, 100)
        if events:
            self.append(subjects.adm(0), *events)
            for event in events:
                self.overdue.stored(event)

    @rule(limits=LIMITS, key=st.sampled_from(KEYS))
    def change_key(self, limits: tuple[Limit, ...], key: KeyId) -> None:
        if key not in self.oracle.revoked:
            self.revision[key] += 1
            self.append(subjects.ctl(0), key_updated(*limits, key_id=key, revision=self.revision[key]))

    @rule(limits=LIMITS)
    def change_tenant(self, limits: tuple[Limit, ...]) -> None:
        self.append(subjects.ctl(0), tenant_updated(*limits))

    @rule(key=st.sampled_from(KEYS), really=st.integers(0, 9))
    def revoke(self, key: KeyId, really: int) -> None:
        if really == 0 and key not in self.oracle.revoked:
            self.revision[key] += 1
            self.append(subjects.ctl(0), key_revoked(key_id=key, revision=self.revision[key]))

    # --- laws ---------------------------------------------------------------------------------------------------------

    @invariant()
    def the_ledger_adds_up(self) -> None:
        """What is reserved is what the open requests hold; nothing is ever negative."""
        ledger = self.story.ledger
        held = Counter[int]()
        for request in ledger.open.values():
            for balance, debit in zip(request.balances, request.admitted.debits, strict=True):
                held[id(balance)] += debit.amount
        scopes = [key.scope for key in ledger.keys.values()] + [tenant.scope for tenant in ledger.tenants.values()]
        for scope in scopes:
            for account in scope.accounts.values():
                for balance in account.windows.values():
                    assert balance.reserved == held[id(balance)] >= 0
                    assert balance.settled >= 0

    def check_balances(self) -> None:
        """Every balance there is holds what the oracle adds up."""
        ledger = self.story.ledger
        scopes = [("key", str(key.id), key.scope) for key in ledger.keys.values()]
        scopes += [("tenant", "", tenant.scope) for tenant in ledger.tenants.values()]
        for kind, name, scope in scopes:
            for limit, account in scope.accounts.items():
                for number, balance in account.windows.items():
                    total = self.oracle.total(kind, name, limit, number, breaches=True)
                    assert balance.settled + balance.reserved == total

    def teardown(self) -> None:
        """Invariants 2 and 5: every request ends, once, as the oracle has it; any replica has the same state."""
        story = self.story
        if not story.messages:
            return
        story.now += timedelta(hours=2)
        self.fold_to(len(story.messages))
        self.append_overdue(0)
        self.fold_to(len(story.messages))
        assert not story.ledger.open
        assert not story.holds.requests
        assert not story.held()
        if not self.forgets:
            self.check_balances()
            assert {name: closed.terminal for name, closed in story.ledger.closed.items()} == self.oracle.ended
        assert state_hash(story.replay()) == state_hash(story.ledger)
        through_the_wire = [
            (subject, at, [one for one in frame.decode(frame.encode(recorded), subject) if isinstance(one, Recorded)])
            for subject, at, recorded in story.messages
        ]
        assert state_hash(replay(through_the_wire)) == state_hash(story.ledger)


class OwnerWithBreaches(Owner):
    """The same with a provider that bills beyond the reserved: charged, reported once, and frozen."""

    breaches = True

    @invariant()
    def frozen_models_are_not_admitted(self) -> None:
        if self.story.ledger.frozen:
            verdict = self.story.decide(ask("probe", 0, policy_revision=self.revision[KEYS[0]]))
            assert not isinstance(verdict, RequestAdmitted)

    @rule()
    def operator_resumes(self) -> None:
        self.append(subjects.ctl(0), resumed())


class OwnerOverDays(Owner):
    """The same over days: ends and tombstones are forgotten, on every replica alike."""

    forgets = True


MACHINES = (Owner, OwnerWithBreaches, OwnerOverDays)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_invariants_hold(machine: type[Owner]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))
