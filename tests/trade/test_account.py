"""The books of a simulated account."""

from __future__ import annotations

import pytest

from livetrader_core.models import Commission, Margin, Position
from livetrader_core.trade.paper.account import Account
from tests.support.scripted_market import contract

STOCK = contract("US.A", commission=Commission(per_unit=0.01))
FUTURE = contract(
    "SHFE.B",
    currency="CNY",
    multiplier=10.0,
    margin=Margin(rate=0.1),
    commission=Commission(rate=0.001),
)


def test_stock_spends_its_value_and_brings_it_back() -> None:
    account = Account({"USD": 1_000.0})
    account.trade(STOCK, 5, 100.0)
    account.mark([("US.A", 110.0)])
    (balance,) = account.balances()
    assert (balance.account, balance.currency, balance.margin) == ("paper", "USD", 0.0)
    assert balance.cash == balance.available == pytest.approx(499.95)
    assert balance.equity == pytest.approx(1_049.95)
    booking = account.trade(STOCK, -5, 120.0)
    assert (booking.closed, booking.opened, booking.profit) == (-5, 0.0, 100.0)
    book = account.book("USD")
    assert book.cash == pytest.approx(1_000 + 100 - 0.10)
    assert book.commission == pytest.approx(0.10)
    assert book.realized_profit == 100.0
    assert account.positions() == []


def test_short_stock_credits_its_proceeds() -> None:
    account = Account({"USD": 1_000.0})
    account.trade(STOCK, -5, 100.0)
    account.mark([("US.A", 90.0)])
    book = account.book("USD")
    assert book.cash == pytest.approx(1_499.95)
    assert book.equity == pytest.approx(1_049.95)


def test_margined_contract_reserves_margin_at_its_entry_price() -> None:
    account = Account({"CNY": 10_000.0})
    account.trade(FUTURE, 2, 1_000.0)
    account.mark([("SHFE.B", 1_050.0)])
    (balance,) = account.balances()
    assert balance.cash == pytest.approx(10_000 - 20)
    assert balance.margin == pytest.approx(2_000)
    assert balance.equity == pytest.approx(10_980)
    assert balance.available == pytest.approx(8_980)
    account.trade(FUTURE, -2, 1_050.0)
    (balance,) = account.balances()
    assert balance.cash == pytest.approx(10_000 - 20 + 1_000 - 21)
    assert (balance.margin, balance.available) == (0.0, balance.cash)


def test_average_price_moves_only_when_a_position_grows() -> None:
    account = Account({"CNY": 1e6})
    for signed, price, expected in [
        (2, 100.0, Position("SHFE.B", 2, 100.0)),
        (2, 110.0, Position("SHFE.B", 4, 105.0)),
        (-1, 130.0, Position("SHFE.B", 3, 105.0)),
        (-5, 120.0, Position("SHFE.B", -2, 120.0)),
        (-2, 100.0, Position("SHFE.B", -4, 110.0)),
    ]:
        account.trade(FUTURE, signed, price)
        assert account.positions() == [expected]


def test_turning_a_position_closes_first_and_opens_the_rest() -> None:
    account = Account({"CNY": 10_000.0})
    account.trade(FUTURE, 3, 1_000.0)
    booking = account.trade(FUTURE, -5, 1_010.0)
    assert (booking.closed, booking.opened, booking.quantity) == (-3, -2, 5)
    assert booking.profit == pytest.approx(300.0)
    assert booking.commission == pytest.approx(5 * 10.1)


def test_margin_refuses_the_opening_part_only() -> None:
    account = Account({"CNY": 1_000.0})
    account.trade(FUTURE, 0.5, 1_000.0, check_margin=True)
    booking = account.trade(FUTURE, -5.5, 1_000.0, check_margin=True)
    assert booking.refused
    assert (booking.closed, booking.opened, booking.quantity) == (-0.5, 0.0, 0.5)
    assert account.positions() == []
    assert account.book("CNY").cash == pytest.approx(1_000 - 5 - 5)


def test_a_currency_without_money_is_not_affordable() -> None:
    account = Account({"USD": 1e9})
    assert account.trade(FUTURE, 1, 1_000.0, check_margin=True).refused
    assert not account.trade(STOCK, 1, 1_000.0, check_margin=True).refused


def test_tenths_leave_no_dust() -> None:
    lots = contract("FOREX.E", quantity_step=0.01, multiplier=1e5, margin=Margin(rate=0.01))
    account = Account({"USD": 1e6})
    for signed in (0.1, 0.2, -0.3):
        account.trade(lots, signed, 1.1)
    assert account.positions() == []
