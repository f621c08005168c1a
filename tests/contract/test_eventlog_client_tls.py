"""A client over TLS: verified, by name, whoever asks for it; nothing is said or believed in the clear."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import ClientBounds
from keyforge.eventlog.nats.errors import AccessRefused, BufferFull, ConnectionLost, TlsRefused
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ports import free_ports
from tests.contract.nats_hands import INFO, PROMPTLY_S, WITHIN_S, Messages, Told, echo, faked, fill, open_client
from tests.integration.edge_provider_origin import certificate

StartNode = Callable[..., NatsNode]

AUTHORITY = "fixture authority"
NARROW = ClientBounds(connect_s=0.5, reconnect_pause_s=0.02, pending_bytes_max=1_000_000, close_s=0.2)
HAS_TLS = INFO.replace(b"{", b'{"tls_available":true,')
WANTS_TLS = INFO.replace(b"{", b'{"tls_required":true,')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    issuer = certificate(made, AUTHORITY)
    certificate(made, "localhost", issuer=issuer)
    certificate(made, "elsewhere.example", issuer=issuer)
    certificate(made, "stranger authority", "localhost")
    return made


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / f"{AUTHORITY}.pem"))


def secured(folder: Path, name: str = "localhost", more: str = "") -> str:
    """What a server's configuration says of TLS."""
    pem = folder / f"{name}.pem"
    return f'tls {{ cert_file: "{pem}", key_file: "{pem}", timeout: 5 }}\n{more}'


@pytest.fixture(scope="module")
def tls_node(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[NatsNode]:
    user = 'authorization { user: it, password: "fixture-it" }'
    node = NatsNode(tmp_path_factory.mktemp("tls"), extra=secured(folder, more=user))
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_server_that_proves_its_name(tls_node: NatsNode, folder: Path, scheme: str) -> None:
    url = f"{scheme}://it:fixture-it@localhost:{tls_node.port}"
    async with open_client([url], context=trusting(folder)) as client:
        assert client._connection is not None
        assert client._connection.transport is not None
        assert client._connection.transport.get_extra_info("ssl_object").version().startswith("TLSv1.")
        echo(client, "echo")
        payload = b"x" * 500_000
        answers = await asyncio.gather(*(client.request("echo", payload, timeout_s=WITHIN_S) for _ in range(10)))
        assert {answer.data for answer in answers} == {b"you said " + payload}


async def test_a_wrong_password_is_refused(tls_node: NatsNode, folder: Path) -> None:
    url = f"tls://localhost:{tls_node.port}"
    client = NatsClient([url], user="it", password="fixture-wrong", context=trusting(folder))
    with pytest.raises(AccessRefused):
        await client.open(within_s=WITHIN_S)
    await client.close()


@pytest.mark.parametrize("name", ["elsewhere.example", "stranger authority"])
@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_server_that_does_not(nats_own: StartNode, folder: Path, name: str, scheme: str) -> None:
    node = nats_own(extra=secured(folder, name))
    client = NatsClient([f"{scheme}://localhost:{node.port}"], context=trusting(folder))
    with pytest.raises(TlsRefused, match="certificate"):
        await client.open(within_s=WITHIN_S)
    await client.close()


async def test_an_authority_that_was_not_named_is_not_trusted(tls_node: NatsNode) -> None:
    client = NatsClient([f"tls://it:fixture-it@localhost:{tls_node.port}"])
    with pytest.raises(TlsRefused, match="certificate"):
        await client.open(within_s=WITHIN_S)
    await client.close()


async def test_a_server_that_speaks_no_tls_is_refused_where_we_require_it(nats_node: NatsNode) -> None:
    client = NatsClient([f"tls://127.0.0.1:{nats_node.port}"])
    with pytest.raises(TlsRefused, match="the server speaks no TLS"):
        await client.open(within_s=WITHIN_S)
    await client.close()


async def test_of_several_servers_those_that_are_refused_or_away_do_not_count(
    nats_own: StartNode, tls_node: NatsNode, folder: Path
) -> None:
    stranger = nats_own(extra=secured(folder, "elsewhere.example"))
    urls = [f"tls://localhost:{port}" for port in (stranger.port, free_ports(1)[0], tls_node.port)]
    for order in (urls, urls[::-1]):
        async with open_client(order, user="it", password="fixture-it", context=trusting(folder)) as client:
            await client.flush(within_s=WITHIN_S)
    refused = NatsClient(urls[:2], context=trusting(folder))
    with pytest.raises(TlsRefused):
        await refused.open(within_s=WITHIN_S)
    await refused.close()


@pytest.mark.parametrize(
    ("scheme", "greeting"),
    [
        pytest.param("tls", HAS_TLS, id="a server that only says that it has TLS"),
        pytest.param("tls", HAS_TLS + b"-ERR 'x'\r\nPING\r\nPONG\r\n", id="one that says more than INFO"),
        pytest.param("tls", HAS_TLS + b"MSG a 2 4\r\nfake\r\n", id="a message in the clear"),
        pytest.param(
            "nats", WANTS_TLS + b"MSG a 2 4\r\nfake\r\n", id="a message in the clear before TLS that it wants"
        ),
        pytest.param("nats", WANTS_TLS + b"MSG a 2 4\r\nfa", id="half a message in the clear"),
    ],
)
async def test_nothing_is_said_or_believed_in_the_clear(folder: Path, scheme: str, greeting: bytes) -> None:
    """Whoever stands between could say it, whatever the certificate proves later."""
    heard = Messages()
    async with faked(greeting, mute=True) as server:
        url = f"{scheme}://it:fixture-it@localhost:{server.port}"
        client = NatsClient(
            [url], bounds=ClientBounds(connect_s=0.05, reconnect_pause_s=0.02), context=trusting(folder)
        )
        client.subscribe("a", heard)
        opening = asyncio.ensure_future(client.open())
        await server.connections.until(lambda all_: len(all_) > 2)
        assert not opening.done()
        opening.cancel()
        await asyncio.wait({opening})
        await client.close()
        assert heard.all == []
        assert b"CONNECT" not in server.told
        assert b"fixture" not in server.told
        if b"MSG" in greeting:
            assert server.told == b""


async def test_a_server_that_dies_and_comes_back(nats_own: StartNode, folder: Path) -> None:
    node = nats_own(extra=secured(folder))
    told, heard = Told(), Messages()
    async with open_client([f"tls://localhost:{node.port}"], context=trusting(folder), report=told) as client:
        client.subscribe("a", heard)
        await client.flush(within_s=WITHIN_S)
        waiting = asyncio.ensure_future(client.request("a", b"", timeout_s=WITHIN_S))
        await heard.count(1)
        node.kill()
        with pytest.raises(ConnectionLost):
            await waiting
        node.start()
        await client.wait_connected(within_s=WITHIN_S)
        await client.flush(within_s=WITHIN_S)
        client.publish("a", b"back")
        await heard.count(2)
        assert client.reconnects == 1


async def test_what_is_said_just_before_the_end_is_sent(nats_own: StartNode, folder: Path) -> None:
    node = nats_own(extra=secured(folder))
    url, heard = f"tls://localhost:{node.port}", Messages()
    async with open_client([url], context=trusting(folder)) as other:
        other.subscribe("a", heard)
        await other.flush(within_s=WITHIN_S)
        async with open_client([url], context=trusting(folder)) as client:
            for _ in range(100):
                client.publish("a", b"x" * 10_000)
            started = time.monotonic()
        assert time.monotonic() - started < PROMPTLY_S
        await heard.count(100)


async def test_too_much_that_waits_is_refused_and_nothing_hangs(nats_own: StartNode, folder: Path) -> None:
    node = nats_own(extra=secured(folder))
    async with open_client([f"tls://localhost:{node.port}"], context=trusting(folder), bounds=NARROW) as client:
        node.pause()
        started = time.monotonic()
        with pytest.raises(BufferFull):
            await fill(client)
        await client.close()
        assert time.monotonic() - started < PROMPTLY_S
