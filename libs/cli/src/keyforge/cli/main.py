"""Runs the command line `keyforge`: every known failure is one line and an exit code."""

import io
import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        # To import takes a second on a busy machine, and Ctrl-C meanwhile is no fault: it ends us without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from keyforge.cli.app import app
    from keyforge.cli.errors import EXIT_USAGE, CliError, exit_code
    from keyforge.embedded.errors import EmbeddedError

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except (CliError, EmbeddedError) as error:
        from keyforge.runtime.logs import redact  # late: it is needed for an error alone

        sys.stderr.write(f"keyforge: {redact(str(error))}\n")
        sys.exit(exit_code(error))
    except UnicodeEncodeError as error:
        # Bytes of an argument or a variable that are not UTF-8 are lone surrogates in Python.
        if not all("\ud800" <= character <= "\udfff" for character in error.object[error.start : error.end]):
            raise
        sys.stderr.write("keyforge: an argument or a variable of the environment is not UTF-8\n")
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _open_closed_streams() -> None:
    """Open /dev/null for each closed stream, and let stdout escape what its encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
