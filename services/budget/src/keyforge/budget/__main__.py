"""`python -m keyforge.budget`: reads KEYFORGE_* and runs budget until SIGTERM or SIGINT."""

import sys

from keyforge.runtime import early_signals


def run() -> int:
    """Read the settings and run; return the exit code."""
    early_signals.exit_with(0)
    from keyforge.budget.app import main
    from keyforge.budget.settings import BudgetSettings
    from keyforge.runtime.start import start

    return start("budget", BudgetSettings, main)


if __name__ == "__main__":
    sys.exit(run())
