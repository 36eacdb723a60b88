"""TdxMarket: the extended market of TDX as a market."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np

from livetrader_core.clock import Clock, SystemClock, parse_clock
from livetrader_core.errors import (
    InvalidRequest,
    NotConnected,
    Unavailable,
    UnknownSymbol,
)
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.base import MarketBase
from livetrader_core.market.finding import Finding, Verdict, clock_finding
from livetrader_core.market.streams import Streams
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.calendar import TradingDays, exchange_days
from livetrader_core.market.tdx.codes import FUTURES, Code, symbol_of, usual_contract, venue_code
from livetrader_core.market.tdx.history import History, Instrument
from livetrader_core.market.tdx.labels import (
    FuturesLabels,
    Labels,
    LabelSettings,
    Stamp,
    UsLabels,
)
from livetrader_core.market.tdx.line import Line
from livetrader_core.market.tdx.lines import Host, Limits, Lines
from livetrader_core.market.tdx.polling import MARGIN, Polling, TickPolling, VenueTime
from livetrader_core.market.tdx.settings import (
    check_delay,
    check_hosts,
    check_markets,
    positive,
    whole,
)
from livetrader_core.models import Contract, FeedState, Kline, Klines, Tick, market_of
from livetrader_core.timeframe import DAY_MS, MINUTE_MS, duration_ms

log = logging.getLogger(__name__)

#: How long after a minute its bar is taken for final, where time is real.
_GRACE_MS = 3_000
#: Bars so long ago are looked for, instead of paging to them.
_FAR_MS = {"1m": 2 * DAY_MS, "1d": 3000 * DAY_MS}
#: Instruments are listed anew after so many seconds.
_LIST_LASTS = 3600.0

#: Liquid instruments whose bars tell whether a host gives any.
_PROBES = {
    "US": ("US.AAPL", "US.BABA", "US.MSFT"),
    "HK": ("HK.00700", "HK.00005"),
    "SHFE": ("SHFE.rbL8", "SHFE.cuL8"),
    "INE": ("INE.scL8",),
    "DCE": ("DCE.mL8", "DCE.iL8"),
    "CZCE": ("CZCE.TAL8", "CZCE.SRL8"),
    "CFFEX": ("CFFEX.IFL8",),
    "GFEX": ("GFEX.siL8",),
}


class TdxMarket(MarketBase):
    """US and Hong Kong stocks and Chinese futures from hosts of TDX's extended market.

    ``host`` is ``ip:port`` or a list of them, ranked by the bars they give; ``markets`` are the
    MARKETs to serve: US, HK, SHFE, INE, DCE, CZCE, CFFEX, GFEX.

    ``delay_ms``: how late quotes come (US: 15 minutes as users report, else 0). ``grace_ms``: how
    long after a minute its bar is taken for final (3 seconds; 0 under a simulated ``clock``).

    ``us_labels`` says what a US minute's date and clock are: ``trading-date`` (New York's trading
    date with Beijing's clock), ``beijing`` or ``new-york``; ``futures_labels`` whether a night's
    date is its ``trading-day`` or the ``calendar-day``; ``stamp`` which ``end`` of the minute is
    labelled. Bars that contradict the setting raise a warning that names it (see :attr:`doubts`).
    ``us_daily_lot``: shares in one unit of a US daily volume. ``holidays``: whether the Chinese
    exchanges' holidays count (set it to false for made-up data).

    In seconds: ``timeout`` of an answer, ``connect_timeout``, ``backoff`` before the second attempt
    to reconnect, doubling up to ``backoff_most``, ``heartbeat`` on a silent line. ``connections``
    is how many there may be. ``tick_ms`` is how often quotes are polled for ticks.

    Timeframes up to ``4h`` are made from one-minute bars, so that they begin when everyone's do;
    ``1d`` is the venue's own. Raises ConfigError naming the setting at fault.
    """

    clocked = True

    def __init__(
        self,
        host: str | Sequence[str],
        markets: Sequence[str] = ("US",),
        delay_ms: int | None = None,
        grace_ms: int | None = None,
        us_labels: UsLabels = "trading-date",
        futures_labels: FuturesLabels = "trading-day",
        stamp: Stamp = "end",
        us_daily_lot: int = 100,
        holidays: bool = True,
        timeout: float = 5.0,
        connect_timeout: float = 5.0,
        backoff: float = 1.0,
        backoff_most: float = 60.0,
        heartbeat: float = 10.0,
        connections: int = 2,
        tick_ms: int = 3_000,
        clock: Clock | str | None = None,
    ) -> None:
        self.markets = check_markets(markets)
        self.delay_ms = check_delay(delay_ms, self.markets)
        venue_clock = parse_clock(clock)
        if grace_ms is None:
            grace_ms = _GRACE_MS if isinstance(venue_clock, SystemClock) else 0
        self._time = VenueTime(venue_clock, self.delay_ms, whole("grace_ms", grace_ms))
        self._tick_ms = whole("tick_ms", tick_ms, least=1)
        self._labels = LabelSettings(us_labels, futures_labels, stamp)
        self._holidays = holidays
        self._addresses = check_hosts(host)
        self._limits = Limits(
            timeout=positive("timeout", timeout),
            connect_timeout=positive("connect_timeout", connect_timeout),
            backoff=positive("backoff", backoff),
            backoff_most=positive("backoff_most", backoff_most),
            heartbeat=positive("heartbeat", heartbeat),
            connections=whole("connections", connections, least=1),
        )
        self._daily_lot = whole("us_daily_lot", us_daily_lot, least=1)
        self._streams = Streams()
        self._lines: Lines | None = None
        self._history: History | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._days = TradingDays()
        self._instruments: dict[str, Instrument] = {}
        self._contracts: dict[str, Contract] = {}
        self._listed: dict[Code, wire.Instrument] = {}
        self._listed_at = -_LIST_LASTS

    # ---- life

    async def connect(self) -> None:
        """Rank the hosts and connect to the best. Raises Unavailable, ConfigError."""
        if self._lines is not None:
            return
        wire.require_pytdx()
        if self._holidays and any(market in FUTURES for market in self.markets):
            # Loading the calendar takes seconds.
            self._days.learn(await asyncio.get_running_loop().run_in_executor(None, exchange_days))
        lines = self._make_lines()
        await lines.open()
        self._lines = lines
        self._history = History(lines, self._time.quoted, self._daily_lot)
        loop = asyncio.get_running_loop()
        polling = Polling(self._streams, lines, self._history, self._instrument, self._time)
        ticks = TickPolling(self._streams, lines, self._instrument, self._time, self._tick_ms)
        self._tasks = [loop.create_task(polling.run()), loop.create_task(ticks.run())]
        for task in self._tasks:
            task.add_done_callback(self._on_end)

    async def disconnect(self) -> None:
        """Close every connection and end polling."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lines, self._lines = self._lines, None
        if lines is not None:
            await lines.close()

    def now(self) -> int:
        """The venue's time (UTC ms); what it quotes is ``delay_ms`` older."""
        return self._time.clock.now()

    async def examine(self) -> list[Host]:
        """What each host in the settings answers now; it need not be connected.

        Raises ConfigError if the extra is not installed.
        """
        wire.require_pytdx()
        return await self._make_lines().examine()

    async def diagnose(self) -> list[Finding]:
        """Every host: does it answer, with bars, and with which clock; and doubts about labels."""
        found = [_host_finding(host) for host in await self.examine()]
        found += [
            Finding("labels", Verdict.DOUBT, doubt, "check us_labels, futures_labels and stamp")
            for doubt in self.doubts
        ]
        if self._history is not None and not self.doubts:
            found.append(Finding("labels", Verdict.OK, "bars lie in the sessions of their markets"))
        return found

    def _make_lines(self) -> Lines:
        return Lines(self._addresses, self._limits, self.now, self._probe, self._on_change)

    @property
    def doubts(self) -> list[str]:
        """What speaks against the settings by which labels are read; empty if nothing does."""
        return [] if self._history is None else list(self._history.doubts.values())

    @property
    def lines(self) -> Lines:
        """The connections and what is known of each host. Raises Unavailable."""
        if self._lines is None:
            raise NotConnected("TdxMarket is not connected: call connect() first")
        return self._lines

    def _past(self) -> History:
        if self._history is None or self._lines is None:
            raise NotConnected("TdxMarket is not connected: call connect() first")
        return self._history

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("TdxMarket no longer polls", exc_info=error)
            self._tell(FeedState.DISCONNECTED, f"TdxMarket no longer polls: {error!r}")

    def _on_change(self, up: bool, why: str) -> None:
        self._tell(FeedState.CONNECTED if up else FeedState.DISCONNECTED, why)

    async def _probe(self, line: Line) -> int:
        """When the newest bar that ``line`` gives opened; 0 if it gives none."""
        for instrument in self._probed():
            request = wire.bars(wire.ONE_MINUTE, instrument.code.market, instrument.code.code, 0, 2)
            page = await line.call(request, self._limits.timeout)
            if len(page):
                return int(instrument.labels.opens(page.day, page.minute)[-1])
        return 0

    def _probed(self) -> list[Instrument]:
        known = [i for i in self._instruments.values() if "1m" in i.seen][-1:]
        if known:
            return known
        return [self._instrument(symbol) for symbol in _PROBES[self.markets[0]]]

    # ---- instruments

    def _instrument(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            market = market_of(symbol)
            if market not in self.markets:
                served = ", ".join(self.markets)
                raise UnknownSymbol(f"{symbol}: markets: this TdxMarket serves {served}")
            year = datetime.fromtimestamp(self.now() / 1000, timezone.utc).year
            code = venue_code(symbol, year)
            labels = Labels(market, self._labels, self._days)
            sessions = usual_contract(symbol).sessions
            self._instruments[symbol] = Instrument(symbol, code, sessions, labels)
        return self._instruments[symbol]

    async def get_contract(self, symbol: str) -> Contract:
        """The usual contract of its market and product: the venue tells no more than a name.

        Raises UnknownSymbol, Unavailable.
        """
        if symbol not in self._contracts:
            instrument = self._instrument(symbol)
            await self._check_listed(instrument)
            listed = self._listed.get(instrument.code)
            contract = usual_contract(symbol)
            self._contracts[symbol] = replace(contract, name=listed.name if listed else "")
        return self._contracts[symbol]

    async def _check_listed(self, instrument: Instrument) -> None:
        """Raise UnknownSymbol if the venue has no such instrument."""
        if instrument.seen or instrument.code in self._listed:
            return
        code = instrument.code
        page, _ = await self.lines.call(wire.bars(wire.DAILY, code.market, code.code, 0, 1))
        if len(page):
            instrument.seen.add("1d")
            return
        await self._load_list()
        if code not in self._listed:
            self._instruments.pop(instrument.symbol, None)
            raise UnknownSymbol(
                f"{instrument.symbol}: TDX has no {code.code} in its market {code.market}"
            )

    async def list_symbols(self) -> list[str]:
        """The symbols of the markets it serves, sorted. Takes many requests. Raises Unavailable."""
        await self._load_list()
        found = {symbol_of(listed.market, listed.code) for listed in self._listed.values()}
        return sorted(s for s in found if s is not None and market_of(s) in self.markets)

    async def _load_list(self) -> None:
        loop = asyncio.get_running_loop()
        if self._listed and loop.time() - self._listed_at < _LIST_LASTS:
            return
        total, _ = await self.lines.call(wire.count())
        listed: dict[Code, wire.Instrument] = {}
        start = 0
        while start < total:
            rows, host = await self.lines.call(wire.instruments(start))
            if not rows:
                raise Unavailable(f"{host.address}: lists {start} instruments and counts {total}")
            listed.update({Code(row.market, row.code): row for row in rows})
            start += len(rows)
        self._listed, self._listed_at = listed, loop.time()

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
        """As :meth:`MarketBase.get_kline_histories`, as far back as the host keeps bars.

        Raises ProtocolError too, if a host's bars cannot be read by the settings.
        """
        duration_ms(timeframe)
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        instrument = self._instrument(symbol)
        complete = self._time.complete()
        klines = await self._gathered(instrument, timeframe, from_ts, limit, to_ts, complete)
        if not len(klines) and not instrument.seen:
            await self._check_listed(instrument)
        ends = instrument.sessions.kline_ends(klines.datetime, timeframe)
        closed = int(np.searchsorted(ends, complete, side="right"))
        first = 0 if from_ts is None else int(np.searchsorted(klines.datetime, from_ts))
        last = len(klines) if to_ts is None else int(np.searchsorted(klines.datetime, to_ts))
        wanted = klines[first : max(first, min(last, closed))]
        if limit is not None:
            wanted = wanted[max(0, len(wanted) - limit) :]
        if not forming or not first <= closed < last:
            return wanted
        unfinished = klines[closed : closed + 1]
        unfinished.forming = True
        return Klines.concat([wanted, unfinished])

    async def _gathered(
        self,
        instrument: Instrument,
        timeframe: str,
        from_ts: int | None,
        limit: int | None,
        to_ts: int | None,
        complete: int,
    ) -> Klines:
        """All bars of ``timeframe`` that may be wanted, and maybe some before and after."""
        length = duration_ms(timeframe)
        made = timeframe not in ("1m", "1d")
        per_bar = length // MINUTE_MS if made else 1
        back_to = None if from_ts is None else from_ts // length * length if made else from_ts
        # Of bars made from minutes the first may lack some; of daily ones it may be nonsense.
        needed = None if limit is None else (limit + 1) * per_bar
        before = complete if to_ts is None else min(to_ts, complete)

        def enough(klines: Klines) -> bool:
            if back_to is not None and klines.datetime[0] <= back_to:
                return True
            return needed is not None and int(np.searchsorted(klines.datetime, before)) >= needed

        first = wire.MOST_BARS if needed is None or to_ts is not None else needed + MARGIN
        base = "1d" if timeframe == "1d" else "1m"
        far = to_ts is not None and complete - to_ts > _FAR_MS[base]
        # A bar made from minutes that begins before to_ts may end after it.
        passed = before + length if far else None
        klines = await self._past().fetch(instrument, base, enough, first, passed)
        return aggregate(klines, timeframe, instrument.sessions) if made else klines

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """Closed klines from now on. Raises UnknownSymbol, UnknownTimeframe."""
        length = duration_ms(timeframe)
        sessions = self._instrument(symbol).sessions
        complete = self._time.complete()
        if timeframe == "1d":
            after = sessions.open_of(sessions.trading_date(complete)) - 1
        else:
            after = complete - length
        return self._streams.klines(symbol, timeframe, after)

    def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """The quote whenever it changed, as seen every ``tick_ms``. Raises UnknownSymbol.

        The venue gives a quote no time: ``datetime`` is when it was asked for, less the delay;
        ``volume`` is what was traded since the one before.
        """
        self._instrument(symbol)
        return self._streams.ticks(symbol)

    def watch_clock(self) -> AsyncIterator[int]:
        """The minutes up to which every watched stream was asked for."""
        return self._streams.clock()


def _host_finding(host: Host) -> Finding:
    check = f"host {host.address}"
    if host.why:
        return Finding(check, Verdict.FAILED, host.why, "take it off the list, or try it later")
    if not host.newest:
        return Finding(
            check,
            Verdict.FAILED,
            "answers, but gives no bars",
            "take it off the list; some hosts want another login, some have no data",
        )
    newest = datetime.fromtimestamp(host.newest / 1000, timezone.utc)
    told = f"newest bar of {newest:%Y-%m-%d %H:%M} UTC, in {host.latency:.2f} s"
    clock = clock_finding(host.clock_error, "its clock")
    return replace(clock, check=check, found=f"{told}; {clock.found}")
