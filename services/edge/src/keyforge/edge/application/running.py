"""The requests that run, so that a revocation, a suspension or a lost log can end their streams."""

import asyncio
from collections.abc import Iterator
from typing import Final, Self

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import Event, KeyRevoked, TenantUpdated
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.edge.application.agent_stream import AgentStream

POLL_S: Final = 0.01
"""How often the end of the service looks whether requests still run."""


class RunningRequest:
    """One request, from before its reserve to its settlement.

    `cut_by`: the type of the problem that ended its stream. `gone`: its agent hung up, or stopped reading.
    """

    __slots__ = ("_among", "_drain_s", "_scope", "cut_by", "gone", "key", "stream", "writing_since")

    def __init__(self, key: KeyEntry, among: "set[RunningRequest]") -> None:
        self.key = key
        self._among = among
        self.cut_by = ""
        self.gone = False
        self.writing_since = 0.0
        """Since when the agent has been sent bytes that it does not read (monotonic); 0: it reads them."""
        self.stream: AgentStream | None = None
        self._scope: asyncio.Timeout | None = None
        self._drain_s = 0.0

    def __enter__(self) -> Self:
        self._among.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._among.discard(self)

    def bind(self, scope: asyncio.Timeout) -> None:
        """From here on, whatever ends the stream ends `scope`; at once if it was cut before."""
        self._scope = scope
        if self.cut_by:
            self.end_within(0.0)
        elif self.gone:
            self.end_within(self._drain_s)

    def cut(self, why: str) -> None:
        """End the stream now."""
        self.cut_by = self.cut_by or why
        self.end_within(0.0)

    def leave(self, drain_s: float) -> None:
        """The agent has gone; the provider's answer may be read on for so long."""
        self.gone, self._drain_s = True, drain_s
        self.end_within(drain_s)

    def end_within(self, seconds: float) -> None:
        """Wait no longer than this for the rest of the stream."""
        scope = self._scope
        if scope is None or scope.expired():
            return
        due = asyncio.get_running_loop().time() + seconds
        was = scope.when()
        try:
            scope.reschedule(due if was is None else min(was, due))
        except RuntimeError:
            return  # it has just ended by itself


class RunningRequests:
    """All requests of this edge that wait for an admission or hold one."""

    def __init__(self) -> None:
        self._running: set[RunningRequest] = set()
        self._revoked: set[KeyId] = set()
        """Keys whose streams end in the next turn of the loop."""

    def __len__(self) -> int:
        return len(self._running)

    def entered(self, key: KeyEntry) -> RunningRequest:
        """Return a request of `key`, which is among the running ones while it is entered."""
        return RunningRequest(key, self._running)

    async def all_ended(self) -> None:
        """Wait until none runs. The caller bounds the time."""
        while self._running:  # noqa: ASYNC110 - once in a life; an event would cost every request
            await asyncio.sleep(POLL_S)

    def apply(self, event: Event) -> None:
        """Cut what a control event ends: the streams of a revoked key, or of a suspended tenant.

        Keys may be revoked by the thousand: those of one turn of the event loop share one walk over what runs.
        """
        if isinstance(event, KeyRevoked):
            if not self._revoked:
                asyncio.get_running_loop().call_soon(self._cut_revoked)
            self._revoked.add(event.key_id)
        elif isinstance(event, TenantUpdated) and event.status == "suspended":
            self.cut_tenant(event.tenant, "tenant_suspended")

    def _cut_revoked(self) -> None:
        revoked, self._revoked = self._revoked, set()
        self._cut([running for running in self._running if running.key.key_id in revoked], "stream_revoked")

    def cut_tenant(self, tenant: TenantId, why: str) -> None:
        """End the streams of one tenant."""
        self._cut([running for running in self._running if running.key.tenant == tenant], why)

    def cut_all(self, why: str) -> None:
        """End the streams of everybody."""
        self._cut(list(self._running), why)

    def cut_partition(self, partition: int, why: str) -> None:
        """End the streams of every tenant of one partition."""
        self._cut([running for running in self._running if running.key.partition == partition], why)

    def drop_stalled(self, now: float, stall_s: float) -> None:
        """Let go of agents that have not read for too long."""
        for running in self._running:
            if running.writing_since and not running.gone and now - running.writing_since > stall_s:
                running.leave(0.0)

    def waiting(self, now: float) -> Iterator[AgentStream]:
        """Yield the streams whose agents need a sign of life: nothing was shown to them for too long."""
        for running in self._running:
            stream = running.stream
            if stream is not None and not running.gone and not running.writing_since and stream.is_due(now):
                yield stream

    def _cut(self, found: list[RunningRequest], why: str) -> None:
        for running in found:
            running.cut(why)
