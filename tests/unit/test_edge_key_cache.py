"""The edge's memory of keys is bounded in bytes, and honest about them."""

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.directory import KeyEntry, encode
from keyforge.contracts.ids import KeyId
from keyforge.edge.core.key_cache import CHANGES_PART, KeyCache
from keyforge.edge.core.lru import BytesLru
from keyforge.edge.settings import MIB, EdgeSettings
from tests.unit.budget_facts import T0, key_revoked, key_updated
from tests.unit.edge_keys import BYTES_FOR_KEYS, bytes_of, cache_of, entry_of, minted

MEASURED = 4_000
HONEST = 0.25

STEPS = st.lists(st.tuples(st.sampled_from(["put", "get", "peek", "drop"]), st.integers(0, 5), st.integers(0, 60)))


@given(STEPS)
def test_the_least_recent_go_while_the_rest_takes_too_much(steps: list[tuple[str, int, int]]) -> None:
    recent: BytesLru[int, int] = BytesLru(100, lambda size: size)
    model: OrderedDict[int, int] = OrderedDict()
    for what, key, size in steps:
        if what == "put":
            recent.put(key, size)
            model.pop(key, None)
            model[key] = size
            while sum(model.values()) > 100:
                model.popitem(last=False)
        elif what == "drop":
            recent.drop(key)
            model.pop(key, None)
        else:
            assert getattr(recent, what)(key) == model.get(key)
            if what == "get" and key in model:
                model.move_to_end(key)
        assert (len(recent), recent.held_bytes) == (len(model), sum(model.values()))
    assert {key: recent.peek(key) for key in model} == model


def test_one_that_is_larger_than_all_memory_is_not_kept() -> None:
    recent: BytesLru[int, int] = BytesLru(100, lambda size: size)
    recent.put(1, 101)
    assert (len(recent), recent.held_bytes) == (0, 0)


def read(entry: KeyEntry) -> KeyEntry:
    """An entry as it comes from the bucket: every object its own."""
    return msgspec.json.decode(encode(entry), type=KeyEntry)


def taken(fill: Callable[[], KeyCache]) -> tuple[int, KeyCache]:
    """How many bytes what `fill` makes takes."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = fill()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before, made
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"models": None}, id="all models"),
        pytest.param({}, id="two models"),
        pytest.param({"expires_at": T0 + timedelta(days=1), "revision": 1_000_000}, id="an end"),
        pytest.param({"models": tuple(f"provider/model-{n}-größer" for n in range(40))}, id="forty models"),
    ],
)
def test_a_key_takes_what_is_counted_for_it(changed: dict[str, Any]) -> None:
    keys = [entry_of(minted(number), **changed) for number in range(MEASURED // (10 if len(changed) == 1 else 1))]

    def fill() -> KeyCache:
        cache = cache_of(1024 * MIB)
        for number, entry in enumerate(keys):
            found = cache.keep(read(entry))
            cache.verify(found, number.to_bytes(32, "big"))
        return cache

    took, cache = taken(fill)
    assert len(cache) == len(keys)
    assert cache.held_bytes == pytest.approx(took, rel=HONEST)


@pytest.mark.parametrize("revoked", [True, False])
def test_a_change_takes_what_is_counted_for_it(revoked: bool) -> None:
    make = key_revoked if revoked else key_updated
    events = [make(key_id=KeyId(minted(number).id)) for number in range(MEASURED)]

    def fill() -> KeyCache:
        cache = cache_of(1024 * MIB)
        for event in events:
            cache.change(msgspec.json.decode(msgspec.json.encode(event), type=type(event)))
        return cache

    took, cache = taken(fill)
    assert cache.held_bytes == pytest.approx(took, rel=HONEST)


def test_the_setting_has_room_for_what_it_says() -> None:
    info = EdgeSettings.model_fields["directory_bytes_max"]
    each = bytes_of(entry_of(minted(1))) * BYTES_FOR_KEYS
    assert info.default / each > 330_000
    assert 1024 * MIB / each > 1_000_000
    change = cache_of(MIB)
    change.change(key_updated(key_id=KeyId(minted(1).id)))
    (least,) = (one.ge for one in info.metadata if hasattr(one, "ge"))
    assert least / CHANGES_PART / change.held_bytes > 20_000
