"""`python -m keyforge.cli`, the same as `keyforge`."""

from keyforge.cli.main import main

if __name__ == "__main__":
    main()
