"""The command line against a running stack: every command, as people and as programs use it."""

import json
import selectors
import subprocess
import sys
from typing import Any

import httpx
import pytest

from keyforge.testkit.nats_server import die_with_parent, wait_until
from keyforge.testkit.stack import Stack

WITHIN_S = 60.0
REBUILDS = 6
"""Each empties the tables for a moment, in which a tail may look."""


def run(stack: Stack, *arguments: str, stdin: str = "") -> str:
    """Run a command that must succeed; return what it printed."""
    done = stack.cli(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_json(stack: Stack, *arguments: str, stdin: str = "") -> Any:
    return json.loads(run(stack, *arguments, "--json", stdin=stdin))


def call(stack: Stack, key: str) -> int:
    answer = httpx.post(
        f"{stack.url('edge')}/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json={"model": "sim/sim-small", "messages": [{"role": "user", "content": "Hello"}]},
        timeout=60,
    )
    return answer.status_code


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> str:
    """A tenant of this file's own."""
    return str(as_json(stack, "tenant", "create", "cli-tests", "--name", "CLI", "--limit", "usd/day=3")["id"])


@pytest.fixture(scope="module")
def used_key(stack: Stack, tenant: str) -> dict[str, Any]:
    """A key of that tenant on which one call was made and recorded."""
    made: dict[str, Any] = as_json(
        stack, "key", "create", tenant, "agent", "--limit", "usd/month=5", "--limit", "concurrency=4"
    )
    wait_until(lambda: call(stack, made["key"]) == 200, "a call goes through", timeout_s=WITHIN_S)

    def recorded() -> bool:
        done = stack.cli("records", tenant, made["id"], "--json")
        return "keyforge.request.completed.v1" in done.stdout

    wait_until(recorded, "the call is recorded", timeout_s=WITHIN_S)
    return made


def test_tenants_are_listed_and_shown(stack: Stack, tenant: str) -> None:
    assert {"demo", tenant} <= {entry["id"] for entry in as_json(stack, "tenant", "list")["tenants"]}
    assert as_json(stack, "tenant", "show", tenant)["limits"] == [{"unit": "usd", "window": "day", "cap": "3"}]
    assert "usd/day=3" in run(stack, "tenant", "list")


def test_a_key_is_shown_once_and_then_never(stack: Stack, tenant: str, used_key: dict[str, Any]) -> None:
    assert used_key["key"].startswith("vk_")
    for command in (["key", "list", tenant], ["key", "show", tenant, used_key["id"]]):
        for form in ([], ["--json"]):
            out = run(stack, *command, *form)
            assert used_key["id"] in out
            assert used_key["key"] not in out


def test_a_revoked_key_is_refused(stack: Stack, tenant: str) -> None:
    made = as_json(stack, "key", "create", tenant, "short-lived")
    wait_until(lambda: call(stack, made["key"]) == 200, "a call goes through", timeout_s=WITHIN_S)
    assert as_json(stack, "key", "revoke", tenant, made["id"])["status"] == "revoked"
    assert call(stack, made["key"]) == 401


def test_a_provider_gets_a_credential_and_a_price(stack: Stack) -> None:
    url = f"{stack.url('simulator')}/v1"
    as_json(stack, "provider", "add", "cli-sim", url, "--allow-insecure")
    secret = "fixture-cli-secret"
    added = stack.cli("credential", "add", "cli-sim", "--weight", "2", "--json", stdin=f"{secret}\n")
    assert added.returncode == 0, added.stderr
    assert secret not in added.stdout + added.stderr
    run(stack, "price", "set", "cli-sim", "sim-small", "--input", "1.5", "--output", "2", "--max-output-tokens", "100")
    assert "cli-sim" in run(stack, "provider", "list")
    (price,) = as_json(stack, "price", "list", "cli-sim")["prices"]
    assert (price["model"], price["input_per_mtok"], price["max_output_tokens"]) == ("sim-small", "1.5", 100)
    run(stack, "price", "set", "cli-sim", "sim-cached", "--input", "1", "--output", "2", "--cache-read", "0.1",
        "--cache-write", "1.25", "--cache-write-1h", "2")  # fmt: skip
    (cached, _) = as_json(stack, "price", "list", "cli-sim")["prices"]
    names = ("cache_read_per_mtok", "cache_write_per_mtok", "cache_write_1h_per_mtok")
    assert [cached[name] for name in names] == ["0.1", "1.25", "2"]


def test_a_secret_is_never_an_argument(stack: Stack) -> None:
    done = stack.cli("credential", "add", "sim", "fixture-on-the-command-line")
    assert done.returncode == 2
    assert stack.cli("credential", "add", "sim", stdin="").returncode == 2


def test_records_verify_and_are_paged(stack: Stack, tenant: str, used_key: dict[str, Any]) -> None:
    whole = as_json(stack, "records", tenant, used_key["id"])
    assert [record["type"].split(".")[2] for record in whole["records"]][:3] == ["created", "admitted", "completed"]
    rest = as_json(stack, "records", tenant, used_key["id"], "--after", "1", "--limit", "1")
    assert [record["seq"] for record in rest["records"]] == [2]
    assert "keyforge.request.admitted.v1" in run(stack, "records", tenant, used_key["id"])
    assert as_json(stack, "key", "verify", tenant, used_key["id"])["valid"] is True


def test_spend_and_limits_agree(stack: Stack, tenant: str, used_key: dict[str, Any]) -> None:
    spent = as_json(stack, "spend", "--tenant", tenant, "--by", "key,model")
    rows = {row["group"]["key"]: row for row in spent["rows"]}
    standing = as_json(stack, "key", "limits", tenant, used_key["id"])["limits"]
    usd = next(limit for limit in standing if limit["scope"] == "key" and limit["unit"] == "usd")
    assert usd["settled"] == rows[used_key["id"]]["settled_usd"]
    assert usd["reserved"] == "0"
    assert "settled_usd" in run(stack, "spend", "--by", "model")


def test_tail_shows_what_comes_and_nothing_older(stack: Stack, tenant: str, used_key: dict[str, Any]) -> None:
    with tailing(stack, tenant, used_key["id"]) as tail:
        records = read_until(tail, used_key, stack)
    first = as_json(stack, "records", tenant, used_key["id"])["records"][0]["hash"]
    assert all(record["key"] == used_key["id"] for record in records)
    assert first not in {record["hash"] for record in records}


def test_tail_tells_nothing_twice_after_a_rebuild(stack: Stack, tenant: str) -> None:
    made = as_json(stack, "key", "create", tenant, "tailed")
    with tailing(stack, tenant, made["id"], "--from-start") as tail:
        assert tail.stdout is not None
        try:
            told = [json.loads(tail.stdout.readline())["seq"]]  # it is under way
            for _ in range(REBUILDS):
                as_json(stack, "rebuild")
            wait_until(lambda: call(stack, made["key"]) == 200, "a call goes through", timeout_s=WITHIN_S)
            while told[-1] < 3:
                told.append(json.loads(tail.stdout.readline())["seq"])
        finally:
            tail.kill()
    assert told == [1, 2, 3]


def test_a_tail_of_what_is_no_key_ends(stack: Stack) -> None:
    done = stack.cli("tail", "demo", "nosuchkey")
    assert (done.returncode, done.stderr.split(":")[1]) == (1, " not_found")


def test_rebuild_finds_the_same_again(stack: Stack) -> None:
    assert call(stack, stack.demo_key) == 200
    done = as_json(stack, "rebuild")
    assert (done["state"], done["identical"], done["differences"]) == ("done", True, [])
    assert "no differences" in run(stack, "rebuild")


def test_doctor_finds_a_well_stack_well_and_a_paused_service_not(stack: Stack) -> None:
    found = {check["check"]: check for check in as_json(stack, "doctor")["checks"]}
    assert {"home", "stack", "durability", "clock", "edge", "keys", "budget", "audit", "simulator"} <= set(found)
    assert "WRONG" not in run(stack, "doctor")
    with stack.paused("keys"), stack.paused("simulator"):
        done = stack.cli("doctor", "--json")
    assert done.returncode == 1
    wrong = [check["check"] for check in json.loads(done.stdout)["checks"] if not check["ok"]]
    assert wrong == ["keys", "simulator"]


def test_doctor_names_a_partition_that_nobody_serves(stack: Stack) -> None:
    """The edge is ready all the same: with one partition that is everybody's outage."""

    def edge() -> dict[str, Any]:
        (found,) = (one for one in json.loads(stack.cli("doctor", "--json").stdout)["checks"] if one["check"] == "edge")
        return dict(found)

    with stack.paused("budget"):
        found = wait_until(lambda: one if not (one := edge())["ok"] else None, "a partition without an owner")
    assert found["detail"] == "its tenants get 503: partition 0 lacks owner"
    wait_until(lambda: edge()["ok"], "an owner again")


@pytest.mark.parametrize(
    ("arguments", "type_"),
    [
        (["tenant", "show", "nobody"], "not_found"),
        (["tenant", "create", "demo"], "already_exists"),
        (["tenant", "create", "No Slug"], "request_invalid"),
        (["key", "show", "demo", "nothing"], "not_found"),
        (["price", "set", "sim", "x", "--input", "cheap", "--output", "1"], "request_invalid"),
        (["spend", "--by", "weather"], "request_invalid"),
        (["records", "demo", "../../operators"], "route_unknown"),
    ],
)
def test_a_refusal_is_one_line_with_its_type(stack: Stack, arguments: list[str], type_: str) -> None:
    done = stack.cli(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"keyforge: {type_}: ")
    assert done.stderr.count("\n") == 1


def test_the_token_of_this_home_goes_to_its_own_stack_only(stack: Stack) -> None:
    with_other_url = stack.cli("tenant", "list", "--url", stack.url("simulator"))
    assert with_other_url.returncode == 2
    assert "KEYFORGE_ADMIN_TOKEN is not set" in with_other_url.stderr
    assert stack.cli("tenant", "list", "--url", stack.url("keys")).returncode == 0


def test_nothing_is_coloured_when_piped(stack: Stack) -> None:
    for command in (["tenant", "list"], ["doctor"], ["spend"], ["--help"]):
        assert "\x1b" not in run(stack, *command)


def tailing(stack: Stack, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "keyforge.cli", "tail", *arguments, "--json"],
        env=stack.environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
    )


def read_until(tail: "subprocess.Popen[str]", key: dict[str, Any], stack: Stack) -> list[dict[str, Any]]:
    """Make calls until the tail tells of a completed one; whatever was there when it began is not told."""
    assert tail.stdout is not None

    with selectors.DefaultSelector() as selector:
        selector.register(tail.stdout, selectors.EVENT_READ)
        wait_until(
            lambda: call(stack, key["key"]) == 200 and bool(selector.select(timeout=0.5)),
            "the tail tells something",
            timeout_s=WITHIN_S,
        )
    try:
        return [json.loads(tail.stdout.readline())]
    finally:
        tail.kill()
        tail.wait()
