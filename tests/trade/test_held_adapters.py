"""Held orders wait for the prices that the market adapters really give."""

from __future__ import annotations

import asyncio

import pytest

from livetrader_core.market.base import MarketBase
from livetrader_core.market.rehearsal import RehearsalMarket
from livetrader_core.market.replay import ReplayMarket
from livetrader_core.models import Order, OrderType, Side
from livetrader_core.service import MarketService
from livetrader_core.timeframe import MINUTE_MS
from livetrader_core.trade import TradeService
from tests.trade.scripted_venue import ScriptedVenue, until

#: Tuesday 2025-11-04 14:30 UTC: US stocks, forex and copper in the night all trade.
START = 1_762_266_600_000
SYMBOLS = ["US.BABA", "FOREX.EURUSD", "SHFE.cu2605"]
SETTINGS = {"source": "generated", "seed": 3, "symbols": SYMBOLS, "end": START + 86_400_000}


class Venue(ScriptedVenue):
    """Trades what the market quotes, in its time."""

    def __init__(self, market: MarketBase) -> None:
        super().__init__()
        self.markets = tuple(symbol.partition(".")[0] for symbol in SYMBOLS)
        self._market = market

    def now(self, symbol: str) -> int:
        return self._market.now()


@pytest.mark.parametrize("adapter", [RehearsalMarket, ReplayMarket])
def test_price_triggers_and_trails(adapter: type[RehearsalMarket | ReplayMarket]) -> None:
    async def main() -> None:
        market = adapter(**SETTINGS)  # type: ignore[arg-type]
        service, venue = MarketService(market), Venue(market)
        trade = TradeService(venue, ask_every=0.01, market=service)
        await trade.connect()
        await service.connect()
        try:
            for symbol in SYMBOLS:
                await service.watch(symbol)
                name = symbol[-6:]
                up = Order(f"up-{name}", symbol, Side.BUY, OrderType.STOP, 1.0, as_of=START)
                up = up.but(stop_price=1e-3)
                await trade.create_order(up)
                never = up.but(client_order_id=f"no-{name}", stop_price=1e9)
                await trade.create_order(never)
                trailing = never.but(
                    client_order_id=f"tr-{name}",
                    type=OrderType.TRAILING_STOP,
                    trail_percent=0.5,
                )
                await trade.create_order(trailing)
            market.begin(START, START + 30 * MINUTE_MS)
            await until(lambda: len(venue.arrived) == len(SYMBOLS), 60.0)
            assert {i[:2] for i in venue.arrived} == {"up"}

            def has_trailed(symbol: str) -> bool:
                order = trade.journal.order(f"tr-{symbol[-6:]}")
                return order is not None and order.stop_price < 1e9

            await until(lambda: all(map(has_trailed, SYMBOLS)), 60.0)
        finally:
            await trade.stop()
            await service.stop()

    asyncio.run(main())
