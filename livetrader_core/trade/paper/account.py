"""The books of a simulated account: cash, positions, margin and profit, one book per currency.

Two kinds of contracts are kept differently. A margined one (futures, forex) reserves margin at its
entry price, and its profit goes to cash when it is closed. One paid in full (stocks) spends its
notional value when bought and brings it back when sold; selling short credits the proceeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from livetrader_core.models import Balance, Contract, Position


@dataclass
class Holding:
    """An open position: net ``quantity`` (positive is long) entered at ``average_price``.

    ``mark`` is the price it is valued at, ``day`` the trading day up to which its nights are paid.
    """

    contract: Contract
    quantity: float = 0.0
    average_price: float = 0.0
    mark: float = 0.0
    day: date | None = None

    @property
    def margin(self) -> float:
        """What it reserves; 0 if it was paid in full."""
        if not self.contract.margined:
            return 0.0
        return abs(self.quantity) * self.contract.margin_of(self.average_price)

    @property
    def open_profit(self) -> float:
        """Profit at ``mark`` that is not in cash yet; 0 if it was paid in full."""
        if not self.contract.margined:
            return 0.0
        return self.quantity * (self.mark - self.average_price) * self.contract.multiplier

    @property
    def market_value(self) -> float:
        """What a position paid in full is worth at ``mark`` (a short one: below zero)."""
        if self.contract.margined:
            return 0.0
        return self.quantity * self.mark * self.contract.multiplier

    def split(self, signed: float) -> tuple[float, float]:
        """A trade of ``signed`` units as (what it closes, what it opens), with its sign."""
        if self.quantity * signed >= 0:
            return 0.0, signed
        if abs(signed) <= abs(self.quantity):
            return signed, 0.0
        return -self.quantity, _clean(signed + self.quantity)


@dataclass(frozen=True)
class Booking:
    """What was booked of a trade: the quantities (with sign) it closed and opened, the profit it
    realized, its commission, and whether its opening part was refused for want of money.
    """

    closed: float
    opened: float
    profit: float
    commission: float
    refused: bool = False

    @property
    def quantity(self) -> float:
        """What was traded, without sign."""
        return _clean(abs(self.closed + self.opened))


@dataclass
class Book:
    """Money and positions in one currency."""

    currency: str
    cash: float = 0.0
    realized_profit: float = 0.0
    commission: float = 0.0
    holdings: dict[str, Holding] = field(default_factory=dict)

    @property
    def margin(self) -> float:
        """What all positions reserve."""
        return sum(holding.margin for holding in self.holdings.values())

    @property
    def available(self) -> float:
        """What can be spent: cash and open profit, without what is reserved."""
        return self.cash + sum(h.open_profit - h.margin for h in self.holdings.values())

    @property
    def equity(self) -> float:
        """Cash, open profit, and the market value of what was paid in full."""
        return self.cash + sum(h.open_profit + h.market_value for h in self.holdings.values())

    def trade(
        self,
        contract: Contract,
        signed: float,
        price: float,
        check_margin: bool = False,
        is_whole: bool = False,
    ) -> Booking:
        """Book a trade of ``signed`` units at ``price``.

        With ``check_margin`` the part that opens a position is refused if it would leave less
        than nothing available; the part that closes one is booked all the same, unless the trade
        ``is_whole`` or nothing.
        """
        holding = self.holdings.get(contract.symbol) or Holding(contract)
        closed, opened = holding.split(signed)
        before = (self.cash, self.realized_profit, self.commission, holding.quantity)
        profit = self._close(holding, closed, price) if closed else 0.0
        refused = bool(opened) and check_margin and not self._affordable(contract, opened, price)
        if refused and is_whole:
            self.cash, self.realized_profit, self.commission, holding.quantity = before
            return Booking(0.0, 0.0, 0.0, 0.0, refused)
        if refused:
            opened = 0.0
        if opened:
            self._open(holding, opened, price)
        if holding.quantity:
            self.holdings[contract.symbol] = holding
        else:
            self.holdings.pop(contract.symbol, None)
        commission = contract.commission_of(closed, price) + contract.commission_of(opened, price)
        return Booking(closed, opened, profit, commission, refused)

    def mark(self, symbol: str, price: float) -> None:
        """Value the position in ``symbol``, if there is one, at ``price``."""
        holding = self.holdings.get(symbol)
        if holding is not None:
            holding.mark = price

    def _close(self, holding: Holding, closed: float, price: float) -> float:
        contract = holding.contract
        profit = -closed * (price - holding.average_price) * contract.multiplier
        self._pay(contract.commission_of(closed, price))
        self.cash += profit if contract.margined else -closed * price * contract.multiplier
        self.realized_profit += profit
        holding.quantity = _clean(holding.quantity + closed)
        return profit

    def _open(self, holding: Holding, opened: float, price: float) -> None:
        contract = holding.contract
        self._pay(contract.commission_of(opened, price))
        if not contract.margined:
            self.cash -= opened * price * contract.multiplier
        quantity = _clean(holding.quantity + opened)
        spent = holding.quantity * holding.average_price + opened * price
        holding.average_price = spent / quantity if holding.quantity else price
        holding.quantity = quantity
        # As BackBroker does: from here on, the whole position is valued at this trade's price.
        holding.mark = price

    def _affordable(self, contract: Contract, opened: float, price: float) -> bool:
        cost = contract.commission_of(opened, price)
        if contract.margined:
            cost += abs(opened) * contract.margin_of(price)
        else:
            cost += opened * price * contract.multiplier
        return self.available - cost >= 0

    def _pay(self, commission: float) -> None:
        self.cash -= commission
        self.commission += commission


class Account:
    """One book per currency; a contract is booked in its own currency."""

    def __init__(self, cash: Mapping[str, float], name: str = "paper") -> None:
        self.name = name
        self.books = {currency: Book(currency, float(amount)) for currency, amount in cash.items()}

    def book(self, currency: str) -> Book:
        """The book of ``currency``; an empty one if it has none yet."""
        return self.books.setdefault(currency, Book(currency))

    def trade(
        self,
        contract: Contract,
        signed: float,
        price: float,
        check_margin: bool = False,
        is_whole: bool = False,
    ) -> Booking:
        """:meth:`Book.trade` in the contract's currency."""
        return self.book(contract.currency).trade(contract, signed, price, check_margin, is_whole)

    def mark(self, prices: Iterable[tuple[str, float]]) -> None:
        """Value positions at (symbol, price) pairs."""
        for symbol, price in prices:
            for book in self.books.values():
                book.mark(symbol, price)

    def positions(self) -> list[Position]:
        """Positions that are not flat, by symbol."""
        held = [
            Position(symbol, holding.quantity, holding.average_price)
            for book in self.books.values()
            for symbol, holding in book.holdings.items()
        ]
        return sorted(held, key=lambda position: position.symbol)

    def balances(self) -> list[Balance]:
        """One balance for each currency."""
        return [
            Balance(self.name, currency, book.cash, book.margin, book.available, book.equity)
            for currency, book in self.books.items()
        ]


def _clean(quantity: float) -> float:
    # Sums of 0.1 leave dust; ten decimals are finer than any lot step.
    return round(quantity, 10)
