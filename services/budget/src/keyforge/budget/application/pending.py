"""Asks that wait for their verdict: one message of an edge is answered by one message, when its last verdict is in."""

from typing import Final

import msgspec

from keyforge.budget.application.ports import Outbox
from keyforge.budget.core.admit import Refused
from keyforge.contracts.ids import EdgeId, RequestId
from keyforge.contracts.reserve import Answer, Reserve, encode_answers

_PENDING: Final = Answer("refuse", "owner_unavailable")


class Call:
    """One message of asks, to be answered at `reply_to`, once; `received_s` is monotonic."""

    __slots__ = ("_answers", "_left", "_outbox", "_reply_to", "asks", "edge", "received_s")

    def __init__(self, edge: EdgeId, asks: list[Reserve], reply_to: str, outbox: Outbox, *, received_s: float) -> None:
        self.edge = edge
        self.asks = asks
        self.received_s = received_s
        self._reply_to = reply_to
        self._outbox = outbox
        self._answers = [_PENDING] * len(asks)
        self._left = len(asks)

    def answer(self, number: int, answer: Answer) -> None:
        """Set the verdict on ask `number`."""
        self._answers[number] = answer
        self._left -= 1
        if self._left == 0:
            self._outbox.put(self._reply_to, encode_answers(self._answers))

    def each(self) -> "list[Waiting]":
        """Return its asks, one by one."""
        return [Waiting(self, number) for number in range(len(self.asks))]


class Waiting(msgspec.Struct, frozen=True, eq=False):
    """One ask of a call."""

    call: Call
    number: int

    @property
    def request_id(self) -> RequestId:
        """The ask's request id."""
        return self.call.asks[self.number].request_id

    def answer(self, answer: Answer) -> None:
        """Set the verdict."""
        self.call.answer(self.number, answer)


def refusal(refused: Refused, seen: int) -> Answer:
    """Return what an edge is told of a refusal that was decided with message `seen` folded."""
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
