"""`python -m keyforge.budget`: reads KEYFORGE_* and runs budget until SIGTERM or SIGINT."""

import sys

from pydantic import ValidationError

from keyforge.budget.app import main
from keyforge.budget.settings import BudgetSettings
from keyforge.eventlog.log import EventLogError
from keyforge.runtime import logs
from keyforge.runtime.serve import run


def start() -> int:
    """Read the settings and run. What cannot be worked with is one clear line, and an exit code that is not 0."""
    try:
        settings = BudgetSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        for wrong in error.errors(include_input=False, include_url=False):
            sys.stderr.write(f"KEYFORGE_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}\n")
        return 2
    logs.configure("budget", settings.log_level)
    try:
        return run(main(settings))
    except (EventLogError, OSError) as error:
        logs.get("budget").error("cannot run", error=str(error) or type(error).__name__)
        return 1


if __name__ == "__main__":
    sys.exit(start())
