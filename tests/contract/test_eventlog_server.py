"""What nats-server itself does, one node beside three: each fact that the rules of the log are made for.

They are asked in the server's own words, not through `JetStreamLog`. Where a version of the server answers otherwise,
the rule has to be thought over before the test is changed.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from keyforge.contracts import subjects
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import NoResponders
from keyforge.eventlog.nats.protocol import Delivery
from keyforge.eventlog.streams import declare_stream, log_spec
from keyforge.testkit.nats_client import SMALL, NatsServer, open_client, taken

TIMEOUT_S = 30.0
NANOSECONDS = 1_000_000_000

STALE = 10071
BUSY = 10164
STORE_FAILED = 10077


@dataclass
class Raw:
    """A partition's stream and the requests that go to it, without any rule of ours."""

    client: NatsClient
    partition: int
    replicas: int
    stream: str = field(init=False)
    ctl: str = field(init=False)
    adm: str = field(init=False)

    def __post_init__(self) -> None:
        self.stream = subjects.log_stream(self.partition)
        self.ctl = subjects.ctl(self.partition)
        self.adm = subjects.adm(self.partition)

    async def send(self, subject: str, data: bytes, **headers: object) -> dict[str, Any]:
        return answer_of(await self.client.request(subject, data, timeout_s=TIMEOUT_S, headers=spelled(headers)))

    async def api(self, subject: str, body: object = None) -> dict[str, Any]:
        payload = b"" if body is None else json.dumps(body).encode()
        return answer_of(await self.client.request(f"$JS.API.{subject}", payload, timeout_s=TIMEOUT_S))


def answer_of(message: Delivery) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.data)
    return found


def spelled(headers: dict[str, object]) -> dict[str, str] | None:
    names = {
        "seq": "Nats-Expected-Last-Subject-Sequence",
        "of": "Nats-Expected-Last-Subject-Sequence-Subject",
        "msg_id": "Nats-Msg-Id",
    }
    return {names[name]: str(value) for name, value in headers.items()} or None


def code(answer: dict[str, Any]) -> int | None:
    return answer["error"]["err_code"] if "error" in answer else None


@pytest.fixture(params=["node", pytest.param("cluster", marks=pytest.mark.cluster)])
async def raw(request: pytest.FixtureRequest, partition: int) -> AsyncIterator[Raw]:
    server: NatsServer = request.getfixturevalue(f"nats_{request.param}")
    async with open_client(server.urls) as client:
        await declare_stream(client, log_spec(partition, replicas=server.replicas, sizes=SMALL))
        yield Raw(client, partition, server.replicas)


async def test_an_error_carries_a_sequence_of_zero_beside_it(raw: Raw) -> None:
    await raw.send(raw.ctl, b"tick")
    answer = await raw.send(raw.adm, b"x", seq=0, of=raw.ctl)
    assert answer["seq"] == 0
    assert answer["error"] == {"code": 400, "err_code": STALE, "description": "wrong last sequence: 1"}


async def test_a_condition_on_another_subject_than_the_frames(raw: Raw) -> None:
    tick = await raw.send(raw.ctl, b"tick")
    assert await raw.send(raw.adm, b"x", seq=tick["seq"], of=raw.ctl) == {"stream": raw.stream, "seq": 2}
    assert code(await raw.send(raw.adm, b"y", seq=2, of=raw.ctl)) == STALE


async def test_a_retry_after_a_newer_tick_is_answered_differently(raw: Raw) -> None:
    tick = await raw.send(raw.ctl, b"tick")
    stored = await raw.send(raw.adm, b"x", seq=tick["seq"], of=raw.ctl, msg_id="m")
    await raw.send(raw.ctl, b"newer")
    retry = await raw.send(raw.adm, b"x", seq=tick["seq"], of=raw.ctl, msg_id="m")
    if raw.replicas == 1:
        assert code(retry) == STALE
    else:
        assert retry == {"stream": raw.stream, "seq": stored["seq"], "duplicate": True}
    assert code(await raw.send(raw.adm, b"x", seq=tick["seq"], of=raw.ctl)) == STALE


async def test_conditional_appends_in_flight_together(raw: Raw) -> None:
    tick = (await raw.send(raw.ctl, b"tick"))["seq"]
    answers = await asyncio.gather(*(raw.send(raw.adm, b"%d" % i, seq=tick, of=raw.ctl) for i in range(4)))
    assert [code(answer) for answer in answers] == ([None] * 4 if raw.replicas == 1 else [None, BUSY, BUSY, BUSY])
    keys, budget = await asyncio.gather(
        raw.send(raw.ctl, b"keys", seq=tick, of=raw.ctl), raw.send(raw.adm, b"budget", seq=tick, of=raw.ctl)
    )
    assert code(keys) is None
    assert code(budget) == (STALE if raw.replicas == 1 else BUSY)


async def test_the_same_message_id_in_flight_twice(raw: Raw) -> None:
    first, second = await asyncio.gather(*(raw.send(raw.adm, b"x", msg_id="m") for _ in range(2)))
    assert first["seq"] == 1
    if raw.replicas == 1:
        assert second == {"stream": raw.stream, "seq": 1, "duplicate": True}
    else:
        assert (code(second), second["error"]["description"]) == (10158, "duplicate message id is in process")


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        pytest.param({"max_bytes": 3000}, "maximum bytes exceeded", id="bytes"),
        pytest.param({"max_msgs": 2}, "maximum messages exceeded", id="messages"),
    ],
)
async def test_full(raw: Raw, bound: dict[str, int], text: str) -> None:
    name = f"FULL_{raw.partition}"
    config = {"name": name, "subjects": [f"{name}.>"], "num_replicas": raw.replicas, "discard": "new", **bound}
    assert "error" not in await raw.api(f"STREAM.CREATE.{name}", config)
    await taken(JetStreamLog(raw.client), f"{name}.x")
    answers = [await raw.send(f"{name}.x", b"x" * 1000) for _ in range(4)]
    assert [code(answer) for answer in answers] == [None, None, STORE_FAILED, STORE_FAILED]
    assert answers[-1]["error"]["description"] == text
    conditional = await raw.send(f"{name}.x", b"x" * 1000, seq=2, of=f"{name}.x")
    assert (code(conditional), conditional["error"]["description"]) == (STORE_FAILED, text)


async def test_persist_mode_async_is_for_one_node(raw: Raw) -> None:
    name = f"ASYNC_{raw.partition}"
    config = {"name": name, "subjects": [f"{name}.>"], "num_replicas": raw.replicas, "persist_mode": "async"}
    answer = await raw.api(f"STREAM.CREATE.{name}", config)
    assert code(answer) == (None if raw.replicas == 1 else 10052)


async def test_a_log_cannot_be_deleted_from_or_opened_for_that(raw: Raw) -> None:
    await raw.send(raw.adm, b"x")
    assert code(await raw.api(f"STREAM.MSG.DELETE.{raw.stream}", {"seq": 1})) == 10057
    config = (await raw.api(f"STREAM.INFO.{raw.stream}"))["config"]
    assert code(await raw.api(f"STREAM.UPDATE.{raw.stream}", config | {"deny_delete": False})) == 10052


async def test_a_log_can_be_purged_by_who_may_and_could_never_be_again_once_that_was_denied(raw: Raw) -> None:
    """Why logs are declared with `deny_purge: false`: the server never takes true back. No service may purge."""
    for _ in range(3):
        await raw.send(raw.adm, b"x")
    assert (await raw.api(f"STREAM.PURGE.{raw.stream}", {"seq": 3}))["purged"] == 2
    config = (await raw.api(f"STREAM.INFO.{raw.stream}"))["config"]
    assert not config["deny_purge"]
    assert code(await raw.api(f"STREAM.UPDATE.{raw.stream}", config | {"deny_purge": True})) is None
    assert code(await raw.api(f"STREAM.PURGE.{raw.stream}", {})) == 10110
    assert code(await raw.api(f"STREAM.UPDATE.{raw.stream}", config | {"deny_purge": False})) == 10052


async def test_nobody_takes_a_subject_that_no_stream_has(raw: Raw) -> None:
    with pytest.raises(NoResponders):
        await raw.send("kf.nowhere", b"x")


async def test_direct_reads_are_off(raw: Raw) -> None:
    """Any replica answers a direct read, also one that lags."""
    await raw.send(raw.adm, b"x")
    with pytest.raises(NoResponders):
        await raw.api(f"DIRECT.GET.{raw.stream}", {"seq": 1})


async def test_a_lease_ends_by_itself(raw: Raw) -> None:
    """The entry of a bucket with an age can be created again once it is over it, and not before."""
    name = f"LEASE{raw.partition}"
    entry = f"$KV.{name}.p0"
    config = {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "num_replicas": raw.replicas,
        "max_msgs_per_subject": 1,
        "max_age": NANOSECONDS,
        "duplicate_window": NANOSECONDS,
        "discard": "new",
    }
    assert "error" not in await raw.api(f"STREAM.CREATE.KV_{name}", config)
    await taken(JetStreamLog(raw.client), entry)
    held = (await raw.send(entry, b"me", seq=0, of=entry))["seq"]
    assert code(await raw.send(entry, b"you", seq=0, of=entry)) == STALE
    held = (await raw.send(entry, b"me", seq=held, of=entry))["seq"]
    started = asyncio.get_running_loop().time()
    while code(await raw.send(entry, b"you", seq=0, of=entry)) is not None:
        assert asyncio.get_running_loop().time() - started < 10
        await asyncio.sleep(0.05)
    assert asyncio.get_running_loop().time() - started > 0.8
    assert code(await raw.send(entry, b"me", seq=held, of=entry)) == STALE
