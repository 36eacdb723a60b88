"""What a terminal, its broker and its user may do to orders: nothing twice, nothing made up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.errors import OrderRejected, OutcomeUnknown
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.sim.mt4_trading import OrderKind
from livetrader_core.sim.venue import Fault, FaultKind
from tests.ea.build import compiler
from tests.ea.client import Refused, attached, certainly, connected
from tests.support.dwx_trading import market_order
from tests.support.dwx_venue import EURUSD, USDJPY, eventually
from tests.support.mt4_account import held
from tests.support.mt4_play import Play, play

_S = OrderStatus
TIMED_OUT, MARKET_CLOSED, OFF_QUOTES = 128, 132, 136
#: After so long (seconds) a terminal's lists are believed, and what was begun is given up.
LONG = 31.0


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if compiler() is None:
        pytest.skip("g++ is needed to compile the expert advisor; install it (package g++)")


def failing(run: Play, name: str, error: int, at: int = 1) -> None:
    """Let the call number ``at`` of a trade function fail, and not be done."""
    real, calls = getattr(run.terminal.functions, name), 0

    def call(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == at:
            arguments[-1][0] = error
            return 0
        return int(real(*arguments))

    setattr(run.terminal.functions, name, call)


def test_a_modify_that_timed_out_is_in_doubt_and_loading_history_is_told() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            ticket = (await client.order("a"))["ticket"]
            terminal.switches.lies = 1
            with pytest.raises(Refused, match="doubt"):
                await client.ask("modify", "m", ticket, 0, "1.05000", 0, 0)
            assert terminal.trading.tickets[ticket].stop_loss == 1.05
            await eventually(lambda: len(client.events()) == 2)
            assert (await client.ask("result", "m"))["state"] == "done"
            terminal.switches.unloaded = 1
            now = (await client.ask("ping"))["time"]
            with pytest.raises(Refused, match="retry 4066"):
                await client.ask("bars", "EURUSD", 1, now - 600, now, 100)

    asyncio.run(main())


def test_a_limit_order_that_the_market_runs_from_does_not_hold_up_the_others(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        await run.waiting("rest", -500, OrderType.LIMIT, 0.1, Side.BUY)
        trading = run.terminal.trading
        trading.refusals.extend([OFF_QUOTES] * 100)
        with pytest.raises(OrderRejected, match="136"):
            await run.waiting("now", 50, OrderType.LIMIT, 0.1, Side.BUY)
        assert len(trading.refusals) == 96
        trading.refusals.clear()
        await run.trade.cancel_order("rest")
        assert await run.status("rest") is _S.CANCELED
        assert not trading.tickets

    play(scene, tmp_path)


def test_what_is_on_its_way_is_not_done_in_another_account() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            await client.order("a")
            terminal.switches.account_number += 1
            for ask in (
                client.order("b"),
                client.ask("result", "a"),
                client.ask("void", "a"),
            ):
                with pytest.raises(Refused, match="wrong_account"):
                    await ask
            assert len(terminal.trading.tickets) == 1

    asyncio.run(main())


def test_orders_that_the_terminal_lists_late_are_not_taken_for_gone(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("loss", -500, OrderType.STOP)
        await run.waiting("low", -300, OrderType.LIMIT, 0.1, Side.BUY)
        functions = run.terminal.functions
        lists = functions.orders_total, functions.order_at, functions.order_of
        functions.orders_total = lambda pool: 0  # type: ignore[method-assign]
        functions.order_at = lambda *_: 0  # type: ignore[method-assign]
        functions.order_of = lambda *_: 0  # type: ignore[method-assign]
        run.terminal.inject(Fault(FaultKind.RESTART, 0.05))
        await eventually(lambda: run.trade.lost != "")
        await eventually(lambda: run.trade.lost == "")
        run.terminal._advisor.pass_time(8.0)
        await asyncio.sleep(0.1)
        functions.orders_total, functions.order_at, functions.order_of = lists  # type: ignore[method-assign]
        await asyncio.sleep(0.1)
        for name in ("loss", "low"):
            assert await run.status(name) is _S.ACCEPTED
        await run.assert_same_books()
        await run.assert_same_prices()

    play(scene, tmp_path)


def test_events_that_were_not_written_down_are_told_after_a_restart(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("a", Side.BUY, 0.3))
        terminal, trading = run.terminal, run.terminal.trading
        terminal._advisor.fail("write", 1)  # the disk is full
        by_hand = trading.send("EURUSD", OrderKind.BUY_LIMIT, 0.1, 1.05)
        trading.modify(by_hand.number, 1.06, 0, 0)
        await asyncio.sleep(0.1)
        trading.delete(by_hand.number)
        terminal.inject(Fault(FaultKind.RESTART, 0.05))
        await eventually(lambda: run.trade.lost != "")
        await eventually(lambda: run.trade.lost == "")
        await run.trade.create_order(market_order("b", Side.SELL, 0.3))
        assert await run.status("b") is _S.FILLED
        await run.assert_same_books()

    play(scene, tmp_path)


def test_a_close_that_was_not_done_does_not_take_the_fill_of_a_stop(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.waiting("loss", -30, OrderType.STOP)
        failing(run, "order_close", TIMED_OUT)
        with pytest.raises(OutcomeUnknown):
            await run.trade.create_order(market_order("out", Side.SELL, 0.3))
        run.terminal._advisor.pass_time(LONG)
        await asyncio.sleep(0.1)
        await run.minutes(3)
        assert await run.status("loss") is _S.FILLED
        assert await run.found("out") is None
        await run.assert_same_books()

    play(scene, tmp_path, [0, -10, -40])


def test_a_refusal_after_a_step_that_is_told_later_ends_the_order_with_its_fill(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        for name, lots in (("a", 0.3), ("b", 0.2)):
            await run.trade.create_order(market_order(name, Side.BUY, lots))
        failing(run, "order_close", MARKET_CLOSED, at=2)
        run.terminal.switches.stray_history = True
        await run.trade.create_order(market_order("out", Side.SELL, 0.5))
        run.terminal.switches.stray_history = False
        await eventually(lambda: any(e.fill and e.order.filled == 0.3 for e in run.seen[2:]))
        order = await run.found("out")
        assert order is not None
        assert (order.status, order.filled) == (_S.CANCELED, 0.3)
        await run.assert_same_books()

    play(scene, tmp_path)


def test_a_level_that_is_set_on_some_positions_only_is_taken_away(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        for name in ("a", "b"):
            await run.trade.create_order(market_order(name, Side.BUY, 0.3))
        failing(run, "order_modify", TIMED_OUT, at=2)
        with pytest.raises(OutcomeUnknown):
            await run.waiting("loss", -30, OrderType.STOP, 0.6)
        run.terminal._advisor.pass_time(LONG)
        assert await run.found("loss") is None
        assert {t.stop_loss for t in run.terminal.trading.tickets.values()} == {0.0}
        await run.minutes(3)
        await run.assert_same_books()

    play(scene, tmp_path, [0, -10, -40])


def test_a_price_is_that_of_the_tick_it_is_next_to(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        run.terminal.switches.lies = 1
        price = 1.1015000000000004
        await run.trade.create_order(
            Order("gain", EURUSD, Side.SELL, OrderType.LIMIT, 0.3, price=price)
        )
        order = await run.found("gain")
        assert order is not None
        assert (order.status, order.price) == (_S.ACCEPTED, 1.1015)
        await run.assert_same_prices()

    play(scene, tmp_path)


def test_an_order_that_came_and_went_beside_a_newer_one_is_told() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            await client.order("a")
            await eventually(lambda: len(client.events()) == 1)
            terminal._advisor.kill()
            terminal.advisor = None
            brief = terminal.trading.send(
                "EURUSD", OrderKind.BUY, 0.2, terminal.model.quote("EURUSD")[1], comment="hand"
            )
            terminal.trading.close(brief.number, 0.2)
            terminal.trading.send("EURUSD", OrderKind.BUY_LIMIT, 0.1, 1.0)
            terminal.attach()
            events = (await certainly(client, "events", "1"))["events"]
            told = [(e["kind"], e["order"]["ticket"]) for e in events]
            assert told == [
                ("placed", brief.number + 1),
                ("opened", brief.number),
                ("closed", brief.number),
            ]

    asyncio.run(main())


def test_a_message_of_very_many_frames_does_not_hold_up_the_advisor() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            await client.ask("ping")
            terminal.longest = 0.0
            frames = [b"LT1", b"", b"long", b"ping", *[b"x"] * 50_000]
            await client.requests.send_multipart(frames)
            name, status, body = await client.reply()
            assert (name, status, body["code"]) == (b"long", "error", "bad_request")
            assert (await client.ask("ping", seconds=30.0))["connected"]
            assert terminal.longest < 0.02

    asyncio.run(main())


def test_a_damaged_journal_stops_operations_until_it_is_moved_away() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            await client.order("a")
            terminal._advisor.kill()
            (journal,) = terminal.files.glob("*.journal")
            whole = journal.read_bytes()
            journal.write_bytes(b"?" + whole[1:])
            terminal.attach()
            with pytest.raises(Refused, match="not_allowed"):
                await certainly(client, "order", "a", "EURUSD", "buy", "0.10", 0, 0, 0, 3, 0)
            assert "NO ORDERS" in terminal._advisor.chart
            assert journal.read_bytes()[1:] == whole[1:]
            assert len(terminal.trading.tickets) == 1

    asyncio.run(main())


def test_a_glance_at_which_a_ticket_is_missing_costs_it_nothing_later(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        functions = run.terminal.functions
        total, of = functions.orders_total, functions.order_of
        functions.orders_total = lambda pool: 0 if pool == 0 else total(pool)  # type: ignore[method-assign]
        functions.order_of = lambda *_: 0  # type: ignore[method-assign]
        await asyncio.sleep(0.05)
        functions.orders_total, functions.order_of = total, of  # type: ignore[method-assign]
        await asyncio.sleep(0.05)
        run.terminal._advisor.pass_time(LONG)
        run.terminal.switches.stray_history = True
        await run.trade.create_order(market_order("out", Side.SELL, 0.3))
        await asyncio.sleep(0.2)
        run.terminal.switches.stray_history = False
        await eventually(lambda: run.seen[-1].order.client_order_id == "out")
        assert await run.status("out") is _S.FILLED
        await run.assert_same_books()

    play(scene, tmp_path)


def test_what_a_part_leaves_is_no_new_fill_where_the_broker_keeps_its_comment(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("a", Side.BUY, 0.5))
        trading = run.terminal.trading
        run.terminal.switches.stray_history = True
        (position,) = trading.tickets.values()
        trading.close(position.number, 0.2)
        (rest,) = trading.tickets.values()
        trading.tickets[rest.number] = replace(rest, comment="a")
        trading.history[-1] = replace(trading.history[-1], comment="a")
        await asyncio.sleep(0.1)
        run.terminal.switches.stray_history = False
        await asyncio.sleep(0.1)
        order = await run.found("a")
        assert order is not None
        assert order.filled == 0.5
        (fill,) = await run.trade.fetch_fills()
        assert fill.quantity == 0.5

    play(scene, tmp_path)


def test_a_pair_of_which_one_side_cannot_be_closed_leaves_a_net_position(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        trading = run.terminal.trading
        for kind in (OrderKind.BUY, OrderKind.SELL):
            trading.send("EURUSD", kind, 1.0, 1.1, magic=77201)
        await asyncio.sleep(0.05)
        failing(run, "order_close", MARKET_CLOSED, at=2)
        await run.trade.close_hedged()
        (position,) = await run.trade.fetch_positions()
        assert abs(position.quantity) == 1.0
        assert held(trading) == {EURUSD: position.quantity}

    play(scene, tmp_path)


def test_costs_are_in_the_currency_of_the_contract(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        terminal = run.trade._terminal
        await terminal.contract(USDJPY)
        assert terminal.costs(EURUSD, 1.1, 7.0) == 7.0
        assert terminal.costs(USDJPY, 105.0, 7.0) == 735.0
        terminal._rates["FOREX.EURJPY"] = 1 / 105.0
        assert terminal.costs("FOREX.EURJPY", 120.0, 7.0) == 735.0

    play(scene, tmp_path)
