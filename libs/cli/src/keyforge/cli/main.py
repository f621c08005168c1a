"""The command line `keyforge`: parses, calls, prints. Each command imports what it needs when it runs."""

import sys

import typer

from keyforge.cli import operators
from keyforge.cli.errors import CliError
from keyforge.cli.options import AsJson

app = typer.Typer(
    name="keyforge",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nobody answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def keyforge() -> None:
    """A security gateway for autonomous agents: budgets, revocation, audit."""


app.add_typer(operators.tenant, name="tenant")
app.add_typer(operators.key, name="key")
app.add_typer(operators.provider, name="provider")
app.add_typer(operators.credential, name="credential")
app.add_typer(operators.price, name="price")


@app.command()
def version(*, as_json: AsJson = False) -> None:
    """Show the version."""
    from importlib.metadata import version as installed

    found = installed("keyforge-cli")
    if as_json:
        from keyforge.cli import show

        show.as_json({"version": found})
    else:
        sys.stdout.write(f"keyforge {found}\n")


@app.command()
def up() -> None:
    """Run the whole stack here until Ctrl-C: log, services, simulator (KEYFORGE_HOME, KEYFORGE_PORT_BASE)."""
    import os

    from keyforge.cli.up import up as run

    run(os.environ)


def main() -> None:
    """Run the command line; every known failure is one line and an exit code."""
    try:
        app()
    except CliError as error:
        sys.stderr.write(f"keyforge: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
