"""The account as a strategy sees it: cash and positions of all venues, valued in one currency.

Backtest, paper and live share these books, so that the same fills give the same figures to the
last bit. Cash is kept per currency; positions per symbol; everything told to backtrader is in the
base currency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.commission import ContractCommission, contract_commission
from livetrader_bt.rates import Rates
from livetrader_core.models import Contract

if TYPE_CHECKING:
    from livetrader_bt.feed import LiveTraderData


@dataclass(frozen=True)
class Execution:
    """What a fill did to a position, as ``bt.Order.execute`` takes it (values in base currency)."""

    size: float
    price: float
    closed: float
    closed_value: float
    closed_commission: float
    opened: float
    opened_value: float
    opened_commission: float
    profit: float
    position_size: float
    position_price: float


@dataclass
class Holding:
    """One symbol's position with what values it; ``mark`` is the last known price."""

    commission: ContractCommission
    position: bt.Position
    mark: float = 0.0


def snap(contract: Contract, position: bt.Position) -> tuple[float, float, float]:
    """Rid ``position`` of what sums of fractions leave behind; its size, opened and closed.

    0.1 + 0.2 - 0.3 lots must be flat, not 5e-17 lots long.
    """
    position.size = contract.snap_quantity(position.size)
    position.upopened = contract.snap_quantity(position.upopened)
    position.upclosed = contract.snap_quantity(position.upclosed)
    if not position.size:
        position.price = 0.0
    return position.size, position.upopened, position.upclosed


class TradeSums:
    """What each trade of backtrader sums up to, fill by fill, so that it ends at exactly nothing.

    backtrader ends a trade when its sum is 0, and never does where 0.3 - 0.2 - 0.1 is not.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int, int], float] = {}

    def begin(self, owner: Any, data: Any, size: float) -> None:
        """A trade begins that no fill of this run opened."""
        self._sums[id(owner), id(data), 0] = size

    def exact(self, order: bt.Order, *parts: float) -> tuple[float, ...]:
        """The ``parts`` of a fill, closed and opened, as its trades can take them."""
        owner = order.owner
        if owner is None:  # backtrader's default
            owner = next(iter(order.broker.cerebro.runningstrats), None)
        key = id(owner), id(order.data), order.tradeid
        exact = []
        for part in parts:
            before = self._sums.get(key, 0.0)
            if part and not order.data.contract.snap_quantity(before + part):
                part = -before
            self._sums[key] = before + part
            exact.append(part)
        return tuple(exact)


class Positions(defaultdict[Any, bt.Position]):
    """Net positions: feeds of one symbol share one, kept under the first of them."""

    def __init__(self) -> None:
        super().__init__(bt.Position)
        self._first: dict[str, Any] = {}

    def __reduce__(self) -> Any:
        return Positions, ()  # a broker that is copied into another process has not run

    def __getitem__(self, data: Any) -> bt.Position:
        symbol = getattr(data, "symbol", None)
        return super().__getitem__(data if symbol is None else self._first.setdefault(symbol, data))


class Account:
    """Cash by currency and positions by symbol."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        rates.reset()
        self.cash: dict[str, float] = {}
        self.holdings: dict[str, Holding] = {}

    def register(self, contract: Contract) -> ContractCommission:
        """Know ``contract``; returns its CommissionInfo.

        Raises ConfigError if there is no rate of its currency.
        """
        symbol = contract.symbol
        if symbol not in self.holdings:
            self.rates.of(contract.currency)
            self.holdings[symbol] = Holding(
                contract_commission(contract, self.rates), bt.Position()
            )
        return self.holdings[symbol].commission

    def knows(self, symbol: str) -> bool:
        """Whether the contract of ``symbol`` is known."""
        return symbol in self.holdings

    def commission(self, symbol: str) -> ContractCommission:
        """The CommissionInfo of ``symbol``, which must be known."""
        return self.holdings[symbol].commission

    def set_cash(self, cash: Mapping[str, float]) -> None:
        """Set the cash of each currency. Raises ConfigError where there is money without a rate."""
        for currency in [currency for currency, amount in cash.items() if amount]:
            self.rates.of(currency)
        self.cash = dict(cash)

    def set_position(self, symbol: str, size: float, price: float) -> None:
        """Set a position that was not traded here; ``symbol`` must be registered."""
        holding = self.holdings[symbol]
        holding.position = bt.Position(size, price)
        holding.mark = holding.mark or price

    def position(self, symbol: str) -> bt.Position:
        """The position in ``symbol``; flat if it was never traded."""
        holding = self.holdings.get(symbol)
        return bt.Position() if holding is None else holding.position

    def apply(self, symbol: str, size: float, price: float, commission: float) -> Execution:
        """Book a fill of signed ``size``; ``commission`` in the contract's currency."""
        holding = self.holdings[symbol]
        info, position = holding.commission, holding.position
        entry = position.price
        position.update(size, price)
        new_size, opened, closed = snap(info.contract, position)
        profit = info.profitandloss(-closed, entry, price) if closed else 0.0
        base_commission = commission * info.rate
        share = abs(closed) / abs(size)
        self._book(info.contract, size, price, closed, entry, commission)
        return Execution(
            size=size,
            price=price,
            closed=closed,
            closed_value=info.getvaluesize(-closed, entry) if closed else 0.0,
            closed_commission=base_commission * share,
            opened=opened,
            opened_value=info.getvaluesize(opened, price) if opened else 0.0,
            opened_commission=base_commission * (1.0 - share),
            profit=profit,
            position_size=new_size,
            position_price=position.price,
        )

    def _book(
        self,
        contract: Contract,
        size: float,
        price: float,
        closed: float,
        entry: float,
        commission: float,
    ) -> None:
        money = -commission
        if contract.margined:
            money += -closed * (price - entry) * contract.multiplier
        else:
            money -= size * price * contract.multiplier
        self.cash[contract.currency] = self.cash.get(contract.currency, 0.0) + money

    def mark(self, feeds: Iterable[LiveTraderData]) -> None:
        """Value the positions, and the currencies that follow one, at the bars of ``feeds``."""
        for feed in feeds:
            if len(feed):
                self.rates.follow(feed.symbol, feed.close[0])
                self.register(feed.contract)
                self.holdings[feed.symbol].mark = feed.close[0]

    # ---- values, all in the base currency

    def total_cash(self) -> float:
        """All cash."""
        return sum(
            amount * self.rates.of(currency) for currency, amount in self.cash.items() if amount
        )

    def available(self) -> float:
        """What can be spent: cash and open profit of margined positions, less their margin."""
        total = self.total_cash()
        for holding in self.holdings.values():
            position = holding.position
            if position.size and holding.commission.contract.margined:
                total += self._open_profit(holding)
                total -= holding.commission.getvalue(position, holding.mark)
        return total

    def equity(self) -> float:
        """Cash, plus open profit of margined positions, plus market value of the others."""
        total = self.total_cash()
        for holding in self.holdings.values():
            if not holding.position.size:
                continue
            if holding.commission.contract.margined:
                total += self._open_profit(holding)
            else:
                total += holding.commission.getvalue(holding.position, holding.mark)
        return total

    def position_value(self, symbols: Iterable[str]) -> float:
        """Value of the positions in ``symbols``, as ``bt.Strategy.order_target_*`` wants it."""
        holdings = [self.holdings[symbol] for symbol in symbols if symbol in self.holdings]
        return sum(h.commission.getvalue(h.position, h.mark) for h in holdings)

    def _open_profit(self, holding: Holding) -> float:
        position = holding.position
        return holding.commission.profitandloss(position.size, position.price, holding.mark)
