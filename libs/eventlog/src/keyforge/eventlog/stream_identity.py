"""Is a stream still the one that was read, and does it still hold all that was handed over?"""

import asyncio
from typing import NoReturn

from keyforge.eventlog import jetstream_api
from keyforge.eventlog.log import LogMissing, LogShrunk, StreamState
from keyforge.eventlog.nats.client import NatsClient


class StreamIdentity:
    """What a reader knows of its stream. `created` is taken from the first look if it is not given."""

    def __init__(
        self, client: NatsClient, stream: str, created: str | None, *, forgets: bool, ticks: bool, shrunk_after_s: float
    ) -> None:
        """`forgets`: the stream may drop what it holds. `ticks`: the reading checks the chain of ticks, so what was
        trimmed is no loss by itself; but a reading from the beginning needs the beginning."""
        self._client = client
        self._stream = stream
        self._created = created
        self._forgets = forgets
        self._ticks = ticks
        self._shrunk_after_s = shrunk_after_s
        self._short_since: float | None = None

    async def check(self, position: int) -> StreamState:
        """Return the stream's state. Raises LogShrunk for another stream or lost messages, LogMissing while a
        shortfall may still be a lag."""
        try:
            state = await jetstream_api.stream_state(self._client, self._stream)
        except jetstream_api.StreamNotFound:
            if self._created is None:
                raise
            self._short(f"{self._stream} is gone")
        if self._created is None:
            self._created = state.created
        if self._created != state.created:
            raise LogShrunk(f"{self._stream} was created {self._created}, now it says {state.created}: another stream")
        if state.first > position + 1 and not self._forgets and (not self._ticks or position == 0):
            raise LogShrunk(f"{self._stream}: read up to {position}, it now begins at {state.first}")
        if state.last < position:
            self._short(f"{self._stream}: read up to {position}, it ends at {state.last}")
        self._short_since = None
        return state

    def _short(self, what: str) -> NoReturn:
        now = asyncio.get_running_loop().time()
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since >= self._shrunk_after_s:
            raise LogShrunk(what)
        raise LogMissing(what)
