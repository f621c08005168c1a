"""Answers to clients of HTTP/1.0, which do not know chunks."""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

KNOWS_CHUNKS: Final = "1.1"
"""The version of HTTP whose clients read `Transfer-Encoding: chunked`; those of 1.0 do not."""


def without_chunks(cycle: RequestResponseCycle, app: Any) -> Any:
    """Return the app with answers that have no length sent as they are and ended by closing: a server must not send
    `Transfer-Encoding` to a client of HTTP/1.0 (RFC 9112 section 6.1)."""

    async def answer(scope: Any, receive: Any, send: Any) -> Any:
        ends_by_closing = False

        async def send_raw(message: Any) -> None:
            nonlocal ends_by_closing
            if message["type"] == "http.response.start":
                names = {bytes(name).lower() for name, _ in message.get("headers", ())}
                ends_by_closing = b"content-length" not in names
                if ends_by_closing:
                    cycle.chunked_encoding = False
            elif ends_by_closing:  # uvicorn compares what is sent with the length that was announced
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        return await app(scope, receive, send_raw)

    return answer
