"""What an edge makes of a link that fails: it asks again where that is harmless, and reports if it asked at all."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from keyforge.contracts import directory, subjects
from keyforge.contracts.directory import Lease
from keyforge.contracts.ids import EdgeId, OwnerId
from keyforge.contracts.reserve import RESERVES_MAX, Answer, Reserves, encode_answers, encode_reserves
from keyforge.edge.application.ports import Unanswered
from keyforge.edge.outbound import budget_client
from keyforge.edge.outbound.budget_client import NatsBudgetClient, ReserveBounds
from keyforge.edge.outbound.feeds.owners import Owners
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import (
    BufferFull,
    ClientClosed,
    ConnectionLost,
    Disconnected,
    NoResponders,
    ReplyTimeout,
)
from keyforge.eventlog.nats.protocol import Delivery, TooLarge
from keyforge.runtime.buckets import Entry
from tests.unit.budget_facts import ask as reserve

EDGE = EdgeId("edge-0")
BOUNDS = ReserveBounds(answer_s=0.5, owner_s=0.15)
"""`owner_s` is longer than one `RETRY_S`; every answer here comes at once."""
STEP_S = 0.005
AGAIN = Answer("refuse", "owner_unavailable", again=True)
ALLOWED, REFUSED = Answer("allow", sequence=7), Answer("refuse", "budget_exceeded")
WITHIN_S = 60.0
LOST, LATE, FULL = ConnectionLost("gone"), ReplyTimeout("late"), BufferFull("full")
NOBODY, DOWN, CLOSED = NoResponders("nobody"), Disconnected("down"), ClientClosed("closed")

Outcome = Exception | bytes
Sent = tuple[str, bytes, float]


class Script:
    """A link of which each ask ends as scripted, the last one again and again."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.sent: list[Sent] = []
        self.asked = asyncio.Event()
        self._outcomes = deque(outcomes)

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> Delivery:
        self.sent.append((subject, payload, timeout_s))
        self.asked.set()
        outcome = self._outcomes.popleft() if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return Delivery(1, "inbox", "", outcome, b"")


def owned(owners: Owners, epoch: int = 3) -> None:
    lease = directory.encode(Lease(partition=0, epoch=epoch, owner=OwnerId("budget-0")))
    owners.apply([Entry("0", lease, epoch)], loaded=True)


class Steps:
    """A clock that goes on by a step whenever it is read, so that no pause of the machine uses up a wait."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += STEP_S
        return self.now_s


def client(
    script: Script,
    *,
    with_owner: bool = True,
    bounds: ReserveBounds = BOUNDS,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[NatsBudgetClient, Owners]:
    owners = Owners(clock)
    if with_owner:
        owned(owners)
    return NatsBudgetClient(cast("NatsClient", script), owners, EDGE, bounds, clock), owners


@pytest.mark.parametrize(
    ("outcomes", "expected", "asks"),
    [
        pytest.param([encode_answers([ALLOWED])], ALLOWED, 1, id="an answer"),
        pytest.param([LOST, encode_answers([ALLOWED])], ALLOWED, 2, id="lost, then an answer"),
        pytest.param([LOST, encode_answers([REFUSED])], REFUSED, 2, id="lost, then refused"),
        pytest.param([DOWN, encode_answers([ALLOWED])], ALLOWED, 2, id="down, then an answer"),
        pytest.param([NOBODY, encode_answers([ALLOWED])], ALLOWED, 2, id="nobody, then an answer"),
        pytest.param([LOST, LATE], Unanswered(asked=True), 3, id="lost, then late twice"),
        pytest.param([LOST], Unanswered(asked=True), None, id="lost again and again"),
        pytest.param([LOST, NOBODY], Unanswered(asked=True), None, id="lost, then nobody"),
        pytest.param([LOST, DOWN], Unanswered(asked=True), None, id="lost, then down"),
        pytest.param([NOBODY, LOST, DOWN], Unanswered(asked=True), None, id="nobody, lost, down"),
        pytest.param([DOWN], Unanswered(asked=False), None, id="down"),
        pytest.param([CLOSED], Unanswered(asked=False), None, id="closed"),
        pytest.param([NOBODY], Unanswered(asked=False), None, id="nobody"),
        pytest.param([DOWN, NOBODY], Unanswered(asked=False), None, id="down, then nobody"),
        pytest.param([LATE], Unanswered(asked=True), 2, id="late twice: its time was given to the owner"),
        pytest.param([LATE, encode_answers([ALLOWED])], ALLOWED, 2, id="late, then an answer"),
        pytest.param([LATE, LOST], Unanswered(asked=True), None, id="late, then lost"),
        pytest.param([DOWN, LATE], Unanswered(asked=True), 3, id="down, then late twice"),
        pytest.param([FULL], Unanswered(asked=False), None, id="full"),
        pytest.param([FULL, encode_answers([ALLOWED])], ALLOWED, 2, id="full, then an answer"),
        pytest.param([encode_answers([AGAIN]), encode_answers([ALLOWED])], ALLOWED, 2, id="again, then an answer"),
        pytest.param([encode_answers([AGAIN]), NOBODY], Unanswered(asked=False), None, id="again, then nobody"),
        pytest.param([encode_answers([AGAIN])], AGAIN, None, id="again and again"),
        pytest.param([b"nonsense"], Unanswered(asked=True), 1, id="an answer that is none"),
        pytest.param([encode_answers([])], Unanswered(asked=True), 1, id="an answer too few"),
    ],
)
async def test_how_an_ask_ends(
    outcomes: list[Outcome], expected: Any, asks: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_client, "RETRY_S", STEP_S)
    script, clock = Script(outcomes), Steps()
    one = reserve("one")
    assert await client(script, clock=clock)[0].ask(0, one) == expected
    if asks is None:  # until there was no time left to wait for an owner
        assert len(script.sent) > 1
        assert BOUNDS.owner_s <= clock.now_s < 2 * BOUNDS.owner_s
    else:
        assert len(script.sent) == asks
    message = encode_reserves(Reserves(EDGE, [one]))  # the same bytes each time: the ledger knows it by its id
    assert script.sent == [(subjects.reserve(0, 3), message, BOUNDS.answer_s)] * len(script.sent)


async def test_without_an_owner_nothing_is_asked() -> None:
    script = Script([encode_answers([ALLOWED])])
    assert await client(script, with_owner=False)[0].ask(0, reserve("one")) == Unanswered(asked=False)
    assert script.sent == []


async def test_of_one_message_only_what_was_not_decided_is_asked_again() -> None:
    script = Script([encode_answers([REFUSED, AGAIN]), encode_answers([ALLOWED])])
    made, _ = client(script, bounds=ReserveBounds(owner_s=WITHIN_S))
    asks = [reserve("one"), reserve("two")]
    assert await asyncio.gather(*(made.ask(0, one) for one in asks)) == [REFUSED, ALLOWED]
    assert [message for _, message, _ in script.sent] == [
        encode_reserves(Reserves(EDGE, asks)),
        encode_reserves(Reserves(EDGE, asks[1:])),
    ]


async def test_when_it_was_lost_the_next_owner_is_asked_as_soon_as_it_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget_client, "RETRY_S", WITHIN_S)  # it is asked again only when a lease changes
    script = Script([LOST, encode_answers([ALLOWED])])
    made, owners = client(script, bounds=ReserveBounds(owner_s=WITHIN_S))
    asking = asyncio.ensure_future(made.ask(0, reserve("one")))
    async with asyncio.timeout(WITHIN_S / 2):
        await script.asked.wait()
        asyncio.get_running_loop().call_soon(owned, owners, 4)
        assert await asking == ALLOWED
    assert [subject for subject, _, _ in script.sent] == [subjects.reserve(0, 3), subjects.reserve(0, 4)]
    assert script.sent[0][1] == script.sent[1][1]


async def test_a_fault_in_sending_leaves_nobody_waiting() -> None:
    """A message that the server would never take: what is in it may have been asked, what waits after it was not."""
    bounds = ReserveBounds(answer_s=0.5, owner_s=0.15, in_flight_max=1)
    made, _ = client(Script([TooLarge("more than the server takes")]), bounds=bounds)
    asks = [asyncio.ensure_future(made.ask(0, reserve(f"{number}"))) for number in range(RESERVES_MAX + 1)]
    async with asyncio.timeout(WITHIN_S):
        found = await asyncio.gather(*asks)
    assert found == [Unanswered(asked=True)] * RESERVES_MAX + [Unanswered(asked=False)]


async def test_nor_if_one_of_those_that_wait_has_gone() -> None:
    bounds = ReserveBounds(answer_s=0.5, owner_s=0.15, in_flight_max=1)
    made, _ = client(Script([TooLarge("more than the server takes")]), bounds=bounds)
    asks = [asyncio.ensure_future(made.ask(0, reserve(f"{number}"))) for number in range(RESERVES_MAX + 2)]
    await asyncio.sleep(0)
    asks[RESERVES_MAX].cancel()
    async with asyncio.timeout(WITHIN_S):
        assert await asks[-1] == Unanswered(asked=False)
        await asyncio.wait(asks)
