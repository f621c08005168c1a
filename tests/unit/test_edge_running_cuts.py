"""What ends a request that runs: its own key, tenant or partition, and nothing that happens to another one's."""

import asyncio
from typing import Any

import msgspec
import pytest

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import KeyRevoked, TenantStatus, TenantUpdated
from keyforge.contracts.ids import KeyId, TenantId, TokenId
from keyforge.edge.application.running import RunningRequest, RunningRequests
from keyforge.testkit.encrypted_names import encrypted
from tests.unit.edge_twins import KEY

UNTIL_S = 60.0


def entry(name: str, tenant: str = "t", partition: int = 0) -> KeyEntry:
    return msgspec.structs.replace(KEY, key_id=KeyId(name), tenant=TenantId(tenant), partition=partition)


KEYS = (entry("a"), entry("b"), entry("c", "u"), entry("d", "v", 1))


def revoked(key_id: str) -> KeyRevoked:
    return KeyRevoked(
        key_id=KeyId(key_id), tenant=TenantId("t"), reason=None, revision=2, secret_version=None, by=TokenId("o")
    )


def updated(status: TenantStatus) -> TenantUpdated:
    return TenantUpdated(
        tenant=TenantId("t"), name=encrypted(""), plan="", status=status, limits=(), revision=2, secret_version=1,
        by=TokenId("o"),
    )  # fmt: skip


CUTS: list[Any] = [
    pytest.param(lambda all_: all_.apply(revoked("a")), {"a": "stream_revoked"}, id="a key is revoked"),
    pytest.param(
        lambda all_: all_.apply(updated("suspended")),
        {"a": "tenant_suspended", "b": "tenant_suspended"},
        id="a tenant is suspended",
    ),
    pytest.param(lambda all_: all_.apply(updated("active")), {}, id="a tenant is changed"),
    pytest.param(lambda all_: all_.cut_partition(1, "log_unavailable"), {"d": "log_unavailable"}, id="a log is lost"),
]


@pytest.mark.parametrize(("cut", "ended"), CUTS)
async def test_what_is_cut(cut: Any, ended: dict[str, str]) -> None:
    all_ = RunningRequests()
    running = [all_.entered(key).__enter__() for key in KEYS]
    cut(all_)
    await asyncio.sleep(0)
    assert {one.key.key_id: one.cut_by for one in running if one.cut_by} == ended


async def test_what_has_ended_is_not_among_them() -> None:
    all_ = RunningRequests()
    with all_.entered(KEY) as one:
        assert len(all_) == 1
    assert len(all_) == 0
    all_.apply(revoked(KEY.key_id))
    await asyncio.sleep(0)
    assert one.cut_by == ""


async def ended_within(running: RunningRequest) -> float:
    """How long a stream that is bound now may go on."""
    async with asyncio.timeout(UNTIL_S) as scope:
        running.bind(scope)
        when = scope.when()
        scope.reschedule(None)
        await asyncio.sleep(0)
    assert when is not None
    return when - asyncio.get_running_loop().time()


async def cut_while_it_waits(running: RunningRequest) -> None:
    async with asyncio.timeout(UNTIL_S) as scope:
        running.bind(scope)
        running.cut("stream_revoked")
        await asyncio.Event().wait()


async def test_a_cut_ends_a_stream_now_or_when_it_begins() -> None:
    early, late = RunningRequest(KEY, set()), RunningRequest(KEY, set())
    early.cut("stream_revoked")
    assert await ended_within(early) <= 0
    assert await ended_within(late) > UNTIL_S / 2
    with pytest.raises(TimeoutError):
        await cut_while_it_waits(late)


def test_the_first_cut_names_the_reason() -> None:
    running = RunningRequest(KEY, set())
    running.cut("tenant_suspended")
    running.cut("stream_revoked")
    assert running.cut_by == "tenant_suspended"


async def test_no_later_end_puts_an_earlier_one_off() -> None:
    running = RunningRequest(KEY, set())
    async with asyncio.timeout(UNTIL_S) as scope:
        running.bind(scope)
        running.leave(10.0)
        first = scope.when()
        running.leave(UNTIL_S * 10)
        assert scope.when() == first
        running.leave(5.0)
        assert first is not None
        assert (scope.when() or first) < first
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("since", "gone"), [(0.0, False), (95.0, False), (89.0, True)], ids=["reads", "pauses", "does not read"]
)
def test_an_agent_that_does_not_read_is_let_go(since: float, gone: bool) -> None:
    all_ = RunningRequests()
    with all_.entered(KEY) as running:
        running.writing_since = since
        all_.drop_stalled(100.0, 10.0)
        assert running.gone == gone
