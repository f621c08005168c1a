"""`python -m keyforge.audit`: the fold, ClickHouse and the operators' API, until SIGTERM."""

import sys

from keyforge.runtime import early_signals


def run() -> int:
    """Read the settings and serve; return the exit code."""
    early_signals.exit_with(0)
    from keyforge.audit.app import main
    from keyforge.audit.errors import AuditError
    from keyforge.audit.settings import AuditSettings
    from keyforge.runtime.start import start

    return start("audit", AuditSettings, main, faults=(AuditError,))


if __name__ == "__main__":
    sys.exit(run())
