"""Refuses a log that acknowledges messages before they are on disk.

By default nats-server acknowledges at once and syncs to disk up to two minutes later: a power cut then loses every
frame that was acknowledged in between. Only `sync_interval: always` is durable. The JetStream API does not show the
setting, the monitoring page `/varz` does.

A frame is acknowledged once a majority of a stream's replicas have it, so a majority must sync (ADR 28):

- more than half of the servers of the cluster, as many as it says that it has, and not of the addresses that a setting
  lists. A server counts once: two addresses of one are a wrong setting;
- of the cluster that this process is connected to: the server at the other end of a connection is one of those that
  answered, by its id, which no other server has and which is another after each start. Names do not do: a second
  cluster often has the same;
- now: all are asked every `WATCH_PAUSE_S` and after each reconnect, since a server that starts again may have another
  configuration; while it runs it takes no other (nats-server 2.15.1 refuses to reload `SyncAlways`). So what a server
  has said counts for as long as this process is connected to it, else for `ANSWER_S`.

None may say otherwise. One that does ends a start, and makes a service that serves unready for good. That it is unknown
holds up a start, and makes a service unready for as long as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple

from keyforge.contracts.urls import shown
from keyforge.eventlog import varz
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.nats.protocol import Info

START_PAUSE_S: Final = 0.5
"""Before servers are asked again while it is unknown whether a majority syncs, and between two looks at whom this
process is connected to. Chosen: a server starts within 1 s."""
WATCH_PAUSE_S: Final = 10.0
"""Before all are asked again by a service that serves. Chosen: a node is away for a minute or more; halved, it costs
twice as much to learn nothing, doubled, a node that does not sync takes part for longer unnoticed."""
ANSWER_S: Final = 600.0
"""How long an answer counts for a server that does not answer any more and that this process is not connected to.
Chosen: time for a person to mend what hides the monitors, which is said at once; halved, a rule of a firewall ends
services that have their log before anybody has read of it, doubled, a server may store for longer with a configuration
that nobody can see."""
REASONS_MAX: Final = 8
"""Different reasons to wait that are reported. Chosen: as many as for the log (`runtime.start.REASONS_MAX`)."""


_logger = logging.getLogger("keyforge.eventlog.durability")


class NotDurable(EventLogError):
    """A server does not sync before it acknowledges, or the setting cannot show it; the text says what to do."""


class _Unknown(Exception):
    """A server does not say whether it syncs; the text is why."""


class _Answer(NamedTuple):
    """What a server said, and when: how many servers its cluster has, and why it is not durable, empty if it is."""

    server_id: str
    name: str
    cluster: str
    size: int
    wrong: str
    at_s: float

    def is_of(self, servers: Sequence[Info]) -> bool:
        """Return whether it is one of these servers, or of the cluster of one."""
        return any(self.server_id == one.server_id or (self.cluster and self.cluster == one.cluster) for one in servers)


class Durability:
    """What the servers of a log say, each asked by its monitoring URL, since each has its own configuration file.

    `wrong` is what one of them says otherwise: empty, and once it is not, so for good.
    """

    def __init__(self, monitor_urls: Sequence[str], report: Callable[[str], None] = _logger.warning) -> None:
        """`report` takes one line for what is waited for. Raises NotDurable without a URL, as unknown is not durable,
        and for one that is named twice."""
        if not monitor_urls:
            raise NotDurable("KEYFORGE_NATS_MONITOR_URL is not set, so it is unknown whether nats-server syncs to disk")
        same = [shown(url).rstrip("/") for url in monitor_urls]
        if twice := [url for url in dict.fromkeys(same) if same.count(url) > 1]:
            raise NotDurable(f"KEYFORGE_NATS_MONITOR_URL names {', '.join(twice)} more than once: each server once")
        self.wrong = ""
        self._urls = list(monitor_urls)
        self._answers: dict[str, _Answer] = {}
        """The last answer at each URL."""
        self._silent: dict[str, str] = {}
        """The URLs that did not answer when they were asked last, and why."""
        self._servers: Callable[[], Sequence[Info]] = tuple
        self._report = report
        self._watching: asyncio.Task[None] | None = None

    @property
    def holds(self) -> bool:
        """Whether a majority syncs, as far as is known now, and none says otherwise."""
        return not self.wrong and not self.unknown()

    async def established(self, servers: Callable[[], Sequence[Info]]) -> None:
        """Ask until a majority syncs of the cluster that `servers` are of: those that this process is connected to now.

        Raises NotDurable as soon as any server says otherwise, or for addresses that cannot show a majority.
        """
        self._servers = servers
        reported: set[str] = set()
        refused = ""
        while True:
            await self._ask()
            if self.wrong:
                raise NotDurable(f"{self.wrong}; KEYFORGE_DURABILITY=relaxed accepts that")
            before, refused = refused, self._misnamed()
            if refused and refused == before:  # twice: a server that was just started again is another one
                raise NotDurable(refused)
            why = self.unknown()
            if not why and not refused and servers():
                break
            if why and not refused and why not in reported and len(reported) < REASONS_MAX:
                reported.add(why)
                self._report(f"waiting for nats-server: {why}")
            await asyncio.sleep(START_PAUSE_S)
        if self._silent:
            self._report(f"a majority of servers syncs to disk; {self._why()}: asked again every {WATCH_PAUSE_S:g} s")
        if len(self._urls) < self._size():
            self._report(f"KEYFORGE_NATS_MONITOR_URL names {self._too_few()}: one that is not named is not asked")

    def watch(self) -> None:
        """Go on asking all, until one says otherwise or `close` is called."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Ask nobody any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    def unknown(self) -> str:
        """Return why it is unknown now whether a majority syncs; empty if one does."""
        servers = self._servers()
        ids = {one.server_id for one in self._of(servers)}
        for server in servers:
            if server.server_id not in ids:
                which = f"{server.server_name} ({server.server_id})"
                none = f"nats-server {which}, which KEYFORGE_NATS_URL leads to, is none of those that answer at"
                return f"{none} KEYFORGE_NATS_MONITOR_URL{self._why('; ')}"
        if 2 * len(ids) <= self._size():
            return f"{len(ids)} of {self._size()} servers say that they sync to disk, not a majority{self._why('; ')}"
        return ""

    async def _watch(self) -> None:
        why = ""
        while not self.wrong:
            try:
                await self._pause(START_PAUSE_S if why else WATCH_PAUSE_S)
                silent = set(self._silent)
                await self._ask()
                before, why = why, self.unknown()
                if self._silent.keys() - silent and not why:
                    self._report(f"{self._why()}: what it said counts for {ANSWER_S:g} s, or while it is connected to")
            except Exception:  # nobody awaits this task: a fault would end it unseen
                _logger.exception("servers could not be asked whether they sync to disk")
                await asyncio.sleep(START_PAUSE_S)
                continue
            if why and not before:
                self._report(f"not ready while it is unknown whether a majority of servers syncs to disk: {why}")
            elif before and not why and not self.wrong:
                self._report("a majority of servers syncs to disk again")
        _logger.critical("%s: this service is not ready until it was started again without that", self.wrong)

    async def _pause(self, pause_s: float) -> None:
        """Wait so long, or until this process is connected to a server that it was not connected to."""
        end_s, known = monotonic() + pause_s, self._ids()
        while self._ids() <= known:
            if (left_s := end_s - monotonic()) <= 0:
                return
            await asyncio.sleep(min(left_s, START_PAUSE_S))

    def _ids(self) -> set[str]:
        return {one.server_id for one in self._servers()}

    async def _ask(self) -> None:
        """Ask all, at once; what one answers counts at once, also while another hangs."""
        await asyncio.gather(*map(self._ask_one, self._urls))

    async def _ask_one(self, url: str) -> None:
        found = await asyncio.to_thread(_found, url)
        if isinstance(found, _Unknown):
            self._silent[url] = str(found)
        else:
            self._silent.pop(url, None)
            self._answers[url] = found
            self.wrong = self.wrong or found.wrong

    def _of(self, servers: Sequence[Info]) -> list[_Answer]:
        """Return the answers that count: the last of each server, by its name, if it is one of these or of the cluster
        of one. While this process is connected to none, whose they are does not show."""
        since_s, connected = monotonic() - ANSWER_S, {one.server_id for one in servers}
        counting = [
            one
            for one in self._answers.values()
            if one.server_id in connected or (one.at_s >= since_s and (one.is_of(servers) or not servers))
        ]
        return list({one.name: one for one in sorted(counting, key=lambda one: one.at_s)}.values())

    def _size(self) -> int:
        """Return how many servers the cluster has, as the answers that count say; at least one."""
        return max((one.size for one in self._of(self._servers())), default=1)

    def _misnamed(self) -> str:
        """Return why the addresses can never show a majority; empty if they may."""
        servers = self._servers()
        names = {one.server_name for one in servers}
        seen: dict[str, str] = {}
        for url in self._urls:  # in the order of the setting, whichever answered first
            if url in self._silent or (answer := self._answers.get(url)) is None:
                continue
            if (other := seen.setdefault(answer.server_id, url)) != url:
                return f"KEYFORGE_NATS_MONITOR_URL: {shown(other)} and {shown(url)} are one nats-server, {answer.name}"
            if servers and not answer.is_of(servers) and answer.name not in names:
                return (
                    f"KEYFORGE_NATS_MONITOR_URL: nats-server {answer.name} at {shown(url)} is not of the servers that "
                    f"KEYFORGE_NATS_URL leads to, such as {servers[0].server_name}"
                )
        if 2 * len(self._urls) <= self._size():
            return f"KEYFORGE_NATS_MONITOR_URL names {self._too_few()}: name the monitoring port of each"
        return ""

    def _too_few(self) -> str:
        return f"{len(self._urls)} of the {self._size()} servers of the cluster"

    def _why(self, before: str = "") -> str:
        """Return why servers did not answer, with `before` in front; empty if all did."""
        silent = "; ".join(f"{shown(url)}/varz {why}" for url, why in self._silent.items())
        return f"{before}{silent}" if silent else ""


def _found(url: str) -> "_Answer | _Unknown":
    """Return what the server at `url` says, or why it is unknown."""
    at_s = monotonic()
    try:
        page = varz.read(url)
    except varz.UNREADABLE as fault:
        return _Unknown(f"cannot be read ({type(fault).__name__})")
    if not page.server_id:
        return _Unknown("is not the page of a nats-server")
    if page.jetstream.config is None:  # a server that starts shows its pages first
        return _Unknown(f"shows no JetStream on {page.server_name}")
    meta = page.jetstream.meta
    if page.cluster.name and (meta is None or meta.cluster_size < 1):
        return _Unknown(f"does not show yet how many servers the cluster of {page.server_name} has")
    synced = page.jetstream.config.sync_always
    where = f"nats-server {page.server_name} at {shown(url)}"
    wrong = "" if synced else f"{where} runs without `jetstream {{ sync_interval: always }}`"
    size = meta.cluster_size if meta is not None else 1
    return _Answer(page.server_id, page.server_name, page.cluster.name, size, wrong, at_s)
