"""A log that is filled to its end under load: alarms, 503 by its name, raised by `declare`, and nothing was lost."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

import httpx
import pytest

from keyforge.contracts.money import nusd
from keyforge.testkit.gateway import Gateway, Issued, error_of, gateway_of
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.reckoning import reckon
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

SMALL = 16 * 1024 * 1024
LARGE = 4 * SMALL
PARTITIONS = 12
"""As many as so small a total is enough for: each is filled by some 2,000 requests."""
FILLED_WITHIN_S = 240.0
"""On a machine that others use as well."""
REQUEST_S = 15
"""The time limit of a request: the log stays full for longer, so what waits for it is overdue."""
GRACE_S = 1
PAUSE_S = 0.05
"""An agent pauses when it is refused; these not for as long as they are asked to."""
QUICK, SLOW = "sim-fill", "sim-slow"
"""One fills the log, the other, which answers after 2 s, is under way when it is full."""
AGENTS = (*[QUICK] * 8, *[SLOW] * 4)
ADMITTED_AFTER = 200
"""Requests that are admitted after the raise before the load ends."""


class Load:
    """Agents that call without a pause, each on a connection of its own, until they are to stop."""

    def __init__(self, url: str, key: Issued) -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self.error: dict[str, Any] = {}
        self.retry_after = ""
        self._url = f"{url}/v1/chat/completions"
        self._key = key
        self._stop = Event()
        self._lock = Lock()

    def run(self, model: str) -> None:
        body = {"model": f"sim/{model}", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 32}
        with httpx.Client(timeout=60, headers=self._key.headers) as client:
            while not self._stop.is_set():
                answer = client.post(self._url, json=body)
                error = {} if answer.status_code == 200 else error_of(answer)
                with self._lock:
                    self.answers[answer.status_code, error.get("type", "")] += 1
                    if error:
                        self.error, self.retry_after = error, answer.headers.get("retry-after", "")
                if error:
                    self._stop.wait(PAUSE_S)

    def stop(self) -> None:
        self._stop.set()

    @property
    def admitted(self) -> int:
        return self.answers[200, ""]


def alarms(stack: Stack, service: str, stream: str) -> list[tuple[str, int]]:
    """What the log of a service has of a stream's fill: each level, and the bound that the stream had then."""
    lines = [json.loads(line) for line in stack.log(service).splitlines() if '"log_fill"' in line]
    return [(line["level"], line["bytes_max"]) for line in lines if line["stream"] == stream]


def declare(stack: Stack, bytes_max: int) -> subprocess.CompletedProcess[str]:
    """`keyforge declare` as a process, as its own user."""

    def secret(name: str) -> str:
        return (stack.home / "secrets" / name).read_text("ascii").strip()

    own = {
        "KEYFORGE_NATS_URL": stack.url("nats"),
        "KEYFORGE_NATS_MONITOR_URL": stack.url("nats_monitor"),
        "KEYFORGE_NATS_USER": "admin",
        "KEYFORGE_NATS_PASSWORD": secret("nats_admin"),
        "KEYFORGE_KEY_SECRET": secret("key_secret"),
        "KEYFORGE_EDGE_PUBLIC_KEY": secret("edge_public_key"),
        "KEYFORGE_COMMITMENT_SECRET": secret("commitment_secret"),
        "KEYFORGE_AUDIT_MASTER_KEY": secret("audit_master_key"),
        "KEYFORGE_LOG_BYTES_MAX": str(bytes_max),
    }
    command = [sys.executable, "-m", "keyforge.cli", "declare"]
    return subprocess.run(
        command, env={**stack.environment, **own}, capture_output=True, text=True, timeout=120, check=False
    )


def test_filled_to_its_end_raised_and_nothing_lost(
    new_stack: Callable[..., Stack], new_tenant: Callable[[Gateway], str]
) -> None:
    stack = new_stack(
        KEYFORGE_PARTITIONS=str(PARTITIONS),
        KEYFORGE_LOG_BYTES_MAX=str(SMALL),
        KEYFORGE_REQUEST_TIME_LIMIT_S=str(REQUEST_S),
        KEYFORGE_ABANDON_GRACE_S=str(GRACE_S),
    )
    stack.start()
    pids = stack.pids()
    with gateway_of(stack) as gateway, ThreadPoolExecutor(len(AGENTS)) as pool:
        for model in (QUICK, SLOW):
            gateway.operator("keys", "PUT", f"/v1/prices/sim/{model}", {"input_per_mtok": "1", "output_per_mtok": "2"})
        key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "total", "cap": "1000"}])
        load = Load(stack.url("edge"), key)
        agents = [pool.submit(load.run, model) for model in AGENTS]
        try:
            stream = it_fills(stack, load)
            alarms_are_given(stack, stream)
            it_goes_on_when_it_is_raised(stack, load, stream)
        finally:
            load.stop()
        for agent in agents:
            agent.result()
        assert stack.pids() == pids, "nobody was started again"
        assert set(load.answers) == {(200, ""), (503, "log_full")}
        nothing_is_lost(stack, gateway, key, load)


def it_fills(stack: Stack, load: Load) -> str:
    """Wait until the log takes nothing more; return the stream that the agents are told of."""
    wait_until(lambda: (503, "log_full") in load.answers, "a full log", timeout_s=FILLED_WITHIN_S)
    stream = str(load.error["metadata"]["stream"])
    assert load.error["message"] == f"The event log {stream} is full: an operator must raise its size."
    assert load.retry_after == "30"
    return stream


def alarms_are_given(stack: Stack, stream: str) -> None:
    """In the log, in metrics, in /readyz, which stays 200, and by doctor."""
    bound = SMALL * 4 // 5 // PARTITIONS
    for service in ("budget", "audit"):
        wait_until(
            lambda: ("error", bound) in alarms(stack, service, stream),  # noqa: B023
            f"the second alarm in the log of {service}",
            timeout_s=60,
        )
        assert len(alarms(stack, service, stream)) <= 2, "once for each"
        answer = httpx.get(f"{stack.url(service)}/readyz", timeout=30)
        assert answer.status_code == 200
        assert "raise KEYFORGE_LOG_BYTES_MAX" in answer.json()["details"]["log_size"][stream]
        lines = httpx.get(f"{stack.url(service)}/metrics", timeout=30).text.splitlines()
        gauges = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
        held = gauges[f'keyforge_{service}_log_bytes{{stream="{stream}"}}']
        assert 0.8 < held / gauges[f'keyforge_{service}_log_bytes_max{{stream="{stream}"}}'] <= 1
    done = stack.cli("doctor", "--json")
    (found,) = (check for check in json.loads(done.stdout)["checks"] if check["check"] == "log size")
    assert done.returncode == 1
    assert not found["ok"]
    assert stream in found["detail"]


def it_goes_on_when_it_is_raised(stack: Stack, load: Load, stream: str) -> None:
    """Once what waits for the log is overdue: as another process, while every service runs."""
    time.sleep(REQUEST_S + GRACE_S)  # nothing shows that a deadline has passed while the log takes no event of it
    full = load.admitted
    done = declare(stack, LARGE)
    assert done.returncode == 0, done.stderr
    bounds = (SMALL * 4 // 5 // PARTITIONS, LARGE * 4 // 5 // PARTITIONS)
    assert f"raised: {stream} from {bounds[0]} to {bounds[1]} bytes" in done.stdout
    wait_until(lambda: load.admitted > full + ADMITTED_AFTER, "requests admitted again", timeout_s=60)
    for service in ("budget", "audit"):
        wait_until(
            lambda: alarms(stack, service, stream)[-1] == ("info", bounds[1]),  # noqa: B023
            f"the log has room again, in the log of {service}",
            timeout_s=60,
        )
        assert "log_size" not in httpx.get(f"{stack.url(service)}/readyz", timeout=30).json()["details"]
    done = declare(stack, SMALL)
    assert done.returncode == 2, "it holds more by now"
    assert f"{stream} holds" in done.stderr


def nothing_is_lost(stack: Stack, gateway: Gateway, key: Issued, load: Load) -> None:
    """The provider's books, the log, budget and audit agree, and the chain is whole."""
    (limit,) = gateway.wait_settled(key)
    account, books = reckon(stack).account(key.id), gateway.books()
    completed = [request for request in account.requests.values() if request.terminal == "completed"]
    assert account.open == 0
    assert len(account.requests) == len(completed) == load.admitted == books["requests"]
    billed = books["prompt_tokens"] * 1000 + books["completion_tokens"] * 2000
    assert account.settled_nusd == billed == nusd(limit["settled"])
    gateway.wait_audited(key, billed)
    assert gateway.verdict(key).startswith("VALID to seq ")


def reported(stack: Stack, before: int) -> str:
    """What the supervisor printed from a place on until its ready report was whole: ready.json is there before."""

    def whole() -> str | None:
        printed = stack.printed()[before:]
        return printed if "Ctrl-C stops everything" in printed else None

    return wait_until(whole, "the ready report", timeout_s=60)


def test_a_log_that_may_take_more_than_the_disk_has_is_said_and_is_no_error(new_stack: Callable[..., Stack]) -> None:
    """`doctor` says it in the same words."""
    stack = new_stack(KEYFORGE_LOG_BYTES_MAX=str(1 << 50))
    stack.start()
    report = reported(stack, 0)
    (line,) = [line for line in report.splitlines() if "log room: " in line]
    words = "the streams may take 972.8 TiB more"
    assert words in line
    assert f"the log         {words}, " in report
    checks = json.loads(stack.cli("doctor", "--json").stdout)["checks"]
    (found,) = (check for check in checks if check["check"] == "log room")
    assert not found["ok"]
    assert found["detail"].startswith(words)


def test_the_next_up_raises_and_never_lowers(new_stack: Callable[..., Stack]) -> None:
    """What a home's log was given stays with the home; its server may store what the streams may hold."""
    first = new_stack(KEYFORGE_LOG_BYTES_MAX=str(SMALL))
    first.start()
    report = reported(first, 0)
    assert "the fullest of 2 logs, " in report
    assert "ALARM" not in report
    first.stop()
    for asked in (LARGE, SMALL):
        stack = Stack(first.home, environment={"KEYFORGE_LOG_BYTES_MAX": str(asked)})
        before = len(stack.printed())
        try:
            stack.start()
            printed = reported(stack, before)
            assert ("KF_LOG_0 raised from 12.8 MiB to 51.2 MiB" in printed) == (asked == LARGE)
            assert (f"this home keeps {LARGE}: sizes are never lowered" in printed) == (asked == SMALL)
            assert json.loads((stack.home / "sizes.json").read_bytes())["log_bytes_max"] == LARGE
            page = httpx.get(f"{stack.url('nats_monitor')}/varz", timeout=30).json()["jetstream"]
            assert page["stats"]["reserved_storage"] <= LARGE <= page["config"]["max_storage"]
        finally:
            stack.stop()
