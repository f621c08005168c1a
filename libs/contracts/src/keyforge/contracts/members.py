"""Every member of the system in one table: how it runs, where it answers, and what its NATS user may do.

The embedded stack's plan, `doctor` and the server's permissions follow from it; tests hold compose.yaml and the table
of docs/deploy.md to it. A new service is one entry here, its package, and its container in compose.yaml.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from keyforge.contracts import subjects

PORT_BASE_DEFAULT: Final = 8080
"""KEYFORGE_PORT_BASE if it is not set, and what containers count from. Chosen: IANA's `http-alt`, open to who is not
root."""


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a process: `offset` counts from KEYFORGE_PORT_BASE, `name` is its key in ready.json."""

    name: str
    offset: int
    use: str
    """What an error message calls it."""
    scheme: Literal["http", "nats"] = "http"


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """How a member runs."""

    module: str | None
    """What `python -m` runs; None for a program that is not ours."""
    ports: tuple[Port, ...]
    """The first is that of its API, where it has one."""
    ready_port: str
    ready_path: str = "/readyz"
    """Answers 200 once the process is healthy."""
    checks: tuple[str, ...] = ()
    """What /readyz reports by name; all must be true."""
    start_stage: Literal[0, 1]
    """0: before the streams are declared, 1: after. All of one stage start at once, in the order of the table."""
    stop_stage: Literal[0, 1, 2]
    """Stages stop one after the other: the edge takes no more requests, then who serves it, then the log."""
    needs: tuple[str, ...] = ()
    """Containers that are no members and must be healthy first."""
    secrets: tuple[str, ...] = ()
    """Variables with secrets that it is given, beside those that every service is."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a NATS user may do. Each may also subscribe to its own inbox; nothing else is permitted."""

    publishes_each: tuple[Callable[[int], str], ...] = ()
    """Subjects of every partition."""
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    replies: bool = False
    """Whether it may publish to the reply subject of a message that it received, once and for a while."""
    reads_logs: bool = False
    """The streams of all partitions."""
    reads: tuple[str, ...] = ()
    """Further streams."""
    reads_buckets: tuple[str, ...] = ()
    writes_buckets: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    """Streams whose state it may ask for, and nothing else."""
    consumes: tuple[str, ...] = ()
    """Streams that any client of NATS may consume as this user: consumers of every kind, their acknowledgements and
    flow control. It may see the names of all streams, and how much JetStream uses."""
    default_inbox: bool = False
    """Whether it may also have the inbox that clients choose by themselves, anything below `_INBOX` that is not
    another user's own."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A process, a NATS user, or both. Its name is also that of its NATS user and the beginning of its instances'."""

    name: str
    does: str
    process: Process | None = None
    access: Access | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is one of ours that works on the log: a process with a NATS user."""
        return self.process is not None and self.access is not None


NATS: Final = "nats"
AUDIT: Final = "audit"
KEYS: Final = "keys"
BUDGET: Final = "budget"
EDGE: Final = "edge"
SIMULATOR: Final = "simulator"
ADMIN: Final = "admin"
TAIL: Final = "tail"

_KEYS_BUCKETS: Final = (
    subjects.DIRECTORY_BUCKET,
    subjects.TOKENS_BUCKET,
    subjects.PROVIDERS_BUCKET,
    subjects.PRICES_BUCKET,
    subjects.CREDENTIALS_BUCKET,
    subjects.TENANT_SECRETS_BUCKET,
)

MEMBERS: Final[tuple[Member, ...]] = (
    Member(
        name=NATS,
        does="the event log: nats-server with JetStream",
        process=Process(
            module=None,
            ports=(
                Port(name="nats", offset=10, use="NATS", scheme="nats"),
                Port(name="nats_monitor", offset=11, use="NATS monitoring"),
            ),
            ready_port="nats_monitor",
            ready_path="/healthz?js-enabled-only=true",
            start_stage=0,
            stop_stage=2,
        ),
    ),
    Member(
        name=AUDIT,
        does="chained records, ClickHouse, spend",
        process=Process(
            module="keyforge.audit",
            ports=(
                Port(name="audit", offset=3, use="audit"),
                Port(name="clickhouse", offset=5, use="ClickHouse-HTTP"),
            ),
            ready_port="audit",
            checks=("started", "log", "durability", "store", "evidence_agrees", "logs_readable"),
            start_stage=1,
            stop_stage=1,
            needs=("clickhouse",),
            secrets=("KEYFORGE_AUDIT_MASTER_KEY", "KEYFORGE_COMMITMENT_SECRET"),
        ),
        access=Access(
            publishes=(subjects.AUDIT_ALL,),
            reads_logs=True,
            reads=(subjects.PLATFORM_STREAM,),
            states=(subjects.AUDIT_STREAM,),
            reads_buckets=(
                subjects.TOKENS_BUCKET,
                subjects.TENANT_SECRETS_BUCKET,
                subjects.META_BUCKET,
                subjects.AUDIT_POSITION_BUCKET,
            ),
            writes_buckets=(subjects.AUDIT_POSITION_BUCKET,),
        ),
    ),
    Member(
        name=KEYS,
        does="the operators' API: tenants, keys, providers, credentials, prices",
        process=Process(
            module="keyforge.keys",
            ports=(Port(name="keys", offset=1, use="keys"),),
            ready_port="keys",
            checks=("started", "log", "durability", "folds"),
            start_stage=1,
            stop_stage=1,
            secrets=("KEYFORGE_EDGE_PUBLIC_KEY", "KEYFORGE_COMMITMENT_SECRET", "KEYFORGE_BOOTSTRAP_ADMIN_TOKEN"),
        ),
        access=Access(
            publishes_each=(subjects.ctl,),
            publishes=(subjects.PLATFORM_CTL,),
            reads_logs=True,
            reads=(subjects.PLATFORM_STREAM,),
            reads_buckets=(*_KEYS_BUCKETS, subjects.META_BUCKET),
            writes_buckets=_KEYS_BUCKETS,
        ),
    ),
    Member(
        name=BUDGET,
        does="the one writer of admissions: what may be spent",
        process=Process(
            module="keyforge.budget",
            ports=(Port(name="budget", offset=2, use="budget"),),
            ready_port="budget",
            checks=("bus", "durability", "partitions"),
            start_stage=1,
            stop_stage=1,
        ),
        access=Access(
            publishes_each=(subjects.adm, subjects.ctl),  # fences are published on ctl
            subscribes=(subjects.RESERVE_ALL,),
            replies=True,
            reads_logs=True,
            reads_buckets=(subjects.LEASES_BUCKET, subjects.TOKENS_BUCKET, subjects.META_BUCKET),
            writes_buckets=(subjects.LEASES_BUCKET,),
        ),
    ),
    Member(
        name=EDGE,
        does="the agents' API: checks, reserves, forwards, records",
        process=Process(
            module="keyforge.edge",
            ports=(Port(name="edge", offset=0, use="edge"),),
            ready_port="edge",
            checks=("bus", "durability", "platform", "control_feed", "started"),
            start_stage=1,
            stop_stage=0,
            secrets=("KEYFORGE_EDGE_PRIVATE_KEY", "KEYFORGE_COMMITMENT_SECRET"),
        ),
        access=Access(
            publishes_each=(subjects.use_all,),
            publishes=(subjects.RESERVE_ALL,),
            reads_logs=True,
            reads_buckets=(
                subjects.DIRECTORY_BUCKET,
                subjects.PROVIDERS_BUCKET,
                subjects.PRICES_BUCKET,
                subjects.CREDENTIALS_BUCKET,
                subjects.LEASES_BUCKET,
                subjects.TENANT_SECRETS_BUCKET,
                subjects.META_BUCKET,
            ),
        ),
    ),
    Member(
        name=SIMULATOR,
        does="a provider to test against",
        process=Process(
            module="keyforge.simulator",
            ports=(Port(name="simulator", offset=20, use="simulator"),),
            ready_port="simulator",
            ready_path="/v1/models",
            start_stage=1,
            stop_stage=1,
        ),
    ),
    Member(
        name=ADMIN,
        does="`declare`: creates streams and buckets, raises the sizes of streams",
        # Not ">": below `_INBOX` subscribers may listen, so replies to it arrive at its own inbox or nowhere.
        access=Access(publishes=(">",), subscribes=(subjects.OURS_ALL, subjects.JETSTREAM_ALL, subjects.BUCKETS_ALL)),
    ),
    Member(
        name=TAIL,
        does="subscribers of sealed records",
        access=Access(
            subscribes=(subjects.AUDIT_ALL,),
            reads=(subjects.AUDIT_STREAM,),
            consumes=(subjects.AUDIT_STREAM,),
            default_inbox=True,
        ),
    ),
)
"""All of them, in the order in which they start: within a stage, the slowest first."""

USERS: Final[tuple[str, ...]] = tuple(member.name for member in MEMBERS if member.access is not None)
"""The users of NATS."""

SERVICES: Final[tuple[str, ...]] = tuple(member.name for member in MEMBERS if member.is_service)
"""The services, in the order in which they start."""

PORTS: Final[tuple[Port, ...]] = tuple(
    sorted(
        (port for member in MEMBERS if member.process for port in member.process.ports), key=lambda port: port.offset
    )
)
"""All ports, lowest first."""


def process_of(name: str) -> Process:
    """Return how a member runs. Raises KeyError if it is no process."""
    for member in MEMBERS:
        if member.name == name and member.process is not None:
            return member.process
    raise KeyError(name)
