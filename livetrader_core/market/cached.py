"""CachedMarket: a market whose klines are kept on disk, and asked of the venue once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from livetrader_core.errors import InvalidRequest, LiveTraderError, NotConnected
from livetrader_core.market.base import MarketBase
from livetrader_core.market.ranges import (
    Range,
    closed_until,
    holding,
    last_end_before,
    subtract,
    trades_within,
    union,
)
from livetrader_core.models import Contract, FeedState, Kline, Klines, Tick
from livetrader_core.sessions import Sessions
from livetrader_core.store import KlineStore, Piece, SharedStore
from livetrader_core.timeframe import DAY_MS, duration_ms

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Most klines that are asked for at once; what came is kept before the next are asked for.
PAGE = 10_000
#: How old the time after a venue's last kline must be before it is held to be truly empty: a
#: venue can be behind, or its history not be loaded yet.
TRUST_MS = DAY_MS
#: Seconds between two writes of live klines.
BATCH_SECONDS = 1.0
#: Live klines that are written at once, however short after the last ones.
BATCH_KLINES = 10_000


@dataclass
class _Series:
    """What is known of one symbol and timeframe."""

    symbol: str
    timeframe: str
    sessions: Sessions
    covered: list[Range]
    #: The venue's beginning, and its time when it said so.
    floor: tuple[int, int] | None = None
    #: Only one request at a time decides what is missing.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Live klines by their open, and what they cover, not written yet.
    fresh: dict[int, Kline] = field(default_factory=dict)
    fresh_covered: list[Range] = field(default_factory=list)

    def closed_until(self, moment: int) -> int:
        return closed_until(self.sessions, moment, self.timeframe)

    def beginning(self, now: int) -> int | None:
        """Before which the venue said, not long ago, that it has nothing."""
        if self.floor is None or now - self.floor[1] >= TRUST_MS:
            return None
        return self.floor[0]

    def take_fresh(self) -> Piece:
        """What is not written yet, which is then taken to be."""
        rows = [self.fresh[ts] for ts in sorted(self.fresh)]
        piece = Piece(Klines.of(self.symbol, self.timeframe, rows), union(self.fresh_covered))
        self.fresh, self.fresh_covered = {}, []
        return piece


@dataclass
class _Watch:
    """A stream that is being read: up to where it has given everything."""

    series: _Series | None
    upto: int

    def cover(self, until: int) -> None:
        if self.series is not None and until > self.upto:
            self.series.fresh_covered.append((self.upto, until))
            self.upto = until


@dataclass(frozen=True)
class _Step:
    """Klines of one step back in time, and from when on; None where nothing is older."""

    klines: Klines
    start: int | None
    #: Whether the venue was asked.
    asked: bool = False


class CachedMarket(MarketBase):
    """``market`` with its klines in ``store``: a KlineStore, or the path of one.

    History that the store covers comes from it, also while the venue is away; the rest is asked
    of the venue, piece by piece, and kept. Of a range of time that was asked for, the minutes
    without klines are remembered too, so that holidays and quiet minutes are not asked for again;
    times outside the contract's sessions are not asked for at all. The time after a venue's last
    kline is believed to be empty once it is a day old. How far back a venue's history goes is
    asked once in each connection.

    Live klines are written as they close, in batches, in a thread of its own; after a crash those
    of the last second are asked of the venue again. Everything else is the market's own.

    A path is opened at :meth:`connect`, which raises StorageError if another process has it open,
    and closed at :meth:`disconnect`.
    """

    def __init__(self, market: MarketBase, store: KlineStore | SharedStore | str | Path) -> None:
        self._market = market
        self._shared = SharedStore(store) if isinstance(store, str | Path) else store
        self._store: KlineStore | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._series: dict[tuple[str, str], _Series] = {}
        self._watches: list[_Watch] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()
        self._count = 0
        self._writing = asyncio.Lock()

    # ---- what the market is

    def __getattr__(self, name: str) -> Any:
        # What only some markets have, such as a replay's begin().
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._market, name)

    @property
    def markets(self) -> tuple[str, ...]:  # type: ignore[override]
        """The MARKET codes it serves."""
        return self._market.markets

    @property
    def clocked(self) -> bool:  # type: ignore[override]
        """Whether :meth:`watch_clock` says up to which moment everything was given."""
        return self._market.clocked

    @property
    def paced(self) -> bool:  # type: ignore[override]
        """Whether the stream waits for its consumers."""
        return self._market.paced

    @property
    def begun(self) -> bool:  # type: ignore[override]
        """Whether its time runs."""
        return self._market.begun

    @property
    def delay_ms(self) -> int:  # type: ignore[override]
        """How late the venue's klines come by design, in milliseconds."""
        return self._market.delay_ms

    @property
    def on_state(self) -> Callable[[FeedState, str], None] | None:
        """Called with every change of the line to the venue, and why."""
        return self._market.on_state

    @on_state.setter
    def on_state(self, listener: Callable[[FeedState, str], None] | None) -> None:
        self._market.on_state = listener

    def now(self) -> int:
        """The venue's time in UTC milliseconds."""
        return self._market.now()

    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``. Raises UnknownSymbol."""
        return await self._market.get_contract(symbol)

    async def list_symbols(self) -> list[str]:
        """The symbols it has, sorted."""
        return await self._market.list_symbols()

    def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """Quotes from now on; they are not kept."""
        return self._market.watch_ticks(symbol)

    # ---- life

    async def connect(self) -> None:
        """Open the store and reach the venue. Raises StorageError, Unavailable."""
        if self._store is not None:
            return
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="klines")
        try:
            if isinstance(self._shared, SharedStore):
                self._store = await self._in_thread(self._shared.acquire)
            else:
                self._store = self._shared
            await self._market.connect()
        except BaseException:
            await self._close()
            raise

    async def disconnect(self) -> None:
        """Leave the venue and write what is not written yet."""
        try:
            await self._market.disconnect()
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._executor is None:
            return
        try:
            if self._store is not None:
                with _forgiven():
                    await self.flush()
        finally:
            self._series, self._watches = {}, []
            executor, self._executor = self._executor, None
            store, self._store = self._store, None
            executor.shutdown()
            if store is not None and isinstance(self._shared, SharedStore):
                self._shared.release()

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """``work`` of the store, in its thread: one after the other, and to its end."""
        if self._executor is None:
            raise NotConnected("the market is not connected")
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._executor, work, *arguments))

    # ---- history

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`MarketBase.get_kline_histories`; raises StorageError too."""
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        series = await self._known(symbol, timeframe)
        horizon = series.closed_until(self.now())
        top = horizon if to_ts is None else min(to_ts, horizon)
        parts: list[Klines] = []
        left, start = limit, top
        while (left is None or left > 0) and (from_ts is None or from_ts < start):
            step = await self._step(series, from_ts, left, start)
            parts.insert(0, step.klines)
            if left is not None:
                left -= len(step.klines)
            if step.start is None:
                break
            start = step.start
        if forming and (to_ts is None or to_ts > horizon):
            since = horizon if from_ts is None else max(from_ts, horizon)
            parts.append(await self._forming(series, since, to_ts))
        return _newest(_joined(series, parts), limit)

    async def fill(
        self,
        symbol: str,
        from_ts: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        tell: Callable[[int, int], None] = lambda moment, count: None,
    ) -> int:
        """Fetch into the store what it lacks of [``from_ts``, ``to_ts``), newest first.

        ``tell`` hears, after every piece, up to where it came and how many klines were fetched.
        Wherever it ends, by an error or a cancellation, the pieces so far are kept, and the next
        call goes on behind them. Returns how many klines were fetched.
        """
        series = await self._known(symbol, timeframe)
        horizon = series.closed_until(self.now())
        start = horizon if to_ts is None else min(to_ts, horizon)
        count = 0
        while from_ts is None or from_ts < start:
            step = await self._step(series, from_ts, None, start, read=False)
            count += len(step.klines)
            if step.start is None:
                return count
            start = step.start
            if step.asked:
                tell(start, count)
        return count

    async def uncover(
        self, symbol: str, from_ts: int | None, to_ts: int | None, timeframe: str = "1m"
    ) -> None:
        """Let the venue be asked again for what opens in [``from_ts``, ``to_ts``)."""
        series = await self._known(symbol, timeframe)
        start = -(2**62) if from_ts is None else from_ts
        end = 2**62 if to_ts is None else to_ts
        async with series.lock:
            await self._write_fresh(series)
            await self._in_thread(self._opened().uncover, symbol, timeframe, start, end)
            series.covered = subtract(series.covered, start, end)
            series.floor = None

    async def _known(self, symbol: str, timeframe: str) -> _Series:
        duration_ms(timeframe)
        series = self._series.get((symbol, timeframe))
        if series is None:
            contract = await self.get_contract(symbol)
            covered = await self._in_thread(self._opened().covered, symbol, timeframe)
            fresh = _Series(symbol, timeframe, contract.sessions, covered)
            series = self._series.setdefault((symbol, timeframe), fresh)
        return series

    def _opened(self) -> KlineStore:
        if self._store is None:
            raise NotConnected("the market is not connected")
        return self._store

    async def _step(
        self, series: _Series, from_ts: int | None, limit: int | None, end: int, read: bool = True
    ) -> _Step:
        """The newest klines before ``end``, as far as one look at the store or the venue gives."""
        async with series.lock:
            await self._write_fresh(series)
            stored = holding(series.covered, end)
            if stored is not None:
                start = stored[0] if from_ts is None else max(stored[0], from_ts)
                return await self._stored(series, start, limit if read else 0, end)
            below = last_end_before(series.covered, end)
            floor = series.beginning(self.now())
            bounds = [b for b in (below, from_ts, floor) if b is not None]
            start_or_none = max(bounds) if bounds else None
            if start_or_none is not None:
                if start_or_none >= end:
                    return _Step(Klines.empty(series.symbol, series.timeframe), None)
                if not trades_within(series.sessions, series.timeframe, start_or_none, end):
                    return _Step(Klines.empty(series.symbol, series.timeframe), start_or_none)
            return await self._ask(series, start_or_none, limit, end)

    async def _stored(self, series: _Series, start: int, limit: int | None, end: int) -> _Step:
        if limit == 0:
            return _Step(Klines.empty(series.symbol, series.timeframe), start)
        klines = await self._in_thread(
            self._opened().read, series.symbol, series.timeframe, start, limit, end
        )
        return _Step(klines, start)

    async def _ask(self, series: _Series, start: int | None, limit: int | None, end: int) -> _Step:
        """Ask the venue for what opens in [``start``, ``end``), and keep it."""
        now = self.now()
        page = PAGE if limit is None else min(limit, PAGE)
        if limit is None and start is not None:
            start = max(start, end - PAGE * duration_ms(series.timeframe))
            got = await self._venue(series, start, None, end)
        else:
            got = await self._venue(series, start, page, end)
            if len(got) >= page:
                start = int(got.datetime[0])
        reached = int(got.datetime[0]) if len(got) else end
        lower = reached if start is None else start
        if start is None:
            series.floor = (lower, now)
        await self._keep_piece(series, got, (lower, self._sure(series, got, end, now)))
        return _Step(got, start, asked=True)

    async def _keep_piece(self, series: _Series, got: Klines, covered: Range) -> None:
        async def keep() -> None:
            await self._in_thread(self._opened().record, [Piece(got, [covered])])
            series.covered = union([*series.covered, covered])

        # What the venue gave is kept to the end, also if nobody waits for it any more.
        await asyncio.shield(self._writing_task(keep()))

    def _sure(self, series: _Series, got: Klines, end: int, now: int) -> int:
        """Up to where an answer says everything: its last kline, and what is old enough."""
        old = series.closed_until(now - self.delay_ms - TRUST_MS)
        return max(int(got.datetime[-1]) + 1 if len(got) else 0, min(end, old))

    async def _venue(
        self, series: _Series, start: int | None, limit: int | None, end: int
    ) -> Klines:
        got = await self._market.get_kline_histories(
            series.symbol, start, limit, end, series.timeframe
        )
        if got.forming:
            got = got[:-1]
        first = 0 if start is None else int(np.searchsorted(got.datetime, start))
        return got[first : int(np.searchsorted(got.datetime, end))]

    async def _forming(self, series: _Series, since: int, to_ts: int | None) -> Klines:
        """What opens from ``since`` on, which was not over when it was asked what was."""
        return await self._market.get_kline_histories(
            series.symbol, since, None, to_ts, series.timeframe, True
        )

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """The market's own stream; what it gives is kept."""
        return self._keep(self._market.watch_klines(symbol, timeframe), symbol, timeframe)

    async def _keep(
        self, stream: AsyncIterator[Kline], symbol: str, timeframe: str
    ) -> AsyncIterator[Kline]:
        series = self._series.get((symbol, timeframe))
        began = self.now()
        watch = _Watch(series, series.closed_until(began) if series else began)
        self._watches.append(watch)
        try:
            async for kline in stream:
                if watch.series is None:  # not before: the stream had to be read from at once
                    watch.series = await self._known(symbol, timeframe)
                    watch.upto = watch.series.closed_until(began)
                self._note(watch.series, watch, kline)
                yield kline
        finally:
            self._watches = [other for other in self._watches if other is not watch]

    def _note(self, series: _Series, watch: _Watch, kline: Kline) -> None:
        if not kline.closed:
            return
        watch.cover(kline.datetime + 1)
        series.fresh[kline.datetime] = kline
        self._count += 1
        if self._count >= BATCH_KLINES:
            self._write_soon()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(BATCH_SECONDS, self._write_soon)

    async def watch_clock(self) -> AsyncIterator[int]:
        """The market's own clock; what it says was given completely is covered."""
        async for moment in self._market.watch_clock():
            for watch in self._watches:
                if watch.series is not None:
                    watch.cover(watch.series.closed_until(moment))
            yield moment

    # ---- writing

    def _write_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._count = 0
        self._writing_task(self._write_behind())

    def _writing_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def _write_behind(self) -> None:
        with _forgiven():
            await self._write_all()

    async def flush(self) -> None:
        """Write every live kline that is not written yet. Raises StorageError."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._write_all()

    async def _write_all(self) -> None:
        await self._write([s for s in self._series.values() if s.fresh or s.fresh_covered])

    async def _write_fresh(self, series: _Series) -> None:
        if series.fresh or series.fresh_covered or self._writing.locked():
            await self._write([series])

    async def _write(self, waiting: list[_Series]) -> None:
        async with self._writing:  # once it is had, what others took is covered or given up
            pieces = [series.take_fresh() for series in waiting]
            await self._in_thread(self._opened().record, pieces)
            for series, piece in zip(waiting, pieces, strict=True):
                series.covered = union([*series.covered, *piece.covered])


@contextmanager
def _forgiven() -> Iterator[None]:
    """Live klines that cannot be written end nothing: what is not covered is asked for again."""
    try:
        yield
    except LiveTraderError as error:
        log.warning("live klines were not kept: %s", error)


def _joined(series: _Series, parts: list[Klines]) -> Klines:
    filled = [part for part in parts if len(part)]
    if not filled:
        return Klines.empty(series.symbol, series.timeframe)
    return filled[0] if len(filled) == 1 else Klines.concat(filled)


def _newest(klines: Klines, limit: int | None) -> Klines:
    """The newest ``limit`` closed ones, and the forming one behind them."""
    if limit is None:
        return klines
    return klines[-(limit + 1 if klines.forming else limit) :]
