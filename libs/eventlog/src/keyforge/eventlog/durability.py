"""Refuses a log that acknowledges messages before they are on disk.

By default nats-server acknowledges at once and syncs to disk up to two minutes later: a power cut then loses every
frame that was acknowledged in between. Only `sync_interval: always` is durable. The JetStream API does not show the
setting, the monitoring page `/varz` does.

A frame is acknowledged once a majority of a stream's replicas have it, so a majority must sync: more than half of the
servers say so, and none says otherwise. One that does not answer, as it is away or starts, is asked again; what it says
then counts like the rest, also where a service serves already (ADR 28). A server counts once: two addresses of one are
a wrong setting, since a majority of addresses would be none of servers.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from keyforge.eventlog import varz
from keyforge.eventlog.log import EventLogError

START_PAUSE_S: Final = 0.5
"""Before servers that did not answer are asked again while a service waits to start. Chosen: a server starts within
1 s."""
WATCH_PAUSE_S: Final = 10.0
"""Before they are asked again by a service that serves. Chosen: a node is away for a minute or more; halved, it costs
twice as much to learn nothing, doubled, a node that does not sync takes part for longer unnoticed."""


_logger = logging.getLogger("keyforge.eventlog.durability")


class NotDurable(EventLogError):
    """A server does not sync before it acknowledges; the text names it and what to do."""


class _Unknown(Exception):
    """A server does not say whether it syncs; the text is why."""


class _Server(NamedTuple):
    """A server that answered: its name, and why it is not durable; empty if it is."""

    name: str
    wrong: str


class Durability:
    """What the servers of a log say, each asked by its monitoring URL, since each has its own configuration file.

    `wrong` is what one of them says otherwise: empty, and once it is not, so for good.
    """

    def __init__(self, monitor_urls: Sequence[str], report: Callable[[str], None] = _logger.warning) -> None:
        """`report` takes one line for what is waited for. Raises NotDurable without a URL, as unknown is not durable,
        and for one that is named twice."""
        if not monitor_urls:
            raise NotDurable("KEYFORGE_NATS_MONITOR_URL is not set, so it is unknown whether nats-server syncs to disk")
        urls = [url.rstrip("/") for url in monitor_urls]
        if twice := [url for url in dict.fromkeys(urls) if urls.count(url) > 1]:
            raise NotDurable(f"KEYFORGE_NATS_MONITOR_URL names {', '.join(twice)} more than once: each server once")
        self.wrong = ""
        self._named: dict[str, str] = {}
        """The address of each server that has answered, by its name."""
        self._count = len(monitor_urls)
        self._unknown = dict.fromkeys(monitor_urls, "")
        self._report = report
        self._watching: asyncio.Task[None] | None = None

    async def established(self) -> None:
        """Ask until a majority syncs. Raises NotDurable as soon as any server says otherwise."""
        reported = False
        while True:
            await self._ask()
            if self.wrong:
                raise NotDurable(f"{self.wrong}; KEYFORGE_DURABILITY=relaxed accepts that")
            if 2 * len(self._unknown) < self._count:
                break
            if not reported:
                self._report(f"waiting for nats-server: {self._why()}")
                reported = True
            await asyncio.sleep(START_PAUSE_S)
        if self._unknown:
            self._report(f"a majority of servers syncs to disk; {self._why()}: asked again every {WATCH_PAUSE_S:g} s")

    def watch(self) -> None:
        """Go on asking those that have not answered, until all have or `close` is called."""
        if self._unknown:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Ask nobody any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        while self._unknown and not self.wrong:
            await asyncio.sleep(WATCH_PAUSE_S)
            try:
                await self._ask()
            except Exception:  # nobody awaits this task: a fault would end it unseen
                _logger.exception("servers could not be asked whether they sync to disk")
        if self.wrong:
            _logger.critical("%s: this service is not ready until it was started again without that", self.wrong)

    async def _ask(self) -> None:
        """Ask those that have not answered, all at once."""
        urls = list(self._unknown)
        for url, found in zip(
            urls, await asyncio.gather(*(asyncio.to_thread(_found, url) for url in urls)), strict=True
        ):
            if isinstance(found, _Unknown):
                self._unknown[url] = str(found)
            else:
                del self._unknown[url]
                self.wrong = self.wrong or found.wrong or self._same(url, found.name)

    def _same(self, url: str, name: str) -> str:
        """Return why a server is another address's as well; empty if it is not. Names are unique in a cluster."""
        other = self._named.setdefault(name, url) if name else url
        return "" if other == url else f"KEYFORGE_NATS_MONITOR_URL: {other} and {url} are one nats-server, {name}"

    def _why(self) -> str:
        return "; ".join(f"{url}/varz {why}" for url, why in self._unknown.items())


def _found(url: str) -> "_Server | _Unknown":
    """Return what the server at `url` says, or why it is unknown."""
    try:
        page = varz.read(url)
    except varz.UNREADABLE as fault:
        return _Unknown(f"cannot be read ({type(fault).__name__})")
    if page.jetstream.config is None:  # a server that starts shows its pages first
        return _Unknown(f"shows no JetStream on {page.server_name}")
    if not page.jetstream.config.sync_always:
        wrong = f"nats-server {page.server_name} at {url} runs without `jetstream {{ sync_interval: always }}`"
        return _Server(page.server_name, wrong)
    return _Server(page.server_name, "")
