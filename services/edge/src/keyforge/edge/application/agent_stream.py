"""The agent's side of a stream: its head, what it is shown, comments while the provider is silent, its end.

Nothing is sent before there is something to show, so that an error before the first content is an ordinary answer with
a status of its own. But load balancers and clients give up on a silent connection after 60 s or less: after
`EARLY_HEAD_S` the head goes out all the same, and whenever nothing was shown for `SILENCE_S` a comment, which every
client of event streams ignores (WHATWG HTML 9.2.6).
"""

from collections.abc import Awaitable, Callable
from typing import Final

from keyforge.edge.application.call import Call, Headers

SILENCE_S: Final = 9.0
"""After so long a comment is due. Looked for once a second, so an agent waits at most 10 s."""
COMMENT: Final = b": waiting for the provider\n"
EVENT_STREAM: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class AgentStream:
    """One stream to an agent. `begun`: its head is sent, with status 200."""

    __slots__ = ("_busy", "_call", "_early_head_s", "begun", "headers", "shown_at", "under_way")

    def __init__(self, call: Call, headers: Headers, *, early_head_s: float) -> None:
        self.begun = False
        self.shown_at = call.began
        """When the agent was last sent anything (monotonic)."""
        self.under_way: Callable[[], bytes] = bytes
        """Returns what an event lacks to its end that was shown in part; nothing: none was."""
        self._call = call
        self.headers = headers
        """Of its head, beside those of every stream."""
        self._early_head_s = early_head_s
        self._busy = False

    def show(self, data: bytes, now: float) -> Awaitable[None]:
        """Send a part of the stream, whole lines; waits while the agent does not read."""
        self.shown_at = now
        return self._call.piece(data) if self.begun else self._begin(data)

    def is_due(self, now: float) -> bool:
        """Return whether the agent has waited so long that it needs a sign of life."""
        after_s = SILENCE_S if self.begun else self._early_head_s
        return not self._busy and now - self.shown_at >= after_s

    async def keep_alive(self, now: float) -> None:
        """Send the head, if it was not sent yet, and a comment: alone a line, so that an event under way goes on."""
        self._busy = True
        try:
            await self.show(COMMENT if self.under_way() else COMMENT + b"\n", now)
        finally:
            self._busy = False

    async def end(self, last: bytes = b"") -> None:
        """Send what comes last, and end the stream."""
        if last:
            await self._call.piece(last)
        await self._call.end()

    async def _begin(self, data: bytes) -> None:
        self.begun = True
        await self._call.start(200, [*EVENT_STREAM, *self.headers])
        await self._call.piece(data)
