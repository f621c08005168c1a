"""How far each log is published to KF_AUDIT: an entry for each partition in the bucket KF_AUDIT_POSITION (ADR 30).

An entry counts for the log and for the KF_AUDIT that it names, and for no others of the same name; where it does not
count, everything is published again. It is written after the records are, and never moves back: an audit that finds a
later entry of another one goes on from there.
"""

from typing import Annotated, Final, NamedTuple

import msgspec

from keyforge.contracts import subjects
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.eventlog.log import Appended, Busy, EventLog, Expect, Stale
from keyforge.runtime import logs

_BUCKET: Final = subjects.bucket_stream(subjects.AUDIT_POSITION_BUCKET)


class NotAdvancedError(Exception):
    """An entry was not written: another audit wrote it first, or the bucket takes nothing now. Try again."""


class OvertakenError(NotAdvancedError):
    """Another audit wrote the entry first, or is writing it: no fault. Try again."""


class OtherStreamsError(Exception):
    """The entry is of another log, or of another KF_AUDIT, than those that `find` found. Find again."""


class Published(NamedTuple):
    """Up to which message a log is published, and how many records of tenants and keys that are."""

    sequence: int
    records: int


NOTHING_PUBLISHED: Final = Published(0, 0)

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`sequence` is the last message of the log whose records are all published, as are those of all before it;
    `records` is how many these are, those that were found to be withheld or missing included. `log` and `stream` differ
    for another log and another KF_AUDIT of the same name (`StreamState.created`)."""

    log: str
    sequence: _Count
    stream: str
    records: _Count


_DECODER: Final = msgspec.json.Decoder(_Entry)


class PublishPosition:
    """The entries, as one process knows them."""

    def __init__(self, log: EventLog, partitions: int) -> None:
        self.stream = ""
        """Which KF_AUDIT was found."""
        self._eventlog = log
        self._partitions = partitions
        self._logs: dict[int, str] = {}
        self._revisions: dict[int, int] = {}
        self._logger = logs.get("publisher")

    async def find(self) -> dict[int, Published]:
        """Return by partition up to where its log is published; nothing where that is not known. Raises LogMissing.

        Not known is: there is no entry, or it cannot be read, is of another log or another KF_AUDIT, or lies past the
        log's end.
        """
        self.stream = (await self._eventlog.state(subjects.AUDIT_STREAM)).created
        return {partition: await self._find(partition) for partition in range(self._partitions)}

    async def advance(self, partition: int, published: Published) -> Published:
        """Record up to where a log is published; return up to where it is: another audit may be further.

        An entry that cannot be read, or lies past the log's end, is written over: it is known better here.
        Raises NotAdvancedError, OtherStreamsError, LogMissing, AppendUnknown, AppendRefused.
        """
        if partition not in self._revisions:
            revision, entry = await self._read(partition)
            self._revisions[partition] = revision
            if entry is not None:
                if (entry.log, entry.stream) != (self._logs[partition], self.stream):
                    raise OtherStreamsError(f"position {partition} is of log {entry.log}, stream {entry.stream}")
                if entry.sequence >= published.sequence and await self._is_in_log(partition, entry):
                    return Published(entry.sequence, entry.records)
        expect = Expect(_subject(partition), self._revisions.pop(partition))  # unknown again until this is stored
        entry = _Entry(log=self._logs[partition], stream=self.stream, **published._asdict())
        outcome = await self._eventlog.append(expect.subject, msgspec.json.encode(entry), expect=expect)
        if isinstance(outcome, Stale | Busy):
            raise OvertakenError(f"position p{partition}: {outcome}")
        if not isinstance(outcome, Appended):
            raise NotAdvancedError(f"position p{partition}: {outcome}")
        self._revisions[partition] = outcome.seq
        return published

    async def _is_in_log(self, partition: int, entry: _Entry) -> bool:
        end = await self._eventlog.end(subjects.log_stream(partition))
        if entry.sequence > end:
            self._logger.warning(
                "the published position lies past the log's end; writing over it",
                log=subjects.log_stream(partition),
                end=end,
                entry=msgspec.structs.asdict(entry),
            )
        return entry.sequence <= end

    async def _find(self, partition: int) -> Published:
        state = await self._eventlog.state(subjects.log_stream(partition))
        self._logs[partition] = state.created
        self._revisions[partition], entry = await self._read(partition)
        if entry is None:
            return NOTHING_PUBLISHED
        if (entry.log, entry.stream) == (state.created, self.stream) and entry.sequence <= state.last:
            return Published(entry.sequence, entry.records)
        self._logger.warning(
            "the published position is not of this log and these subscribers' stream; publishing from the beginning",
            log=subjects.log_stream(partition),
            entry=msgspec.structs.asdict(entry),
        )
        return NOTHING_PUBLISHED

    async def _read(self, partition: int) -> tuple[int, _Entry | None]:
        """Return the revision of an entry, 0 if there never was one, and what it says, if that can be read."""
        found = await self._eventlog.last(_BUCKET, _subject(partition))
        if found is None:
            return 0, None
        try:
            return found.seq, _DECODER.decode(found.data) if found.data else None
        except UNREADABLE:
            self._logger.warning("the published position cannot be read", partition=partition)
            return found.seq, None


def _subject(partition: int) -> str:
    return subjects.bucket_subject(subjects.AUDIT_POSITION_BUCKET, subjects.audit_position_key(partition))
