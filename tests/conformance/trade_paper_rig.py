"""PaperTrade over klines that take a course: the reference of the trading cards."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from livetrader_core.models import Commission, Contract
from livetrader_core.service import MarketService
from livetrader_core.trade import PaperTrade, TradeBase
from tests.conformance.trade_rig import TradeRig, VenueBooks
from tests.conformance.trade_table import KEPT, PAPER
from tests.support.scripted_market import START, contract

_CASH = 1_000_000.0
_VOLUME = 30.0


class PaperRig(TradeRig):
    """Stocks that are paid in full, and an account that refuses what it cannot pay."""

    name = "paper"
    kind = PAPER
    trade: ClassVar[type[PaperTrade]] = PaperTrade
    prices: ClassVar[dict[str, float]] = {"US.A": 100.0, "US.B": 50.0}
    start = START + 14 * 3_600_000
    too_many = 20_000.0

    _paper: PaperTrade | None = None

    @classmethod
    def contract(cls, symbol: str) -> Contract:
        return contract(symbol, commission=Commission(per_unit=0.005))

    async def open_venue(self) -> None:
        return

    async def close_venue(self) -> None:
        return

    def adapter(self, market: MarketService) -> TradeBase:
        limit = self.part / _VOLUME if self.parts else 0.0
        self._paper = self.trade(
            market, _CASH, check_margin=True, volume_limit=limit, state=self.state()
        )
        return self._paper

    def state(self) -> Path | None:
        """The file that keeps the account."""
        return None

    async def books(self) -> VenueBooks:
        """From the executions alone: what the account itself counts is what is to be proven."""
        paper = self._paper
        assert paper is not None
        traded: dict[str, float] = {}
        held: dict[str, float] = {}
        cash = _CASH
        for fill in await paper.fetch_fills():
            signed = fill.side.sign * fill.quantity
            traded[fill.symbol] = traded.get(fill.symbol, 0.0) + fill.quantity
            held[fill.symbol] = held.get(fill.symbol, 0.0) + signed
            cash -= signed * fill.price + fill.commission
        positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
        return VenueBooks(len(await paper.fetch_open_orders()), traded, positions, cash)

    def slow(self, seconds: float) -> None:
        """There is no line that could be slow."""


class KeptPaperRig(PaperRig):
    """The account is kept in a file: it outlives the server."""

    name = "paper-kept"
    kind = KEPT

    def state(self) -> Path | None:
        return self.folder / "paper.sqlite"

    async def leave(self) -> None:
        """There is no line that could be left."""

    async def come_back(self) -> None:
        """There is no line that could be left."""
