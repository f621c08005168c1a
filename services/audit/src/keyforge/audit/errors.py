"""What can go wrong in audit.

AuditError
├── StoreError           ClickHouse cannot be reached, refuses, or holds what is not ours; asking again may help
│   └── SchemaDiffersError   the tables are not those of this version: a rebuild makes them anew
├── DivergedError        what is stored is not what the log says, or the log is shorter: nothing more is written
└── QueryError           a reader's query was refused or failed
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
    """The store of records did not do what it was asked."""


class SchemaDiffersError(StoreError):
    """A table exists and has other columns than this version writes."""


class DivergedError(AuditError):
    """The evidence and the log disagree. The text says where; an operator looks, and may rebuild."""


class QueryError(AuditError):
    """What the engine, or the gate before it, said to a query; `code` is ClickHouse's."""

    def __init__(self, text: str) -> None:
        begin = text.find("Code: ")
        super().__init__(text[begin:] if begin > 0 else text)
        found = _CODE.search(text)
        self.code = int(found[1]) if found else UNKNOWN
