"""The broker's books against a simple reference that counts in fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from livetrader_bt.account import Account
from livetrader_bt.rates import Rates
from livetrader_core.models import Commission, Contract, Margin
from tests.support.data import proving
from tests.support.scripted_market import contract

CONTRACTS: dict[str, Contract] = {
    "US.A": contract(),
    "FOREX.EURUSD": contract(
        "FOREX.EURUSD",
        price_tick=0.00001,
        quantity_step=0.01,
        min_quantity=0.01,
        multiplier=100_000.0,
        margin=Margin(rate=0.01),
    ),
    "SHFE.rb2605": contract(
        "SHFE.rb2605",
        price_tick=1.0,
        multiplier=10.0,
        currency="CNY",
        margin=Margin(per_unit=3000.0),
        commission=Commission(per_unit=1.5),
    ),
}
FIRST = {"US.A": 10_000, "FOREX.EURUSD": 110_000, "SHFE.rb2605": 3_000}
RATES = {"USD": Fraction(1), "CNY": Fraction("0.14")}
CASH = {"USD": Fraction(100_000), "CNY": Fraction(500_000)}
STEPS = Counter[str]()


@dataclass
class Reference:
    """One position, and the cash of its currency moves with it: average cost, no tricks."""

    contract: Contract
    size: Fraction = Fraction(0)
    entry: Fraction = Fraction(0)
    mark: Fraction = Fraction(0)

    @property
    def multiplier(self) -> Fraction:
        return Fraction(self.contract.multiplier)

    def fill(self, size: Fraction, price: Fraction) -> Fraction:
        """Trade, and return what it brings in cash, before its commission."""
        closes = self.size * size < 0
        closed = (1 if size > 0 else -1) * min(abs(size), abs(self.size)) if closes else Fraction(0)
        opened = size - closed
        profit = -closed * (price - self.entry) * self.multiplier
        rest = self.size + closed
        if opened:
            self.entry = (abs(rest) * self.entry + abs(opened) * price) / abs(rest + opened)
        self.size = rest + opened
        if not self.size:
            self.entry = Fraction(0)
        self.mark = self.mark or price
        return profit if self.contract.margined else -size * price * self.multiplier

    def worth(self) -> Fraction:
        """What it adds to the cash in an account's equity."""
        if self.contract.margined:
            return self.size * (self.mark - self.entry) * self.multiplier
        return self.size * self.mark * self.multiplier


class AccountMachine(RuleBasedStateMachine):
    """Fills and prices in three contracts, two currencies, paid in full and on margin."""

    @initialize()
    def begin(self) -> None:
        self.account = Account(Rates("USD", {"CNY": 0.14}))
        for spec in CONTRACTS.values():
            self.account.register(spec)
        self.account.set_cash({currency: float(amount) for currency, amount in CASH.items()})
        self.cash = dict(CASH)
        self.held = {symbol: Reference(spec) for symbol, spec in CONTRACTS.items()}
        self.prices = dict(FIRST)

    def price(self, symbol: str, ticks: int) -> Fraction:
        self.prices[symbol] = max(1, self.prices[symbol] + ticks)
        tick = Fraction(str(CONTRACTS[symbol].price_tick))
        return self.prices[symbol] * tick

    @rule(
        symbol=st.sampled_from(sorted(CONTRACTS)),
        steps=st.integers(-300, 300).filter(bool),
        ticks=st.integers(-50, 50),
        cents=st.integers(0, 500),
    )
    def fill(self, symbol: str, steps: int, ticks: int, cents: int) -> None:
        STEPS["steps"] += 1
        spec, held = CONTRACTS[symbol], self.held[symbol]
        size = steps * Fraction(str(spec.quantity_step))
        price, commission = self.price(symbol, ticks), Fraction(cents, 100)
        before = held.size
        self.cash[spec.currency] += held.fill(size, price) - commission
        done = self.account.apply(symbol, float(size), float(price), float(commission))
        assert done.closed + done.opened == pytest.approx(float(size), abs=1e-9)
        assert abs(done.closed) <= abs(float(before)) + 1e-9
        total = done.closed_commission + done.opened_commission
        assert total == pytest.approx(float(commission * RATES[spec.currency]))
        holding = self.account.holdings[symbol]
        holding.mark = holding.mark or float(price)

    @rule(symbol=st.sampled_from(sorted(CONTRACTS)))
    def close(self, symbol: str) -> None:
        """The whole position: it is flat then, to the last bit."""
        size = self.held[symbol].size
        if not size:
            return
        STEPS["steps"] += 1
        price = self.price(symbol, 3)
        spec = CONTRACTS[symbol]
        self.cash[spec.currency] += self.held[symbol].fill(-size, price)
        self.account.apply(symbol, -float(size), float(price), 0.0)
        assert self.account.position(symbol).size == 0.0

    @rule(symbol=st.sampled_from(sorted(CONTRACTS)), ticks=st.integers(-80, 80))
    def quote(self, symbol: str, ticks: int) -> None:
        STEPS["steps"] += 1
        price = self.price(symbol, ticks)
        self.held[symbol].mark = price
        self.account.holdings[symbol].mark = float(price)

    @invariant()
    def positions_are_exact(self) -> None:
        for symbol, held in self.held.items():
            position = self.account.position(symbol)
            assert position.size == CONTRACTS[symbol].snap_quantity(float(held.size))
            assert position.price == pytest.approx(float(held.entry), rel=1e-9)

    @invariant()
    def money_is_right_to_the_cent(self) -> None:
        for currency, amount in self.cash.items():
            assert self.account.cash[currency] == pytest.approx(float(amount), abs=0.001)
        total = sum(amount * RATES[currency] for currency, amount in self.cash.items())
        assert self.account.total_cash() == pytest.approx(float(total), abs=0.001)
        worth = sum(h.worth() * RATES[h.contract.currency] for h in self.held.values())
        assert self.account.equity() == pytest.approx(float(total + worth), abs=0.001)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_books_against_fractions(record_property: Callable[[str, object], None]) -> None:
    STEPS.clear()
    run_state_machine_as_test(
        AccountMachine,
        settings=settings(
            max_examples=300 if proving() else 40,
            stateful_step_count=60 if proving() else 30,
            deadline=None,
            derandomize=not proving(),
            suppress_health_check=list(HealthCheck),
        ),
    )
    record_property("the broker's books: steps compared with the model", STEPS["steps"])
    assert STEPS["steps"] > (10_000 if proving() else 300)
