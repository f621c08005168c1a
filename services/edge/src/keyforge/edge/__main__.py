"""Runs the edge: `python -m keyforge.edge`, configured by KEYFORGE_* variables."""

import sys

from keyforge.runtime import early_signals


def run() -> int:
    """Read the settings and run; return the exit code."""
    early_signals.exit_with(0)
    from keyforge.edge.app import main
    from keyforge.edge.settings import EdgeSettings
    from keyforge.runtime.start import start

    return start("edge", EdgeSettings, main)


if __name__ == "__main__":
    sys.exit(run())
