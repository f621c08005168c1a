"""A connection to NATS for what is hot: frames, asks, answers, readers. It comes back for ever until it is closed.

What arrives is handed to its subscriber in the turn of the loop that read it, what is said to the transport at once.
Nothing is kept for later: while the connection is away, saying something fails, since a frame that is sent when it is
back would be stored long after its caller gave up. Asks that wait when it breaks fail. Subscriptions come back.
Why this and not nats-py, which the rest of the system uses: docs/adr/0015-a-link-of-our-own.md.
"""

import asyncio
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from keyforge.eventlog.nats import protocol
from keyforge.eventlog.nats.connection import Line, LinkBounds, Server, dial
from keyforge.eventlog.nats.errors import (
    AnswerLate,
    LinkClosed,
    LinkDown,
    LinkError,
    LinkFull,
    LinkLost,
    LinkRefused,
    NobodyListens,
)
from keyforge.eventlog.nats.protocol import Delivery

_NO_RESPONDERS: Final = "503"
_INBOX_BYTES: Final = 16


class Subscription:
    """Hears one subject until `end`."""

    __slots__ = ("_link", "hear", "sid", "subject")

    def __init__(self, link: "Link", sid: int, subject: str, hear: Callable[[Delivery], None]) -> None:
        self.sid = sid
        self.subject = subject
        self.hear = hear
        self._link = link

    def end(self) -> None:
        """Hear nothing any more; may be said twice."""
        self._link.unsubscribe(self)


class Link:
    """See the module; its errors: `linkerrors`. `comebacks` counts how often it was lost and came back."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        user: str = "",
        password: str = "",
        name: str = "",
        inbox_prefix: str = "_INBOX",
        returns: bool = True,
        bounds: LinkBounds | None = None,
        tell: Callable[[str], None] = lambda _text: None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is dialled before `open`. Raises ValueError for an address that is none.

        `tell` hears what an operator should; not `returns`: once lost it is closed; `context` is for TLS.
        """
        self.comebacks = 0
        self._servers = [Server.parse(url.strip(), user=user, password=password) for url in urls]
        self._name = name
        self._inbox_prefix = inbox_prefix
        self._returns = returns
        self._bounds = bounds or LinkBounds()
        self._tell = tell
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._line: Line | None = None
        self._closed = False
        self._up = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._sids = 0
        self._asked = 0
        self._waiting: dict[str, asyncio.Future[Delivery | None]] = {}
        self._inbox = self.new_inbox()
        self.subscribe(f"{self._inbox}.*", self._answered)

    @property
    def is_connected(self) -> bool:
        """Whether what is said now is sent now."""
        return self._line is not None

    @property
    def is_closed(self) -> bool:
        """Whether it will never be connected again."""
        return self._closed

    async def open(self, *, within_s: float | None = None) -> None:
        """Connect, waiting for a server that is not there yet, for `within_s` or for ever.

        Raises LinkRefused: a wrong password shows at the start; LinkDown after `within_s`; LinkClosed.
        """
        try:
            async with asyncio.timeout(within_s):
                line = await self._dial(first=True)
        except TimeoutError as late:
            raise LinkDown(f"no server at {', '.join(map(str, self._servers))} within {within_s} s") from late
        if self._closed:
            line.drop("closed")
            raise LinkClosed("closed while it was opened")
        self._take(line)
        self._keeping = self._loop.create_task(self._keep())
        self._keeping.add_done_callback(self._kept)

    async def up(self, *, within_s: float) -> None:
        """Wait until it is connected. Raises LinkDown."""
        try:
            async with asyncio.timeout(within_s):
                await self._up.wait()
        except TimeoutError as late:
            raise LinkDown(f"not connected within {within_s} s") from late
        if self._closed:
            raise LinkClosed("closed")

    def new_inbox(self) -> str:
        """A subject that nobody else knows; what is below it reaches this user alone."""
        return f"{self._inbox_prefix}.{secrets.token_urlsafe(_INBOX_BYTES)}"

    def subscribe(self, subject: str, hear: Callable[[Delivery], None]) -> Subscription:
        """Hand every message to `hear`, now and after each comeback. The server knows once `heard` returns."""
        self._sids += 1
        line = protocol.subscribe(subject, self._sids)
        subscription = self._subscriptions[self._sids] = Subscription(self, self._sids, subject, hear)
        self._say(line)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """See `Subscription.end`."""
        if self._subscriptions.pop(subscription.sid, None) is not None:
            self._say(protocol.unsubscribe(subscription.sid))

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Say one message. Raises LinkDown, LinkFull, BadSubject, TooLarge: then nothing was sent."""
        line = self._connected()
        line.say(protocol.publish(subject, payload, reply, headers, bytes_max=line.max_payload))

    async def ask(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        """Say one message and return the first answer. Raises as `publish`; NobodyListens, AnswerLate, LinkLost."""
        self._asked += 1
        reply = f"{self._inbox}.{self._asked}"
        self.publish(subject, payload, reply, headers)
        answer: asyncio.Future[Delivery | None] = self._loop.create_future()
        self._waiting[reply] = answer
        timer = self._loop.call_later(timeout_s, _give_up, answer)
        try:
            delivery = await answer
        finally:
            timer.cancel()
            del self._waiting[reply]
        if delivery is None:
            raise AnswerLate(f"no answer from {subject} within {timeout_s} s")
        if delivery.head and delivery.status().startswith(_NO_RESPONDERS):
            raise NobodyListens(f"nobody listens to {subject}")
        return delivery

    async def heard(self, *, within_s: float) -> None:
        """Return when the server has read all that was said. Raises LinkDown, LinkFull, LinkLost, AnswerLate."""
        line = self._connected()
        try:
            async with asyncio.timeout(within_s):
                await line.ping()
        except TimeoutError as late:
            raise AnswerLate(f"no pong within {within_s} s") from late

    def drop(self, why: str) -> None:
        """End the connection, whatever it looks like, and make another."""
        if self._line is not None:
            self._line.drop(why)

    async def close(self) -> None:
        """Send what was said, then hang up for good. Asks that wait end in LinkLost. May be said twice."""
        self._closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        line = self._line
        self._lost("closed")
        self._up.set()
        if line is not None:
            line.close()
            await asyncio.wait({line.lost}, timeout=self._bounds.close_s)
            line.drop("closed")

    async def _keep(self) -> None:
        while (line := self._line) is not None:
            while not line.lost.done():
                await asyncio.wait({line.lost}, timeout=self._bounds.knock_s)
                if line.silent >= self._bounds.knocks_max:
                    line.drop("a server that says nothing")
                    await line.lost
                elif not line.lost.done():
                    line.knock()
            self._lost(line.why)
            self._tell(f"connection lost: {line.why}")
            if not self._returns:
                return
            self._take(await self._dial())
            self.comebacks += 1
            self._tell("connection is back")

    def _kept(self, keeping: "asyncio.Task[None]") -> None:
        """Nobody keeps it any more: to go on as if it might come back would be waiting for ever."""
        self._closed = True
        fault = None if keeping.cancelled() else keeping.exception()
        if fault is not None:
            self.drop(str(fault))
            self._lost(str(fault))
        self._up.set()
        if fault is not None:
            self._tell(f"connection given up: {fault!r}")

    def _connected(self) -> Line:
        if self._line is None:
            raise LinkClosed("closed") if self._closed else LinkDown("not connected")
        return self._line

    def _say(self, line: bytes) -> None:
        """Say what is said again at every comeback."""
        connected = self._line
        if connected is None:
            return
        try:
            connected.say(line)
        except LinkDown:
            return
        except LinkFull as fault:
            connected.drop(str(fault))

    def _take(self, line: Line) -> None:
        self._line = line
        for subscription in self._subscriptions.values():
            self._say(protocol.subscribe(subscription.subject, subscription.sid))
        self._up.set()

    def _lost(self, why: str) -> None:
        self._line = None
        self._up.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkLost(why))

    async def _dial(self, *, first: bool = False) -> Line:
        """The next line, of any server. Raises LinkRefused the first time alone."""
        bounds, random = self._bounds, secrets.SystemRandom()
        while True:
            for server in random.sample(self._servers, len(self._servers)):
                try:
                    return await dial(
                        server, self._new_line, name=self._name, context=self._context, connect_s=bounds.connect_s
                    )
                except (LinkError, OSError, TimeoutError) as fault:
                    if first and isinstance(fault, LinkRefused):
                        raise
                await asyncio.sleep(bounds.pause_s * (1 + random.random() / 2))

    def _new_line(self) -> Line:
        return Line(self._hear, self._tell, self._bounds.waiting_bytes_max)

    def _hear(self, delivery: Delivery) -> None:
        subscription = self._subscriptions.get(delivery.sid)
        if subscription is None:
            return
        try:
            subscription.hear(delivery)
        except Exception as fault:  # noqa: BLE001 - one that fails to hear must not end the line for all others
            self._tell(f"{type(fault).__name__} while hearing {subscription.subject}: {fault}")

    def _answered(self, delivery: Delivery) -> None:
        answer = self._waiting.get(delivery.subject)
        if answer is not None and not answer.done():  # else too late, or a second one
            answer.set_result(delivery)


def _give_up(answer: "asyncio.Future[Delivery | None]") -> None:
    if not answer.done():
        answer.set_result(None)
