"""Why the embedded stack cannot start or go on, each as one line for the operator.

EmbeddedError
├── StackError         it cannot start: a port, the home, a binary, the log, a service that does not become healthy
├── StackEndedError    it ran, and cannot go on, or the end of a service failed
└── SettingError       a KEYFORGE_* variable whose value cannot be used
    └── WrongLogError  the log was made with other secrets or partitions, or by a newer version; nothing was changed
"""


class EmbeddedError(Exception):
    """The root of them: one clear line."""


class StackError(EmbeddedError):
    """The stack cannot start."""


class StackEndedError(EmbeddedError):
    """The stack ran, and cannot go on, or the end of one of its services failed."""


class SettingError(EmbeddedError):
    """A variable of the environment has a value that cannot be used; the text names it and what is allowed."""


class WrongLogError(SettingError):
    """The log was made with other secrets or partitions, or by a newer version. Nothing was changed."""
