"""Reads the monitoring page `/varz` of a nats-server: what JetStream's API does not show of its configuration."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

VARZ_TIMEOUT_S = 3.0
"""Chosen: as long as for an answer of JetStream's API (`jetstream_api.API_TIMEOUT_S`)."""
VARZ_BYTES_MAX = 1024 * 1024
"""Chosen: some 200 times the page, which has a few KiB."""

UNREADABLE = (OSError, HTTPException, ValueError)
"""What `read` raises if the page cannot be read."""


class ServerConfig(msgspec.Struct):
    """How JetStream is configured. `max_storage`: `max_file_store` in bytes."""

    sync_always: bool = False
    max_storage: int = 0


class ServerStats(msgspec.Struct):
    """What JetStream holds. `reserved_storage`: bytes set aside for streams, of one copy each."""

    reserved_storage: int = 0


class ServerJetStream(msgspec.Struct):
    """JetStream on this server; without it there is no `config`."""

    config: ServerConfig | None = None
    stats: ServerStats = msgspec.field(default_factory=ServerStats)


class Varz(msgspec.Struct):
    """What we read of the page."""

    server_name: str = ""
    jetstream: ServerJetStream = msgspec.field(default_factory=ServerJetStream)


_varz = msgspec.json.Decoder(Varz)


def read(url: str) -> Varz:
    """Return the page of the server whose monitoring port is at `url`, http or https. Raises what is UNREADABLE."""
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
        return _varz.decode(answer.read(VARZ_BYTES_MAX))
    finally:
        connection.close()
