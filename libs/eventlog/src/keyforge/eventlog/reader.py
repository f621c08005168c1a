"""The messages of a JetStream stream after a position, without end, in order, each once: no stall, no gap, no repeat.

One pull request is open at a time, bounded in messages and in bytes: several at once pass the server's bound on
unsent bytes, it cuts the connection, and pulls die with it that nobody asks for again. Any doubt (silence, a status
that is not "this request is over", a hole in the consumer's sequence, a reconnect, an idle consumer before the
stream's end) throws the consumer away and makes a new one after the last message handed over. It waits for as long as
its client tries to come back.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from keyforge.eventlog import jetstream_api
from keyforge.eventlog.log import LogClosed, LogMissing, LogShrunk, Message
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import NatsClientError
from keyforge.eventlog.nats.protocol import Delivery
from keyforge.eventlog.stream_identity import StreamIdentity
from keyforge.eventlog.ticks import TickChain, expected_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOO_BIG = "409 Message Size Exceeds MaxBytes"
_OVER = frozenset(("408 Request Timeout", "409 Batch Completed", _TOO_BIG))
"""The request is over and the consumer is healthy: ask again. Any other status but a heartbeat is a doubt."""
_HEARTBEAT = "100"
_NANOSECONDS = 1_000_000_000


class ReaderBounds(msgspec.Struct, frozen=True):
    """How much a reader takes at once, and how long it tolerates silence."""

    pull_messages: int = 1000
    pull_bytes: int = 2 * 1024 * 1024
    pull_bytes_max: int = 32 * 1024 * 1024
    """One message larger than `pull_bytes` doubles it, up to this."""
    pull_expires_s: float = 30.0
    heartbeat_s: float = 1.0
    silence_heartbeats: float = 2.5
    recheck_s: float = 5.0
    """Idle so long: ask the stream's leader for more. A consumer on a replica that is cut off would never say."""
    shrunk_after_s: float = 12.0
    """A leader without its followers shows less until it steps down, after 10 s: only a lasting shortfall is a loss."""
    consumer_idle_s: float = 30.0
    pause_s: float = 0.05
    pause_fault_s: float = 0.3
    unanswered_max: int = 2
    """A connection may be dead without an error: after so many unanswered requests we ping, and make another."""
    ping_s: float = 1.0


class _Doubt(Exception):
    """The consumer may not be what we think: make a new one."""


class Reader:
    """One reading of one stream. `consumers` and `doubts` count how often it had to start again, and why."""

    def __init__(
        self,
        client: NatsClient,
        stream: str,
        *,
        after: int = 0,
        subjects: Sequence[str] = (),
        created: str | None = None,
        forgets: bool = False,
        ticks: bool = False,
        bounds: ReaderBounds | None = None,
    ) -> None:
        self.stream = stream
        self.position = after
        self.consumers = 0
        self.doubts: dict[str, int] = {}
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._subjects = list(subjects)
        self._forgets = forgets
        self._ticks = TickChain(stream, after) if ticks else None
        self._bounds = bounds or ReaderBounds()
        self._identity = StreamIdentity(
            client, stream, created, forgets=forgets, ticks=ticks, shrunk_after_s=self._bounds.shrunk_after_s
        )
        self._pull_bytes = self._bounds.pull_bytes
        self._inbox = client.new_inbox()
        self._pull_inbox = ""
        self._buffer: list[Delivery] = []
        self._wake = asyncio.Event()
        self._consumer = ""
        self._consumed = 0
        self._pulls = 0
        self._left = 0
        self._doubt = ""
        self._reconnects = 0
        self._unanswered = 0
        self._progress_at = 0.0
        self._rechecked = 0

    async def batches(self) -> AsyncGenerator[list[Message], None]:
        """See `EventLog.read`."""
        if self._client.is_closed:
            raise LogClosed(f"reading {self.stream}: the connection to NATS is closed")
        # What can wait here is bounded by the one open pull.
        subscription = self._client.subscribe(f"{self._inbox}.*", self._arrived)
        try:
            while True:
                try:
                    await self._begin()
                    while True:
                        if batch := await self._next():
                            yield batch
                except (_Doubt, LogMissing) as why:
                    await self._recover(why)
        finally:
            subscription.unsubscribe()
            if self._consumer:
                with suppress(NatsClientError):
                    self._client.publish(f"$JS.API.CONSUMER.DELETE.{self.stream}.{self._consumer}", b"")

    def _arrived(self, message: Delivery) -> None:
        self._buffer.append(message)
        self._wake.set()

    async def _begin(self) -> None:
        """A new consumer after the position, after a look at the stream: is it still the one, and as long?"""
        bounds = self._bounds
        self._reconnects = self._client.reconnects
        self._buffer.clear()
        await self._identity.check(self.position)
        self.consumers += 1
        self._consumer = f"rd{self._inbox.rpartition('.')[2]}x{self.consumers}"
        self._consumed = self._left = 0
        self._doubt = ""
        config = {
            "name": self._consumer,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position + 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(bounds.consumer_idle_s * _NANOSECONDS),
            "max_waiting": 2,
        }
        if self._subjects:
            config["filter_subjects"] = self._subjects
        await jetstream_api.create_consumer(self._client, self.stream, self._consumer, config)
        self._unanswered = 0
        self._progress_at = self._loop.time()

    async def _recover(self, why: Exception) -> None:
        """Count a doubt or a fault and wait a little; find out whether the connection itself is dead."""
        kind = str(why) if isinstance(why, _Doubt) else type(why).__name__
        self.doubts[kind] = self.doubts.get(kind, 0) + 1
        if self._client.is_closed:
            raise LogClosed(f"reading {self.stream}: the connection to NATS is closed") from why
        if isinstance(why, jetstream_api.NoAnswer):
            self._unanswered += 1
            if self._unanswered % self._bounds.unanswered_max == 0:
                try:
                    await self._client.flush(within_s=self._bounds.ping_s)
                except NatsClientError as dead:
                    self._client.drop(str(dead))
        await asyncio.sleep(self._bounds.pause_s if isinstance(why, _Doubt) else self._bounds.pause_fault_s)

    async def _next(self) -> list[Message]:
        """The messages that arrived, none after a mere heartbeat. A doubt waits until what is sound was handed over."""
        if self._doubt:
            raise _Doubt(self._doubt)
        if self._left <= 0:
            self._pull()
        if not self._buffer:
            await self._wait()
        arrived, self._buffer = self._buffer, []
        batch: list[Message] = []
        self._doubt = self._take(arrived, batch)
        if self._client.reconnects != self._reconnects:
            self._doubt = self._doubt or "reconnect"
        if batch:
            self._progress_at = self._loop.time()
        elif not self._doubt:
            await self._recheck()
        return batch

    def _pull(self) -> None:
        bounds = self._bounds
        self._pulls += 1
        self._left = bounds.pull_messages
        self._pull_inbox = f"{self._inbox}.{self._pulls}"
        request = {
            "batch": bounds.pull_messages,
            "max_bytes": self._pull_bytes,
            "expires": int(bounds.pull_expires_s * _NANOSECONDS),
            "idle_heartbeat": int(bounds.heartbeat_s * _NANOSECONDS),
        }
        try:
            self._client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._consumer}",
                msgspec.json.encode(request),
                self._pull_inbox,
            )
        except NatsClientError as fault:
            raise _Doubt(type(fault).__name__) from fault

    async def _wait(self) -> None:
        self._wake.clear()
        silence_s = self._bounds.silence_heartbeats * self._bounds.heartbeat_s
        timer = self._loop.call_later(silence_s, self._wake.set)
        await self._wake.wait()
        timer.cancel()  # after a cancellation of ours it wakes nobody
        if not self._buffer:
            raise _Doubt("silence")

    def _take(self, arrived: list[Delivery], batch: list[Message]) -> str:
        """Append the sound messages of `arrived` to `batch`; what makes us doubt the rest, or an empty text."""
        mark = f".{self.stream}.{self._consumer}."
        mark_length = len(mark)
        consumed, position, doubt = self._consumed, self.position, ""
        whole, pull = not self._subjects and not self._forgets, self._bounds.pull_messages
        for message in arrived:
            reply = message.reply
            at = reply.find(mark)
            if at > 0:
                # <deliveries>.<stream sequence>.<consumer sequence>.<time, ns>.<pending>, with a domain .<random>
                _, stream_seq, consumer_seq, time_ns, _ = reply[at + mark_length :].split(".", 4)
                seq = int(stream_seq)
                if int(consumer_seq) != consumed + 1:
                    doubt = "a hole in the consumer's sequence"
                    break
                if whole and seq != position + 1:
                    raise LogShrunk(f"{self.stream}: {seq} follows {position}, what was between is gone")
                if self._ticks is not None:
                    self._ticks.follow(seq, expected_of(message.head))
                consumed += 1
                position = seq
                moment = _EPOCH + timedelta(0, 0, int(time_ns) // 1000)
                batch.append(Message(seq, message.subject, moment, message.data))
            elif message.subject == self._pull_inbox and not reply:
                doubt = self._status(message, nothing_yet=self._left - consumed + self._consumed == pull)
                if doubt:
                    break
        self._left -= consumed - self._consumed
        self._consumed, self.position = consumed, position
        return doubt

    def _status(self, message: Delivery, *, nothing_yet: bool) -> str:
        """What a status means for the open pull: nothing to do, over, or (returned) a reason to doubt."""
        text = message.status()
        if text.startswith(_HEARTBEAT):
            return ""
        if text not in _OVER:
            return text
        self._left = 0
        if text == _TOO_BIG and nothing_yet:
            if self._pull_bytes >= self._bounds.pull_bytes_max:
                raise LogShrunk(f"{self.stream}: the message after {self.position} exceeds the frame limit")
            self._pull_bytes *= 2
        return ""

    async def _recheck(self) -> None:
        """Idle for long: is there something the consumer did not hand us? Looks at the leader, and at what it leads."""
        now = self._loop.time()
        if now - self._progress_at < self._bounds.recheck_s:
            return
        self._progress_at = now
        state = await self._identity.check(self.position)
        last = 0 if self._subjects else state.last
        for subject in self._subjects:
            found = await jetstream_api.last_message(self._client, self.stream, subject)
            last = max(last, found.seq if found else 0)
        if last > max(self.position, self._rechecked):
            # What is forgotten (a lease past its time) still counts in the end: doubt that once.
            self._rechecked = last if self._forgets else 0
            raise _Doubt("before the stream's end")
