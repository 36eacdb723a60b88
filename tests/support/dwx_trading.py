"""A simulated terminal that trades and a DwxTrade for it, for the length of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from livetrader_core.clock import Clock, SteppedClock
from livetrader_core.models import Fill, Order, OrderType, Side
from livetrader_core.sim.dwx_trading import ExpertInputs
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.mt4_trading import Mt4Trading
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.dwx import DwxTrade
from tests.market.samples import at
from tests.support.dwx_venue import EURUSD, USDJPY, generated

NOON = at("2020-11-04 12:00")
WIDE = ExpertInputs(maximum_orders=1000, maximum_lots=100.0)


def trade_at(
    terminal: Mt4Terminal,
    clock: Clock,
    state: Path,
    kind: type[DwxTrade] = DwxTrade,
    **settings: Any,
) -> DwxTrade:
    """An adapter for ``terminal`` that is quick to look, to give up and to come back."""
    quick = {"timeout": 0.5, "connect_timeout": 2.0, "retry": 0.01, "longest_retry": 0.05}
    return kind(
        push_port=terminal.push_port,
        pull_port=terminal.pull_port,
        sub_port=terminal.sub_port,
        clock=clock,
        state=state,
        **{**quick, "poll_every": 0.01, **settings},
    )


@asynccontextmanager
async def terminal_at(
    clock: SteppedClock, recordings: Sequence[Recording] = (), **settings: Any
) -> AsyncIterator[Mt4Terminal]:
    """A started terminal with EURUSD and USDJPY."""
    shown = recordings or [generated(EURUSD), generated(USDJPY)]
    wide = {"inputs": WIDE, "freeze": 0.0, "balance": 100_000.0}
    terminal = Mt4Terminal(shown, clock, **{**wide, **settings})
    await terminal.start()
    try:
        yield terminal
    finally:
        await terminal.stop()


def market_order(name: str, side: Side, quantity: float, symbol: str = EURUSD) -> Order:
    return Order(name, symbol, side, OrderType.MARKET, quantity)


def net(terminal: Mt4Terminal, name: str = "EURUSD") -> float:
    """What the terminal holds of a symbol."""
    held = [t for t in terminal.trading.tickets.values() if t.name == name and not t.kind.pending]
    return round(sum(ticket.kind.sign * ticket.lots for ticket in held), 8)


def venue_fills(trading: Mt4Trading) -> dict[str, tuple[float, float]]:
    """Lots and price of everything that was executed at the terminal, by trade id."""
    found: dict[str, tuple[float, float]] = {}
    executed = [t for t in trading.history if t.close_price]
    lots: dict[int, float] = {}
    rests: set[int] = set()
    for ticket in [*executed, *trading.tickets.values()]:
        if ticket.comment.startswith("to #"):
            rests.add(int(ticket.comment[4:]))
    for ticket in reversed(executed):
        found[f"{ticket.number}-close"] = (ticket.lots, ticket.close_price)
    for ticket in sorted([*executed, *trading.tickets.values()], key=lambda t: -t.number):
        if ticket.kind.pending:
            continue
        whole = ticket.lots
        if ticket.comment.startswith("to #"):
            whole += lots[int(ticket.comment[4:])]
        lots[ticket.number] = round(whole, 8)
        if ticket.number not in rests:
            found[f"{ticket.number}-open"] = (lots[ticket.number], ticket.open_price)
    return found


def told(fills: Sequence[Fill]) -> dict[str, tuple[float, float]]:
    """The same of fills."""
    return {fill.trade_id: (fill.quantity, fill.price) for fill in fills}


def inject_before(terminal: Mt4Terminal, fault: Fault, commands: tuple[str, ...]) -> None:
    """Let ``fault`` strike the next of ``commands``."""
    taken = terminal._on_command

    def on_command(frame: bytes) -> None:
        if frame.decode().startswith(commands):
            terminal.inject(fault)
            socket._on_message = taken
        taken(frame)

    socket = terminal._commands
    assert socket is not None
    socket._on_message = on_command


async def assert_same_books(terminal: Mt4Terminal, trade: TradeBase) -> None:
    """Fills, positions and cash of the adapter are the terminal's, to the cent."""
    fills = await trade.fetch_fills()
    assert told(fills) == venue_fills(terminal.trading)
    positions = {position.symbol: position.quantity for position in await trade.fetch_positions()}
    held = {f"FOREX.{name}": net(terminal, name) for name in ("EURUSD", "USDJPY")}
    assert positions == {symbol: lots for symbol, lots in held.items() if lots}
    (balance,) = await trade.fetch_balance()
    assert balance.cash == terminal.trading.balance
