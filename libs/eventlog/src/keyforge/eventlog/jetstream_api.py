"""The JetStream API requests that the log needs: JSON over request and reply, bounded in time, errors as values."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from keyforge.eventlog.log import LogClosed, LogMissing, StreamState
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import ClientClosed, NatsClientError, NoResponders

API_TIMEOUT_S = 3.0
"""Chosen: shorter than nats.go's 5 s, since we ask again: it answers within milliseconds, but for the 4 to 9 s until a
new leader is elected (nats-server, raft.go), which are two or three questions."""

STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037


class StreamNotFound(LogMissing):
    """The server answers that the stream does not exist."""


class NoAnswer(LogMissing):
    """The request was sent and not answered: a pause, a network partition, or a connection that died unnoticed."""


class ApiError(msgspec.Struct, frozen=True):
    """An error of the server in place of a result. `err_code` names the error, `code` is its HTTP-like class."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    def __str__(self) -> str:
        return f"{self.description} ({self.err_code})"


class _State(msgspec.Struct):
    bytes: int = 0
    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_ts: str = ""


class _Info(msgspec.Struct):
    created: str = ""
    state: _State = msgspec.field(default_factory=_State)
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    error: ApiError | None = None


class StoredMessage(msgspec.Struct):
    """A message as STREAM.MSG.GET returns it (`data` is base64 there, bytes here)."""

    subject: str
    seq: int
    time: str
    data: bytes = b""


def time_of(text: str) -> datetime:
    """Return an RFC 3339 time in UTC with up to nine decimals, truncated to microseconds as the reader's times are."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}").replace(tzinfo=UTC)


class _MessageGet(msgspec.Struct):
    message: StoredMessage | None = None
    error: ApiError | None = None


class _Answer(msgspec.Struct):
    error: ApiError | None = None


_info = msgspec.json.Decoder(_Info)
_get = msgspec.json.Decoder(_MessageGet)
_answer = msgspec.json.Decoder(_Answer)


async def call(client: NatsClient, subject: str, body: Any = None, *, timeout_s: float = API_TIMEOUT_S) -> bytes:
    """Send `$JS.API.<subject>` once connected, and return the raw answer, each within `timeout_s`.

    Raises LogMissing if there is no answer, LogClosed.
    """
    payload = b"" if body is None else msgspec.json.encode(body)
    try:
        if not client.is_connected:
            await client.wait_connected(within_s=timeout_s)
        reply = await client.request(f"$JS.API.{subject}", payload, timeout_s=timeout_s)
    except ClientClosed:
        raise LogClosed("the connection to NATS is closed") from None
    except NoResponders:
        raise LogMissing(f"no responders for {subject}: no JetStream, or no leader now") from None
    except NatsClientError as fault:
        raise NoAnswer(f"no answer to {subject}: {type(fault).__name__}") from fault
    return reply.data


async def stream_state(client: NatsClient, stream: str) -> StreamState:
    """Return STREAM.INFO as a StreamState. Raises StreamNotFound, LogMissing."""
    return (await stream_info(client, stream))[1]


async def stream_info(client: NatsClient, stream: str) -> tuple[dict[str, Any], StreamState]:
    """Return STREAM.INFO: the configuration as it is stored, and the state. Raises StreamNotFound, LogMissing."""
    info = _info.decode(await call(client, f"STREAM.INFO.{stream}"))
    _raise(stream, info.error)
    bytes_max = int(info.config.get("max_bytes", -1))
    state = StreamState(
        created=info.created,
        first=info.state.first_seq,
        last=info.state.last_seq,
        bytes=info.state.bytes,
        bytes_max=bytes_max if bytes_max > 0 else None,
        first_at=time_of(info.state.first_ts) if info.state.messages else None,
    )
    return info.config, state


async def last_message(client: NatsClient, stream: str, subject: str) -> StoredMessage | None:
    """Return the last message whose subject matches, from the stream's leader: a follower may lag."""
    found = _get.decode(await call(client, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))
    if found.error is not None and found.error.err_code == NO_MESSAGE:
        return None
    _raise(stream, found.error)
    return found.message


async def create_consumer(client: NatsClient, stream: str, name: str, config: dict[str, Any]) -> None:
    """Send CONSUMER.CREATE with the action "create". Raises StreamNotFound, LogMissing."""
    body = {"stream_name": stream, "config": config, "action": "create"}
    answer = _answer.decode(await call(client, f"CONSUMER.CREATE.{stream}.{name}", body))
    _raise(stream, answer.error)


def _raise(stream: str, error: ApiError | None) -> None:
    if error is None:
        return
    if error.err_code == STREAM_NOT_FOUND:
        raise StreamNotFound(f"{stream}: {error}")
    raise LogMissing(f"{stream}: {error}")
