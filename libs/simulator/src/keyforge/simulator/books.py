"""The provider's own books: every request that it received, in order, and what it billed for it."""

from collections import deque
from itertools import islice
from typing import Any, Final, Literal

import msgspec

ENTRIES_MAX: Final = 200_000
"""Chosen: three minutes of a bench at 1,000 requests a second; older entries are dropped, totals stay."""
PAGE_MAX: Final = 10_000
"""Entries in one response: a few MB."""


class BookEntry(msgspec.Struct):
    """One request. `outcome` is how its answer ended: still open, finished, cut by us, or the client disconnected."""

    number: int
    path: str
    model: str
    stream: bool
    request_id: str
    authorization: str  # SHA-256 of the header, hex
    body_sha256: str
    body_bytes: int
    max_tokens: int | None = None
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    outcome: Literal["open", "finished", "cut", "gone"] = "open"


class Books:
    """The newest entries, bounded, and totals over all of them."""

    def __init__(self) -> None:
        self._entries: deque[BookEntry] = deque(maxlen=ENTRIES_MAX)
        self._count = 0
        self._prompt_tokens = self._completion_tokens = 0

    def receive(self, entry: BookEntry) -> None:
        """Enter a request."""
        self._count += 1
        entry.number = self._count
        self._entries.append(entry)

    def bill(self, entry: BookEntry, prompt_tokens: int, completion_tokens: int) -> None:
        """Add tokens to the bill of a request."""
        entry.prompt_tokens += prompt_tokens
        entry.completion_tokens += completion_tokens
        self._prompt_tokens += prompt_tokens
        self._completion_tokens += completion_tokens

    def page(self, after: int = 0, limit: int = PAGE_MAX) -> dict[str, Any]:
        """Return totals and the entries numbered above `after`."""
        first = self._count - len(self._entries)  # number of the newest entry that was dropped
        start = max(after - first, 0)
        return {
            "requests": self._count,
            "dropped": first,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "open": sum(1 for entry in self._entries if entry.outcome == "open"),
            "entries": list(islice(self._entries, start, start + min(limit, PAGE_MAX))),
        }
