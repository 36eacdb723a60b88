"""A trade service with a venue that does little by itself, and a market that quotes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.service import MarketService
from livetrader_core.sessions import Sessions
from livetrader_core.trade import Journal, TradeService
from livetrader_core.trade.base import Abilities
from tests.support.quoting_market import QuotingMarket
from tests.support.scripted_market import ALWAYS, contract
from tests.trade.scripted_venue import ScriptedVenue, until

SYMBOL = "US.A"


class PlainVenue(ScriptedVenue):
    """Knows market and limit orders until cancelled; its time is the market's."""

    def __init__(self, market: QuotingMarket) -> None:
        super().__init__()
        self.market = market
        self.sent: list[Order] = []
        self.canceled: list[str] = []
        self.abilities = Abilities()

    async def create_order(self, order: Order) -> Order:
        self.sent.append(order)
        return await super().create_order(order)

    async def cancel_order(self, client_order_id: str) -> None:
        self.canceled.append(client_order_id)
        await super().cancel_order(client_order_id)

    def now(self, symbol: str) -> int:
        return self.market.time


class Rig:
    """A market, a venue and the service between them, which can be killed and started anew."""

    def __init__(
        self, journal: Path | None = None, ticks: bool = True, sessions: Sessions = ALWAYS
    ) -> None:
        contracts = [contract(SYMBOL, sessions=sessions), contract("US.B", sessions=sessions)]
        self.market = QuotingMarket(contracts, ticks)
        self.venue = PlainVenue(self.market)
        self.path = journal
        self.service = MarketService(self.market)
        self.trade = self.new_trade()

    def new_trade(self) -> TradeService:
        journal = None if self.path is None else Journal(self.path)
        return TradeService(
            self.venue, journal, ask_every=0.01, settle_after=0.0, market=self.service
        )

    async def open(self) -> None:
        await self.service.connect()
        await self.trade.connect()

    async def close(self) -> None:
        await self.trade.stop()
        await self.service.stop()
        self.trade.journal.close()

    async def restart(self) -> None:
        """The server's process dies and is started anew: nothing is said to anybody."""
        dead = self.trade
        dead.journal.close()
        dead.journal.append = dead.journal._rows = _dead  # type: ignore[method-assign]
        dead._held._unwritten.clear()
        await dead.stop()
        self.trade = self.new_trade()
        await self.trade.connect()

    def order(self, client_order_id: str = "s-1") -> Order:
        known = self.trade.journal.order(client_order_id)
        assert known is not None
        return known

    def status(self, client_order_id: str = "s-1") -> OrderStatus:
        return self.order(client_order_id).status

    def statuses(self, client_order_id: str) -> list[OrderStatus]:
        events = self.trade.events_after(0)
        return [e.order.status for e in events if e.order.client_order_id == client_order_id]

    async def quote(self, last: float = 0.0, bid: float = 0.0, ask: float = 0.0) -> None:
        """A quote, as soon as somebody follows it."""
        await until(lambda: SYMBOL in self.market.readers)
        await self.market.quote(last, bid, ask)

    async def ends(self, status: OrderStatus, *client_order_ids: str) -> None:
        """Wait until these orders stand so."""
        await until(lambda: all(self.status(i) is status for i in client_order_ids))

    async def sent(self, *client_order_ids: str) -> None:
        """Wait until the venue has been sent exactly these, in this order."""
        await until(lambda: len(self.venue.arrived) >= len(client_order_ids))
        assert self.venue.arrived == list(client_order_ids)
        await until(lambda: not self.trade._sender.tasks)

    async def looked(self) -> None:
        """Wait until the server has looked at every order once more."""
        rounds = 0
        held = self.trade._held
        review = held._review_all

        def counted() -> None:
            nonlocal rounds
            review()
            rounds += 1

        held._review_all = counted  # type: ignore[method-assign]
        await until(lambda: rounds >= 2)
        held._review_all = review  # type: ignore[method-assign]

    async def calm(self) -> None:
        """Let everything that can happen now happen, without waiting for a timer."""
        for _ in range(30):
            self.trade._held._wake.set()
            await asyncio.sleep(0)

    def later(self, minutes: float) -> None:
        """Time passes."""
        self.market.time += int(minutes * 60_000)


def _dead(*arguments: Any) -> Any:
    raise RuntimeError("this process is dead")


def held(
    kind: OrderType = OrderType.STOP,
    side: Side = Side.BUY,
    client_order_id: str = "s-1",
    **fields: Any,
) -> Order:
    """An order for 10 of :data:`SYMBOL`."""
    return Order(client_order_id, SYMBOL, side, kind, 10.0, **fields)


def run(work: Callable[[Rig], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        rig = Rig(**settings)
        await rig.open()
        try:
            await work(rig)
        finally:
            await rig.close()

    asyncio.run(main())
