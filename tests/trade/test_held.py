"""Orders the server holds: what triggers each type, what the venue gets, and what never does."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest

from livetrader_core.errors import (
    InvalidRequest,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    StorageError,
    UnknownSymbol,
)
from livetrader_core.models import Contract, Order, OrderStatus, OrderType, Side, TimeInForce
from livetrader_core.sessions import Sessions
from livetrader_core.trade import TradeService
from livetrader_core.trade.base import Abilities
from tests.support.scripted_market import START, bar
from tests.trade.holding import SYMBOL, Rig, held, run
from tests.trade.scripted_venue import ScriptedVenue, until

S, T, TIF = OrderStatus, OrderType, TimeInForce
BUY, SELL = Side.BUY, Side.SELL

#: From 09:30 to 16:00 in New York.
DAYTIME = Sessions(timezone="America/New_York", day=((570, 960),))
#: From 21:00 to 02:30 of the evening before, then 09:00 to 15:00, in Shanghai.
NIGHTS = Sessions(timezone="Asia/Shanghai", day=((540, 900),), night=((1260, 1590),))


# --------------------------------------------------------------------------- stops


@pytest.mark.parametrize(
    ("side", "quiet", "through"),
    [
        (BUY, [{"last": 99.99}, {"bid": 101, "ask": 99.99}], {"last": 100.0}),
        (BUY, [{"last": 99.0, "ask": 101.0}], {"last": 107.0}),
        (BUY, [{"bid": 99.9}], {"bid": 99.9, "ask": 100.0}),
        (SELL, [{"last": 100.01}, {"bid": 100.01, "ask": 90}], {"last": 100.0}),
        (SELL, [{"last": 101.0, "bid": 99.0}], {"last": 93.0}),
        (SELL, [{"ask": 100.1}], {"bid": 100.0, "ask": 100.1}),
    ],
)
def test_stop_is_sent_as_market_order_when_its_price_comes(
    side: Side, quiet: list[dict[str, float]], through: dict[str, float]
) -> None:
    async def work(rig: Rig) -> None:
        taken = await rig.trade.create_order(held(side=side, stop_price=100, price=97))
        assert (taken.status, taken.held, taken.order_id) == (S.ACCEPTED, True, "")
        for quote in quiet:
            await rig.quote(**quote)
            assert rig.order().held
        await rig.quote(**through)
        await rig.sent("s-1")
        (sent,) = rig.venue.sent
        assert (sent.type, sent.price, sent.stop_price) == (T.MARKET, 0.0, 0.0)
        assert (sent.quantity, sent.side) == (10.0, side)
        order = rig.order()
        assert (order.type, order.stop_price, order.price) == (T.STOP, 100.0, 97.0)
        assert not order.held
        assert (order.status, order.order_id) == (S.ACCEPTED, "v-s-1")
        rig.venue.fill("s-1", 10.0, "t-1")
        await rig.venue.told()
        assert rig.order().but(updated_at=0) == order.but(
            updated_at=0, status=S.FILLED, filled=10.0, average_price=100.0
        )
        assert rig.statuses("s-1") == [S.ACCEPTED, S.SUBMITTED, S.ACCEPTED, S.FILLED]

    run(work)


@pytest.mark.parametrize(("side", "through"), [(BUY, 105.0), (SELL, 95.0)])
def test_stop_limit_is_sent_as_limit_order(side: Side, through: float) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(T.STOP_LIMIT, side, price=101, stop_price=100))
        await rig.quote(through)
        await rig.sent("s-1")
        (sent,) = rig.venue.sent
        assert (sent.type, sent.price, sent.stop_price) == (T.LIMIT, 101.0, 0.0)
        order = rig.order()
        assert (order.type, order.price, order.stop_price) == (T.STOP_LIMIT, 101.0, 100.0)

    run(work)


def test_journal_knows_that_an_order_leaves_before_it_does() -> None:
    async def work(rig: Rig) -> None:
        seen: list[Order] = []

        async def look(sent: Order) -> None:
            seen.append(rig.order(sent.client_order_id))

        rig.venue.on_create = look
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(100)
        await rig.sent("s-1")
        assert [(o.status, o.held, o.type) for o in seen] == [(S.SUBMITTED, False, T.STOP)]

    run(work)


def test_one_quote_triggers_once() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        await rig.trade.create_order(held(client_order_id="s-2", stop_price=100))
        await rig.quote(100)
        await until(lambda: SYMBOL not in rig.market.readers)
        await rig.sent("s-1", "s-2")

    run(work)


# --------------------------------------------------------------------------- trailing


@pytest.mark.parametrize("percent", [False, True])
@pytest.mark.parametrize("side", [BUY, SELL])
def test_trailing_stop_follows_the_price_and_never_goes_back(side: Side, percent: bool) -> None:
    async def work(rig: Rig) -> None:
        trail: dict[str, Any] = {"trail_percent": 0.05} if percent else {"trail_amount": 5.0}
        way = -side.sign  # the way its price gets better
        await rig.trade.create_order(held(T.TRAILING_STOP, side, stop_price=100 - way * 5, **trail))
        stops = []
        for price in (100, 100 + way * 2, 100 + way * 1, 100 + way * 10, 100 + way * 6):
            rig.later(1)
            await rig.quote(price)
            stops.append(rig.order().stop_price)

        def stop(price: float) -> float:
            return round(price * (1 - way * 0.05) if percent else price - way * 5.0, 2)

        assert stops == [stop(p) for p in (100, *[100 + way * 2] * 2, *[100 + way * 10] * 2)]
        await rig.quote(stops[-1])
        await rig.sent("s-1")
        assert rig.venue.sent[0].type is T.MARKET
        assert rig.order().stop_price == stops[-1]

    run(work)


def test_limit_of_a_trailing_stop_limit_keeps_its_distance() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(
            held(T.TRAILING_STOP_LIMIT, SELL, price=94.5, stop_price=95, trail_amount=5)
        )
        await rig.quote(110)
        assert (rig.order().stop_price, rig.order().price) == (105.0, 104.5)
        await rig.quote(104)
        await rig.sent("s-1")
        sent = rig.venue.sent[0]
        assert (sent.type, sent.price, sent.trail_amount) == (T.LIMIT, 104.5, 0.0)
        assert rig.order().trail_amount == 5.0

    run(work)


def test_moving_stop_is_journaled_at_most_once_a_second() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(T.TRAILING_STOP, SELL, stop_price=95, trail_amount=5))
        for step in range(20):
            rig.market.time += 100
            await rig.quote(101 + step)
        assert rig.order().stop_price < 115.0
        assert len(rig.statuses("s-1")) <= 4
        rig.later(1)
        await until(lambda: rig.order().stop_price == 115.0)
        await rig.quote(115)  # 120 less 5: what is triggered is not what was journaled last
        await rig.sent("s-1")

    run(work)


def test_trailing_stop_to_sell_stays_above_nothing() -> None:
    async def work(rig: Rig) -> None:
        order = held(T.TRAILING_STOP, SELL, stop_price=1, trail_amount=5)
        await rig.trade.create_order(order)
        await rig.quote(4)
        assert rig.order().stop_price == 1.0
        await rig.quote(1)
        await rig.sent("s-1")

    run(work)


def test_change_of_a_trailing_stop_keeps_where_it_stands() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(T.TRAILING_STOP, SELL, stop_price=95, trail_amount=5))
        for price in (110, 111, 112):  # within one second: not journaled yet
            await rig.quote(price)
        assert rig.order().stop_price == 105.0
        await rig.trade.modify_order("s-1", quantity=4)
        assert (rig.order().stop_price, rig.order().quantity) == (107.0, 4.0)

    run(work)


# --------------------------------------------------------------------------- klines for quotes


def test_klines_trigger_where_there_are_no_ticks() -> None:
    async def work(rig: Rig) -> None:
        rig.later(0.5)
        await rig.trade.create_order(held(stop_price=100))
        await until(lambda: SYMBOL in rig.market.kline_readers)
        # It opened before the order was made: its high may have been before, too.
        await rig.market.moment(bar(0, 99, 103, 98, 99))
        assert rig.order().held
        await rig.market.moment(bar(1, 99, 99.5, 98, 99))
        assert rig.order().held
        await rig.market.moment(bar(2, 99, 100, 98, 99))
        await rig.sent("s-1")

    run(work, ticks=False)


def test_close_of_the_kline_in_which_the_order_was_made_counts() -> None:
    async def work(rig: Rig) -> None:
        rig.later(0.5)
        await rig.trade.create_order(held(side=SELL, stop_price=100))
        await until(lambda: SYMBOL in rig.market.kline_readers)
        await rig.market.moment(bar(0, 103, 103, 98, 99))
        await rig.sent("s-1")

    run(work, ticks=False)


def test_trailing_stop_follows_closes() -> None:
    async def work(rig: Rig) -> None:
        order = held(T.TRAILING_STOP, SELL, stop_price=95, trail_amount=5)
        await rig.trade.create_order(order)
        await until(lambda: SYMBOL in rig.market.kline_readers)
        await rig.market.moment(bar(0, 100, 110, 99, 104))
        assert rig.order().stop_price == 99.0
        await rig.market.moment(bar(1, 104, 105, 99, 105))
        await rig.sent("s-1")

    run(work, ticks=False)


# --------------------------------------------------------------------------- feeds


def test_symbol_is_followed_only_while_an_order_needs_it() -> None:
    async def work(rig: Rig) -> None:
        assert rig.market.readers == {}
        await rig.trade.create_order(held(stop_price=100))
        await rig.trade.create_order(held(client_order_id="s-2", stop_price=200))
        await until(lambda: list(rig.market.readers) == [SYMBOL])
        await rig.quote(100)
        await rig.sent("s-1")
        await rig.trade.cancel_order("s-2")
        await until(lambda: not rig.market.readers)
        assert rig.status("s-2") is S.CANCELED

    run(work)


def test_old_quote_never_triggers() -> None:
    async def work(rig: Rig) -> None:
        rig.later(600)
        await rig.trade.create_order(held(stop_price=100))
        await until(lambda: SYMBOL in rig.market.readers)
        # What a venue says on subscription: its last quote, of the session before.
        await rig.market.quote(120, at=rig.market.time - 3_600_000)
        assert rig.order().held
        rig.market.cut()
        rig.later(10)
        rig.market.mend()
        await rig.market.quote(120, at=rig.market.time - 300_000)
        assert rig.order().held
        await rig.quote(99)
        assert rig.order().held
        await rig.quote(100)
        await rig.sent("s-1")

    run(work)


def test_nothing_triggers_while_the_market_is_closed() -> None:
    async def work(rig: Rig) -> None:
        rig.later(22 * 60)  # Monday evening in New York
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(120)
        assert rig.order().held
        rig.market.time = DAYTIME.open_of(date(2025, 1, 7))
        await rig.quote(99)
        assert rig.order().held
        await rig.quote(100)
        await rig.sent("s-1")

    run(work, sessions=DAYTIME)


def test_klines_missed_while_the_line_was_down_never_trigger() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        await until(lambda: SYMBOL in rig.market.kline_readers)
        rig.market.cut()
        rig.market.time = rig.market.at(5)
        rig.market.mend()
        await rig.market.moment(*(bar(n, 99, 120, 98, 119) for n in range(5)))
        assert rig.order().held
        await rig.market.moment(bar(5, 99, 100, 98, 99))
        await rig.sent("s-1")

    run(work, ticks=False)


def test_feed_that_breaks_is_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(99)
        await rig.market.break_off()
        await until(lambda: SYMBOL not in rig.market.readers)
        await rig.quote(101)
        await rig.sent("s-1")
        assert (
            "orders wait for a price of US.A, and there is none: the quotes of US.A broke"
            in caplog.text
        )

    run(work)


# --------------------------------------------------------------------------- the client's wishes


def test_held_order_is_cancelled_and_changed_in_the_server() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        changed = await rig.trade.modify_order("s-1", quantity=5, stop_price=90)
        assert (changed.quantity, changed.stop_price, changed.held) == (5.0, 90.0, True)
        assert rig.order() == changed.but(updated_at=rig.order().updated_at)
        with pytest.raises(InvalidRequest, match="quantity"):
            await rig.trade.modify_order("s-1", quantity=0)
        await rig.quote(90)
        await rig.sent("s-1")
        assert rig.venue.sent[0].quantity == 5.0
        await rig.trade.create_order(held(client_order_id="s-2", stop_price=100))
        await rig.trade.cancel_order("s-2")
        assert (rig.status("s-2"), rig.order("s-2").held) == (S.CANCELED, False)
        with pytest.raises(OrderRejected, match="s-2 is canceled already"):
            await rig.trade.cancel_order("s-2")
        assert rig.venue.canceled == []
        assert rig.venue.arrived == ["s-1"]

    run(work)


def test_known_id_returns_the_held_order() -> None:
    async def work(rig: Rig) -> None:
        first = await rig.trade.create_order(held(stop_price=100))
        assert await rig.trade.create_order(held(stop_price=100)) == first
        with pytest.raises(InvalidRequest, match="another stop_price"):
            await rig.trade.create_order(held(stop_price=120))
        assert rig.trade.seq == 1
        assert await rig.trade.fetch_open_orders() == [first]

    run(work)


def test_racing_requests_with_one_id_make_one_held_order() -> None:
    async def work(rig: Rig) -> None:
        get_contract = rig.market.get_contract

        async def slow(symbol: str) -> Contract:
            await asyncio.sleep(0.001)
            return await get_contract(symbol)

        rig.market.get_contract = slow  # type: ignore[method-assign]
        orders = [rig.trade.create_order(held(stop_price=100 + n)) for n in range(10)]
        taken = await asyncio.gather(*orders)
        assert len({order.stop_price for order in taken}) == 1
        assert rig.trade.seq == 1

    run(work)


def test_only_the_server_says_what_is_held() -> None:
    async def work(rig: Rig) -> None:
        taken = await rig.trade.create_order(held(T.LIMIT, price=90, held=True))
        assert (taken.held, rig.venue.arrived) == (False, ["s-1"])

    run(work)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"time_in_force": TIF.IOC}, OrderRejected, "has no ioc orders"),
        ({"time_in_force": TIF.FOK}, OrderRejected, "has no fok orders"),
        ({"time_in_force": TIF.GTD, "expires_at": START}, OrderRejected, "over already"),
        ({"symbol": "US.ZZ"}, UnknownSymbol, "US.ZZ"),
        ({"parent": "x"}, InvalidRequest, "names x, which is not known"),
        ({"oco": "s-1"}, InvalidRequest, "names s-1, which is not known"),
    ],
)
def test_what_cannot_be_held_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    async def work(rig: Rig) -> None:
        with pytest.raises(error, match=message):
            await rig.trade.create_order(held(stop_price=100).but(**changes))
        assert rig.trade.seq == 0

    run(work)


def test_without_market_data_nothing_is_held() -> None:
    async def work(rig: Rig) -> None:
        trade = TradeService(ScriptedVenue())
        await trade.connect()
        with pytest.raises(OrderRejected, match=r"no market data of US\.A"):
            await trade.create_order(held(stop_price=100))
        await trade.stop()

    run(work)


def test_what_the_venue_does_by_itself_is_left_to_it() -> None:
    async def work(rig: Rig) -> None:
        rig.venue.abilities = Abilities(
            frozenset({T.MARKET, T.LIMIT, T.STOP}), frozenset({TIF.GTC, TIF.DAY}), linked=True
        )
        order = held(stop_price=100, time_in_force=TIF.DAY, parent="p", oco="o")
        taken = await rig.trade.create_order(order)
        assert not taken.held
        sent = rig.venue.sent[0]
        assert (sent.type, sent.time_in_force, sent.parent, sent.oco) == (T.STOP, TIF.DAY, "p", "o")
        trailing = held(T.TRAILING_STOP, client_order_id="s-2", stop_price=99, trail_amount=1)
        with pytest.raises(OrderRejected, match="without parent and oco"):
            await rig.trade.create_order(trailing.but(oco="o"))
        assert (await rig.trade.create_order(trailing)).held

    run(work)


# --------------------------------------------------------------------------- the venue's answers


def test_order_that_did_not_reach_the_venue_is_held_on() -> None:
    async def work(rig: Rig) -> None:
        async def down(_: Order) -> None:
            raise NotConnected("the line is down")

        rig.venue.on_create = down
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(100)
        await until(lambda: rig.order().held and bool(rig.order().reason))
        assert (rig.status(), rig.order().reason) == (S.ACCEPTED, "the line is down")
        rig.venue.on_create = None
        tries = len(rig.venue.arrived)
        await rig.quote(99)  # the price came back: nothing is sent any more
        assert len(rig.venue.arrived) == tries
        await until(lambda: not rig.trade._sender.tasks)

        async def sent() -> bool:
            await rig.quote(100)
            return not rig.order().held

        while not await sent():
            rig.later(0.01)
        await until(lambda: rig.order().order_id == "v-s-1")
        assert rig.order().reason == ""

    run(work)


def test_venue_that_is_down_is_not_pestered() -> None:
    async def work(rig: Rig) -> None:
        async def down(_: Order) -> None:
            raise NotConnected("the line is down")

        rig.trade._held._retry_every = 60.0
        rig.venue.on_create = down
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(100)
        await until(lambda: bool(rig.order().reason))
        for _ in range(5):
            await rig.looked()
            await rig.quote(100)
        assert rig.venue.arrived == ["s-1"]

    run(work)


def test_refusal_of_a_released_order_is_its_end() -> None:
    async def work(rig: Rig) -> None:
        async def refuse(_: Order) -> None:
            raise OrderRejected("no money")

        rig.venue.on_create = refuse
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(100)
        await rig.ends(S.REJECTED, "s-1")
        assert rig.order().reason == "no money"

    run(work)


async def _later(pause: float) -> None:
    """Leave what is left to be cancelled."""


def test_kill_switch_ends_held_orders_and_lets_none_out() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        await rig.trade.kill(reason="enough")
        assert rig.status() is S.CANCELED
        await rig.trade.lift()
        await rig.trade.create_order(held(client_order_id="s-2", stop_price=100))
        rig.trade._killing.go_on = _later  # type: ignore[method-assign]
        rig.trade._kill.throw("enough")  # before anything was cancelled
        await rig.quote(100)
        assert rig.order("s-2").held
        await rig.trade.lift()
        while rig.order("s-2").held:
            await rig.quote(100)
        await rig.sent("s-2")

    run(work)


def test_released_order_without_an_answer_is_asked_about_and_never_sent_again() -> None:
    async def work(rig: Rig) -> None:
        async def silent(sent: Order) -> None:
            rig.venue.take(sent)
            raise OutcomeUnknown("no answer")

        rig.venue.on_create = silent
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(100)
        await rig.ends(S.ACCEPTED, "s-1")
        await until(lambda: rig.order().order_id == "v-s-1")
        assert rig.statuses("s-1") == [S.ACCEPTED, S.SUBMITTED, S.UNKNOWN, S.ACCEPTED]
        assert rig.venue.arrived == ["s-1"]

    run(work)


def test_order_does_not_leave_while_the_journal_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(held(stop_price=100))
        write = rig.trade.journal.append

        def broken(*arguments: Any) -> Any:
            raise StorageError("disk full")

        rig.trade.journal.append = broken  # type: ignore[method-assign]
        await rig.quote(100)
        assert rig.order().held
        rig.trade.journal.append = write  # type: ignore[method-assign]

        async def sent() -> bool:
            await rig.quote(100)
            return not rig.order().held

        while not await sent():
            rig.later(0.01)
        await rig.sent("s-1")
        assert "held order s-1 waits" in caplog.text

    run(work)


# --------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("kind", [T.LIMIT, T.STOP])
@pytest.mark.parametrize(
    ("sessions", "start", "trading_day"),
    [
        # START is Monday 2025-01-06, 00:00 UTC.
        (DAYTIME, 15.0, date(2025, 1, 6)),
        (DAYTIME, 0.0, date(2025, 1, 6)),  # Sunday evening in New York
        (DAYTIME, 22.0, date(2025, 1, 7)),  # after the close
        (DAYTIME, 4 * 24 + 22.0, date(2025, 1, 13)),  # on a Friday
        (NIGHTS, 14.0, date(2025, 1, 7)),  # Monday night belongs to Tuesday
        (NIGHTS, 17.0, date(2025, 1, 7)),  # after midnight
        (NIGHTS, 4 * 24 + 14.0, date(2025, 1, 13)),  # Friday night belongs to Monday
    ],
)
def test_day_order_ends_with_its_trading_day(
    sessions: Sessions, start: float, trading_day: date, kind: OrderType
) -> None:
    async def work(rig: Rig) -> None:
        rig.later(start * 60)
        wish = held(kind, price=90, stop_price=120, time_in_force=TIF.DAY)
        taken = await rig.trade.create_order(wish)
        end = sessions.close_of(trading_day)
        assert (taken.expires_at, taken.time_in_force) == (end, TIF.DAY)
        assert taken.held is (kind is T.STOP)
        assert [o.time_in_force for o in rig.venue.sent] == [TIF.GTC] * (kind is T.LIMIT)
        rig.market.time = end - 1
        await rig.looked()
        assert rig.status() is S.ACCEPTED
        rig.market.time = end
        await rig.ends(S.EXPIRED, "s-1")
        assert rig.order().reason == "its time was over"
        assert rig.venue.canceled == ["s-1"] * (kind is T.LIMIT)

    run(work, sessions=sessions)


def test_gtd_order_ends_at_its_moment_in_the_venues_time() -> None:
    async def work(rig: Rig) -> None:
        end = rig.market.at(30)
        limit = held(T.LIMIT, price=90, time_in_force=TIF.GTD, expires_at=end)
        await rig.trade.create_order(limit)
        stop = limit.but(client_order_id="s-2", type=T.STOP, stop_price=100.0)
        await rig.trade.create_order(stop)
        sent = rig.venue.sent[0]
        assert (sent.time_in_force, sent.expires_at) == (TIF.GTC, 0)
        rig.venue.fill("s-1", 4.0, "t-1")
        await rig.venue.told()
        rig.market.time = end
        await rig.ends(S.EXPIRED, "s-1", "s-2")
        assert rig.order().filled == 4.0
        # A quote that comes with the deadline does not send it any more.
        assert rig.venue.arrived == ["s-1"]

    run(work)


def test_order_cancelled_before_its_deadline_is_cancelled() -> None:
    async def work(rig: Rig) -> None:
        end = rig.market.at(30)
        await rig.trade.create_order(held(T.LIMIT, price=90, time_in_force=TIF.GTD, expires_at=end))
        await rig.trade.cancel_order("s-1")
        await rig.venue.told()
        assert rig.status() is S.CANCELED

    run(work)


def test_expiry_that_the_venue_does_not_take_is_asked_for_again() -> None:
    async def work(rig: Rig) -> None:
        refusals = iter([NotConnected("down"), OrderRejected("busy")])
        cancel = rig.venue.cancel_order

        async def unwilling(client_order_id: str) -> None:
            if error := next(refusals, None):
                raise error
            await cancel(client_order_id)

        rig.venue.cancel_order = unwilling  # type: ignore[method-assign]
        end = rig.market.at(30)
        order = held(T.LIMIT, price=90, time_in_force=TIF.GTD, expires_at=end)
        await rig.trade.create_order(order)
        rig.market.time = end
        await rig.ends(S.EXPIRED, "s-1")

    run(work)


def test_cancellation_under_way_is_not_asked_for_again() -> None:
    async def work(rig: Rig) -> None:
        async def slow(client_order_id: str) -> None:
            rig.venue.canceled.append(client_order_id)

        rig.trade._held._retry_every = 60.0
        rig.venue.cancel_order = slow  # type: ignore[method-assign]
        end = rig.market.at(30)
        order = held(T.LIMIT, price=90, time_in_force=TIF.GTD, expires_at=end)
        await rig.trade.create_order(order)
        rig.market.time = end
        for _ in range(5):
            await rig.looked()
        assert rig.venue.canceled == ["s-1"]
        assert rig.status() is S.ACCEPTED

    run(work)


def test_quote_that_comes_with_the_deadline_sends_nothing() -> None:
    async def work(rig: Rig) -> None:
        end = rig.market.at(30)
        order = held(stop_price=100, time_in_force=TIF.GTD, expires_at=end)
        await rig.trade.create_order(order)
        await rig.quote(99)
        rig.market.time = end
        await rig.market.quote(100)
        assert rig.status() is S.EXPIRED
        assert rig.venue.arrived == []

    run(work)


def test_stop_with_a_deadline_keeps_it_when_it_was_sent() -> None:
    async def work(rig: Rig) -> None:
        end = rig.market.at(30)
        order = held(T.STOP_LIMIT, price=101, stop_price=100, time_in_force=TIF.GTD, expires_at=end)
        await rig.trade.create_order(order)
        await rig.quote(100)
        await rig.sent("s-1")
        assert rig.venue.sent[0].time_in_force is TIF.GTC
        rig.market.time = end
        await rig.ends(S.EXPIRED, "s-1")
        assert rig.venue.canceled == ["s-1"]

    run(work)


def test_gtd_order_is_a_day_order_where_the_venue_knows_nothing_longer() -> None:
    async def work(rig: Rig) -> None:
        rig.venue.abilities = Abilities(times_in_force=frozenset({TIF.DAY, TIF.IOC}))
        end = rig.market.at(30)
        gtd = held(T.LIMIT, price=90, time_in_force=TIF.GTD, expires_at=end)
        await rig.trade.create_order(gtd)
        assert rig.venue.sent[0].time_in_force is TIF.DAY
        assert rig.order().time_in_force is TIF.GTD
        await rig.trade.create_order(held(T.LIMIT, client_order_id="s-2", price=90))
        assert rig.venue.sent[1].time_in_force is TIF.DAY
        rig.market.time = end
        await rig.ends(S.EXPIRED, "s-1")

    run(work)


# --------------------------------------------------------------------------- at the close


def test_close_order_is_sent_in_the_last_minute() -> None:
    async def work(rig: Rig) -> None:
        rig.later(15 * 60)
        close = DAYTIME.close_of(date(2025, 1, 6))
        assert (await rig.trade.create_order(held(T.CLOSE))).held
        rig.market.time = close - 60_001
        await rig.looked()
        assert rig.venue.arrived == []
        rig.market.time = close - 60_000
        await rig.sent("s-1")
        assert (rig.venue.sent[0].type, rig.order().type) == (T.MARKET, T.CLOSE)
        await rig.trade.create_order(held(T.CLOSE, client_order_id="s-2"))
        await rig.sent("s-1", "s-2")
        assert rig.market.readers == {}

    run(work, sessions=DAYTIME)


def test_close_order_that_missed_its_session_expires() -> None:
    async def work(rig: Rig) -> None:
        rig.later(15 * 60)
        await rig.trade.create_order(held(T.CLOSE))
        rig.market.time = DAYTIME.close_of(date(2025, 1, 6))
        await rig.ends(S.EXPIRED, "s-1")
        assert rig.venue.arrived == []

    run(work, sessions=DAYTIME)
