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
    ConfigError,
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    ProtocolError,
    Unavailable,
    UnknownSymbol,
)
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.base import MarketBase
from livetrader_core.market.streams import Key, Streams
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.calendar import TradingDays, exchange_days
from livetrader_core.market.tdx.codes import (
    FUTURES,
    MARKETS,
    Code,
    symbol_of,
    usual_contract,
    venue_code,
)
from livetrader_core.market.tdx.history import History, Instrument
from livetrader_core.market.tdx.labels import (
    FuturesLabels,
    Labels,
    LabelSettings,
    Stamp,
    UsLabels,
)
from livetrader_core.market.tdx.line import Address, Line
from livetrader_core.market.tdx.lines import Host, Limits, Lines
from livetrader_core.models import Contract, FeedState, Kline, Klines, Tick, market_of
from livetrader_core.timeframe import DAY_MS, MINUTE_MS, duration_ms

log = logging.getLogger(__name__)

DEFAULT_PORT = 7727
_US_DELAY_MS = 15 * MINUTE_MS
#: How long after a minute its bar is taken for final, where time is real.
_GRACE_MS = 3_000
#: Outside the session a symbol is asked for this seldom.
_IDLE_MS = 15 * MINUTE_MS
#: Bars asked for beyond those that can be new: the one that forms, and the last known.
_MARGIN = 3
#: Bars so long ago are looked for, instead of paging to them.
_FAR_MS = {"1m": 2 * DAY_MS, "1d": 3000 * DAY_MS}
#: Instruments are listed anew after so many seconds.
_LIST_LASTS = 3600.0
#: A host that gives nothing new for so long, while the market is open, is compared with others.
_STUCK_MS = 10 * MINUTE_MS
#: After so many failed rounds a symbol no longer holds the others' clock back.
_PATIENCE = 3

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
        self.markets = _check_markets(markets)
        self.delay_ms = _check_delay(delay_ms, self.markets)
        self._clock = parse_clock(clock)
        real = isinstance(self._clock, SystemClock)
        self._grace_ms = _whole(
            "grace_ms", (_GRACE_MS if real else 0) if grace_ms is None else grace_ms
        )
        self._tick_ms = _whole("tick_ms", tick_ms, least=1)
        self._labels = LabelSettings(us_labels, futures_labels, stamp)
        self._holidays = holidays
        self._addresses = _check_hosts(host)
        self._limits = Limits(
            timeout=_positive("timeout", timeout),
            connect_timeout=_positive("connect_timeout", connect_timeout),
            backoff=_positive("backoff", backoff),
            backoff_most=_positive("backoff_most", backoff_most),
            heartbeat=_positive("heartbeat", heartbeat),
            connections=_whole("connections", connections, least=1),
        )
        self._daily_lot = _whole("us_daily_lot", us_daily_lot, least=1)
        self._streams = Streams()
        self._lines: Lines | None = None
        self._history: History | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._days = TradingDays([])
        self._instruments: dict[str, Instrument] = {}
        self._contracts: dict[str, Contract] = {}
        self._listed: dict[Code, wire.Instrument] = {}
        self._listed_at = -_LIST_LASTS
        self._moved = 0
        #: By stream: every bar that closes at or before this moment was offered.
        self._reached: dict[Key, int] = {}
        self._failed: dict[Key, int] = {}
        self._quotes: dict[str, wire.Quote] = {}

    # ---- life

    async def connect(self) -> None:
        """Rank the hosts and connect to the best. Raises Unavailable, ConfigError."""
        if self._lines is not None:
            return
        wire.require_pytdx()
        if self._holidays and any(market in FUTURES for market in self.markets):
            # Loading the calendar takes seconds.
            days = await asyncio.get_running_loop().run_in_executor(None, exchange_days)
            self._days = TradingDays(days)
        lines = self._make_lines()
        await lines.open()
        self._lines = lines
        self._moved = self._complete()
        self._history = History(lines, self._venue_now, self._daily_lot)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._run_ticks())]

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
        return self._clock.now()

    async def examine(self) -> list[Host]:
        """What each host in the settings answers now; it need not be connected.

        Raises ConfigError if the extra is not installed.
        """
        wire.require_pytdx()
        return await self._make_lines().examine()

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

    def _venue_now(self) -> int:
        return self.now() - self.delay_ms

    def _complete(self) -> int:
        """The moment (UTC ms) up to which the venue's bars are final."""
        return (self._venue_now() - self._grace_ms) // MINUTE_MS * MINUTE_MS

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
        complete = self._complete()
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

        first = wire.MOST_BARS if needed is None or to_ts is not None else needed + _MARGIN
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
        complete = self._complete()
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

    async def _run(self) -> None:
        """Ask for what is new at every minute of the venue's clock."""
        while True:
            complete = self._complete()
            if not await self._round(complete):
                await self._wait_for_line()
                continue
            await self._clock.sleep_until(complete + MINUTE_MS + self.delay_ms + self._grace_ms)

    async def _wait_for_line(self) -> None:
        await asyncio.sleep(min(self._limits.backoff, 1.0))
        await self.lines.wait(self._limits.backoff_most)

    async def _round(self, complete: int) -> bool:
        """Offer every bar that closes at or before ``complete``; False if some could not be had."""
        wanted = self._streams.wanted()
        self._reached = {key: at for key, at in self._reached.items() if key in wanted}
        done = await asyncio.gather(*(self._advance(key, complete) for key in wanted))
        if not all(done):
            return False
        self._compare_hosts(wanted, complete)
        await self._streams.settle(complete)
        return True

    async def _advance(self, key: Key, complete: int) -> bool:
        symbol, timeframe = key
        try:
            if self._is_due(key, complete):
                klines = await self._new_klines(self._instrument(symbol), timeframe, complete)
                if self._streams.offer(klines):
                    self._moved = complete
                self._reached[key] = complete
        except (Unavailable, ProtocolError) as error:
            return self._excuse(key, error)
        self._failed.pop(key, None)
        return True

    def _compare_hosts(self, wanted: list[Key], complete: int) -> None:
        """Rank the hosts anew if the one in use seems to stand still."""
        due = any(self._instrument(symbol).sessions.is_open(complete) for symbol, _ in wanted)
        if not due or len(self._addresses) == 1:
            self._moved = complete
        elif complete - self._moved >= _STUCK_MS:
            self._moved = complete
            self.lines.rank_anew("it gave no new bars")

    def _excuse(self, key: Key, error: LiveTraderError) -> bool:
        """Whether ``key`` failed so often, while the line stood, that the others go on without."""
        if not self.lines.standing:
            return False
        self._failed[key] = self._failed.get(key, 0) + 1
        if self._failed[key] == _PATIENCE:
            log.warning("%s %s is left out until it answers: %s", *key, error)
        return self._failed[key] >= _PATIENCE

    def _since(self, key: Key) -> int:
        symbol, timeframe = key
        known = self._streams.last(symbol, timeframe)
        nominal = 0 if timeframe == "1d" else duration_ms(timeframe)
        return self._reached.get(key, known + nominal)

    def _is_due(self, key: Key, complete: int) -> bool:
        """Whether a bar of ``key`` may have closed since it was last asked for."""
        symbol, timeframe = key
        since = self._since(key)
        sessions = self._instrument(symbol).sessions
        if complete <= since:
            return False
        if timeframe == "1d":
            return sessions.trading_date(since) != sessions.trading_date(complete)
        length = duration_ms(timeframe)
        if complete // length == since // length:
            return False
        return sessions.next_open(since - length) < complete or complete - since >= _IDLE_MS

    async def _new_klines(self, instrument: Instrument, timeframe: str, complete: int) -> Klines:
        """The bars after the last one given that close at or before ``complete``."""
        symbol, length = instrument.symbol, duration_ms(timeframe)
        last = self._streams.last(symbol, timeframe)
        base = "1d" if timeframe == "1d" else "1m"
        # Bars made from minutes need all the minutes of the first of them.
        back_to = last if timeframe in ("1m", "1d") else (last // length + 1) * length
        passed = complete - (self._since((symbol, timeframe)) if timeframe == "1m" else back_to)
        first = passed // duration_ms(base) + _MARGIN
        klines = await self._past().fetch(
            instrument, base, lambda klines: bool(klines.datetime[0] <= back_to), first
        )
        if timeframe not in ("1m", "1d"):
            klines = klines[int(np.searchsorted(klines.datetime, back_to)) :]
            klines = aggregate(klines, timeframe, instrument.sessions)
        ends = instrument.sessions.kline_ends(klines.datetime, timeframe)
        return klines[: int(np.searchsorted(ends, complete, side="right"))]

    # ---- ticks

    async def _run_ticks(self) -> None:
        while True:
            await self._clock.sleep_until(self.now() + self._tick_ms)
            for symbol in self._streams.wanted_ticks():
                try:
                    await self._ask_tick(self._instrument(symbol))
                except (Unavailable, ProtocolError) as error:
                    log.info("no quote of %s: %s", symbol, error)

    async def _ask_tick(self, instrument: Instrument) -> None:
        code = instrument.code
        moment = self._venue_now()
        quote, _ = await self.lines.call(wire.quote(code.market, code.code))
        before = self._quotes.get(instrument.symbol)
        if quote is None or quote == before or not quote.last:
            return
        self._quotes[instrument.symbol] = quote
        traded = quote.volume - before.volume if before else 0.0
        self._streams.offer_tick(
            Tick(
                instrument.symbol,
                moment,
                quote.last,
                quote.bid,
                quote.ask,
                quote.bid_size,
                quote.ask_size,
                max(traded, 0.0),
                quote.open_interest,
            )
        )


# --------------------------------------------------------------------------- settings


def _check_hosts(host: str | Sequence[str]) -> list[Address]:
    texts = [host] if isinstance(host, str) else list(host)
    if not texts:
        raise ConfigError("host: name at least one, as ip:port")
    return list(dict.fromkeys(_address(text) for text in texts))


def _address(text: object) -> Address:
    ip, colon, port = str(text).strip().rpartition(":")
    if not colon:
        ip, port = port, str(DEFAULT_PORT)
    if not ip or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"host: expected ip:port, such as 1.2.3.4:{DEFAULT_PORT}, not {text!r}")
    return Address(ip.strip("[]"), int(port))


def _check_markets(markets: Sequence[str]) -> tuple[str, ...]:
    names = [markets] if isinstance(markets, str) else list(markets)
    unknown = [name for name in names if name not in MARKETS]
    if unknown or not names:
        told = f", not {unknown[0]!r}" if unknown else ""
        raise ConfigError(f"markets: must be some of {', '.join(MARKETS)}{told}")
    return tuple(dict.fromkeys(names))


def _check_delay(delay_ms: int | None, markets: tuple[str, ...]) -> int:
    if delay_ms is not None:
        return _whole("delay_ms", delay_ms)
    if "US" in markets and len(markets) > 1:
        raise ConfigError(
            "delay_ms: US quotes come 15 minutes late and others do not: give US an adapter of "
            "its own, or say delay_ms for all"
        )
    return _US_DELAY_MS if "US" in markets else 0


def _whole(name: str, value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: must be a whole number of at least {least}, not {value!r}")
    return value


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"{name}: must be above 0 (seconds), not {value!r}")
    return float(value)
