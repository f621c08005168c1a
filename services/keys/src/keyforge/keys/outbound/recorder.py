"""A persistence module of the library over the log: a recorder that stages, and the application that uses it.

What the library saves is staged here; the command queue appends all that is staged as one frame, then commits it or
rolls it back. So a save costs no round trip, many share one append, and the library's own order stays: the repository
reads what the recorder recorded, and a version that exists is refused with IntegrityError.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application, Repository
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    Mapper,
    Notification,
    NotSupportedError,
    StoredEvent,
    Subscription,
)
from eventsourcing.popo import POPOFactory
from eventsourcing.utils import Environment

from keyforge.keys.core.evolve import evolve
from keyforge.keys.core.facts import Change, Fact
from keyforge.keys.outbound.event_mapper import EventMapper
from keyforge.keys.outbound.fact_cache import FactCache


class LogRecorder(ApplicationRecorder):
    """Stored events in the order of one ctl subject. A notification's id is its number in that order, from 1."""

    def __init__(self) -> None:
        self._events: list[StoredEvent] = []
        self._staged: list[StoredEvent] = []
        self._places: dict[str, dict[int, StoredEvent]] = {}

    @property
    def staged(self) -> Sequence[StoredEvent]:
        """What waits to be appended."""
        return self._staged

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: object) -> Sequence[int]:
        """Stage events, all or none; return the ids that they will have. Raises IntegrityError."""
        new = {(str(event.originator_id), event.originator_version) for event in stored_events}
        if len(new) < len(stored_events) or any(version in self._places.get(id_, ()) for id_, version in new):
            raise IntegrityError("an aggregate has this version already")
        first = len(self._events) + len(self._staged) + 1
        for event in stored_events:
            self._staged.append(event)
            self._places.setdefault(str(event.originator_id), {})[event.originator_version] = event
        return range(first, first + len(stored_events))

    def commit(self) -> None:
        """Add what is staged to the history: the log has it."""
        self._events += self._staged
        self._staged.clear()

    def rollback(self) -> None:
        """Discard what is staged: the log does not have it."""
        for event in self._staged:
            places = self._places[str(event.originator_id)]
            del places[event.originator_version]
            if not places:
                del self._places[str(event.originator_id)]
        self._staged.clear()

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events of one aggregate, staged ones included."""
        places = self._places.get(str(originator_id), {})
        found = [
            places[version]
            for version in sorted(places, reverse=desc)
            if (gt is None or version > gt) and (lte is None or version <= lte)
        ]
        return found[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return committed events from `start` on."""
        first = max(1, (start or 1) + (0 if inclusive_of_start or start is None else 1))
        last = len(self._events) if stop is None else min(stop, len(self._events))
        found: list[Notification] = []
        for number in range(first, last + 1):
            event = self._events[number - 1]
            if topics and event.topic not in topics:
                continue
            found.append(
                Notification(
                    id=number,
                    originator_id=event.originator_id,
                    originator_version=event.originator_version,
                    topic=event.topic,
                    state=event.state,
                )
            )
            if len(found) == limit:
                break
        return found

    def max_notification_id(self) -> int | None:
        """Return the number of the last committed event."""
        return len(self._events) or None

    def subscribe(
        self,
        gt: int | None = None,  # noqa: ARG002  # the library's signature
        topics: Sequence[str] = (),  # noqa: ARG002  # the library's signature
    ) -> Subscription[ApplicationRecorder]:
        """Refused: a process that wants the events reads the log."""
        raise NotSupportedError("read the log instead")


class Facts(Application[str]):
    """The aggregates of one ctl subject: what the log holds, and what was decided and waits to be appended."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._log_recorder = LogRecorder()
        self.cache = FactCache()
        super().__init__()

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Return a factory that only makes the event store."""
        return POPOFactory(env)

    def construct_mapper(self) -> Mapper[str]:
        """Return our mapper."""
        return EventMapper(self._subject)

    def construct_recorder(self) -> ApplicationRecorder:
        """Return our recorder."""
        return self._log_recorder

    def construct_repository(self) -> Repository[str]:
        """Return the library's repository with our cache, which is never older than the recorder."""
        repository = Repository[str](self.events, fastforward=False, deepcopy_from_cache=False)
        repository.cache = cast("Any", self.cache)
        return repository

    def find(self, id_: str, *, version: int | None = None) -> Fact | None:
        """Return a fact with its staged events, as it is now or as it was at `version`."""
        try:
            return cast("Fact", self.repository.get(id_, version=version, projector_func=_project))
        except AggregateNotFoundError:
            return None

    def live(self, index: str) -> int:
        """Count the live facts of an index, staged ones included."""
        return self.cache.live(index)

    def shared_bytes(self, index: str) -> int:
        """Return how many bytes the facts of an index take, at most, in the entry that they share; staged ones too."""
        return self.cache.shared_bytes(index)

    def stage(self, change: Change) -> None:
        """Save a decided change. Raises HistoryError, IntegrityError."""
        fact = evolve(self.find(change.originator_id), change)
        self.save(cast("DomainEventProtocol[str]", change))
        self.cache.put(fact.id, fact)

    @property
    def staged(self) -> Sequence[StoredEvent]:
        """What waits to be appended."""
        return self._log_recorder.staged

    def accept(self, change: Change) -> Fact:
        """Accept a change that the log has; nothing may be staged. Raises HistoryError, IntegrityError."""
        fact = evolve(self.cache.committed(change.originator_id), change)
        self._log_recorder.insert_events([self.mapper.to_stored_event(cast("DomainEventProtocol[str]", change))])
        self._log_recorder.commit()
        self.cache.accept(fact)
        return fact

    def commit(self) -> None:
        """The log has what was staged."""
        self._log_recorder.commit()
        self.cache.commit()

    def rollback(self) -> None:
        """The log does not have what was staged."""
        self._log_recorder.rollback()
        self.cache.rollback()


def _project(fact: Any, changes: Any) -> Any:
    for change in cast("Iterator[Change]", changes):
        fact = evolve(fact, change)
    return fact
