"""How full the logs are: an alarm once at each crossing, up and down; details, gauges, and what doctor makes of it."""

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from keyforge.cli.doctor import _log_room, _log_size
from keyforge.contracts import subjects
from keyforge.embedded.home import Home
from keyforge.eventlog.log import LogClosed, LogMissing, StreamState
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime import http, log_fill
from keyforge.runtime.log_fill import LogFill
from keyforge.testkit.nats_client import until

STREAM = subjects.log_stream(0)
BYTES_MAX = 1000


class Sized(MemoryLog):
    """The twin, with sizes as a test has them."""

    def __init__(self) -> None:
        super().__init__()
        self.filled: dict[str, int] = {}

    async def state(self, stream: str) -> StreamState:
        if stream not in self.filled:
            raise LogMissing(stream)
        return StreamState("now", 1, 1, self.filled[stream], BYTES_MAX)


@pytest.fixture
def log() -> Sized:
    return Sized()


async def test_an_alarm_comes_once_at_each_crossing_and_on_the_way_back(log: Sized) -> None:
    fill = LogFill(log, "budget", lambda: [STREAM])
    said = []
    for filled in (0, 599, 600, 650, 799, 800, 1000, 700, 650, 100, 900):
        log.filled[STREAM] = filled
        with capture_logs() as lines:
            await fill.look()
        said += [(filled, line["log_level"], line["event"], line["stream"], line["bytes_max"]) for line in lines]
    first, second = (
        f"the log is over {percent} % full: raise KEYFORGE_LOG_BYTES_MAX (docs/operations.md)" for percent in (60, 80)
    )
    assert said == [
        (600, "warning", first, STREAM, BYTES_MAX),
        (800, "error", second, STREAM, BYTES_MAX),
        (700, "warning", first, STREAM, BYTES_MAX),
        (100, "info", "the log has room again", STREAM, BYTES_MAX),
        (900, "error", second, STREAM, BYTES_MAX),
    ]


async def test_who_reads_of_an_alarm_or_of_its_end_finds_it_in_the_details(log: Sized) -> None:
    """However long the logs after it take to answer."""
    fill = LogFill(log, "budget", lambda: [STREAM, subjects.log_stream(1)])
    log.filled[subjects.log_stream(1)] = 0
    found: list[bool] = []

    def shows(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        found.append((method != "info") == (STREAM in fill.details()))
        return event

    fill._logger = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[shows, structlog.processors.JSONRenderer()]
    )
    for filled in (900, 100, 700):
        log.filled[STREAM] = filled
        await fill.look()
    assert found == [True, True, True]


def gauges(fill: LogFill) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(fill.metrics())
    return {
        (sample.name, sample.labels["stream"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


async def test_gauges_show_what_is_known_and_a_copy_that_drops_the_old_is_no_alarm(log: Sized) -> None:
    watched = [STREAM]
    fill = LogFill(log, "audit", lambda: watched, copies=[subjects.AUDIT_STREAM])
    log.filled = {STREAM: 700, subjects.AUDIT_STREAM: 1000}
    with capture_logs() as lines:
        await fill.look()
    assert [line["stream"] for line in lines] == [STREAM]
    assert gauges(fill) == {
        ("keyforge_audit_log_bytes", STREAM): 700,
        ("keyforge_audit_log_bytes_max", STREAM): BYTES_MAX,
        ("keyforge_audit_log_bytes", subjects.AUDIT_STREAM): 1000,
        ("keyforge_audit_log_bytes_max", subjects.AUDIT_STREAM): BYTES_MAX,
    }
    words = "over 60 % full, of 1000 bytes: raise KEYFORGE_LOG_BYTES_MAX (docs/operations.md)"
    assert fill.details() == {STREAM: words}
    log.filled[STREAM] = 790
    await fill.look()
    assert fill.details() == {STREAM: words}, "or `up` would have a line to say at every look"
    del log.filled[STREAM]
    await fill.look()
    assert fill.details() == {}, "what nobody answers for is unknown"
    assert set(gauges(fill)) == {
        ("keyforge_audit_log_bytes", subjects.AUDIT_STREAM),
        ("keyforge_audit_log_bytes_max", subjects.AUDIT_STREAM),
    }
    log.filled[STREAM] = 700
    with capture_logs() as lines:
        await fill.look()
        watched.clear()
        await fill.look()
        watched.append(STREAM)
        await fill.look()
    assert [line["stream"] for line in lines] == [STREAM], "again only once another had watched it"


class Healthy:
    def checks(self) -> dict[str, bool]:
        return {"log": True}

    def details(self) -> dict[str, Any]:
        return {"own": "matter"}


async def test_readyz_stays_200_and_has_the_alarm_in_its_details(log: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_fill, "POLL_S", 0.01)
    log.filled[STREAM] = 100
    fill = LogFill(log, "keys", lambda: [STREAM])
    app = http.new_app("test", Healthy(), CollectorRegistry(), fill)
    fill.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:

        async def measured() -> bool:
            return "log_bytes{" in (await client.get("/metrics")).text

        async def details() -> dict[str, str] | None:
            answer = await client.get("/readyz")
            assert answer.status_code == 200
            found: dict[str, str] | None = answer.json()["details"].get("log_size")
            return found

        await until(measured)
        assert (await client.get("/readyz")).json() == {
            "ready": True,
            "checks": {"log": True},
            "details": {"own": "matter"},
        }
        log.filled[STREAM] = 812
        await until(details)
        assert (
            await details()
            == fill.details()
            == {STREAM: "over 80 % full, of 1000 bytes: raise KEYFORGE_LOG_BYTES_MAX (docs/operations.md)"}
        )
    await fill.stop()


async def test_a_fault_is_logged_and_the_look_is_made_again(log: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only those that a log is known to have; one that is closed ends it."""
    monkeypatch.setattr(log_fill, "POLL_S", 0.01)
    faults: list[Exception] = [ConnectionError("a wire was cut"), ValueError("no number")]
    log.filled[STREAM] = 700

    def streams() -> list[str]:
        if faults:
            raise faults.pop(0)
        return [STREAM]

    fill = LogFill(log, "budget", streams)

    async def details() -> dict[str, str]:
        return fill.details()

    async def raised() -> bool:
        return not faults

    with capture_logs() as lines:
        fill.start()
        await until(details)
    assert [line["error"] for line in lines if line["log_level"] == "error"] == ["ConnectionError", "ValueError"]
    faults.append(LogClosed("closed"))
    with capture_logs() as lines:
        await until(raised)
        log.filled[STREAM] = 900
        await asyncio.sleep(0.1)
    assert lines == [], "nobody looks any more"
    await fill.stop()


HEALTHY: dict[str, Any] = {"ready": True, "checks": {}, "details": {}}


def alarm(logs: dict[str, str]) -> dict[str, Any]:
    return {"details": {"log_size": logs}}


@pytest.mark.parametrize(
    ("bodies", "ok", "detail"),
    [
        pytest.param({"audit": HEALTHY, "edge": HEALTHY}, True, "every log is less than 60 % full", id="room"),
        pytest.param(
            {"edge": HEALTHY, "audit": HEALTHY | alarm({STREAM: "61 % full, …"})},
            True,
            "KF_LOG_0 is 61 % full, …",
            id="first",
        ),
        pytest.param(
            {
                "audit": None,
                "budget": HEALTHY | alarm({STREAM: "80 % full"}),
                "keys": HEALTHY | alarm({subjects.PLATFORM_STREAM: "60 % full"}),
            },
            False,
            "KF_LOG_0 is 80 % full; KF_PLATFORM is 60 % full",
            id="second",
        ),
        pytest.param({"audit": HEALTHY | alarm({STREAM: "full"})}, False, "KF_LOG_0 is full", id="of a newer version"),
        pytest.param({"audit": None, "edge": None}, False, "no service answers for it", id="unknown"),
        pytest.param(
            {"audit": None, "budget": None, "keys": HEALTHY, "edge": HEALTHY, "simulator": HEALTHY},
            False,
            "no service answers for it",
            id="only those that do not look at it",
        ),
    ],
)
def test_doctor_names_what_is_full(bodies: dict[str, Any], ok: bool, detail: str) -> None:
    found = _log_size(bodies)
    assert (found.check, found.ok, found.detail) == ("log size", ok, detail)


@pytest.mark.parametrize(
    ("varz", "ok", "detail"),
    [
        pytest.param(
            {"reserved_storage": 3 << 20, "storage": 1 << 20}, True, "the streams may take 2.0 MiB more, ", id="fits"
        ),
        pytest.param(
            {"reserved_storage": 5, "storage": 9}, True, "the streams may take 0 bytes more, ", id="buckets take more"
        ),
        pytest.param(
            {"reserved_storage": 1 << 60, "storage": 0}, False, "the streams may take 1048576.0 TiB more", id="not"
        ),
        pytest.param({}, False, "NATS does not return its storage (status 200)", id="unknown"),
    ],
)
def test_doctor_compares_what_the_log_may_take_with_the_disk(
    tmp_path: Path, varz: dict[str, int], ok: bool, detail: str
) -> None:
    found = _log_room(Home(tmp_path), 200, {"jetstream": {"stats": varz}})
    assert (found.check, found.ok) == ("log room", ok)
    assert found.detail.startswith(detail)
