"""How large the log's streams are, what a server has for them, and raising them: for `declare` alone.

A total counts one copy of every stream, which is what one server stores of it. Measured on nats-server 2.15.1:

| limit | counts of each stream | what is shown as reserved |
|---|---|---|
| `max_file_store` of a server | `max_bytes` of the copy there | `/varz`: the same |
| `max_file` of an account | `max_bytes` times its replicas | `$JS.API.INFO`: `max_bytes` once |

A cluster does not hold a server to `max_file_store` when streams are created one after the other; a single server
does. So what is asked for is compared with what the servers have before anything is made.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from keyforge.contracts import urls
from keyforge.eventlog import jetstream_api, varz
from keyforge.eventlog.log import EventLogError, LogMissing, StreamState
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.stream_api import DeclareFailed
from keyforge.eventlog.streams import DECLARE_TIMEOUT_S, StreamSpec, answered


class SizeRefused(EventLogError):
    """A total that was asked for cannot be: a log holds more, or a server has less. Nothing was changed."""


class StoreUnknown(EventLogError):
    """What the server can store cannot be read; the text names the setting."""


class ServerAway(StoreUnknown):
    """One of several servers does not say what it can store, others do."""


class Room(msgspec.Struct, frozen=True):
    """The most that a total may be, in bytes of one copy, and whose limit that is."""

    bytes_max: int
    of: str


class Found(msgspec.Struct, frozen=True):
    """A stream as it was found, beside what is wanted of it."""

    spec: StreamSpec
    config: dict[str, Any]
    state: StreamState


class Raised(msgspec.Struct, frozen=True):
    """A stream whose bound was raised, in bytes."""

    stream: str
    bytes_max_before: int
    bytes_max: int


class _Limits(msgspec.Struct):
    max_storage: int = -1


class _Tier(msgspec.Struct):
    reserved_storage: int = 0
    limits: _Limits = msgspec.field(default_factory=_Limits)


class _Account(_Tier):
    tiers: dict[str, _Tier] | None = None
    error: jetstream_api.ApiError | None = None


class _Reply(msgspec.Struct):
    error: jetstream_api.ApiError | None = None


_account = msgspec.json.Decoder(_Account)
_reply = msgspec.json.Decoder(_Reply)


async def survey(
    client: NatsClient, specs: Iterable[StreamSpec], *, timeout_s: float = DECLARE_TIMEOUT_S
) -> list[Found]:
    """Return those of the streams with a bound that exist. Raises DeclareFailed if no server answers in time."""
    end = asyncio.get_running_loop().time() + timeout_s
    bounded = [spec for spec in specs if spec.bytes_max]
    found = [await answered(spec.name, partial(_found, client, spec), end) for spec in bounded]
    return [one for one in found if one is not None]


async def room(
    client: NatsClient,
    monitor_urls: Sequence[str],
    found: Iterable[Found],
    *,
    replicas: int,
    timeout_s: float = DECLARE_TIMEOUT_S,
) -> Room | None:
    """Return what a total may be: the least that the account's limit and each server's store leave beside what other
    streams have set aside. None if the account has no limit and no server is named.

    With more servers than replicas a server may hold any of the streams, so the smallest counts. Raises StoreUnknown,
    of which ServerAway may be mended by time, DeclareFailed.
    """
    ours = sum(max(one.config.get("max_bytes", 0), 0) for one in found)
    end = asyncio.get_running_loop().time() + timeout_s
    account = await answered("INFO", partial(_account_info, client), end)
    rooms = [_server_room(url, page, ours) for url, page in zip(monitor_urls, await _pages(monitor_urls), strict=True)]
    if (limited := _account_room(account, ours, replicas)) is not None:
        rooms.append(limited)
    return min(rooms, key=lambda one: one.bytes_max, default=None)


def all_fit(found: Iterable[Found], specs: Iterable[StreamSpec]) -> bool:
    """Return whether each of the streams with a bound exists and is as large as it is wanted: nothing needs room."""
    held = {one.spec.name: int(one.config.get("max_bytes", -1)) for one in found}
    return all(held.get(spec.name, 0) >= spec.bytes_max for spec in specs if spec.bytes_max)


def refuse_smaller(found: Iterable[Found]) -> None:
    """Raise SizeRefused for a log that holds more than is wanted: it is never made smaller, and that is not silent."""
    for one in found:
        if one.spec.keeps_all and one.state.bytes > one.spec.bytes_max:
            raise SizeRefused(
                f"{one.spec.name} holds {one.state.bytes} bytes, more than its part of KEYFORGE_LOG_BYTES_MAX, "
                f"{one.spec.bytes_max}"
            )


async def grow(client: NatsClient, found: Iterable[Found], *, timeout_s: float = DECLARE_TIMEOUT_S) -> list[Raised]:
    """Raise each stream that is smaller than it is wanted; return those. None is made smaller, and none changes in
    anything else: what is sent is the stored configuration with another `max_bytes`. Raises DeclareFailed."""
    end = asyncio.get_running_loop().time() + timeout_s
    raised = []
    for one in found:
        bytes_max = int(one.config.get("max_bytes", -1))
        if 0 < bytes_max < one.spec.bytes_max:
            await answered(one.spec.name, partial(_update, client, one.spec), end)
            raised.append(Raised(one.spec.name, bytes_max, one.spec.bytes_max))
    return raised


async def _found(client: NatsClient, spec: StreamSpec) -> Found | None:
    try:
        config, state = await jetstream_api.stream_info(client, spec.name)
    except jetstream_api.StreamNotFound:
        return None
    return Found(spec, config, state)


async def _update(client: NatsClient, spec: StreamSpec) -> None:
    """Raises LogMissing if the answer may come later, DeclareFailed for a refusal."""
    config, _ = await jetstream_api.stream_info(client, spec.name)
    if config.get("max_bytes", -1) >= spec.bytes_max:
        return  # another process was faster, or the answer to a first update was lost
    wanted = {**config, "max_bytes": spec.bytes_max}
    reply = _reply.decode(await jetstream_api.call(client, f"STREAM.UPDATE.{spec.name}", wanted))
    if reply.error is None:
        return
    if reply.error.code == 503:
        raise LogMissing(str(reply.error))
    raise DeclareFailed(f"{spec.name} could not be raised to {spec.bytes_max} bytes: {reply.error}")


async def _account_info(client: NatsClient) -> _Account:
    account = _account.decode(await jetstream_api.call(client, "INFO"))
    if account.error is not None:
        raise LogMissing(f"INFO: {account.error}")
    return account


def _account_room(account: _Account, ours: int, replicas: int) -> Room | None:
    """A limit without tiers counts every replica; one of a tier, such as R3, counts each stream once."""
    tier = (account.tiers or {}).get(f"R{replicas}")
    limit = (tier or account).limits.max_storage
    if limit < 0:
        return None
    others = max((tier or account).reserved_storage - ours, 0)
    return Room(max(limit // (1 if tier else replicas) - others, 0), "the account")


async def _pages(monitor_urls: Sequence[str]) -> list[varz.Varz]:
    pages = await asyncio.gather(*(asyncio.to_thread(_page, url) for url in monitor_urls))
    read = [page for page in pages if isinstance(page, varz.Varz)]
    if unread := [page for page in pages if isinstance(page, str)]:
        raise (ServerAway if read else StoreUnknown)(unread[0])
    return read


def _page(url: str) -> varz.Varz | str:
    """Return the page, or why it cannot be read."""
    try:
        return varz.read(url)
    except varz.UNREADABLE as fault:
        return (
            f"KEYFORGE_NATS_MONITOR_URL: {urls.shown(url)}/varz cannot be read ({type(fault).__name__}), "
            "so it is unknown what the server can store"
        )


def _server_room(url: str, page: varz.Varz, ours: int) -> Room:
    config = page.jetstream.config
    if config is None:
        where = urls.shown(url)
        raise StoreUnknown(f"KEYFORGE_NATS_MONITOR_URL: nats-server {page.server_name} at {where} has no JetStream")
    others = max(page.jetstream.stats.reserved_storage - ours, 0)
    return Room(max(config.max_storage - others, 0), f"nats-server {page.server_name}")
