"""Creates missing streams and buckets, as the one user who may: at every start, or once for containers."""

import re
from collections.abc import Mapping
from typing import Final

from keyforge.contracts import members, variables
from keyforge.contracts.meta import FINGERPRINT_CHARS, FORMAT, SECRETS, Meta, fingerprint
from keyforge.contracts.subjects import PARTITIONS_DEFAULT, PARTITIONS_MAX, inbox_prefix
from keyforge.embedded.errors import SettingError, StackError, WrongLogError
from keyforge.embedded.secrets import ROOT
from keyforge.embedded.services import count, partitions
from keyforge.eventlog import meta
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.meta import WrongLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import AccessRefused, Disconnected
from keyforge.eventlog.streams import Sizes

CONNECT_WITHIN_S: Final = 30.0
"""Chosen: in a container the server may still be starting. Halved, a slow disk ends the start; doubled, a wrong address
is named only after a minute."""
NATS_URL_DEFAULT: Final = "nats://127.0.0.1:4222"
FINGERPRINT_PATTERN: Final = rf"[0-9a-f]{{{FINGERPRINT_CHARS}}}"
REPLICAS_MAX: Final = 5
"""JetStream's own limit."""
AUDIT_STREAM_BYTES_MIN: Final = 16 * 1024 * 1024
"""The least that KF_AUDIT may keep. Chosen: 64 of the largest usual messages (`sealed.BATCH_BYTES_MAX`), so that a
subscriber that reads on is not overtaken."""
BYTES_MAX: Final = 2**53 - 1
"""JSON's exact integers (RFC 8259); the server's store is smaller, and refuses what it has no room for."""
DAYS_MAX: Final = 36_500
"""Chosen: a century; the server's nanoseconds end after 292 years."""


async def declare(
    url: str,
    *,
    user: str,
    password: str,
    made_with: Meta,
    replicas: int,
    any_partitions: bool = False,
    sizes: Sizes | None = None,
) -> list[str]:
    """Declare everything; return the names of what was created. Raises StackError, WrongLogError.

    `any_partitions`: a log that exists keeps its number of them; see `eventlog.meta.declare`.
    """
    try:
        client = NatsClient(
            url.split(","), user=user, password=password, inbox_prefix=inbox_prefix(user or members.ADMIN)
        )
        await client.open(within_s=CONNECT_WITHIN_S)
    except AccessRefused as error:
        raise StackError(f"the log refuses user {user}: {error}") from error
    except (Disconnected, ValueError) as error:
        raise StackError(f"the log at {url} does not answer: {error}") from error
    try:
        return await meta.declare(
            client, made_with=made_with, replicas=replicas, any_partitions=any_partitions, sizes=sizes
        )
    except WrongLog as error:
        raise WrongLogError(str(error)) from error
    except EventLogError as error:
        raise StackError(f"the log cannot be set up: {error}") from error
    finally:
        await client.close()


async def declare_from(environment: Mapping[str, str]) -> list[str]:
    """Declare what the environment describes; for containers, before any service starts. Raises EmbeddedError."""
    replicas = count(environment, "KEYFORGE_REPLICAS", 1, REPLICAS_MAX)
    if (nothing := variables.empty(environment, "KEYFORGE_NATS_PASSWORD", *SECRETS.values())) is not None:
        raise SettingError(nothing)
    return await declare(
        environment.get("KEYFORGE_NATS_URL") or NATS_URL_DEFAULT,
        user=environment.get("KEYFORGE_NATS_USER") or members.ADMIN,
        password=environment.get("KEYFORGE_NATS_PASSWORD", ""),
        made_with=made_with_from(environment),
        replicas=replicas,
        any_partitions=partitions(environment, PARTITIONS_MAX) is None,
        sizes=sizes_from(environment),
    )


def sizes_from(environment: Mapping[str, str]) -> Sizes:
    """Return what KF_AUDIT keeps; a variable that is not set changes nothing. Raises SettingError."""
    return Sizes(
        audit_bytes_max=_number(environment, "KEYFORGE_AUDIT_STREAM_BYTES_MAX", AUDIT_STREAM_BYTES_MIN, BYTES_MAX),
        audit_days_max=_number(environment, "KEYFORGE_AUDIT_STREAM_DAYS_MAX", 0, DAYS_MAX),
    )


def _number(environment: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise SettingError(f"{name} must be a number from {least} to {most}, not {text!r}")
    return int(text)


def made_with_from(environment: Mapping[str, str]) -> Meta:
    """Return what KF_META is to say: of each secret its fingerprint, from the secret itself or from a variable that has
    the fingerprint alone (KEYFORGE_KEY_SECRET_FINGERPRINT and so on). Raises SettingError."""
    number = partitions(environment, PARTITIONS_MAX) or PARTITIONS_DEFAULT
    fingerprints = {name: _fingerprint(name, variable, environment) for name, variable in SECRETS.items()}
    return Meta(format=FORMAT, partitions=number, **fingerprints)


def _fingerprint(name: str, variable: str, environment: Mapping[str, str]) -> str:
    of_it = f"{variable}{variables.FINGERPRINT}"
    secret, given = environment.get(variable, ""), environment.get(of_it, "")
    if not secret and not given:
        raise SettingError(f"{variable} or {of_it} must be set: the log records what it is made with")
    if not secret and re.fullmatch(FINGERPRINT_PATTERN, given) is None:
        raise SettingError(f"{of_it} must be {FINGERPRINT_CHARS} hex digits in lower case")
    if secret and re.fullmatch(ROOT.pattern, secret) is None:
        raise SettingError(f"{variable} must be {ROOT.words}")
    return fingerprint(name, bytes.fromhex(secret)) if secret else given
