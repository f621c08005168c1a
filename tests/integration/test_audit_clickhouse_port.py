"""ClickHouse's HTTP port of the embedded engine, asked by the unmodified client: it reads, and can do nothing else."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
import uvicorn
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from keyforge.audit.application.queries import Queries
from keyforge.audit.inbound.clickhouse_http import BODY_BYTES_MAX, ClickHouseHttp
from keyforge.audit.outbound.engine import Engine
from keyforge.testkit.ports import free_ports
from tests.integration.audit_engine import engine_path, log_of, new_database, projecting, store_on
from tests.integration.test_audit_projection import caught_up, history
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY

USER, PASSWORD = "keyforge", "fixture-password"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port, served by another thread, since the client blocks."""
    database, (number,) = new_database(), free_ports(1)
    asyncio.run(_fill(database))
    app = ClickHouseHttp(Queries(Engine(engine_path(), database)), user=USER, password=PASSWORD)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=number, lifespan="off", log_config=None, access_log=False)
    )
    serving = threading.Thread(target=server.run)
    serving.start()
    try:
        while not server.started:
            assert serving.is_alive()
        yield number
    finally:
        server.should_exit = True
        serving.join(10)


async def _fill(database: str) -> None:
    log, store = await log_of(facts.begun(), *history()), store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    found = clickhouse_connect.get_client(host="127.0.0.1", port=port, username=USER, password=PASSWORD)
    yield found
    found.close()


@pytest.fixture
async def http(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", auth=(USER, PASSWORD)) as found:
        yield found


def test_records_and_spend_can_be_queried(client: Client) -> None:
    count = client.query("SELECT count() FROM records WHERE key_id = {key:String}", {"key": KEY}).result_rows
    assert count[0][0] > 20
    found = client.query("SELECT tenant, key_id, requests FROM spend_daily")
    assert found.column_names == ("tenant", "key_id", "requests")
    assert found.result_rows == [("acme", KEY, 12)]
    (body,) = client.query("SELECT body FROM records WHERE chain = 'tenant/acme' ORDER BY seq LIMIT 1").result_rows[0]
    assert body.startswith('{"data":{"by":"op","limits":[]')


def test_what_clients_do(client: Client) -> None:
    assert client.command("SELECT 1 + 1") == 2
    empty = client.query("SELECT tenant, sequence FROM records WHERE tenant = 'nobody'")
    assert (empty.column_names, empty.result_rows) == (("tenant", "sequence"), [])
    with client.query_rows_stream("SELECT number FROM numbers(100000)") as stream:
        assert sum(1 for _ in stream) == 100_000
    assert len(client.query_df("SELECT * FROM requests")) >= 16
    assert client.raw_query("SELECT 1 AS a", fmt="JSONEachRow") == b'{"a":1}\n'
    assert client.ping()


async def test_many_at_once(http: httpx.AsyncClient) -> None:
    found = await asyncio.gather(
        *(http.post("/", content="SELECT {i:UInt32}, sleep(0.01)", params={"param_i": i}) for i in range(16))
    )
    assert [answer.text for answer in found] == [f"{i}\t0\n" for i in range(16)]


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("default", PASSWORD), (USER, ""), ("", "")])
def test_an_unknown_user_is_refused(port: int, user: str, password: str) -> None:
    with pytest.raises(DatabaseError) as refused:
        clickhouse_connect.get_client(host="127.0.0.1", port=port, username=user, password=password)
    assert refused.value.code == 516


@pytest.mark.parametrize("header", ["Basic !!!", "Basic " + "/w==", "Bearer x", ""])
async def test_a_malformed_authorization_is_refused(port: int, header: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(
            f"http://127.0.0.1:{port}/", params={"query": "SELECT 1"}, headers={"authorization": header}
        )
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (401, "516")


async def test_other_ways_to_say_who_asks(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        headers = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
        assert (await http.post("/", content="SELECT 1", headers=headers)).text == "1\n"
        asked = {"user": USER, "password": PASSWORD, "query": "SELECT 2"}
        assert (await http.get("/", params=asked)).text == "2\n"
        assert (await http.get("/ping")).text == "Ok.\n"
        assert (await http.get("/else")).status_code == 404


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO records (chain) VALUES ('x')",
        "DROP TABLE records",
        "CREATE TABLE x (a UInt8) ENGINE = Memory",
        "ALTER TABLE records DELETE WHERE 1",
        "SELECT file('/etc/hostname')",
        "SELECT arrayMap(file, ['/etc/hostname'])",
        "SELECT * APPLY(file) FROM (SELECT '/etc/hostname' AS name)",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM executable('id', 'TSV', 'x String')",
        "SELECT * FROM remote('127.0.0.1:9000', system.one)",
        "SELECT * FROM default.`/etc/hostname`",
        "SELECT 1 INTO OUTFILE '/tmp/keyforge-outfile'",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 1000",
        "KILL QUERY WHERE 1",
        "CREATE TEMPORARY TABLE t (x UInt8)",
    ],
)
async def test_it_only_reads(http: httpx.AsyncClient, sql: str) -> None:
    answer = await http.post("/", content=sql)
    assert answer.headers["x-clickhouse-exception-code"] == "164", answer.text
    assert answer.status_code == 403
    assert "READONLY" in answer.text


def test_no_table_function_of_the_engine_that_reaches_outside_gets_past_the_gate() -> None:
    """The engine's own list, against the read-only mode after the gate: what is harmless there is harmless here."""
    from keyforge.audit.core import sql_gate

    names = Engine(engine_path(), "default").table_functions()
    allowed = {
        name for name in names if isinstance(sql_gate.judge(f"SELECT * FROM {name}()", names), sql_gate.AllowedQuery)
    }
    assert allowed <= sql_gate.HARMLESS_TABLE_FUNCTIONS


async def test_files_are_not_shown_by_another_database_either(http: httpx.AsyncClient) -> None:
    for sql in ("EXISTS TABLE `/etc/hostname`", "DESCRIBE TABLE `/etc/hostname`"):
        answer = await http.post("/", params={"database": "default"}, content=sql)
        assert answer.text == "0\n" or answer.headers["x-clickhouse-exception-code"] == "60"


@pytest.mark.parametrize(
    ("asked", "content", "code"),
    [
        pytest.param({}, b"SELECT '" + b"x" * BODY_BYTES_MAX + b"'", "62", id="too long"),
        pytest.param({}, b"SELECT '\xff'", "62", id="not UTF-8"),
        pytest.param({}, b"SELEC 1", "164", id="no statement"),
        pytest.param({}, b"SELECT nothing", "47", id="unknown column"),
        pytest.param({}, b"SELECT * FROM nowhere", "60", id="unknown table"),
        pytest.param({"database": "a`b"}, b"SELECT 1", "81", id="a database that is none"),
        pytest.param({"max_execution_time": "1"}, b"SELECT count() FROM numbers(1e15)", "159", id="too slow"),
        pytest.param({}, b"SELECT * FROM numbers(1e9)", "396", id="too large a result"),
        pytest.param({"allow_introspection_functions": "1"}, b"SELECT 1", "164", id="a setting"),
        pytest.param({"max_threads": "1; DROP TABLE records"}, b"SELECT 1", "164", id="a setting that is more"),
        pytest.param({"max_threads": "9" * 5000}, b"SELECT 1", "164", id="a setting of too many digits"),
        pytest.param({"default_format": "DataFrame"}, b"SELECT 1", "73", id="a format that is Python's"),
        pytest.param({"default_format": "arrowtable"}, b"SELECT 1", "73", id="another"),
        pytest.param({f"a{n}": "1" for n in range(300)}, b"SELECT 1", "36", id="too many parameters"),
    ],
)
async def test_errors_are_clickhouses_own(
    http: httpx.AsyncClient, asked: dict[str, Any], content: bytes, code: str
) -> None:
    answer = await http.post("/", params=asked, content=content, timeout=40)
    assert answer.headers["x-clickhouse-exception-code"] == code, answer.text[:300]
    assert answer.status_code >= 400


async def test_what_is_not_supported(http: httpx.AsyncClient) -> None:
    answer = await http.post("/", content=b"x", headers={"content-encoding": "gzip"})
    assert answer.headers["x-clickhouse-exception-code"] == "48"
    answer = await http.post("/", data={"query": "SELECT 1"}, files={"t": b"1"})
    assert answer.headers["x-clickhouse-exception-code"] == "48"


async def test_nothing_was_written(http: httpx.AsyncClient) -> None:
    assert not await asyncio.to_thread(Path("/tmp/keyforge-outfile").exists)
