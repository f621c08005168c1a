"""What is in the way of a start is one line on stderr that names it, and exit code 2: the same for every program.

What the command line refuses before it touches anything is in tests/unit/test_cli_values.py.
"""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from pydantic import SecretStr

from keyforge.audit import app
from keyforge.audit.errors import UnusableStoreError
from keyforge.audit.settings import AuditSettings
from keyforge.contracts import members
from keyforge.contracts.meta import FORMAT
from keyforge.eventlog import meta, streams
from keyforge.eventlog.meta import declare
from keyforge.runtime.encryption import new_private_key
from keyforge.testkit.nats_client import SMALL, open_client
from keyforge.testkit.nats_server import NatsNode
from tests.integration import setting_faults
from tests.integration.setting_faults import CANARY, SEEDED, Fault
from tests.integration.start_environment import MADE, PARTITIONS, SECRET, environment

WITHIN_S: Final = 120.0
NOT_OURS: Final = "203.0.113.1"
"""Of TEST-NET-3 (RFC 5737): an address that no machine has."""
OTHER: Final = "cd" * 32
LOGS: Final = ("made", "unsaid", "newer")
"""Each is an account of the server and its user: made as it should be, logs without KF_META, a newer format."""


TAKEN, FILE, HOME = "<a port in use>", "<a path below a file>", "<a home whose secrets are gone>"
SECURE, RELAXED = "<the server by tls://>", "<the monitoring port of a server that does not sync>"
ANOTHER = "<the monitoring port of a server that syncs, and does not store>"
"""Values that the fixture replaces."""
DAMAGED: Final = {
    "key_secret": ("abc", "at least 32 bytes in hex"),
    "commitment_secret": ("0b" * 65, "32 to 64 bytes in hex"),
    "audit_master_key": (CANARY, "at least 32 bytes in hex"),
    "edge_private_key": ("0b" * 33, "32 bytes in hex"),
    "edge_public_key": ("zz", "32 bytes in hex"),
    "admin_token": (f"kfa_{CANARY}", "an operator's token"),
    "nats_admin": ("two\nlines", "one line of text"),
}
"""Secrets of a home: the text of a damaged file, and what it must hold. The home of each is named as the secret is."""
OF_EVERY_SERVICE: Final = {
    "no secret": Fault("KEYFORGE_KEY_SECRET: Field required", {"KEYFORGE_KEY_SECRET": ""}),
    "two settings": Fault(
        "KEYFORGE_PORT: Input should be a valid integer, unable to parse string as an integer; "
        "KEYFORGE_KEY_SECRET: must be at least 32 bytes in hex",
        {"KEYFORGE_PORT": CANARY, "KEYFORGE_KEY_SECRET": CANARY},
    ),
    "no NATS address": Fault("KEYFORGE_NATS_URL: must be nats://", {"KEYFORGE_NATS_URL": f"nats://u:{CANARY}@h:x"}),
    "no monitor": Fault("KEYFORGE_NATS_MONITOR_URL: must be http", {"KEYFORGE_NATS_MONITOR_URL": "http://h:x"}),
    "not durable": Fault("runs without `jetstream { sync_interval: always }`", {"KEYFORGE_NATS_MONITOR_URL": RELAXED}),
    "monitor of another server": Fault("is not of the servers that KEYFORGE", {"KEYFORGE_NATS_MONITOR_URL": ANOTHER}),
    "one of three not durable": Fault(
        "runs without `jetstream { sync_interval: always }`",
        {"KEYFORGE_NATS_MONITOR_URL": f"http://127.0.0.1:1,http://127.0.0.1:1/x,{RELAXED}"},
    ),
    "no TLS": Fault("KEYFORGE_NATS_URL, SSL_CERT_FILE: no TLS with nats-server", {"KEYFORGE_NATS_URL": SECURE}),
    "refused": Fault(
        "KEYFORGE_NATS_USER, KEYFORGE_NATS_PASSWORD: the log refuses user made", {"KEYFORGE_NATS_PASSWORD": CANARY}
    ),
    "other secret": Fault("KEYFORGE_KEY_SECRET has fingerprint", {"KEYFORGE_KEY_SECRET": OTHER}),
    "other partitions": Fault("KEYFORGE_PARTITIONS is 2, the log was made with 1", {"KEYFORGE_PARTITIONS": "2"}),
    "log without KF_META": Fault("KF_META does not say", {"KEYFORGE_NATS_USER": "unsaid"}),
    "newer format": Fault("the log has format 2", {"KEYFORGE_NATS_USER": "newer"}),
    "port in use": Fault("KEYFORGE_PORT: cannot listen on port", {"KEYFORGE_PORT": TAKEN}),
    "address of another": Fault(f"of {NOT_OURS}", {"KEYFORGE_HOST": NOT_OURS}),
    "no address": Fault("KEYFORGE_HOST: cannot listen", {"KEYFORGE_HOST": "no-host.invalid"}),
}
OTHER_COMMITMENT_SECRET: Final = Fault(
    "KEYFORGE_COMMITMENT_SECRET has fingerprint", {"KEYFORGE_COMMITMENT_SECRET": OTHER}
)
OF_ONE: Final = {
    "edge": {
        "private key": Fault("KEYFORGE_EDGE_PRIVATE_KEY: a key must be", {"KEYFORGE_EDGE_PRIVATE_KEY": CANARY}),
        "commitment secret": Fault("KEYFORGE_COMMITMENT_SECRET: must be", {"KEYFORGE_COMMITMENT_SECRET": CANARY}),
        "other commitment secret": OTHER_COMMITMENT_SECRET,
        "other private key": Fault(
            "KEYFORGE_EDGE_PUBLIC_KEY has fingerprint", {"KEYFORGE_EDGE_PRIVATE_KEY": new_private_key()}
        ),
    },
    "keys": {
        "public key": Fault("KEYFORGE_EDGE_PUBLIC_KEY: not an X25519", {"KEYFORGE_EDGE_PUBLIC_KEY": "00" * 32}),
        "public key of another": Fault(
            "KEYFORGE_EDGE_PUBLIC_KEY has fingerprint", {"KEYFORGE_EDGE_PUBLIC_KEY": "09" + "00" * 31}
        ),
        "other commitment secret": OTHER_COMMITMENT_SECRET,
        "token": Fault("KEYFORGE_BOOTSTRAP_ADMIN_TOKEN was not", {"KEYFORGE_BOOTSTRAP_ADMIN_TOKEN": f"kfa_{CANARY}"}),
    },
    "audit": {
        "other master key": Fault("KEYFORGE_AUDIT_MASTER_KEY has fingerprint", {"KEYFORGE_AUDIT_MASTER_KEY": OTHER}),
        "other commitment secret": OTHER_COMMITMENT_SECRET,
        "no store": Fault("set KEYFORGE_CLICKHOUSE_URL or KEYFORGE", {"KEYFORGE_CLICKHOUSE_PATH": ""}),
        "folder": Fault("KEYFORGE_CLICKHOUSE_PATH: must be a folder", {"KEYFORGE_CLICKHOUSE_PATH": FILE}),
        "no server's address": Fault("KEYFORGE_CLICKHOUSE_URL: must be", {"KEYFORGE_CLICKHOUSE_URL": f"//{CANARY}"}),
        "no database": Fault("KEYFORGE_CLICKHOUSE_URL: must be", {"KEYFORGE_CLICKHOUSE_URL": f"http://h/{CANARY}-"}),
        "ClickHouse's port in use": Fault(
            "KEYFORGE_CLICKHOUSE_HTTP_PORT: cannot listen on port",
            {"KEYFORGE_CLICKHOUSE_HTTP_PORT": TAKEN, "KEYFORGE_CLICKHOUSE_PASSWORD": CANARY},
        ),
    },
    "up": {
        "size": Fault("KEYFORGE_LOG_BYTES_MAX must be a number of bytes", {"KEYFORGE_LOG_BYTES_MAX": "64GB"}),
        "time to end": Fault(
            "KEYFORGE_SHUTDOWN_TIME_LIMIT_S must be a whole number of seconds from 1 to 3600",
            {"KEYFORGE_SHUTDOWN_TIME_LIMIT_S": "abc"},
        ),
        "ports in use": Fault("in use by another program", {"KEYFORGE_PORT_BASE": TAKEN}),
        "secrets": Fault("key_secret is missing but the log exists", {"KEYFORGE_HOME": HOME}),
        **{name: Fault(f"/{name} must hold {what}", {"KEYFORGE_HOME": name}) for name, (_, what) in DAMAGED.items()},
    },
    "declare": {
        "no secret": Fault("KEYFORGE_KEY_SECRET or", {"KEYFORGE_KEY_SECRET_FINGERPRINT": ""}),
        "no NATS address": Fault("KEYFORGE_NATS_URL must be nats://", {"KEYFORGE_NATS_URL": "http://h"}),
        "refused": Fault(
            "KEYFORGE_NATS_USER, KEYFORGE_NATS_PASSWORD: the log refuses user made", {"KEYFORGE_NATS_PASSWORD": CANARY}
        ),
        "size": Fault("KEYFORGE_LOG_BYTES_MAX must be a number of bytes", {"KEYFORGE_LOG_BYTES_MAX": "64GB"}),
        "no size": Fault("KEYFORGE_LOG_BYTES_MAX or KEYFORGE_NATS_MONITOR_URL must be set", {}),
        "no monitor": Fault(
            "KEYFORGE_NATS_MONITOR_URL: http://127.0.0.1:1/varz cannot be read",
            {"KEYFORGE_NATS_MONITOR_URL": "http://127.0.0.1:1"},
        ),
        "no TLS": Fault("KEYFORGE_NATS_URL, SSL_CERT_FILE: the log at tls://", {"KEYFORGE_NATS_URL": SECURE}),
        "other partitions": Fault("KEYFORGE_PARTITIONS is 2, the log", {"KEYFORGE_PARTITIONS": "2"}),
        "log without KF_META": Fault("KF_META does not say", {"KEYFORGE_NATS_USER": "unsaid"}),
    },
}
FAULTS: Final = [
    *(
        (service, name, fault)
        for service in members.SERVICES
        for faults in (OF_EVERY_SERVICE, setting_faults.OF_EVERY_SERVICE)
        for name, fault in faults.items()
    ),
    *(
        (program, name, fault)
        for tables in (OF_ONE, setting_faults.OF_ONE)
        for program, faults in tables.items()
        for name, fault in faults.items()
    ),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    """A server with the four logs."""
    accounts = ", ".join(f"{name}: {{jetstream: enabled, users: [{{user: {name}, password: p}}]}}" for name in LOGS)
    server = NatsNode(tmp_path_factory.mktemp("faults"), extra=f"accounts: {{{accounts}}}")
    try:
        server.start()
        asyncio.run(_make_logs(server))
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    """A server that acknowledges before it syncs."""
    server = NatsNode(tmp_path_factory.mktemp("relaxed"), sync_interval='"2m"')
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    """A server that nobody stores on."""
    server = NatsNode(tmp_path_factory.mktemp("another"), name="another")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(app, "find_spec", lambda _name: None)
    secret = SecretStr(SECRET)
    settings = AuditSettings(
        port=1,
        key_secret=secret,
        audit_master_key=secret,
        commitment_secret=secret,
        clickhouse_path=str(tmp_path),
    )
    with pytest.raises(UnusableStoreError, match="KEYFORGE_CLICKHOUSE_URL: must be set where the package chdb is not"):
        app.check(settings)


async def _make_logs(server: NatsNode) -> None:
    urls = {name: [server.url.replace("nats://", f"nats://{name}:p@")] for name in LOGS}
    async with open_client(urls["made"]) as client:
        await declare(client, made_with=MADE, replicas=1, sizes=SMALL)
    async with open_client(urls["unsaid"]) as client:
        await streams.declare(client, partitions=PARTITIONS, replicas=1, sizes=SMALL)
    async with open_client(urls["newer"]) as client:
        await declare(client, made_with=MADE, replicas=1, sizes=SMALL)
        await meta._write(client, msgspec.structs.replace(MADE, format=FORMAT + 1))


@pytest.fixture(scope="module")
def ends(
    node: NatsNode, relaxed: NatsNode, another: NatsNode, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[int, str]]:
    """How every program ended with every fault: its exit code and what is on stderr."""
    folder = tmp_path_factory.mktemp("starts")
    (folder / "file").touch()
    old = folder / "old"
    (old / "nats" / "jetstream").mkdir(parents=True)
    damaged = _damaged_homes(folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {
            TAKEN: str(taken.getsockname()[1]),
            FILE: str(folder / "file" / "x"),
            HOME: str(old),
            SECURE: node.url.replace("nats://", "tls://"),
            RELAXED: relaxed.monitor_url,
            ANOTHER: another.monitor_url,
            SEEDED: _seeded_home(folder),
            **damaged,
        }
        starts = []
        for number, (program, _, fault) in enumerate(FAULTS):
            changed = {
                variable: values.get(value, value.replace(RELAXED, relaxed.monitor_url))
                for variable, value in fault.changed.items()
            }
            starts.append([program, environment(program, node, folder / str(number), changed)])
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.starting"],
            input=json.dumps(starts),
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=True,
        )
    found: list[Any] = json.loads(done.stdout)
    return {(program, name): (end[0], end[1]) for (program, name, _), end in zip(FAULTS, found, strict=True)}


def _damaged_homes(folder: Path) -> dict[str, str]:
    """Make a home for each damaged secret; all other secrets are made at its first start."""
    for name, (text, _) in DAMAGED.items():
        secrets = folder / "damaged" / name / "secrets"
        secrets.mkdir(parents=True)
        (secrets / name).write_text(text)
    return {name: str(folder / "damaged" / name) for name in DAMAGED}


def _seeded_home(folder: Path) -> str:
    """Make a home whose list of seeded credentials is damaged."""
    home = folder / "seeded"
    home.mkdir()
    (home / "seeded.json").write_text(f'["{CANARY}"]')
    return str(home)


@pytest.mark.parametrize(
    ("program", "name", "named"), [pytest.param(p, n, f.named, id=f"{p}: {n}") for p, n, f in FAULTS]
)
def test_it_ends_with_2_and_one_line_that_names_the_fault(
    ends: dict[tuple[str, str], tuple[int, str]], program: str, name: str, named: str
) -> None:
    code, stderr = ends[program, name]
    assert code == 2, stderr
    assert named in stderr
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert CANARY not in stderr
