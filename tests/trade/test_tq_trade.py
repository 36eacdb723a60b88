"""TqTrade against a simulated venue: an unmodified TqApi in between."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.errors import (
    ConfigError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    UnknownSymbol,
)
from livetrader_core.models import Offset, OrderStatus, TimeInForce
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.service import TradeService
from livetrader_core.trade.tq import TqTrade
from tests.support.tq_trading import (
    ACCOUNT,
    ACCOUNT_PASSWORD,
    MEAL,
    PASSWORD,
    REBAR,
    TUESDAY,
    USER,
    Listener,
    TqVenue,
    buy,
    open_venue,
    quiet,
    sell,
    trading_at,
    until,
    with_prices,
)


def offsets(venue: TqVenue, symbol: str = REBAR, user: str = USER) -> list[str]:
    """What has arrived at the venue, as ``BUY OPEN 2``."""
    trees = [one.tree for one in venue.desk(user).orders.values() if one.symbol == symbol]
    return [f"{t['direction']} {t['offset']} {t['volume_orign']}" for t in trees]


async def agrees(venue: TqVenue, trade: TqTrade, user: str = USER) -> None:
    """What the adapter says equals the venue's books, money to the cent."""
    desk = venue.desk(user)
    [balance] = await trade.fetch_balance()
    tree = desk.account.tree(desk.price, desk.frozen_margin())
    assert balance.equity == pytest.approx(tree["balance"], abs=0.001)
    assert balance.cash == pytest.approx(tree["balance"] - tree["float_profit"], abs=0.001)
    assert balance.margin == pytest.approx(tree["margin"], abs=0.001)
    assert balance.available == pytest.approx(tree["available"], abs=0.001)
    net = {
        symbol: position["volume_long"] - position["volume_short"]
        for symbol, position in desk.account.positions(desk.price).items()
    }
    found = {one.symbol: one.quantity for one in await trade.fetch_positions()}
    assert found == {symbol: volume for symbol, volume in net.items() if volume}
    fills = await trade.fetch_fills()
    theirs = {f"{t['order_id']}|{t['exchange_trade_id']}": t for t in desk.trades.values()}
    assert {fill.trade_id for fill in fills} == theirs.keys()
    assert sum(fill.quantity for fill in fills) == sum(t["volume"] for t in theirs.values())
    working = {key for key, one in desk.orders.items() if one.alive}
    orders = await trade.fetch_open_orders()
    assert len(orders) == len({key.rsplit("_", 2)[0] for key in working})


# --------------------------------------------------------------------------- settings, connecting


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user": ""}, "^user: must be the name"),
        ({"password": " "}, "^password: is empty"),
        ({"kind": "demo"}, "^kind: must be one of account, kq, sim, not 'demo'"),
        ({"kind": "account"}, "^broker: must be given"),
        ({"kind": "account", "broker": "x"}, "^account: must be given"),
        ({"kind": "account", "broker": "x", "account": "1"}, "^account_password: is empty"),
        ({"kind": "sim", "cash": 0}, "^cash: must be a number above 0"),
        ({"td_url": "http://x"}, "^td_url: must begin with ws://"),
        ({"timeout": 0}, "^timeout: must be a number of seconds above 0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TqTrade(**{"user": "me", "password": "secret", **settings})


def test_only_the_brokers_account_moves_real_money() -> None:
    paper = {kind: TqTrade("me", "x", kind).paper for kind in ("kq", "sim")}
    paper["account"] = TqTrade("me", "x", "account", "b", "1", "y").paper
    assert paper == {"kq": True, "sim": True, "account": False}


def test_a_refused_account_is_told_with_what_the_broker_said() -> None:
    async def main() -> None:
        async with open_venue() as venue:
            trade = venue.broker(account_password="wrong", timeout=1.0)
            with pytest.raises(ConfigError, match=r"^account: .* CTP:不合法的登录"):
                await trade.connect()
            with pytest.raises(NotConnected, match="not connected"):
                await trade.create_order(buy("a", 1))
            await trade.disconnect()

    asyncio.run(main())


def test_nothing_is_left_behind_and_no_password_is_logged(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    async def main() -> None:
        async with open_venue() as venue:
            trade = venue.broker()
            await trade.connect()
            await trade.connect()  # once is enough
            await trade.create_order(buy("a", 1, 3001))
            await agrees(venue, trade, ACCOUNT)
            [balance] = await trade.fetch_balance()
            assert balance.account == ACCOUNT
            await trade.disconnect()
            await trade.disconnect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert not [one for one in threading.enumerate() if one.name == "livetrader-tq"]
    assert list(tmp_path.iterdir()) == []
    out, err = capfd.readouterr()
    # The vendor looks for the computer's serial number, as the exchanges demand it.
    assert (out, [line for line in err.splitlines() if "dmidecode" not in line]) == ("", [])
    written = [str(vars(record)) for record in caplog.records]
    assert not [line for line in written if PASSWORD in line or ACCOUNT_PASSWORD in line]


# --------------------------------------------------------------------------- orders


def test_an_orders_life() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            heard = Listener(trade)
            taken = await trade.create_order(buy("a", 2, 2990))
            assert (taken.status, taken.order_id) == (OrderStatus.ACCEPTED, "1")
            assert await trade.fetch_open_orders() == [taken]
            await trade.cancel_order("a")
            await until(lambda: heard.states("a") == ["accepted", "canceled"])
            filled = await trade.create_order(buy("b", 2, 3005))
            assert (filled.status, filled.filled) == (OrderStatus.FILLED, 2.0)
            assert filled.average_price == 3001.0
            with pytest.raises(OrderRejected, match="资金不足"):
                await trade.create_order(buy("c", 900, 3005))
            with pytest.raises(OrderRejected, match="order b does not work at the venue"):
                await trade.cancel_order("b")
            assert await trade.fetch_order("never") is None
            again = await trade.create_order(buy("b", 2, 3005))
            assert again == filled
            assert len(venue.desk().orders) == 3
            await agrees(venue, trade)
            await heard.close()

    asyncio.run(main())


def test_what_is_refused_before_it_is_sent() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            for order, message in (
                (buy("a", 1.5), "whole ones only"),
                (buy("a", 1, 3000.5), "3000.5 is no price of SHFE.rb2605: its tick is 1"),
                (buy("a", 1, symbol="SHFE.rb_main"), "stands for a contract"),
                (buy("a", 1, offset=Offset.CLOSE), "only 0 can be closed"),
            ):
                with pytest.raises(OrderRejected, match=message):
                    await trade.create_order(order)
            with pytest.raises(UnknownSymbol, match="the venue lists no such contract"):
                await trade.create_order(buy("a", 1, symbol="SHFE.xx2605"))
            assert not venue.desk().orders

    asyncio.run(main())


def test_a_market_order_goes_to_the_band_where_the_exchange_has_none() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            for symbol, kind in ((REBAR, "LIMIT"), (MEAL, "ANY")):
                bought = await trade.create_order(buy(f"b-{symbol[:3]}", 1, symbol=symbol))
                sold = await trade.create_order(sell(f"s-{symbol[:3]}", 1, symbol=symbol))
                assert bought.status is sold.status is OrderStatus.FILLED
                trees = [o.tree for o in venue.desk().orders.values() if o.symbol == symbol]
                assert [tree["price_type"] for tree in trees] == [kind, kind]
                if kind == "LIMIT":
                    assert [tree["limit_price"] for tree in trees] == [3300.0, 2700.0]

    asyncio.run(main())


def test_what_is_left_of_an_immediate_order_is_canceled() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            venue.server.trading.depth = 2
            part = await trade.create_order(buy("a", 3, 3005, time_in_force=TimeInForce.IOC))
            assert (part.status, part.filled) == (OrderStatus.CANCELED, 2.0)
            none = await trade.create_order(buy("b", 3, 3005, time_in_force=TimeInForce.FOK))
            assert (none.status, none.filled) == (OrderStatus.CANCELED, 0.0)
            await agrees(venue, trade)

    asyncio.run(main())


def test_partial_fills_come_one_by_one_and_a_cancel_ends_the_rest() -> None:
    async def main() -> None:
        moving = with_prices(quiet(REBAR, 3000.0), [3000.0, 3000.0, 2998.0])
        async with open_venue([moving]) as venue, trading_at(venue) as trade:
            venue.server.trading.depth = 1
            heard = Listener(trade)
            await trade.create_order(buy("a", 9, 2999))
            venue.move(1.6)
            await until(lambda: sum(e.fill.quantity for e in heard.events if e.fill) == 3)
            await trade.cancel_order("a")
            await until(lambda: heard.states("a")[-1] == "canceled")
            assert heard.states("a") == ["accepted", "partially_filled", "canceled"]
            last = heard.events[-1].order
            assert (last.filled, last.average_price) == (3.0, 2999.0)
            await agrees(venue, trade)
            await heard.close()

    asyncio.run(main())


def test_an_order_that_finished_before_its_trades_is_not_final() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            venue.server.trading.trades_late = True
            heard = Listener(trade)
            for number in range(5):
                await trade.create_order(buy(f"a{number}", 2, 3005))
                await trade.create_order(sell(f"b{number}", 4, 2795, MEAL))
            await until(lambda: sum(e.fill.quantity for e in heard.events if e.fill) == 30)
            for event in heard.events:
                if event.order.status is OrderStatus.FILLED:
                    assert event.order.filled == event.order.quantity
            await agrees(venue, trade)
            await heard.close()

    asyncio.run(main())


# --------------------------------------------------------------------------- offsets


def test_offsets_by_the_day_a_position_was_opened() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            for symbol in (REBAR, MEAL):
                await trade.create_order(buy(f"one{symbol[:3]}", 3, symbol=symbol))
            venue.clock.advance(TUESDAY)
            venue.server.trading.advance(TUESDAY)
            await until(lambda: trade._desk.books.holdings[REBAR].long_before == 3)
            for symbol in (REBAR, MEAL):
                name = symbol[:3]
                await trade.create_order(buy(f"two{name}", 2, symbol=symbol))
                turned = await trade.create_order(sell(f"turn{name}", 9, symbol=symbol))
                assert (turned.status, turned.filled) == (OrderStatus.FILLED, 9.0)
                assert await trade.fetch_order(f"turn{name}") == turned
            assert offsets(venue, REBAR)[2:] == ["SELL CLOSE 3", "SELL CLOSETODAY 2", "SELL OPEN 4"]
            assert offsets(venue, MEAL)[2:] == ["SELL CLOSE 5", "SELL OPEN 4"]
            with pytest.raises(OrderRejected, match="all or nothing, and it needs several"):
                await trade.create_order(buy("fok", 5, 3005, time_in_force=TimeInForce.FOK))
            positions = {one.symbol: one.quantity for one in await trade.fetch_positions()}
            assert positions == {REBAR: -4.0, MEAL: -4.0}

    asyncio.run(main())


def test_what_working_orders_close_is_not_closed_twice() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            await trade.create_order(buy("a", 3))
            await trade.create_order(sell("b", 2, 3100))
            await trade.create_order(sell("c", 2, 3100))
            assert offsets(venue)[1:] == ["SELL CLOSETODAY 2", "SELL CLOSETODAY 1", "SELL OPEN 1"]
            with pytest.raises(OrderRejected, match="only 0 can be closed"):
                await trade.create_order(sell("d", 1, 3100, offset=Offset.CLOSE_TODAY))
            await trade.create_order(buy("e", 1, 2900, offset=Offset.OPEN))
            assert offsets(venue)[-1] == "BUY OPEN 1"
            await trade.cancel_order("c")  # both of its parts
            await until(lambda: not trade._desk.alive("c"))
            found = await trade.fetch_order("c")
            assert found is not None
            assert found.status is OrderStatus.CANCELED
            await agrees(venue, trade)

    asyncio.run(main())


def test_an_order_that_lives_to_the_end_of_its_day_expires() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            heard = Listener(trade)
            await trade.create_order(buy("a", 1, 2900))
            venue.clock.advance(TUESDAY)
            await until(lambda: heard.states("a") == ["accepted", "expired"])
            await heard.close()

    asyncio.run(main())


# --------------------------------------------------------------------------- faults


def test_while_the_trading_line_is_down_nothing_is_sent() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue, timeout=0.5) as trade:
            await trade.create_order(buy("a", 1))
            venue.server.inject(Fault(FaultKind.RESTART, 1.0))
            await until(lambda: not venue.server.running)
            await until(lambda: trade._keeper is not None and not trade._keeper._up.is_set())
            with pytest.raises(NotConnected, match="no line to tqsdk"):
                await trade.create_order(buy("b", 1))
            await until(lambda: venue.server.running)
            await until(lambda: trade._keeper is not None and trade._keeper._up.is_set())
            assert await trade.fetch_order("b") is None
            assert len(venue.desk().orders) == 1
            assert (await trade.create_order(buy("b", 1))).status is OrderStatus.FILLED
            await agrees(venue, trade)

    asyncio.run(main())


@pytest.mark.parametrize("arrives", [False, True])
def test_an_order_without_an_answer_is_unknown_until_a_new_line_tells(arrives: bool) -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue, timeout=4.0) as trade:
            await trade.create_order(buy("a", 1))
            if arrives:
                venue.server.trading.lost_answers = 1
            else:
                venue.server.trading.lost_requests = 1
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown, match="order b: "):
                await trade.create_order(buy("b", 2, 3005))
            if arrives:  # the line was lost, which is known at once
                assert time.monotonic() - began < 3.5
            found = await trade.fetch_order("b")
            assert (found is not None) is arrives
            if found is not None:
                assert (found.status, found.filled) == (OrderStatus.FILLED, 2.0)
            await agrees(venue, trade)

    asyncio.run(main())


def test_what_happened_while_the_line_was_down_is_told_afterwards() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            heard = Listener(trade)
            await trade.create_order(buy("a", 2, 2990))
            await trade.create_order(buy("b", 2, 2990))
            venue.server.cut_trading()
            desk = venue.desk()
            working = desk.orders["LT_a_1_2"]
            desk._trade(working, 2990.0, 2, venue.clock.now())
            await until(lambda: heard.states("a") == ["accepted", "filled"])
            assert [e.fill.quantity for e in heard.events if e.fill] == [2.0]
            await trade.cancel_order("b")
            await until(lambda: heard.states("b") == ["accepted", "canceled"])
            await agrees(venue, trade)
            await heard.close()

    asyncio.run(main())


def test_a_cancellation_that_was_lost_with_the_line_is_asked_again() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            await trade.create_order(buy("a", 2, 2990))
            venue.server.trading.lost_requests = 1
            await trade.cancel_order("a")
            await until(lambda: not venue.server.trading.lost_requests)
            assert venue.desk().orders["LT_a_1_2"].alive
            venue.server.cut_trading()
            await until(lambda: not venue.desk().orders["LT_a_1_2"].alive)

    asyncio.run(main())


def test_orders_of_others_are_listed_and_make_no_events() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue) as trade:
            heard = Listener(trade)
            venue.desk().insert(
                {
                    "order_id": "by-hand",
                    "exchange_id": "SHFE",
                    "instrument_id": "rb2605",
                    "direction": "BUY",
                    "offset": "OPEN",
                    "volume": 1,
                    "price_type": "LIMIT",
                    "limit_price": 2950.0,
                    "time_condition": "GFD",
                    "volume_condition": "ANY",
                }
            )
            await trade.create_order(buy("a", 1, 2940))
            names = [order.client_order_id for order in await trade.fetch_open_orders()]
            assert sorted(names) == ["a", "by-hand"]
            assert {event.order.client_order_id for event in heard.events} <= {"a"}
            await heard.close()

    asyncio.run(main())


# --------------------------------------------------------------------------- tqsdk's own account


def test_the_account_that_tqsdk_simulates() -> None:
    async def main() -> None:
        async with open_venue() as venue, trading_at(venue, kind="sim", cash=50_000.0) as trade:
            heard = Listener(trade)
            filled = await trade.create_order(buy("a", 2, 3005))
            assert filled.order_id
            await until(lambda: heard.states("a")[-1] == "filled")
            await trade.create_order(buy("b", 1, 2950))
            await trade.cancel_order("b")
            await until(lambda: heard.states("b")[-1] == "canceled")
            with pytest.raises(OrderRejected, match="资金"):
                await trade.create_order(buy("c", 900, 3005))
            [position] = await trade.fetch_positions()
            assert (position.symbol, position.quantity) == (REBAR, 2.0)
            assert not venue.server.trading._desks
            await heard.close()

    asyncio.run(main())


# --------------------------------------------------------------------------- under TradeService


def test_after_a_restart_every_order_is_found_and_none_is_sent_twice(tmp_path: Path) -> None:
    def service(venue: TqVenue) -> TradeService:
        adapter = venue.adapter(timeout=1.5)
        return TradeService(adapter, tmp_path / "journal.db", ask_every=0.1, settle_after=0.1)

    async def main() -> None:
        async with open_venue() as venue:
            first = service(venue)
            await first.connect()
            await first.create_order(buy("done", 2))
            await first.create_order(sell("turn", 3, 3100))
            venue.server.trading.lost_answers = 1
            with pytest.raises(OutcomeUnknown):
                await first.create_order(buy("unknown", 1, 2900))
            await first.stop()
            assert len(venue.desk().orders) == 4
            desk = venue.desk()
            desk._trade(desk.orders["LT_turn_1_3"], 3100.0, 2, venue.clock.now())
            second = service(venue)
            await second.connect()
            orders = {one.client_order_id: one for one in await second.fetch_orders()}
            assert orders["done"].status is OrderStatus.FILLED
            assert orders["unknown"].status is OrderStatus.ACCEPTED
            assert (orders["turn"].status, orders["turn"].filled) == (
                OrderStatus.PARTIALLY_FILLED,
                2.0,
            )
            assert (await second.create_order(buy("done", 2))).status is OrderStatus.FILLED
            for name in ("turn", "unknown"):
                await second.cancel_order(name)
            open_orders = second.fetch_open_orders
            deadline = time.monotonic() + 5
            while await open_orders():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            assert len(venue.desk().orders) == 4
            fills = await second.fetch_fills()
            assert sorted(fill.trade_id for fill in fills) == sorted(venue.desk().trades)
            [adapter] = second.adapters
            assert isinstance(adapter, TqTrade)
            await agrees(venue, adapter)
            await second.stop()

    asyncio.run(main())
