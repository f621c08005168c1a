"""Asks that wait for their verdict: one message of an edge is answered by one message, when its last verdict is in."""

from collections import deque
from typing import Final

import msgspec

from keyforge.budget.application.ports import Outbox
from keyforge.budget.core.admit import Refused
from keyforge.contracts.ids import EdgeId, RequestId
from keyforge.contracts.reserve import Answer, Reserve, encode_answers

_UNDECIDED: Final = Answer("refuse", "owner_unavailable")


class PendingReserves:
    """One message of asks, to be answered at `reply_to`, once; `received_s` is monotonic."""

    __slots__ = ("_answers", "_left", "_outbox", "_reply_to", "asks", "edge", "received_s")

    def __init__(self, edge: EdgeId, asks: list[Reserve], reply_to: str, outbox: Outbox, *, received_s: float) -> None:
        self.edge = edge
        self.asks = asks
        self.received_s = received_s
        self._reply_to = reply_to
        self._outbox = outbox
        self._answers = [_UNDECIDED] * len(asks)
        self._left = len(asks)

    def answer(self, number: int, answer: Answer) -> None:
        """Set the verdict on ask `number`."""
        self._answers[number] = answer
        self._left -= 1
        if self._left == 0:
            self._outbox.put(self._reply_to, encode_answers(self._answers))

    def each(self) -> "list[PendingReserve]":
        """Return its asks, one by one."""
        return [PendingReserve(self, number) for number in range(len(self.asks))]


class PendingReserve(msgspec.Struct, frozen=True, eq=False):
    """One ask of a message."""

    message: PendingReserves
    number: int

    @property
    def request_id(self) -> RequestId:
        """The ask's request id."""
        return self.message.asks[self.number].request_id

    def answer(self, answer: Answer) -> None:
        """Set the verdict."""
        self.message.answer(self.number, answer)


class PendingQueue:
    """The asks that wait for a verdict, oldest first, at most `asks_max`."""

    __slots__ = ("_asks_max", "_waiting")

    def __init__(self, asks_max: int) -> None:
        self._asks_max = asks_max
        self._waiting: deque[PendingReserve] = deque()

    def __len__(self) -> int:
        """Count the asks that wait."""
        return len(self._waiting)

    def add(self, message: PendingReserves) -> bool:
        """Let the asks of a message wait; False if too many do already."""
        if len(self._waiting) + len(message.asks) > self._asks_max:
            return False
        self._waiting.extend(message.each())
        return True

    def take(self, asks_max: int, *, oldest_s: float) -> tuple[list[PendingReserve], int]:
        """Take at most `asks_max` asks, and count those dropped unanswered: received before `oldest_s`."""
        taken: list[PendingReserve] = []
        waiting, dropped = self._waiting, 0
        while waiting and len(taken) < asks_max:
            one = waiting.popleft()
            if one.message.received_s < oldest_s:
                dropped += 1
            else:
                taken.append(one)
        return taken, dropped

    def put_back(self, pending: list[PendingReserve]) -> None:
        """Let asks that were taken wait again, before all others."""
        self._waiting.extendleft(reversed(pending))

    def drain(self) -> list[PendingReserve]:
        """Take all, whatever their age."""
        drained = list(self._waiting)
        self._waiting.clear()
        return drained


def refusal(refused: Refused, seen: int) -> Answer:
    """Return the answer to an edge for a refusal that was decided with message `seen` folded."""
    return Answer(
        "refuse",
        refused.type,
        seen,
        scope=refused.scope,
        unit=refused.unit,
        window=refused.window,
        retry_after_s=refused.retry_after_s,
        first_request=refused.first_request,
        first_state=refused.first_state,
    )
