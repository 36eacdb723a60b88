"""What a simulated MetaTrader 4 account says of itself, behind the adapter's back."""

from __future__ import annotations

from livetrader_core.sim.books import net
from livetrader_core.sim.mt4_trading import Mt4Trading, Ticket, executions


def working(trading: Mt4Trading) -> int:
    """The orders that wait: pending ones, and levels of positions that a price may come to."""
    return sum(map(_waiting, trading.tickets.values()))


def _waiting(ticket: Ticket) -> int:
    """The orders that a ticket stands for: itself while it is pending, its levels that are near."""
    if ticket.kind.pending:
        return 1
    near = (ticket.open_price / 5, ticket.open_price * 5)
    return sum(near[0] < level < near[1] for level in (ticket.stop_loss, ticket.take_profit))


def bought_and_sold(trading: Mt4Trading) -> dict[str, float]:
    """All that was ever bought and sold, by symbol."""
    found: dict[str, float] = {}
    for fill in executions(trading):
        symbol = f"FOREX.{fill.symbol}"
        found[symbol] = round(found.get(symbol, 0.0) + abs(fill.quantity), 8)
    return found


def held(trading: Mt4Trading) -> dict[str, float]:
    """Net positions that are not flat."""
    open_ = [t for t in trading.tickets.values() if not t.kind.pending]
    return net((f"FOREX.{ticket.name}", ticket.kind.sign * ticket.lots) for ticket in open_)
