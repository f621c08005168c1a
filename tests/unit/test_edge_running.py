"""What a control event cuts among the requests that run, and at what cost."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.edge.application.running import RunningRequest, RunningRequests
from tests.unit.budget_facts import TENANT, key_revoked, tenant_updated

REVOKED = 1000


def entry(key_id: str, tenant: TenantId = TENANT) -> KeyEntry:
    return KeyEntry(
        key_id=KeyId(key_id),
        tenant=tenant,
        partition=0,
        digest="",
        status="active",
        models=None,
        max_output_tokens=None,
        expires_at=None,
        revision=1,
    )


async def test_a_revoked_key_s_requests_are_cut_and_no_others() -> None:
    running = RunningRequests()
    with running.entered(entry("k1")) as first, running.entered(entry("k1")) as second:
        with running.entered(entry("k2")) as other:
            running.apply(key_revoked(key_id=KeyId("k1")))
            await asyncio.sleep(0)
            assert [one.cut_by for one in (first, second, other)] == ["stream_revoked", "stream_revoked", ""]
            running.apply(key_revoked(key_id=KeyId("k2")))
        await asyncio.sleep(0)
        assert other.cut_by == ""  # it had ended by itself
    assert not len(running)


async def test_a_suspended_tenant_s_requests_are_cut() -> None:
    running = RunningRequests()
    with running.entered(entry("k1")) as ours, running.entered(entry("k2", TenantId("other"))) as other:
        running.apply(tenant_updated(status="suspended"))
        assert (ours.cut_by, other.cut_by) == ("tenant_suspended", "")


class Counted(set[RunningRequest]):
    """A set that counts how often it is walked over."""

    walks = 0

    def __iter__(self) -> Iterator[RunningRequest]:
        self.walks += 1
        return super().__iter__()


async def test_keys_that_are_revoked_together_share_one_walk() -> None:
    running = RunningRequests()
    running._running = among = Counted()
    keys = ("k0", f"k{REVOKED - 1}", "another")
    with ExitStack() as entered:
        found = [entered.enter_context(running.entered(entry(key))) for key in keys]
        for number in range(REVOKED):
            running.apply(key_revoked(key_id=KeyId(f"k{number}")))
        await asyncio.sleep(0)
        assert among.walks == 1
        assert [one.cut_by for one in found] == ["stream_revoked", "stream_revoked", ""]
