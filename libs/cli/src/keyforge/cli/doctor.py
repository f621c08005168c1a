"""`keyforge doctor`: checks the home, the ports, the log, the clock and every service; changes nothing."""

import asyncio
import fcntl
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from keyforge.contracts import members
from keyforge.embedded import disk, ports, probe, services
from keyforge.embedded.errors import StackError
from keyforge.embedded.home import Home, read_ready
from keyforge.embedded.ports import PortPlan
from keyforge.eventlog.alarms import ACT_PERCENT, WARN_PERCENT

CLOCK_SKEW_S_MAX: Final = 1.0
"""More than this, and budget refuses to admit."""
OURS: Final = tuple(member.name for member in members.MEMBERS if member.process and member.process.module)
"""The services and the simulator, each of which is asked; what is said of NATS comes from its monitoring port."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    check: str
    ok: bool
    detail: str


async def examine(environment: Mapping[str, str]) -> list[Check]:
    """Check everything; what cannot be checked counts as wrong."""
    home = Home.from_environment(environment)
    plan = ports.plan(environment.get("KEYFORGE_PORT_BASE", ""))
    ready = read_ready(home.ready)
    running = _held(home)
    checks = [_home(home), _disk(home), _binary(environment), _stack(home, running=running, ready=ready)]
    if not running:
        return [*checks, _ports(plan)]
    if ready is not None:
        plan = PortPlan(int(str(ready["edge"]).rpartition(":")[2]))
    varz = await probe.get(plan.of("nats_monitor"), "/varz")
    checks += [_durability(*varz), _clock(*varz), _log_room(home, *varz)]
    names = [port.name for port in members.PORTS if port.name in OURS]
    answers = dict(zip(names, await asyncio.gather(*(_ready(name, plan) for name in names)), strict=True))
    checks.append(_log_size({name: body for name, (_, body) in answers.items()}))
    checks += [_evidence(answers[members.AUDIT][1]), _subscribers(answers[members.AUDIT][1])]
    return [*checks, *(_service(name, answer) for name, answer in answers.items())]


async def _ready(name: str, plan: PortPlan) -> tuple[int, Any]:
    process = members.process_of(name)
    return await probe.get(plan.of(process.ready_port), process.ready_path)


def _service(name: str, answer: tuple[int, Any]) -> Check:
    """Report a service that is not ready, and partitions that an edge, which is ready for the others, cannot serve."""
    status, body = answer
    if status != 200:
        return Check(name, ok=False, detail=probe.why_not(status, body))
    details = body.get("details") if isinstance(body, dict) else None
    lacking = details.get("partitions_unavailable") if isinstance(details, dict) else None
    if not lacking:
        return Check(name, ok=True, detail="healthy")
    each = "; ".join(
        f"partition {partition} lacks {', '.join(things)}" for partition, things in sorted(lacking.items())
    )
    return Check(name, ok=False, detail=f"its tenants get 503: {each}")


def _log_size(bodies: Mapping[str, Any]) -> Check:
    """Report the alarms of the services that watch the logs; the first, at 60 %, is not wrong yet."""
    watching = {name: body for name, body in bodies.items() if isinstance(body, dict)}
    if members.AUDIT not in watching and not {members.BUDGET, members.KEYS} <= watching.keys():
        return Check("log size", ok=False, detail="no service answers for it")  # audit sees all logs, these two theirs
    alarms: dict[str, str] = {}
    for body in watching.values():
        alarms |= (body.get("details") or {}).get("log_size") or {}
    wrong = any(_percent(text) >= ACT_PERCENT for text in alarms.values())
    detail = "; ".join(f"{stream} is {text}" for stream, text in sorted(alarms.items()))
    return Check("log size", not wrong, detail or f"every log is less than {WARN_PERCENT} % full")


def _evidence(body: Any) -> Check:
    """Report where audit's store and the logs disagree, and which logs are halted."""
    details = body.get("details") if isinstance(body, dict) else None
    if not isinstance(details, dict):
        return Check("evidence", ok=False, detail="audit does not answer for it")
    said = probe.evidence(details)
    return Check("evidence", not said, "; ".join(said) or "what is stored agrees with the log")


def _subscribers(body: Any) -> Check:
    """Report why audit cannot publish to subscribers."""
    details = body.get("details") if isinstance(body, dict) else None
    if not isinstance(details, dict):
        return Check("subscribers", ok=False, detail="audit does not answer for them")
    why = details.get("subscribers")
    return Check("subscribers", not why, f"they wait: {why}" if why else "what is stored is published")


def _percent(text: str) -> int:
    """Return the number that an alarm begins with."""
    number = str(text).partition(" ")[0]
    return int(number) if number.isascii() and number.isdigit() else 100


def _home(home: Home) -> Check:
    why = ""
    try:
        try:
            os.listdir(home.path)
        except FileNotFoundError:
            return Check("home", ok=True, detail=f"{home.path} will be created by the first start")
        if not os.access(home.path, os.W_OK | os.X_OK):
            why = "it is not writable"
        elif home.secrets.exists() and stat.S_IMODE(home.secrets.stat().st_mode) & 0o077:
            why = f"other users can read {home.secrets}"
    except OSError as error:
        why = error.strerror or type(error).__name__
    return Check("home", not why, f"{home.path}: {why}" if why else str(home.path))


def _disk(home: Home) -> Check:
    """Less than 5 % is for `up` to say, and not wrong yet."""
    try:
        found = disk.of_home(home)
    except OSError as error:
        return Check("disk", ok=False, detail=f"what is free cannot be read: {error.strerror or type(error).__name__}")
    return Check("disk", found.free >= disk.FREE_BYTES_MIN, str(found))


def _binary(environment: Mapping[str, str]) -> Check:
    try:
        return Check("nats-server", ok=True, detail=services.nats_server(environment))
    except StackError as error:
        return Check("nats-server", ok=False, detail=str(error))


def _stack(home: Home, *, running: bool, ready: Mapping[str, Any] | None) -> Check:
    if not running:
        return Check("stack", ok=True, detail="not running")
    if ready is None:
        return Check("stack", ok=False, detail=f"running on {home.path}, not ready")
    return Check("stack", ok=True, detail=f"ready: {ready['edge']}")


def _held(home: Home) -> bool:
    """Return whether a supervisor holds the home."""
    try:
        descriptor = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _ports(plan: PortPlan) -> Check:
    taken = [f"{port} ({use})" for use, port in plan.uses().items() if ports.taken(port)]
    return Check(
        "ports",
        not taken,
        f"in use: {', '.join(taken)}" if taken else f"{plan.base} and up are free",
    )


def _durability(status: int, varz: Any) -> Check:
    if status != 200 or not isinstance(varz, dict):
        return Check("durability", ok=False, detail=f"the monitoring port of NATS: {probe.why_not(status, None)}")
    config = (varz.get("jetstream") or {}).get("config") or {}
    always = config.get("sync_always") is True
    detail = "every message is on disk before it is acknowledged"
    return Check("durability", always, detail if always else "nats-server runs without `sync_interval: always`")


def _log_room(home: Home, status: int, varz: Any) -> Check:
    """Compare what the streams may still take with what the disk has: a log that finds no room on it is lost time."""
    try:
        found = disk.room(disk.of_home(home), varz)
    except OSError:  # `disk` says why
        return Check("log room", ok=False, detail="what is free cannot be read")
    if found is None:
        return Check("log room", ok=False, detail=f"NATS does not return its storage (status {status})")
    return Check("log room", found.fits, str(found))


def _clock(status: int, varz: Any) -> Check:
    from keyforge.runtime.clock import SystemClock

    try:
        theirs = datetime.fromisoformat(str(varz["now"]))
        skew_s = abs((SystemClock().now() - theirs).total_seconds())
    except (TypeError, KeyError, ValueError):
        return Check("clock", ok=False, detail=f"NATS does not return its time (status {status})")
    return Check("clock", skew_s <= CLOCK_SKEW_S_MAX, f"{skew_s * 1000:.0f} ms from the clock of NATS")


def as_rows(checks: list[Check]) -> list[dict[str, Any]]:
    """Return the checks as they are printed."""
    return [asdict(check) for check in checks]
