"""Creates missing streams and buckets and raises their sizes, as the one user who may: at every start, or once for
containers."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

from keyforge.contracts import members, urls, variables
from keyforge.contracts.meta import FINGERPRINT_CHARS, FORMAT, SECRETS, Meta, fingerprint
from keyforge.contracts.subjects import (
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
    USER_WORDS,
    inbox_prefix,
    is_user,
)
from keyforge.embedded import shares
from keyforge.embedded import sizes as home_sizes
from keyforge.embedded.errors import SettingError, StackError, WrongLogError
from keyforge.embedded.secrets import ROOT
from keyforge.embedded.services import count, partitions
from keyforge.embedded.shares import Asked
from keyforge.embedded.sizes import LogSize
from keyforge.eventlog import meta, streams
from keyforge.eventlog import sizes as log_sizes
from keyforge.eventlog.log import EventLogError, StreamState
from keyforge.eventlog.meta import WrongLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import check_setting
from keyforge.eventlog.nats.errors import AccessRefused, Disconnected, TlsRefused
from keyforge.eventlog.retry import retrying
from keyforge.eventlog.sizes import Raised, ServerAway, SizeRefused, StoreUnknown
from keyforge.eventlog.streams import Sizes

CONNECT_WITHIN_S: Final = 30.0
"""Of a server that is to be there already. Chosen: halved, a slow disk ends the start; doubled, a wrong address is
named only after a minute."""
REASONS_MAX: Final = 8
"""Different reasons to wait that are reported. Chosen: two or three are met: no server, no leader, too few servers."""
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


@dataclass(frozen=True, slots=True)
class Declared:
    """What was done, and how full each log is now."""

    created: list[str]
    raised: list[Raised]
    states: dict[str, StreamState]


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long servers may not answer, and what takes the fault of each attempt."""

    timeout_s: float
    waiting: Callable[[Exception], None]
    report: Callable[[str], None]


async def declare(
    url: str,
    *,
    user: str,
    password: str,
    made_with: Meta,
    replicas: int,
    size: LogSize,
    any_partitions: bool = False,
    sizes: Sizes | None = None,
    report: Callable[[str], None] | None = None,
) -> Declared:
    """Declare everything, and raise what is smaller than its share of `size`. `sizes`: what KF_AUDIT keeps.

    Raises StackError, SettingError, WrongLogError.

    `any_partitions`: a log that exists keeps its number of them; see `eventlog.meta.declare`. With a `report`, it waits
    for servers, and for a leader among them, as long as it takes, and says what it waits for; without one, they are to
    be there already.
    """
    reported: set[str] = set()

    def waiting(why: str) -> None:
        if report is not None and why not in reported and len(reported) < REASONS_MAX:
            reported.add(why)
            report(why)

    within_s = None if report else CONNECT_WITHIN_S
    client = await _connected(url, user=user, password=password, waiting=waiting, within_s=within_s)
    try:
        timeout_s = inf if report else streams.DECLARE_TIMEOUT_S
        patience = _Patience(timeout_s, lambda fault: waiting(f"waiting for the log: {fault}"), waiting)
        compared = await meta.compare(  # the number of partitions first: sizes follow from it
            client, made_with, any_partitions=any_partitions, timeout_s=timeout_s, waiting=patience.waiting
        )
        return await _declare_sized(client, compared, replicas, size, sizes or Sizes(), patience)
    except WrongLog as error:
        raise WrongLogError(str(error)) from error
    except (SizeRefused, StoreUnknown) as error:
        raise SettingError(str(error)) from error
    except EventLogError as error:
        raise StackError(f"the log cannot be set up: {error}") from error
    finally:
        await client.close()


async def _connected(
    url: str, *, user: str, password: str, waiting: Callable[[str], None], within_s: float | None
) -> NatsClient:
    """Connect; `within_s` None waits as long as it takes. Raises StackError."""
    prefix = inbox_prefix(user or members.ADMIN)
    try:
        client = NatsClient(url.split(","), user=user, password=password, inbox_prefix=prefix, report=waiting)
        await client.open(within_s=within_s)
    except AccessRefused as error:
        raise StackError(f"the log refuses user {user}: {error}") from error
    except (Disconnected, TlsRefused) as error:
        shown = ",".join(map(urls.shown, url.split(",")))
        raise StackError(f"the log at {shown} does not answer: {error}") from error
    return client


async def _declare_sized(
    client: NatsClient, made_with: Meta, replicas: int, size: LogSize, audit: Sizes, patience: _Patience
) -> Declared:
    asked, timeout_s = Asked(made_with.partitions, replicas, size, audit), patience.timeout_s
    survey = partial(log_sizes.survey, client, timeout_s=timeout_s)
    found = await survey(asked.specs())
    wanted = partial(shares.wanted, client, found, asked, timeout_s=timeout_s, report=patience.report)
    end = asyncio.get_running_loop().time() + timeout_s
    sizes = await retrying(wanted, backoff=streams.BACKOFF, retry_on=ServerAway, failed=patience.waiting, until_s=end)
    specs = asked.specs(sizes)
    if size.explicit and size.total is not None:
        log_sizes.refuse_smaller(await survey(specs))
    created = await meta.declare(
        client,
        made_with=made_with,
        replicas=replicas,
        sizes=sizes,
        timeout_s=timeout_s,
        waiting=patience.waiting,
    )
    raised = await log_sizes.grow(client, await survey(specs), timeout_s=timeout_s)
    now = await survey(specs)
    return Declared(created, raised, {one.spec.name: one.state for one in now if one.spec.keeps_all})


async def declare_from(environment: Mapping[str, str], report: Callable[[str], None]) -> Declared:
    """Declare what the environment describes; for containers, before any service starts. Raises EmbeddedError.

    `report` takes a line for each thing that is waited for.
    """
    replicas = count(environment, "KEYFORGE_REPLICAS", 1, REPLICAS_MAX)
    if (nothing := variables.empty(environment, "KEYFORGE_NATS_PASSWORD", *SECRETS.values())) is not None:
        raise SettingError(nothing)
    user = environment.get("KEYFORGE_NATS_USER") or members.ADMIN
    if not is_user(user):
        raise SettingError(f"KEYFORGE_NATS_USER must be {USER_WORDS}")
    url, monitor_urls = _addresses(environment)
    number = partitions(environment, PARTITIONS_MAX)
    try:
        return await declare(
            url,
            user=user,
            password=environment.get("KEYFORGE_NATS_PASSWORD", "").strip(),
            made_with=made_with_from(environment),
            replicas=replicas,
            any_partitions=number is None,
            sizes=sizes_from(environment),
            size=LogSize(home_sizes.asked(environment, number or PARTITIONS_DEFAULT), monitor_urls=monitor_urls),
            report=report,
        )
    except StackError as error:
        if (names := _VARIABLES.get(type(error.__cause__))) is None:
            raise
        raise StackError(f"{names}: {error}") from error


_VARIABLES: Final[dict[type[BaseException | None], str]] = {
    AccessRefused: "KEYFORGE_NATS_USER, KEYFORGE_NATS_PASSWORD",
    TlsRefused: "KEYFORGE_NATS_URL, SSL_CERT_FILE",
    Disconnected: "KEYFORGE_NATS_URL",
}
"""Which of them a fault of the connection is about, as services say it."""


def _addresses(environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the address of the log, and those of monitoring ports. Raises SettingError."""
    url = environment.get("KEYFORGE_NATS_URL") or NATS_URL_DEFAULT
    try:
        check_setting(url)
    except ValueError as error:
        raise SettingError(str(error)) from error
    monitors = [one.strip() for one in environment.get("KEYFORGE_NATS_MONITOR_URL", "").split(",") if one.strip()]
    if not all(map(urls.is_http, monitors)):
        raise SettingError("KEYFORGE_NATS_MONITOR_URL must be http(s)://host:port, or several, separated by commas")
    return url, tuple(monitors)


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
    secret, given = environment.get(variable, "").strip(), environment.get(of_it, "").strip()
    if not secret and not given:
        raise SettingError(f"{variable} or {of_it} must be set: the log records what it is made with")
    if not secret and re.fullmatch(FINGERPRINT_PATTERN, given) is None:
        raise SettingError(f"{of_it} must be {FINGERPRINT_CHARS} hex digits in lower case")
    if secret and re.fullmatch(ROOT.pattern, secret) is None:
        raise SettingError(f"{variable} must be {ROOT.words}")
    return fingerprint(name, bytes.fromhex(secret)) if secret else given
