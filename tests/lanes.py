"""The lanes of the suite: what runs when, and for how long at most; a test without the mark of one is in `test`."""

from collections.abc import Iterable
from dataclasses import dataclass

EVERYDAY = "test"
CI = "ci"
"""What `.ci/run` asks for: each lane that is registered for it, in one run with one summary."""
CI_MINUTES_MAX = 14


@dataclass(frozen=True)
class Lane:
    """Tests that carry the mark `name`, or none at all for the everyday lane."""

    name: str
    what: str
    minutes_max: int
    """On two cores that have nothing else to do."""
    in_ci: bool


LANES = (
    Lane(EVERYDAY, "what every change passes: ./taskw test", minutes_max=6, in_ci=True),
    Lane("stack", "whole stacks that are started, killed and moved: ./taskw test:stack", minutes_max=5, in_ci=True),
    Lane("cluster", "what must hold on three NATS nodes: ./taskw test:cluster", minutes_max=4, in_ci=True),
    Lane(
        "clients",
        "other clients and their own tests, from npm and PyPI: ./taskw test:clients",
        minutes_max=3,
        in_ci=True,
    ),
    Lane("slow", "long runs, by hand: ./taskw test:slow", minutes_max=60, in_ci=False),
)


def asked(names: Iterable[str], lanes: Iterable[Lane] = LANES) -> frozenset[str]:
    """The lanes that these names mean; ValueError for one that is none."""
    known = {lane.name: {lane.name} for lane in lanes} | {CI: {lane.name for lane in lanes if lane.in_ci}}
    names = list(names) or [EVERYDAY]
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"--lane={unknown[0]}: one of {', '.join(sorted(known))}")
    return frozenset(name for one in names for name in known[one])


def lane_of(marks: Iterable[str], lanes: Iterable[Lane] = LANES) -> str:
    """The lane of a test with these marks; ValueError if they are of two."""
    found = {lane.name for lane in lanes if lane.name != EVERYDAY}.intersection(marks)
    if len(found) > 1:
        raise ValueError(f"in one lane only, not in {' and '.join(sorted(found))}")
    return found.pop() if found else EVERYDAY


def minutes_max(names: frozenset[str], lanes: Iterable[Lane] = LANES) -> int:
    """How long a run of these lanes may take."""
    longest = sum(lane.minutes_max for lane in lanes if lane.name in names)
    return min(longest, CI_MINUTES_MAX) if all(lane.in_ci for lane in lanes if lane.name in names) else longest
