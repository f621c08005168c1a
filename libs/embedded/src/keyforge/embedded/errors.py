"""What the command line can end with other than success, each as one line and an exit code.

CliError
├── UpError          1  the stack cannot start or go on: a port, the home, a binary, a service that is not well
│   └── WrongLogError 2 the log was made with other secrets, partitions or a newer format; nothing was changed
├── RefusedError     1  an API answered with an error
├── UsageError       2  the arguments or the input make no sense
└── UnreachableError 3  nobody answers, or nobody says where to ask
"""

from typing import ClassVar


class CliError(Exception):
    """One clear line for the operator."""

    exit_code: ClassVar[int] = 1


class UpError(CliError):
    """The stack cannot start, or cannot go on."""


class WrongLogError(UpError):
    """The log that is there was made with something else. Nothing was changed."""

    exit_code = 2


class RefusedError(CliError):
    """An API refused. `type` is of the catalogue of errors."""

    def __init__(self, message: str, *, type_: str, status: int) -> None:
        super().__init__(message)
        self.type = type_
        self.status = status

    def __str__(self) -> str:
        return f"{self.type}: {self.args[0]}"


class UsageError(CliError):
    """The arguments or the input make no sense."""

    exit_code = 2


class UnreachableError(CliError):
    """A service does not answer, or it is not known where it is."""

    exit_code = 3
