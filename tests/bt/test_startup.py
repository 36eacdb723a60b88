"""How a run begins: with what the venue has, told once, whatever happens meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import backtrader as bt
import pytest

from livetrader_core.errors import ConfigError, UnknownSymbol
from livetrader_core.ids import OrderIds
from livetrader_core.models import Balance, Contract, Order, OrderType, Position, Side
from livetrader_core.timeframe import MINUTE_MS
from tests.bt.venue_rig import EURUSD, START, Rig, Scripted, Venue, id_of, until

LIMIT = {"exectype": bt.Order.Limit, "price": 1.0}


def place(s: Scripted) -> None:
    s.order = s.buy(size=1, **LIMIT)


# --------------------------------------------------------------------------- adoption


def test_an_open_order_of_an_earlier_run_is_told_canceled_and_changed() -> None:
    rig = Rig()

    def place_two(s: Scripted) -> None:
        place(s)
        s.stop_limit = s.sell(size=1, exectype=bt.Order.StopLimit, price=0.9, plimit=0.89)

    first = rig.run({5: place_two})
    earlier, other = id_of(first.order), id_of(first.stop_limit)
    seen: list[Any] = []

    def look(s: Scripted) -> None:
        seen.append([(o.info.client_order_id, s.minute) for o in s.told])
        s.adopted, s.other = s.told[0], s.told[1]
        assert s.broker.get_orders_open() == [s.adopted, s.other]
        assert (s.adopted.size, s.adopted.created.price, s.adopted.isbuy()) == (1.0, 1.0, True)
        assert s.broker.modify(s.adopted, size=2, price=1.1)
        assert s.cancel(s.other) is None

    second = rig.run({-30: lambda s: seen.append(list(s.told)), 3: look})
    assert seen == [[], [(earlier, 3), (other, 3)]]
    adopted = second.adopted
    assert adopted.info.adopted is True
    assert (second.other.created.price, second.other.created.pricelimit) == (0.9, 0.89)
    assert second.statuses(adopted) == ["Accepted", "Accepted"]
    assert [o.size for o in second.told if o == adopted] == [1.0, 2.0]
    assert second.statuses(second.other) == ["Accepted", "Canceled"]
    assert rig.venue.modified == [(earlier, 2.0, 1.1, None)]


def test_the_rest_of_an_adopted_order_fills_for_the_strategy() -> None:
    rig = Rig()
    first = rig.run(
        {5: place, 7: lambda s: rig.do(lambda: rig.venue.trade(id_of(s.order), 0.4, 1.0))}
    )
    rig.venue.positions = [Position(EURUSD, 0.4, 1.0)]
    name = id_of(first.order)
    second = rig.run({5: lambda s: rig.do(lambda: rig.venue.trade(name, 0.6, 1.1))})
    assert [o.getstatusname() for o in second.told] == ["Partial", "Completed"]
    last = second.told[-1]
    assert last.executed.size == pytest.approx(1.0)
    assert last.executed.price == pytest.approx(1.06)
    assert second.position.size == pytest.approx(1.0)


def test_an_adopted_order_is_not_touched_from_a_historical_bar() -> None:
    rig = Rig()
    rig.run({5: place})
    (name,) = rig.venue.arrived

    def too_early(s: Scripted) -> None:
        (order,) = s.broker.get_orders_open()
        assert not s.broker.cancel(order)
        assert not s.broker.modify(order, size=2)

    rig.run({-30: too_early})
    assert (rig.venue.canceled, rig.venue.modified) == ([], [])
    assert not rig.venue.orders[name].status.is_final


def test_only_orders_of_the_same_ids_file_are_adopted(tmp_path: Path) -> None:
    rig = Rig()
    rig.run({5: place}, broker={"ids": tmp_path / "one"})
    assert rig.run({}, broker={"ids": tmp_path / "two"}).told == []
    assert rig.run({}, broker={"ids": tmp_path / "one", "adopt": False}).told == []
    assert len(rig.run({}, broker={"ids": tmp_path / "one"}).told) == 1


def test_orders_of_a_run_that_is_under_way_are_not_adopted(tmp_path: Path) -> None:
    rig = Rig()
    rig.run({5: place}, broker={"ids": tmp_path / "one"})
    (name,) = rig.venue.arrived
    under_way = OrderIds(tmp_path / "one")
    under_way.run = name.partition("-")[0]
    under_way.hold()
    assert rig.run({}, broker={"ids": tmp_path / "one"}).told == []
    under_way.release()
    assert len(rig.run({}, broker={"ids": tmp_path / "one"}).told) == 1


def test_the_same_cerebro_run_again_adopts_what_it_left(tmp_path: Path) -> None:
    rig = Rig()
    runs = []

    def place_once(s: Scripted) -> None:
        runs.append([o.info.client_order_id for o in s.told])
        if len(runs) == 1:
            place(s)

    cerebro = bt.Cerebro(stdstats=False)
    rig.store.setup(
        cerebro,
        [EURUSD],
        "live",
        live_from=START,
        todate=START + 10 * MINUTE_MS,
        ids=tmp_path / "i",
    )
    cerebro.addstrategy(Scripted, script={5: place_once})
    for _ in range(2):
        cerebro.run()
    assert runs == [[], rig.venue.arrived]


def test_an_earlier_order_in_a_symbol_without_a_feed_is_warned_of() -> None:
    rig = Rig()
    rig.run({5: place})
    ran = rig.run({}, symbols=("FOREX.USDJPY",))
    assert ran.told == []
    assert any("no feed of FOREX.EURUSD" in message for message in ran.messages)


# --------------------------------------------------------------------------- the snapshot


class Racing(Venue):
    """Fills an order while its account is being asked for, in whatever place of the asking."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.armed = False
        self.name = ""

    async def _race(self, place: str) -> None:
        if self.armed and place == self.place:
            self.armed = False
            self.trade(self.name, 1.0, 1.0)
            self.positions = [Position(EURUSD, 1.0, 1.0)]
            self.balances = [Balance("v", "USD", 999_000.0, 0.0, 0.0, 0.0)]

    async def fetch_balance(self) -> list[Balance]:
        await self._race("before balance")
        found = await super().fetch_balance()
        await self._race("after balance")
        return found

    async def fetch_positions(self) -> list[Position]:
        await self._race("before positions")
        found = await super().fetch_positions()
        await self._race("after positions")
        return found


@pytest.mark.parametrize(
    "place_of_race", ["before balance", "after balance", "before positions", "after positions"]
)
def test_a_fill_during_the_start_counts_once(place_of_race: str) -> None:
    rig = Rig()
    rig.venue = Racing(place_of_race)
    rig.trade.adapters[0] = rig.venue
    first = rig.run({5: place})
    rig.venue.name, rig.venue.armed = id_of(first.order), True
    ran = rig.run({})
    assert not rig.venue.armed
    assert ran.position.size == 1.0
    assert ran.broker.account.cash == {"USD": 999_000.0}


def test_positions_of_the_start_are_trades_and_closing_one_closes_its_trade() -> None:
    rig = Rig()
    rig.venue.positions = [Position(EURUSD, 2.0, 1.0)]

    def turn(s: Scripted) -> None:
        s.order = s.sell(size=3)

    ran = rig.run(
        {5: turn, 7: lambda s: rig.do(lambda: rig.venue.trade(id_of(s.order), 3.0, 1.1, 3.0))},
        prepare=lambda cerebro: cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades"),
    )
    told = [(t.status, t.size, round(t.pnl, 6)) for t in ran.trades]
    assert told == [
        (bt.Trade.Open, 2.0, 0.0),
        (bt.Trade.Closed, 0, 20_000.0),
        (bt.Trade.Open, -1.0, 0.0),
    ]
    assert ran.trades[1].pnlcomm == pytest.approx(19_998.0)
    found = ran.analyzers.trades.get_analysis()
    assert (found.total.total, found.total.open, found.total.closed) == (2, 1, 1)
    assert found.won.total == 1


# --------------------------------------------------------------------------- the unknown


@pytest.mark.parametrize("symbol", ["FOREX.NOSUCH", "MOON.ROCK"])
def test_a_position_that_cannot_be_valued_is_warned_of(symbol: str) -> None:
    rig = Rig()
    rig.venue.positions = [Position(symbol, 2.0, 1.0)]
    ran = rig.run({})
    assert any(symbol in message for message in ran.messages)
    assert ran.broker.getvalue() == 1e6


@pytest.mark.parametrize(("symbol", "known"), [("FOREX.NOSUCH", False), ("FOREX.USDJPY", True)])
def test_a_trade_in_a_symbol_without_a_feed_never_raises(symbol: str, known: bool) -> None:
    rig = Rig()

    def somebody_trades(s: Scripted) -> None:
        order = Order("manual", symbol, Side.BUY, OrderType.MARKET, 1.0)
        rig.venue.take(order)
        rig.do(lambda: rig.venue.trade("manual", 1.0, 100.0, 7.0))

    ran = rig.run({5: somebody_trades})
    warned = [message for message in ran.messages if symbol in message]
    assert bool(warned) is not known
    assert ("JPY" in ran.broker.account.cash) is known
    if known:
        assert ran.broker.account.cash["JPY"] == -7.0


def test_a_trade_in_a_currency_without_a_rate_is_warned_of() -> None:
    rig = Rig()
    market = rig.market.markets[0]
    known = market.get_contract

    async def get_contract(symbol: str) -> Contract:
        if symbol == "FOREX.XAUCHF":
            return replace(await known(EURUSD), symbol=symbol, currency="CHF")
        return await known(symbol)

    market.get_contract = get_contract  # type: ignore[method-assign]

    def somebody_trades(s: Scripted) -> None:
        rig.venue.take(Order("manual", "FOREX.XAUCHF", Side.BUY, OrderType.MARKET, 1.0))
        rig.do(lambda: rig.venue.trade("manual", 1.0, 100.0))

    ran = rig.run({5: somebody_trades})
    assert any("no rate from CHF" in message for message in ran.messages)


def test_money_without_a_rate_is_named_before_anything_runs() -> None:
    rig = Rig()
    rig.venue.balances.append(Balance("v", "CHF", 5.0, 0.0, 5.0, 5.0))
    with pytest.raises(ConfigError, match="no rate from CHF to USD"):
        rig.run({})
    with pytest.raises(UnknownSymbol):
        rig.run({}, symbols=("MOON.ROCK",))


def test_minutes_of_the_rig_are_the_replays() -> None:
    seen: list[int] = []
    rig = Rig()
    rig.run({3: lambda s: seen.append(s.minute)})
    assert seen == [3]
    assert START % MINUTE_MS == 0


# --------------------------------------------------------------------------- and goes on


def test_cash_and_positions_are_compared_with_the_venues_from_time_to_time() -> None:
    rig = Rig()

    def change(s: Scripted) -> None:
        rig.venue.balances = [Balance("v", "USD", 999_990.0, 0.0, 0.0, 0.0)]  # a swap
        rig.venue.positions = [Position(EURUSD, 1.5, 1.2)]  # somebody's, by another way
        until(s, lambda: s.position.size == 1.5)
        assert s.broker.account.cash == {"USD": 999_990.0}

    ran = rig.run({5: change}, broker={"refresh_every": 0.05})
    assert any("1.5 FOREX.EURUSD are held" in message for message in ran.messages)


def test_a_snapshot_of_other_events_than_were_told_is_not_taken() -> None:
    rig = Rig()

    def compare(s: Scripted) -> None:
        books = s.broker._books
        rig.venue.take(Order("manual", EURUSD, Side.BUY, OrderType.MARKET, 1.0))
        before = rig.store.snapshots()
        assert books.refresh(before)
        rig.do(lambda: rig.venue.trade("manual", 1.0, 1.0))
        assert not books.refresh(rig.store.snapshots())  # the fill is not told yet
        s.cerebro._brokernotify()
        assert s.position.size == 1.0
        assert not books.refresh(before)
        rig.venue.positions = [Position(EURUSD, 1.0, 1.0)]
        assert books.refresh(rig.store.snapshots())

    ran = rig.run({5: compare})
    assert ran.position.size == 1.0
    assert not [message for message in ran.messages if "are held" in message]


def test_without_setup_the_broker_hears_of_its_orders_too() -> None:
    rig = Rig()
    heard: list[int] = []

    class Hearing(bt.Strategy):
        def start(self) -> None:
            rig.venue.take(Order("manual", EURUSD, Side.BUY, OrderType.MARKET, 1.0))
            rig.do(lambda: rig.venue.trade("manual", 1.0, 1.0))
            heard.append(len(rig.store.hub.take_inbox()))
            self.env.runstop()

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(rig.store.getdata(EURUSD, backfill=10))
    cerebro.setbroker(rig.store.getbroker())
    cerebro.addstrategy(Hearing)
    cerebro.run()
    assert heard == [1]
