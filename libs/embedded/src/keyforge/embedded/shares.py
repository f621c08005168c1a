"""Which sizes `declare` gives the streams: shares of what is asked for, or of what the account and the servers have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from keyforge.contracts.subjects import AUDIT_STREAM
from keyforge.embedded import sizes as home_sizes
from keyforge.embedded.errors import SettingError
from keyforge.embedded.sizes import LogSize
from keyforge.eventlog import sizes as log_sizes
from keyforge.eventlog import streams
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.sizes import Found, Room, ServerAway
from keyforge.eventlog.streams import Sizes, StreamSpec

AUDIT_STREAM_TWENTIETHS_MAX: Final = 3
"""Of the total: what the partitions' four fifths and KF_PLATFORM's twentieth leave. The buckets, some hundred bytes for
each key, then have what KF_AUDIT does not fill."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the streams; `audit` is what settings say of KF_AUDIT."""

    partitions: int
    replicas: int
    size: LogSize
    audit: Sizes

    def specs(self, sizes: Sizes | None = None) -> list[StreamSpec]:
        """Return the streams and buckets in these sizes."""
        return streams.specs(range(self.partitions), replicas=self.replicas, sizes=sizes)

    def shares(self, room: Room | None) -> Sizes:
        """Return the sizes of streams where there is so much room. Raises SettingError."""
        return _shares(_total(self.size, room, self.partitions), self.partitions, self.audit)


async def wanted(
    client: NatsClient, found: list[Found], asked: Asked, *, timeout_s: float, report: Callable[[str], None]
) -> Sizes:
    """Return the sizes that streams are to have; `found` are those that exist.

    Raises SettingError, StoreUnknown, DeclareFailed; ServerAway while one of several servers does not say what it can
    store and room is needed there. Where none is, as each stream is as large as it is asked to be, that server holds up
    nobody: sizes stay as they are, which is reported.
    """
    size = asked.size
    try:
        room = await log_sizes.room(client, size.monitor_urls, found, replicas=asked.replicas, timeout_s=timeout_s)
    except ServerAway as away:
        shares = _as_they_are(asked.audit) if size.total is None else asked.shares(None)
        if not log_sizes.all_fit(found, asked.specs(shares)):
            raise
        report(f"{away}: sizes stay as they are")
        return shares
    return asked.shares(room)


def _as_they_are(audit: Sizes) -> Sizes:
    """Return sizes that no stream is smaller than, but for what settings say of KF_AUDIT."""
    return Sizes(1, 1, audit.audit_bytes_max, 1, audit.audit_days_max)


def _shares(total: int, number: int, audit: Sizes) -> Sizes:
    """Return the sizes of a total, with what settings say of KF_AUDIT. Raises SettingError if that is too much."""
    most = total * AUDIT_STREAM_TWENTIETHS_MAX // 20
    if audit.audit_bytes_max is not None and audit.audit_bytes_max > most:
        raise SettingError(
            f"KEYFORGE_AUDIT_STREAM_BYTES_MAX is {audit.audit_bytes_max}, more than {most}: {AUDIT_STREAM} may be "
            f"{AUDIT_STREAM_TWENTIETHS_MAX} twentieths of all streams, {total} bytes ({home_sizes.VARIABLE})"
        )
    return Sizes.of_total(total, number, audit_bytes_max=audit.audit_bytes_max, audit_days_max=audit.audit_days_max)


def _total(size: LogSize, room: log_sizes.Room | None, number: int) -> int:
    """Return what the streams may be together. Raises SettingError if that is not known, too much or too little."""
    least = home_sizes.bytes_min(number)
    if size.total is None:
        if room is None:
            raise SettingError(
                f"{home_sizes.VARIABLE} or KEYFORGE_NATS_MONITOR_URL must be set: the account of the log has no limit, "
                "so what the server can store is unknown"
            )
        if room.bytes_max < least:
            raise SettingError(f"{room.of} has {room.bytes_max} bytes left for the log, at least {least} are needed")
        return room.bytes_max
    if size.total < least:
        raise SettingError(f"{home_sizes.VARIABLE} must be at least {least} with {number} partitions, not {size.total}")
    if room is not None and size.total > room.bytes_max:
        raise SettingError(
            f"{home_sizes.VARIABLE} is {size.total}, more than {room.of} has for it: {room.bytes_max} bytes of one copy"
        )
    return size.total
