"""NATS' client protocol as values: what a server says, parsed from bytes, and what we say, spelled. No I/O, no clock.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol. Every line and message has a bound; whatever
is not of the protocol raises `NotNats`, and nothing is believed of what follows it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

LINE_BYTES_MAX: Final = 64 * 1024
"""The longest line is INFO, which names the servers of a cluster."""
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""As much as a server may be told to take (`max_payload`)."""

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"

_END: Final = b"\r\n"
_HEADER: Final = b"NATS/1.0"
_subject = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]+").fullmatch
_value = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*").fullmatch
_count = re.compile(rb"[0-9]{1,9}").fullmatch


class NotNats(Exception):
    """What came is not of the protocol, or larger than its bound."""


class BadSubject(ValueError):
    """A subject that would not be one on the wire: empty, or with a blank or a control character in it."""


class TooLarge(ValueError):
    """A message over what the server said it takes (`max_payload`, its headers counted); it would hang up."""


class Delivery(msgspec.Struct, gc=False):
    """One message. `head` is its header block as sent, empty for most; `sid` is the subscription that it came for."""

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
    """The server asks whether we live."""


class Pong(msgspec.Struct, frozen=True):
    """The server has read everything up to our ping."""


class Fault(msgspec.Struct, frozen=True):
    """-ERR. The server closes the connection behind most of them, not behind a permission that lacks."""

    text: str


class Info(msgspec.Struct, frozen=True):
    """What the server says of itself, first of all, and again when something changes."""

    server_id: str = ""
    version: str = ""
    headers: bool = False
    max_payload: int = 1024 * 1024
    tls_required: bool = False
    tls_available: bool = False
    nonce: str = ""


Said = Delivery | Ping | Pong | Fault | Info

_info = msgspec.json.Decoder(Info)
_ping, _pong = Ping(), Pong()


class Parser:
    """Bytes in as they come, what they say out in order. Of no use any more once it raised `NotNats`."""

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._message_bytes_max = message_bytes_max
        self._rest = bytearray()
        self._wanted = 0

    @property
    def empty(self) -> bool:
        """Whether nothing half said is kept."""
        return not self._rest

    def feed(self, data: bytes) -> list[Said]:
        """What is complete with `data`. Raises NotNats."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            data = bytes(rest)
            rest.clear()
        said: list[Said] = []
        at, length = 0, len(data)
        while at < length:
            end = data.find(_END, at, at + self._line_bytes_max)
            if end < 0:
                if length - at >= self._line_bytes_max:
                    raise NotNats("a line without end")
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
                    raise NotNats("a message without end")
                block = data[body : body + head]
                if head and not block.startswith(_HEADER):
                    raise NotNats("a header of another kind")
                said.append(Delivery(sid, subject, reply, data[body + head : following - 2], block))
                at = following
            else:
                if (other := _other(line)) is not None:
                    said.append(other)
                at = end + 2
        return said

    def _keep(self, data: bytes, at: int, wanted: int) -> None:
        self._rest += memoryview(data)[at:]
        self._wanted = wanted

    def _delivery(self, line: bytes) -> tuple[int, str, str, int, int]:
        """Sid, subject, reply, bytes of header, bytes in all."""
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
            raise NotNats(f"not a message: {line[:80]!r}")
        if not (_count(sid) and _count(head) and _count(total)):
            raise NotNats(f"not a number: {line[:80]!r}")
        head_bytes, total_bytes = int(head), int(total)
        if not head_bytes <= total_bytes <= self._message_bytes_max:
            raise NotNats(f"a message of {total_bytes} bytes, {head_bytes} of them header")
        try:
            return int(sid), subject.decode(), reply.decode(), head_bytes, total_bytes
        except UnicodeDecodeError as fault:
            raise NotNats("a subject that is not UTF-8") from fault


def _other(line: bytes) -> Said | None:
    kind, _, rest = line.partition(b" ")
    kind = kind.upper()
    if kind == b"PONG":
        return _pong
    if kind == b"PING":
        return _ping
    if kind == b"-ERR":
        return Fault(rest.decode("utf-8", "replace").strip().strip("'"))
    if kind == b"INFO":
        try:
            return _info.decode(rest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise NotNats(f"not an INFO: {fault}") from fault
    if kind == b"+OK":
        return None
    raise NotNats(f"not of the protocol: {line[:80]!r}")


def connect(options: Mapping[str, Any]) -> bytes:
    """CONNECT with its options."""
    return b"CONNECT %b\r\n" % msgspec.json.encode(options)


def subscribe(subject: str, sid: int) -> bytes:
    """SUB. Raises BadSubject."""
    return b"SUB %b %d\r\n" % (_spelled(subject), sid)


def unsubscribe(sid: int) -> bytes:
    """UNSUB, at once."""
    return b"UNSUB %d\r\n" % sid


def publish(
    subject: str,
    payload: bytes,
    reply: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    bytes_max: int = MESSAGE_BYTES_MAX,
) -> bytes:
    """PUB, or HPUB with headers. Raises BadSubject, TooLarge; ValueError for a header that would end its line."""
    to = b"%b %b" % (_spelled(subject), _spelled(reply)) if reply else _spelled(subject)
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


def _spelled(subject: str) -> bytes:
    if not _subject(subject):
        raise BadSubject(f"not a subject: {subject!r}")
    return subject.encode()
