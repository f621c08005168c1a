"""What can go wrong in audit.

AuditError
├── StoreError           ClickHouse cannot be reached, refuses, or holds what is not ours; asking again may help
│   └── SchemaDiffersError   the tables are not those of this version: a rebuild makes them anew
└── DivergedError        what is stored is not what the log says, or the log is shorter: nothing more is written
"""


class AuditError(Exception):
    """The root of everything audit raises."""


class StoreError(AuditError):
    """The store of records did not do what it was asked."""


class SchemaDiffersError(StoreError):
    """A table exists and has other columns than this version writes."""


class DivergedError(AuditError):
    """The evidence and the log disagree. The text says where; an operator looks, and may rebuild."""
