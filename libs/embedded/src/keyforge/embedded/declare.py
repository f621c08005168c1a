"""Creates missing streams and buckets, as the one user who may: at every start, or once for containers."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from keyforge.contracts import members
from keyforge.contracts.meta import FINGERPRINT_CHARS, FORMAT, SECRETS, Meta, fingerprint
from keyforge.contracts.subjects import PARTITIONS_EMBEDDED, inbox_prefix
from keyforge.embedded.errors import SettingError, StackError, WrongLogError
from keyforge.embedded.services import PARTITIONS_MAX, count
from keyforge.eventlog import meta, streams
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.meta import WrongLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import AccessRefused, Disconnected, TlsRefused

CONNECT_WITHIN_S: Final = 30.0
"""Of a server that is to be there already. Chosen: halved, a slow disk ends the start; doubled, a wrong address is
named only after a minute."""
REASONS_MAX: Final = 8
"""Different reasons to wait that are reported. Chosen: two or three are met: no server, no leader, too few servers."""
NATS_URL_DEFAULT: Final = "nats://127.0.0.1:4222"
REPLICAS_MAX: Final = 5
"""JetStream's own limit."""


async def declare(
    url: str,
    *,
    user: str,
    password: str,
    made_with: Meta,
    replicas: int,
    report: Callable[[str], None] | None = None,
) -> list[str]:
    """Declare everything; return the names of what was created. Raises StackError, WrongLogError.

    With a `report`, it waits for servers, and for a leader among them, as long as it takes, and says what it waits
    for; without one, they are to be there already.
    """
    reported: set[str] = set()

    def waiting(why: str) -> None:
        if report is not None and why not in reported and len(reported) < REASONS_MAX:
            reported.add(why)
            report(why)

    try:
        client = NatsClient(
            url.split(","),
            user=user,
            password=password,
            inbox_prefix=inbox_prefix(user or members.ADMIN),
            report=waiting,
        )
        await client.open(within_s=None if report else CONNECT_WITHIN_S)
    except AccessRefused as error:
        raise StackError(f"the log refuses user {user}: {error}") from error
    except (Disconnected, TlsRefused, ValueError) as error:
        raise StackError(f"the log at {url} does not answer: {error}") from error
    try:
        return await meta.declare(
            client,
            made_with=made_with,
            replicas=replicas,
            timeout_s=inf if report else streams.DECLARE_TIMEOUT_S,
            waiting=lambda why: waiting(f"waiting for the log: {why}"),
        )
    except WrongLog as error:
        raise WrongLogError(str(error)) from error
    except EventLogError as error:
        raise StackError(f"the log cannot be set up: {error}") from error
    finally:
        await client.close()


async def declare_from(environment: Mapping[str, str], report: Callable[[str], None]) -> list[str]:
    """Declare what the environment describes; for containers, before any service starts. Raises EmbeddedError.

    `report` takes a line for each thing that is waited for.
    """
    replicas = count(environment, "KEYFORGE_REPLICAS", 1, REPLICAS_MAX)
    return await declare(
        environment.get("KEYFORGE_NATS_URL") or NATS_URL_DEFAULT,
        user=environment.get("KEYFORGE_NATS_USER") or members.ADMIN,
        password=environment.get("KEYFORGE_NATS_PASSWORD", ""),
        made_with=made_with_from(environment),
        replicas=replicas,
        report=report,
    )


def made_with_from(environment: Mapping[str, str]) -> Meta:
    """Return what KF_META is to say: of each secret its fingerprint, from the secret itself or from a variable that has
    the fingerprint alone (KEYFORGE_KEY_SECRET_FINGERPRINT and so on). Raises SettingError."""
    partitions = count(environment, "KEYFORGE_PARTITIONS", PARTITIONS_EMBEDDED, PARTITIONS_MAX)
    fingerprints = {name: _fingerprint(name, variable, environment) for name, variable in SECRETS.items()}
    return Meta(format=FORMAT, partitions=partitions, **fingerprints)


def _fingerprint(name: str, variable: str, environment: Mapping[str, str]) -> str:
    secret, given = environment.get(variable, ""), environment.get(f"{variable}_FINGERPRINT", "")
    if not secret and not given:
        raise SettingError(f"{variable} or {variable}_FINGERPRINT must be set: the log records what it is made with")
    try:
        found = fingerprint(name, bytes.fromhex(secret)) if secret else given
        well_formed = len(bytes.fromhex(found)) * 2 == FINGERPRINT_CHARS
    except ValueError:
        well_formed = False
    if not well_formed:
        raise SettingError(f"{variable} must be hex, {variable}_FINGERPRINT {FINGERPRINT_CHARS} hex digits")
    return found
