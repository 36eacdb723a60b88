"""Klines into the kline store, piece by piece: what is there is not fetched again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from livetrader_core.errors import InvalidRequest
from livetrader_core.market.base import MarketBase
from livetrader_core.market.cached import PAGE, CachedMarket
from livetrader_core.models import Contract, Kline, Klines
from livetrader_core.service import MarketService
from livetrader_core.store import KlineStore

#: Hears the moment that was reached (UTC ms), how many klines came, and which share of all is
#: done; None where nobody knows how far back it goes.
Tell = Callable[[int, int, float | None], None]


class Asked(Protocol):
    """Whoever answers: a session, or a MarketService."""

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`MarketBase.get_kline_histories`."""

    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch brought, and what is stored now: first and last open (UTC ms)."""

    symbol: str
    timeframe: str
    fetched: int
    stored: int
    first: int
    last: int


class Fetcher:
    """Brings klines from ``asked`` into ``store``.

    A market that keeps its klines itself (``cache = true``) is told to fetch them.
    """

    def __init__(self, asked: Asked, store: KlineStore) -> None:
        self._asked = asked
        self._store = store

    async def fetch(
        self,
        symbol: str,
        timeframe: str,
        from_ts: int | None,
        to_ts: int | None,
        again: bool,
        tell: Tell,
    ) -> Fetched:
        """Fetch what opens in [``from_ts``, ``to_ts``), and what lies between it and the rest.

        Wherever it ends, the pieces so far are kept. ``again``: also what is stored already.
        Raises InvalidRequest if the market has nothing of this time.
        """
        end = await _end(self._asked, symbol, timeframe, from_ts, to_ts)
        start = from_ts
        own = self._own(symbol)
        stored = (
            await own.stored(symbol, timeframe) if own else self._store.stored(symbol, timeframe)
        )
        if stored is not None and not again:
            start = None if start is None else min(start, stored.first)
            end = max(end, stored.last + 1)
        market = own or CachedMarket(await self._archive(symbol, timeframe, end), self._store)
        if own is None:
            await market.connect()
        try:
            if again:
                await market.uncover(symbol, start, end, timeframe)
            count = await market.fill(symbol, start, end, timeframe, _sharing(tell, start, end))
            stored = await market.stored(symbol, timeframe)
        finally:
            if own is None:
                await market.disconnect()
        if stored is None:
            return Fetched(symbol, timeframe, count, 0, 0, 0)
        return Fetched(symbol, timeframe, count, stored.count, stored.first, stored.last)

    def _own(self, symbol: str) -> CachedMarket | None:
        if not isinstance(self._asked, MarketService):
            return None
        market = self._asked.market_for(symbol)
        return market if isinstance(market, CachedMarket) else None

    async def _archive(self, symbol: str, timeframe: str, end: int) -> _Archive:
        contract = await self._asked.get_contract(symbol)
        return _Archive(self._asked, contract.sessions.kline_end(end - 1, timeframe))


class ServerFetcher:
    """Lets a server that keeps its klines itself fetch them, by asking it for all of them."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    async def fetch(
        self,
        symbol: str,
        timeframe: str,
        from_ts: int | None,
        to_ts: int | None,
        again: bool,
        tell: Tell,
    ) -> Fetched:
        """As :meth:`Fetcher.fetch`; what is ``stored`` is what was asked for."""
        if again:
            raise InvalidRequest("the server has the kline store open: stop it to fetch again")
        end = start = await _end(self._asked, symbol, timeframe, from_ts, to_ts)
        count, told = 0, _sharing(tell, from_ts, end)
        while from_ts is None or from_ts < start:
            page = await self._asked.get_kline_histories(symbol, from_ts, PAGE, start, timeframe)
            if not len(page):
                break
            count += len(page)
            start = int(page.datetime[0])
            told(start, count)
        return Fetched(symbol, timeframe, count, count, start, end - 1)


def _sharing(tell: Tell, start: int | None, end: int) -> Callable[[int, int], None]:
    """``tell`` with the share that is done, for a way from ``end`` back to ``start``."""
    if start is None:
        return lambda moment, count: tell(moment, count, None)
    return lambda moment, count: tell(moment, count, (end - moment) / (end - start))


async def _end(
    asked: Asked, symbol: str, timeframe: str, from_ts: int | None, to_ts: int | None
) -> int:
    """Just after the open of the newest kline. Raises InvalidRequest if there is none."""
    newest = await asked.get_kline_histories(symbol, from_ts, 1, to_ts, timeframe)
    if not len(newest):
        raise InvalidRequest(f"{symbol} {timeframe}: the market has no klines of this time")
    return int(newest.datetime[-1]) + 1


class _Archive(MarketBase):
    """The history that somebody has, as a market whose time is that of the newest kline.

    So nothing after it is taken to be empty, whatever the time is there.
    """

    def __init__(self, asked: Asked, time: int) -> None:
        self._asked = asked
        self._time = time

    async def connect(self) -> None:
        return

    async def disconnect(self) -> None:
        return

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        raise InvalidRequest(f"{symbol}: only history is fetched")
        yield  # makes this an asynchronous generator

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        return await self._asked.get_kline_histories(
            symbol, from_ts, limit, to_ts, timeframe, forming
        )

    async def get_contract(self, symbol: str) -> Contract:
        return await self._asked.get_contract(symbol)

    async def list_symbols(self) -> list[str]:
        return []

    def now(self) -> int:
        return self._time
