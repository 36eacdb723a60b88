"""Random orders and faults: whatever happens, TradeService and the venue agree in the end."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Offset, Order, OrderStatus, TimeInForce
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.service import TradeService
from livetrader_core.trade.tq import TqTrade
from tests.support.data import proving
from tests.support.tq_trading import (
    MEAL,
    REBAR,
    TqVenue,
    buy,
    open_venue,
    quiet,
    sell,
    with_prices,
)

SEEDS = 40 if proving() else 3
_PRICES = {REBAR: 3000, MEAL: 2800}


class Run:
    """One schedule of orders and faults."""

    def __init__(self, seed: int, venue: TqVenue, journal: Path) -> None:
        self.random = random.Random(seed)
        self.venue = venue
        self.journal = journal
        self.sent = 0
        self.service = self._service()

    def _service(self) -> TradeService:
        adapter = self.venue.adapter(timeout=0.6)
        return TradeService(adapter, self.journal, ask_every=0.05, settle_after=0.1)

    @property
    def adapter(self) -> TqTrade:
        [adapter] = self.service.adapters
        assert isinstance(adapter, TqTrade)
        return adapter

    def order(self) -> Order:
        self.sent += 1
        symbol = self.random.choice([REBAR, MEAL])
        make = self.random.choice([buy, sell])
        price = float(_PRICES[symbol] + self.random.randint(-4, 4))
        if self.random.random() < 0.3:
            price = 0.0
        force = self.random.choice([*[TimeInForce.GTC] * 4, TimeInForce.IOC, TimeInForce.FOK])
        offset = self.random.choice([*[Offset.AUTO] * 5, Offset.CLOSE, Offset.OPEN])
        name, volume = f"r-{self.sent}", self.random.randint(1, 6)
        return make(name, volume, price, symbol, time_in_force=force, offset=offset)

    async def step(self) -> None:
        self._fault()
        orders = [self.order() for _ in range(self.random.randint(1, 3))]
        await asyncio.gather(*(self._create(order) for order in orders))
        if self.random.random() < 0.5:
            await self._cancel_one()
        if self.random.random() < 0.5:
            self.venue.move(self.random.choice([0.25, 1.0]))
        if self.random.random() < 0.1:
            await self.restart()

    def _fault(self) -> None:
        trading = self.venue.server.trading
        trading.trades_late = self.random.random() < 0.5
        trading.depth = self.random.choice([0, 1, 3])
        chance = self.random.random()
        if chance < 0.06:
            trading.lost_requests = 1
        elif chance < 0.12:
            trading.lost_answers = 1
        elif chance < 0.2:
            self.venue.server.cut_trading()
        elif chance < 0.25:
            self.venue.server.inject(Fault(FaultKind.RESTART, 0.1))
        elif chance < 0.3:
            self.venue.server.inject(Fault(FaultKind.LATE, 0.1, 3))

    async def _create(self, order: Order) -> None:
        try:
            await self.service.create_order(order)
        except LiveTraderError:
            return  # what became of it is asked in the end

    async def _cancel_one(self) -> None:
        working = await self.service.fetch_open_orders()
        if working:
            try:
                await self.service.cancel_order(self.random.choice(working).client_order_id)
            except LiveTraderError:
                return

    async def restart(self) -> None:
        await self.service.stop()
        self.service = self._service()
        deadline = time.monotonic() + 20
        while True:
            try:
                await self.service.connect()
                return
            except LiveTraderError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    async def finish(self) -> None:
        """No more faults; all that works is cancelled."""
        trading = self.venue.server.trading
        trading.lost_requests = trading.lost_answers = 0
        deadline = time.monotonic() + 30
        while working := await self.service.fetch_open_orders():
            assert time.monotonic() < deadline, f"still open: {working}"
            for order in working:
                try:
                    await self.service.cancel_order(order.client_order_id)
                except LiveTraderError:
                    continue
            await asyncio.sleep(0.1)

    async def check(self) -> None:
        desk = self.venue.desk()
        assert not [key for key, one in desk.orders.items() if one.alive]
        orders = await self.service.fetch_orders()
        assert len(orders) == self.sent
        for order in orders:
            trades = [
                one
                for key, one in desk.trades.items()
                if key.startswith(f"LT_{order.client_order_id}_")
            ]
            traded = sum(one["volume"] for one in trades)
            assert order.filled == traded, order
            assert (order.status is OrderStatus.FILLED) == (traded == order.quantity), order
            if order.status is OrderStatus.REJECTED:
                assert not traded
            if traded:
                amount = sum(one["volume"] * one["price"] for one in trades)
                assert order.average_price == pytest.approx(amount / traded)
        fills = await self.service.fetch_fills()
        assert sorted(fill.trade_id for fill in fills) == sorted(desk.trades)
        net = {
            symbol: float(one["volume_long"] - one["volume_short"])
            for symbol, one in desk.account.positions(desk.price).items()
        }
        found = {one.symbol: one.quantity for one in await self.service.fetch_positions()}
        assert found == {symbol: volume for symbol, volume in net.items() if volume}
        for symbol, volume in net.items():
            ours = [fill for fill in fills if fill.symbol == symbol]
            assert sum(fill.side.sign * fill.quantity for fill in ours) == volume
        [balance] = await self.service.fetch_balance()
        tree = desk.account.tree(desk.price, 0.0)
        assert balance.equity == pytest.approx(tree["balance"], abs=0.001)
        assert balance.cash == pytest.approx(tree["balance"] - tree["float_profit"], abs=0.001)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_orders_fills_positions_and_cash_agree_after_any_faults(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        swing = random.Random(seed)
        recordings = [
            with_prices(
                quiet(symbol, float(price)),
                [float(price + swing.randint(-3, 3)) for _ in range(60)],
            )
            for symbol, price in _PRICES.items()
        ]
        async with open_venue(recordings) as venue:
            run = Run(seed, venue, tmp_path / "journal.db")
            await run.service.connect()
            for _ in range(25 if proving() else 12):
                await run.step()
            await run.finish()
            await run.check()
            await run.service.stop()

    asyncio.run(main())
