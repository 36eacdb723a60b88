"""RehearsalMarket: recorded or generated klines, by way of the venues' own protocols.

Each MARKET's klines are served by its simulated venue and read by the adapter that a user of the
real venue has. The venues' common clock stands until everybody is done with the moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import ConfigError, InvalidRequest, Unavailable, UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.market.replay import Moment, ReplayMarket, moment_of
from livetrader_core.models import Contract, Kline, Klines, Tick, market_of
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import SimulatedVenue

if TYPE_CHECKING:
    from livetrader_core.market.generated import GeneratedSource
    from livetrader_core.market.sources import Source
    from livetrader_core.store import KlineStore

#: Seconds after which an adapter that does not come to the clock's moment is given up.
_PATIENCE = 30.0
_NEVER = 2**62


# --------------------------------------------------------------------------- venues


def _tdx(recordings: Sequence[Recording], clock: SteppedClock) -> _Pair:
    from livetrader_core.market.tdx import TdxMarket
    from livetrader_core.sim.tdx_server import TdxServer

    venue = TdxServer(recordings, clock, us_daily_lot=1)
    markets = _markets(recordings)
    return venue, lambda: TdxMarket(
        venue.endpoint, markets, delay_ms=0, us_daily_lot=1, holidays=False, clock=clock
    )


def _mt4(recordings: Sequence[Recording], clock: SteppedClock) -> _Pair:
    from livetrader_core.market.dwx import DwxMarket
    from livetrader_core.sim.mt4_terminal import Mt4Terminal

    venue = Mt4Terminal(recordings, clock)
    symbols, markets = [r.symbol for r in recordings], _markets(recordings)
    return venue, lambda: DwxMarket(
        venue.host,
        venue.push_port,
        venue.pull_port,
        venue.sub_port,
        markets=markets,
        symbols=symbols,
        clock=clock,
    )


def _tq(recordings: Sequence[Recording], clock: SteppedClock) -> _Pair:
    from livetrader_core.market.tq import TqMarket
    from livetrader_core.sim.tq_server import TqServer

    venue = TqServer(recordings, clock)
    return venue, lambda: TqMarket(
        "rehearsal", "rehearsal", auth_url=venue.auth_url, md_url=venue.md_url, clock=clock
    )


_Pair = tuple[SimulatedVenue, Callable[[], MarketBase]]

#: By MARKET: the simulated venue and, once it listens, the adapter for it.
_VENUES: Mapping[str, Callable[[Sequence[Recording], SteppedClock], _Pair]] = {
    "US": _tdx,
    "HK": _tdx,
    "FOREX": _mt4,
    **dict.fromkeys(("SHFE", "INE", "DCE", "CZCE", "CFFEX", "GFEX"), _tq),
}


def _markets(recordings: Sequence[Recording]) -> list[str]:
    return sorted({market_of(recording.symbol) for recording in recordings})


class _Stage:
    """The venues and their adapters, at ``moment`` (UTC ms)."""

    def __init__(self, recordings: Sequence[Recording], moment: int) -> None:
        self.clock = SteppedClock(moment)
        self._recordings = recordings
        self._life = AsyncExitStack()
        self._by_market: dict[str, MarketBase] = {}
        self._reached: dict[MarketBase, int] = {}
        self._progress = asyncio.Event()

    async def open(self) -> _Stage:
        """Start the venues and connect to them. Raises Unavailable, ConfigError."""
        try:
            for make in dict.fromkeys(_VENUES.values()):
                mine = [r for r in self._recordings if _VENUES[market_of(r.symbol)] is make]
                if mine:
                    await self._add(*make(mine, self.clock))
        except BaseException:
            await self.close()
            raise
        return self

    async def _add(self, venue: SimulatedVenue, make_adapter: Callable[[], MarketBase]) -> None:
        self._life.push_async_callback(venue.stop)
        await venue.start()
        adapter = make_adapter()
        self._life.push_async_callback(adapter.disconnect)
        await adapter.connect()
        for code in adapter.markets:
            self._by_market[code] = adapter
        follower = asyncio.get_running_loop().create_task(self._follow(adapter))
        self._life.push_async_callback(_ended, follower)

    async def _follow(self, adapter: MarketBase) -> None:
        async for moment in adapter.watch_clock():
            self._reached[adapter] = moment
            self._progress.set()

    def adapter(self, symbol: str) -> MarketBase:
        """The adapter that has ``symbol``."""
        return self._by_market[market_of(symbol)]

    async def step(self, moment: int) -> None:
        """Set the clock to ``moment``; return when all its klines were given and read."""
        self.clock.advance(moment)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        adapters = set(self._by_market.values())
        while late := [a for a in adapters if self._reached.get(a, 0) < moment]:
            if loop.time() > deadline:
                names = ", ".join(sorted(type(adapter).__name__ for adapter in late))
                raise Unavailable(f"rehearsal: {names} did not come to {moment} in {_PATIENCE:g} s")
            self._progress.clear()
            reminder = loop.call_at(deadline, self._progress.set)
            try:
                await self._progress.wait()
            finally:
                reminder.cancel()

    async def close(self) -> None:
        """Disconnect the adapters and stop the venues."""
        await self._life.aclose()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --------------------------------------------------------------------------- the market


@dataclass(frozen=True)
class _Span:
    """What is rehearsed: moments after ``start``, up to ``end`` (UTC ms)."""

    start: int
    end: int


class RehearsalMarket(MarketBase):
    """What :class:`ReplayMarket` gives, through the adapters of US stocks, forex and futures.

    ``source``, ``shift_weeks``, ``seed``, ``symbols`` and ``contracts`` are those of ReplayMarket.
    Until it begins, the venues stand at ``end``, or at the end of the recording, so that all of it
    is history as far as the venues give it; with ``start`` it begins when it is connected, else
    with :meth:`begin`, and the venues are started anew at that moment. Their clock then goes from
    one kline's close to the next, when everything was read and every follower is done. Raises
    ConfigError naming the setting at fault.
    """

    clocked = True
    paced = True

    def __init__(
        self,
        source: str | Path | KlineStore | GeneratedSource | Source = "generated",
        start: Moment | None = None,
        end: Moment | None = None,
        shift_weeks: int | Mapping[str, int] = 0,
        seed: int = 0,
        symbols: Sequence[str] | None = None,
        contracts: str | Path | None = None,
    ) -> None:
        self._replay = ReplayMarket(
            source,
            start=start,
            end=end,
            shift_weeks=shift_weeks,
            seed=seed,
            symbols=symbols,
            contracts=contracts,
        )
        self.markets = self._replay.markets
        for code in self.markets:
            if code not in _VENUES:
                known = ", ".join(_VENUES)
                raise ConfigError(f"symbols: there is no simulated venue of {code}, but of {known}")
        self._start = None if start is None else moment_of("start", start)
        self._end = _NEVER if end is None else moment_of("end", end)
        self._span: _Span | None = None
        self._recordings: dict[str, Recording] = {}
        self._watched: set[str] = set()
        self._opening: asyncio.Task[_Stage] | None = None
        self._begun = asyncio.Event()

    # ---- life

    async def connect(self) -> None:
        """Start the venues and connect to them. Raises Unavailable, ConfigError."""
        for symbol in await self._replay.list_symbols():
            klines = await self._replay.get_kline_histories(symbol)
            self._recordings[symbol] = Recording(await self._replay.get_contract(symbol), klines)
        if self._start is not None:
            self.begin(self._start)
        else:
            ends = [int(r.ends[-1]) for r in self._recordings.values() if len(r.klines)]
            self._opening = self._open(None, min(max(ends, default=0), self._end))
        await self._stage()

    def _open(self, before: asyncio.Task[_Stage] | None, moment: int) -> asyncio.Task[_Stage]:
        async def opened() -> _Stage:
            if before is not None:
                await (await before).close()
            return await _Stage(list(self._recordings.values()), moment).open()

        return asyncio.get_running_loop().create_task(opened())

    async def _stage(self) -> _Stage:
        if self._opening is None:
            raise Unavailable("RehearsalMarket is not connected: call connect() first")
        return await asyncio.shield(self._opening)

    async def disconnect(self) -> None:
        """Disconnect the adapters and stop the venues; it has not begun any more."""
        opening, self._opening = self._opening, None
        self._span = None
        self._begun.clear()
        if opening is not None:
            results = await asyncio.gather(opening, return_exceptions=True)
            for stage in results:
                if isinstance(stage, _Stage):
                    await stage.close()
        await self._replay.disconnect()

    def begin(self, start: int, end: int | None = None) -> None:
        """Start the venues anew at ``start`` (UTC ms): what closes later is the future, to ``end``.

        Raises InvalidRequest if it has begun already.
        """
        if self._span is not None:
            raise InvalidRequest(
                "the rehearsal has begun already; restart its server, or reconnect its market"
            )
        last = self._end if end is None else end
        if last < start:
            raise InvalidRequest(f"the rehearsal would end at {last}, before its start at {start}")
        self._span = _Span(start, last)
        self._opening = self._open(self._opening, start)
        self._begun.set()

    @property
    def begun(self) -> bool:  # type: ignore[override]
        """Whether the venues' clock runs; until then all is history."""
        return self._span is not None

    def now(self) -> int:
        """The venues' time (UTC ms)."""
        if self._opening is not None and self._opening.done() and not self._opening.exception():
            return self._opening.result().clock.now()
        return self._span.start if self._span is not None else super().now()

    # ---- streams

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """As the adapter gives them, once it has begun."""
        self._check(symbol)
        self._watched.add(symbol)
        await self._begun.wait()
        stage = await self._stage()
        async for kline in stage.adapter(symbol).watch_klines(symbol, timeframe):
            yield kline

    async def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """As the adapter gives them, once it has begun."""
        self._check(symbol)
        await self._begun.wait()
        stage = await self._stage()
        async for tick in stage.adapter(symbol).watch_ticks(symbol):
            yield tick

    async def watch_clock(self) -> AsyncIterator[int]:
        """The moments that the venues come to, ``start`` first."""
        await self._begun.wait()
        stage, span = await self._stage(), self._span
        if span is None:
            return
        now = span.start
        while True:
            yield now
            following = self._next_close(now)
            if following is None or following > span.end:
                return
            await stage.step(following)
            now = following

    def _next_close(self, now: int) -> int | None:
        """When the next kline of a watched symbol closes."""
        closes = []
        for symbol in self._watched:
            ends = self._recordings[symbol].ends
            index = int(np.searchsorted(ends, now, side="right"))
            if index < len(ends):
                closes.append(int(ends[index]))
        return min(closes, default=None)

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
        """As the adapter gives them."""
        self._check(symbol)
        adapter = (await self._stage()).adapter(symbol)
        return await adapter.get_kline_histories(symbol, from_ts, limit, to_ts, timeframe, forming)

    async def get_contract(self, symbol: str) -> Contract:
        """The contract as the recording has it: not every venue tells one."""
        self._check(symbol)
        return self._recordings[symbol].contract

    async def list_symbols(self) -> list[str]:
        """The symbols recorded, sorted."""
        return sorted(self._recordings)

    def _check(self, symbol: str) -> None:
        if symbol not in self._recordings:
            raise UnknownSymbol(
                f"{symbol} is not recorded; there are {', '.join(self._recordings) or 'none'}"
            )
