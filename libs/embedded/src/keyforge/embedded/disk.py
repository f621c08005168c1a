"""What the disk of a home has free, beside what the streams may still take: `up` and `doctor` say the same of both."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from keyforge.embedded.home import Home
from keyforge.embedded.sizes import human

FREE_BYTES_MIN: Final = 1024**3
"""Chosen: three quarters of an hour of logs that take 600 requests a second."""
FREE_PERCENT_MIN: Final = 5
"""Of the disk. Precedent: what ext4 keeps from everyone but root by default."""
AGAIN_PERCENT: Final = 1
"""Of the disk: so much more must be free before a shortage has passed. Chosen: 2 GiB of a disk of 200, which other
programs do not take and give back every few seconds, so that a line is not repeated at each look."""


@dataclass(frozen=True, slots=True)
class Disk:
    """In bytes."""

    total: int
    free: int

    @property
    def percent(self) -> int:
        """How much of it is free."""
        return self.free * 100 // self.total if self.total else 0

    def __str__(self) -> str:
        return f"{human(self.free)} are free, {self.percent} % of the disk"


@dataclass(frozen=True, slots=True)
class StreamRoom:
    """What the streams may still take, all of them, and what is free, in bytes."""

    left: int
    free: int

    @property
    def fits(self) -> bool:
        """Whether the disk has what the streams may take."""
        return self.left <= self.free

    def __str__(self) -> str:
        return f"the streams may take {human(self.left)} more, {human(self.free)} are free"


def of_home(home: Home) -> Disk:
    """Return the disk of a home, which need not exist yet. Raises OSError."""
    place = home.path
    while not os.path.exists(place) and place != place.parent:  # Path.exists raises where access is denied
        place = place.parent
    usage = shutil.disk_usage(place)
    return Disk(usage.total, usage.free)


def room(disk: Disk, varz: Any) -> StreamRoom | None:
    """Return what the streams may take according to /varz of NATS; None if it does not say that."""
    try:
        stats = varz["jetstream"]["stats"]
        return StreamRoom(max(int(stats["reserved_storage"]) - int(stats["storage"]), 0), disk.free)
    except (TypeError, KeyError, ValueError):
        return None


class DiskWatch:
    """Reports that space is short or cannot be read, and that it is not so any more: a line for each change."""

    def __init__(self, home: Home, report: Callable[[str], None]) -> None:
        self._home = home
        self._report = report
        self._short: set[str] = set()
        self._unreadable = False

    def look(self, varz: Any) -> None:
        """Compare; `varz` is the page of NATS. If it does not answer (None), what the streams may take is not known."""
        try:
            disk = of_home(self._home)
        except OSError as error:
            if not self._unreadable:
                self._report(f"disk: what is free cannot be read: {error.strerror or type(error).__name__}")
            self._unreadable = True
            return
        if self._unreadable:
            self._unreadable = False
            self._report(f"disk: what is free can be read again: {human(disk.free)}")
        found = room(disk, varz)
        self._compare("disk", _margin(disk), f"{disk}: the log cannot grow for long; free some", disk)
        if found is not None:
            why = f"{found}: when the disk is full, requests are refused; free some (docs/operations.md)"
            self._compare("log room", found.free - found.left, why, disk)

    def _compare(self, what: str, margin: int, why: str, disk: Disk) -> None:
        """`margin`: how many bytes more are free than must be."""
        if margin < 0 and what not in self._short:
            self._short.add(what)
            self._report(f"{what}: {why}")
        elif what in self._short and margin >= disk.total * AGAIN_PERCENT // 100:
            self._short.remove(what)
            self._report(f"{what}: {human(disk.free)} are free, which is enough again")


def _margin(disk: Disk) -> int:
    return disk.free - max(FREE_BYTES_MIN, disk.total * FREE_PERCENT_MIN // 100)
