"""The event log on JetStream: one request per frame, its answer read with suspicion, and the reader of `reader.py`."""

import re
from collections.abc import AsyncGenerator, Sequence

import msgspec

from keyforge.contracts.frame import FRAME_BYTES_MAX
from keyforge.eventlog import jetstream_api
from keyforge.eventlog.log import (
    Appended,
    AppendRefused,
    AppendUnknown,
    Busy,
    Expect,
    FrameTooLarge,
    Full,
    Message,
    Outcome,
    Stale,
    StreamState,
    Unavailable,
)
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import BufferFull, ConnectionLost, Disconnected, NoResponders, ReplyTimeout
from keyforge.eventlog.nats.protocol import BadSubject, TooLarge
from keyforge.eventlog.reader import Reader, ReaderBounds
from keyforge.eventlog.ticks import EXPECT_SEQ, EXPECT_SUBJECT

APPEND_TIMEOUT_S = 2.0

_MSG_ID = "Nats-Msg-Id"

_WRONG_LAST_SEQUENCE = 10071
_ANOTHER_IN_FLIGHT = 10164
_STORE_FAILED = 10077
_STORE_FULL = frozenset(
    ("maximum bytes exceeded", "maximum messages exceeded", "maximum messages per subject exceeded")
)
_RESOURCES_EXCEEDED = frozenset((10002, 10023, 10047))
"""The account's, the server's and the storage's bounds: checked before anything is stored."""
_NEVER = frozenset((10054, 10060, 10109))
"""Larger than the stream takes, another stream than expected, a sealed stream."""

_last_sequence = re.compile(r"wrong last sequence: (\d+)")


class _Ack(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: jetstream_api.ApiError | None = None


_ack = msgspec.json.Decoder(_Ack)


class JetStreamLog:
    """`EventLog` over a client that the caller opened and will close."""

    def __init__(
        self,
        client: NatsClient,
        *,
        append_timeout_s: float = APPEND_TIMEOUT_S,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        reader: ReaderBounds | None = None,
    ) -> None:
        self._client = client
        self._append_timeout_s = append_timeout_s
        self._frame_bytes_max = frame_bytes_max
        self._reader = reader or ReaderBounds()

    async def append(
        self, subject: str, frame: bytes, *, expect: Expect | None = None, msg_id: str | None = None
    ) -> Outcome:
        """See `EventLog.append`. AppendUnknown comes at most `append_timeout_s` after the call.

        A frame that was on its way when the connection broke may still arrive: hence the fence.
        """
        if len(frame) > self._frame_bytes_max:
            raise FrameTooLarge(f"{len(frame)} bytes for {subject}, at most {self._frame_bytes_max}")
        headers = _headers(expect, msg_id)
        try:
            reply = await self._client.request(subject, frame, timeout_s=self._append_timeout_s, headers=headers)
        except NoResponders:
            return Unavailable(f"no stream takes {subject}")
        except (Disconnected, BufferFull) as fault:
            return Unavailable(str(fault))
        except TooLarge as fault:
            raise FrameTooLarge(f"{fault}: more than the server takes") from fault
        except BadSubject as fault:
            raise AppendRefused(str(fault)) from fault
        except (ReplyTimeout, ConnectionLost) as fault:
            raise AppendUnknown(f"{subject}: {type(fault).__name__}") from fault
        return _outcome(subject, reply.data, expect)

    def read(
        self,
        stream: str,
        *,
        after: int = 0,
        subjects: Sequence[str] = (),
        created: str | None = None,
        forgets: bool = False,
        ticks: bool = False,
    ) -> AsyncGenerator[list[Message], None]:
        """See `EventLog.read`."""
        reading = self.reader(stream, after=after, subjects=subjects, created=created, forgets=forgets, ticks=ticks)
        return reading.batches()

    def reader(
        self,
        stream: str,
        *,
        after: int = 0,
        subjects: Sequence[str] = (),
        created: str | None = None,
        forgets: bool = False,
        ticks: bool = False,
    ) -> Reader:
        """Return the reader that `read` uses, whose counters can be looked at."""
        return Reader(
            self._client,
            stream,
            after=after,
            subjects=subjects,
            created=created,
            forgets=forgets,
            ticks=ticks,
            bounds=self._reader,
        )

    async def end(self, stream: str) -> int:
        """See `EventLog.end`."""
        return (await jetstream_api.stream_state(self._client, stream)).last

    async def last(self, stream: str, subject: str) -> Message | None:
        """See `EventLog.last`."""
        found = await jetstream_api.last_message(self._client, stream, subject)
        if found is None:
            return None
        return Message(found.seq, found.subject, jetstream_api.time_of(found.time), found.data)

    async def state(self, stream: str) -> StreamState:
        """See `EventLog.state`."""
        return await jetstream_api.stream_state(self._client, stream)


def _headers(expect: Expect | None, msg_id: str | None) -> dict[str, str] | None:
    if expect is not None:
        if msg_id is not None:
            raise ValueError("a frame has an expectation or a message id, not both")
        return {EXPECT_SEQ: str(expect.seq), EXPECT_SUBJECT: expect.subject}
    return None if msg_id is None else {_MSG_ID: msg_id}


def _outcome(subject: str, answer: bytes, expect: Expect | None) -> Outcome:
    """Read a publish acknowledgement: `error` first, since an error carries `"seq": 0` beside it."""
    try:
        ack = _ack.decode(answer)
    except msgspec.DecodeError as fault:
        raise AppendUnknown(f"{subject}: not an acknowledgement") from fault
    if ack.error is not None:
        return _refusal(subject, ack.error, expect)
    if ack.seq <= 0:
        raise AppendUnknown(f"{subject}: an acknowledgement without a sequence")
    return Appended(ack.seq, ack.duplicate)


def _refusal(subject: str, error: jetstream_api.ApiError, expect: Expect | None) -> Outcome:
    """The outcome an error means. Only errors that we know to come before the store are outcomes."""
    code = error.err_code
    if code == _WRONG_LAST_SEQUENCE and expect is not None:
        found = _last_sequence.search(error.description)
        # Smaller than expected: a deposed leader that lags, while the new one may store the frame.
        if found and int(found[1]) > expect.seq:
            return Stale(int(found[1]))
    elif code == _ANOTHER_IN_FLIGHT:
        return Busy()
    elif code in _RESOURCES_EXCEEDED or (code == _STORE_FAILED and error.description in _STORE_FULL):
        return Full(str(error))
    elif code in _NEVER:
        raise AppendRefused(f"{subject}: {error}")
    raise AppendUnknown(f"{subject}: {error}")
