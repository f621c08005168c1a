"""What connects a process to NATS: as its own user, with its own inbox, for ever."""

from contextlib import suppress
from typing import Any, Final, NamedTuple

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from keyforge.contracts.subjects import inbox_prefix
from keyforge.eventlog.nats.client import Link
from keyforge.eventlog.nats.connection import LinkBounds
from keyforge.runtime import logs
from keyforge.runtime.settings import ServiceSettings

CONNECT_TIMEOUT_S: Final = 2
RECONNECT_WAIT_S: Final = 0.25
PING_INTERVAL_S: Final = 5
PINGS_OUTSTANDING_MAX: Final = 2
PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait to be sent while the connection is away; beyond it a publish fails."""


class Bus(NamedTuple):
    """Two connections: `link` for the log and for reserves, which are hot, nats-py's `client` for all else."""

    client: Client
    link: Link

    @property
    def is_connected(self) -> bool:
        """Whether both are."""
        return self.link.is_connected and self.client.is_connected

    async def close(self) -> None:
        """Send what was said and close both."""
        await self.link.close()
        with suppress(NatsError, OSError, TimeoutError):
            await self.client.close()


async def connect(settings: ServiceSettings, *, name: str = "") -> Bus:
    """Connect as `settings.nats_user`. Waits for a server that is not there yet; raises LinkRefused."""
    name = name or settings.instance
    link = await _link(settings, name)  # first: it says clearly what is wrong
    return Bus(await _client(settings, name), link)


async def _link(settings: ServiceSettings, name: str) -> Link:
    log = logs.get("bus")
    made = Link(
        settings.nats_url.split(","),
        user=settings.nats_user,
        password=settings.nats_password.get_secret_value(),
        name=name,
        inbox_prefix=inbox_prefix(settings.nats_user),
        bounds=LinkBounds(
            connect_s=CONNECT_TIMEOUT_S,
            pause_s=RECONNECT_WAIT_S,
            knock_s=PING_INTERVAL_S,
            knocks_max=PINGS_OUTSTANDING_MAX,
            waiting_bytes_max=PENDING_BYTES_MAX,
        ),
        tell=lambda text: log.warning("link", text=text),
    )
    await made.open()
    return made


async def _client(settings: ServiceSettings, name: str) -> Client:
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
        name=name,
        error_cb=on_error,
        disconnected_cb=on_lost,
        reconnected_cb=on_back,
        connect_timeout=CONNECT_TIMEOUT_S,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT_S,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=PINGS_OUTSTANDING_MAX,
        pending_size=PENDING_BYTES_MAX,
        inbox_prefix=inbox_prefix(settings.nats_user).encode(),
        **options,
    )
