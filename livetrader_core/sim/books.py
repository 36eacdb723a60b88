"""What a simulated venue has in its books, for whoever wants to compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class BookedFill:
    """An execution: ``quantity`` is signed (a buy is above 0), ``datetime`` UTC ms."""

    symbol: str
    quantity: float
    price: float
    datetime: int


@dataclass(frozen=True)
class VenueBooks:
    """One account: ``working`` are the ids of orders that work, ``fills`` in the order of time,
    ``positions`` net and not flat, ``cash`` money without the profit of what is open.
    """

    currency: str
    cash: float
    working: list[str] = field(default_factory=list)
    fills: list[BookedFill] = field(default_factory=list)
    positions: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)


def net(sizes: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Signed sizes by symbol, summed; without what is flat."""
    total: dict[str, float] = {}
    for symbol, size in sizes:
        total[symbol] = round(total.get(symbol, 0.0) + size, 8)
    return {symbol: size for symbol, size in sorted(total.items()) if size}
