"""The name of every variable that begins with KEYFORGE_, by who reads it, and which of an environment are none of ours.

A service's variables are the fields of its settings class; services do not know each other's, and one environment often
serves several programs, so the names of all stand here. Tests hold the table to what is read, and docs/settings.md to
the table.
"""

import re
from collections.abc import Mapping
from typing import Final

from keyforge.contracts import members
from keyforge.contracts.meta import SECRETS

PREFIX: Final = "KEYFORGE_"
"""In capitals: names of variables are case-sensitive, and `keyforge_port` is somebody else's."""
FINGERPRINT: Final = "_FINGERPRINT"
"""What follows the name of a secret in the name of the variable that holds its fingerprint alone."""

SERVICE: Final = "every service"
UP: Final = "up"
DECLARE: Final = "declare"
CLI: Final = "the command line"
TESTS: Final = "tests"

AUDIT_STREAM: Final = ("AUDIT_STREAM_BYTES_MAX", "AUDIT_STREAM_DAYS_MAX")
"""What KF_AUDIT keeps."""

READ_BY: Final[Mapping[str, tuple[str, ...]]] = {
    SERVICE: (
        "HOST",
        "PORT",
        "INSTANCE",
        "NATS_URL",
        "NATS_USER",
        "NATS_PASSWORD",
        "NATS_MONITOR_URL",
        "DURABILITY",
        "PARTITIONS",
        "KEY_SECRET",
        "SHUTDOWN_DELAY_S",
        "SHUTDOWN_TIME_LIMIT_S",
        "LOG_LEVEL",
    ),
    members.EDGE: (
        "EDGE_PRIVATE_KEY",
        "COMMITMENT_SECRET",
        "REQUEST_TIME_LIMIT_S",
        "BODY_BYTES_MAX",
        "BODY_TIME_LIMIT_S",
        "OPEN_REQUESTS_MAX",
        "ANSWER_TIME_LIMIT_S",
        "OWNER_TIME_LIMIT_S",
        "ATTEMPTS_MAX",
        "CONNECT_TIME_LIMIT_S",
        "FIRST_BYTE_TIME_LIMIT_S",
        "IDLE_TIME_LIMIT_S",
        "CONNECTION_IDLE_TIME_LIMIT_S",
        "STALL_TIME_LIMIT_S",
        "DRAIN_TIME_LIMIT_S",
        "DRAIN_BYTES_MAX",
        "EARLY_HEAD_S",
        "DIRECTORY_BYTES_MAX",
        "OUTPUT_TOKENS_DEFAULT",
        "CORS_ORIGINS",
    ),
    members.BUDGET: ("ABANDON_GRACE_S", "ASK_AGE_S_MAX", "ASKS_WAITING_MAX"),
    members.KEYS: ("EDGE_PUBLIC_KEY", "COMMITMENT_SECRET", "BOOTSTRAP_ADMIN_TOKEN"),
    members.AUDIT: (
        "AUDIT_MASTER_KEY",
        "COMMITMENT_SECRET",
        "CLICKHOUSE_URL",
        "CLICKHOUSE_PATH",
        "CLICKHOUSE_HTTP_PORT",
        "CLICKHOUSE_USER",
        "CLICKHOUSE_PASSWORD",
        "AUDIT_LINGER_S",
    ),
    members.NATS: tuple(f"NATS_PASSWORD_{user.upper()}" for user in members.USERS),
    UP: ("HOME", "PORT_BASE", "PARTITIONS", "LOG_BYTES_MAX", "NATS_SERVER", *AUDIT_STREAM),
    DECLARE: (
        "NATS_URL",
        "NATS_USER",
        "NATS_PASSWORD",
        "NATS_MONITOR_URL",
        "PARTITIONS",
        "REPLICAS",
        "LOG_BYTES_MAX",
        *AUDIT_STREAM,
        *(variable.removeprefix(PREFIX) + end for variable in SECRETS.values() for end in ("", FINGERPRINT)),
    ),
    CLI: (
        "HOME",
        "PORT_BASE",
        "NATS_SERVER",
        "ADMIN_TOKEN",
        "CREDENTIAL_SECRET",
        *(f"{name.upper()}_URL" for name in members.SERVICES if name != members.EDGE),
    ),
    TESTS: ("RECORDINGS", "WRITE_GOLDEN"),
}
"""Names without their prefix. A service reads those of `SERVICE` and its own; `up` also passes what it does not read
itself on to its services."""

KNOWN: Final = frozenset(PREFIX + name for names in READ_BY.values() for name in names)

_NAME_CHARS_MAX: Final = 64
"""What is shown and compared of a name. Chosen: the longest of ours has 38, so nothing that is near one is cut off."""
_LINK: Final = re.compile(r".+_SERVICE_HOST|.+_SERVICE_PORT.*|.+_PORT_[0-9]+_(TCP|UDP|SCTP).*", re.DOTALL)
_ADDRESSES: Final = ("tcp://", "udp://", "sctp://")
"""What the value of a Service's `*_PORT` begins with, by its protocol."""


def is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes makes such a variable for a Service in the namespace of a pod.

    For a Service named `keyforge` KEYFORGE_PORT is one of them: an address such as `tcp://…`, and not a port of ours.
    """
    return _LINK.fullmatch(name) is not None or (name.endswith("_PORT") and value.startswith(_ADDRESSES))


def unknown(environment: Mapping[str, str]) -> str | None:
    """Return in one line which variables nothing of ours reads, each with the nearest name; None if there is none."""
    strange = sorted(
        name
        for name, value in environment.items()
        if name.startswith(PREFIX) and name not in KNOWN and not is_service_link(name, value)
    )
    return (
        "; ".join(f"{_shown(name)}: no setting has this name, the nearest is {_nearest(name)}" for name in strange)
        or None
    )


def empty(environment: Mapping[str, str], *names: str) -> str | None:
    """Return in one line which of these secrets are set and hold nothing; None if there is none.

    An empty secret is what a file that is missing leaves behind, and never what somebody meant.
    """
    found = [name for name in names if name in environment and not environment[name].strip()]
    return "; ".join(f"{name} must not be empty" for name in found) or None


def not_text(environment: Mapping[str, str]) -> str | None:
    """Return in one line which of our variables hold bytes that are not UTF-8; None if there is none.

    Python shows such bytes as lone surrogates, which nothing can send or look up.
    """
    found = [name for name in sorted(environment) if name in KNOWN and not _is_text(environment[name])]
    return "; ".join(f"{name} must be UTF-8" for name in found) or None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # only where something is wrong

    own = name[:_NAME_CHARS_MAX].removeprefix(PREFIX)
    return PREFIX + get_close_matches(own, sorted(known.removeprefix(PREFIX) for known in KNOWN), n=1, cutoff=0.0)[0]


def _shown(name: str) -> str:
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return shown if len(shown) <= _NAME_CHARS_MAX else f"{shown[:_NAME_CHARS_MAX]}…"
