"""Asks the owners of partitions for admissions: what waits at the same time travels in one message.

An ask ends in an `Answer`, or in `Unanswered`: then it is not known whether it was admitted, it must never be
dispatched, and it is to be cancelled in the log. Asking again with the same request id is harmless: the ledger knows
it by its id.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from keyforge.contracts import subjects
from keyforge.contracts.ids import EdgeId
from keyforge.contracts.reserve import (
    RESERVES_MAX,
    Answer,
    Reserve,
    Reserves,
    decode_answers,
    encode_reserves,
)
from keyforge.edge.application.ports import Unanswered
from keyforge.edge.outbound.feeds.owners import Owners
from keyforge.eventlog.group_commit import GroupCommit
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import BufferFull, ConnectionLost, Disconnected, NoResponders, ReplyTimeout
from keyforge.runtime import logs

RESERVE_BYTES: Final = 600
"""About what one ask takes in a message, at most."""
MESSAGE_BYTES_MAX: Final = 512 * 1024
"""Half of what NATS takes in one message by default."""
WAITING_MAX: Final = 20_000
"""Asks of one partition that wait to be sent. Chosen: four times the requests that an edge may have open by default."""
RETRY_S: Final = 0.1
"""How soon an owner that was not reached is asked again, while its lease is the same. Chosen: 50 times in `owner_s`."""


class ReserveBounds(msgspec.Struct, frozen=True):
    """How long an ask may take."""

    answer_s: float = 2.0
    """Wait for the answer to one message, which is sent twice at most."""
    owner_s: float = 5.0
    """Wait for an owner, from when the ask was made."""
    in_flight_max: int = 2
    """Messages to one owner: one is decided while the next one fills."""


class _Ask(msgspec.Struct, eq=False):
    reserve: Reserve
    until: float
    answer: "asyncio.Future[Answer | Unanswered]"


class NatsBudgetClient:
    """`BudgetClient` over NATS request and reply. One `GroupCommit` for each partition; nothing lingers."""

    def __init__(
        self, client: NatsClient, owners: Owners, edge: EdgeId, bounds: ReserveBounds, monotonic: Callable[[], float]
    ) -> None:
        self._client = client
        self._owners = owners
        self._edge = edge
        self._bounds = bounds
        self._monotonic = monotonic
        self._groups: dict[int, GroupCommit[_Ask]] = {}
        self._loop = asyncio.get_running_loop()
        self._logger = logs.get("budget_client")

    async def ask(self, partition: int, reserve: Reserve) -> Answer | Unanswered:
        """See `BudgetClient`."""
        until = self._monotonic() + self._bounds.owner_s
        while True:
            group = self._groups.get(partition) or self._open(partition)
            waiting: asyncio.Future[Answer | Unanswered] = self._loop.create_future()
            if not group.add(_Ask(reserve, until, waiting)):
                return Unanswered(asked=False)
            answer = await waiting
            if isinstance(answer, Unanswered) or not answer.again:
                return answer
            left = until - self._monotonic()
            if left <= 0:
                return answer
            await self._owners.changed(min(left, RETRY_S))

    def _open(self, partition: int) -> GroupCommit[_Ask]:
        group: GroupCommit[_Ask] = GroupCommit(
            partial(self._send, partition),
            size_of=_size,
            failed=partial(self._failed, partition),
            items_max=RESERVES_MAX,
            bytes_max=MESSAGE_BYTES_MAX,
            waiting_max=WAITING_MAX,
            in_flight_max=self._bounds.in_flight_max,
        )
        return self._groups.setdefault(partition, group)

    def _failed(self, partition: int, fault: BaseException) -> None:
        """Sending never raises; if it did, the next ask begins with a new group, and none waits for the old one."""
        group = self._groups.pop(partition, None)
        for ask in group.rest() if group else ():
            if not ask.answer.done():
                ask.answer.set_result(Unanswered(asked=False))
        self._logger.error("reserving failed", partition=partition, error=type(fault).__name__, exc_info=fault)

    async def _send(self, partition: int, asks: list[_Ask]) -> None:
        outcome: list[Answer] | Unanswered = Unanswered(asked=True)  # if this is cancelled, nothing else is known
        try:
            outcome = await self._exchange(partition, asks)
        finally:
            for number, ask in enumerate(asks):
                if not ask.answer.done():
                    ask.answer.set_result(outcome[number] if isinstance(outcome, list) else outcome)

    async def _exchange(self, partition: int, asks: list[_Ask]) -> list[Answer] | Unanswered:
        """Ask the owner that holds the lease; if there is none, wait for one and ask again.

        No answer in time is asked for once more: a server that dies takes with it what it was passing on.
        """
        message = encode_reserves(Reserves(self._edge, [ask.reserve for ask in asks]))
        until = min(ask.until for ask in asks)
        asked = late = False
        while True:
            lease = self._owners.of(partition)
            if lease is not None:
                try:
                    reply = await self._client.request(
                        subjects.reserve(partition, lease.epoch), message, timeout_s=self._bounds.answer_s
                    )
                except (NoResponders, Disconnected, BufferFull):
                    pass
                except ConnectionLost:
                    asked = True  # perhaps; the owner knows an ask that comes twice by its id
                except ReplyTimeout:
                    self._logger.warning("no answer", partition=partition, asks=len(asks), again=not late)
                    if late:
                        return Unanswered(asked=True)
                    asked = late = True
                    continue
                else:
                    return self._read(reply.data, len(asks))
            left = until - self._monotonic()
            if left <= 0:
                return Unanswered(asked)
            await self._owners.changed(min(left, RETRY_S))

    def _read(self, data: bytes, count: int) -> list[Answer] | Unanswered:
        try:
            answers = decode_answers(data)
        except msgspec.MsgspecError:
            answers = []
        if len(answers) != count:
            self._logger.error("an answer does not fit its asks", asks=count, answers=len(answers))
            return Unanswered(asked=True)
        return answers


def _size(_ask: _Ask) -> int:
    return RESERVE_BYTES
