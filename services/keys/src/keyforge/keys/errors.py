"""What can go wrong in keys beside refusals, which are values (`Problem`).

KeysError
├── LaneFailed         a ctl subject cannot be followed any more: the service must end
└── SettingsError      the settings cannot be worked with; one line says why
"""


class KeysError(Exception):
    """The root of what keys raises."""


class LaneFailed(KeysError):
    """A lane ended: its log shrank, closed, or could not be folded."""


class SettingsError(KeysError):
    """A setting is missing or wrong. The text never holds the value."""
