"""Maps our events to the library's stored events and back: a stored state is the event as a frame holds it."""

from typing import cast

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, MapperDeserialisationError, StoredEvent

from keyforge.contracts import frame
from keyforge.contracts.frame import Recorded
from keyforge.keys.core.evolve import HistoryError, aggregate_of
from keyforge.keys.core.facts import Change

SOURCE = "keys"
"""The `source` in the envelope of every event of keys."""
VERSION_DIGITS_MAX = 18
"""More than any count of events has; Python refuses to read a number of thousands of digits."""


class EventMapper(Mapper[str]):
    """Our events <-> the library's stored events. A stored state is the event as a frame holds it."""

    def __init__(self, subject: str) -> None:
        super().__init__(JSONTranscoder())
        self._subject = subject

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Encode a change as its frame will hold it."""
        change = cast("Change", domain_event)
        id_ = f"{change.originator_id}.{change.originator_version}"
        return StoredEvent(
            originator_id=change.originator_id,
            originator_version=change.originator_version,
            topic=change.event.TYPE,
            state=frame.encode_one(Recorded(id_, SOURCE, change.at, change.event)),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """Decode a stored event."""
        (recorded,) = frame.decode(frame.join([stored_event.state]), self._subject)
        change = change_of(recorded) if isinstance(recorded, Recorded) else None
        if change is None:
            raise MapperDeserialisationError(stored_event.topic)
        return cast("DomainEventProtocol[str]", change)


def change_of(recorded: Recorded) -> Change | None:
    """Return the change that an event of the log is; None for what belongs to no aggregate, such as a fence.

    Raises HistoryError if its id is not `<aggregate>.<version>`.
    """
    if aggregate_of(recorded.event) is None:
        return None
    originator_id, _, version = recorded.id.rpartition(".")
    if not (version.isascii() and version.isdigit() and len(version) <= VERSION_DIGITS_MAX):
        raise HistoryError(f"an event's id is its aggregate and version, not {recorded.id[:80]!r}")
    return Change(originator_id, int(version), recorded.at, recorded.event)
