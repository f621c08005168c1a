"""`python -m keyforge.keys`: the operators' API, until SIGTERM."""

import sys

from keyforge.runtime import early_signals


def run() -> int:
    """Read the settings and serve; return the exit code."""
    early_signals.exit_with(0)
    from keyforge.keys.app import main
    from keyforge.keys.errors import KeysError
    from keyforge.keys.settings import KeysSettings
    from keyforge.runtime.buckets import BucketUnavailableError
    from keyforge.runtime.start import start

    return start("keys", KeysSettings, main, faults=(KeysError, BucketUnavailableError))


if __name__ == "__main__":
    sys.exit(run())
