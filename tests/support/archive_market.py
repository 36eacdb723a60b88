"""A market that only has history, from columns in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import numpy as np

from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import Contract, Kline, Klines, market_of


class ArchiveMarket(MarketBase):
    """History by (symbol, timeframe); its streams stay silent."""

    def __init__(self, contracts: Iterable[Contract], klines: Iterable[Klines]) -> None:
        self._contracts = {contract.symbol: contract for contract in contracts}
        self._klines = {(k.symbol, k.timeframe): k for k in klines}
        self.markets = tuple(sorted({market_of(symbol) for symbol in self._contracts}))

    async def connect(self) -> None:
        return

    async def disconnect(self) -> None:
        return

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        await asyncio.Event().wait()
        yield self._klines[symbol, timeframe][0]

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        klines = self._klines.get((symbol, timeframe), Klines.empty(symbol, timeframe))
        start = 0 if from_ts is None else int(np.searchsorted(klines.datetime, from_ts))
        stop = len(klines) if to_ts is None else int(np.searchsorted(klines.datetime, to_ts))
        if limit is not None:
            start = max(start, stop - limit)
        return klines[start:stop]

    async def get_contract(self, symbol: str) -> Contract:
        try:
            return self._contracts[symbol]
        except KeyError:
            raise UnknownSymbol(f"{symbol}: no such symbol") from None

    async def list_symbols(self) -> list[str]:
        return sorted(self._contracts)


def random_walk(
    symbol: str, start: int, count: int, seed: int = 0, step: int = 60_000, price: float = 100.0
) -> Klines:
    """``count`` klines ``step`` milliseconds apart, on a tick of 0.01."""
    random = np.random.default_rng(seed)
    close = np.round(price + np.cumsum(random.normal(0, 0.05, count)), 2)
    open_ = np.concatenate([[price], close[:-1]])
    spread = np.round(np.abs(random.normal(0, 0.03, count)), 2)
    timeframe = {60_000: "1m", 300_000: "5m"}[step]
    return Klines(
        symbol,
        timeframe,
        start + np.arange(count, dtype=np.int64) * step,
        open_,
        np.round(np.maximum(open_, close) + spread, 2),
        np.round(np.minimum(open_, close) - spread, 2),
        close,
        np.round(random.uniform(1, 1000, count)),
    )
