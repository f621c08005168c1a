"""What keys raises. Refusals are values (`Problem`), not exceptions.

KeysError
├── QueueFailed        a ctl subject cannot be followed any more: the service must end
└── SettingsError      a setting cannot be used; its text is one line for the operator
"""


class KeysError(Exception):
    """The root of what keys raises."""


class QueueFailed(KeysError):
    """A command queue ended: its log shrank, closed, or could not be folded."""


class SettingsError(KeysError):
    """A setting is missing or wrong. The text never holds the value."""
