"""Orders that close a position at MetaTrader 4 are its stop-loss and take-profit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import LiveTraderError, OrderRejected, OutcomeUnknown
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines, Order, OrderStatus, OrderType, Side
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.recording import MINUTE_MS, Recording
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.dwx import DwxTrade
from tests.support.dwx_trading import (
    NOON,
    assert_same_books,
    inject_before,
    market_order,
    terminal_at,
    trade_at,
)
from tests.support.dwx_venue import EURUSD, USDJPY, eventually

_FIRST = {EURUSD: 1.10000, USDJPY: 105.000}
_S = OrderStatus


def course(symbol: str, ticks: Sequence[int]) -> Recording:
    """A price that takes ``ticks`` from its first one, a step a minute, the first at NOON."""
    contract = default_contract(symbol)
    steps = np.array([0] * 5 + list(ticks) + [ticks[-1]] * 30)
    price = np.array(
        [contract.round_price(_FIRST[symbol] + t * contract.price_tick) for t in steps]
    )
    times = NOON - 5 * MINUTE_MS + np.arange(len(steps), dtype=np.int64) * MINUTE_MS
    flat = np.zeros(len(steps))
    columns = [price, price, price, price, flat + 30, flat]
    return Recording(contract, Klines.from_columns(symbol, "1m", times, columns))


class Play:
    """A terminal whose price takes a course, and an adapter with what it told."""

    def __init__(self, terminal: Mt4Terminal, clock: SteppedClock, folder: Path) -> None:
        self.terminal, self.clock, self._folder = terminal, clock, folder
        self.seen: list[VenueEvent] = []
        self.trade: DwxTrade = None  # type: ignore[assignment]

    async def begin(self) -> None:
        self.trade = trade_at(self.terminal, self.clock, self._folder / "state.sqlite")
        await self.trade.connect()
        self._reader = asyncio.create_task(self._follow())
        await asyncio.sleep(0)

    async def _follow(self) -> None:
        async for event in self.trade.watch_events():
            self.seen.append(event)

    async def end(self) -> None:
        await self.trade.disconnect()
        await self._reader

    async def minutes(self, count: int = 1) -> None:
        self.clock.advance(self.clock.now() + count * MINUTE_MS)
        await asyncio.sleep(0.03)

    async def found(self, name: str) -> Order | None:
        """What the adapter knows of an order once its line is there again."""
        while True:
            with suppress(LiveTraderError):
                return await self.trade.fetch_order(name)
            await asyncio.sleep(0.01)

    async def status(self, name: str) -> OrderStatus:
        order = await self.trade.fetch_order(name)
        assert order is not None
        return order.status

    async def closing(
        self, name: str, ticks: int, kind: OrderType, lots: float = 0.3, side: Side = Side.SELL
    ) -> Order:
        """Place an order so many ticks from the first price."""
        price = default_contract(EURUSD).round_price(_FIRST[EURUSD] + ticks * 1e-5)
        if kind is OrderType.STOP:
            order = Order(name, EURUSD, side, kind, lots, stop_price=price)
        else:
            order = Order(name, EURUSD, side, kind, lots, price=price)
        return await self.trade.create_order(order)


Scene = Callable[[Play], Awaitable[None]]


def play(scene: Scene, folder: Path, ticks: Sequence[int]) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        shown = [course(EURUSD, ticks), course(USDJPY, [0])]
        async with terminal_at(clock, shown) as terminal:
            run = Play(terminal, clock, folder)
            await run.begin()
            try:
                await scene(run)
            finally:
                await run.end()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("ticks", "filled", "canceled", "price"),
    [([0, 0, -60], "loss", "gain", 1.09940), ([0, 0, 90], "gain", "loss", 1.10080)],
)
def test_a_level_that_is_reached_closes_the_position_and_ends_the_other(
    tmp_path: Path, ticks: list[int], filled: str, canceled: str, price: float
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        taken = await run.closing("loss", -50, OrderType.STOP)
        await run.closing("gain", 80, OrderType.LIMIT)
        (ticket,) = run.terminal.trading.tickets.values()
        assert (ticket.stop_loss, ticket.take_profit) == (1.0995, 1.1008)
        assert taken.order_id == str(ticket.number)
        working = {order.client_order_id for order in await run.trade.fetch_open_orders()}
        assert working == {"loss", "gain"}
        await run.minutes(3)
        await eventually(lambda: len(run.seen) == 5)
        assert (await run.status(filled), await run.status(canceled)) == (_S.FILLED, _S.CANCELED)
        (fill,) = [e.fill for e in run.seen if e.fill and e.fill.client_order_id == filled]
        assert (fill.trade_id, fill.price) == (f"{ticket.number}-close", price)
        assert not run.terminal.trading.tickets
        assert run.terminal.trading.balance != 100_000.0
        await assert_same_books(run.terminal, run.trade)

    play(scene, tmp_path, ticks)


def test_a_level_alone_leaves_the_other_where_no_price_comes(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.SELL, 0.3))
        await run.closing("gain", -80, OrderType.LIMIT, side=Side.BUY)
        (ticket,) = run.terminal.trading.tickets.values()
        assert ticket.take_profit == 1.0992
        assert ticket.stop_loss > 5
        await run.trade.cancel_order("gain")
        (ticket,) = run.terminal.trading.tickets.values()
        assert ticket.take_profit < 0.1
        await run.closing("loss", 50, OrderType.STOP, side=Side.BUY)
        await run.minutes(3)
        await eventually(lambda: not run.terminal.trading.tickets)
        assert (await run.status("gain"), await run.status("loss")) == (_S.CANCELED, _S.FILLED)
        await assert_same_books(run.terminal, run.trade)

    play(scene, tmp_path, [0, 0, 70])


def test_a_part_that_is_closed_takes_its_level_along(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.closing("loss", -50, OrderType.STOP)
        await run.trade.create_order(market_order("out", Side.SELL, 0.1))
        assert await run.status("loss") is _S.ACCEPTED
        await run.minutes(3)
        await eventually(lambda: not run.terminal.trading.tickets)
        order = await run.trade.fetch_order("loss")
        assert order is not None
        assert (order.status, order.filled) == (_S.CANCELED, 0.2)
        await assert_same_books(run.terminal, run.trade)

    play(scene, tmp_path, [0, 0, -60])


def test_what_is_closed_by_an_order_or_by_hand_ends_its_levels_without_a_fill(
    tmp_path: Path,
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.closing("loss", -50, OrderType.STOP)
        await run.trade.create_order(market_order("out", Side.SELL, 0.3))
        assert await run.status("loss") is _S.CANCELED
        await run.trade.create_order(market_order("again", Side.BUY, 0.3))
        await run.closing("lost", -50, OrderType.STOP)
        await run.closing("gained", 80, OrderType.LIMIT)
        (ticket,) = run.terminal.trading.tickets
        run.terminal.trading.close(ticket, 0.3)
        assert (await run.status("lost"), await run.status("gained")) == (_S.CANCELED, _S.CANCELED)
        assert {f.client_order_id for f in await run.trade.fetch_fills()} == {"in", "out", "again"}

    play(scene, tmp_path, [0])


def test_a_level_reached_while_nobody_looked_is_found_at_the_start(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        await run.closing("loss", -50, OrderType.STOP)
        await run.closing("gain", 80, OrderType.LIMIT)
        await run.end()
        run.clock.advance(run.clock.now() + 4 * MINUTE_MS)
        run.terminal.trading.advance()
        await run.begin()
        assert (await run.status("loss"), await run.status("gain")) == (_S.FILLED, _S.CANCELED)
        await assert_same_books(run.terminal, run.trade)

    play(scene, tmp_path, [0, 0, -60])


def test_tickets_that_vanish_together_are_told_apart_by_the_balance(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("a", Side.BUY, 0.1))
        await run.closing("a-loss", -50, OrderType.STOP, 0.1)
        await run.closing("a-gain", 30, OrderType.LIMIT, 0.1)
        await run.trade.create_order(market_order("b", Side.BUY, 0.2))
        await run.closing("b-loss", -50, OrderType.STOP, 0.2)
        await run.closing("b-gain", 80, OrderType.LIMIT, 0.2)
        await run.end()
        # First up through a's gain, then down through b's loss.
        run.clock.advance(run.clock.now() + 5 * MINUTE_MS)
        run.terminal.trading.advance()
        await run.begin()
        states = {name: await run.status(name) for name in ("a-loss", "a-gain", "b-loss", "b-gain")}
        filled = {name for name, status in states.items() if status is _S.FILLED}
        assert filled == {"a-gain", "b-loss"}

    play(scene, tmp_path, [0, 0, 40, -50])


@pytest.mark.parametrize("lost", [FaultKind.LOSE, FaultKind.DROP])
def test_a_level_whose_answer_is_lost_is_seen_or_was_not_set(
    tmp_path: Path, lost: FaultKind
) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        inject_before(run.terminal, Fault(lost), ("TRADE;MODIFY",))
        with pytest.raises(OutcomeUnknown):
            await run.closing("loss", -50, OrderType.STOP)
        found = await run.found("loss")
        if lost is FaultKind.LOSE:
            assert found is None
        else:
            assert found is not None
            assert found.status is _S.ACCEPTED
        (ticket,) = run.terminal.trading.tickets.values()
        assert bool(ticket.stop_loss) is (lost is FaultKind.DROP)

    play(scene, tmp_path, [0])


def test_a_level_that_the_broker_refuses_is_rejected_on_all_tickets(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        with pytest.raises(OrderRejected, match="130"):
            await run.closing("wrong", 50, OrderType.STOP)
        await run.trade.create_order(market_order("more", Side.BUY, 0.2))
        await run.closing("both", -50, OrderType.STOP, 0.5)
        levels = [ticket.stop_loss for ticket in run.terminal.trading.tickets.values()]
        assert levels == [1.0995, 1.0995]
        await run.minutes(3)
        await eventually(lambda: not run.terminal.trading.tickets)
        assert await run.status("both") is _S.FILLED
        await assert_same_books(run.terminal, run.trade)

    play(scene, tmp_path, [0, 0, -60])


def test_positions_against_each_other_are_closed_when_all_is_to_be_flat(tmp_path: Path) -> None:
    async def scene(run: Play) -> None:
        trading = run.terminal.trading
        await run.trade.create_order(market_order("in", Side.BUY, 0.3))
        # It fits no ticket, so that it waits as an order of its own.
        await run.closing("more", -50, OrderType.STOP, 0.5)
        assert [t.kind.pending for t in trading.tickets.values()] == [False, True]
        await run.minutes(3)
        await eventually(lambda: len(trading.tickets) == 2)
        await eventually(lambda: not any(t.kind.pending for t in trading.tickets.values()))
        await run.trade.close_hedged()
        (left,) = trading.tickets.values()
        assert (left.kind.sign, left.lots) == (-1, 0.2)
        (position,) = await run.trade.fetch_positions()
        assert position.quantity == -0.2

    play(scene, tmp_path, [0, 0, -60])
