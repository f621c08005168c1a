"""Creates what is missing of streams and buckets, as the one user who may: at every start, or once for containers."""

from collections.abc import Mapping
from typing import Final

from keyforge.contracts import permissions
from keyforge.contracts.meta import FINGERPRINT_CHARS, FORMAT, SECRETS, Meta, fingerprint
from keyforge.contracts.subjects import PARTITIONS_EMBEDDED
from keyforge.embedded.errors import UpError, UsageError, WrongLogError
from keyforge.embedded.services import PARTITIONS_MAX, count
from keyforge.eventlog import meta
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.meta import WrongLog
from keyforge.eventlog.nats.client import Link
from keyforge.eventlog.nats.errors import LinkDown, LinkRefused
from keyforge.runtime.bus import inbox_prefix

CONNECT_WITHIN_S: Final = 30.0
NATS_URL_DEFAULT: Final = "nats://127.0.0.1:4222"
REPLICAS_MAX: Final = 5


async def declare(url: str, *, user: str, password: str, made_with: Meta, replicas: int) -> list[str]:
    """Declare everything; return the names of what is new. Raises UpError, WrongLogError."""
    try:
        link = Link(url.split(","), user=user, password=password, inbox_prefix=inbox_prefix(user or permissions.ADMIN))
        await link.open(within_s=CONNECT_WITHIN_S)
    except LinkRefused as error:
        raise UpError(f"the log refuses user {user}: {error}") from error
    except (LinkDown, ValueError) as error:
        raise UpError(f"the log at {url} does not answer: {error}") from error
    try:
        return await meta.declare(link, made_with=made_with, replicas=replicas)
    except WrongLog as error:
        raise WrongLogError(str(error)) from error
    except EventLogError as error:
        raise UpError(f"the log cannot be set up: {error}") from error
    finally:
        await link.close()


async def declare_from(environment: Mapping[str, str]) -> list[str]:
    """Declare what the environment describes; for containers, before any service starts. Raises CliError."""
    return await declare(
        environment.get("KEYFORGE_NATS_URL") or NATS_URL_DEFAULT,
        user=environment.get("KEYFORGE_NATS_USER") or permissions.ADMIN,
        password=environment.get("KEYFORGE_NATS_PASSWORD", ""),
        made_with=made_with_from(environment),
        replicas=count(environment, "KEYFORGE_REPLICAS", 1, REPLICAS_MAX),
    )


def made_with_from(environment: Mapping[str, str]) -> Meta:
    """Return what KF_META is to say: of each secret its fingerprint, from the secret itself or from a variable that has
    the fingerprint alone (KEYFORGE_KEY_SECRET_FINGERPRINT and so on). Raises UsageError."""
    partitions = count(environment, "KEYFORGE_PARTITIONS", PARTITIONS_EMBEDDED, PARTITIONS_MAX)
    fingerprints = {name: _fingerprint(name, variable, environment) for name, variable in SECRETS.items()}
    return Meta(format=FORMAT, partitions=partitions, **fingerprints)


def _fingerprint(name: str, variable: str, environment: Mapping[str, str]) -> str:
    secret, given = environment.get(variable, ""), environment.get(f"{variable}_FINGERPRINT", "")
    if not secret and not given:
        raise UsageError(f"{variable} or {variable}_FINGERPRINT must be set: the log records what it is made with")
    try:
        found = fingerprint(name, bytes.fromhex(secret)) if secret else given
        well_formed = len(bytes.fromhex(found)) * 2 == FINGERPRINT_CHARS
    except ValueError:
        well_formed = False
    if not well_formed:
        raise UsageError(f"{variable} must be hex, {variable}_FINGERPRINT {FINGERPRINT_CHARS} hex digits")
    return found
