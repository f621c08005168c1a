"""Connects a process to NATS: as its own user, with its own inbox, and again whenever a connection is lost."""

from contextlib import suppress
from typing import Any, Final, NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError

from keyforge.contracts.subjects import inbox_prefix
from keyforge.eventlog.durability import Durability
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import ClientBounds
from keyforge.eventlog.nats.errors import AccessRefused, TlsRefused
from keyforge.eventlog.nats.protocol import Info
from keyforge.runtime import logs
from keyforge.runtime.settings import ServiceSettings

CONNECT_TIMEOUT_S: Final = 2
RECONNECT_WAIT_S: Final = 0.25
PING_INTERVAL_S: Final = 5
PINGS_OUTSTANDING_MAX: Final = 2
PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""For both connections, as `ClientBounds` explains them."""


class Bus(NamedTuple):
    """Two connections: `nats` is our client, for the log and for reserves; `nats_py` is for buckets and the rest."""

    nats_py: Client
    nats: NatsClient
    durability: Durability | None = None
    """What the servers say of it; None where that is of no interest."""

    @property
    def is_durable(self) -> bool:
        """Whether a majority of servers is known to sync to disk before it acknowledges, and none not to; or that is of
        no interest."""
        return self.durability is None or self.durability.holds

    def servers(self) -> list[Info]:
        """Return what the servers that we are connected to now state about themselves."""
        found = [] if self.nats.server is None else [self.nats.server]
        if self.nats_py.is_connected:
            stated = self.nats_py._server_info  # noqa: SLF001 - it is nowhere else
            server_id, name, cluster = (str(stated.get(each, "")) for each in ("server_id", "server_name", "cluster"))
            found.append(Info(server_id=server_id, server_name=name, cluster=cluster))
        return found

    @property
    def is_connected(self) -> bool:
        """Whether both are."""
        return self.nats.is_connected and self.nats_py.is_connected

    async def close(self) -> None:
        """Send what waits and close both."""
        if self.durability is not None:
            await self.durability.close()
        await self.nats.close()
        with suppress(NatsError, OSError, TimeoutError):
            await self.nats_py.close()


async def connect(settings: ServiceSettings, *, name: str = "") -> Bus:
    """Connect as `settings.nats_user`. Waits for a server that does not run yet; raises AccessRefused, TlsRefused."""
    name = name or settings.instance
    client = await _client(settings, name)  # first: its errors say clearly what is wrong
    return Bus(await _nats_py(settings, name), client)


async def _client(settings: ServiceSettings, name: str) -> NatsClient:
    logger = logs.get("bus")
    client = NatsClient(
        settings.nats_url.split(","),
        user=settings.nats_user,
        password=settings.nats_password.get_secret_value(),
        name=name,
        inbox_prefix=inbox_prefix(settings.nats_user),
        bounds=ClientBounds(
            connect_s=CONNECT_TIMEOUT_S,
            reconnect_pause_s=RECONNECT_WAIT_S,
            ping_interval_s=PING_INTERVAL_S,
            pings_outstanding_max=PINGS_OUTSTANDING_MAX,
            pending_bytes_max=PENDING_BYTES_MAX,
        ),
        report=lambda text: logger.warning("nats client", text=text),
    )
    try:
        await client.open()
    except AccessRefused as refused:
        who = settings.nats_user or "without a name"
        raise AccessRefused(
            f"KEYFORGE_NATS_USER, KEYFORGE_NATS_PASSWORD: the log refuses user {who}: {refused}"
        ) from None
    except TlsRefused as refused:
        raise TlsRefused(f"KEYFORGE_NATS_URL, SSL_CERT_FILE: no TLS with nats-server: {refused}") from None
    return client


async def _nats_py(settings: ServiceSettings, name: str) -> Client:
    logger = logs.get("bus")
    client = Client()

    async def on_error(error: Exception) -> None:
        logger.warning("nats error", error=str(error) or type(error).__name__)

    async def on_disconnected() -> None:
        if not client.is_closed:
            logger.warning("nats connection lost")

    async def on_reconnected() -> None:
        logger.info("nats reconnected")

    options: dict[str, Any] = {"reconnect_time_wait": RECONNECT_WAIT_S}  # declared as whole seconds, used as seconds
    if settings.nats_user:
        options |= {"user": settings.nats_user, "password": settings.nats_password.get_secret_value()}
    await client.connect(
        servers=[server.strip() for server in settings.nats_url.split(",")],
        name=name,
        error_cb=on_error,
        disconnected_cb=on_disconnected,
        reconnected_cb=on_reconnected,
        connect_timeout=CONNECT_TIMEOUT_S,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=PINGS_OUTSTANDING_MAX,
        pending_size=PENDING_BYTES_MAX,
        inbox_prefix=inbox_prefix(settings.nats_user).encode(),
        **options,
    )
    return client
