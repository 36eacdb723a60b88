"""Risk limits: what they refuse, with which reason, and that nobody goes round them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livetrader_core.errors import ConfigError, OrderRejected
from livetrader_core.models import Balance, Commission, Margin, Order, OrderStatus, OrderType, Side
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from livetrader_core.trade.risk import DailyLoss, Exposure, RiskChecks, RiskLimits
from tests.support.scripted_market import ScriptedMarket, bar, contract
from tests.trade.scripted_venue import ScriptedVenue, order, until

LOTS = contract(
    "FX.A",
    quantity_step=0.01,
    min_quantity=0.01,
    multiplier=100_000.0,
    margin=Margin(rate=0.01),
    commission=Commission(per_unit=1.0),
)


def wish(quantity: float = 1.0, side: Side = Side.BUY, **fields: Any) -> Order:
    kind = OrderType.LIMIT if "price" in fields else OrderType.MARKET
    return Order("r-1", "FX.A", side, kind, quantity, **fields)


def refusal(limits: RiskLimits, what: Order, **known: Any) -> str:
    exposure = {"contract": LOTS, "price": 1.1, "position": 0.0, "working": 0.0, **known}
    return RiskChecks(limits).refusal(what, Exposure(**exposure))


@pytest.mark.parametrize(
    ("limits", "what", "known", "reason"),
    [
        ({"symbols": ("US.*", "FX.B")}, wish(), {}, "risk: symbols: FX.A is not among US.*, FX.B"),
        ({"symbols": ("FX.*",)}, wish(), {}, ""),
        ({}, wish(0.015), {}, "risk: quantity: 0.015 of FX.A is not a multiple of 0.01"),
        ({}, wish(0.07), {}, ""),
        ({"max_quantity": 2.0}, wish(2.01), {}, "risk: max_quantity: 2.01 of FX.A is more than 2"),
        ({"max_quantity": 2.0}, wish(2.0), {}, ""),
        ({"max_position": 3.0}, wish(2.0), {"position": 1.5}, "risk: max_position: FX.A could"),
        ({"max_position": 3.0}, wish(1.0), {"position": 1.0, "working": 1.0}, ""),
        (
            {"max_position": 3.0},
            wish(1.01),
            {"position": 1.0, "working": 1.0},
            "could come to 3.01",
        ),
        ({"max_position": 3.0}, wish(4.0, Side.SELL), {"position": 1.0}, ""),
        ({"max_position": 3.0}, wish(5.0, Side.SELL), {"position": 1.0}, "could come to -4"),
        ({"max_notional": {"USD": 1e5}}, wish(1.0), {}, "max_notional: 110,000.00 USD is more"),
        ({"max_notional": {"USD": 1e5}}, wish(0.9), {}, ""),
        ({"max_notional": {"EUR": 1.0}}, wish(1.0), {}, ""),
        ({"max_notional": {"USD": 1e5}}, wish(0.9), {"price": 0.0}, "no price of FX.A is known"),
        (
            {"max_notional": {"USD": 1e5}},
            wish(),
            {"contract": None},
            "contract of FX.A is not known",
        ),
        ({"price_collar": 0.05}, wish(price=1.04), {}, "price_collar: 1.04 is more than 5.00%"),
        ({"price_collar": 0.05}, wish(price=1.05), {}, ""),
        ({"price_collar": 0.05}, wish(), {"price": 0.0}, ""),
        ({"price_collar": 0.05}, wish(price=1.1), {"price": 0.0}, "no price of FX.A is known yet"),
    ],
)
def test_each_limit_has_its_reason(
    limits: dict[str, Any], what: Order, known: dict[str, Any], reason: str
) -> None:
    told = refusal(RiskLimits(**limits), what, **known)
    assert told == "" if not reason else reason in told


def test_orders_a_minute_are_counted_in_a_sliding_minute() -> None:
    now = [0.0]
    checks = RiskChecks(RiskLimits(orders_per_minute=2), lambda: now[0])
    known = Exposure(LOTS, 1.1, 0.0, 0.0)
    assert checks.refusal(wish(), known) == ""
    now[0] = 30.0
    assert checks.refusal(wish(), known) == ""
    assert "again in 30 s" in checks.refusal(wish(), known)
    assert checks.refusal(wish(), known, counts=False) == ""  # a change is no new order
    now[0] = 60.0
    assert checks.refusal(wish(), known) == ""
    assert "orders_per_minute: 2" in checks.refusal(wish(), known)


def test_after_the_days_loss_only_orders_that_reduce_a_position_pass() -> None:
    checks = RiskChecks(RiskLimits(max_daily_loss={"USD": 100.0}))
    checks.lost = {"USD": 120.0}
    long = Exposure(LOTS, 1.1, 2.0, 0.0)
    assert "max_daily_loss: 120.00 USD lost today" in checks.refusal(wish(), long)
    assert checks.refusal(wish(2.0, Side.SELL), long) == ""
    assert "max_daily_loss" in checks.refusal(wish(2.01, Side.SELL), long)
    assert "max_daily_loss" in checks.refusal(wish(1.0, Side.SELL), Exposure(LOTS, 1.1, 2.0, 1.5))


def test_the_days_loss_begins_anew_with_the_day_and_not_with_a_restart() -> None:
    def equity(value: float) -> list[Balance]:
        return [Balance("a", "USD", value, 0.0, value, value)]

    limits = {"USD": 100.0}
    loss = DailyLoss(limits, None)
    assert loss.take("2026-03-02", equity(1000.0)) == {}
    assert loss.take("2026-03-02", equity(901.0)) == {}
    again = DailyLoss(limits, loss.to_note())
    assert again.take("2026-03-02", equity(900.0)) == {"USD": 100.0}
    assert again.take("2026-03-03", equity(850.0)) == {}
    assert again.take("2026-03-03", equity(750.0)) == {"USD": 100.0}


def test_a_limit_that_cannot_be_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="max_quantity"):
        RiskLimits(max_quantity=-1.0)
    with pytest.raises(ConfigError, match="max_notional: USD"):
        RiskLimits(max_notional={"USD": 0.0})


def test_what_the_server_refuses_never_reaches_the_venue_and_is_journaled() -> None:
    async def main() -> None:
        market = ScriptedMarket([contract()])
        service = MarketService(market)
        await service.connect()
        await service.watch("US.A")
        venue = ScriptedVenue()
        limits = RiskLimits(max_quantity=10.0, max_position=15.0, price_collar=0.1)
        trade = TradeService(venue, market=service, risk=limits)
        await trade.connect()
        await market.moment(bar(0, 100.0, 101.0, 99.0, 100.0))
        await trade.create_order(order("a-1"))
        with pytest.raises(OrderRejected, match="risk: max_quantity: 11"):
            await trade.create_order(order("a-2", quantity=11.0))
        # What works counts as if it were filled.
        with pytest.raises(OrderRejected, match=r"risk: max_position: US\.A could come to 16"):
            await trade.create_order(order("a-3", quantity=6.0))
        far = Order("a-4", "US.A", Side.BUY, OrderType.LIMIT, 1.0, price=111.0)
        with pytest.raises(OrderRejected, match="risk: price_collar: 111"):
            await trade.create_order(far)
        await trade.create_order(far.but(client_order_id="a-5", price=109.0))
        with pytest.raises(OrderRejected, match="risk: price_collar: 111"):
            await trade.modify_order("a-5", price=111.0)
        with pytest.raises(OrderRejected, match="risk: max_position"):
            await trade.modify_order("a-5", quantity=6.0)
        assert venue.arrived == ["a-1", "a-5"]
        refused = await trade.fetch_order("a-2")
        assert refused is not None
        assert refused.status is OrderStatus.REJECTED
        assert refused.reason.startswith("risk: max_quantity")
        await trade.stop()
        await service.stop()

    asyncio.run(main())


def test_the_days_loss_of_the_accounts_stops_new_orders() -> None:
    class Losing(ScriptedVenue):
        equity = 1000.0

        async def fetch_balance(self) -> list[Balance]:
            return [Balance("a", "USD", self.equity, 0.0, self.equity, self.equity)]

    async def main() -> None:
        venue = Losing()
        trade = TradeService(venue, ask_every=0.01, risk=RiskLimits(max_daily_loss={"USD": 50.0}))
        await trade.connect()
        await trade.create_order(order("a-1"))
        await until(lambda: trade.journal.noted("daily_loss") is not None)
        venue.equity = 940.0
        numbers = iter(range(2, 1000))

        async def refused() -> str:
            for number in numbers:
                try:
                    await trade.create_order(order(f"a-{number}"))
                except OrderRejected as error:
                    return str(error)
                await asyncio.sleep(0.005)
            return "never"

        assert "risk: max_daily_loss: 60.00 USD lost today" in await refused()
        await trade.stop()

    asyncio.run(main())
