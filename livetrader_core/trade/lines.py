"""Lines to the venues: which are lost, and what is asked when one stands again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from livetrader_core.trade.base import TradeBase


class Lines:
    """Those of ``adapters``; ``catch_up`` brings the books up to date with a venue that is back."""

    def __init__(
        self,
        adapters: Sequence[TradeBase],
        catch_up: Callable[[TradeBase], Awaitable[None]],
    ) -> None:
        self._adapters = adapters
        self._catch_up = catch_up
        self._away: set[TradeBase] = set()

    @property
    def lost(self) -> Mapping[str, str]:
        """By MARKET, why nothing can be sent to its venue at the moment."""
        return {code: one.lost for one in self._adapters if one.lost for code in one.markets}

    async def keep_on(self, every: float) -> None:
        """Look at each, every so many seconds."""
        while True:
            await asyncio.sleep(every)
            for adapter in self._adapters:
                await self._look(adapter)

    async def _look(self, adapter: TradeBase) -> None:
        if adapter.lost:
            self._away.add(adapter)
        elif adapter in self._away:
            self._away.discard(adapter)
            await self._catch_up(adapter)
