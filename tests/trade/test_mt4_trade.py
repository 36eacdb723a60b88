"""Mt4Trade against the compiled expert advisor, through real ZeroMQ."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import (
    ConfigError,
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
)
from livetrader_core.market.finding import Verdict
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.registry import load_trade
from livetrader_core.sim.mt4_trading import INVALID_STOPS, TradeError
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.diagnosis import Probe, examine_account
from livetrader_core.trade.mt4 import Mt4Trade
from tests.ea.build import compiler
from tests.ea.client import Refused, attached, connected
from tests.support.data import proving
from tests.support.dwx_trading import NOON, market_order
from tests.support.dwx_venue import EURUSD, eventually
from tests.support.mt4_account import held
from tests.support.mt4_course import course, priced
from tests.support.mt4_play import Play, play
from tests.support.zmtp_relay import ZmtpRelay

_S = OrderStatus
Record = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if compiler() is None:
        pytest.skip("g++ is needed to compile the expert advisor; install it (package g++)")


@pytest.mark.parametrize(
    ("ticks", "filled", "canceled", "price"),
    [([0, 0, -60], "loss", "gain", 1.09940), ([0, 0, 90], "gain", "loss", 1.10080)],
)
def test_a_level_that_is_reached_closes_the_position_and_ends_the_other(
    tmp_path: Path, ticks: list[int], filled: str, canceled: str, price: float
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("loss", -50, OrderType.STOP)
        await run.waiting("gain", 80, OrderType.LIMIT)
        (ticket,) = run.terminal.trading.tickets.values()
        assert (ticket.stop_loss, ticket.take_profit) == (1.0995, 1.1008)
        working = {order.client_order_id for order in await run.trade.fetch_open_orders()}
        assert working == {"loss", "gain"}
        await run.minutes(3)
        await eventually(lambda: len(run.seen) == 5)
        assert (await run.status(filled), await run.status(canceled)) == (_S.FILLED, _S.CANCELED)
        (fill,) = [e.fill for e in run.seen if e.fill and e.fill.client_order_id == filled]
        assert (fill.trade_id, fill.price) == (f"{ticket.number}-close", price)
        await run.assert_same_books()

    play(scene, tmp_path, ticks)


def test_parts_take_their_level_along_and_one_that_is_taken_away_ends_its_order(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("loss", -50, OrderType.STOP)
        await run.waiting("gain", 80, OrderType.LIMIT)
        await run.trade.create_order(market_order("out", Side.SELL, 0.1))
        (ticket,) = run.terminal.trading.tickets.values()
        run.terminal.trading.modify(ticket.number, 0.0, ticket.stop_loss, 0.0)
        await eventually(lambda: any(e.order.status is _S.CANCELED for e in run.seen))
        assert await run.status("gain") is _S.CANCELED
        await run.minutes(3)
        order = await run.found("loss")
        assert order is not None
        assert (order.status, order.filled) == (_S.CANCELED, 0.2)
        await run.assert_same_books()

    play(scene, tmp_path, [0, 0, -60])


def test_a_canceled_level_leaves_the_other(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.SELL, 0.3))
        await run.waiting("gain", -80, OrderType.LIMIT, side=Side.BUY)
        await run.waiting("loss", 50, OrderType.STOP, side=Side.BUY)
        await run.trade.cancel_order("gain")
        (ticket,) = run.terminal.trading.tickets.values()
        assert (ticket.stop_loss, ticket.take_profit) == (1.1005, 0.0)
        assert (await run.status("gain"), await run.status("loss")) == (_S.CANCELED, _S.ACCEPTED)

    play(scene, tmp_path)


def test_prices_are_changed_at_the_terminal_and_lots_are_not(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        trade, trading = run.trade, run.terminal.trading
        await run.waiting("limit", -50, OrderType.LIMIT, side=Side.BUY)
        (ticket,) = trading.tickets.values()
        # By hand, in the terminal: a change of the price leaves it.
        trading.modify(ticket.number, ticket.open_price, 1.0900, 1.1200)
        changed = await trade.modify_order("limit", price=1.0990)
        assert (changed.price, changed.status) == (1.0990, _S.ACCEPTED)
        (ticket,) = trading.tickets.values()
        levels = (ticket.open_price, ticket.stop_loss, ticket.take_profit)
        assert levels == (1.0990, 1.0900, 1.1200)
        await run.waiting("stop", 60, OrderType.STOP, side=Side.BUY)
        changed = await trade.modify_order("stop", quantity=0.3, stop_price=1.1011)
        assert changed.stop_price == 1.1011
        await eventually(lambda: run.seen[-1].order.stop_price == 1.1011)
        for wrong, why in (
            ({"quantity": 0.2}, "lots"),
            ({"stop_price": 1.1}, "has price only"),
        ):
            with pytest.raises(InvalidRequest, match=why):
                await trade.modify_order("limit", **wrong)
        with pytest.raises(OrderRejected, match="tick"):
            await trade.modify_order("limit", price=1.098005)
        with pytest.raises(OrderRejected, match="130"):
            await trade.modify_order("limit", price=1.2)
        order = await run.found("limit")
        assert order is not None
        assert order.price == 1.0990
        await trade.cancel_order("limit")
        with pytest.raises(OrderRejected, match="canceled"):
            await trade.modify_order("limit", price=1.0980)

    play(scene, tmp_path)


def test_a_level_is_moved_on_all_of_its_positions_or_on_none(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        trade, trading = run.trade, run.terminal.trading
        for name in ("a", "b"):
            await trade.create_order(market_order(name, Side.BUY, 0.3))
        await run.waiting("loss", -50, OrderType.STOP, 0.6)
        await run.waiting("gain", 80, OrderType.LIMIT, 0.6)

        def levels() -> set[tuple[float, float]]:
            return {(t.stop_loss, t.take_profit) for t in trading.tickets.values()}

        changed = await trade.modify_order("loss", stop_price=1.0990)
        assert changed.stop_price == 1.0990
        assert levels() == {(1.0990, 1.1008)}
        modify, done = trading.modify, 0

        def once(*arguments: Any) -> None:
            nonlocal done
            done += 1
            if done == 2:
                raise TradeError(INVALID_STOPS)
            modify(*arguments)

        trading.modify = once  # type: ignore[method-assign]
        with pytest.raises(OrderRejected, match="130"):
            await trade.modify_order("gain", price=1.1020)
        assert (done, levels()) == (3, {(1.0990, 1.1008)})
        order = await run.found("gain")
        assert order is not None
        assert (order.price, order.status) == (1.1008, _S.ACCEPTED)
        await run.minutes(3)
        await eventually(lambda: run.seen[-1].order.status is _S.CANCELED)
        assert await run.status("loss") is _S.FILLED
        await run.assert_same_books()

    play(scene, tmp_path, [0, 0, -110])


def test_a_limit_order_that_can_be_filled_at_once_is_at_its_price_or_better(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        await run.waiting("now", 10, OrderType.LIMIT, side=Side.BUY)
        (ticket,) = run.terminal.trading.tickets.values()
        assert ticket.open_price == 1.10001
        await run.waiting("later", -10, OrderType.LIMIT, 0.2, side=Side.BUY)
        assert [t.kind.pending for t in run.terminal.trading.tickets.values()] == [False, True]
        await run.minutes(3)
        assert await run.status("later") is _S.FILLED
        await run.assert_same_books()

    play(scene, tmp_path, [0, 0, -20])


def test_a_price_that_changes_is_met_with_another_attempt(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        run.terminal.inject(Fault(FaultKind.REQUOTE, count=2))
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        assert len(run.terminal.trading.tickets) == 1
        run.terminal.inject(Fault(FaultKind.REQUOTE, count=9))
        with pytest.raises(OrderRejected, match="138"):
            await run.trade.create_order(market_order("more", Side.BUY, 0.3))
        assert len(run.terminal.trading.tickets) == 1

    play(scene, tmp_path)


def test_an_answer_of_the_broker_that_never_came_is_found_by_what_happened(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        run.terminal.inject(Fault(FaultKind.LIE))
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        assert await run.status("in") is _S.FILLED
        run.terminal.inject(Fault(FaultKind.LIE))
        await run.waiting("loss", -50, OrderType.STOP)
        run.terminal.inject(Fault(FaultKind.LIE))
        await run.trade.create_order(market_order("out", Side.SELL, 0.5))
        await run.assert_same_books()
        assert await run.status("loss") is _S.CANCELED

    play(scene, tmp_path)


def test_an_order_that_was_held_up_on_a_lost_line_is_not_done_later(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with attached(clock, [course(EURUSD, [0])]) as terminal:
            relay = ZmtpRelay(terminal.inputs["RequestPort"])
            await relay.start()
            run = Play(terminal, clock, tmp_path)
            publications = f"tcp://127.0.0.1:{terminal.inputs['PublicationPort']}"
            run.endpoint = f"tcp://127.0.0.1:{relay.port}"
            await run.begin(publications=publications)
            try:
                relay.lose_request(b"order")
                relay.lose_answer(b"void")
                with pytest.raises(OutcomeUnknown):
                    await run.trade.create_order(market_order("a", Side.BUY, 0.2))
                assert await run.found("a") is None
                async with connected(terminal) as client:
                    with pytest.raises(Refused, match="void"):
                        await client.order("a", lots=0.2)
                assert not terminal.trading.tickets
                await run.assert_same_books()
            finally:
                await run.end()
                await relay.stop()

    asyncio.run(main())


def test_an_advisor_that_lost_its_journal_is_noticed_and_every_order_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("loss", -50, OrderType.STOP)
        await run.waiting("gain", 80, OrderType.LIMIT)
        await run.waiting("low", -40, OrderType.LIMIT, 0.2, side=Side.BUY)
        await run.waiting("far", -5000, OrderType.LIMIT, side=Side.BUY)
        await run.waiting("gone", -5000, OrderType.LIMIT, side=Side.BUY)
        await run.waiting("moved", -4000, OrderType.LIMIT, side=Side.BUY)
        gone, moved = [await run.found(name) for name in ("gone", "moved")]
        assert gone is not None
        assert moved is not None
        terminal = run.terminal
        advisor, terminal.advisor = terminal.advisor, None
        assert advisor is not None
        advisor.kill()
        (journal,) = terminal.files.glob("*.journal")
        journal.unlink()
        await run.minutes(3)
        terminal.trading.delete(int(gone.order_id))
        terminal.trading.modify(int(moved.order_id), 1.0500, 0.0, 0.0)
        terminal.attach()
        await eventually(lambda: "lost its journal" in caplog.text)
        wanted = {"loss": _S.FILLED, "gain": _S.CANCELED, "low": _S.FILLED, "far": _S.ACCEPTED}
        wanted |= {"gone": _S.CANCELED, "moved": _S.ACCEPTED}
        assert {name: await run.status(name) for name in wanted} == wanted
        assert len([e for e in run.seen if e.fill]) == 3
        await run.assert_same_books()
        await run.assert_same_prices()
        # And from then on everything is told as before.
        await run.trade.create_order(market_order("out", Side.SELL, 0.2))
        await eventually(lambda: run.seen[-1].order.client_order_id == "out")
        await run.end()
        await run.begin()
        await run.assert_same_books()
        assert caplog.text.count("lost its journal") == 1

    play(scene, tmp_path, [0, 0, -60])


def test_a_close_that_the_history_tells_later_is_not_done_again(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        for name in ("a", "b"):
            await run.trade.create_order(market_order(name, Side.BUY, 0.2))
        run.terminal.switches.stray_history = True
        await run.trade.create_order(market_order("out", Side.SELL, 0.3))
        assert held(run.terminal.trading) == {EURUSD: 0.1}
        await run.minutes()
        order = await run.found("out")
        assert order is not None
        assert (order.status, order.filled) == (_S.SUBMITTED, 0.0)
        run.terminal.switches.stray_history = False
        await eventually(lambda: run.seen[-1].order.client_order_id == "out")
        assert await run.status("out") is _S.FILLED
        await run.assert_same_books()
        assert not [t for t in run.terminal.trading.history if t.kind.sign < 0]

    play(scene, tmp_path)


def test_a_close_that_the_history_never_tells_is_no_fill(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.2))
        run.terminal.switches.stray_history = True
        await run.trade.create_order(market_order("out", Side.SELL, 0.2))
        await asyncio.sleep(0.05)
        run.terminal._advisor.pass_time(31.0)
        await eventually(lambda: run.seen[-1].order.status is _S.CANCELED)
        assert run.seen[-1].order.client_order_id == "out"
        assert "All History" in run.seen[-1].order.reason
        assert "All History" in caplog.text
        assert await run.trade.fetch_positions() == []
        assert [fill.client_order_id for fill in await run.trade.fetch_fills()] == ["in"]

    play(scene, tmp_path)


def test_what_happened_while_the_adapter_was_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("loss", -50, OrderType.STOP)
        await run.waiting("pending", -40, OrderType.LIMIT, 0.1, Side.BUY)
        await run.end()
        for _ in range(4):
            await run.minutes()
        run.terminal.inject(Fault(FaultKind.RESTART))
        await _back(run)
        assert await run.status("loss") is _S.FILLED
        assert await run.status("pending") is _S.FILLED
        await run.assert_same_books()

    play(scene, tmp_path, [0, -45, -60])


def test_orders_are_found_by_their_names_when_the_file_was_lost(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("pending", -40, OrderType.LIMIT, 0.1, Side.BUY)
        await run.trade.create_order(market_order("gone", Side.BUY, 0.2))
        await run.end()
        last = max(run.terminal.trading.tickets)
        run.terminal.trading.close(last, 0.2)
        (tmp_path / "state.sqlite").unlink()
        await run.begin()
        assert await run.status("in") is _S.FILLED
        assert await run.status("pending") is _S.ACCEPTED
        assert await run.status("gone") is _S.FILLED
        assert await run.found("never") is None
        again = await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        assert again.status is _S.FILLED
        assert len(run.terminal.trading.tickets) == 2

    play(scene, tmp_path)


def test_what_cannot_be_sent_is_refused_with_its_reason(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        with pytest.raises(InvalidRequest, match="letters, digits"):
            await run.trade.create_order(market_order("a/1", Side.BUY, 0.3))
        with pytest.raises(OrderRejected, match=r"steps of 0\.01"):
            await run.trade.create_order(market_order("a", Side.BUY, 0.305))
        with pytest.raises(OrderRejected, match="no price"):
            await run.trade.create_order(
                Order("a", EURUSD, Side.BUY, OrderType.LIMIT, 0.3, price=1.0000001)
            )
        run.terminal.switches.connected = False
        with pytest.raises(LiveTraderError, match="no connection"):
            await run.trade.create_order(market_order("b", Side.BUY, 0.3))
        run.terminal.switches.connected = True
        assert not run.terminal.trading.tickets

    play(scene, tmp_path)


def test_no_order_goes_to_another_account_that_the_terminal_logs_in_to(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        run.terminal.switches.account_number += 1
        await eventually(lambda: run.trade.lost != "")
        for _ in range(5):
            with pytest.raises(NotConnected):
                await run.trade.create_order(market_order("a", Side.BUY, 0.1))
            await asyncio.sleep(0.1)
        assert not run.terminal.trading.tickets
        run.terminal.switches.account_number -= 1
        await eventually(lambda: run.trade.lost == "")
        await run.trade.create_order(market_order("b", Side.BUY, 0.1))
        assert len(run.terminal.trading.tickets) == 1

    play(scene, tmp_path)


def test_settings_are_checked_and_it_is_registered() -> None:
    assert load_trade("mt4") is Mt4Trade
    for wrong in ({"slippage": -1}, {"endpoint": "ipc:///x"}, {"patience": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Mt4Trade(**wrong)  # type: ignore[arg-type]


RUNS, ORDERS = (40, 60) if proving() else (2, 16)


@pytest.mark.parametrize("seed", range(RUNS))
def test_random_orders_under_faults_leave_the_same_books(
    tmp_path: Path, seed: int, record_property: Record
) -> None:
    rng = random.Random(seed)
    faults = [FaultKind.RESTART, FaultKind.CUT, FaultKind.LIE, FaultKind.REJECT, FaultKind.DROP]
    faults += [FaultKind.REQUOTE, FaultKind.STALL]

    async def place(run: Play, number: int) -> None:
        name, side = f"r{number}", rng.choice((Side.BUY, Side.SELL))
        lots = rng.choice((0.1, 0.2, 0.3))
        kind = rng.choice((OrderType.MARKET, OrderType.MARKET, OrderType.LIMIT, OrderType.STOP))
        if kind is OrderType.MARKET:
            order = market_order(name, side, lots)
        else:
            away = rng.choice((15, 40, 80))
            up = (kind is OrderType.STOP) == (side is Side.BUY)
            order = priced(name, away if up else -away, kind, lots, side)
        while True:
            try:
                await run.trade.create_order(order)
                return
            except NotConnected:
                await asyncio.sleep(0.02)
            except (OrderRejected, OutcomeUnknown):
                return

    async def move(run: Play, name: str) -> None:
        order = await run.found(name)
        if order is not None:
            field = "stop_price" if order.type is OrderType.STOP else "price"
            moved = round(getattr(order, field) + rng.randint(-9, 9) / 100_000, 5)
            await run.trade.modify_order(name, **{field: moved})

    async def scene(run: Play) -> None:
        for number in range(ORDERS):
            if rng.random() < 0.3:
                fault = Fault(rng.choice(faults), rng.uniform(0.0, 0.1))
                if run.terminal.advisor is not None or fault.kind is not FaultKind.DROP:
                    run.terminal.inject(fault)
            # The history tells of what is closed a little later.
            run.terminal.switches.stray_history = rng.random() < 0.2
            await place(run, number)
            run.terminal.switches.stray_history = False
            if rng.random() < 0.2:
                with suppress(LiveTraderError):
                    await run.trade.cancel_order(f"r{rng.randrange(number + 1)}")
            if rng.random() < 0.3:
                with suppress(LiveTraderError):
                    await move(run, f"r{rng.randrange(number + 1)}")
            if rng.random() < 0.15:
                await run.end()
                await eventually(lambda: run.terminal.advisor is not None)
                await _back(run)
            await run.minutes()
        await eventually(lambda: run.terminal.advisor is not None)
        run.terminal.switches.lies = 0
        for number in range(ORDERS):
            await run.found(f"r{number}")
        await run.assert_same_books()
        await run.assert_same_prices()
        record_property("mt4: random orders under faults", ORDERS)

    ticks = [rng.randrange(-60, 61) for _ in range(ORDERS + 5)]
    play(scene, tmp_path, ticks)


async def _back(run: Play) -> None:
    while True:
        try:
            await run.begin()
            return
        except LiveTraderError:
            await run.trade.disconnect()
            await asyncio.sleep(0.02)


def test_doctor_tries_an_order_that_is_never_filled_and_leaves_nothing(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        probe = Probe.parse("FOREX.EURUSD, 0.01, 0.9")
        found = await examine_account(run.trade, probe, 5.0)
        told = {one.check: one for one in found}
        assert {one.verdict for one in found} == {Verdict.OK}, found
        assert "demo account" in told["kind of account"].found
        assert "0 orders work" in told["positions"].found
        assert "gone after" in told["order and cancel"].found
        assert not run.terminal.trading.tickets
        await run.trade.connect()
        run.terminal.switches.trade_allowed = False
        await eventually(lambda: run.trade._working().beat.trade_allowed is False)
        told = {one.check: one for one in await examine_account(run.trade, probe, 1.0)}
        assert told["trading"].verdict is Verdict.FAILED
        assert told["order and cancel"].verdict is Verdict.FAILED

    play(scene, tmp_path)


@pytest.mark.parametrize("wrong", ["FOREX.EURUSD", "EURUSD,1,1", "FOREX.EURUSD,0,1", "a.b,x,1"])
def test_an_order_to_try_is_checked(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"SYMBOL|not enough|could not"):
        Probe.parse(wrong)
