"""Any number of keys is known to an edge, whatever it has memory for, and none older than what it was told."""

from itertools import count, islice

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.directory import KeyEntry, encode
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import KeyCreated
from keyforge.contracts.ids import KeyId
from keyforge.contracts.keyformat import KeySecrets, Minted
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.feeds.key_directory import BucketKeyDirectory
from keyforge.runtime.buckets import Bucket, Entry
from tests.unit.budget_facts import TENANT, key_created, key_revoked, key_updated
from tests.unit.edge_keys import BYTES_FOR_KEYS, SECRETS, TWO_MODELS, bytes_of, entry_of, minted

OTHER_SECRETS = KeySecrets.derive(bytes(range(1, 33)))


class Projected(Bucket):
    """The bucket in memory."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def get(self, key: str) -> Entry | None:
        value = self.stored.get(key)
        return None if value is None else Entry(key, value, 1)

    def hold(self, entry: KeyEntry) -> None:
        self.stored[entry.key_id] = encode(entry)


class World:
    """A directory with room for `room` keys of these models, and a clock that a test moves."""

    def __init__(self, room: int, models: tuple[str, ...] = TWO_MODELS) -> None:
        self.bucket, self.metrics, self.now = Projected(), Metrics(), 0.0
        size = bytes_of(entry_of(minted(0), models=models))
        bytes_max = int((room + 0.5) * size * BYTES_FOR_KEYS)
        self.directory = BucketKeyDirectory(self.bucket, SECRETS, lambda: self.now, self.metrics, bytes_max=bytes_max)

    async def identify(self, key: Minted) -> KeyEntry | str:
        found = await self.directory.identify(key.text.encode())
        return found.kind.type if isinstance(found, Problem) else found

    async def reads(self, *keys: Minted) -> int:
        """How often these keys were read from the bucket to be identified."""
        before = self.metrics.directory_reads
        for key in keys:
            assert isinstance(await self.identify(key), KeyEntry)
        return self.metrics.directory_reads - before


async def test_a_key_that_memory_has_no_room_for_is_read_again_and_known_all_the_same() -> None:
    world, keys = World(3), [minted(number) for number in range(5)]
    for key in keys:
        world.bucket.hold(entry_of(key))
    assert await world.reads(*keys) == 5
    assert world.directory.count == 3
    assert await world.reads(keys[2], keys[3], keys[4]) == 0
    assert await world.reads(keys[0]) == 1  # 2 goes, which was used least recently
    assert await world.reads(keys[3], keys[4], keys[0]) == 0
    assert await world.reads(keys[2]) == 1
    assert world.directory.held_bytes <= 4 * bytes_of(entry_of(keys[0]))


async def test_a_key_that_takes_all_of_it_alone_is_known() -> None:
    world, key = World(3), minted(1)
    world.bucket.hold(entry_of(key, models=tuple(f"provider/model-{number}" for number in range(1000))))
    assert await world.reads(key, key) == 2
    assert world.directory.count == 0


async def test_made_up_keys_push_out_none() -> None:
    world, keys = World(3), [minted(number) for number in range(3)]
    for key in keys:
        world.bucket.hold(entry_of(key))
    await world.reads(*keys)
    read_before = world.metrics.directory_reads
    for number in range(1000, 1200):
        assert await world.identify(minted(number, OTHER_SECRETS)) == "key_invalid"
    assert world.metrics.directory_reads == read_before  # their tag is wrong
    for number in range(2000, 2200):
        assert await world.identify(minted(number)) == "key_invalid"
        assert await world.identify(minted(number)) == "key_invalid"
    assert world.metrics.directory_reads == read_before + 200  # once each, though the tag is right
    assert await world.reads(*keys) == 0


async def test_who_shows_an_id_without_its_secret_keeps_no_key_in_memory() -> None:
    world, keys = World(2), [minted(number) for number in range(3)]
    for key in keys:
        world.bucket.hold(entry_of(key))
    await world.reads(keys[0], keys[1])
    stolen = keys[0].text[:-8] + "00000000"
    for text in (stolen, keys[0].text[:20], keys[0].text[:15], "vk_", "", "vk_\xff" * 20):
        found = await world.directory.identify(text.encode("latin-1"))
        assert isinstance(found, Problem)
        assert found.kind.type == "key_invalid"
    assert await world.reads(keys[2]) == 1
    assert await world.reads(keys[1]) == 0
    assert await world.reads(keys[0]) == 1


async def test_an_entry_under_another_key_s_name_is_nobody_s() -> None:
    world, one, other = World(3), minted(1), minted(2)
    world.bucket.stored[one.id] = encode(entry_of(other))
    assert await world.identify(one) == "policy_unavailable"


# --- what is known of a key -------------------------------------------------------------------------------------------

STORY = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "update", "revoke", "project", "refresh"]), st.integers(0, 4)), max_size=40
)


def in_force(entry: object) -> KeyEntry:
    """An entry without the policy of a key that ended: nobody asks for that any more."""
    assert isinstance(entry, KeyEntry)
    return entry if entry.status == "active" else msgspec.structs.replace(entry, models=None)


@given(STORY)
async def test_a_key_is_never_older_than_what_the_control_feed_said(story: list[tuple[str, int]]) -> None:
    """Whatever is evicted, and however late the bucket is."""
    models = tuple(f"provider/model-{number}" for number in range(100))  # changes are small beside such keys
    world, keys = World(2, models), [minted(number) for number in range(5)]
    truth = [entry_of(key, models=models) for key in keys]
    for entry in truth:
        world.bucket.hold(entry)
    for what, number in story:
        before = truth[number]
        if what == "ask":
            assert in_force(await world.identify(keys[number])) == in_force(before)
        elif what == "refresh":
            assert in_force(await world.directory.refresh(before.key_id)) == in_force(before)
        elif what == "project":
            world.bucket.hold(before)
        elif before.status == "active":
            revision = before.revision + 1
            if what == "revoke":
                truth[number] = msgspec.structs.replace(before, status="revoked", revision=revision)
                world.directory.apply(0, key_revoked(key_id=before.key_id, revision=revision))
            else:
                truth[number] = msgspec.structs.replace(before, models=None, revision=revision)
                world.directory.apply(0, key_updated(key_id=before.key_id, revision=revision))


def created(key: Minted) -> KeyCreated:
    return msgspec.structs.replace(key_created(key_id=KeyId(key.id)), digest=key.digest)


async def test_a_key_is_known_from_the_log_before_the_bucket_has_it() -> None:
    world, key = World(3), minted(1)
    assert await world.identify(key) == "key_invalid"
    world.directory.apply(7, created(key))
    assert await world.reads(key) == 0
    found = await world.identify(key)
    assert isinstance(found, KeyEntry)
    assert (found.tenant, found.partition, found.status) == (TENANT, 7, "active")
    world.directory.apply(7, key_revoked(key_id=KeyId(key.id)))
    found = await world.identify(key)
    assert isinstance(found, KeyEntry)
    assert found.status == "revoked"


async def test_changes_of_many_keys_push_out_none_that_is_in_use() -> None:
    world, key = World(3), minted(1)
    world.bucket.hold(entry_of(key))
    await world.reads(key)
    for other in islice(map(minted, count(10_000)), 500):
        world.directory.apply(0, key_updated(key_id=KeyId(other.id)))
    assert await world.reads(key) == 0
