"""What the client raises: all of it an `EventLogError`. The tree answers one question: was the message sent?

    NatsClientError
    ├── Disconnected      not connected: nothing was sent
    │   └── ClientClosed  and it never will be: we closed the client
    ├── BufferFull        too many bytes wait to be sent: nothing was sent
    ├── NoResponders      the server has no subscriber for it (its 503): nothing processed it
    ├── ReplyTimeout      no reply in time: it may have been processed
    ├── ConnectionLost    the connection broke before the reply: it may have been processed
    ├── AccessRefused     the server does not accept our user or password
    └── TlsRefused        no TLS with the server: its certificate is not one that we trust, or it speaks none

A message that cannot be sent at all is a ValueError: `protocol.BadSubject`, `protocol.TooLarge`.
"""

from keyforge.eventlog.log import EventLogError


class NatsClientError(EventLogError):
    """The root of them."""


class Disconnected(NatsClientError):
    """Not connected: nothing was sent."""


class ClientClosed(Disconnected):
    """Closed by us: it does not reconnect."""


class BufferFull(NatsClientError):
    """Too many bytes wait to be sent: nothing was sent."""


class NoResponders(NatsClientError):
    """No subscriber and no stream takes the subject: nothing processed the message."""


class ReplyTimeout(NatsClientError):
    """No reply in time: the message may have been processed."""


class ConnectionLost(NatsClientError):
    """The connection broke before the reply: the message may have been processed."""


class AccessRefused(NatsClientError):
    """The server does not accept our user or password."""


class TlsRefused(NatsClientError):
    """The server's certificate is not one that we trust, or it speaks no TLS where we require it."""
