"""A hedging account seen as net positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from livetrader_core.models import Position
from livetrader_core.trade.dwx.messages import Trade


def net_positions(trades: Sequence[Trade], symbol_of: Callable[[str], str]) -> list[Position]:
    """Net positions that are not flat, by symbol; ``trades`` are positions and orders."""
    found = []
    for name in sorted({trade.name for trade in trades if not trade.pending}):
        held = [trade for trade in trades if trade.name == name and not trade.pending]
        net = round(sum(trade.side.sign * trade.lots for trade in held), 8)
        if not net:
            continue
        side = [trade for trade in held if trade.side.sign * net > 0]
        lots = sum(trade.lots for trade in side)
        average = sum(trade.lots * trade.price for trade in side) / lots
        found.append(Position(symbol_of(name), net, average))
    return found


def hedged_pair(trades: Sequence[Trade]) -> tuple[Trade, Trade] | None:
    """The oldest position that has one of the other side of its symbol, and that one."""
    held = [trade for trade in trades if not trade.pending]
    for one in held:
        for other in held:
            if other.name == one.name and other.side is not one.side:
                return one, other
    return None
