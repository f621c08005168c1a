"""Reads the monitoring page `/varz` of a nats-server: what JetStream's API does not show of its configuration."""

from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from time import monotonic
from typing import TYPE_CHECKING, cast

import msgspec

from keyforge.contracts import urls

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

VARZ_TIMEOUT_S = 3.0
"""For the whole page, however slowly it comes. Chosen: as long as for an answer of JetStream's API
(`jetstream_api.API_TIMEOUT_S`)."""
VARZ_BYTES_MAX = 1024 * 1024
"""Chosen: some 200 times the page, which has a few KiB."""

UNREADABLE = (OSError, HTTPException, ValueError, RecursionError)
"""What `read` raises if the page cannot be read; the last for one that is nested too deep."""


class ServerConfig(msgspec.Struct):
    """How JetStream is configured. `max_storage`: `max_file_store` in bytes."""

    sync_always: bool = False
    max_storage: int = 0


class ServerStats(msgspec.Struct):
    """What JetStream holds. `reserved_storage`: bytes set aside for streams, of one copy each."""

    reserved_storage: int = 0


class MetaGroup(msgspec.Struct):
    """The servers of a cluster that have JetStream. `cluster_size`: how many, those that are away included."""

    cluster_size: int = 0


class ServerJetStream(msgspec.Struct):
    """JetStream on this server; without it there is no `config`, and without a cluster no `meta`."""

    config: ServerConfig | None = None
    stats: ServerStats = msgspec.field(default_factory=ServerStats)
    meta: MetaGroup | None = None


class ServerCluster(msgspec.Struct):
    """The cluster of this server; without one it has no name."""

    name: str = ""


class Varz(msgspec.Struct):
    """What we read of the page. `server_id` is another after each start."""

    server_id: str = ""
    server_name: str = ""
    cluster: ServerCluster = msgspec.field(default_factory=ServerCluster)
    jetstream: ServerJetStream = msgspec.field(default_factory=ServerJetStream)


_varz = msgspec.json.Decoder(Varz)


def read(url: str) -> Varz:
    """Return the page of the server whose monitoring port is at `url`, http or https. Raises what is UNREADABLE."""
    parts = urls.split(url)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise ValueError("not an http URL")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    end_s = monotonic() + VARZ_TIMEOUT_S
    connection = kind(parts.hostname, parts.port, timeout=VARZ_TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/varz")
        answer = HTTPResponse(cast("socket", _Timed(connection.sock, end_s)), method="GET")
        answer.begin()
        if answer.status != 200:
            raise HTTPException(str(answer.status))
        return _varz.decode(answer.read(VARZ_BYTES_MAX))
    finally:
        connection.close()


class _Timed(RawIOBase):
    """What a socket receives until a time: its own timeout begins again with each byte."""

    def __init__(self, connected: socket, end_s: float) -> None:
        self._socket = connected
        self._end_s = end_s

    def makefile(self, _mode: str) -> BufferedReader:
        """All that an HTTPResponse asks of a socket."""
        return BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        left_s = self._end_s - monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left_s)
        return self._socket.recv_into(buffer)
