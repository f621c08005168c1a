"""The service as a whole: records and spend appear, a killed process goes on, a rebuild comes out the same."""

from collections.abc import Callable
from pathlib import Path

from keyforge.testkit.nats_server import NatsNode
from tests.integration.audit_stack import audit_on
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
        assert found["next_after_seq"] is None

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
        assert (await audit.get("/v1/spend", tenant="nobody"))["total"]["settled_usd"] == "0"
        assert audit.stop() == 0


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
