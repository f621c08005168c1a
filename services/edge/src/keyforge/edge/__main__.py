"""Runs the edge: `python -m keyforge.edge`, configured by KEYFORGE_* variables."""

import sys

from keyforge.edge.app import main
from keyforge.edge.settings import EdgeSettings
from keyforge.runtime.start import start


def run() -> int:
    """Read the settings and run; return the exit code."""
    return start("edge", EdgeSettings, main)


if __name__ == "__main__":
    sys.exit(run())
