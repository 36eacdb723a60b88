"""The paper venue: which kline an order meets, what is refused, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from livetrader_core.errors import (
    ConfigError,
    InvalidRequest,
    NotConnected,
    OrderRejected,
    UnknownSymbol,
)
from livetrader_core.models import (
    Clock,
    Contract,
    Fill,
    Kline,
    Margin,
    Order,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from livetrader_core.service import MarketService
from livetrader_core.sessions import Sessions
from livetrader_core.trade import PaperTrade, TradeService
from tests.support.scripted_market import START, ScriptedMarket, bar, contract

BUY, SELL = Side.BUY, Side.SELL
MINUTE = 60_000


def order(number: int, side: Side = BUY, kind: OrderType = OrderType.MARKET, **more: Any) -> Order:
    fields: dict[str, Any] = {"symbol": "US.A", "quantity": 10.0, **more}
    return Order(f"o-{number}", side=side, type=kind, **fields)


def run(
    work: Callable[[ScriptedMarket, PaperTrade], Awaitable[None]],
    *contracts: Contract,
    clocked: bool = True,
    **settings: Any,
) -> None:
    async def main() -> None:
        market = ScriptedMarket(contracts or (contract(),), clocked)
        paper = PaperTrade(market, **settings)
        await paper.connect()
        try:
            await work(market, paper)
        finally:
            await paper.disconnect()

    asyncio.run(main())


def flat(minute: int, price: float = 100.0, **more: Any) -> Kline:
    return bar(minute, price, price + 1, price - 1, price, **more)


async def fills_of(paper: PaperTrade) -> list[tuple[str, float, float]]:
    return [(f.client_order_id, f.quantity, f.price) for f in await paper.fetch_fills()]


def test_order_meets_the_first_kline_that_opens_at_or_after_as_of() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, as_of=START + 2 * MINUTE))
        await market.moment(flat(0, 100.0))
        await market.moment(flat(1, 101.0))
        assert await paper.fetch_fills() == []
        await market.moment(flat(2, 102.0))
        (fill,) = await paper.fetch_fills()
        assert (fill.price, fill.kline) == (102.0, START + 2 * MINUTE)
        assert fill.datetime == START + 3 * MINUTE
        assert (await paper.fetch_order("o-1")).status is OrderStatus.FILLED  # type: ignore[union-attr]

    run(work)


def test_order_without_as_of_starts_at_the_venues_clock() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.service.watch("US.A")
        await market.moment(flat(0))
        taken = await paper.create_order(order(1))
        assert taken.as_of == START + MINUTE
        await market.moment(flat(1, 101.0))
        assert await fills_of(paper) == [("o-1", 10.0, 101.0)]

    run(work)


def test_late_order_meets_the_kline_that_has_opened_but_not_closed() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.service.watch("US.A")
        await market.moment(flat(0))
        market.time = START + MINUTE + 30_000
        await paper.create_order(order(1, as_of=START + MINUTE))
        await paper.create_order(order(2))
        await market.moment(flat(1, 101.0))
        await market.moment(flat(2, 102.0))
        assert await fills_of(paper) == [("o-1", 10.0, 101.0), ("o-2", 10.0, 102.0)]

    run(work, clocked=False)


def test_delayed_market_is_traded_at_its_own_time() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        market.delay_ms = 15 * MINUTE
        market.time = START + 15 * MINUTE
        assert (await paper.create_order(order(1))).as_of == START

    run(work, clocked=False)


def test_orders_of_a_moment_are_tried_in_the_order_of_arrival_over_symbols() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        for number, symbol in enumerate(["US.B", "US.A", "US.B", "US.A"]):
            await paper.create_order(order(number, symbol=symbol))
        await market.moment(flat(0), flat(0, 200.0, symbol="US.B"))
        assert [fill.symbol for fill in await paper.fetch_fills()] == [
            "US.B",
            "US.A",
            "US.B",
            "US.A",
        ]

    run(work, contract(), contract("US.B"))


def test_concurrent_orders_keep_their_order_of_arrival() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.service.watch("US.B")  # the first order has to wait for its stream, not this
        orders = [order(n, symbol="US.A" if n % 2 == 0 else "US.B") for n in range(6)]
        await asyncio.gather(*(paper.create_order(o) for o in orders))
        assert [o.client_order_id for o in await paper.fetch_open_orders()] == [
            o.client_order_id for o in orders
        ]

    run(work, contract(), contract("US.B"))


def test_order_is_tried_on_klines_of_its_own_timeframe() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.service.watch("US.A", "1m")
        await paper.create_order(order(1, timeframe="5m"))
        for minute in range(4):
            await market.moment(flat(minute, 90.0))
        await market.moment(flat(4, 90.0), flat(0, 100.0, timeframe="5m"))
        assert await fills_of(paper) == [("o-1", 10.0, 100.0)]

    run(work)


def test_gtd_order_expires_at_the_first_kline_that_closes_after_it() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        limit = {"kind": OrderType.LIMIT, "price": 99.0, "time_in_force": TimeInForce.GTD}
        await paper.create_order(order(1, **limit, expires_at=START + 2 * MINUTE))
        await paper.create_order(order(2, **limit, expires_at=START + 2 * MINUTE - 1))
        market_order = order(3, time_in_force=TimeInForce.GTD, expires_at=START + 1)
        await paper.create_order(market_order)
        await market.moment(flat(0, 105.0))
        await market.moment(flat(1, 100.0))
        assert await fills_of(paper) == [("o-3", 10.0, 105.0), ("o-1", 10.0, 99.0)]
        expired = await paper.fetch_order("o-2")
        assert expired is not None
        assert (expired.status, expired.updated_at) == (OrderStatus.EXPIRED, START + 2 * MINUTE)

    run(work)


def test_day_order_expires_with_the_trading_day_it_was_made_in() -> None:
    hours = Sessions(timezone="UTC", day=((0, 2),), weekdays=(0, 1, 2, 3, 4, 5, 6))
    day = {"kind": OrderType.LIMIT, "price": 99.0, "time_in_force": TimeInForce.DAY}

    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, **day))
        await market.moment(flat(0, 105.0))
        await market.moment(flat(1, 105.0))
        (still,) = await paper.fetch_open_orders()
        assert still.expires_at == START + 2 * MINUTE
        await paper.create_order(order(2, **day))
        await market.moment(flat(1440, 100.0))
        assert await fills_of(paper) == [("o-2", 10.0, 99.0)]

    run(work, contract(sessions=hours))


def test_volume_limit_fills_in_parts() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, quantity=10.0))
        await market.moment(flat(0, 100.0, volume=25.0))
        await market.moment(flat(1, 101.0, volume=3.0))
        partly = await paper.fetch_order("o-1")
        assert partly is not None
        assert (partly.status, partly.filled) == (OrderStatus.PARTIALLY_FILLED, 5.0)
        await market.moment(flat(2, 104.0, volume=1000.0))
        done = await paper.fetch_order("o-1")
        assert done is not None
        assert (done.status, done.filled) == (OrderStatus.FILLED, 10.0)
        assert done.average_price == pytest.approx(102.0)
        assert len({fill.trade_id for fill in await paper.fetch_fills()}) == 2

    run(work, volume_limit=0.2)


def test_margin_ends_an_order_after_its_closing_part() -> None:
    future = contract(margin=Margin(per_unit=100.0), multiplier=10.0)

    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, quantity=9.0))
        await market.moment(flat(0))
        await paper.create_order(order(2, SELL, quantity=30.0))
        await market.moment(flat(1))
        ended = await paper.fetch_order("o-2")
        assert ended is not None
        assert (ended.status, ended.reason) == (OrderStatus.REJECTED, "margin")
        assert ended.filled == 9.0
        assert await paper.fetch_positions() == []
        assert await paper.fetch_open_orders() == []

    run(work, future, cash=1_000.0, check_margin=True)


def test_accounts_are_kept_by_currency() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1))
        await paper.create_order(order(2, symbol="SHFE.B", quantity=1.0))
        await market.moment(flat(0), flat(0, 50.0, symbol="SHFE.B"))
        balances = {balance.currency: balance.cash for balance in await paper.fetch_balance()}
        assert balances == {"USD": 4_000.0, "CNY": 9_950.0}

    run(work, contract(), contract("SHFE.B", currency="CNY"), cash={"USD": 5e3, "CNY": 1e4})


def test_cancel_takes_an_order_out_of_the_book() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1))
        await paper.cancel_order("o-1")
        await market.moment(flat(0))
        assert await paper.fetch_fills() == []
        with pytest.raises(OrderRejected, match="o-1 is not working: it is canceled"):
            await paper.cancel_order("o-1")
        with pytest.raises(OrderRejected, match="no such order"):
            await paper.cancel_order("o-2")

    run(work)


def test_modified_order_keeps_its_place() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        for number in (1, 2):
            await paper.create_order(order(number, kind=OrderType.LIMIT, price=90.0))
        changed = await paper.modify_order("o-1", quantity=4.0, price=99.5)
        assert (changed.quantity, changed.price) == (4.0, 99.5)
        await paper.modify_order("o-2", price=99.25)
        await market.moment(flat(0))
        assert await fills_of(paper) == [("o-1", 4.0, 99.5), ("o-2", 10.0, 99.25)]

    run(work)


def test_modification_below_what_is_filled_is_refused() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1, kind=OrderType.LIMIT, price=100.0))
        await market.moment(flat(0, volume=5.0))
        with pytest.raises(OrderRejected, match="5 are filled already"):
            await paper.modify_order("o-1", quantity=5.0)
        with pytest.raises(InvalidRequest, match="price"):
            await paper.modify_order("o-1", price=float("nan"))
        with pytest.raises(OrderRejected, match="tick"):
            await paper.modify_order("o-1", price=99.999)
        (still,) = await paper.fetch_open_orders()
        assert (still.quantity, still.price) == (10.0, 100.0)

    run(work, volume_limit=1.0)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (order(1, quantity=1.5), OrderRejected, "1.5 is not a multiple of 1"),
        (order(1, quantity=1.0), OrderRejected, "below the minimum 2"),
        (order(1, kind=OrderType.LIMIT, price=99.995), OrderRejected, "price 99.995 is not"),
        (order(1, kind=OrderType.STOP, stop_price=0.005), OrderRejected, "stop_price 0.005 is"),
        (order(1, kind=OrderType.LIMIT), InvalidRequest, "needs a price"),
        (order(1, kind=OrderType.STOP_LIMIT, price=1.0), InvalidRequest, "needs a stop_price"),
        (order(1, parent="o-9"), OrderRejected, "it names o-9, which is not known here"),
        (order(1, oco="o-9"), OrderRejected, "it names o-9, which is not known here"),
        (order(1, kind=OrderType.TRAILING_STOP), InvalidRequest, "needs a stop_price"),
        (
            order(1, kind=OrderType.STOP, stop_price=1.0, time_in_force=TimeInForce.IOC),
            OrderRejected,
            "a stop order waits",
        ),
        (order(1, time_in_force=TimeInForce.GTD), InvalidRequest, "GTD order needs expires_at"),
        (order(1, quantity=0.0), InvalidRequest, "quantity must be above 0"),
        (order(1, quantity=-1.0), InvalidRequest, "quantity must be finite and not negative"),
        (order(1, quantity=float("inf")), InvalidRequest, "quantity must be finite"),
        (order(1, symbol="US.NONE"), UnknownSymbol, "US.NONE"),
        (order(1, symbol="XX.A"), UnknownSymbol, "XX.A"),
    ],
)
def test_order_that_cannot_be_is_refused_with_its_reason(
    wrong: Order, error: type[Exception], message: str
) -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        with pytest.raises(error, match=message):
            await paper.create_order(wrong)
        assert await paper.fetch_open_orders() == []

    run(work, contract(min_quantity=2.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fill_on": "tick"}, "fill_on: 'tick'.*'bar' only"),
        ({"volume_limit": -0.1}, "volume_limit"),
        ({"slippage_perc": float("nan")}, "slippage_perc"),
        ({"cash": "much"}, "cash in USD"),
    ],
)
def test_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PaperTrade(ScriptedMarket([contract()]), **settings)


def test_unconnected_venue_takes_no_orders() -> None:
    paper = PaperTrade(ScriptedMarket([contract()]))
    with pytest.raises(NotConnected):
        asyncio.run(paper.create_order(order(1)))


def test_slippage_spares_opens_unless_asked() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1))
        await paper.create_order(order(2, kind=OrderType.STOP, stop_price=100.5))
        await market.moment(flat(0))
        opened = 100.25 if paper._book.rules.slippage.on_open else 100.0
        assert await fills_of(paper) == [("o-1", 10.0, opened), ("o-2", 10.0, 100.75)]

    run(work, slippage_fixed=0.25)
    run(work, slippage_fixed=0.25, slippage_open=True)


def test_fills_are_journaled_and_published_before_the_clock() -> None:
    async def main() -> None:
        market = ScriptedMarket([contract()])
        markets = MarketService(market)
        trades = TradeService(PaperTrade(markets))
        markets.trade_seq = lambda: trades.seq
        heard: list[Any] = []
        await markets.connect()
        await trades.connect()
        await trades.create_order(order(1))
        trades.add_listener(heard.append)
        markets.add_listener(heard.append)
        await market.moment(flat(0))
        kline, event, clock = heard
        assert isinstance(kline, Kline)
        assert isinstance(event.fill, Fill)
        assert clock == Clock(("US",), START + MINUTE, trade_seq=event.seq)
        await trades.stop()
        await markets.stop()

    asyncio.run(main())


def test_market_waits_for_a_reader_until_it_is_done_or_gone() -> None:
    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        events = paper.watch_events()
        await paper.create_order(order(1))
        moment = asyncio.ensure_future(market.moment(flat(0)))
        event = await events.__anext__()
        assert event.fill is not None
        await asyncio.sleep(0)
        assert not moment.done()
        await events.aclose()
        await asyncio.wait_for(moment, 5)

    run(work)


def test_trade_ids_of_two_runs_differ() -> None:
    seen: list[str] = []

    async def work(market: ScriptedMarket, paper: PaperTrade) -> None:
        await paper.create_order(order(1))
        await market.moment(flat(0))
        seen.extend(fill.trade_id for fill in await paper.fetch_fills())

    run(work)
    run(work)
    assert len(set(seen)) == 2


def test_market_that_learns_late_what_it_serves_is_traded() -> None:
    class Late(ScriptedMarket):
        async def connect(self) -> None:
            self.markets = ("US",)

    async def main() -> None:
        market = Late([contract()])
        market.markets = ()
        markets = MarketService(market)
        trades = TradeService(PaperTrade(markets))
        await trades.connect()
        assert dict(trades.markets) == {}
        await markets.connect()
        assert (await trades.create_order(order(1))).status is OrderStatus.ACCEPTED
        await trades.stop()
        await markets.stop()

    asyncio.run(main())


def test_it_can_be_limited_to_some_markets() -> None:
    market = ScriptedMarket([contract("US.A"), contract("FX.B")])
    paper = PaperTrade(MarketService(market), markets=["US"])
    assert paper.markets == ("US",)
    assert PaperTrade(MarketService(market)).markets == ("FX", "US")
