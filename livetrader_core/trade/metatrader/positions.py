"""A hedging account seen as net positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Position, Side
from livetrader_core.trade.metatrader.trades import Trade


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


def opposing(trades: Iterable[Trade], name: str, side: Side) -> list[Trade]:
    """The positions in ``name`` that an order to ``side`` would close, as they come."""
    held = [trade for trade in trades if trade.name == name and not trade.pending]
    return [trade for trade in held if trade.side is not side]


def symbol_of(name: str, markets: Sequence[str], suffix: str) -> str:
    """The symbol that the broker calls ``name``; one that is not known is put into the first."""
    code = name.removesuffix(suffix) if suffix else name
    for market in markets:
        try:
            return default_contract(f"{market}.{code}").symbol
        except UnknownSymbol:
            continue
    return f"{markets[0]}.{code}"
