"""`python -m keyforge.simulator`: the simulated provider as a process of its own, until SIGTERM."""

from keyforge.simulator.server import main

if __name__ == "__main__":
    main()
