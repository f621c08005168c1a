"""The client protocol of NATS as values: messages of the server parsed from bytes, ours as bytes. No I/O, no clock.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol. Every line and message has a bound; anything
else raises `ProtocolError`, and nothing after it is used.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

LINE_BYTES_MAX: Final = 64 * 1024
"""The longest line is INFO, which names the servers of a cluster. Chosen: at some 30 bytes an address, room for two
thousand."""
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The most that `max_payload` of a server can be set to."""

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"

_END: Final = b"\r\n"
_HEADER: Final = b"NATS/1.0"
_subject = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]+").fullmatch
_value = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*").fullmatch
_count = re.compile(rb"[0-9]{1,9}").fullmatch


class ProtocolError(Exception):
    """The bytes received are not of the protocol, or exceed a bound."""


class BadSubject(ValueError):
    """A subject that the protocol cannot carry: empty, or with a blank or a control character in it."""


class TooLarge(ValueError):
    """A message larger than `max_payload` of the server, headers included; the server would close the connection."""


class Delivery(msgspec.Struct, gc=False):
    """One message. `head` is its header block as sent, empty for most; `sid` is the id of its subscription."""

    sid: int
    subject: str
    reply: str
    data: bytes
    head: bytes

    def status(self) -> str:
        """Code and description of a status line ("408 Request Timeout"); empty where there is none."""
        if not self.head:
            return ""
        return self.head[len(_HEADER) : self.head.find(_END)].decode("utf-8", "replace").strip()


class Ping(msgspec.Struct, frozen=True):
    """The server asks for a sign of life."""


class Pong(msgspec.Struct, frozen=True):
    """The server has read everything before our PING."""


class ServerError(msgspec.Struct, frozen=True):
    """-ERR. The server closes the connection after most of them, but not after a permissions violation."""

    text: str


class Info(msgspec.Struct, frozen=True):
    """What the server states about itself: as its first message, and again after a change.

    `server_id` is another after each start, `server_name` is not; `cluster` is the cluster's name, empty without one.
    """

    server_id: str = ""
    server_name: str = ""
    cluster: str = ""
    version: str = ""
    headers: bool = False
    max_payload: int = 1024 * 1024
    tls_required: bool = False
    tls_available: bool = False


ServerMessage = Delivery | Ping | Pong | ServerError | Info

_info = msgspec.json.Decoder(Info)
_ping, _pong = Ping(), Pong()


class Parser:
    """Takes bytes as they arrive and returns messages in order. Not usable any more once it raised `ProtocolError`."""

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._message_bytes_max = message_bytes_max
        self._rest = bytearray()
        self._wanted = 0

    @property
    def empty(self) -> bool:
        """Whether no part of an incomplete message is kept."""
        return not self._rest

    def feed(self, data: bytes) -> list[ServerMessage]:
        """Return the messages that `data` completes. Raises ProtocolError."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            data = bytes(rest)
            rest.clear()
        messages: list[ServerMessage] = []
        at, length = 0, len(data)
        while at < length:
            end = data.find(_END, at, at + self._line_bytes_max)
            if end < 0:
                if length - at >= self._line_bytes_max:
                    raise ProtocolError("a line without an end")
                self._keep(data, at, length - at + 1)
                break
            line = data[at:end]
            if line.startswith((b"MSG ", b"HMSG ")):
                sid, subject, reply, head, total = self._delivery(line)
                body = end + 2
                following = body + total + 2
                if following > length:
                    self._keep(data, at, following - at)
                    break
                if data[following - 2 : following] != _END:
                    raise ProtocolError("a message without an end")
                block = data[body : body + head]
                if head and not block.startswith(_HEADER):
                    raise ProtocolError("a header block of another version")
                messages.append(Delivery(sid, subject, reply, data[body + head : following - 2], block))
                at = following
            else:
                if (other := _other(line)) is not None:
                    messages.append(other)
                at = end + 2
        return messages

    def _keep(self, data: bytes, at: int, wanted: int) -> None:
        self._rest += memoryview(data)[at:]
        self._wanted = wanted

    def _delivery(self, line: bytes) -> tuple[int, str, str, int, int]:
        """Return sid, subject, reply, bytes of the header, bytes in total."""
        words = line.split()
        kind, reply, head = words[0], b"", b"0"
        if kind == b"MSG" and len(words) == 4:
            _, subject, sid, total = words
        elif kind == b"MSG" and len(words) == 5:
            _, subject, sid, reply, total = words
        elif kind == b"HMSG" and len(words) == 5:
            _, subject, sid, head, total = words
        elif kind == b"HMSG" and len(words) == 6:
            _, subject, sid, reply, head, total = words
        else:
            raise ProtocolError(f"not a message: {line[:80]!r}")
        if not (_count(sid) and _count(head) and _count(total)):
            raise ProtocolError(f"not a number: {line[:80]!r}")
        head_bytes, total_bytes = int(head), int(total)
        if not head_bytes <= total_bytes <= self._message_bytes_max:
            raise ProtocolError(f"a message of {total_bytes} bytes, {head_bytes} of them header")
        try:
            return int(sid), subject.decode(), reply.decode(), head_bytes, total_bytes
        except UnicodeDecodeError as fault:
            raise ProtocolError("a subject that is not UTF-8") from fault


def _other(line: bytes) -> ServerMessage | None:
    kind, _, rest = line.partition(b" ")
    kind = kind.upper()
    if kind == b"PONG":
        return _pong
    if kind == b"PING":
        return _ping
    if kind == b"-ERR":
        return ServerError(rest.decode("utf-8", "replace").strip().strip("'"))
    if kind == b"INFO":
        try:
            return _info.decode(rest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise ProtocolError(f"not an INFO: {fault}") from fault
    if kind == b"+OK":
        return None
    raise ProtocolError(f"not of the protocol: {line[:80]!r}")


def connect(options: Mapping[str, Any]) -> bytes:
    """Return CONNECT with its options."""
    return b"CONNECT %b\r\n" % msgspec.json.encode(options)


def subscribe(subject: str, sid: int) -> bytes:
    """Return SUB. Raises BadSubject."""
    return b"SUB %b %d\r\n" % (_checked(subject), sid)


def unsubscribe(sid: int) -> bytes:
    """Return UNSUB, effective at once."""
    return b"UNSUB %d\r\n" % sid


def publish(
    subject: str,
    payload: bytes,
    reply: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    bytes_max: int = MESSAGE_BYTES_MAX,
) -> bytes:
    """Return PUB, or HPUB with headers. Raises BadSubject, TooLarge; ValueError for a header with a line end in it."""
    to = b"%b %b" % (_checked(subject), _checked(reply)) if reply else _checked(subject)
    block = _block(headers) if headers else b""
    total = len(block) + len(payload)
    if total > bytes_max:
        raise TooLarge(f"{total} bytes for {subject}, at most {bytes_max}")
    if block:
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (to, len(block), total, block, payload)
    return b"PUB %b %d\r\n%b\r\n" % (to, total, payload)


def _block(headers: Mapping[str, str]) -> bytes:
    lines = ["NATS/1.0"]
    for name, value in headers.items():
        if not (_subject(name) and ":" not in name and _value(value)):
            raise ValueError(f"not a header: {name!r}")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "\r\n"]).encode()


def _checked(subject: str) -> bytes:
    if not _subject(subject):
        raise BadSubject(f"not a subject: {subject!r}")
    return subject.encode()
