"""How orders end that nobody answered, and how runs end."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_bt.io import IoThread
from livetrader_core.errors import ConfigError, NotConnected, OutcomeUnknown
from livetrader_core.local import LocalSession
from livetrader_core.models import Order, OrderStatus
from tests.bt.venue_rig import EURUSD, HOURS, START, Rig, Scripted, id_of, until

LIMIT = {"exectype": bt.Order.Limit, "price": 1.0}


def place(s: Scripted) -> None:
    s.order = s.buy(size=1, **LIMIT)


class LossySession(LocalSession):
    """A session whose server may be gone when an order is sent, and for a while after."""

    #: What happens to create_order: "lost" before the server saw it, "unanswered" after.
    fate = "answered"
    #: How many questions find nobody.
    silent = 0
    given_up: list[str]

    async def create_order(self, order: Order) -> Order:
        if order.parent or self.fate == "answered":
            return await super().create_order(order)
        if self.fate == "unanswered":
            await super().create_order(order)
        raise OutcomeUnknown(f"create_order {order.client_order_id}: the line is cut")

    async def fetch_order(self, client_order_id: str) -> Order | None:
        if self.silent > 0:
            self.silent -= 1
            raise NotConnected("nobody is there")
        return await super().fetch_order(client_order_id)

    async def give_up_order(self, order: Order) -> Order:
        self.given_up.append(order.client_order_id)
        return await super().give_up_order(order)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    rig = Rig()
    session = LossySession(rig.market, rig.trade)
    session.given_up = []
    rig.session = session  # type: ignore[attr-defined]
    monkeypatch.setattr(rig.store, "_make_sessions", lambda: {"module": session})
    return rig


def wait_until_told(s: Scripted, count: int) -> None:
    until(s, lambda: len(s.told) >= count)


def test_an_order_the_server_never_saw_is_rejected_in_the_end(rig: Any) -> None:
    rig.session.fate, rig.session.silent = "lost", 2

    def lose(s: Scripted) -> None:
        place(s)
        wait_until_told(s, 3)

    ran = rig.run({5: lose})
    assert ran.statuses(ran.order) == ["Submitted", "Submitted", "Rejected"]
    assert ran.order.info.reason == "given up: it did not arrive"
    assert rig.trade.journal.order(id_of(ran.order)).status is OrderStatus.REJECTED
    assert rig.session.given_up == [id_of(ran.order)]
    assert rig.venue.arrived == []


def test_an_order_that_arrived_unanswered_goes_on(rig: Any) -> None:
    rig.session.fate, rig.session.silent = "unanswered", 2

    def lose(s: Scripted) -> None:
        place(s)
        wait_until_told(s, 3)

    ran = rig.run({5: lose, 8: lambda s: rig.do(lambda: rig.venue.trade(id_of(s.order), 1.0, 1.0))})
    assert ran.statuses(ran.order)[-1] == "Completed"
    assert "Rejected" not in ran.statuses(ran.order)
    assert rig.session.given_up == []
    assert len(rig.venue.arrived) == 1


@pytest.mark.parametrize(("fate", "arrived"), [("lost", 0), ("unanswered", 2)])
def test_children_wait_until_the_fate_of_their_parent_is_known(
    rig: Any, fate: str, arrived: int
) -> None:
    rig.session.fate, rig.session.silent = fate, 1

    def lose(s: Scripted) -> None:
        s.parent = s.buy(size=1, transmit=False, **LIMIT)
        s.child = s.sell(size=1, exectype=bt.Order.Limit, price=2.0, parent=s.parent)
        wait_until_told(s, 5)

    ran = rig.run({5: lose})
    assert len(rig.venue.arrived) == arrived
    expected = "Rejected" if fate == "lost" else "Accepted"
    assert (ran.statuses(ran.parent)[-1], ran.statuses(ran.child)[-1]) == (expected, expected)


def test_a_cancel_is_asked_again_until_somebody_answers(rig: Any) -> None:
    asked: list[str] = []
    real = rig.session.cancel_order

    async def cancel_order(client_order_id: str) -> None:
        asked.append(client_order_id)
        if len(asked) < 3:
            raise NotConnected("nobody is there")
        await real(client_order_id)

    rig.session.cancel_order = cancel_order

    def cancel(s: Scripted) -> None:
        s.cancel(s.order)
        wait_until_told(s, 3)

    ran = rig.run({5: place, 7: cancel})
    assert ran.statuses(ran.order) == ["Submitted", "Accepted", "Canceled"]
    assert len(asked) == 3


def test_what_stays_unanswered_at_the_end_is_logged(
    rig: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livetrader_bt.ending.PATIENCE", 0.2)
    rig.session.fate, rig.session.silent = "lost", 10_000
    ran = rig.run({5: place})
    assert f"no answer about whether order {id_of(ran.order)} reached the server" in caplog.text


# --------------------------------------------------------------------------- the end of a run


@pytest.mark.parametrize(("stop_orders", "canceled"), [("keep", 0), ("cancel", 2)])
def test_working_orders_stay_or_are_canceled_at_the_end(stop_orders: str, canceled: int) -> None:
    rig = Rig()

    def place_three(s: Scripted) -> None:
        s.orders = [s.buy(size=1, **LIMIT) for _ in range(3)]

    ran = rig.run(
        {
            5: place_three,
            7: lambda s: rig.do(lambda: rig.venue.trade(id_of(s.orders[0]), 1.0, 1.0)),
        },
        broker={"stop_orders": stop_orders},
    )
    assert len(rig.venue.canceled) == canceled
    assert all(not order.alive() for order in ran.orders[1:]) is bool(canceled)


def test_a_run_that_raises_cancels_its_orders_too_and_leaves_nothing() -> None:
    rig = Rig()

    def fail(s: Scripted) -> None:
        raise RuntimeError("a mistake")

    cerebro = bt.Cerebro(stdstats=False)
    rig.store.setup(
        cerebro, [EURUSD], "live", fromdate=START - HOURS, live_from=START, todate=START + HOURS
    )
    cerebro.setbroker(rig.store.getbroker(stop_orders="cancel"))
    cerebro.addstrategy(Scripted, script={5: place, 9: fail})
    with pytest.raises(RuntimeError, match="a mistake"):
        cerebro.run()
    assert len(rig.venue.canceled) == 1
    assert "livetrader-store" not in {thread.name for thread in threading.enumerate()}


def test_a_store_runs_the_same_and_other_cerebros_again_even_after_one_raised() -> None:
    rig = Rig()
    ends: list[tuple[int, int]] = []

    def cerebro_with(script: dict[int, Any]) -> bt.Cerebro:
        cerebro = bt.Cerebro(stdstats=False)
        rig.store.setup(
            cerebro, [EURUSD], "live", fromdate=START - HOURS, live_from=START, todate=START + HOURS
        )
        cerebro.addstrategy(Scripted, script=script)
        return cerebro

    def fail(s: Scripted) -> None:
        raise RuntimeError("a mistake")

    one, other, failing = (
        cerebro_with({5: place}),
        cerebro_with({6: place}),
        cerebro_with({7: fail}),
    )
    for cerebro in (one, failing, other, one, failing, one):
        if cerebro is failing:
            with pytest.raises(RuntimeError, match="a mistake"):
                cerebro.run()
            continue
        (ran,) = cerebro.run()
        ends.append((len(ran.data), ran.statuses(ran.order).count("Accepted")))
    assert ends == [ends[0]] * 4
    assert ends[0][0] > 100
    assert ends[0][1] == 1
    assert "livetrader-store" not in {thread.name for thread in threading.enumerate()}


def test_a_backtest_runs_again() -> None:
    rig = Rig()
    cerebro = bt.Cerebro(stdstats=False)
    rig.store.setup(cerebro, [EURUSD], fromdate=START, todate=START + HOURS, cash=1e6)
    cerebro.addstrategy(Scripted, script={5: lambda s: s.buy(size=1), 9: lambda s: s.close()})
    values = []
    for _ in range(3):
        (ran,) = cerebro.run()
        values.append(ran.broker.getvalue())
        assert len(ran.trades) == 2
    rig.store.close()
    assert values == [values[0]] * 3
    assert values[0] != 1e6


def test_a_run_that_cannot_start_leaves_nothing() -> None:
    cerebro = bt.Cerebro(stdstats=False)
    store = LiveTraderStore("ipc:///tmp/livetrader-nobody-is-here", timeout=0.2)
    cerebro.adddata(store.getdata(EURUSD))
    cerebro.setbroker(store.getbroker())
    with pytest.raises(NotConnected):
        cerebro.run()
    assert "livetrader-store" not in {thread.name for thread in threading.enumerate()}


# --------------------------------------------------------------------------- the background


def test_what_is_given_up_was_awaited(caplog: pytest.LogCaptureFixture) -> None:
    thread = IoThread("test-io")
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(30)

    for number in range(50):
        thread.post(lambda number=number: work(number))
    closing = [threading.Thread(target=thread.close) for _ in range(3)]
    for one in closing:
        one.start()
    posted = [thread.post(lambda: work(99)) for _ in range(1000)]
    for one in closing:
        one.join()
    assert thread.post(lambda: work(100)) is None
    assert len([future for future in posted if future is None]) >= 0
    with pytest.raises(NotConnected):
        thread.call(work(101), 1.0)
    assert not caplog.records


@pytest.mark.parametrize("name", ["backfill_orders", "stop_orders"])
def test_unknown_choices_are_named(name: str) -> None:
    rig = Rig()
    with pytest.raises(ConfigError, match=f"{name}='maybe'"):
        rig.store.getbroker(**{name: "maybe"})


def test_orders_asked_for_while_the_store_is_closed_are_not_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()

    def close_and_order(s: Scripted) -> None:
        s.cerebro.runstop()
        rig.store.close()
        s.broker._requests._post(lambda: asyncio.sleep(0), "order x")

    with caplog.at_level(logging.ERROR):
        rig.run({5: close_and_order})
    assert "the store is closed: order x did not leave" in caplog.text
