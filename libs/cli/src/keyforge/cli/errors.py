"""What a command can end with other than success, each as one line and an exit code.

CliError
├── AnswerLostError  1  answer_lost    a change was sent, and no answer says whether it was made
├── FailedError      1  failed         the command was carried out, and its result is a failure
├── OutputError      1  output_failed  standard output cannot be written
├── RefusedError     1                 an API answered with an error, which has the type
├── UsageError       2  usage          an argument, a variable or the input cannot be used
└── UnreachableError 3  unreachable    no service answers, or its address is not known

Errors of the embedded stack (`keyforge.embedded.errors`) end with 2 where it cannot start, with 1 once it ran.
"""

from typing import ClassVar, Final

from keyforge.embedded.errors import EmbeddedError, StackEndedError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CANNOT_START: Final = 2
"""As `runtime.start`."""
EXIT_UNREACHABLE: Final = 3


class CliError(Exception):
    """One clear line for the operator."""

    exit_code: ClassVar[int] = EXIT_FAILED
    type: str = "failed"
    """Stable, for programs."""


class AnswerLostError(CliError):
    """A change was sent, and no answer came, or one that is not the service's: it may have been made or not, so a
    program must not just repeat it."""

    type = "answer_lost"


class FailedError(CliError):
    """The command was carried out, and its result is a failure."""


class OutputError(CliError):
    """Standard output cannot be written: it is closed, or its disk is full."""

    type = "output_failed"


class RefusedError(CliError):
    """An API answered with an error. `type` is of the catalogue of errors."""

    def __init__(self, message: str, *, type_: str, status: int) -> None:
        super().__init__(message)
        self.type = type_
        self.status = status

    def __str__(self) -> str:
        return f"{self.type}: {self.args[0]}"


class UsageError(CliError):
    """An argument, a variable or the input cannot be used."""

    exit_code = EXIT_USAGE
    type = "usage"


class UnreachableError(CliError):
    """A service does not answer, or its address is not known."""

    exit_code = EXIT_UNREACHABLE
    type = "unreachable"


def exit_code(error: CliError | EmbeddedError) -> int:
    """Return the exit code that an error ends the command with."""
    if isinstance(error, CliError):
        return error.exit_code
    return EXIT_FAILED if isinstance(error, StackEndedError) else EXIT_CANNOT_START
