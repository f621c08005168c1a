"""Connects to ClickHouse, a server or the engine in this process, and lends clients from a small pool.

Blocking: call it from a thread. Readers and the writer do not wait for each other. Whatever a client raises becomes a
StoreError.
"""

import contextlib
import queue
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from keyforge.audit.errors import StoreError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DATABASE: Final = "keyforge"
WRITING_MAX: Final = 2
"""Clients that nobody but writers is lent. Chosen: 2, one for the writer of the current tables, one for
a rebuild's."""
CLIENTS_MAX: Final = 7
"""Clients for all others. Chosen: 2 for readers (`examination.READS_MAX`), 1 each for what is looked at between two
blocks, for the comparison of everything, for the places of what differs (`examination.PLACING_READS_MAX`), for the
publisher and for a rebuild: none waits for another."""
CONNECT_TIMEOUT_S: Final = 5
QUERY_TIMEOUT_S: Final = 60
"""Of a server, in seconds. Chosen: the slowest statement reads the heads of all chains, once at the start; a fifth of
the client's default (300 s), so that a server that hangs is noticed."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def server(url: str) -> Callable[[], "Client"]:
    """Return a function that connects to a ClickHouse server: http(s)://user:password@host:port/database."""
    parts = urlsplit(url)

    def connect() -> "Client":
        import clickhouse_connect

        return clickhouse_connect.get_client(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            secure=parts.scheme == "https",
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=QUERY_TIMEOUT_S,
            autogenerate_session_id=False,
        )

    return connect


def database_of(url: str) -> str:
    """Return the database that a URL names. Raises ValueError."""
    name = urlsplit(url).path.strip("/") or DATABASE
    if _IDENTIFIER.fullmatch(name) is None:
        raise ValueError("the path of the ClickHouse URL must be the name of a database")
    return name


def engine(path: str) -> Callable[[], "Client"]:
    """Return a function that connects to the engine in this process; the first connection starts it (1.5 s, 340 MB)."""

    def connect() -> "Client":
        import clickhouse_connect

        return clickhouse_connect.get_client(interface="chdb", path=path)

    return connect


class Clients:
    """The pool. `database` is the one that its clients use."""

    def __init__(self, connect: Callable[[], "Client"], database: str = DATABASE) -> None:
        self.database = database
        self._connect = connect
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._tickets = _tickets(CLIENTS_MAX)
        self._writing = _tickets(WRITING_MAX)

    def close(self) -> None:
        """Close the idle clients. The engine in this process ends with its last client."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    @contextlib.contextmanager
    def lend(self, *, database: bool = True, writing: bool = False) -> Iterator["Client"]:
        """Lend a client, to a writer one of its own. One that failed is closed, since its state is unknown.

        Raises StoreError.
        """
        tickets = self._writing if writing else self._tickets
        tickets.get()
        client: Client | None = None
        try:
            try:
                client = self._idle.get_nowait()
            except queue.Empty:
                client = self._connect()
            if database:
                client.database = self.database
            yield client
        except StoreError:
            raise
        except Exception as error:
            if client is not None:
                with contextlib.suppress(Exception):
                    client.close()
                client = None
            raise StoreError(f"{type(error).__name__}: {error}") from error
        finally:
            if client is not None:
                self._idle.put(client)
            tickets.put(None)


def _tickets(count: int) -> "queue.Queue[None]":
    found: queue.Queue[None] = queue.Queue()
    for _ in range(count):
        found.put(None)
    return found
