"""Runs waiting commands one after the other against the facts and stages what they decide, until a frame is full."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Event
from keyforge.contracts.frame import FRAME_BYTES_MAX, FRAME_EVENTS_MAX
from keyforge.keys.application.ports import Committed, Decide
from keyforge.keys.core.evolve import HistoryError, aggregate_of
from keyforge.keys.core.facts import Change
from keyforge.keys.outbound.recorder import Facts

STAGED_BYTES_MAX: Final = FRAME_BYTES_MAX // 2
"""A frame takes no further command beyond it: half of the bound leaves room for the command that crosses it."""


class PendingCommand(msgspec.Struct):
    """A command that waits for its outcome."""

    decide: Decide
    done: "asyncio.Future[Committed | Problem]"

    def resolve(self, outcome: Committed | Problem) -> None:
        """Answer the caller, unless it has gone."""
        if not self.done.done():
            self.done.set_result(outcome)


Outcomes = list[tuple[PendingCommand, Committed | Problem]]


def stage(facts: Facts, waiting: Iterable[PendingCommand], now: datetime, logger: Any) -> Outcomes:
    """Run commands in order; return those that ran, with the outcome that each has if what is staged gets stored."""
    ran: Outcomes = []
    size = 0
    for pending in waiting:
        try:
            decided = pending.decide(facts, now)
        except Exception:  # one faulty command must not stop the others
            logger.exception("a command failed")
            decided = problem("internal")
        if decided is None or isinstance(decided, Problem):
            ran.append((pending, decided or Committed(())))
            continue
        events = [decided] if isinstance(decided, Event) else decided
        held = len(facts.staged)
        if held and held + len(events) > FRAME_EVENTS_MAX:
            break
        ids = tuple(_stage_event(facts, event, now) for event in events)
        size += sum(len(stored.state) + 1 for stored in facts.staged[held:])
        ran.append((pending, Committed(ids)))
        if size > STAGED_BYTES_MAX or len(facts.staged) >= FRAME_EVENTS_MAX:
            break
    return ran


def _stage_event(facts: Facts, event: Event, now: datetime) -> str:
    id_ = aggregate_of(event)
    if id_ is None:
        raise HistoryError(f"{event.TYPE} is not an event of keys")
    known = facts.find(id_)
    facts.stage(Change(id_, (known.version if known else 0) + 1, now, event))
    return id_
