"""Reads HTTP/1.1 answers without I/O: bytes in; head, body pieces, end or a named fault out.

The grammar is `httptools` (llhttp, strict); here are the bounds and the rules that make an answer mean one thing only:
one framing (chunked, one Content-Length, or the end of the connection), no upgrade, no redirect.
"""

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import httptools

from keyforge.edge.application.provider_errors import (
    UpstreamBodyTooLarge,
    UpstreamCut,
    UpstreamError,
    UpstreamHeaderTooLarge,
    UpstreamMalformed,
    UpstreamRedirect,
)

HEAD_BYTES_MAX: Final = 32 * 1024
"""Chosen: a proxy such as nginx holds heads of 4 or 8 KiB by default, so what providers send is smaller."""
HEADERS_MAX: Final = 100
"""What Apache accepts by default."""
INFORMATIONAL_MAX: Final = 8
"""Chosen: Go's net/http accepted 5 for years (max1xxResponses): a `100 Continue` and some early hints."""
SILENT_BYTES_MAX: Final = 16 * 1024
"""Bytes that may come in a row without any body in them: chunk extensions, trailers, sizes of chunks. Chosen: half a
head."""
_LENGTH_DIGITS_MAX: Final = 15
"""A petabyte has 16, more than any bound here; `int` raises ValueError for a text of more than 4300."""
_KEEP_ALIVE_DIGITS_MAX: Final = 9
"""A billion seconds are 31 years."""
KEEP_ALIVE_MARGIN_S: Final = 1.0
"""A connection is not used for this long before its provider may close it. Precedent: Node's `http.Agent`
(`agentKeepAliveTimeoutBuffer`). Half of a time that is shorter than two of these."""
_NOTED: Final = frozenset((b"content-length", b"transfer-encoding", b"content-encoding", b"keep-alive"))
_TIMEOUT: Final = re.compile(
    rb"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,%d})(?![\d.])" % _KEEP_ALIVE_DIGITS_MAX, re.IGNORECASE
)


class ResponseFault(NamedTuple):
    """What is wrong with an answer."""

    error: type[UpstreamError]
    detail: str


class HeadNotes(NamedTuple):
    """What an acceptable head says about its body and its connection.

    `coding`: the content encoding of the body, in lower case; empty: none. `keep_s`: how long the connection may stay
    free and be used again.
    """

    coding: bytes = b""
    keep_s: float = math.inf


NOTHING_NOTED: Final = HeadNotes()


def check_head(
    status: int, headers: Sequence[tuple[bytes, bytes]], body_bytes_max: int, *, read_bytes: int | None = None
) -> HeadNotes | ResponseFault:
    """Check a final head; header names in lower case. Both implementations of `Upstream` use it.

    `read_bytes`: all that was read of the answer so far, if it is known; the head is no longer than that.
    """
    if len(headers) > HEADERS_MAX:
        return ResponseFault(UpstreamHeaderTooLarge, "more header lines than an answer may have")
    framings = 0
    notes = NOTHING_NOTED
    for name, value in headers:
        if name in _NOTED:
            if name == b"content-encoding" or name == b"keep-alive":
                notes = _noted(notes, name, value)
                continue
            framings += 1
            if fault := _check_framing(name, value.strip().lower(), body_bytes_max):
                return fault
    if (read_bytes is None or read_bytes > HEAD_BYTES_MAX) and _head_bytes(headers) > HEAD_BYTES_MAX:
        return ResponseFault(UpstreamHeaderTooLarge, "more header bytes than an answer may have")
    if framings > 1:
        return ResponseFault(UpstreamMalformed, "more than one framing")
    if not 200 <= status <= 599:
        return ResponseFault(UpstreamMalformed, "a status that is no answer")
    if 300 <= status <= 399:
        return ResponseFault(UpstreamRedirect, f"status {status}")
    return notes


def _noted(notes: HeadNotes, name: bytes, value: bytes) -> HeadNotes:
    if name == b"keep-alive":
        found = _TIMEOUT.search(value)
        if found is None:
            return notes
        named_s = int(found[1])
        return notes._replace(keep_s=max(named_s - KEEP_ALIVE_MARGIN_S, named_s / 2))
    codings = [one for one in (notes.coding, value.strip().lower()) if one not in (b"", b"identity")]
    return notes._replace(coding=b", ".join(codings))


def _head_bytes(headers: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _check_framing(name: bytes, value: bytes, body_bytes_max: int) -> ResponseFault | None:
    if name == b"content-length":
        if not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
            return ResponseFault(UpstreamMalformed, "a Content-Length that is no length")
        if int(value) > body_bytes_max:
            return ResponseFault(UpstreamBodyTooLarge, "a Content-Length over the bound")
    elif value != b"chunked":
        return ResponseFault(UpstreamMalformed, "a transfer coding other than chunked")
    return None


class ResponseReader:
    """Reads the answers of one connection, one after another; `begin` before each.

    `head_done` means that the head is acceptable; a fault may follow later. `pieces` is for the caller to take.
    """

    __slots__ = (
        "_body_bytes",
        "_body_bytes_max",
        "_head_bytes",
        "_informational",
        "_parser",
        "_silent_bytes",
        "complete",
        "fault",
        "head_done",
        "headers",
        "notes",
        "pieces",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.begin(0)

    def begin(self, body_bytes_max: int) -> None:
        """Expect an answer. Only after a complete and `reusable` one, or as the first."""
        self._body_bytes_max = body_bytes_max
        self._body_bytes = self._head_bytes = self._informational = self._silent_bytes = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.notes = NOTHING_NOTED
        self.head_done = self.complete = self.reusable = False
        self.fault: ResponseFault | None = None

    @property
    def untouched(self) -> bool:
        """Whether not one byte has come since `begin`."""
        return not self._head_bytes and not self.head_done

    def close(self) -> None:
        """Let the parser go: it and this object hold each other."""
        self._parser = None

    def feed(self, data: bytes) -> None:
        """Read on. Never raises; what is wrong is in `fault`. Nothing is read after a fault."""
        parser = self._parser
        if self.fault is not None or parser is None:
            return
        if not self.head_done:
            self._head_bytes += len(data)
        self._silent_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamMalformed, "an upgrade that was not asked for")
        except httptools.HttpParserError as error:
            # Only the parser's own words: they describe the grammar, not the data.
            self._fail(UpstreamMalformed, str(error))
        if not self.head_done and self._head_bytes > HEAD_BYTES_MAX:
            self._fail(UpstreamHeaderTooLarge, "no end of the head within the bound")
        elif self.head_done and not self.complete and self._silent_bytes > SILENT_BYTES_MAX:
            self._fail(UpstreamMalformed, "framing without a body")

    def end(self) -> None:
        """The connection ended: it may be what ends the answer, else it is a fault."""
        if self.complete or self.fault is not None:
            return
        if self.head_done and not any(name in _ENDED_BY for name, _ in self.headers):
            self.complete = True
        else:
            self._fail(UpstreamCut, "the connection ended inside the body" if self.head_done else "no answer came")

    def _fail(self, error: type[UpstreamError], detail: str) -> None:
        if self.complete:
            self.reusable = False  # what follows a complete answer spoils the connection, not the answer
        elif self.fault is None:
            self.fault = ResponseFault(error, detail)

    # What httptools calls, by these names. None of them raises.

    def on_message_begin(self) -> None:
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:  # else a trailer, which is ignored
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if self.complete or self.fault is not None or parser is None:
            return
        status = parser.get_status_code()
        if 100 <= status <= 199 and status != 101:
            self._informational += 1
            if self._informational > INFORMATIONAL_MAX:
                self._fail(UpstreamMalformed, "too many informational answers")
            self.headers = []
            return
        self.status = status
        found = check_head(status, self.headers, self._body_bytes_max, read_bytes=self._head_bytes)
        if isinstance(found, ResponseFault):
            self.fault = found
        else:
            self.notes, self.head_done = found, True
        self._silent_bytes = 0

    def on_body(self, piece: bytes) -> None:
        if self.complete or self.fault is not None:
            return
        self._silent_bytes = 0
        self._body_bytes += len(piece)
        if self._body_bytes > self._body_bytes_max:
            self._fail(UpstreamBodyTooLarge, "a body over the bound")
        else:
            self.pieces.append(piece)

    def on_message_complete(self) -> None:
        parser = self._parser
        if self.head_done and not self.complete and self.fault is None and parser is not None:
            self.complete = True
            self.reusable = parser.should_keep_alive()


_ENDED_BY: Final = frozenset((b"content-length", b"transfer-encoding"))
