"""TLS to providers: verified, by name, with no way around it; both implementations of the seam."""

import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyforge.edge.application.provider_call import HeaderBlock, UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamError, UpstreamRefused, UpstreamTls
from keyforge.edge.core.routing.origin import Origin
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.edge.outbound.provider_http.dial import tls_context
from tests.integration.edge_provider_origin import answer, certificate, listening
from tests.integration.httpx_upstream import HttpxUpstream

AUTHORITY = "fixture authority"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    issuer = certificate(made, AUTHORITY)
    certificate(made, "localhost", issuer=issuer)
    certificate(made, "elsewhere.example", issuer=issuer)
    certificate(made, "stranger authority")
    return made


def server_context(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem")
    return context


@pytest.fixture(params=[HttpUpstream, HttpxUpstream])
async def upstream(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Any]:
    made = request.param(time.monotonic, context=tls_context(str(folder / f"{AUTHORITY}.pem")))
    yield made
    await made.close()


def ask(port: int, scheme: Any = "https") -> UpstreamRequest:
    origin = Origin(scheme, "localhost", port, allow_insecure=True)
    return UpstreamRequest(origin, "/", HeaderBlock(), b"fixture-prompt", time.monotonic() + 60)


async def test_a_provider_that_proves_its_name_is_used(upstream: Any, folder: Path) -> None:
    async with listening([answer(b"{}")], context=server_context(folder, "localhost")) as origin:
        for _ in range(3):
            assert await (await upstream.send(ask(origin.port))).read() == b"{}"
        assert origin.connections == 1
        assert b"host: localhost:%d" % origin.port in origin.requests[0].lower()


@pytest.mark.parametrize("name", ["elsewhere.example", "stranger authority"])
async def test_a_provider_that_cannot_is_told_nothing(upstream: Any, folder: Path, name: str) -> None:
    async with listening([answer(b"{}")], context=server_context(folder, name)) as origin:
        with pytest.raises(UpstreamTls) as caught:
            await upstream.send(ask(origin.port))
        assert not caught.value.sent
        assert origin.requests == []


async def test_an_authority_that_was_not_named_is_not_trusted(folder: Path) -> None:
    upstream = HttpUpstream(time.monotonic)
    async with listening([answer(b"{}")], context=server_context(folder, "localhost")) as origin:
        with pytest.raises(UpstreamTls):
            await upstream.send(ask(origin.port))
    await upstream.close()


async def test_plain_text_where_tls_was_expected(upstream: Any) -> None:
    async with listening([answer(b"{}")], greeting=b"HTTP/1.1 400 Bad\r\n\r\n") as origin:
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(ask(origin.port))
        assert isinstance(caught.value, UpstreamTls | UpstreamRefused)
        assert not caught.value.sent
        assert origin.requests == []


def test_the_context_verifies() -> None:
    context = tls_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
