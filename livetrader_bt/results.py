"""What a run of a strategy leaves behind, and how two runs compare. Times are UTC milliseconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: What two fills must share to be equal, in the order a difference is told.
COMPARED = ("symbol", "side", "quantity", "price", "bar")


@dataclass(frozen=True)
class RunFill:
    """One execution. ``bar`` is the stamp of the bar it happened on.

    ``side`` is "buy" or "sell", ``price`` in the contract's currency, ``commission`` in the run's.
    """

    symbol: str
    side: str
    quantity: float
    price: float
    bar: int
    commission: float = 0.0


@dataclass(frozen=True)
class SymbolStats:
    """What one symbol brought: ``profit`` after commissions and its ``drawdown`` in ``currency``.

    ``trades`` counts those that were closed; ``drawdown`` is the deepest fall of the symbol's own
    profit below its peak, as a positive amount.
    """

    symbol: str
    bars: int
    trades: int
    profit: float
    currency: str
    drawdown: float = 0.0


@dataclass(frozen=True)
class RunSummary:
    """One run: its fills in order, a line for each symbol, and the equity at every moment.

    ``prices`` holds, by symbol, the times and closes of its bars; ``interrupted``: it was ended by
    Ctrl-C.
    """

    mode: str
    fills: list[RunFill]
    stats: list[SymbolStats]
    equity_times: list[int] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    prices: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    currency: str = "USD"
    start: int = 0
    end: int = 0
    interrupted: bool = False

    @property
    def profit(self) -> float:
        """What the account gained between the first and the last moment."""
        return self.equity[-1] - self.equity[0] if self.equity else 0.0

    @property
    def drawdown(self) -> float:
        """The deepest fall of the equity below its peak, as a positive amount."""
        peak, deepest = float("-inf"), 0.0
        for value in self.equity:
            peak = max(peak, value)
            deepest = max(deepest, peak - value)
        return deepest

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping for programs to read; without the prices."""
        return {
            "mode": self.mode,
            "start": self.start,
            "end": self.end,
            "interrupted": self.interrupted,
            "currency": self.currency,
            "profit": self.profit,
            "drawdown": self.drawdown,
            "symbols": [asdict(stats) for stats in self.stats],
            "fills": [asdict(fill) for fill in self.fills],
            "equity": {"times": list(self.equity_times), "values": list(self.equity)},
        }


@dataclass(frozen=True)
class FillPair:
    """The same fill in two runs; one of them is None where the run has no such fill."""

    first: RunFill | None
    second: RunFill | None

    @property
    def differences(self) -> tuple[str, ...]:
        """The names in :data:`COMPARED` that differ; all of them where one run lacks the fill."""
        if self.first is None or self.second is None:
            return COMPARED
        return tuple(
            name for name in COMPARED if getattr(self.first, name) != getattr(self.second, name)
        )

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


@dataclass(frozen=True)
class FillComparison:
    """Two runs' fills side by side, in order."""

    pairs: tuple[FillPair, ...]

    @property
    def identical(self) -> bool:
        """Whether both runs filled alike: the same fills in the same order."""
        return all(pair.equal for pair in self.pairs)

    @property
    def different(self) -> int:
        """How many pairs differ."""
        return sum(not pair.equal for pair in self.pairs)
