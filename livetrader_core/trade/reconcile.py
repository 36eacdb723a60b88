"""Reconciliation: the journal's books against the venue's, as often as one likes.

Fills are known by the venue's trade ids and orders by their client_order_id, so that doing it
twice changes nothing. What cannot be explained is told and left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from livetrader_core.models import Fill, Order, OrderStatus, Position, market_of
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.books import TINY, Books

log = logging.getLogger(__name__)

#: How often a difference is looked at again before it counts, and how long (s) between.
_LOOKS = 4
_PAUSE = 0.05


@dataclass(frozen=True)
class Ledger:
    """What the reconciler needs of the trade service."""

    find: Callable[[str], Order | None]
    has_fill: Callable[[Fill], bool]
    change: Callable[[TradeBase, Order, Fill | None, int | None], None]
    last_fill_at: Callable[[Sequence[str]], int]
    seq: Callable[[], int]


@dataclass(frozen=True)
class Findings:
    """What one venue's books differ in, and orders there that are not ours."""

    differences: tuple[str, ...] = ()
    foreign: tuple[Order, ...] = ()


def account_of(adapter: TradeBase) -> str:
    """The name under which an adapter's opening positions are kept."""
    return f"{type(adapter).__name__}:{','.join(sorted(adapter.markets))}"


class Reconciler:
    """Compares the books of each venue with ``books``, and brings missed fills into the journal."""

    def __init__(self, ledger: Ledger, books: Books, skew_ms: int) -> None:
        self._ledger = ledger
        self._books = books
        self._skew_ms = skew_ms

    async def take_fills(self, adapter: TradeBase) -> int:
        """Journal fills of our orders that were missed; returns how many there were."""
        # Each venue by its own clock: another's fills say nothing of what was missed here.
        since = max(0, self._ledger.last_fill_at(adapter.markets) - self._skew_ms)
        missed = 0
        for fill in await adapter.fetch_fills(since):
            known = self._ledger.find(fill.client_order_id) if fill.client_order_id else None
            if known is None or self._ledger.has_fill(fill):
                continue
            partly = known.but(status=OrderStatus.PARTIALLY_FILLED)
            self._ledger.change(adapter, partly, fill, fill.datetime)
            missed += 1
        return missed

    async def compare(self, adapter: TradeBase) -> Findings:
        """What ``adapter``'s venue holds beside what it should. Changes nothing."""
        working = await adapter.fetch_open_orders()
        foreign = [o for o in working if self._ledger.find(o.client_order_id) is None]
        differences = [
            f"order {order.client_order_id} works at the venue and is {known.status.value} here"
            for order in working
            if (known := self._ledger.find(order.client_order_id)) and known.status.is_final
        ]
        if adapter.keeps_books:
            differences += await self._positions(adapter)
        return Findings(tuple(differences), tuple(foreign))

    async def _positions(self, adapter: TradeBase) -> list[str]:
        differing: list[str] = []
        for _ in range(_LOOKS):
            seq = self._ledger.seq()
            differing = self._differing(adapter, await adapter.fetch_positions())
            if not differing:
                return []
            # A fill that is on its way explains most differences.
            await asyncio.sleep(_PAUSE)
            await self.take_fills(adapter)
            if self._ledger.seq() == seq:
                again = self._differing(adapter, await adapter.fetch_positions())
                if again == differing and self._ledger.seq() == seq:
                    return differing
        return differing

    def _differing(self, adapter: TradeBase, positions: list[Position]) -> list[str]:
        held = {position.symbol: position.quantity for position in positions}
        symbols = sorted(held.keys() | self._symbols(adapter))
        return [
            f"{symbol}: the venue holds {held.get(symbol, 0.0):g}, by the journal it should be "
            f"{self._books.expected(symbol):g}"
            for symbol in symbols
            if abs(held.get(symbol, 0.0) - self._books.expected(symbol)) > TINY
        ]

    def _symbols(self, adapter: TradeBase) -> set[str]:
        traded = {s for s in self._books.traded() if market_of(s) in adapter.markets}
        return traded | set(self._books.opened_with(account_of(adapter)))

    async def open(self, adapter: TradeBase) -> None:
        """Take what ``adapter``'s account holds for right, from now on. Raises StorageError."""
        positions = await adapter.fetch_positions()
        self._books.open(account_of(adapter), self._symbols(adapter), positions)
