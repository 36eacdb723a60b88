"""DwxTrade against the simulated terminal, through real ZeroMQ."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
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
    Unavailable,
)
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.registry import load_trade
from livetrader_core.sim.dwx_trading import ExpertInputs
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.mt4_trading import OrderKind
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.dwx import DwxTrade
from livetrader_core.trade.metatrader.closing import executed
from livetrader_core.trade.metatrader.memory import Memory, Record, Step
from livetrader_core.trade.service import TradeService
from tests.support.data import proving
from tests.support.dwx_trading import (
    NOON,
    assert_same_books,
    inject_before,
    market_order,
    net,
    terminal_at,
    trade_at,
)
from tests.support.dwx_venue import EURUSD, USDJPY, eventually, market_of

Scene = Callable[[Mt4Terminal, DwxTrade, SteppedClock, list[VenueEvent]], Awaitable[None]]


def play(scene: Scene, folder: Path, shown: dict[str, Any] | None = None, **settings: Any) -> None:
    """Run ``scene`` with a terminal, a connected adapter and the events it tells."""

    async def main() -> None:
        clock = SteppedClock(NOON)
        async with terminal_at(clock, **(shown or {})) as terminal:
            trade = trade_at(terminal, clock, folder / "state.sqlite", **settings)
            await trade.connect()
            seen: list[VenueEvent] = []

            async def follow() -> None:
                async for event in trade.watch_events():
                    seen.append(event)

            reader = asyncio.create_task(follow())
            await asyncio.sleep(0)
            try:
                await scene(terminal, trade, clock, seen)
            finally:
                await trade.disconnect()
                await reader

    asyncio.run(main())


def pending(name: str, side: Side, kind: OrderType, price: float, quantity: float = 0.1) -> Order:
    if kind is OrderType.STOP:
        return Order(name, EURUSD, side, kind, quantity, stop_price=price)
    return Order(name, EURUSD, side, kind, quantity, price=price)


def bid(terminal: Mt4Terminal) -> float:
    quote = terminal.model.quote("EURUSD")
    assert quote is not None
    return quote[0]


def test_a_market_order_is_filled_and_told(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        taken = await trade.create_order(market_order("a", Side.BUY, 0.3))
        assert taken.status is OrderStatus.ACCEPTED
        await eventually(lambda: bool(seen))
        (event,) = seen
        assert event.order.status is OrderStatus.FILLED
        assert event.fill is not None
        assert event.fill.trade_id == "100001-open"
        assert event.fill.datetime == NOON
        assert event.order.average_price == terminal.trading.tickets[100001].open_price
        assert terminal.trading.tickets[100001].comment == "lt:a"
        await assert_same_books(terminal, trade)
        again = await trade.create_order(market_order("a", Side.BUY, 0.3))
        assert again.status is OrderStatus.FILLED
        assert net(terminal) == 0.3

    play(scene, tmp_path)


def test_a_sell_closes_the_oldest_first_and_then_opens(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        for name, lots in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
            await trade.create_order(market_order(name, Side.BUY, lots))
        clock.advance(NOON + 600_000)
        await trade.create_order(market_order("d", Side.SELL, 0.15))
        assert [t.lots for t in terminal.trading.tickets.values()] == [0.3, 0.15]
        assert terminal.trading.tickets[100004].comment == "from #100002"
        await assert_same_books(terminal, trade)
        await trade.create_order(market_order("e", Side.SELL, 0.6))
        assert net(terminal) == -0.15
        assert len(terminal.trading.tickets) == 1
        await assert_same_books(terminal, trade)
        order = await trade.fetch_order("e")
        assert order is not None
        assert (order.status, order.filled) == (OrderStatus.FILLED, 0.6)
        # One order for the strategy, of two closes and an opening.
        ids = {f.trade_id for f in await trade.fetch_fills() if f.client_order_id == "e"}
        assert ids == {"100003-close", "100004-close", "100005-open"}

    play(scene, tmp_path)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("kind", [OrderType.LIMIT, OrderType.STOP])
def test_pending_orders_wait_fill_and_are_canceled(
    side: Side, kind: OrderType, tmp_path: Path
) -> None:
    away = 0.0002 * side.sign * (1 if kind is OrderType.STOP else -1)

    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        price = round(bid(terminal) + away, 5)
        far = round(bid(terminal) + 100 * away, 5)
        await trade.create_order(pending("near", side, kind, price))
        await trade.create_order(pending("far", side, kind, far))
        working = await trade.fetch_open_orders()
        assert [order.client_order_id for order in working] == ["near", "far"]
        assert all(order.status is OrderStatus.ACCEPTED for order in working)
        await trade.cancel_order("far")
        with pytest.raises(OrderRejected, match="canceled"):
            await trade.cancel_order("far")
        with pytest.raises(OrderRejected, match="unknown here"):
            await trade.cancel_order("nobody's")
        clock.advance(NOON + 12 * 3_600_000)
        await eventually(lambda: any(event.fill for event in seen))
        assert [event.order.client_order_id for event in seen if event.fill] == ["near"]
        assert seen[-2].order.status is OrderStatus.CANCELED
        assert seen[-1].order.status is OrderStatus.FILLED
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_orders_that_are_not_ours_are_shown_and_left_alone(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        manual = terminal.trading
        manual.send(
            "EURUSD", OrderKind.BUY, 0.5, bid(terminal), comment="__import__('os')", magic=0
        )
        manual.send("EURUSD", OrderKind.BUY_LIMIT, 0.5, bid(terminal) - 0.05, magic=3)
        assert await trade.fetch_positions() == []
        (foreign,) = await trade.fetch_open_orders()
        assert foreign.client_order_id == "mt4:100002"
        await trade.create_order(market_order("a", Side.SELL, 0.2))
        assert 100001 in manual.tickets
        assert net(terminal) == 0.3
        with pytest.raises(OrderRejected):
            await trade.cancel_order("mt4:100002")

    play(scene, tmp_path)


@pytest.mark.parametrize(
    ("fault", "told"),
    [(FaultKind.REJECT, "volume"), (FaultKind.REQUOTE, "requote"), (FaultKind.LIE, "closed")],
)
def test_a_refused_order_was_not_traded(fault: FaultKind, told: str, tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        terminal.inject(Fault(fault))
        with pytest.raises(OrderRejected, match=told):
            await trade.create_order(market_order("a", Side.BUY, 0.1))
        assert not terminal.trading.tickets
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_a_close_that_lies_is_found_out(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        await trade.create_order(market_order("a", Side.BUY, 0.1))
        terminal.inject(Fault(FaultKind.LIE))
        with pytest.raises(OrderRejected, match="its close failed"):
            await trade.create_order(market_order("b", Side.SELL, 0.1))
        assert net(terminal) == 0.1
        await trade.create_order(market_order("c", Side.SELL, 0.1))
        assert net(terminal) == 0
        await trade.create_order(pending("d", Side.BUY, OrderType.LIMIT, bid(terminal) - 0.01))
        terminal.inject(Fault(FaultKind.LIE))
        with pytest.raises(OrderRejected, match="did not delete"):
            await trade.cancel_order("d")
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_a_partial_close_works_beside_pending_orders(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        low = bid(terminal) - 0.05
        await trade.create_order(pending("old", Side.BUY, OrderType.LIMIT, low))
        await trade.create_order(market_order("a", Side.BUY, 0.3))
        await trade.create_order(market_order("b", Side.SELL, 0.1))
        assert [t.lots for t in terminal.trading.tickets.values()] == [0.1, 0.2]
        # With pending orders at both ends of the list it cannot part, and opens against it.
        await trade.create_order(pending("new", Side.BUY, OrderType.LIMIT, low))
        await trade.create_order(market_order("c", Side.SELL, 0.1))
        assert net(terminal) == 0.1
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_a_refusal_after_a_part_ends_the_order_with_what_is_filled(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        await trade.create_order(market_order("a", Side.BUY, 0.1))
        await trade.create_order(market_order("b", Side.SELL, 0.3))
        order = await trade.fetch_order("b")
        assert order is not None
        assert (order.status, order.filled) == (OrderStatus.CANCELED, 0.1)
        assert "MaximumLotSize" in order.reason
        await assert_same_books(terminal, trade)

    play(scene, tmp_path, {"inputs": ExpertInputs(9, 0.1)})


def test_slippage_of_a_close_is_read_from_the_balance(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        for number, symbol in enumerate((EURUSD, USDJPY)):
            await trade.create_order(market_order(f"a{number}", Side.BUY, 0.5, symbol))
            terminal.inject(Fault(FaultKind.SLIP))
            await trade.create_order(market_order(f"b{number}", Side.SELL, 0.5, symbol))
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_costs_of_a_close_are_its_commission() -> None:
    contract = default_contract(EURUSD)
    step = Step(0.1, 1000.0, 7, 1.1, 1)
    assert executed(step, 0.1, 1.101, 10.0, contract, "USD") == (1.101, 0.0)
    assert executed(step, 0.1, 1.101, 9.3, contract, "USD") == (1.101, 0.7)
    assert executed(step, 0.1, 0.0, 10.0, contract, "USD") == (1.101, 0.0)
    assert executed(step, 0.1, 1.101, 9.3, contract, "CHF") == (1.101, 0.0)


# --------------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", [FaultKind.DROP, FaultKind.LOSE, FaultKind.LATE])
@pytest.mark.parametrize("closing", [False, True])
def test_an_answer_that_does_not_come_leaves_the_outcome_open(
    fault: FaultKind, closing: bool, tmp_path: Path
) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        if closing:
            await trade.create_order(market_order("first", Side.BUY, 0.1))
        side = Side.SELL if closing else Side.BUY
        inject_before(terminal, Fault(fault, 0.7), ("TRADE;OPEN", "TRADE;CLOSE"))
        with pytest.raises(OutcomeUnknown):
            await trade.create_order(market_order("a", side, 0.1))
        order = await answered(trade, "a")
        if fault is FaultKind.LOSE:
            assert order is None
        else:
            assert order is not None
            assert order.status is OrderStatus.FILLED
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


async def answered(trade: DwxTrade, client_order_id: str) -> Order | None:
    """What becomes of an order, once the terminal can be asked."""
    while True:
        try:
            return await trade.fetch_order(client_order_id)
        except Unavailable:
            await asyncio.sleep(0.01)


def test_nothing_is_sent_to_a_terminal_that_is_gone(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        await trade.create_order(pending("a", Side.BUY, OrderType.LIMIT, bid(terminal) - 0.01))
        terminal.inject(Fault(FaultKind.RESTART, 0.3))
        await eventually(lambda: trade._line is None or trade._line.lost is not None)
        with pytest.raises(NotConnected):
            await trade.create_order(market_order("b", Side.BUY, 0.1))
        assert await answered(trade, "b") is None
        order = await answered(trade, "a")
        assert order is not None
        assert order.status is OrderStatus.ACCEPTED
        assert len(terminal.trading.tickets) == 1
        await trade.create_order(market_order("b", Side.BUY, 0.1))
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_a_blocked_terminal_rejects(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        terminal.expert.blocked = "TRADING_IS_NOT_ALLOWED"
        with pytest.raises(NotConnected, match="AutoTrading"):
            await trade.create_order(market_order("a", Side.BUY, 0.1))

    play(scene, tmp_path)


def test_an_order_filled_in_the_moment_of_its_cancel(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        await trade.create_order(pending("a", Side.BUY, OrderType.LIMIT, bid(terminal) - 0.0001))
        handler = terminal.expert.trades["CLOSE"]

        def fill_first(fields: Any) -> str:
            while terminal.trading.tickets[100001].kind.pending:
                clock.advance(clock.now() + 60_000)
                terminal.trading.advance()
            return handler(fields)

        terminal.expert.trades["CLOSE"] = fill_first
        await trade.cancel_order("a")
        order = await trade.fetch_order("a")
        assert order is not None
        assert order.status is OrderStatus.CANCELED
        assert "filled in the moment" in order.reason
        assert await trade.fetch_positions() == []

    play(scene, tmp_path)


def test_an_order_filled_between_two_steps_of_another_that_closes_it(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        await trade.create_order(market_order("a", Side.BUY, 0.1))
        await trade.create_order(pending("b", Side.BUY, OrderType.LIMIT, bid(terminal) - 0.0001))
        handler = terminal.expert.trades["CLOSE"]

        def fill_next(fields: Any) -> str:
            answer = handler(fields)
            while any(ticket.kind.pending for ticket in terminal.trading.tickets.values()):
                clock.advance(clock.now() + 60_000)
                terminal.trading.advance()
            return answer

        terminal.expert.trades["CLOSE"] = fill_next
        await trade.create_order(market_order("c", Side.SELL, 0.3))
        statuses = {name: await trade.fetch_order(name) for name in "bc"}
        assert [o.status for o in statuses.values() if o is not None] == [OrderStatus.FILLED] * 2
        assert net(terminal) == -0.1
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_an_order_whose_process_ended_after_a_step_that_did_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with terminal_at(clock) as terminal:
            memory = Memory(tmp_path / "state.sqlite")
            memory.open(str(terminal.expert.account_number))
            memory.write(Record(market_order("a", Side.BUY, 0.1).but(status=OrderStatus.SUBMITTED)))
            memory.close()
            trade = trade_at(terminal, clock, tmp_path / "state.sqlite")
            await trade.connect()
            assert await trade.fetch_order("a") is None  # so that it is known to be dead
            await trade.disconnect()

    asyncio.run(main())


def test_what_was_filled_while_nobody_looked_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with terminal_at(clock) as terminal:
            trade = trade_at(terminal, clock, tmp_path / "state.sqlite")
            await trade.connect()
            await trade.create_order(market_order("a", Side.BUY, 0.3))
            await trade.create_order(market_order("b", Side.SELL, 0.1))
            near = bid(terminal) - 0.0002
            await trade.create_order(pending("c", Side.BUY, OrderType.LIMIT, near))
            await trade.disconnect()
            clock.advance(NOON + 12 * 3_600_000)
            # Another process, with the file of the one before.
            trade = trade_at(terminal, clock, tmp_path / "state.sqlite")
            await trade.connect()
            order = await trade.fetch_order("c")
            assert order is not None
            assert order.status is OrderStatus.FILLED
            await assert_same_books(terminal, trade)
            await trade.disconnect()
            # Without the file, by the comments: only the closes are lost.
            trade = trade_at(terminal, clock, tmp_path / "new.sqlite")
            await trade.connect()
            order = await trade.fetch_order("c")
            assert order is not None
            assert order.status is OrderStatus.FILLED
            assert await trade.fetch_order("b") is None
            assert [p.quantity for p in await trade.fetch_positions()] == [0.3]
            await trade.disconnect()
            await trade.disconnect()

    asyncio.run(main())


def test_the_file_belongs_to_one_account(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with terminal_at(clock) as terminal:
            trade = trade_at(terminal, clock, tmp_path / "state.sqlite")
            await trade.connect()
            await trade.disconnect()
            terminal.expert.account_number += 1
            with pytest.raises(ConfigError, match=r"^state: "):
                await trade.connect()

    asyncio.run(main())


@pytest.mark.parametrize("cut", [True, False])
def test_no_order_goes_to_another_account_that_the_terminal_logs_in_to(
    tmp_path: Path, cut: bool
) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with terminal_at(clock) as terminal:
            trade = trade_at(terminal, clock, tmp_path / "state.sqlite")
            await trade.connect()
            terminal.expert.account_number += 1
            if cut:
                terminal.inject(Fault(FaultKind.CUT))
                await eventually(lambda: trade.lost != "")
            for _ in range(5):
                with pytest.raises(NotConnected):
                    await trade.create_order(market_order("a", Side.BUY, 0.1))
                await asyncio.sleep(0.1)
            assert not terminal.trading.tickets
            terminal.expert.account_number -= 1
            await eventually(lambda: trade.lost == "")
            await trade.create_order(market_order("b", Side.BUY, 0.1))
            assert len(terminal.trading.tickets) == 1
            await trade.disconnect()

    asyncio.run(main())


@pytest.mark.parametrize("build", ["patched", "early"])
def test_builds_that_do_not_tell_the_account_are_not_traded_with(
    build: str, tmp_path: Path
) -> None:
    async def main() -> None:
        clock = SteppedClock(NOON)
        async with terminal_at(clock, build=build) as terminal:
            with pytest.raises(Unavailable, match="RC8"):
                await trade_at(terminal, clock, tmp_path / "state.sqlite").connect()

    asyncio.run(main())


def test_quotes_and_orders_share_one_connection(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        market = market_of(terminal, clock)
        await market.connect()

        async def trade_on() -> None:
            for number in range(20):
                side = Side.BUY if number % 3 else Side.SELL
                await trade.create_order(market_order(f"o{number}", side, 0.1))

        trading = asyncio.create_task(trade_on())
        while not trading.done():
            assert len(await market.get_kline_histories(EURUSD, limit=100)) == 100
        await trading
        terminal.inject(Fault(FaultKind.RESTART))
        await eventually(lambda: trade._line is not None and trade._line.lost is not None)
        await answered(trade, "o1")
        await market.disconnect()
        await assert_same_books(terminal, trade)

    play(scene, tmp_path)


def test_settings_at_fault_are_named() -> None:
    assert load_trade("dwx") is DwxTrade
    for name, value in {"magic": 0, "currency": "usd", "poll_every": 0, "push_port": 0}.items():
        with pytest.raises(ConfigError, match=f"^{name}: "):
            DwxTrade(**{name: value})  # type: ignore[arg-type]


def test_orders_that_the_terminal_cannot_have(tmp_path: Path) -> None:
    async def scene(
        terminal: Mt4Terminal, trade: DwxTrade, clock: SteppedClock, seen: list[VenueEvent]
    ) -> None:
        with pytest.raises(OrderRejected, match=r"steps of 0\.01"):
            await trade.create_order(market_order("a", Side.BUY, 0.015))
        with pytest.raises(InvalidRequest, match="must not hold"):
            await trade.create_order(market_order("a'b", Side.BUY, 0.1))
        with pytest.raises(InvalidRequest, match="no close orders"):
            await trade.create_order(Order("a", EURUSD, Side.BUY, OrderType.CLOSE, 0.1))
        with pytest.raises(InvalidRequest, match="cannot modify"):
            await trade.modify_order("a", price=1.0)
        assert not terminal.trading.tickets

    play(scene, tmp_path)


# --------------------------------------------------------------------------- under the service


_FAULTS = (
    FaultKind.DROP,
    FaultKind.LOSE,
    FaultKind.REJECT,
    FaultKind.REQUOTE,
    FaultKind.SLIP,
    FaultKind.LIE,
    FaultKind.DUPLICATE,
    FaultKind.CUT,
    FaultKind.RESTART,
)


async def _run_schedule(seed: int, folder: Path) -> None:
    """Random orders, faults and restarts; afterwards journal and terminal agree."""
    rng = random.Random(seed)
    clock = SteppedClock(NOON)
    async with terminal_at(clock) as terminal:

        def service() -> TradeService:
            trade = trade_at(terminal, clock, folder / f"{seed}.sqlite", timeout=0.15)
            return TradeService(trade, folder / f"{seed}.journal", 0.02, 0.2, reconcile_every=60.0)

        trading = service()
        await trading.connect()
        names: list[str] = []
        for number in range(12):
            if rng.random() < 0.35:
                terminal.inject(Fault(rng.choice(_FAULTS), rng.uniform(0, 0.1)))
            if rng.random() < 0.1:
                await trading.stop()
                trading = service()
                await _connected(trading)
            await _act(rng, trading, terminal, names, number)
            if rng.random() < 0.4:
                clock.advance(clock.now() + rng.randint(1, 30) * 60_000)
        terminal.trading.refusals.clear()
        await _settled(trading)
        await _compare(terminal, trading)
        await trading.stop()


async def _connected(trading: TradeService) -> None:
    while True:
        try:
            return await trading.connect()
        except LiveTraderError:
            await asyncio.sleep(0.02)


async def _act(
    rng: random.Random, trading: TradeService, terminal: Mt4Terminal, names: list[str], number: int
) -> None:
    try:
        if names and rng.random() < 0.2:
            await trading.cancel_order(rng.choice(names))
            return
        side, lots = rng.choice(list(Side)), rng.randint(1, 30) / 100
        kind = rng.choice([OrderType.MARKET, OrderType.MARKET, OrderType.LIMIT, OrderType.STOP])
        name = f"o{number}"
        names.append(name)
        away = side.sign * rng.randint(5, 60) / 100_000
        price = round(bid(terminal) + (away if kind is OrderType.STOP else -away), 5)
        order = market_order(name, side, lots)
        if kind is not OrderType.MARKET:
            order = pending(name, side, kind, price, lots)
        await trading.create_order(order)
    except LiveTraderError:
        return  # what became of it is compared at the end


async def _settled(trading: TradeService) -> None:
    """Wait until nothing is in doubt, and the terminal is back."""
    (adapter,) = trading.adapters
    doubtful = (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED)
    await eventually(
        lambda: all(order.status not in doubtful for order in trading.journal.open_orders())
    )
    while True:
        try:
            await adapter.fetch_positions()
            break
        except LiveTraderError:
            await asyncio.sleep(0.02)
    for _ in range(5):
        await trading.reconcile()


async def _compare(terminal: Mt4Terminal, trading: TradeService) -> None:
    (adapter,) = trading.adapters
    assert isinstance(adapter, DwxTrade)
    raced = any("in the moment" in r.order.reason for r in adapter._memory.records.values())
    if not raced:
        await assert_same_books(terminal, adapter)
    fills = await trading.fetch_fills()
    assert sorted(f.trade_id for f in fills) == sorted(adapter._memory.fills)
    report = await trading.reconcile()
    assert report.differences == ()
    comments = [t.comment for t in terminal.trading.tickets.values() if "lt:" in t.comment]
    assert len(comments) == len(set(comments))
    working = {t.number for t in terminal.trading.tickets.values() if t.kind.pending}
    assert {int(o.order_id) for o in await trading.fetch_open_orders()} == working


@pytest.mark.parametrize("seed", range(6))
def test_random_orders_and_faults(seed: int, tmp_path: Path) -> None:
    asyncio.run(_run_schedule(seed, tmp_path))


@pytest.mark.long
def test_many_random_orders_and_faults(tmp_path: Path) -> None:
    for seed in range(100, 100 + (200 if proving() else 2)):
        asyncio.run(_run_schedule(seed, tmp_path))
