"""Where events are missing: every order is looked at, and what happened is found by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from livetrader_core.trade.metatrader.guards import Guard
from livetrader_core.trade.metatrader.memory import Record
from livetrader_core.trade.mt4.books import OrderBooks
from livetrader_core.trade.mt4.messages import OrderEvent, Ticket
from livetrader_core.trade.mt4.terminal import Terminal


class Looking:
    """Brings ``books`` up to date with a terminal whose events are not all known.

    What it cannot see is what positions that are closed by now were closed by: where that was a
    market order whose answer was lost as well, the comparison of the books tells of it.
    """

    def __init__(self, terminal: Terminal, books: OrderBooks) -> None:
        self._terminal = terminal
        self._books = books

    async def look(self) -> int:
        """Look at all orders; returns the number of the last event before. Raises Unavailable."""
        event, tickets = await self._terminal.tickets()
        ours = [ticket for ticket in tickets if self._terminal.owns(ticket.trade)]
        for ticket in ours:
            if ticket.trade.client_order_id:
                self._books.adopt(ticket)
                self._tell("modified" if ticket.trade.pending else "opened", ticket)
        open_now = {ticket.trade.ticket: ticket for ticket in ours}
        for record in self._books.working:
            if record.guard is not None:
                await self._look_at_levels(record.guard, open_now)
            elif record.ticket and record.ticket not in open_now:
                await self._look_at_gone(record)
        return event

    async def _look_at_levels(self, guard: Guard, open_now: Mapping[int, Ticket]) -> None:
        for one in guard.tickets:
            known = open_now.get(one.ticket)
            if known is not None:
                self._tell("modified", known)
            elif (found := await self._terminal.ticket(one.ticket)) is not None:
                closed, reason = found
                rest = _rest_of(closed, list(open_now.values()))
                self._tell("parted" if rest else "closed", closed, reason, rest)

    async def _look_at_gone(self, record: Record) -> None:
        """An order that was pending: filled and closed again, or deleted."""
        found = await self._terminal.ticket(record.ticket)
        if found is not None:
            ticket, reason = found
            self._tell("deleted" if ticket.trade.pending else "filled", ticket, reason)

    def _tell(self, kind: str, ticket: Ticket, reason: str = "", rest: int = 0) -> None:
        self._books.see(OrderEvent(0, kind, "", reason, rest, ticket))


def _rest_of(closed: Ticket, tickets: Sequence[Ticket]) -> int:
    """What a partial close left of a position; 0: nothing."""
    rests = [one.trade.ticket for one in tickets if one.root == closed.root]
    return rests[0] if rests else 0
