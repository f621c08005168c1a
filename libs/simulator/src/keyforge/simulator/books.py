"""The provider's own books: every request that it received, in order, and what it billed for it."""

from collections import deque
from itertools import islice
from typing import Any, Final, Literal

import msgspec

PAGE_MAX: Final = 10_000
"""Entries in one response: a few MB."""
ENTRIES_MAX: Final = 10_000
"""Chosen: `PAGE_MAX`, so that one response has all of them; measured 6 MB. Older ones are dropped, totals stay."""
Outcome = Literal["open", "finished", "cut", "gone"]


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
    outcome: Outcome = "open"


class Books:
    """The newest entries, bounded, and totals over all that ever came."""

    def __init__(self) -> None:
        self._entries: deque[BookEntry] = deque(maxlen=ENTRIES_MAX)
        self._count = 0
        self._prompt = self._completion = self._cached = self._reasoning = 0
        self._outcomes: dict[str, int] = {"open": 0, "finished": 0, "cut": 0, "gone": 0}

    def receive(self, entry: BookEntry) -> None:
        """Enter a request."""
        self._count += 1
        entry.number = self._count
        self._outcomes["open"] += 1
        self._entries.append(entry)

    def bill(self, entry: BookEntry, prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> None:
        """Add tokens to the bill of a request; cached ones are among the prompt's, reasoning among the completion's."""
        entry.prompt_tokens += prompt
        entry.completion_tokens += completion
        entry.cached_tokens += cached
        entry.reasoning_tokens += reasoning
        self._prompt += prompt
        self._completion += completion
        self._cached += cached
        self._reasoning += reasoning

    def end(self, entry: BookEntry, outcome: Outcome) -> None:
        """Enter how an answer ended; only its first end counts."""
        if entry.outcome == "open":
            entry.outcome = outcome
            self._outcomes["open"] -= 1
            self._outcomes[outcome] += 1

    def page(self, after: int = 0, limit: int = PAGE_MAX) -> dict[str, Any]:
        """Return totals and the entries numbered above `after`."""
        first = self._count - len(self._entries)  # number of the newest entry that was dropped
        start = max(after - first, 0)
        return {
            "requests": self._count,
            "dropped": first,
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "cached_tokens": self._cached,
            "reasoning_tokens": self._reasoning,
            **self._outcomes,
            "entries": list(islice(self._entries, start, start + min(limit, PAGE_MAX))),
        }
