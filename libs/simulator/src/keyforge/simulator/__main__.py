"""`python -m keyforge.simulator`: the simulated provider as a process of its own, until SIGTERM."""

import os
import signal


def run() -> None:
    """Serve; a signal during the imports ends it at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    from keyforge.simulator.server import main

    main()


if __name__ == "__main__":
    run()
