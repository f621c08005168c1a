"""What a link raises: all of it an `EventLogError`.

    LinkError
    ├── LinkDown          not connected: nothing was sent
    │   └── LinkClosed    and never will be: closed by us
    ├── LinkFull          too much waits to be sent: nothing was sent
    ├── NobodyListens     nobody was there to take it (the server's 503)
    ├── AnswerLate        no answer in time: it may have been taken
    ├── LinkLost          the connection broke before the answer: it may have been taken
    └── LinkRefused       the server does not let us in

A message that could not be one is a ValueError: `wire.BadSubject`, `wire.TooLarge`.
"""

from keyforge.eventlog.log import EventLogError


class LinkError(EventLogError):
    """The root of them."""


class LinkDown(LinkError):
    """Not connected: nothing was sent."""


class LinkClosed(LinkDown):
    """Closed by us: it does not come back."""


class LinkFull(LinkError):
    """Too much waits to be sent: nothing was."""


class NobodyListens(LinkError):
    """Nobody subscribes to the subject, no stream takes it: it was taken by none."""


class AnswerLate(LinkError):
    """No answer in time: it may have been taken."""


class LinkLost(LinkError):
    """The connection broke before the answer: what was asked may have been done."""


class LinkRefused(LinkError):
    """The server does not let us in: a wrong user or password."""
