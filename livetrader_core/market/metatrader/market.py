"""What all markets of a MetaTrader 4 terminal do alike, whichever expert advisor they talk to."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import numpy as np

from livetrader_core.clock import Clock, SystemClock, parse_clock
from livetrader_core.errors import InvalidRequest, LiveTraderError, Unavailable, UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.market.metatrader import settings
from livetrader_core.market.metatrader.bars import base_of, gather, opening
from livetrader_core.market.metatrader.lag import FeedLag
from livetrader_core.market.metatrader.servertime import server_time
from livetrader_core.market.metatrader.updater import Source, Updater
from livetrader_core.market.metatrader.zonecheck import ZoneCheck
from livetrader_core.market.specs import default_contract
from livetrader_core.market.streams import Streams
from livetrader_core.models import FeedState, Kline, Klines, Tick, market_of
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import duration_ms

log = logging.getLogger(__name__)

#: What is watched of a symbol: its bars or its quotes.
Kind = Literal["rates", "prices"]

_LATE_TICKS = 2.0


class MetaTraderMarket(MarketBase):
    """Klines, ticks and history of a terminal; an adapter brings the line to its advisor.

    The settings are those of the adapters. Raises ConfigError naming the setting at fault.
    """

    clocked = True

    def __init__(
        self,
        where: str,
        time_zone: str,
        suffix: str,
        markets: Sequence[str],
        retry: float,
        longest_retry: float,
        heartbeat: float,
        late_ticks: float | None,
        clock: Clock | str | None,
    ) -> None:
        self.where = where
        self._zone = server_time(time_zone)
        self.markets = settings.markets(markets)
        self._suffix = settings.suffix(suffix)
        self._retry = settings.seconds("retry", retry)
        self._longest_retry = max(self._retry, settings.seconds("longest_retry", longest_retry))
        self._heartbeat = settings.seconds("heartbeat", heartbeat)
        self._clock = parse_clock(clock)
        # A simulated venue has our clock.
        real = isinstance(self._clock, SystemClock)
        if late_ticks is None:
            late_ticks = _LATE_TICKS if real else 0.0
        self._late_ms = round(1000 * settings.seconds("late_ticks", late_ticks, 0.0, 5.0))
        self._streams = Streams()
        self._check = ZoneCheck(self._zone, where)
        self._lag = FeedLag(where) if real else None
        self._source = self._make_source()
        self._updater = Updater(
            self._streams,
            self._source,
            self._check,
            self._sessions,
            self._zone.grain,
            self._late_ms,
            self._lag,
            self._clock,
        )
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        #: Set when what failed is likely to work again.
        self._hurry = asyncio.Event()
        self._state: tuple[FeedState, str] | None = None
        self._confirmed: set[str] = set()

    # ---- what an adapter brings

    @abstractmethod
    def _make_source(self) -> Source:
        """Where bars are read from."""

    @abstractmethod
    async def _open(self) -> None:
        """Have a new line, with all that is watched on it. Raises Unavailable."""

    @abstractmethod
    async def _leave(self) -> None:
        """Give the line back; may be called more than once."""

    @abstractmethod
    def _fault(self) -> str | None:
        """Why there is no line that works; None if there is one."""

    @abstractmethod
    async def _prepare(self, now: int) -> None:
        """What a round begins with: watch lists, the check of the clock. Raises Unavailable."""

    @abstractmethod
    async def _silent(self) -> None:
        """Nothing happened for ``heartbeat`` seconds."""

    @abstractmethod
    async def _confirm(self, symbol: str) -> None:
        """See that the terminal has ``symbol``. Raises UnknownSymbol, Unavailable."""

    @abstractmethod
    def _add(self, kind: Kind, symbol: str) -> None:
        """One more watches ``symbol``."""

    @abstractmethod
    def _remove(self, kind: Kind, symbol: str) -> None:
        """One less watches ``symbol``."""

    # ---- life

    async def connect(self) -> None:
        """Reach the expert advisor. Raises Unavailable, also while it refuses to run commands."""
        if self._task is not None:
            return
        try:
            await self._open()
        except BaseException:
            await self._leave()
            raise
        self._say(FeedState.CONNECTED)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def disconnect(self) -> None:
        """Close the sockets; may be called more than once."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._leave()
        self._state = None

    def _on_lost(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        """Keep the line and the streams going until cancelled."""
        pause = self._retry
        while True:
            self._wake.clear()
            try:
                if (fault := self._fault()) is not None:
                    self._say(FeedState.DISCONNECTED, fault)
                    await self._open()
                now = await self._round()
            except LiveTraderError as error:
                self._say(FeedState.DISCONNECTED, str(error))
            except Exception as error:  # a stream that stops without a word would be worse
                log.exception("%s: the streams could not be brought up to date", self.where)
                self._say(FeedState.DISCONNECTED, f"{type(error).__name__}: {error}")
            else:
                pause = self._retry
                self._say(FeedState.CONNECTED)
                await self._until_due(now)
                continue
            await self._rest(pause)
            pause = min(2 * pause, self._longest_retry)

    async def _rest(self, seconds: float) -> None:
        """Wait before the next attempt, or until there is reason to try at once."""
        hurry = asyncio.get_running_loop().create_task(self._hurry.wait())
        try:
            await asyncio.wait({hurry}, timeout=seconds)
        finally:
            hurry.cancel()
        self._hurry.clear()

    async def _until_due(self, now: int) -> None:
        """Wait for what comes due after ``now``, or for a sign that there is something to do."""
        if self._fault() is not None:
            return
        loop = asyncio.get_running_loop()
        waits = [
            loop.create_task(self._clock.sleep_until(self._updater.next_due(now))),
            loop.create_task(self._wake.wait()),
        ]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        if not done:
            try:
                await self._silent()
            except LiveTraderError:
                return  # the next round sees the lost line, and says so

    async def _round(self) -> int:
        """Bring everything up to date; returns for which moment (UTC ms)."""
        now = self._clock.now()
        await self._prepare(now)
        now = self._clock.now()
        await self._updater.update(now)
        return now

    def _say(self, state: FeedState, reason: str = "") -> None:
        if self._state is None or self._state[0] is not state:
            self._state = (state, reason)
            if state is FeedState.DISCONNECTED:
                log.warning("%s", reason)
            self._tell(state, reason)

    def now(self) -> int:
        """The time of the ``clock`` (UTC ms)."""
        return self._clock.now()

    # ---- requests

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`MarketBase.get_kline_histories`.

        The terminal's history ends at the first stretch of eight weeks without a bar. Asking for
        what it has not loaded yet may give less than the broker has: keep a chart open.
        """
        duration = duration_ms(timeframe)
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        sessions = (await self.get_contract(symbol)).sessions
        now, base = self._clock.now(), base_of(timeframe, self._zone.grain)
        signed = self._updater.signed(symbol)
        end = now if to_ts is None else min(to_ts - 1, now)
        if from_ts is not None and from_ts > end:
            return Klines.empty(symbol, timeframe)
        # The last kline may go on after ``end``; the first one may be cut and is left out then.
        until = min(sessions.kline_end(opening(sessions, timeframe, end), timeframe) - 1, now)
        count = None if limit is None else (limit + 2) * max(1, duration // duration_ms(base))
        bars = await self._source.before(symbol, base, until, from_ts, count)
        late_ms = self._updater.late_ms
        klines, closed = gather(bars, timeframe, sessions, now, late_ms, signed)
        first = 0 if from_ts is None else int(np.searchsorted(klines.datetime, from_ts))
        last = int(np.searchsorted(klines.datetime, end, side="right"))
        known = max(first, min(last, closed))
        if limit is not None:
            first = max(first, known - limit)
        if not (forming and first <= closed < last):
            return klines[first:known]
        unfinished = klines[: closed + 1]
        unfinished.forming = True
        return unfinished[first:]

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """Closed klines from now on, each once it is over.

        Raises UnknownSymbol, UnknownTimeframe.
        """
        duration_ms(timeframe)
        sessions = self._sessions(self._checked(symbol))
        # Those that end later than this are still to come.
        ended = self._clock.now() - self._updater.late_ms
        after = opening(sessions, timeframe, ended) - 1
        return self._watch("rates", symbol, self._streams.klines(symbol, timeframe, after))

    def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """Bid and ask as the terminal publishes them, stamped when they arrive.

        Raises UnknownSymbol.
        """
        default_contract(self._checked(symbol))
        return self._watch("prices", symbol, self._streams.ticks(symbol))

    async def watch_clock(self) -> AsyncIterator[int]:
        """Moments up to which all klines were given, each whole minute."""
        async for moment in self._streams.clock():
            yield moment

    async def _watch(
        self, kind: Kind, symbol: str, items: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        """``items``, with ``symbol`` among what the advisor is to publish while they are read."""
        self._add(kind, symbol)
        self._wake.set()
        try:
            if symbol not in self._confirmed:
                yield await self._first(symbol, items)
            async for item in items:
                yield item
        finally:
            self._remove(kind, symbol)
            self._wake.set()
            await items.aclose()  # type: ignore[attr-defined]

    async def _first(self, symbol: str, items: AsyncIterator[Any]) -> Any:
        """The first of ``items``. Raises UnknownSymbol if the terminal does not have it."""
        first = asyncio.ensure_future(anext(items))
        known = asyncio.ensure_future(self._look_up(symbol))
        try:
            await asyncio.wait({first, known}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                known.result()
            return await first
        finally:
            first.cancel()
            known.cancel()
            await asyncio.gather(first, known, return_exceptions=True)

    async def _look_up(self, symbol: str) -> None:
        try:
            await self._confirm(symbol)
        except Unavailable as error:
            log.debug("%s is not looked up: %s", symbol, error)

    # ---- symbols

    def _checked(self, symbol: str) -> str:
        """``symbol``, if it is one of these markets and can be written. Raises UnknownSymbol."""
        market = market_of(symbol)
        if market not in self.markets:
            raise UnknownSymbol(f"{symbol}: this terminal serves {', '.join(self.markets)}")
        default_contract(symbol)
        return symbol

    def _sessions(self, symbol: str) -> Sessions:
        return default_contract(symbol).sessions

    def _code(self, symbol: str) -> str:
        return symbol[len(market_of(symbol)) + 1 :] + self._suffix
