"""One connection to NATS: as its own user, with its own inbox, for ever."""

from typing import Any, Final

import nats
from nats.aio.client import Client

from keyforge.runtime import logs
from keyforge.runtime.settings import ServiceSettings

CONNECT_TIMEOUT_S: Final = 2
RECONNECT_WAIT_S: Final = 0.25
PING_INTERVAL_S: Final = 5
PINGS_OUTSTANDING_MAX: Final = 2
PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait to be sent while the connection is away; beyond it a publish fails."""


async def heard(connection: Client, *, within_s: int = CONNECT_TIMEOUT_S) -> None:
    """Wait until the server has read all that was said on a connection. Raises nats.errors.Error.

    nats-py writes the ping of a flush at once, in front of what still waits to be written: a subscription, say. The
    pong to it comes turns of the loop later, when that is written as well; so a second ping is behind it.
    """
    await connection.flush(timeout=within_s)
    await connection.flush(timeout=within_s)


def inbox_prefix(user: str) -> str:
    """Return where replies to `user` arrive: its own, so that no other user may listen to them."""
    return f"_INBOX.{user}" if user else "_INBOX"


async def connect(settings: ServiceSettings, *, name: str = "", reconnects: bool = True) -> Client:
    """Connect as `settings.nats_user`. Waits for a server that is not there yet; raises on wrong credentials."""
    log = logs.get("bus")

    async def on_error(error: Exception) -> None:
        log.warning("bus error", error=str(error) or type(error).__name__)

    async def on_lost() -> None:
        log.warning("bus connection lost")

    async def on_back() -> None:
        log.info("bus connection is back")

    options: dict[str, Any] = {}
    if settings.nats_user:
        options = {"user": settings.nats_user, "password": settings.nats_password.get_secret_value()}
    return await nats.connect(
        servers=[server.strip() for server in settings.nats_url.split(",")],
        name=name or settings.instance,
        error_cb=on_error,
        disconnected_cb=on_lost,
        reconnected_cb=on_back,
        connect_timeout=CONNECT_TIMEOUT_S,
        allow_reconnect=reconnects,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT_S,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=PINGS_OUTSTANDING_MAX,
        pending_size=PENDING_BYTES_MAX,
        inbox_prefix=inbox_prefix(settings.nats_user).encode(),
        **options,
    )
