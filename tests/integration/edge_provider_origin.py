"""A provider written out byte by byte, for tests of the upstream client: it answers each request with a script."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Step = bytes | float | str
"""Bytes to write, seconds to wait, or `close`, `reset`, `hang`."""

CLOSE: Final = "close"
RESET: Final = "reset"
HANG: Final = "hang"


def answer(body: bytes = b"{}", status: bytes = b"200 OK", *lines: bytes) -> bytes:
    """An answer with a length."""
    head = [b"HTTP/1.1 " + status, b"content-type: application/json", b"content-length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A chunked answer, whole or without its end."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + framed + (b"0\r\n\r\n" if end else b"")


class RawOrigin:
    """What listens. `scripts` are used one per request, the last repeatedly; `greeting` is sent on connecting."""

    def __init__(self, scripts: Sequence[Sequence[Step]], greeting: bytes = b"") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self._scripts = list(scripts)
        self._greeting = greeting
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.open += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._greeting:
                writer.write(self._greeting)
            while await self._one(reader, writer):
                pass
        except asyncio.CancelledError:
            writer.transport.abort()  # a polite end of TLS waits for the other side
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError):
                await writer.wait_closed()
            self.open -= 1
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        for step in self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step == RESET:
                writer.transport.abort()
                return False
            elif step == HANG:
                await reader.read()
                return False
            else:
                return False
        return True

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def listening(
    *scripts: Sequence[Step], greeting: bytes = b"", context: ssl.SSLContext | None = None
) -> AsyncIterator[RawOrigin]:
    """Run a raw origin on loopback."""
    origin = RawOrigin(scripts, greeting)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        await origin.close()


def certificate(
    folder: Path, *names: str, issuer: "tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None" = None
) -> "tuple[x509.Certificate, ec.EllipticCurvePrivateKey]":
    """Make a certificate for `names` and write it, with its key, to `<first name>.pem`; an authority if no issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3650))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{names[0]}.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return made, key
