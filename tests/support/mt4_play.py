"""Mt4Trade at a terminal with the compiled advisor, and what it told, for the length of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.sim.recording import MINUTE_MS
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.mt4 import Mt4Trade
from tests.ea.client import attached
from tests.ea.terminal import EaTerminal
from tests.support.dwx_trading import NOON, told, venue_fills
from tests.support.dwx_venue import EURUSD, USDJPY
from tests.support.mt4_account import held
from tests.support.mt4_course import course, priced


class Play:
    """A terminal whose price takes a course, and an adapter with what it told."""

    def __init__(self, terminal: EaTerminal, clock: SteppedClock, folder: Path) -> None:
        self.terminal, self.clock, self._folder = terminal, clock, folder
        self.endpoint = terminal.endpoint
        self.seen: list[VenueEvent] = []
        self.trade: Mt4Trade = None  # type: ignore[assignment]

    async def begin(self, **settings: Any) -> None:
        quick = {"timeout": 0.5, "patience": 0.3, "retry": 0.01, "longest_retry": 0.05}
        self.trade = Mt4Trade(
            self.endpoint,
            clock=self.clock,
            state=self._folder / "state.sqlite",
            **{**quick, **settings},
        )
        await self.trade.connect()
        self._reader = asyncio.create_task(self._follow())
        await asyncio.sleep(0)

    async def _follow(self) -> None:
        async for event in self.trade.watch_events():
            self.seen.append(event)

    async def end(self) -> None:
        await self.trade.disconnect()
        await self._reader

    async def minutes(self, count: int = 1) -> None:
        self.clock.advance(self.clock.now() + count * MINUTE_MS)
        await asyncio.sleep(0.03)

    async def found(self, name: str) -> Order | None:
        """What the adapter knows of an order once its line is there again."""
        while True:
            with suppress(LiveTraderError):
                return await self.trade.fetch_order(name)
            await asyncio.sleep(0.01)

    async def status(self, name: str) -> OrderStatus:
        order = await self.found(name)
        assert order is not None
        return order.status

    async def waiting(
        self, name: str, ticks: int, kind: OrderType, lots: float = 0.3, side: Side = Side.SELL
    ) -> Order:
        """Place an order so many ticks from the first price."""
        return await self.trade.create_order(priced(name, ticks, kind, lots, side))

    async def assert_same_books(self) -> None:
        """Fills, positions and cash of the adapter are the terminal's, to the cent."""
        trading = self.terminal.trading
        fills = await self.trade.fetch_fills()
        assert told(fills) == venue_fills(trading)
        positions = {p.symbol: p.quantity for p in await self.trade.fetch_positions()}
        assert positions == held(trading)
        (balance,) = await self.trade.fetch_balance()
        assert balance.cash == trading.balance

    async def assert_same_prices(self) -> None:
        """Orders that work do so at the prices that the terminal has for them."""
        tickets = self.terminal.trading.tickets.values()
        theirs = {t.open_price for t in tickets if t.kind.pending}
        theirs |= {level for t in tickets for level in (t.stop_loss, t.take_profit) if level}
        orders = await self.trade.fetch_open_orders()
        ours = {o.stop_price if o.type is OrderType.STOP else o.price for o in orders}
        assert ours == theirs


Scene = Callable[[Play], Awaitable[None]]


def play(scene: Scene, folder: Path, ticks: Sequence[int] = (0,), **settings: Any) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        shown = [course(EURUSD, ticks), course(USDJPY, [0])]
        async with attached(clock, shown) as terminal:
            run = Play(terminal, clock, folder)
            await run.begin(**settings)
            try:
                await scene(run)
            finally:
                await run.end()

    asyncio.run(main())
