"""Planted secrets and names appear nowhere: no log at DEBUG, event, table, metric, error or header from the edge."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from typing import Any

import clickhouse_connect
import httpx
import nats
import pytest

from keyforge.contracts import members, subjects
from keyforge.contracts.money import nusd
from keyforge.testkit.frames import texts_of
from keyforge.testkit.gateway import Gateway, error_of, gateway_of
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

CREDENTIAL = "sk-fixture-canary-credential-0123456789"
PROMPT = "canary-prompt-cinnamon-harbour"
ANSWER = "canary-answer-velvet-orchard"
TENANT_NAME = "canary-tenant-saffron-lighthouse"
KEY_NAME = "canary-key-copper-meadow"
REASON = "canary-reason-amber-railway"
SERVICES = ("edge", "keys", "budget", "audit")


@pytest.fixture
def stack_at_debug(new_stack: Callable[..., Stack]) -> Iterator[Gateway]:
    stack = new_stack(KEYFORGE_LOG_LEVEL="DEBUG")
    stack.start()
    with gateway_of(stack) as gateway:
        yield gateway


def everything_that_was_written(gateway: Gateway) -> dict[str, bytes]:
    """Return what is on disk of the stack, by place, but for the folder whose business secrets are; and what was
    compressed there."""
    home = gateway.stack.home
    found = {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.relative_to(home).parts[0] not in {"secrets", "ready.json"}
    }
    found.pop("nats.conf", None)  # the passwords of NATS users are its business
    found["what up printed"] = gateway.stack.output.read_bytes()
    found |= {f"frames of {stream}": text for stream, text in texts_of(gateway.stack).items()}
    return found


def places_with(places: dict[str, bytes], prefix: str, text: str) -> list[str]:
    return [place for place, written in places.items() if place.startswith(prefix) and text.encode() in written]


def test_no_canary_anywhere(stack_at_debug: Gateway) -> None:
    gateway = stack_at_debug
    simulator = gateway.stack.url("simulator") + "/v1"
    gateway.operator(
        "keys", "POST", "/v1/providers", {"id": "own", "kind": "openai", "base_url": simulator, "allow_insecure": True}
    )
    gateway.operator("keys", "POST", "/v1/providers/own/credentials", {"secret": CREDENTIAL})
    gateway.operator("keys", "PUT", "/v1/prices/own/m", {"input_per_mtok": "1", "output_per_mtok": "2"})
    gateway.tenant("canary")
    key = gateway.key("canary", [{"unit": "usd", "window": "day", "cap": "5"}])
    messages = [{"role": "user", "content": PROMPT}]
    faults: list[dict[str, Any]] = [
        {"content": ANSWER},
        {"status": 400, "body": f'{{"error": {{"message": "bad key {CREDENTIAL}"}}}}'},
        {"status": 200, "headers": {"x-echo": CREDENTIAL}},
        {"cut_body_at": 30},
        {"body": f"<html>{CREDENTIAL}"},
        {"error_after_chunks": 2},
        # last: a credential that is refused is not used again for a while
        {"status": 401, "body": f'{{"error": {{"message": "Incorrect API key provided: {CREDENTIAL}"}}}}'},
    ]
    answers: list[httpx.Response] = []
    for fault in faults:
        gateway.script(fault, credential=CREDENTIAL, times=2)
        answers += [gateway.chat(key, model="own/m", messages=messages, stream=stream) for stream in (False, True)]
    answers.append(gateway.chat(key, model=PROMPT, messages=messages))  # a prompt where it does not belong
    answers.append(gateway.chat(key, messages=messages, max_tokens=PROMPT))
    bad = httpx.get(f"{gateway.stack.url('keys')}/v1/tenants", headers={"authorization": f"Bearer {key.text}"})
    (limit,) = gateway.wait_settled(key)
    gateway.wait_audited(key, nusd(limit["settled"]))
    gateway.operator("audit", "GET", f"/v1/tenants/canary/keys/{key.id}/records")

    secrets = {
        "credential": CREDENTIAL.encode(),
        "virtual key": key.text.encode(),
        "demo key": gateway.stack.demo_key.encode(),
        "admin token": gateway.stack.admin_token.encode(),
    }
    places = everything_that_was_written(gateway)
    for service in SERVICES:
        places[f"metrics of {service}"] = httpx.get(f"{gateway.stack.url(service)}/metrics").content
    places["an error of keys"] = bad.content
    assert len(places_with(places, "frames of KF_LOG", key.id)) == 1  # the search is able to find
    for name, secret in {**secrets, "prompt": PROMPT.encode(), "answer": ANSWER.encode()}.items():
        assert [place for place, written in places.items() if secret in written] == [], name
    told = b"\n".join(answer.content + repr(answer.headers).encode() for answer in answers)
    assert [name for name, secret in secrets.items() if secret in told] == []
    assert ANSWER.encode() in told  # the agent does get its answer: the search is able to find
    assert "no_credential" not in [error_of(answer).get("type") for answer in answers[:12] if answer.status_code >= 400]


def rows_of(stack: Stack) -> bytes:
    """Return every row of both tables of ClickHouse."""
    client = clickhouse_connect.get_client(dsn=stack.url("clickhouse"))
    try:
        found = [client.query(f"SELECT * FROM {table}").result_rows for table in ("records", "requests")]
    finally:
        client.close()
    cells = [cell for rows in found for row in rows for cell in row]
    return b"\n".join(bytes(cell) if isinstance(cell, bytes) else str(cell).encode() for cell in cells)


async def forget(stack: Stack, tenant: str) -> None:
    """Destroy a tenant's secret, as an operator would."""
    password = (stack.home / "secrets" / "nats_admin").read_text("ascii").strip()
    prefix = subjects.inbox_prefix(members.ADMIN).encode()
    admin = await nats.connect(stack.url("nats"), user=members.ADMIN, password=password, inbox_prefix=prefix)
    try:
        await (await admin.jetstream().key_value(subjects.TENANT_SECRETS_BUCKET)).delete(tenant)
    finally:
        await admin.close()


def test_names_and_reasons_appear_nowhere_and_a_tenant_can_be_forgotten(stack_at_debug: Gateway) -> None:
    gateway, stack = stack_at_debug, stack_at_debug.stack
    for tenant in ("canary", "other"):
        gateway.operator("keys", "POST", "/v1/tenants", {"id": tenant, "name": TENANT_NAME})
    key, ended = (gateway.key("canary", name=KEY_NAME) for _ in range(2))
    path = f"/v1/tenants/canary/keys/{ended.id}"
    gateway.operator("keys", "POST", f"{path}/revoke", {"reason": REASON})
    assert gateway.chat(key).status_code == 200
    assert gateway.chat(ended).status_code == 401
    gateway.wait_settled(key)
    gateway.operator("audit", "GET", "/v1/tenants/canary/records")
    printed = [stack.cli("key", "list", "canary").stdout, stack.cli("tenant", "list").stdout]

    places = everything_that_was_written(gateway) | {"rows of ClickHouse": rows_of(stack)}
    for service in SERVICES:
        places[f"metrics of {service}"] = httpx.get(f"{stack.url(service)}/metrics").content
    for name in (key.id, "canary"):  # the search is able to find, in the log and in ClickHouse
        assert name.encode() in places["rows of ClickHouse"]
        assert places_with(places, "nats", name)
        assert len(places_with(places, "frames of KF_LOG", name)) == 1
    for canary in (TENANT_NAME, KEY_NAME, REASON):
        for form in (canary.encode(), base64.b64encode(canary.encode())[:-4]):
            assert [place for place, written in places.items() if form in written] == [], canary
    shown = gateway.operator("keys", "GET", path)
    assert (shown["name"], shown["reason"]) == (KEY_NAME, REASON)
    assert gateway.operator("keys", "GET", "/v1/tenants/canary")["name"] == TENANT_NAME
    assert (KEY_NAME in printed[0], TENANT_NAME in printed[1]) == (True, True)

    asyncio.run(forget(stack, "canary"))
    for service in SERVICES:
        stack.restart(service)
    shown = gateway.operator("keys", "GET", path)
    assert (shown["name"], shown["reason"], shown["status"]) == (None, None, "revoked")
    names = {one["id"]: one["name"] for one in gateway.operator("keys", "GET", "/v1/tenants")["tenants"]}
    assert (names["canary"], names["other"]) == (None, TENANT_NAME)
    chains = [f"/v1/tenants/canary/{chain}" for chain in (f"keys/{key.id}", f"keys/{ended.id}")] + [
        "/v1/tenants/canary"
    ]
    assert [gateway.operator("audit", "GET", f"{chain}/verify")["valid"] for chain in chains] == [True] * 3
    assert stack.cli("key", "list", "canary").returncode == 0
