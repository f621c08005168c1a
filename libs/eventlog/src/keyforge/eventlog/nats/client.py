"""A NATS client for the hot paths: appends, requests, replies, readers. It reconnects until it is closed.

A message is handed to its subscriber in the turn of the loop that read it, and passed to the transport in the turn that
publishes it. Nothing is buffered over a reconnect: while disconnected, publishing fails, since a frame that is sent
later would be stored long after its caller gave up. Requests that wait when the connection breaks fail. Subscriptions
are renewed. Why this and not nats-py, which the rest of the system uses: docs/adr/0015-a-nats-client-of-our-own.md.
"""

import asyncio
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from keyforge.eventlog.nats import protocol
from keyforge.eventlog.nats.connection import ClientBounds, Connection, Server, connect
from keyforge.eventlog.nats.errors import (
    AccessRefused,
    BufferFull,
    ClientClosed,
    Disconnected,
    NatsClientError,
    ReplyTimeout,
    TlsRefused,
)
from keyforge.eventlog.nats.pending_replies import PendingReplies
from keyforge.eventlog.nats.protocol import Delivery, Info

_INBOX_BYTES: Final = 16
"""128 random bits: no other client can guess an inbox."""


class Subscription:
    """Receives the messages of one subject until `unsubscribe`."""

    __slots__ = ("_client", "deliver", "sid", "subject")

    def __init__(self, client: "NatsClient", sid: int, subject: str, deliver: Callable[[Delivery], None]) -> None:
        self.sid = sid
        self.subject = subject
        self.deliver = deliver
        self._client = client

    def unsubscribe(self) -> None:
        """Receive nothing any more. Calling it again does nothing."""
        self._client.unsubscribe(self)


class NatsClient:
    """See the module; its errors: `nats.errors`. `reconnects` counts how often it reconnected."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        user: str = "",
        password: str = "",
        name: str = "",
        inbox_prefix: str = "_INBOX",
        reconnect: bool = True,
        bounds: ClientBounds | None = None,
        report: Callable[[str], None] = lambda _text: None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is connected before `open`. Raises ValueError for an address that is not one.

        `report` takes what an operator should know; without `reconnect` it is closed once the connection is lost;
        `context` is for TLS.
        """
        self.reconnects = 0
        self._servers = [Server.parse(url.strip(), user=user, password=password) for url in urls]
        self._name = name
        self._inbox_prefix = inbox_prefix
        self._reconnect = reconnect
        self._bounds = bounds or ClientBounds()
        self._report = report
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._closed = False
        self._connected = asyncio.Event()
        self._maintaining: asyncio.Task[None] | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._sids = 0
        inbox = self.new_inbox()
        self._replies = PendingReplies(inbox)
        self.subscribe(f"{inbox}.*", self._replies.resolve)

    @property
    def is_connected(self) -> bool:
        """Whether a message that is published now is sent now."""
        return self._connection is not None

    @property
    def server(self) -> Info | None:
        """What the server that it is connected to states about itself; None while it is not connected."""
        return None if self._connection is None else self._connection.info.result()

    @property
    def is_closed(self) -> bool:
        """Whether it will never be connected again."""
        return self._closed

    async def open(self, *, within_s: float | None = None) -> None:
        """Connect to any of the servers; wait for one that does not run yet, for `within_s` or without a bound.

        Raises AccessRefused and TlsRefused, if no other server can be connected to (only here: a wrong password shows
        at the start), Disconnected after `within_s`, ClientClosed.
        """
        try:
            async with asyncio.timeout(within_s):
                connection = await self._connect(first=True)
        except TimeoutError as late:
            raise Disconnected(f"no server at {', '.join(map(str, self._servers))} within {within_s} s") from late
        if self._closed:
            connection.drop("closed")
            raise ClientClosed("closed while it was opened")
        self._use(connection)
        self._maintaining = self._loop.create_task(self._maintain())
        self._maintaining.add_done_callback(self._ended)

    async def wait_connected(self, *, within_s: float) -> None:
        """Wait until it is connected. Raises Disconnected."""
        try:
            async with asyncio.timeout(within_s):
                await self._connected.wait()
        except TimeoutError as late:
            raise Disconnected(f"not connected within {within_s} s") from late
        if self._closed:
            raise ClientClosed("closed")

    def new_inbox(self) -> str:
        """Return a new random subject; what is below it can be received by our user alone."""
        return f"{self._inbox_prefix}.{secrets.token_urlsafe(_INBOX_BYTES)}"

    def subscribe(self, subject: str, deliver: Callable[[Delivery], None]) -> Subscription:
        """Hand every message to `deliver`, also after a reconnect. The server knows of it once `flush` returns."""
        self._sids += 1
        line = protocol.subscribe(subject, self._sids)
        subscription = self._subscriptions[self._sids] = Subscription(self, self._sids, subject, deliver)
        self._send_if_connected(line)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """See `Subscription.unsubscribe`."""
        if self._subscriptions.pop(subscription.sid, None) is not None:
            self._send_if_connected(protocol.unsubscribe(subscription.sid))

    async def drain(self, subscription: Subscription, *, within_s: float) -> None:
        """End a subscription, and hand over what the server had sent until it knew of that.

        Raises as `flush`; the subscription has ended all the same.
        """
        try:
            if subscription.sid in self._subscriptions:
                self._send_if_connected(protocol.unsubscribe(subscription.sid))
                await self.flush(within_s=within_s)
        finally:
            self.unsubscribe(subscription)

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Publish one message. Raises Disconnected, BufferFull, BadSubject, TooLarge: then nothing was sent."""
        connection = self._require_connection()
        connection.send(protocol.publish(subject, payload, reply, headers, bytes_max=connection.max_payload))

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        """Publish one message and return the first reply.

        Raises as `publish`; NoResponders, ReplyTimeout, ConnectionLost.
        """
        reply = self._replies.next_subject()
        self.publish(subject, payload, reply, headers)
        return await self._replies.wait(reply, subject, timeout_s)

    async def flush(self, *, within_s: float) -> None:
        """Return once the server has read everything sent before.

        Raises Disconnected, BufferFull, ConnectionLost, ReplyTimeout.
        """
        connection = self._require_connection()
        try:
            async with asyncio.timeout(within_s):
                await connection.round_trip()
        except TimeoutError as late:
            raise ReplyTimeout(f"no pong within {within_s} s") from late

    def drop(self, why: str) -> None:
        """End the connection, whatever its state, and make another."""
        if self._connection is not None:
            self._connection.drop(why)

    async def close(self) -> None:
        """Send what waits, then disconnect for good. Pending requests end in ConnectionLost. May be called twice."""
        self._closed = True
        if self._maintaining is not None:
            self._maintaining.cancel()
            await asyncio.gather(self._maintaining, return_exceptions=True)
        connection = self._connection
        self._disconnected("closed")
        self._connected.set()
        if connection is not None:
            connection.close()
            await asyncio.wait({connection.lost}, timeout=self._bounds.close_s)
            connection.drop("closed")

    async def _maintain(self) -> None:
        while (connection := self._connection) is not None:
            while not connection.lost.done():
                await asyncio.wait({connection.lost}, timeout=self._bounds.ping_interval_s)
                if connection.silent >= self._bounds.pings_outstanding_max:
                    connection.drop("the server is silent")
                    await connection.lost
                elif not connection.lost.done():
                    connection.ping()
            self._disconnected(connection.why)
            self._report(f"connection lost: {connection.why}")
            if not self._reconnect:
                return
            self._use(await self._connect())
            self.reconnects += 1
            self._report("reconnected")

    def _ended(self, maintaining: "asyncio.Task[None]") -> None:
        """Close: without the task that reconnects, a caller that waits for a connection would wait without end."""
        self._closed = True
        fault = None if maintaining.cancelled() else maintaining.exception()
        if fault is not None:
            self.drop(str(fault))
            self._disconnected(str(fault))
        self._connected.set()
        if fault is not None:
            self._report(f"connection given up: {fault!r}")

    def _require_connection(self) -> Connection:
        if self._connection is None:
            raise ClientClosed("closed") if self._closed else Disconnected("not connected")
        return self._connection

    def _send_if_connected(self, line: bytes) -> None:
        """Send what every reconnect sends again."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.send(line)
        except Disconnected:
            return
        except BufferFull as fault:
            connection.drop(str(fault))

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        for subscription in self._subscriptions.values():
            self._send_if_connected(protocol.subscribe(subscription.subject, subscription.sid))
        self._connected.set()

    def _disconnected(self, why: str) -> None:
        self._connection = None
        self._connected.clear()
        self._replies.fail(why)

    async def _connect(self, *, first: bool = False) -> Connection:
        """Return a connection to any of the servers. Raises AccessRefused, TlsRefused, only the `first` time."""
        bounds, random, attempts = self._bounds, secrets.SystemRandom(), 0
        while True:
            refused: AccessRefused | TlsRefused | None = None
            away: list[str] = []
            for server in random.sample(self._servers, len(self._servers)):
                if attempts:
                    await asyncio.sleep(bounds.reconnect_pause_s * (1 + random.random() / 2))
                attempts += 1
                try:
                    return await connect(
                        server, self._create, name=self._name, context=self._context, connect_s=bounds.connect_s
                    )
                except (AccessRefused, TlsRefused) as fault:
                    refused = fault
                    if not first:
                        self._report(f"{server} refuses access: {fault}")
                except (NatsClientError, OSError, TimeoutError) as fault:
                    away.append(f"{server} ({type(fault).__name__})")
            if first and refused is not None:
                raise refused
            if first and attempts == len(self._servers):
                self._report(f"waiting for a server: {', '.join(sorted(away))}")

    def _create(self) -> Connection:
        return Connection(self._deliver, self._report, self._bounds.pending_bytes_max)

    def _deliver(self, delivery: Delivery) -> None:
        subscription = self._subscriptions.get(delivery.sid)
        if subscription is None:
            return
        try:
            subscription.deliver(delivery)
        except Exception as fault:  # noqa: BLE001 - a subscriber that fails must not end the connection of all others
            self._report(f"{type(fault).__name__} in the subscriber of {subscription.subject}: {fault}")
