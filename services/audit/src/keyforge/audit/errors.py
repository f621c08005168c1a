"""What can go wrong in audit.

AuditError
├── StoreError           ClickHouse is unreachable, refuses, or holds foreign tables; trying again may help
│   ├── SchemaDiffersError   the tables are another version's: a rebuild creates this version's
│   ├── TablesRefusedError   the store answers, but not for the current tables: a rebuild keeps them aside
│   └── BesideLostError      the tables that a rebuild built are gone or another's: it ends, and may be begun again
├── DivergedError        a log is not the one that is stored, is shorter, or cannot be read on: it alone is not folded
├── QueryError           a reader's query was refused or failed
├── PortEndedError       the server of ClickHouse's HTTP port ended by itself: the process ends
└── UnusableStoreError   what the settings name cannot store anything: an operator mends it
"""

import re
from typing import Final

READONLY: Final = 164
UNKNOWN: Final = 1002
"""Codes of ClickHouse's own errors."""

_CODE: Final = re.compile(r"Code: (\d+)")


class AuditError(Exception):
    """The root of everything audit raises."""


class StoreError(AuditError):
    """A call of the store of records failed."""


class SchemaDiffersError(StoreError):
    """A table exists and has other columns than this version writes."""


class TablesRefusedError(StoreError):
    """The store answers, and refuses what concerns the current tables: they are not as this version made them."""


class BesideLostError(StoreError):
    """The tables that a rebuild built were dropped, or replaced, by another process."""

    def __init__(self) -> None:
        super().__init__(
            "the tables that were built are gone: another audit started, or began a rebuild, and dropped them"
        )


class DivergedError(AuditError):
    """A log is not the one that is stored, or cannot be folded as far as it must be: an operator decides."""


class UnusableStoreError(AuditError):
    """What the settings name cannot store anything. The text names the setting."""


class PortEndedError(AuditError):
    """The server of ClickHouse's HTTP port ended, and nobody had asked it to."""


class QueryError(AuditError):
    """A query was refused by the gate, or failed in the engine. `code` is ClickHouse's."""

    def __init__(self, text: str) -> None:
        begin = text.find("Code: ")
        super().__init__(text[begin:] if begin > 0 else text)
        found = _CODE.search(text)
        self.code = int(found[1]) if found else UNKNOWN
