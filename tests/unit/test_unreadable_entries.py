"""An entry of a bucket that nobody can read ends nothing: who needs it is refused for now, all others are served."""

import pytest

from keyforge.budget.errors import LeasesUnavailable
from keyforge.budget.outbound.lease import BucketLeases
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import OwnerId, ProviderId
from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, Prefix, mint
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.feeds.key_directory import BucketKeyDirectory
from keyforge.edge.outbound.feeds.owners import Owners
from keyforge.edge.outbound.feeds.provider_registry import BucketProviderRegistry
from keyforge.runtime.buckets import Bucket, Entry
from keyforge.runtime.tokens import TokenVerifier

SECRETS = KeySecrets.derive(bytes(range(32)))
UNREADABLE = [
    pytest.param(b"not an entry", id="no JSON"),
    pytest.param(b"{}", id="another shape"),
    pytest.param(b'{"key_id": "\xff"}', id="no UTF-8"),
    pytest.param(b'{"x": ' + b"[" * 100_000, id="nested without end"),
]


class Holding(Bucket):
    """A bucket with one entry under every key."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    async def get(self, key: str) -> Entry | None:
        return Entry(key, self._value, 1)


def minted(prefix: Prefix) -> str:
    return mint(prefix, SECRETS, bytes(ID_BYTES), bytes(SECRET_BYTES)).text


@pytest.mark.parametrize("value", UNREADABLE)
async def test_who_asks_with_it_is_told_to_ask_again(value: bytes) -> None:
    directory = BucketKeyDirectory(Holding(value), SECRETS, lambda: 0.0, Metrics(), bytes_max=1024)
    verifier = TokenVerifier(Holding(value), SECRETS)
    for refused in (await directory.identify(minted("vk").encode()), await verifier.verify(f"Bearer {minted('kfa')}")):
        assert isinstance(refused, Problem)
        assert refused.kind.type == "policy_unavailable"


@pytest.mark.parametrize("value", UNREADABLE)
async def test_a_lease_is_nobodys_word(value: bytes) -> None:
    with pytest.raises(LeasesUnavailable):
        await BucketLeases(Holding(value), OwnerId("b")).read(0)
    owners = Owners(lambda: 0.0)
    owners.apply([Entry("lease.0", value, 1)], loaded=True)
    assert owners.of(0) is None


@pytest.mark.parametrize("value", UNREADABLE)
def test_a_provider_is_not_known(value: bytes) -> None:
    providers = BucketProviderRegistry(lambda _entry: "")
    providers.apply_providers([Entry("p", value, 1)], loaded=True)
    assert providers.address(ProviderId("p")) is None
