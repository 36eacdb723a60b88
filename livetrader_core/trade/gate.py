"""Gate: what every new order must pass in the server before the journal lets it out."""

from __future__ import annotations

from collections.abc import Callable

from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Contract, Kline, MarketEvent, Order, Tick
from livetrader_core.service import MarketService
from livetrader_core.trade.books import Books
from livetrader_core.trade.kill import KillSwitch
from livetrader_core.trade.risk import Exposure, RiskChecks


class Gate:
    """Kill switch and risk limits; ``market`` gives contracts and last prices."""

    def __init__(
        self,
        kill: KillSwitch,
        risk: RiskChecks | None,
        books: Books,
        market: MarketService | None,
        open_orders: Callable[[], list[Order]],
    ) -> None:
        self._kill = kill
        self._risk = risk
        self._books = books
        self._market = market
        self._open_orders = open_orders
        self._contracts: dict[str, Contract] = {}
        self._prices: dict[str, float] = {}
        self._remove_listener: Callable[[], None] | None = None

    def start(self) -> None:
        """Follow the prices that are published."""
        if self._risk is not None and self._market is not None:
            self._remove_listener = self._market.add_listener(self._on_market)

    def stop(self) -> None:
        """Follow nothing."""
        if self._remove_listener is not None:
            self._remove_listener()
            self._remove_listener = None

    def _on_market(self, event: MarketEvent) -> None:
        if isinstance(event, Kline):
            self._prices[event.symbol] = event.close
        elif isinstance(event, Tick) and event.last:
            self._prices[event.symbol] = event.last

    async def learn(self, symbol: str) -> None:
        """Ask the market for what the checks of ``symbol`` need, once."""
        if self._risk is None or self._market is None:
            return
        try:
            if symbol not in self._contracts:
                self._contracts[symbol] = await self._market.get_contract(symbol)
            if self._risk.limits.need_price and symbol not in self._prices:
                klines = await self._market.get_kline_histories(symbol, limit=1)
                if len(klines):
                    self._prices.setdefault(symbol, float(klines.close[-1]))
        except LiveTraderError:
            return  # the checks that need it refuse the order, and say so

    def refusal(self, order: Order) -> str:
        """Why the new ``order`` must not leave; empty if it may."""
        return self._kill.refusal or self._risk_refusal(order, counts=True)

    def refusal_of_change(self, order: Order) -> str:
        """Why a working order must not become ``order``; empty if it may."""
        return self._risk_refusal(order, counts=False)

    def _risk_refusal(self, order: Order, counts: bool) -> str:
        if self._risk is None:
            return ""
        known = Exposure(
            self._contracts.get(order.symbol),
            self._prices.get(order.symbol, 0.0),
            self._books.expected(order.symbol),
            self._working(order),
        )
        return self._risk.refusal(order, known, counts)

    def _working(self, order: Order) -> float:
        """What could trade beside ``order``: of orders that end one another, only the largest."""
        largest: dict[tuple[str, str], float] = {}
        for other in self._open_orders():
            alike = (other.symbol, other.side) == (order.symbol, order.side)
            if alike and other.client_order_id != order.client_order_id:
                group = _group(other)
                largest[group] = max(largest.get(group, 0.0), other.remaining)
        own = _group(order)
        largest[own] = max(0.0, largest.get(own, 0.0) - order.remaining)
        return sum(largest.values())


def _group(order: Order) -> tuple[str, str]:
    if order.parent:
        return ("bracket", order.parent)
    return ("group", order.oco or order.client_order_id)
