"""A strategy scripted minute by minute, on a replay, at a venue that the test plays itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrader as bt

from livetrader_bt import LiveTraderStore
from livetrader_bt.times import to_ms
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.models import (
    Balance,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Position,
    TimeInForce,
)
from livetrader_core.timeframe import MINUTE_MS
from livetrader_core.trade import TradeService
from livetrader_core.trade.base import CHANGES, Abilities, VenueEvent
from tests.trade.scripted_venue import ScriptedVenue

#: A Tuesday, 08:00 UTC.
START = 1_604_390_400_000
EURUSD = "FOREX.EURUSD"
HOURS = 60 * MINUTE_MS

Script = dict[int, Callable[["Scripted"], Any]]


class Venue(ScriptedVenue):
    """A forex venue that does everything by itself; every price is the test's."""

    abilities = Abilities(frozenset(OrderType), frozenset(TimeInForce), linked=True, modify=CHANGES)

    def __init__(self) -> None:
        super().__init__("FOREX")
        self.balances = [Balance("v", "USD", 1e6, 0.0, 1e6, 1e6)]
        self.positions: list[Position] = []
        self.canceled: list[str] = []
        self.modified: list[tuple[str, Any, Any, Any]] = []

    async def fetch_balance(self) -> list[Balance]:
        return self.balances

    async def fetch_positions(self) -> list[Position]:
        return self.positions

    async def cancel_order(self, client_order_id: str) -> None:
        self.canceled.append(client_order_id)
        await super().cancel_order(client_order_id)

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        self.modified.append((client_order_id, quantity, price, stop_price))
        asked = {"quantity": quantity, "price": price, "stop_price": stop_price}
        changes = {name: value for name, value in asked.items() if value is not None}
        changed = self.orders[client_order_id].but(**changes)
        self.orders[client_order_id] = changed
        return changed

    def trade(
        self, client_order_id: str, quantity: float, price: float, commission: float = 0.0
    ) -> None:
        """Fill a part of an order."""
        before = self.orders[client_order_id]
        filled = round(before.filled + quantity, 10)
        done = filled >= before.quantity
        after = before.but(
            filled=filled,
            average_price=price,
            status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
        )
        self.orders[client_order_id] = after
        fill = Fill(
            f"t{len(self.fills)}",
            client_order_id,
            before.symbol,
            before.side,
            quantity,
            price,
            commission,
            START,
        )
        self.fills.append(fill)
        self.events.put(VenueEvent(START, after, fill))

    def end(self, client_order_id: str, status: OrderStatus, reason: str = "") -> None:
        """End an order."""
        ended = self.orders[client_order_id].but(status=status, reason=reason)
        self.orders[client_order_id] = ended
        self.events.put(VenueEvent(START, ended))


class Rig:
    """The services, the store, and the runs of a test."""

    def __init__(
        self, journal: Path | None = None, abilities: Abilities | None = None, **store: Any
    ) -> None:
        source = GeneratedSource(
            [EURUSD, "FOREX.USDJPY", "US.BABA"], seed=3, start="2020-11-01", days=5
        )
        self.venue = Venue()
        self.market = MarketService(ReplayMarket(source))
        if abilities is not None:
            self.venue.abilities = abilities
        self.trade = TradeService(self.venue, journal, market=self.market)
        rates = {"JPY": 0.01, **store.pop("rates", {})}
        self.store = LiveTraderStore(service=(self.market, self.trade), rates=rates, **store)

    def do(self, act: Callable[[], Any]) -> None:
        """Have the venue do something, and wait until the broker could know of it."""

        async def acting() -> None:
            act()
            await self.venue.told()

        self.store.call(acting())

    def run(
        self,
        script: Script,
        broker: dict[str, Any] | None = None,
        symbols: tuple[str, ...] = (EURUSD,),
        prepare: Callable[[bt.Cerebro], None] | None = None,
        minutes: int = 20,
        **setup: Any,
    ) -> Scripted:
        """Run ``script`` live; its keys are minutes after :data:`START`."""
        cerebro = bt.Cerebro(stdstats=False)
        try:
            self.store.setup(
                cerebro,
                symbols,
                "live",
                **{
                    "fromdate": START - HOURS,
                    "live_from": START,
                    "todate": START + minutes * MINUTE_MS,
                    **setup,
                },
            )
            if broker is not None:
                cerebro.setbroker(self.store.getbroker(**broker))
            cerebro.addstrategy(Scripted, script=script)
            if prepare is not None:
                prepare(cerebro)
            (ran,) = cerebro.run()
            return ran
        finally:
            self.store.close()


class Scripted(bt.Strategy):
    """Does at each minute what the script says, and keeps what it is told."""

    params = (("script", None),)

    def __init__(self) -> None:
        self.told: list[bt.Order] = []
        self.trades: list[bt.Trade] = []
        self.messages: list[str] = []
        self.minute = 0

    def notify_order(self, order: bt.Order) -> None:
        self.told.append(order)

    def notify_trade(self, trade: bt.Trade) -> None:
        self.trades.append(trade)

    def notify_store(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        self.messages.append(msg)

    def next(self) -> None:
        now = max(to_ms(data.datetime[0]) for data in self.datas if len(data))
        self.minute = (now - START) // MINUTE_MS
        act = self.p.script.get(self.minute)
        if act is not None:
            act(self)

    prenext = next

    def statuses(self, order: bt.Order) -> list[str]:
        """What was told of ``order``, in order."""
        return [told.getstatusname() for told in self.told if told.ref == order.ref]


def id_of(order: bt.Order) -> str:
    """The client_order_id of ``order``."""
    return str(order.info.client_order_id)


def until(s: Scripted, condition: Callable[[], Any]) -> None:
    """Let what the server does beside the replay happen, and be told."""
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
        s.cerebro._brokernotify()
