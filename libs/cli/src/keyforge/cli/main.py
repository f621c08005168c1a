"""Runs the command line `keyforge`: every known failure is one line and an exit code."""

import signal
import sys

from keyforge.runtime import early_signals


def main() -> None:
    """Run the command line."""
    # To import takes a second on a busy machine, and a signal meanwhile is no fault: it ends us without a traceback.
    early_signals.die()
    from keyforge.cli import failures, output
    from keyforge.cli.app import app

    output.open_streams()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(failures.run(app, as_json=failures.wants_json(sys.argv[1:])))
