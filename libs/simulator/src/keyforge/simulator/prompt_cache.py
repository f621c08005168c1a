"""Which prefixes of prompts the simulated provider has read before, by account, bounded in memory."""

import hashlib
from collections import OrderedDict
from typing import Any, Final

import msgspec

BLOCK_TOKENS: Final = 128
"""What a cached prefix grows by. Precedent: OpenAI's prompt caching, from 1,024 tokens on in steps of 128."""
CACHED_TOKENS_MIN: Final = 1024
"""A shorter prefix is not cached, as above."""
TOKEN_BYTES: Final = 4
"""As `answers.bill` counts a prompt."""
BLOCKS_MAX: Final = 8_192
"""Chosen: 4 MiB of prompts, the largest body that an edge forwards by default, in some 1.5 MB of memory."""
_BLOCK_BYTES: Final = BLOCK_TOKENS * TOKEN_BYTES
_encode = msgspec.json.Encoder().encode


class PromptCache:
    """The newest blocks of prompts, each known by all that is before it."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def read(self, account: str, request: dict[str, Any], body_bytes: int) -> int:
        """Remember a chat request's prompt; return how many tokens of it an account's earlier ones began with."""
        if body_bytes < CACHED_TOKENS_MIN * TOKEN_BYTES:
            return 0  # as nearly all are: nothing to encode
        prompt = _encode([request.get("model"), request.get("tools"), request.get("messages")])
        chain = hashlib.blake2b(account.encode(), digest_size=16)
        blocks: list[bytes] = []
        for end in range(_BLOCK_BYTES, min(len(prompt), BLOCKS_MAX * _BLOCK_BYTES) + 1, _BLOCK_BYTES):
            chain.update(prompt[end - _BLOCK_BYTES : end])
            blocks.append(chain.digest())
        known = next((at for at, block in enumerate(blocks) if block not in self._known), len(blocks))
        for block in reversed(blocks):  # so that what all later blocks stand on is the last to be forgotten
            self._known[block] = None
            self._known.move_to_end(block)
        while len(self._known) > BLOCKS_MAX:
            self._known.popitem(last=False)
        tokens = known * BLOCK_TOKENS
        return tokens if tokens >= CACHED_TOKENS_MIN else 0
