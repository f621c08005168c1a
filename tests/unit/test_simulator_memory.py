"""What the simulated provider keeps is bounded: its books, and what it has read of prompts."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from keyforge.simulator.books import ENTRIES_MAX, PAGE_MAX, BookEntry, Books
from keyforge.simulator.prompt_cache import BLOCKS_MAX, CACHED_TOKENS_MIN, PromptCache

CALLS = 5 * ENTRIES_MAX
"""With entries for all of them the books would be five times as large."""
BOOKS_BYTES_MAX = 12_000_000
PROMPTS_BYTES_MAX = 4_000_000


def book(books: Books, number: int) -> None:
    entry = BookEntry(
        number=0,
        path="/v1/chat/completions",
        model=f"sim-{number % 7}",
        stream=False,
        request_id=f"req-{number}",
        authorization=f"{number:064x}",
        body_sha256=f"{number:064x}",
        body_bytes=900,
    )
    books.receive(entry)
    books.bill(entry, 25, 9, cached=4, reasoning=2)
    books.end(entry, "finished" if number % 2 else "gone")
    books.end(entry, "cut")


@pytest.fixture
def held() -> Callable[[], int]:
    """How many bytes were allocated since the test began and are held."""

    def now() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    return now


def test_books_keep_totals_and_the_newest_entries(held: Callable[[], int]) -> None:
    tracemalloc.start()
    try:
        books = Books()
        for number in range(ENTRIES_MAX):
            book(books, number)
        full = held()
        for number in range(ENTRIES_MAX, CALLS):
            book(books, number)
        after = held()
    finally:
        tracemalloc.stop()
    assert full < BOOKS_BYTES_MAX
    assert after < full * 1.05
    page = books.page()
    assert (page["requests"], page["dropped"]) == (CALLS, CALLS - ENTRIES_MAX)
    assert (page["prompt_tokens"], page["completion_tokens"]) == (25 * CALLS, 9 * CALLS)
    assert (page["cached_tokens"], page["reasoning_tokens"]) == (4 * CALLS, 2 * CALLS)
    assert [page[outcome] for outcome in ("open", "finished", "cut", "gone")] == [0, CALLS // 2, 0, CALLS // 2]
    assert [entry.number for entry in page["entries"]] == list(range(CALLS - ENTRIES_MAX + 1, CALLS + 1))
    assert ENTRIES_MAX <= PAGE_MAX
    assert [entry.number for entry in books.page(after=CALLS - 2)["entries"]] == [CALLS - 1, CALLS]


def ask(cache: PromptCache, words: str, account: str = "a", tools: object = None) -> int:
    request = {"model": "m", "messages": [{"role": "user", "content": words}], "tools": tools}
    return cache.read(account, request, len(words) + 100)


def test_a_repeated_prefix_is_cached_for_its_account() -> None:
    cache = PromptCache()
    long = "x" * 9000
    assert ask(cache, long) == 0
    again = ask(cache, long)
    assert again >= 2048
    assert again % 128 == 0
    assert ask(cache, long + " and more") == again
    assert CACHED_TOKENS_MIN < ask(cache, "x" * 6000 + "y" * 3000) < again
    assert ask(cache, "y" + long) == 0
    assert ask(cache, long, account="b") == 0
    assert ask(cache, long, tools=[{"type": "function"}]) == 0
    assert ask(cache, "x" * 3000) == 0  # too short to be cached
    assert ask(cache, "x" * 3000) == 0


def test_prompts_are_forgotten_the_oldest_first(held: Callable[[], int]) -> None:
    tracemalloc.start()
    try:
        cache = PromptCache()
        ask(cache, "first" * 2000)
        for number in range(BLOCKS_MAX // 8):
            ask(cache, f"{number} " + "x" * 20_000)
        size = held()
    finally:
        tracemalloc.stop()
    assert size < PROMPTS_BYTES_MAX
    assert ask(cache, f"{BLOCKS_MAX // 8 - 1} " + "x" * 20_000) > CACHED_TOKENS_MIN
    assert ask(cache, "first" * 2000) == 0
    assert ask(cache, "z" * 40_000_000) == 0  # more than the cache holds
    assert ask(cache, "z" * 40_000_000) == BLOCKS_MAX * 128
