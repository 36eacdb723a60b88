"""Comparing: when the books are reconciled with the venues, and which venue waits for that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Order, Reconciliation
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.books import Books
from livetrader_core.trade.reconcile import Findings, Reconciler, account_of

log = logging.getLogger(__name__)


class Comparing:
    """What the last comparison of each of ``adapters`` found."""

    def __init__(self, adapters: Sequence[TradeBase], reconciler: Reconciler, books: Books) -> None:
        self._adapters = adapters
        self._reconciler = reconciler
        self._books = books
        self._findings: dict[TradeBase, Findings] = {}
        self._blocked: set[TradeBase] = set()

    async def start(self, required: bool) -> None:
        """Compare each for the first time; ``required``: one that disagrees takes no orders."""
        for adapter in self._adapters:
            first = not (adapter.keeps_books and self._books.knows(account_of(adapter)))
            await self.compare(adapter, accept=first)
            if required and self._findings[adapter].differences:
                self._blocked.add(adapter)

    async def compare_all(self, accept: bool = False) -> None:
        """Compare each; ``accept``: what the venues hold is right from now on."""
        for adapter in self._adapters:
            await self.compare(adapter, accept)

    async def compare(self, adapter: TradeBase, accept: bool = False) -> None:
        """Compare one, and take the fills that were missed."""
        try:
            await self._reconciler.take_fills(adapter)
            if accept:
                await self._reconciler.open(adapter)
            found = await self._reconciler.compare(adapter)
        except LiveTraderError as error:
            found = Findings((f"{type(adapter).__name__} could not be asked: {error}",))
        before = self._findings.get(adapter, Findings())
        self._findings[adapter] = found
        if not found.differences:
            self._blocked.discard(adapter)
        for told in set(found.differences) - set(before.differences):
            log.error("the books disagree: %s", told)

    async def keep_on(self, every: float) -> None:
        """Compare each, every so many seconds."""
        while True:
            await asyncio.sleep(every)
            await self.compare_all()

    def blocked_by(self, adapter: TradeBase) -> str:
        """Why no order may go to ``adapter``; empty if it may."""
        if adapter not in self._blocked:
            return ""
        told = "; ".join(self._findings[adapter].differences)
        return (
            f"not reconciled: {told}. Look at both sides, then take what the venue holds for right "
            "with `livetrader reconcile --accept`"
        )

    @property
    def foreign(self) -> list[Order]:
        """Orders at the venues that were not placed here."""
        return [order for found in self._findings.values() for order in found.foreign]

    @property
    def found(self) -> Reconciliation:
        """What the last comparison of each venue found."""
        found = list(self._findings.values())
        return Reconciliation(
            time.time_ns() // 1_000_000,
            tuple(told for findings in found for told in findings.differences),
            tuple(order for findings in found for order in findings.foreign),
            bool(self._blocked),
        )
