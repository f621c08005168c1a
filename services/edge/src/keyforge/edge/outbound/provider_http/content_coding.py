"""Answers of providers whose bodies are compressed though nobody asked: decoded when they are taken.

All of a body counts against the request's bound. Both implementations of `Upstream` use it.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Self

from keyforge.edge.application.provider_call import UpstreamResponse
from keyforge.edge.application.provider_errors import UpstreamBodyTooLarge, UpstreamError, UpstreamMalformed
from keyforge.edge.core.content_coding import CODINGS, BodyDecoder, DecodingError

_NAMED: Final = frozenset((b"compress", b"dcb", b"dcz", b"exi", b"x-compress", b"aes128gcm"))
"""Codings of IANA's registry that are not decoded, and may be named in our log: a value that is none could be any
text."""
_OF_THE_BODY_SENT: Final = frozenset((b"content-encoding", b"content-length"))


class DecodedResponse:
    """`UpstreamResponse` over one whose body is encoded; its headers are those of the decoded body.

    An encoding that cannot be decoded fails the body, not the head: a status of 429 means the same without its words.
    """

    __slots__ = ("_answer", "_bytes_left", "_coding", "_decoder", "_error", "_pieces", "_report", "headers", "status")

    def __init__(self, answer: UpstreamResponse, coding: bytes, bytes_max: int, report: Callable[[str], None]) -> None:
        known = CODINGS.get(coding)
        self.status = answer.status
        self.headers: Sequence[tuple[bytes, bytes]] = [
            (name, value) for name, value in answer.headers if name not in _OF_THE_BODY_SENT
        ]
        self._answer = answer
        self._pieces: AsyncIterator[bytes] = aiter(answer)
        self._bytes_left = bytes_max
        self._coding = coding.decode("ascii") if known or coding in _NAMED else "unknown"
        self._decoder = BodyDecoder(known) if known else None
        self._error: UpstreamError | None = None
        self._report = report

    def header(self, name: bytes) -> bytes | None:
        """See `UpstreamResponse`."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    async def read(self) -> bytes:
        """See `UpstreamResponse`."""
        return b"".join([piece async for piece in self])

    def abandon(self) -> None:
        """See `UpstreamResponse`."""
        self._answer.abandon()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._error is not None:
            raise self._error
        decoder = self._decoder
        if decoder is None:
            raise self._failed(UpstreamMalformed, f"the content encoding is {self._coding}, which is not decoded")
        while True:
            try:
                piece = decoder.take()
            except DecodingError as error:
                detail = f"a body that is not {self._coding}, though its head says so"
                raise self._failed(UpstreamMalformed, detail) from error
            if piece:
                self._bytes_left -= len(piece)
                if self._bytes_left < 0:
                    raise self._failed(UpstreamBodyTooLarge, f"a body over the bound, once decoded from {self._coding}")
                return piece
            try:
                decoder.feed(await anext(self._pieces))
            except StopAsyncIteration:
                if not decoder.whole:
                    raise self._failed(UpstreamMalformed, f"a {self._coding} body that ends early") from None
                raise

    def _failed(self, error: type[UpstreamError], detail: str) -> UpstreamError:
        self._answer.abandon()
        self._report(detail)
        self._error = error(detail, sent=True, status=self.status)
        return self._error
