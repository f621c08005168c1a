"""A revoked credential is used for no further call, a revoked operator's token opens no service; the record says so."""

import time
from collections.abc import Callable

import clickhouse_connect
import httpx

from keyforge.simulator.script import digest
from keyforge.testkit.gateway import Gateway, error_of
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.stack import Stack
from tests.pace import within

WITHIN_S = 1.0
KEYS = 12
"""All of them on one of two credentials: once in 2,048 times."""


def recorded_ends(stack: Stack) -> set[str]:
    """The ids that the platform's chain says were revoked."""
    client = clickhouse_connect.get_client(dsn=stack.url("clickhouse"))
    try:
        found = client.query(
            "SELECT body FROM records WHERE chain = 'platform' AND body LIKE '%.revoked.v1%'"
        ).result_rows
    finally:
        client.close()
    bodies = [row[0] if isinstance(row[0], str) else bytes(row[0]).decode() for row in found]
    return {word for body in bodies for word in body.split('"')}


def test_a_revoked_credential_is_used_no_more(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    provider, stack = "ending", gateway.stack
    url = f"{stack.url('simulator')}/v1"
    settings = {"id": provider, "kind": "openai-compatible", "base_url": url, "allow_insecure": True}
    gateway.operator("keys", "POST", "/v1/providers", settings)
    path = f"/v1/providers/{provider}/credentials"
    gateway.operator(
        "keys", "PUT", f"/v1/prices/{provider}/sim-ending", {"input_per_mtok": "1", "output_per_mtok": "2"}
    )
    ids = {secret: gateway.operator("keys", "POST", path, {"secret": secret})["id"] for secret in ("first", "second")}
    tenant = new_tenant(gateway)
    keys = [gateway.key(tenant) for _ in range(KEYS)]  # each stays on one credential
    key = keys[0]

    def used(calls: int) -> set[str]:
        """With what the provider was called."""
        before = gateway.books()["requests"]
        answers = [gateway.chat(keys[number % KEYS], model=f"{provider}/sim-ending") for number in range(calls)]
        assert {answer.status_code for answer in answers} == {200}
        entries = gateway.books(before)["entries"]
        return {entry["authorization"] for entry in entries if entry["model"] == "sim-ending"}

    def status() -> int:
        return gateway.chat(key, model=f"{provider}/sim-ending").status_code

    wait_until(lambda: status() == 200, "the edge knows the provider")
    both = {digest(f"Bearer {secret}".encode()): secret for secret in ids}
    wait_until(lambda: used(KEYS) == set(both), "the edge knows both credentials")

    done = stack.cli("credential", "revoke", provider, ids["first"], "--reason", "leaked")
    assert done.returncode == 0, done.stderr
    assert {both[used_] for used_ in used(KEYS)} == {"second"}
    gateway.operator("keys", "POST", f"{path}/{ids['second']}/revoke")
    revoked = time.monotonic()
    wait_until(lambda: status() == 503, "nothing is left to call the provider with")
    assert within(time.monotonic() - revoked, WITHIN_S)
    answer = gateway.chat(key, model=f"{provider}/sim-ending")
    assert (answer.status_code, error_of(answer)["type"]) == (503, "no_credential")
    gateway.wait_settled(key)
    assert {one["status"] for one in gateway.operator("keys", "GET", path)["credentials"]} == {"revoked"}
    wait_until(lambda: set(ids.values()) <= recorded_ends(stack), "both ends are on record")


def test_a_revoked_token_opens_no_service(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    key = gateway.key(new_tenant(gateway))
    made = gateway.operator("keys", "POST", "/v1/operators", {"role": "platform-admin"})
    questions = {
        "keys": "/v1/tenants",
        "budget": f"/v1/tenants/{key.tenant}/keys/{key.id}/limits",
        "audit": "/v1/spend",
    }

    def asked(service: str) -> httpx.Response:
        url = gateway.stack.url(service) + questions[service]
        return httpx.get(url, headers={"authorization": f"Bearer {made['token']}"}, timeout=60)

    wait_until(lambda: {asked(service).status_code for service in questions} == {200}, "the token opens every service")
    gateway.operator("keys", "POST", f"/v1/operators/{made['id']}/revoke", {"reason": "left"})
    revoked = time.monotonic()
    answers = [asked(service) for service in questions]
    assert within(time.monotonic() - revoked, WITHIN_S)
    assert {(answer.status_code, error_of(answer)["type"]) for answer in answers} == {(401, "token_revoked")}
    wait_until(lambda: made["id"] in recorded_ends(gateway.stack), "the end is on record")


def test_operators_tokens_on_the_command_line(stack: Stack) -> None:
    made = stack.cli("operator", "create", "--role", "platform-auditor")
    assert made.returncode == 0, made.stderr
    fields = dict(line.split(maxsplit=1) for line in made.stdout.splitlines())
    assert fields["token"].startswith("kfa_")
    assert "not shown again" in made.stderr
    revoked = stack.cli("operator", "revoke", fields["id"], "--reason", "left")
    assert revoked.returncode == 0, revoked.stderr
    listed = stack.cli("operator", "list").stdout
    assert "revoked" in next(line for line in listed.splitlines() if fields["id"] in line)
    assert fields["token"] not in listed
    assert stack.cli("credential", "list", "sim").stdout.count("active") == 1
