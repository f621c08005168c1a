"""ClickHouse's HTTP port: what ends its server, other than the service, ends the service."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from keyforge.audit import app
from keyforge.audit.errors import PortEndedError
from keyforge.audit.settings import AuditSettings
from keyforge.testkit.ports import free_ports
from tests.integration.audit_engine import log_of, new_database, projecting, store_on
from tests.integration.test_audit_projection import until


@pytest.mark.parametrize("how", ["it is closed", "it ends"])
async def test_what_ends_the_server_otherwise_ends_the_service(how: str, tmp_path: Path) -> None:
    settings = AuditSettings.model_construct(
        host="127.0.0.1",
        clickhouse_path=str(tmp_path),
        clickhouse_http_port=free_ports(1)[0],
        clickhouse_user="keyforge",
        clickhouse_password=SecretStr("fixture-password"),
    )
    async with projecting(await log_of(), store_on(new_database())) as projection:
        port = app._ClickHousePort(settings)
        port.open(projection.fail)
        server = port._server
        assert server is not None
        await until(lambda: server.started, "it serves")
        if how == "it is closed":
            await port.close()
            assert not projection.failed.done()
            return
        server.should_exit = True
        await until(projection.failed.done, "the service ends")
        assert isinstance(projection.failed.exception(), PortEndedError)
        await port.close()
