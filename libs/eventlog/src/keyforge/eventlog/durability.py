"""Refuses a log that acknowledges messages before they are on disk.

By default nats-server acknowledges at once and syncs to disk up to two minutes later: a power cut then loses every
frame that was acknowledged in between. Only `sync_interval: always` is durable. The JetStream API does not show the
setting, the monitoring page `/varz` does.
"""

import asyncio
import logging
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

from keyforge.eventlog.log import EventLogError

VARZ_TIMEOUT_S = 3.0
"""Chosen: as long as for an answer of JetStream's API (`jetstream_api.API_TIMEOUT_S`)."""
VARZ_BYTES_MAX = 1024 * 1024
"""Chosen: some 200 times the page, which has a few KiB."""

_logger = logging.getLogger("keyforge.eventlog.durability")


class NotDurable(EventLogError):
    """A server does not sync before it acknowledges, or its setting is unknown; the text names it and what to do."""


class _Config(msgspec.Struct):
    sync_always: bool = False


class _JetStream(msgspec.Struct):
    config: _Config | None = None


class _Varz(msgspec.Struct):
    server_name: str = ""
    jetstream: _JetStream = msgspec.field(default_factory=_JetStream)


_varz = msgspec.json.Decoder(_Varz)


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
        page = _varz.decode(_get(url))
    except (OSError, HTTPException, ValueError) as fault:
        return f"{url}/varz cannot be read ({type(fault).__name__}), so it is unknown whether nats-server syncs to disk"
    if page.jetstream.config is None:
        return f"nats-server {page.server_name} at {url} has no JetStream"
    if not page.jetstream.config.sync_always:
        return f"nats-server {page.server_name} at {url} runs without `jetstream {{ sync_interval: always }}`"
    return None


def _get(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise ValueError("not an http URL")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=VARZ_TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/varz")
        answer = connection.getresponse()
        if answer.status != 200:
            raise HTTPException(str(answer.status))
        return answer.read(VARZ_BYTES_MAX)
    finally:
        connection.close()
