"""Both connections of a service to a NATS that speaks TLS, set as docs/deploy.md says: address and SSL_CERT_FILE."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from keyforge.runtime import bus
from keyforge.runtime.settings import ServiceSettings
from keyforge.testkit.nats_server import NatsNode
from tests.integration.edge_provider_origin import certificate

WITHIN_S = 60.0
AUTHORITY = "fixture authority"
USER = 'authorization { user: it, password: "fixture-it" }'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NatsNode]:
    pem = tmp_path / "localhost.pem"
    certificate(tmp_path, "localhost", issuer=certificate(tmp_path, AUTHORITY))
    node = NatsNode(tmp_path / "nats", extra=f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}\n{USER}')
    node.start()
    yield node
    node.stop()


async def test_a_bus_over_tls(node: NatsNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / f"{AUTHORITY}.pem"))
    settings = ServiceSettings(
        port=1,
        instance="edge-0",
        nats_url=f"tls://localhost:{node.port}",
        nats_user="it",
        nats_password=SecretStr("fixture-it"),
        key_secret=SecretStr("ab" * 32),
    )
    connections = await bus.connect(settings)
    try:
        assert connections.is_connected
        connections.nats.subscribe("echo", lambda asked: connections.nats.publish(asked.reply, asked.data))
        await connections.nats.flush(within_s=WITHIN_S)
        assert (await connections.nats_py.request("echo", b"from one to the other", timeout=WITHIN_S)).data
    finally:
        await connections.close()
    assert not connections.is_connected
