"""The tenants' keys of the edge come from the bucket, or there are none."""

from typing import cast

import pytest

from keyforge.contracts.errors import problem
from keyforge.contracts.ids import RequestId, TenantId
from keyforge.edge.core.settlement.commitment import TenantKey
from keyforge.edge.outbound.feeds.tenant_keys import BucketTenantKeys
from keyforge.runtime.buckets import Bucket, BucketUnavailableError, Entry
from keyforge.runtime.tenant_secrets import SecretWrapper

WRAPPER = SecretWrapper(bytes(range(32)))
ACME, OTHER = TenantId("acme"), TenantId("other")
GOOD = WRAPPER.new_entry(ACME)


class BucketTwin:
    """One entry of ACME, or what stands for it."""

    def __init__(self, found: bytes | Entry | BucketUnavailableError | None) -> None:
        self.found = found
        self.reads = 0

    async def get(self, key: str) -> Entry | None:
        self.reads += 1
        if isinstance(self.found, BucketUnavailableError):
            raise self.found
        return Entry(key, self.found, 1) if isinstance(self.found, bytes) else self.found


def keys_over(bucket: BucketTwin) -> BucketTenantKeys:
    return BucketTenantKeys(cast("Bucket", bucket), WRAPPER)


def commitment(key: object) -> str:
    assert isinstance(key, TenantKey)
    return key.of(RequestId("r")).of_request(b"body")


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(None, id="none"),
        pytest.param(Entry(ACME, None, 2), id="deleted"),
        pytest.param(b"", id="empty"),
        pytest.param(b"no entry", id="unreadable"),
        pytest.param(WRAPPER.new_entry(OTHER), id="another tenant's"),
        pytest.param(SecretWrapper(bytes(32)).new_entry(ACME), id="of another commitment secret"),
        pytest.param(BucketUnavailableError("away"), id="unavailable"),
    ],
)
async def test_a_tenant_without_a_secret_has_no_key_until_it_has_one(
    found: bytes | Entry | BucketUnavailableError | None,
) -> None:
    bucket = BucketTwin(found)
    keys = keys_over(bucket)
    for _ in range(2):
        assert await keys.load(ACME) == problem("policy_unavailable")
        assert keys.known(ACME) is None
    bucket.found = GOOD
    assert isinstance(await keys.load(ACME), TenantKey)


async def test_a_key_is_made_of_the_tenants_own_secret_and_kept() -> None:
    bucket = BucketTwin(GOOD)
    keys = keys_over(bucket)
    version, secret = WRAPPER.in_force(ACME, GOOD)
    key = await keys.load(ACME)
    assert isinstance(key, TenantKey)
    assert key.version == version
    assert commitment(key) == commitment(TenantKey(version, secret))
    assert keys.known(ACME) is key
    assert keys.known(OTHER) is None
    assert bucket.reads == 1
