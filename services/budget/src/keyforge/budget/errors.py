"""What budget raises. Refusals are values (`core.admit.Refused`); these are faults, and none of them reaches an edge.

BudgetError
├── Deposed            another owner fenced this partition: go back to standing by
├── Stopping           the process ends: asks that wait are left to their edges, which cancel them
├── FoldFailed         the log is not the one it was: the process ends, for a person to look at
├── Halted             the log holds what this version must not fold: give the partition back, and leave it
├── LeasesUnavailable  leases cannot be read or written right now
└── NotListening       it is not known whether the server has the subscription of an epoch
"""


class BudgetError(Exception):
    """The root of everything budget raises."""


class Deposed(BudgetError):
    """A newer fence than our own is in the log."""


class Stopping(BudgetError):
    """The process was asked to end."""


class FoldFailed(BudgetError):
    """The log is shorter than what was folded of it, or it is another log of the same name."""


class Halted(BudgetError):
    """The fold of a partition ended before a message that this version does not know; other partitions go on."""


class LeasesUnavailable(BudgetError):
    """The leases cannot be read or written right now; what was to be written may or may not be."""


class NotListening(BudgetError):
    """The server did not confirm a subscription: it may have it, or get it when the connection is back."""
