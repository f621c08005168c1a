"""Reads the body of a request: whole, within the bound, and decoded where its head says that it is compressed."""

from collections.abc import Awaitable
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.edge.application.call import Call, Headers
from keyforge.edge.core.content_coding import ACCEPTED, CODINGS, STEP_BYTES, BodyDecoder, Coding, DecodingError

UNSUPPORTED: Final = "encoding_unsupported"
_NAMES: Final = ACCEPTED.decode()
_PLAIN: Final = frozenset((b"", b"identity"))


def read_body(call: Call, bytes_max: int, time_limit_s: float) -> Awaitable[bytes | Problem]:
    """Return the body as its agent means it, of `bytes_max` at most, compressed and decoded alike. Raises AgentGone.

    Decoding stops at the bound, and is done at once: it takes no longer than reading what it makes as JSON does.
    """
    plain = call.head.content_encoding in _PLAIN
    return call.body(bytes_max, time_limit_s) if plain else _read_encoded(call, bytes_max, time_limit_s)


async def _read_encoded(call: Call, bytes_max: int, time_limit_s: float) -> bytes | Problem:
    name = call.head.content_encoding
    coding = CODINGS.get(name)
    if coding is None:  # nobody waits for a body that nothing can read
        message = f"A request body may be encoded with one of {_NAMES}."
        return problem(UNSUPPORTED, message, param="header.content-encoding")
    body = await call.body(bytes_max, time_limit_s)
    return body if isinstance(body, Problem) else _decoded(body, coding, name.decode(), bytes_max)


def headers_beside(wrong: Problem) -> Headers:
    """Return what the answer to a body that cannot be read has: which encodings can be (RFC 9110 section 15.5.16)."""
    return [(b"accept-encoding", ACCEPTED)] if wrong.kind.type == UNSUPPORTED else []


def _decoded(body: bytes, coding: Coding, name: str, bytes_max: int) -> bytes | Problem:
    decoder = BodyDecoder(coding)
    pieces: list[bytes] = []
    size = 0
    try:
        for start in range(0, len(body), STEP_BYTES):  # what a decoder leaves is copied at each step, so it is short
            decoder.feed(body[start : start + STEP_BYTES])
            while piece := decoder.take():
                size += len(piece)
                if size > bytes_max:
                    message = f"The request body, once decoded, is larger than {bytes_max} bytes."
                    return problem("body_too_large", message, metadata={"body_bytes_max": bytes_max})
                pieces.append(piece)
    except DecodingError:
        whole = False
    else:
        whole = decoder.whole
    if not whole:
        message = f"The request body is not {name}, though `Content-Encoding` says so, or ends early."
        return problem("encoding_invalid", message, param="header.content-encoding")
    return b"".join(pieces)
