"""Orders that are levels of positions: their stop-loss, or their take-profit."""

from __future__ import annotations

from collections.abc import Mapping

from livetrader_core.errors import OrderRejected
from livetrader_core.models import OrderStatus
from livetrader_core.trade.metatrader.guards import Guard, Guarded, level_of
from livetrader_core.trade.metatrader.memory import Record
from livetrader_core.trade.metatrader.trades import Trade
from livetrader_core.trade.mt4.books import OrderBooks
from livetrader_core.trade.mt4.steps import Steps
from livetrader_core.trade.mt4.terminal import Terminal

#: Prices that differ by less are one: no tick is as small.
_SAME = 1e-9


class Levels:
    """Sets, moves and takes away the levels of a terminal's positions."""

    def __init__(self, terminal: Terminal, books: OrderBooks, steps: Steps) -> None:
        self._terminal = terminal
        self._books = books
        self._steps = steps

    async def place(self, record: Record, guard: Guard, trades: Mapping[int, Trade]) -> None:
        """Set an order as a level of the positions that it closes: of all of them, or of none.

        Raises OrderRejected, OutcomeUnknown, NotConnected.
        """
        done: list[Guarded] = []
        try:
            for one in guard.tickets:
                await self._set(record, trades[one.ticket], guard, guard.level)
                done.append(one)
        except OrderRejected:
            now = await self._terminal.trades() if done else {}
            for one in done:
                if one.ticket in now:
                    await self._set(record, now[one.ticket], guard, 0.0)
            raise
        known = self._books.order(record.order.client_order_id) or record
        if not known.order.status.is_final:
            self._books.accept(known, guard.tickets[0].ticket)

    async def move(self, record: Record, guard: Guard, level: float) -> None:
        """Move it to ``level``: on all of its positions, or on none.

        Raises OrderRejected, OutcomeUnknown, Unavailable.
        """
        trades = await self._terminal.trades()
        carriers = [trades[one.ticket] for one in guard.tickets if one.ticket in trades]
        moved: list[Trade] = []
        try:
            for trade in carriers:
                await self._steps.change(record, trade.ticket, 0, *_levels(trade, guard, level), 0)
                moved.append(trade)
        except OrderRejected:
            for trade in moved:
                before = _levels(trade, guard, guard.level)
                await self._steps.change(record, trade.ticket, 0, *before, 0)
            raise

    async def take_away(self, record: Record, guard: Guard) -> None:
        """Cancel it. Raises OrderRejected, OutcomeUnknown, Unavailable."""
        trades = await self._terminal.trades()
        for one in guard.tickets:
            if one.ticket in trades:
                await self._set(record, trades[one.ticket], guard, 0.0)
        now = self._books.order(record.order.client_order_id) or record
        if not now.order.status.is_final:
            self._books.end(now, OrderStatus.CANCELED, "")

    async def settle(self, record: Record, guard: Guard) -> None:
        """Whether a level of which nothing was heard is set.

        Raises OrderRejected, OutcomeUnknown, Unavailable.
        """
        trades = await self._terminal.trades()
        held = [trades[one.ticket] for one in guard.tickets if one.ticket in trades]
        carriers = [trade for trade in held if _has(trade, guard)]
        if held and len(carriers) == len(held):
            self._books.accept(record, held[0].ticket)
            return
        # Of all positions, or of none.
        for trade in carriers:
            await self._steps.change(record, trade.ticket, 0, *_levels(trade, guard, 0.0), 0)
        self._books.forget(record)

    async def _set(self, record: Record, trade: Trade, guard: Guard, level: float) -> None:
        """Set one level and leave the other as it is."""
        operation = self._steps.unique(record.order.client_order_id)
        levels = _levels(trade, guard, level)
        await self._steps.do(record, "modify", operation, trade.ticket, 0, *levels, 0)


def _has(trade: Trade, guard: Guard) -> bool:
    return abs(level_of(trade, guard.gain) - guard.level) < _SAME


def _levels(trade: Trade, guard: Guard, level: float) -> tuple[float, float]:
    """Stop-loss and take-profit of ``trade`` with the one of ``guard`` at ``level``."""
    loss, gain = level_of(trade, False), level_of(trade, True)
    return (loss, level) if guard.gain else (level, gain)
