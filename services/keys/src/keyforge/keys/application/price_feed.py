"""The price book follows the price data: for a provider when it is registered, for all of them once a day."""

import asyncio
from typing import Final

from keyforge.contracts.errors import Problem
from keyforge.keys.application.platform import Platform
from keyforge.keys.application.ports import PriceData
from keyforge.keys.core.facts import Provider
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

CHUNK: Final = 200
"""Prices in one command: they must fit one frame."""
FIRST_S: Final = 10.0
"""The start belongs to what others wait for; prices that changed overnight can wait."""
EVERY_S: Final = 24 * 3600.0


class PriceFeed:
    """Brings price data into the price book, where no operator has set a price."""

    def __init__(self, platform: Platform, data: PriceData, clock: Clock) -> None:
        self._platform = platform
        self._data = data
        self._clock = clock
        self._log = logs.get("feed")

    async def feed(self, provider: Provider) -> None:
        """Feed one provider. What the data cannot do now it does tomorrow: a failure is told, not raised."""
        name = self._data.feed_of(provider)
        if name is None:
            return
        try:
            proposals = await asyncio.to_thread(self._data.proposals, name, self._clock.now().date())
        except Exception:  # noqa: BLE001  # the library's data changes shape with every release; prices can wait for ours
            self._log.exception("price data cannot be read", provider=provider.provider)
            return
        news, source = 0, self._data.source()
        for start in range(0, len(proposals), CHUNK):
            done = await self._platform.feed_prices(provider.provider, proposals[start : start + CHUNK], source=source)
            if isinstance(done, Problem):
                self._log.warning("prices could not be stored", provider=provider.provider, why=done.kind.type)
                break
            news += done
        if news:
            await self._platform.show_prices(provider.provider)
            self._log.info("prices taken in", provider=provider.provider, models=news, source=source)

    async def run(self) -> None:
        """Feed every provider, a while after the start and then once a day, for ever."""
        await asyncio.sleep(FIRST_S)
        while True:
            for provider in self._platform.providers():
                await self.feed(provider)
            await asyncio.sleep(EVERY_S)
