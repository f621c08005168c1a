"""An independent account of the log: reads the partitions of a stack from zero and adds up.

It shares no code with budget or audit but the events themselves, so that their errors are not repeated here.
"""

import asyncio
from dataclasses import dataclass, field

from keyforge.contracts import events as e
from keyforge.contracts import frame, subjects
from keyforge.testkit.frames import log_of, messages_of, partitions_of
from keyforge.testkit.stack import Stack


@dataclass
class Request:
    """One admission and its outcome. `settled_nusd` None: still open."""

    admitted: e.RequestAdmitted
    settled_nusd: int | None = None
    terminal: str | None = None
    completions: int = 0


@dataclass
class Account:
    """One key: what was admitted on it, and the most that was ever settled and reserved together."""

    requests: dict[str, Request] = field(default_factory=dict)
    held_nusd: int = 0
    peak_nusd: int = 0
    revoked: bool = False
    admitted_after_revoke: int = 0

    @property
    def settled_nusd(self) -> int:
        """What was settled."""
        return sum(request.settled_nusd or 0 for request in self.requests.values())

    @property
    def open(self) -> int:
        """How many admissions have no terminal."""
        return sum(1 for request in self.requests.values() if request.terminal is None)


@dataclass
class Reckoning:
    """All accounts by key, and what must not occur: duplicate admissions, events that cannot be read."""

    accounts: dict[str, Account] = field(default_factory=dict)
    admitted_twice: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    cancelled_before: set[str] = field(default_factory=set)
    events: int = 0

    def account(self, key_id: str) -> Account:
        """Return a key's account."""
        return self.accounts.setdefault(key_id, Account())

    def take(self, recorded: frame.Recorded | frame.Unread) -> None:
        """Add one event."""
        self.events += 1
        if isinstance(recorded, frame.Unread):
            self.unread.append(f"{recorded.type}: {recorded.why}")
            return
        match recorded.event:
            case e.KeyRevoked() as revoked:
                self.account(revoked.key_id).revoked = True
            case e.RequestAdmitted() as admitted:
                self._admit(admitted)
            case e.RequestCompleted() as completed:
                self._complete(completed)
            case e.RequestCancelled() as cancelled:
                if cancelled.request_id not in self.account(cancelled.key_id).requests:
                    self.cancelled_before.add(cancelled.request_id)
                self._end(cancelled.key_id, cancelled.request_id, "cancelled", 0)
            case e.RequestAbandoned() as abandoned:
                request = self.account(abandoned.key_id).requests.get(abandoned.request_id)
                if request is not None:
                    reserved = request.admitted.reserved.nusd
                    self._end(abandoned.key_id, abandoned.request_id, "abandoned", reserved)
            case _:
                pass

    def _admit(self, admitted: e.RequestAdmitted) -> None:
        account = self.account(admitted.key_id)
        if admitted.request_id in account.requests:
            self.admitted_twice.append(admitted.request_id)
            return
        account.requests[admitted.request_id] = Request(admitted)
        account.admitted_after_revoke += account.revoked
        if admitted.request_id in self.cancelled_before:
            account.requests[admitted.request_id].terminal = "cancelled"
            account.requests[admitted.request_id].settled_nusd = 0
            return
        account.held_nusd += admitted.reserved.nusd
        account.peak_nusd = max(account.peak_nusd, account.held_nusd)

    def _complete(self, completed: e.RequestCompleted) -> None:
        request = self.account(completed.key_id).requests.get(completed.request_id)
        if request is None:
            return
        request.completions += 1
        usage, prices = completed.usage, request.admitted.prices
        cost = request.admitted.reserved.nusd
        if usage is not None:
            scaled = sum(
                count * price
                for count, price in (
                    (usage.input_tokens, prices.input_nusd),
                    (usage.cache_read_tokens, prices.cache_read_nusd),
                    (usage.cache_write_tokens, prices.cache_write_nusd),
                    (usage.cache_write_1h_tokens, prices.cache_write_1h_nusd),
                    (usage.input_audio_tokens, prices.input_audio_nusd),
                    (usage.output_tokens, prices.output_nusd),
                    (usage.reasoning_tokens, prices.reasoning_nusd),
                    (usage.output_audio_tokens, prices.output_audio_nusd),
                )
            )
            cost = prices.request_nusd + (scaled + 999_999) // 1_000_000 if usage.tokens else 0
        self._end(completed.key_id, completed.request_id, "completed", cost)

    def _end(self, key_id: str, request_id: str, terminal: str, cost_nusd: int) -> None:
        account = self.account(key_id)
        request = account.requests.get(request_id)
        if request is None:
            return
        if request.terminal is None:
            account.held_nusd += cost_nusd - request.admitted.reserved.nusd
        elif request.terminal == "abandoned" and terminal == "completed":
            account.held_nusd += cost_nusd - (request.settled_nusd or 0)
        else:
            return
        request.terminal, request.settled_nusd = terminal, cost_nusd


def reckon(stack: Stack) -> Reckoning:
    """Read all partitions of a running stack from zero up to their current ends, and add up."""

    async def read() -> Reckoning:
        found = Reckoning()
        async with log_of(stack) as log:
            for partition in range(await partitions_of(log)):
                for message in await messages_of(log, subjects.log_stream(partition)):
                    for recorded in frame.decode(message.data, message.subject):
                        found.take(recorded)
        return found

    return asyncio.run(read())
