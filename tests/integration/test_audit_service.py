"""The service as a whole: records and spend appear, a killed process goes on, a rebuild comes out the same."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from keyforge.chain import record as rec
from keyforge.testkit.nats_server import NatsNode
from tests.integration.audit_stack import PASSWORD, USER, Audit, audit_on
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY

KEY_PATH = f"/v1/tenants/acme/keys/{KEY}"


async def test_from_the_log_to_the_api(nats_own: Callable[..., NatsNode], tmp_path: Path) -> None:
    async with audit_on(nats_own(), tmp_path / "audit") as audit:
        audit.start()
        await audit.append(
            facts.begun(), facts.adm(facts.admitted(1), facts.admitted(2)), facts.use(facts.completed(1))
        )
        await audit.ready()
        found = await audit.until_records(KEY, 4)
        assert [record["type"].split(".")[2] for record in found["records"]] == [
            "created",
            "admitted",
            "admitted",
            "completed",
        ]
        last = found["records"][-1]
        assert last["amount_usd"] == "0.00045"
        assert last["settled_usd"] == "0.00045"
        assert last["reserved_usd"] == "0.00225"
        assert last["body"]["data"]["usage"] == {"input_tokens": 1000, "output_tokens": 500}
        assert last["previous_hash"] == found["records"][-2]["hash"]
        assert last["body_hash"] == rec.unpack(bytes.fromhex(last["header"])).body_hash.hex()
        assert found["next"] is None

        verdict = await audit.get(f"{KEY_PATH}/verify")
        assert verdict["verdict"] == "VALID to seq 4"

        spend = await audit.get("/v1/spend", tenant="acme", by="key,model")
        assert spend["rows"] == [
            {
                "group": {"key": KEY, "model": "gpt-4o-mini"},
                "requests": 1,
                "settled_usd": "0.00045",
                "tokens": 1500,
            }
        ]
        await _refuses(audit)
        await _pages(audit)
        for port in (audit.port, audit.clickhouse_port):
            await _is_bounded(port)
        metrics = (await audit.http.get("/metrics")).text
        assert "keyforge_audit_records_total 6.0" in metrics
        assert audit.stop() == 0


async def test_who_looks_at_once_sees_what_the_log_holds(nats_own: Callable[..., NatsNode], tmp_path: Path) -> None:
    """With an INSERT only 2 s after the first rows: an answer waits for it, or says that it did not."""
    async with audit_on(nats_own(), tmp_path / "audit", linger_s=20.0) as audit:
        audit.start()
        await audit.ready()
        await audit.append(facts.begun(), facts.adm(facts.admitted(1)), facts.use(facts.completed(1)))
        for path in (
            f"{KEY_PATH}/records",
            f"{KEY_PATH}/verify",
            "/v1/tenants/acme/records",
            "/v1/tenants/acme/verify",
        ):
            answer = await audit.http.get(path, params={"wait_s": 0.01})
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "not_stored_yet"), path
        early = await audit.get("/v1/spend", wait_s=0.01)
        assert (early["total"]["requests"], early["lag"]) == (0, 3)

        spend, found = await asyncio.gather(audit.get("/v1/spend"), audit.get(f"{KEY_PATH}/records"))
        assert (spend["total"]["requests"], spend["lag"]) == (1, 0)
        assert (found["head_seq"], len(found["records"]), found["lag"]) == (3, 3, 0)
        answer = await audit.http.get("/v1/tenants/acme/keys/unknown/records")
        assert answer.json()["error"]["type"] == "not_found"
        for wrong in ("-1", "31", "nan", "soon"):
            answer = await audit.http.get("/v1/spend", params={"wait_s": wrong})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "query.wait_s"), wrong


async def test_it_stops_at_once_whatever_readers_ask(nats_own: Callable[..., NatsNode], tmp_path: Path) -> None:
    """Queries that take 30 s each, more than there are places for: they are answered so, and the process ends."""
    async with audit_on(nats_own(), tmp_path / "audit") as audit:
        audit.start()
        await audit.ready()
        slow = "SELECT " + ", ".join(f"sleep({2.5 + n / 100})" for n in range(12))
        url, who = f"http://127.0.0.1:{audit.clickhouse_port}", httpx.BasicAuth(USER, PASSWORD)
        async with httpx.AsyncClient(base_url=url, auth=who, timeout=40) as readers:
            asked = [asyncio.ensure_future(readers.post("/", content=slow)) for _ in range(6)]

            async def taken() -> bool:
                try:
                    await readers.post("/", content="SELECT 1", timeout=0.5)
                except httpx.ReadTimeout:
                    return True
                return False

            await audit.until(taken, "all places are taken")
            code = await asyncio.to_thread(audit.stop)
            answers = await asyncio.gather(*asked)
        assert code == 0
        assert {answer.headers["x-clickhouse-exception-code"] for answer in answers} == {"394", "236"}
        assert "Traceback" not in audit.tail()


async def _refuses(audit: Audit) -> None:
    """Each wrong question has its own error."""
    for path, parameters, code, param in [
        (f"{KEY_PATH}/records", {"limit": "0"}, "request_invalid", "query.limit"),
        (f"{KEY_PATH}/records", {"after": "-1"}, "request_invalid", "query.after"),
        (f"{KEY_PATH}/records", {"after_seq": "-1"}, "request_invalid", "query.after_seq"),
        ("/v1/tenants/acme/keys/unknown/records", {}, "not_found", None),
        ("/v1/tenants/acme/keys/unknown/verify", {}, "not_found", None),
        ("/v1/spend", {"tenant": "acne"}, "not_found", None),
        ("/v1/spend", {"tennant": "acme"}, "request_invalid", "query.tennant"),
        ("/v1/spend", {"by": "key,secret"}, "request_invalid", "by: secret"),
        ("/v1/spend", {"by": "key,key"}, "request_invalid", "by"),
        ("/v1/spend", {"from": "2030-01-01T00:00:00"}, "request_invalid", "query.from"),
        ("/v1/spend", {"from": "2020"}, "request_invalid", "query.from"),
        ("/v1/spend", {"to": "soon"}, "request_invalid", "query.to"),
        ("/v1/nothing", {}, "route_unknown", None),
    ]:
        error = (await audit.http.get(path, params=parameters)).json()["error"]
        assert (error["type"], error["param"]) == (code, param), path
    for token, code in [("", "token_missing"), ("Bearer kfa_wrong", "token_invalid")]:
        for path in (f"{KEY_PATH}/records", f"{KEY_PATH}/verify", "/v1/spend", "/v1/rebuild"):
            answer = await audit.http.get(path, headers={"authorization": token})
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, code)
    answer = await audit.http.post("/v1/rebuild", headers=await audit.token("platform-auditor"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "forbidden")


async def _is_bounded(port: int) -> None:
    """An unknown client cannot make it buffer what it reads, on the operators' API and on ClickHouse's port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                for _ in range(100):
                    writer.write(b"x-more: " + b"x" * 1000 + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.001)
                assert await reader.read(1000) == b""
    finally:
        writer.close()


async def _pages(audit: Audit) -> None:
    """A page at a time is all of it; times bound spend by when a request was admitted."""
    whole = (await audit.get(f"{KEY_PATH}/records"))["records"]
    paged: list[object] = []
    after: int | None = 0
    while after is not None:
        page = await audit.get(f"{KEY_PATH}/records", after=after, limit=1)
        paged += page["records"]
        after = page["next"]
    assert paged == whole
    for parameters in ({"after": 2}, {"after_seq": 2}):
        assert (await audit.get(f"{KEY_PATH}/records", **parameters))["records"] == whole[2:], parameters
    day = await audit.get("/v1/spend", **{"from": "2030-01-01T12:00:00.25Z", "to": "2030-01-01T13:00:00.25+01:00"})
    assert day["total"]["requests"] == 0
    day = await audit.get("/v1/spend", **{"from": "2030-01-01T13:00:00.25+01:00", "to": "2030-01-02T00:00:00Z"})
    assert day["total"]["requests"] == 1
    by_day = await audit.get("/v1/spend", by="day,tenant")
    assert by_day["rows"][0]["group"] == {"day": "2030-01-01T00:00:00Z", "tenant": "acme"}
    operators = await audit.get("/v1/tenants/acme/records")
    assert [record["type"] for record in operators["records"]] == [
        "keyforge.tenant.created.v1",
        "keyforge.key.created.v1",
    ]
    assert (await audit.get("/v1/tenants/acme/verify"))["verdict"] == "VALID to seq 2"


async def test_killed_and_started_again(nats_own: Callable[..., NatsNode], tmp_path: Path) -> None:
    async with audit_on(nats_own(), tmp_path / "audit") as audit:
        audit.start()
        await audit.append(facts.begun())
        count = 1
        for turn in range(3):
            numbers = range(turn * 40, turn * 40 + 40)
            for number in numbers:
                await audit.append(facts.adm(facts.admitted(number)), facts.use(facts.completed(number)))
            count += 80
            if turn:
                audit.kill()
                audit.start()
            await audit.ready()
            found = await audit.until_records(KEY, count)
            assert [record["seq"] for record in found["records"]] == list(range(1, count + 1))
            assert (await audit.get(f"{KEY_PATH}/verify"))["verdict"] == f"VALID to seq {count}"
            spend = await audit.get("/v1/spend", tenant="acme")
            assert spend["total"]["requests"] == (count - 1) // 2

        before = (await audit.get(f"{KEY_PATH}/records", limit=1000))["records"]
        assert (await audit.http.post("/v1/rebuild")).status_code == 202

        async def rebuilt() -> bool:
            return bool((await audit.get("/v1/rebuild"))["state"] == "done")

        await audit.until(rebuilt, "rebuilt")
        progress = await audit.get("/v1/rebuild")
        assert progress["identical"] is True
        assert progress["folded"] == progress["messages"] > 0
        assert (await audit.get(f"{KEY_PATH}/records", limit=1000))["records"] == before
