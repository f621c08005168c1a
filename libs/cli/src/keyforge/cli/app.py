"""The commands of `keyforge`: each parses, calls, prints, and imports what it needs when it runs."""

import contextlib
import os
import sys

import typer

from keyforge.cli import operators, platform, reports
from keyforge.cli.errors import OutputError, UsageError
from keyforge.cli.options import AsJson
from keyforge.contracts.visible import visible

app = typer.Typer(
    name="keyforge",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage or a stack that cannot start, 3 no answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def keyforge() -> None:
    """A security gateway for autonomous agents: budgets, revocation, audit."""
    from keyforge.contracts import variables

    if (strange := variables.unknown(os.environ)) is not None:
        raise UsageError(strange)


app.add_typer(operators.tenant, name="tenant")
app.add_typer(operators.key, name="key")
app.add_typer(platform.provider, name="provider")
app.add_typer(platform.credential, name="credential")
app.add_typer(platform.price, name="price")
app.add_typer(platform.operator, name="operator")

operators.key.command("limits")(reports.limits)
operators.key.command("verify")(reports.verify)
app.command()(reports.spend)
app.command()(reports.records)
app.command()(reports.tail)
app.command()(reports.rebuild)


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
    """Run the whole stack on this machine until Ctrl-C (KEYFORGE_HOME, KEYFORGE_PORT_BASE)."""
    from keyforge.embedded import stack

    stack.run(os.environ, _report)


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check the home, the ports, the log, the clock and every service; exit code 1 if something is wrong."""
    import asyncio

    from keyforge.cli import doctor as checks
    from keyforge.cli import show

    rows = checks.as_rows(asyncio.run(checks.examine(os.environ)))
    if as_json:
        show.as_json({"ok": all(row["ok"] for row in rows), "checks": rows})
    else:
        show.table([{**row, "ok": "ok" if row["ok"] else "WRONG"} for row in rows], ("check", "ok", "detail"))
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@app.command(hidden=True)
def declare() -> None:
    """Create missing streams and buckets, and raise the sizes of the log's (KEYFORGE_NATS_URL, _NATS_MONITOR_URL,
    _NATS_USER, _NATS_PASSWORD, _PARTITIONS, _REPLICAS, _LOG_BYTES_MAX, and the log's secrets or their fingerprints:
    KEYFORGE_KEY_SECRET or KEYFORGE_KEY_SECRET_FINGERPRINT, and so on)."""
    import asyncio
    import signal

    from keyforge.embedded.declare import declare_from

    # It may wait for long, and the first process of a container ignores a signal that it does not handle.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    declared = asyncio.run(declare_from(os.environ, lambda line: typer.echo(f"keyforge: {visible(line)}", err=True)))
    created = declared.created
    typer.echo(f"created: {', '.join(created)}" if created else "nothing to create")
    for raised in declared.raised:
        typer.echo(f"raised: {raised.stream} from {raised.bytes_max_before} to {raised.bytes_max} bytes")


@app.command("nats-config", hidden=True)
def nats_config(partitions: int = typer.Option(16, min=1)) -> None:
    """Print the configuration of a nats-server in a container; its passwords come from its environment."""
    from keyforge.embedded.nats_config import container

    typer.echo(container(partitions), nl=False)


def _report(line: str) -> None:
    """Print what the stack reports, if stdout is still open: a pipe that was closed must not end the stack."""
    with contextlib.suppress(OutputError, OSError, ValueError):
        sys.stdout.write(f"keyforge: {line}\n")
        sys.stdout.flush()
