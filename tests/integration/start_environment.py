"""What every program that starts is given by its environment, and what a log is made with for that."""

import os
from pathlib import Path
from typing import Final

from keyforge.contracts import members
from keyforge.contracts.meta import FORMAT, Meta, fingerprint
from keyforge.runtime.encryption import Decrypter, new_private_key
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ports import free_port_base, free_ports
from tests.integration.setting_faults import EMPTY

SECRET: Final = "0b" * 32
PRIVATE_KEY: Final = new_private_key()
PARTITIONS: Final = 1
MADE: Final = Meta(
    format=FORMAT,
    partitions=PARTITIONS,
    key_secret=fingerprint("key_secret", bytes.fromhex(SECRET)),
    commitment_secret=fingerprint("commitment_secret", bytes.fromhex(SECRET)),
    audit_master_key=fingerprint("audit_master_key", bytes.fromhex(SECRET)),
    edge_key=fingerprint("edge_key", bytes.fromhex(Decrypter(PRIVATE_KEY).public_key)),
)
OWN: Final[dict[str, dict[str, str]]] = {
    "edge": {"KEYFORGE_EDGE_PRIVATE_KEY": PRIVATE_KEY, "KEYFORGE_COMMITMENT_SECRET": SECRET},
    "budget": {},
    "keys": {
        "KEYFORGE_EDGE_PUBLIC_KEY": Decrypter(PRIVATE_KEY).public_key,
        "KEYFORGE_COMMITMENT_SECRET": SECRET,
    },
    "audit": {"KEYFORGE_AUDIT_MASTER_KEY": SECRET, "KEYFORGE_COMMITMENT_SECRET": SECRET},
    "up": {},
    "declare": {
        f"{variable}_FINGERPRINT": getattr(MADE, name)
        for name, variable in (
            ("key_secret", "KEYFORGE_KEY_SECRET"),
            ("commitment_secret", "KEYFORGE_COMMITMENT_SECRET"),
            ("audit_master_key", "KEYFORGE_AUDIT_MASTER_KEY"),
            ("edge_key", "KEYFORGE_EDGE_PUBLIC_KEY"),
        )
    },
}


def environment(program: str, node: NatsNode, folder: Path, changed: dict[str, str]) -> dict[str, str]:
    """Return the environment of a program; `changed` replaces some of it, empty values are left out."""
    shared = {
        "PATH": os.environ["PATH"],
        "KEYFORGE_NATS_URL": node.url,
        "KEYFORGE_NATS_USER": "made",
        "KEYFORGE_NATS_PASSWORD": "p",
        "KEYFORGE_PARTITIONS": str(PARTITIONS),
    }
    if program == "up":
        # Of its own: starts at once probe the same ports, and one would find another's probe.
        base = {"KEYFORGE_PORT_BASE": str(free_port_base())}
        shared = {"PATH": os.environ["PATH"], "KEYFORGE_HOME": str(folder), **base}
    elif program in members.SERVICES:
        shared |= {
            "KEYFORGE_PORT": str(free_ports(1)[0]),
            "KEYFORGE_NATS_MONITOR_URL": node.monitor_url,
            "KEYFORGE_KEY_SECRET": SECRET,
        }
    if program == "audit":
        shared["KEYFORGE_CLICKHOUSE_PATH"] = str(folder)
    merged = {**shared, **OWN[program], **changed}
    return {name: "" if value == EMPTY else value for name, value in merged.items() if value}
