"""Audit and budget fold the same log to the same money, to the same end of every request, and forget alike."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keyforge.audit.core import fold_state
from keyforge.audit.core.fold import Fold
from keyforge.budget.core import settle
from keyforge.budget.core.fold import Halt
from keyforge.budget.core.fold import fold as budget_fold
from keyforge.budget.core.ledger import TOMBSTONES_MAX, Ledger
from keyforge.chain import memory
from keyforge.chain.record import unpack
from keyforge.contracts import frame
from keyforge.contracts.events import KeyUpdated
from keyforge.contracts.ids import KeyId, TenantId, TokenId
from keyforge.contracts.limits import CAP_MAX, Limit
from keyforge.contracts.usage import Usage
from keyforge.testkit.encrypted_names import encrypted
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, NOW, Sent

FEW = 2
CHAIN = f"key/acme/{KEY}"
AUDITS_MAX = memory.TOMBSTONES_MAX
LIMITED = KeyUpdated(
    key_id=KeyId(KEY),
    tenant=TenantId("acme"),
    name=encrypted("agent"),
    models=None,
    limits=(Limit(unit="usd", window="month", cap=CAP_MAX),),
    max_output_tokens=None,
    expires_at=None,
    revision=2,
    secret_version=1,
    by=TokenId("op"),
)
"""Puts the limit in force that the admissions of these tests debit."""


def test_they_hold_as_many_tombstones() -> None:
    assert AUDITS_MAX == TOMBSTONES_MAX


def _message(what: str, number: int, edge: str, key_id: str, at: datetime) -> Sent:
    if what == "admitted":
        return facts.adm(facts.admitted(number, deadline=at + timedelta(minutes=1)), at=at)
    if what == "abandoned":
        return facts.adm(facts.abandoned(number, key_id=key_id), at=at)
    if what == "cancelled":
        deadline = at + timedelta(minutes=1)
        return facts.use(facts.cancelled(number, edge=edge, key_id=key_id, deadline=deadline), edge=edge, at=at)
    usage = None if what == "unknown" else Usage(input_tokens=number * 1000)
    return facts.use(facts.completed(number, usage=usage, edge=edge, key_id=key_id), edge=edge, at=at)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admitted", "cancelled", "cancelled", "completed", "unknown", "abandoned"]),
        st.integers(0, 5),
        st.sampled_from([facts.EDGE, facts.EDGE, facts.EDGE, "edge-1"]),
        st.sampled_from([KEY, KEY, KEY, "k2"]),
        st.sampled_from([0, 1, 12]),
    ),
    max_size=45,
)
"""In total less than audit's COPIES_S, after which a cancel of what has ended is news to it."""


def with_few_tombstones() -> Iterator[None]:
    """So few that they are forgotten within a history."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fold_state, "TOMBSTONES_MAX", FEW)
        patched.setattr(settle, "TOMBSTONES_MAX", FEW)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_tombstones() -> Iterator[None]:
    yield from with_few_tombstones()


@given(STEPS)
@example([("cancelled", number, facts.EDGE, KEY, 12) for number in range(4)] + [("admitted", 0, facts.EDGE, KEY, 1)])
@example([("cancelled", 0, facts.EDGE, KEY, 0), ("admitted", 0, facts.EDGE, KEY, 0)] * 2)
@example([("cancelled", 0, facts.EDGE, "k2", 0), ("admitted", 0, facts.EDGE, KEY, 0)])
@example([("admitted", 0, facts.EDGE, KEY, 0), ("abandoned", 0, facts.EDGE, "k2", 0)])
@settings(max_examples=300)
def test_every_request_ends_alike(steps: list[tuple[str, int, str, str, int]]) -> None:
    check_ends(steps)


def check_ends(steps: list[tuple[str, int, str, str, int]]) -> None:
    """The law: what both make of one log."""
    at = NOW
    messages = [facts.begun(), facts.ctl(facts.recorded(f"{KEY}.2", LIMITED), facts.key_created("k2"))]
    admitted: set[int] = set()
    for what, number, edge, key_id, pause_s in steps:
        at += timedelta(seconds=pause_s, microseconds=1)
        if what == "admitted" and number in admitted:  # budget never admits one twice
            continue
        admitted |= {number} if what == "admitted" else set()
        messages.append(_message(what, number, edge, key_id, at))
    assert _by_audit(messages) == _by_budget(messages)


def _by_audit(messages: list[Sent]) -> tuple[dict[str, str], int, int]:
    folding = Fold(0, MASTER)
    out = facts.fold(messages, into=folding)
    last = [unpack(record.header) for record in out.records if record.chain.name == CHAIN][-1]
    return {end.admitted.request_id: end.settled.terminal for end in out.ends}, last.settled_nusd, last.reserved_nusd


def _by_budget(messages: list[Sent]) -> tuple[dict[str, str], int, int]:
    ledger = Ledger(0)
    for sequence, message in enumerate(messages, 1):
        events = frame.decode(message.data, message.subject)
        assert not isinstance(budget_fold(ledger, sequence, message.subject, message.at, events), Halt)
    accounts = ledger.keys[KeyId(KEY)].scope.accounts.values()
    balances = [balance for account in accounts for balance in account.windows.values()]
    found: dict[str, str] = {request_id: closed.terminal for request_id, closed in ledger.closed.items()}
    return found, sum(balance.settled for balance in balances), sum(balance.reserved for balance in balances)
