"""Every NATS subject, stream and bucket name of the system; written here and nowhere else."""

from typing import Final

from keyforge.contracts.ids import EdgeId, TenantId

PARTITIONS_DEFAULT: Final = 1
"""How many a log gets where KEYFORGE_PARTITIONS does not say it. Measured: a frame holds 30 requests where all tenants
lie in one partition and 10 where they lie in four (docs/measured.md). More than one pays only where several budgets
share them."""
PARTITIONS_MAX: Final = 256
"""Chosen: 16 times what deploy/nats/keyforge.conf permits."""

OURS_ALL: Final = "kf.>"
JETSTREAM_ALL: Final = "$JS.>"
BUCKETS_ALL: Final = "$KV.>"
"""The patterns of all that is published here: by us, by JetStream, and into buckets; inboxes are none of it."""
LOGS_ALL: Final = "kf.log.>"
"""The pattern of all subjects of all partitions' streams."""
PLATFORM_STREAM: Final = "KF_PLATFORM"
PLATFORM_ALL: Final = "kf.platform.>"
PLATFORM_CTL: Final = "kf.platform.ctl"
"""Facts that belong to no tenant: providers, credentials, prices, operators, placements. Written by `keys` alone."""

AUDIT_STREAM: Final = "KF_AUDIT"
AUDIT_ALL: Final = "kf.audit.>"
"""Sealed records for subscribers, of every tenant."""

DIRECTORY_BUCKET: Final = "KF_DIRECTORY"
TOKENS_BUCKET: Final = "KF_TOKENS"
PROVIDERS_BUCKET: Final = "KF_PROVIDERS"
PRICES_BUCKET: Final = "KF_PRICES"
CREDENTIALS_BUCKET: Final = "KF_CREDENTIALS"
LEASES_BUCKET: Final = "KF_LEASES"
TENANT_SECRETS_BUCKET: Final = "KF_TENANT_SECRETS"
"""Wrapped secrets of tenants. No projection: what is lost here is lost, so it is backed up with the logs."""
META_BUCKET: Final = "KF_META"
"""What the logs were made with. Written by `declare` alone."""
AUDIT_POSITION_BUCKET: Final = "KF_AUDIT_POSITION"
"""How far each log is published to AUDIT_STREAM. Written by `audit` alone."""


def log_stream(partition: int) -> str:
    """Return the stream that holds one partition's log."""
    return f"KF_LOG_{partition}"


def log_all(partition: int) -> str:
    """Return the pattern of all subjects of a partition's stream."""
    return f"kf.log.{partition}.>"


def ctl(partition: int) -> str:
    """Return the subject of the control clock: what changes what may be admitted. Published by `keys` and owners."""
    return f"kf.log.{partition}.ctl"


def adm(partition: int) -> str:
    """Return the subject of admissions. Written by the partition's owner."""
    return f"kf.log.{partition}.adm"


def use(partition: int, edge: EdgeId) -> str:
    """Return the subject of one edge's outcomes."""
    return f"kf.log.{partition}.use.{edge}"


def use_all(partition: int) -> str:
    """Return the pattern of all edges' outcomes."""
    return f"kf.log.{partition}.use.*"


def reserve(partition: int, epoch: int) -> str:
    """Return where the owner of `epoch` receives reserves: a stale owner receives none."""
    return f"kf.reserve.{partition}.{epoch}"


RESERVE_ALL: Final = "kf.reserve.*.*"


def audit_keys(tenant: TenantId) -> str:
    """Return the subject of the sealed records of all keys of a tenant."""
    return f"kf.audit.{tenant}.keys"


def audit_tenant(tenant: TenantId) -> str:
    """Return the subject of the sealed records of a tenant's own chain: what operators did to it and its keys."""
    return f"kf.audit.{tenant}.tenant"


def audit_position_key(partition: int) -> str:
    """Return the entry of AUDIT_POSITION_BUCKET that says how far a partition's log is published."""
    return f"p{partition}"


def lease_key(partition: int) -> str:
    """Return the entry of LEASES_BUCKET that names a partition's owner."""
    return f"p{partition}"


def bucket_stream(bucket: str) -> str:
    """Return the stream that holds a bucket's entries."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, key: str) -> str:
    """Return the subject of one entry of a bucket."""
    return f"$KV.{bucket}.{key}"


DEFAULT_INBOX: Final = "_INBOX"
"""Below it, clients of NATS choose their inboxes unless they are given a prefix."""


USER_WORDS: Final = "printable ASCII without blanks, `*` and `>`, since the name of its inbox begins with it"
"""What the name of a NATS user must be."""


def is_user(name: str) -> bool:
    """Return whether a NATS user may have this name: its inbox is a subject. Empty: no user."""
    plain = all("!" <= character <= "~" and character not in "*>" for character in name)
    return not name or (plain and all(name.split(".")))


def inbox_prefix(user: str) -> str:
    """Return where replies to a NATS user arrive: its own inbox, which no other user receives anything from."""
    return f"{DEFAULT_INBOX}.{user}" if user else DEFAULT_INBOX
