"""`python -m keyforge.budget`: reads KEYFORGE_* and runs budget until SIGTERM or SIGINT."""

import sys

from keyforge.budget.app import main
from keyforge.budget.settings import BudgetSettings
from keyforge.runtime.serve import run

if __name__ == "__main__":
    sys.exit(run(main(BudgetSettings())))  # type: ignore[call-arg]  # from the environment
