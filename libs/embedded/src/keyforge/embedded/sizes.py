"""How large the log may become: KEYFORGE_LOG_BYTES_MAX, or what a new home's disk allows, kept with the home."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from keyforge.embedded.errors import SettingError, StackError
from keyforge.embedded.home import Home

VARIABLE: Final = "KEYFORGE_LOG_BYTES_MAX"
FIRST_BYTES_MAX: Final = 64 * 1024**3
"""The most that a first start takes by itself. Chosen: some 87 million requests (docs/operations.md), two events each,
which budget folds from zero in 20 minutes; doubled, a restart takes 40, halved, it is full after a month of 17 requests
a second."""
DISK_PART: Final = 2
"""A first start takes at most one part in so many of the free disk: ClickHouse's tables need room as well."""
LOG_BYTES_MIN: Final = 1024 * 1024
"""Chosen: two of the largest frames (512 KiB) for each partition."""
TOTAL_BYTES_MIN: Final = 16 * 1024 * 1024
"""Chosen: KF_PLATFORM's twentieth then holds the largest frame and 300 KiB more."""
TOTAL_BYTES_MAX: Final = 1 << 60
"""An eighth of what the server can count."""


@dataclass(frozen=True, slots=True)
class HomeSizes:
    """Of an embedded stack, in bytes: the total of its streams, and what its server may store (`max_file_store`)."""

    log_bytes_max: int
    store_bytes_max: int


@dataclass(frozen=True, slots=True)
class LogSize:
    """How large all streams may be together, in bytes of one copy."""

    total: int | None
    """None: what the account and the servers have left."""
    explicit: bool = True
    """Whether an operator asked for this: then a log that holds more than its part is a fault."""
    monitor_urls: tuple[str, ...] = ()
    """Of the servers whose store it must fit."""


def bytes_min(partitions: int) -> int:
    """Return the smallest total for so many partitions, whose part is four fifths."""
    return max(TOTAL_BYTES_MIN, -(-partitions * LOG_BYTES_MIN * 5 // 4))


def asked(environment: Mapping[str, str], partitions: int) -> int | None:
    """Read KEYFORGE_LOG_BYTES_MAX; None if it is not set. Raises SettingError."""
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return None
    least = bytes_min(partitions)
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(TOTAL_BYTES_MAX))
    if not digits or not least <= int(text) <= TOTAL_BYTES_MAX:
        raise SettingError(
            f"{VARIABLE} must be a number of bytes from {least} ({partitions} partitions) to {TOTAL_BYTES_MAX}, "
            f"not {text!r}"
        )
    return int(text)


def of_home(home: Home, wanted: int | None, partitions: int, *, free_bytes: int) -> HomeSizes:
    """Return the sizes of a home, and keep them there: chosen at its first start by what is free on its disk,
    afterwards only raised.

    The server may store what a first start would have chosen even where the setting asks for less: so `declare` can
    raise the streams while the stack runs. Raises StackError.
    """
    kept = _read(home)
    if kept is None:
        by_itself = min(FIRST_BYTES_MAX, free_bytes // DISK_PART)
        total = wanted or by_itself
        if total < bytes_min(partitions):
            raise StackError(
                f"cannot use the home {home.path} (KEYFORGE_HOME): half of what its disk has free, {by_itself} bytes, "
                f"is less than {bytes_min(partitions)}, the least for the log; free some, or set {VARIABLE}"
            )
        # A home whose log is from before sizes were kept had 64 GiB.
        kept = HomeSizes(total, max(total, by_itself, FIRST_BYTES_MAX if home.has_log() else 0))
    total = max(kept.log_bytes_max, wanted or 0)
    sizes = HomeSizes(total, max(total, kept.store_bytes_max))
    home.write(home.sizes, json.dumps(asdict(sizes)) + "\n")
    return sizes


def _read(home: Home) -> HomeSizes | None:
    try:
        found = HomeSizes(**json.loads(home.sizes.read_bytes()))
        usable = all(type(size) is int and 0 < size <= TOTAL_BYTES_MAX for size in asdict(found).values())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        usable = False
    if not usable:
        raise StackError(
            f"{home.sizes} must hold log_bytes_max and store_bytes_max in bytes; restore it from a backup, or remove it"
        )
    return found


def human(size: int) -> str:
    """Return a number of bytes as a person reads it, such as `3.2 GiB`."""
    amount, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"
