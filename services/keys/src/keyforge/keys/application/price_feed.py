"""The price book follows the price data: for a provider when it is registered, for all of them once a day."""

import asyncio
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.keys.application.platform import Platform
from keyforge.keys.application.ports import PriceData
from keyforge.keys.core.facts import Provider
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

PRICES_PER_COMMAND_MAX: Final = 200
"""A command must fit one frame, which holds 256 events."""
FIRST_FEED_AFTER_S: Final = 10.0
"""Chosen: prices change by the day, so nothing waits for it, and a start is over by then: `up` is ready after 2.3 s
(docs/measured.md)."""
FEED_EVERY_S: Final = 24 * 3600.0
"""The data changes with a new release of its library only; a day also sees prices that begin at a date."""


class PriceFeed:
    """Feeds price data into the price book, except where an operator has set a price."""

    def __init__(self, platform: Platform, data: PriceData, clock: Clock) -> None:
        self._platform = platform
        self._data = data
        self._clock = clock
        self._logger = logs.get("price_feed")

    async def unknown(self, name: str) -> Problem | None:
        """Return why there are no prices of this name, or None."""
        if name in await asyncio.to_thread(self._data.feeds):
            return None
        text = f"`price_feed` must be null or a provider's id in {self._data.source()}, such as openai."
        return problem("request_invalid", text, param="price_feed")

    async def feed(self, provider: Provider) -> None:
        """Feed one provider. A failure is logged and not raised: the next feed tries again."""
        name = provider.price_feed
        if name is None:
            return
        try:
            proposals = await asyncio.to_thread(self._data.proposals, name, self._clock.now().date())
        except Exception:  # the library's data changes shape with every release; prices can wait for ours
            self._logger.exception("price data cannot be read", provider=provider.provider)
            return
        changed, source = 0, self._data.source()
        for start in range(0, len(proposals), PRICES_PER_COMMAND_MAX):
            chunk = proposals[start : start + PRICES_PER_COMMAND_MAX]
            done = await self._platform.feed_prices(provider.provider, chunk, source=source)
            if isinstance(done, Problem):
                self._logger.warning("prices cannot be stored", provider=provider.provider, reason=done.kind.type)
                break
            changed += done
        if changed:
            await self._platform.project_prices(provider.provider)
            self._logger.info("prices updated", provider=provider.provider, models=changed, source=source)

    async def run(self) -> None:
        """Feed every provider, shortly after the start and then once a day. Never returns."""
        await asyncio.sleep(FIRST_FEED_AFTER_S)
        while True:
            for provider in self._platform.providers():
                await self.feed(provider)
            await asyncio.sleep(FEED_EVERY_S)
