"""Prices for orders that wait for one: ticks where the market gives them, else closed klines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from typing import TypeVar

from livetrader_core.errors import InvalidRequest, LiveTraderError
from livetrader_core.models import (
    Contract,
    FeedState,
    FeedStatus,
    Kline,
    MarketEvent,
    Tick,
    market_of,
)
from livetrader_core.service import MarketService

log = logging.getLogger(__name__)

Quote = TypeVar("Quote", Tick, Kline)
#: Takes a quote, its contract, and the moment (UTC ms) since which its feed is live.
Taker = Callable[[Tick | Kline, Contract, int], None]

#: Klines that stand for quotes where there are none.
_TIMEFRAME = "1m"


class PriceFeeds:
    """Follows the symbols that are wanted, and no others.

    A feed that breaks is begun anew every ``pause`` seconds.
    """

    def __init__(self, market: MarketService, take: Taker, pause: float = 1.0) -> None:
        self._market = market
        self._take = take
        self._pause = pause
        self._feeds: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._live_since: dict[str, int] = {}
        self._remove_listener: Callable[[], None] | None = None

    @property
    def symbols(self) -> list[str]:
        """What is followed."""
        return list(self._feeds)

    def want(self, symbols: Collection[str]) -> None:
        """Follow exactly ``symbols``."""
        if self._remove_listener is None:
            self._remove_listener = self._market.add_listener(self._on_market)
        for symbol in [symbol for symbol in self._feeds if symbol not in symbols]:
            self._leave(symbol)
        for symbol in symbols:
            if symbol not in self._feeds:
                self._feeds[symbol] = asyncio.get_running_loop().create_task(self._keep(symbol))

    async def stop(self) -> None:
        """Follow nothing."""
        for symbol in list(self._feeds):
            self._leave(symbol)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._remove_listener is not None:
            self._remove_listener()
            self._remove_listener = None

    def _leave(self, symbol: str) -> None:
        self._live_since.pop(symbol, None)
        feed = self._feeds.pop(symbol)
        feed.cancel()
        self._leaving.add(feed)
        feed.add_done_callback(self._leaving.discard)

    # ---- one symbol

    async def _keep(self, symbol: str) -> None:
        said = ""
        while True:
            try:
                if self._market.connected:
                    await self._follow(symbol)
            except Exception as error:
                unforeseen = not isinstance(error, LiveTraderError)
                if said != str(error):  # not once a second while it lasts
                    said = str(error)
                    log.warning(
                        "orders wait for a price of %s, and there is none: %s",
                        symbol,
                        said,
                        exc_info=unforeseen,
                    )
            await asyncio.sleep(self._pause)

    async def _follow(self, symbol: str) -> None:
        contract = await self._market.get_contract(symbol)
        market = self._market.market_for(symbol)
        self._live_since[symbol] = self._now(symbol)
        try:
            await self._read(market.watch_ticks(symbol), symbol, contract)
        except InvalidRequest:
            klines = market.watch_klines(symbol, _TIMEFRAME)
            await self._read(klines, symbol, contract)

    async def _read(self, quotes: AsyncIterator[Quote], symbol: str, contract: Contract) -> None:
        try:
            async for quote in quotes:
                if symbol in self._live_since:
                    self._take(quote, contract, self._live_since[symbol])
        finally:
            close = getattr(quotes, "aclose", None)
            if close is not None:
                await close()

    # ---- the line

    def _on_market(self, event: MarketEvent) -> None:
        if not isinstance(event, FeedStatus) or event.state is FeedState.ENDED:
            return
        # What was missed while the line was down decides nothing when it comes late.
        for symbol in self._live_since:
            if market_of(symbol) in event.markets:
                self._live_since[symbol] = self._now(symbol)

    def _now(self, symbol: str) -> int:
        market = self._market.market_for(symbol)
        if not market.begun:  # its time is still the computer's; all that it will give is new
            return 0
        return self._market.clock(symbol) - (0 if market.clocked else market.delay_ms)
