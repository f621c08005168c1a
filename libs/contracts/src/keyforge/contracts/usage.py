"""What a request consumed, in disjoint buckets, and what that costs at pinned prices."""

import msgspec

from keyforge.contracts.money import TOKENS_PER_MTOK


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Counted units of one request. Buckets are disjoint: a cached input token is not also an input token.

    `cache_write_tokens` were written into a cache for the usual time of some minutes, `cache_write_1h_tokens` for an
    hour.
    """

    cache_read_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    input_tokens: int = 0
    output_audio_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def tokens(self) -> int:
        """The tokens of all buckets."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.cache_write_1h_tokens
            + self.input_audio_tokens
            + self.output_tokens
            + self.reasoning_tokens
            + self.output_audio_tokens
        )

    @property
    def largest(self) -> int:
        """The count of the largest bucket."""
        return max(
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.cache_write_1h_tokens,
            self.input_audio_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.output_audio_tokens,
        )


class UnitPrices(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nano-dollars per million tokens of each bucket, and per request.

    Complete: a bucket without a price of its own repeats the price that it is billed at (a cache read costs what an
    input token does), or the highest of those that it can be (a write for an hour: of an input token's and a write's).
    """

    cache_read_nusd: int
    cache_write_1h_nusd: int
    cache_write_nusd: int
    input_audio_nusd: int
    input_nusd: int
    output_audio_nusd: int
    output_nusd: int
    reasoning_nusd: int
    request_nusd: int = 0

    @property
    def highest_nusd(self) -> int:
        """The highest of all prices."""
        return max(
            self.input_nusd,
            self.cache_read_nusd,
            self.cache_write_nusd,
            self.cache_write_1h_nusd,
            self.input_audio_nusd,
            self.output_nusd,
            self.reasoning_nusd,
            self.output_audio_nusd,
            self.request_nusd,
        )

    @property
    def knows_cache_1h(self) -> bool:
        """Whether a write for an hour has a price of its own: else it may cost more than is known."""
        return self.cache_write_1h_nusd != max(self.input_nusd, self.cache_write_nusd)

    def cost_nusd(self, usage: Usage) -> int:
        """Return usage x price in nano-dollars; only the sum is rounded up."""
        scaled = (
            usage.input_tokens * self.input_nusd
            + usage.cache_read_tokens * self.cache_read_nusd
            + usage.cache_write_tokens * self.cache_write_nusd
            + usage.cache_write_1h_tokens * self.cache_write_1h_nusd
            + usage.input_audio_tokens * self.input_audio_nusd
            + usage.output_tokens * self.output_nusd
            + usage.reasoning_tokens * self.reasoning_nusd
            + usage.output_audio_tokens * self.output_audio_nusd
        )
        return self.request_nusd - (-scaled // TOKENS_PER_MTOK)
