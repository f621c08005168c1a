"""Which messages end the fold, which events are only rejected, and that an ended fold changed nothing."""

from typing import Any

import msgspec
import pytest

from keyforge.budget.core.evolve import KNOWN
from keyforge.budget.core.fold import Halt, fold
from keyforge.budget.core.state_hash import state_hash
from keyforge.contracts import frame, subjects
from keyforge.contracts.events import EVENTS, RequestAdmitted
from keyforge.contracts.frame import FrameError, Recorded
from keyforge.contracts.ids import KeyId
from keyforge.contracts.limits import Debit, key_scope
from tests.unit.budget_facts import (
    EDGE,
    KEY,
    T0,
    Story,
    ask,
    cap,
    completed,
    key_created,
    key_revoked,
    rid,
    tenant_created,
    tenant_updated,
)
from tests.unit.frame_faults import FAULTS

CTL, ADM, USE = subjects.ctl(0), subjects.adm(0), subjects.use(0, EDGE)
DEBIT = Debit(amount=1, limit="usd/day", scope=key_scope(KEY), window_id=1)


NEW_UNIT = {"cap": 5, "models": None, "unit": "images", "window": "day"}
FOR_MODELS = {"cap": 5, "models": "gpt-*", "unit": "usd", "window": "day"}


def new_story() -> Story:
    """The tenant has the limit that the key has, so that a debit of any other scope would find an account there."""
    return Story(tenant_created(cap("usd", "day", 1000)), key_created(cap("usd", "day", 1000)))


def body(*events: Any) -> bytes:
    """A frame; a dict is laid over the first event, as another version may write it."""
    whole = [event for event in events if not isinstance(event, dict)]
    batch = msgspec.json.decode(frame.encode([Recorded(f"x{i}", "test", T0, event) for i, event in enumerate(whole)]))
    changed = [
        batch[-1] | change | {"data": batch[-1]["data"] | change.get("data", {})}
        for change in events
        if isinstance(change, dict)
    ]
    return msgspec.json.encode(batch[: len(batch) - bool(changed)] + changed)


def admission(**changed: Any) -> RequestAdmitted:
    admitted = new_story().decide(ask(1, 100))
    assert isinstance(admitted, RequestAdmitted)
    return msgspec.structs.replace(admitted, **changed)


def fold_bytes(story: Story, subject: str, data: bytes) -> Any:
    events: Any
    try:
        events = frame.decode(data, subject)
    except FrameError as error:
        events = error
    return fold(story.ledger, 2, subject, T0, events)


@pytest.mark.parametrize(
    ("subject", "data", "index", "why"),
    [
        pytest.param(
            CTL,
            body(key_revoked(), key_revoked(), {"type": "keyforge.key.paused.v1"}),
            1,
            "unknown event keyforge.key.paused.v1",
            id="a type, after an event that is known",
        ),
        pytest.param(
            ADM,
            body(admission(), {"type": "keyforge.request.admitted.v2"}),
            0,
            "unknown event keyforge.request.admitted.v2",
            id="a version",
        ),
        pytest.param(
            CTL,
            body(key_revoked(), {"data": {"revision": "two"}}),
            0,
            "unreadable event keyforge.key.revoked.v1",
            id="a value of another type",
        ),
        pytest.param(
            ADM,
            body(admission(), {"data": {"debits": [msgspec.to_builtins(DEBIT) | {"scope": "team:t1"}]}}),
            0,
            "debit of an unknown limit (usd/day at scope team:t1)",
            id="a scope of a kind that no version had",
        ),
        pytest.param(
            ADM,
            body(admission(debits=(msgspec.structs.replace(DEBIT, scope="group:g1"),))),
            0,
            "debit of an unknown limit (usd/day at scope group:g1)",
            id="a scope that is not on the path",
        ),
        pytest.param(
            ADM,
            body(
                admission(),
                admission(request_id=rid(2), debits=(msgspec.structs.replace(DEBIT, scope="tenant:other"),)),
            ),
            1,
            "debit of an unknown limit (usd/day at scope tenant:other)",
            id="a limit of another scope, after an admission that is known",
        ),
        pytest.param(
            ADM,
            body(admission(debits=(msgspec.structs.replace(DEBIT, limit="usd/hour"),))),
            0,
            "debit of an unknown limit (usd/hour at scope key:key1)",
            id="a limit that the key never had",
        ),
        pytest.param(
            CTL,
            body(
                key_revoked(), key_created(cap("usd", "day", 1), key_id=KeyId("key2")), {"data": {"limits": [NEW_UNIT]}}
            ),
            1,
            "unknown limit images/day",
            id="a unit that is not known",
        ),
        pytest.param(
            CTL,
            body(tenant_updated(cap("usd", "day", 1)), {"data": {"limits": [FOR_MODELS]}}),
            0,
            "unknown limit usd/day/gpt-*",
            id="a limit for some models",
        ),
        pytest.param(CTL, b"no frame", 0, "unreadable frame", id="no frame on ctl"),
        pytest.param(ADM, b"no frame", 0, "unreadable frame", id="no frame on adm"),
        *(
            pytest.param(subject, data, 0, f"unreadable frame ({why}", id=f"{name}, on {subject}")
            for name, (data, why) in FAULTS.items()
            for subject in (CTL, ADM)
        ),
    ],
)
def test_what_is_not_known_ends_the_fold_before_it(subject: str, data: bytes, index: int, why: str) -> None:
    story = new_story()
    before = state_hash(story.ledger)
    halt = fold_bytes(story, subject, data)
    assert isinstance(halt, Halt)
    assert (halt.sequence, halt.index, halt.subject) == (2, index, subject)
    assert halt.why.startswith(why)
    assert str(halt).endswith(f" at 2.{index} on {subject}")
    assert state_hash(story.ledger) == before
    assert (story.ledger.sequence, story.ledger.ctl_sequence) == (1, 1)


@pytest.mark.parametrize(
    ("subject", "data", "type_"),
    [
        pytest.param(USE, body(completed(1, 1), {"type": "keyforge.request.paused.v1"}), "request.paused.v1", id="use"),
        pytest.param(USE, body(completed(1, 1), {"data": {"edge": 7}}), "request.completed.v1", id="unreadable on use"),
        pytest.param(USE, b"no frame", "frame", id="no frame on use"),
        *(pytest.param(USE, data, "frame", id=f"{name}, on use") for name, (data, _) in FAULTS.items()),
        pytest.param(USE, body(admission()), "request.admitted.v1", id="the owner's on use"),
        pytest.param(CTL, body(admission()), "request.admitted.v1", id="the owner's on ctl"),
        pytest.param(ADM, body(key_revoked()), "key.revoked.v1", id="of keys on adm"),
        pytest.param(ADM, body(completed(1, 1), {"data": {"edge": 7}}), "request.completed.v1", id="of an edge on adm"),
    ],
)
def test_the_rest_is_rejected_and_the_fold_goes_on(subject: str, data: bytes, type_: str) -> None:
    story = new_story()
    [rejected] = fold_bytes(story, subject, data)
    assert (rejected.sequence, rejected.index) == (2, 0)
    assert rejected.type.endswith(type_)
    assert story.ledger.sequence == 2
    assert not story.ledger.open
    assert story.ledger.keys[KEY].status == "active"


def test_every_event_of_a_partition_is_known() -> None:
    assert {event for event in EVENTS.values() if event.WRITER != "platform"} == KNOWN


def test_an_event_that_only_the_contracts_know_ends_the_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next event of a partition is added to the contracts before budget folds it."""
    monkeypatch.setattr("keyforge.budget.core.fold.KNOWN", KNOWN - {type(key_revoked())})
    halt = fold_bytes(new_story(), CTL, body(key_revoked()))
    assert isinstance(halt, Halt)
    assert halt.why == "unknown event keyforge.key.revoked.v1"
