"""`keyforge up` as a stranger meets it: one command, a call that works, restarts, ends, and clear errors."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest

from keyforge.contracts import members
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.stack import Stack, processes_of
from tests.pace import within

SERVICES = {member.name for member in members.MEMBERS if member.process}
WITHIN_S = 60.0
RESTART_S = 1.0


def ask(stack: Stack, *, key: str | None = None) -> httpx.Response:
    """One call of an agent."""
    return httpx.post(
        f"{stack.url('edge')}/v1/chat/completions",
        headers={"authorization": f"Bearer {key or stack.demo_key}"},
        json={"model": "sim/sim-small", "messages": [{"role": "user", "content": "Hello"}]},
        timeout=60,
    )


def answers(stack: Stack) -> bool:
    """Whether a call goes through now."""
    try:
        return ask(stack).status_code == 200
    except httpx.HTTPError:
        return False


def operators(stack: Stack, service: str, path: str) -> Any:
    """Ask an operators' API."""
    found = httpx.get(
        f"{stack.url(service)}{path}", headers={"authorization": f"Bearer {stack.admin_token}"}, timeout=60
    )
    found.raise_for_status()
    return found.json()


def test_one_command_and_the_call_that_it_prints_works(stack: Stack) -> None:
    curl = wait_until(lambda: re.search(r"^curl .*$", stack.printed(), re.MULTILINE), "the line is printed")
    done = subprocess.run(["sh", "-c", curl[0]], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant"


def test_it_says_where_everything_is_and_shows_no_secret(stack: Stack) -> None:
    wait_until(lambda: "Ctrl-C" in stack.printed(), "all is printed")
    said = stack.printed()
    for service in ("edge", "keys", "budget", "audit", "nats", "simulator"):
        assert stack.url(service) in said
    secrets = [file.read_text().strip() for file in (stack.home / "secrets").iterdir()]
    assert len(secrets) > 10
    assert not [secret for secret in secrets if secret in said]


def test_ready_says_what_the_issue_promises_and_is_private(stack: Stack) -> None:
    facts = json.loads((stack.home / "ready.json").read_text())
    urls = {"edge", "keys", "budget", "audit", "clickhouse", "nats", "simulator"}
    assert urls | {"admin_token", "demo_key", "pids"} <= set(facts)
    assert set(facts["pids"]) == SERVICES
    assert facts["demo_key"].startswith("vk_")
    assert facts["admin_token"].startswith("kfa_")
    private = [stack.home / "ready.json", stack.home / "nats.conf", *(stack.home / "secrets").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


@pytest.mark.parametrize("service", members.SERVICES)
def test_a_service_reports_the_checks_that_the_table_names(stack: Stack, service: str) -> None:
    found = httpx.get(f"{stack.url(service)}/readyz", timeout=15).json()
    assert tuple(found["checks"]) == members.process_of(service).checks


def test_an_unmodified_clickhouse_client_logs_in_with_the_url(stack: Stack) -> None:
    client = clickhouse_connect.get_client(dsn=stack.url("clickhouse"))
    try:
        assert client.query("SELECT count() >= 0 FROM requests").result_rows == [(True,)]
    finally:
        client.close()


def test_everything_listens_on_loopback_alone(stack: Stack) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    own = {f"{stack.port_base + port.offset:04X}" for port in members.PORTS}
    addresses = [line.split()[1].split(":") for line in listening if line.split()[3] == "0A"]
    found = {port: address for address, port in addresses if port in own}
    assert set(found) == own
    assert set(found.values()) == {"0100007F"}


def test_a_provider_key_of_the_environment_reaches_no_service(stack: Stack) -> None:
    for name, pid in stack.pids().items():
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode()
        names = {entry.partition("=")[0] for entry in environment.split("\0") if entry}
        assert not {one for one in names if one.endswith("_API_KEY")}, name
        assert "KEYFORGE_ADMIN_TOKEN" not in names


def test_nobody_is_refused_what_it_needs_of_the_log(stack: Stack) -> None:
    assert ask(stack).status_code == 200
    for service in SERVICES:
        assert "permissions violation" not in stack.log(service).lower(), service


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_that_dies_is_started_again_within_a_second(stack: Stack, service: str) -> None:
    old = stack.kill(service)
    died = time.monotonic()
    stack.wait_replaced(service, old, within_s=WITHIN_S)
    assert within(time.monotonic() - died, RESTART_S * 1.5)  # and the time to see it
    assert f"keyforge: {service} ended (killed by SIGKILL); starting it again now" in stack.printed()
    if service != "nats":
        stack.wait_healthy(service)
    wait_until(lambda: answers(stack), "a call goes through again", timeout_s=WITHIN_S)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this file's, with a provider's key in its environment: stop it, kill it, and leave it running."""
    made = Stack(tmp_path_factory.mktemp("own") / "home", environment={"MISTRAL_API_KEY": "fixture-mistral"})
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.stack
def test_state_survives_a_restart_on_other_ports(own: Stack) -> None:
    first, token = own.demo_key, own.admin_token
    (key,) = operators(own, "keys", "/v1/tenants/demo/keys")["keys"]
    records = f"/v1/tenants/demo/keys/{key['id']}/records"

    def completed() -> int:
        return sum(one["type"].split(".")[2] == "completed" for one in operators(own, "audit", records)["records"])

    before = completed()
    assert ask(own).status_code == 200
    pids = own.pids()

    assert own.stop() == 0
    assert processes_of(pids, WITHIN_S) == []
    assert not (own.home / "ready.json").exists()
    assert "did not stop" not in own.printed()

    own.port_base = Stack(own.home).port_base
    own.start()
    assert (own.demo_key, own.admin_token) == (first, token)
    wait_until(lambda: answers(own), "a call goes through on the new ports", timeout_s=WITHIN_S)
    assert operators(own, "keys", "/v1/tenants/demo/keys")["keys"] == [key]
    wait_until(lambda: completed() >= before + 2, "both calls are in the chain", timeout_s=WITHIN_S)


@pytest.mark.stack
def test_nothing_outlives_a_supervisor_that_is_killed_and_nothing_is_lost(own: Stack) -> None:
    assert ask(own).status_code == 200
    first, pids = own.demo_key, own.pids()
    own.kill_supervisor()
    assert processes_of(pids, WITHIN_S) == []
    own.start()
    assert own.demo_key == first
    assert ask(own).status_code == 200


@pytest.mark.stack
def test_a_provider_of_the_environment_is_registered_once(own: Stack) -> None:
    if own.printed().count("ready after") < 2:
        own.stop()
        own.start()
    found = {entry["id"]: entry["base_url"] for entry in operators(own, "keys", "/v1/providers")["providers"]}
    assert found["mistral"] == "https://api.mistral.ai/v1"
    for provider in ("mistral", "sim"):  # a credential is bound to its base URL: the simulator's moves with the ports
        credentials = operators(own, "keys", f"/v1/providers/{provider}/credentials")["credentials"]
        urls = [credential["base_url"] for credential in credentials]
        assert urls
        assert len(urls) == len(set(urls))
    everything = [path for path in own.home.rglob("*") if path.is_file()]
    assert not [path for path in everything if b"fixture-mistral" in path.read_bytes()]


def test_a_second_instance_on_the_same_home_is_refused(stack: Stack) -> None:
    done = stack.cli("up")
    assert done.returncode == 2
    assert re.fullmatch(
        rf"keyforge: another `keyforge up` runs on {re.escape(str(stack.home))} \(process \d+\)\n", done.stderr
    )
    assert ask(stack).status_code == 200


@pytest.mark.stack
def test_a_port_in_use_is_named_with_what_it_is_for(new_stack: Callable[..., Stack]) -> None:
    fresh = new_stack()
    with socket.socket() as other:
        other.bind(("127.0.0.1", fresh.port_base + 2))
        other.listen()
        done = fresh.cli("up")
    assert done.returncode == 2
    assert f"port is in use by another program: {fresh.port_base + 2} (budget)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((fresh.home / "nats").iterdir())


@pytest.mark.stack
def test_a_first_start_that_is_killed_anywhere_is_finished_by_the_next(new_stack: Callable[..., Stack]) -> None:
    """Each start goes on from what the one before had come to when it was killed."""
    fresh = new_stack()
    for after in ("secrets/admin_token", "nats/jetstream", "logs/keys.log", "secrets/demo_key"):
        fresh.launch()
        wait_until((fresh.home / after).exists, f"{after} is there", timeout_s=WITHIN_S)
        fresh.kill_supervisor()
    fresh.start()
    assert ask(fresh).status_code == 200
    keys = operators(fresh, "keys", "/v1/tenants/demo/keys")["keys"]
    assert [key["limits"] for key in keys if key["status"] == "active"] == [
        [{"unit": "usd", "window": "month", "cap": "5"}]
    ]
    assert len(operators(fresh, "keys", "/v1/providers/sim/credentials")["credentials"]) == 1


@pytest.mark.stack
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_while_it_starts_leaves_nothing(new_stack: Callable[..., Stack], number: signal.Signals) -> None:
    fresh = new_stack()
    fresh.launch()
    wait_until((fresh.home / "logs" / "audit.log").exists, "the services start", timeout_s=WITHIN_S)
    os.kill(fresh.supervisor_pid, number)
    assert fresh.stop() == 0
    assert "Traceback" not in fresh.printed()
    assert not (fresh.home / "ready.json").exists()
    mark = str(fresh.home).encode()
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(p)]
    assert left == []


@pytest.mark.stack
def test_a_service_that_is_killed_during_the_end_is_said_and_counts(new_stack: Callable[..., Stack]) -> None:
    fresh = new_stack()
    fresh.start()
    log = fresh.pids()["nats"]  # which ends last
    os.kill(fresh.supervisor_pid, signal.SIGTERM)
    wait_until(lambda: "keyforge: stopping" in fresh.printed(), "it stops", timeout_s=WITHIN_S)
    os.kill(log, signal.SIGKILL)
    assert fresh.stop() == 1
    assert fresh.printed().count("keyforge: nats was killed by SIGKILL: ") == 1
    assert re.search(r"^keyforge: not every service ended as it should: .*nats", fresh.printed(), re.MULTILINE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
