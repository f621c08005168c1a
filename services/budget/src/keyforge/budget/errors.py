"""What budget raises. Refusals are values (`core.admit.Refused`); these are faults, and none of them reaches an edge.

BudgetError
├── Deposed      another owner fenced this partition: go back to standing by
├── Stopping     the process ends: what waits is left to the edges, which cancel it
└── FoldFailed   the log cannot be folded any further: halt, for a person to look at
"""


class BudgetError(Exception):
    """The root of everything budget raises."""


class Deposed(BudgetError):
    """A newer fence than our own is in the log."""


class Stopping(BudgetError):
    """We were told to end."""


class FoldFailed(BudgetError):
    """A message of the log is no frame, or the log is not the one it was."""
