"""The configuration of nats-server, as text: loopback, fsync on every message, one user per service and no others."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keyforge.contracts import members, permissions
from keyforge.contracts.permissions import Grant
from keyforge.embedded.ports import PortPlan

STORE_BYTES_MAX: Final = 64 * 1024**3
"""What a server in a container may store, which `keyforge declare` divides among the streams. Chosen: as much as an
embedded stack takes by itself at most (`sizes.FIRST_BYTES_MAX`)."""
MEMORY_STORE_MAX: Final = "256MB"
"""For the consumers of readers, which are kept in memory."""
CONNECTIONS_MAX: Final = 1024
"""Chosen: a process has two, so there is room for 512; the server's default is 64 Ki, each with buffers of its own."""
ANSWER_TIME: Final = "1m"
"""How long a responder may answer a message that it received. Chosen: 30 times the 2 s that an edge waits for its
answer, and half of the server's default."""
ENVIRONMENT_PREFIX: Final = "KEYFORGE_NATS_PASSWORD_"


def embedded(
    ports: PortPlan,
    store: Path,
    passwords: Mapping[str, str],
    partitions: int,
    *,
    store_bytes_max: int = STORE_BYTES_MAX,
) -> str:
    """Return the file for the embedded server; it holds the passwords, so it is private."""
    return "\n".join(
        (
            "# Written by `keyforge up` at every start.",
            "server_name: keyforge",
            f"listen: {json.dumps(ports.address('nats'))}",
            f"http: {json.dumps(ports.address('nats_monitor'))}",
            *_common(store, store_bytes_max),
            *users(partitions, {user: json.dumps(passwords[user]) for user in members.USERS}),
            "",
        )
    )


def container(partitions: int) -> str:
    """Return the file for a server in a container: passwords come from KEYFORGE_NATS_PASSWORD_<USER>."""
    return "\n".join(
        (
            "# Written by `keyforge nats-config`; a test compares it with the permissions in the code.",
            "server_name: $HOSTNAME",
            'listen: "0.0.0.0:4222"',
            'http: "0.0.0.0:8222"',
            *_common(Path("/data"), STORE_BYTES_MAX),
            *users(partitions, {user: f"${ENVIRONMENT_PREFIX}{user.upper()}" for user in members.USERS}),
            "",
        )
    )


def _common(store: Path, store_bytes_max: int) -> tuple[str, ...]:
    return (
        f"max_connections: {CONNECTIONS_MAX}",
        "jetstream {",
        f"  store_dir: {_path(store)}",
        "  sync_interval: always",
        f"  max_file_store: {store_bytes_max}",
        f"  max_memory_store: {MEMORY_STORE_MAX}",
        "}",
    )


def _path(path: Path) -> str:
    r"""Quote a path, whatever its bytes: the server knows some of JSON's escapes, but not \u00FC."""
    return '"' + "".join(_character(byte) for byte in os.fsencode(path)) + '"'


def _character(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02X}"


def users(partitions: int, passwords: Mapping[str, str]) -> list[str]:
    """Return the block of users; `passwords` are texts in quotes, or variables of the environment."""
    lines = ["authorization {", "  users: ["]
    for grant in permissions.grants(partitions):
        lines += _user(grant, passwords[grant.user])
    return [*lines, "  ]", "}"]


def _user(grant: Grant, password: str) -> list[str]:
    subscribed = (permissions.inbox(grant.user), *grant.subscribe)
    lines = [
        f"    {{ user: {grant.user}, password: {password}, permissions: {{",
        f"      publish: {{ allow: {_subjects(grant.publish)} }}",
        f"      subscribe: {{ allow: {_subjects(subscribed)}{_deny(grant.not_received)} }}",
    ]
    if grant.answers:
        lines.append(f'      allow_responses: {{ max: 1, expires: "{ANSWER_TIME}" }}')
    return [*lines, "    } }"]


def _deny(subjects: tuple[str, ...]) -> str:
    return f", deny: {_subjects(subjects)}" if subjects else ""


def _subjects(subjects: tuple[str, ...]) -> str:
    return "[" + ", ".join(json.dumps(subject) for subject in dict.fromkeys(subjects)) + "]"
