"""Refuses a log that acknowledges messages before they are on disk.

By default nats-server acknowledges at once and syncs to disk up to two minutes later: a power cut then loses every
frame that was acknowledged in between. Only `sync_interval: always` is durable. The JetStream API does not show the
setting, the monitoring page `/varz` does.
"""

import asyncio
import logging
from collections.abc import Sequence

from keyforge.eventlog import varz
from keyforge.eventlog.log import EventLogError

_logger = logging.getLogger("keyforge.eventlog.durability")


class NotDurable(EventLogError):
    """A server does not sync before it acknowledges, or its setting is unknown; the text names it and what to do."""


async def require_durable(monitor_urls: Sequence[str], *, relaxed: bool = False) -> None:
    """Check every server, by the monitoring URL of each, since each has its own configuration file.

    Raises NotDurable, also where a server does not answer: unknown is not durable. `relaxed`
    (KEYFORGE_DURABILITY=relaxed) checks no server, and logs a warning.
    """
    if relaxed:
        _logger.warning("KEYFORGE_DURABILITY=relaxed: a power cut may lose what the log has acknowledged")
        return
    if not monitor_urls:
        raise NotDurable("KEYFORGE_NATS_MONITOR_URL is not set, so it is unknown whether nats-server syncs to disk")
    for why in await asyncio.gather(*(asyncio.to_thread(_why_not, url) for url in monitor_urls)):
        if why is not None:
            raise NotDurable(f"{why}; KEYFORGE_DURABILITY=relaxed accepts that")


def _why_not(url: str) -> str | None:
    """Return why the server at `url` is not durable, None if it is."""
    try:
        page = varz.read(url)
    except varz.UNREADABLE as fault:
        return f"{url}/varz cannot be read ({type(fault).__name__}), so it is unknown whether nats-server syncs to disk"
    if page.jetstream.config is None:
        return f"nats-server {page.server_name} at {url} has no JetStream"
    if not page.jetstream.config.sync_always:
        return f"nats-server {page.server_name} at {url} runs without `jetstream {{ sync_interval: always }}`"
    return None
