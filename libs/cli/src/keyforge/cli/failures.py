"""How a command ends: its exit code, and a failure as one line on stderr, or with --json as one JSON object.

    {"type": "not_found", "message": "Not found.", "status": 404}

`type` is that of the catalogue of errors where an API answered with it, which also has a `status`; else it is one of
`keyforge.cli.errors`, or of the table below.
"""

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import typer

from keyforge.cli import output
from keyforge.cli.errors import EXIT_FAILED, CliError, RefusedError, UsageError, exit_code
from keyforge.contracts.visible import visible
from keyforge.embedded.errors import EmbeddedError, SettingError, StackEndedError, WrongLogError

TYPES: Final[tuple[tuple[type[EmbeddedError], str], ...]] = (
    (WrongLogError, "wrong_log"),
    (SettingError, "setting_invalid"),
    (StackEndedError, "stack_ended"),
    (EmbeddedError, "cannot_start"),
)
"""Errors of the embedded stack, the more special ones first."""


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether --json is an option of this command line, which may be wrong in all else."""
    return "--json" in itertools.takewhile(lambda argument: argument != "--", arguments)


def run(app: Callable[..., Any], *, as_json: bool) -> int:
    """Run a command line to its end, its output written; return the exit code."""
    try:
        code = _invoke(app, as_json=as_json)
        output.flush()
    except (CliError, EmbeddedError) as error:
        return _failed(error, as_json=as_json)
    except UnicodeEncodeError as error:
        # Bytes of an argument or a variable that are not UTF-8 are lone surrogates in Python.
        if not all("\ud800" <= character <= "\udfff" for character in error.object[error.start : error.end]):
            raise
        return _failed(UsageError("an argument or a variable of the environment is not UTF-8"), as_json=as_json)
    return code


def _invoke(app: Callable[..., Any], *, as_json: bool) -> int:
    """Return the exit code of a command. The library writes wrong usage to stderr itself, in words for people."""
    try:
        code = app(standalone_mode=not as_json)
    except SystemExit as end:
        code = end.code
    except typer.TyperException as error:
        raise UsageError(error.format_message()) from error
    except typer.Abort:
        raise UsageError("the input ended") from None
    if code is None or isinstance(code, int):
        return code or 0
    return EXIT_FAILED


def _failed(error: CliError | EmbeddedError, *, as_json: bool) -> int:
    from keyforge.runtime.logs import redact  # late: it is needed for an error alone

    found = _described(error)
    found["message"] = redact(str(found["message"]))
    line = json.dumps(found) if as_json else f"keyforge: {visible(redact(str(error)))}"
    sys.stderr.write(f"{line}\n")
    return exit_code(error)


def _described(error: CliError | EmbeddedError) -> dict[str, str | int]:
    if isinstance(error, RefusedError):
        return {"type": error.type, "message": error.args[0], "status": error.status}
    if isinstance(error, CliError):
        return {"type": error.type, "message": str(error)}
    return {"type": next(name for kind, name in TYPES if isinstance(error, kind)), "message": str(error)}
