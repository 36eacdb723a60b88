"""Books: what the accounts should hold, by what the journal knows.

When a journal first sees an account, what that holds is written down as its opening position.
Every fill since then moves it.
"""

from __future__ import annotations

from collections.abc import Mapping

from livetrader_core.models import Position, TradeEvent
from livetrader_core.trade.journal import Journal

_NOTE = "opening_positions"
#: Quantities closer than this are the same.
TINY = 1e-9


class Books:
    """Expected net positions by symbol; kept up to date by :meth:`on_event`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._opening: dict[str, dict[str, float]] = {}
        self._traded: dict[str, float] = {}

    def load(self) -> None:
        """Read the journal. Raises StorageError."""
        self._opening = dict(self._journal.noted(_NOTE) or {})
        self._traded = self._journal.holdings()

    def on_event(self, event: TradeEvent) -> None:
        """Count a fill that was journaled."""
        if event.fill is not None:
            signed = event.fill.side.sign * event.fill.quantity
            symbol = event.fill.symbol
            self._traded[symbol] = round(self._traded.get(symbol, 0.0) + signed, 10)

    def knows(self, account: str) -> bool:
        """Whether ``account`` was seen before."""
        return account in self._opening

    def open(self, account: str, symbols: set[str], positions: list[Position]) -> None:
        """Take ``positions`` for what ``account`` holds now. Raises StorageError.

        ``symbols`` are those of its markets that were traded.
        """
        held = {position.symbol: position.quantity for position in positions}
        opening = {
            symbol: round(held.get(symbol, 0.0) - self._traded.get(symbol, 0.0), 10)
            for symbol in symbols | held.keys()
        }
        self._opening[account] = {symbol: size for symbol, size in opening.items() if size}
        self._journal.note(_NOTE, self._opening)

    def traded(self) -> list[str]:
        """Symbols with fills."""
        return list(self._traded)

    def expected(self, symbol: str) -> float:
        """The net position that ``symbol`` should have."""
        opening = sum(sizes.get(symbol, 0.0) for sizes in self._opening.values())
        return round(opening + self._traded.get(symbol, 0.0), 10)

    def opened_with(self, account: str) -> Mapping[str, float]:
        """What ``account`` held that no fill here explains."""
        return self._opening.get(account, {})
