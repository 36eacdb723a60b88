"""TqMarket: Chinese futures over tqsdk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from itertools import groupby
from typing import Any

from pydantic import SecretStr

from livetrader_core.clock import Clock, parse_clock
from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    NotConnected,
    RequestTimeout,
    UnknownSymbol,
)
from livetrader_core.market.base import MarketBase
from livetrader_core.market.finding import Finding, Verdict, clock_finding
from livetrader_core.market.streams import Key, Streams
from livetrader_core.market.tq import queries, settings
from livetrader_core.market.tq.library import Login
from livetrader_core.market.tq.line import Line
from livetrader_core.market.tq.parsing import (
    bars_between,
    contract_of,
    klines_of,
    ticks_of,
    underlying_of,
)
from livetrader_core.market.tq.series import Series, known_until
from livetrader_core.market.tq.symbols import MARKETS, instrument_of, is_main, symbol_of
from livetrader_core.market.tq.waiting import first_of, within
from livetrader_core.market.tq.worker import WIDTHS, News
from livetrader_core.models import Contract, FeedState, Floats, Kline, Klines, Tick
from livetrader_core.timeframe import DURATIONS_MS, MINUTE_MS, duration_ms

log = logging.getLogger(__name__)

#: Rows that one TqApi may hold before it is replaced: it forgets none, and each is about 2 kB.
MAX_ROWS = 200_000
#: Contracts are asked for again after so long (ms of the venue's clock): margins change.
_CONTRACT_AGE = 12 * 3_600_000
_LONGEST_PAUSE = 60.0
_TIMEFRAMES = {length // 1000: timeframe for timeframe, length in DURATIONS_MS.items()}
#: Symbols that are looked through for one that trades now.
_ASKED = 20
#: After so many contracts the rest are asked for together.
_SINGLY = 8


class TqMarket(MarketBase):
    """Klines, ticks and contracts of SHFE, INE, DCE, CZCE, CFFEX and GFEX from tqsdk.

    ``user`` and ``password`` are those of the vendor's account, which quotes need too. Symbols are
    tqsdk's own: ``SHFE.rb2605``, ``CZCE.RM605``; ``SHFE.rb_main`` is the main contract of a
    product (``KQ.m@SHFE.rb``), unadjusted; :meth:`main_contract` says which one that is now.

    ``auth_url`` and ``md_url`` lead to another server than the vendor's, such as a simulated
    venue. ``reconnect_after``: seconds that the line may be down before the TqApi is replaced by a
    new one (its own attempts come ever more seldom). ``timeout``: seconds to log in, and for an
    answer. ``grace``: seconds of the venue's clock after which a bar that neither a later bar nor
    a quote has closed is asked about (see :mod:`livetrader_core.market.tq.series`). ``clock``: as
    :func:`livetrader_core.clock.parse_clock` takes it.

    History holds the newest :attr:`history_limit` klines of a timeframe; a request for earlier
    ones is refused with InvalidRequest, never cut short in silence.

    Raises ConfigError naming the setting at fault.
    """

    markets = MARKETS
    clocked = True
    #: Most klines of one timeframe that tqsdk gives, the unfinished one among them.
    history_limit = WIDTHS[-1]

    def __init__(
        self,
        user: str,
        password: SecretStr | str,
        auth_url: str = "",
        md_url: str = "",
        reconnect_after: float = 10.0,
        timeout: float = 20.0,
        grace: float = 2.0,
        clock: Clock | str | None = None,
    ) -> None:
        self._login = Login(
            settings.text("user", user),
            settings.secret("password", password),
            settings.address("auth_url", auth_url, "http"),
            settings.address("md_url", md_url, "ws"),
        )
        self._reconnect_after = settings.seconds("reconnect_after", reconnect_after)
        self._timeout = settings.seconds("timeout", timeout)
        self._grace = round(settings.seconds("grace", grace) * 1000)
        self._clock = parse_clock(clock)
        self._streams = Streams()
        self._series: dict[Key, Series] = {}
        self._readers: dict[Key, int] = {}
        self._opening = 0
        self._took = 0.0
        self._contracts: dict[str, tuple[int, Contract]] = {}
        self._line: Line | None = None
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._why = "not connected"
        #: Times (UTC ms) of the last quotes, by symbol; and up to when a question was answered.
        self._heard: dict[str, int] = {}
        self._answered = 0
        self._held = 0
        self._pulse = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- life

    async def connect(self) -> None:
        """Log in and connect. Raises ConfigError for a refused login, NotConnected."""
        if self._line is not None:
            return
        began = time.monotonic()
        line = self._new_line()
        try:
            await line.start()
        except BaseException:
            await line.close()
            raise
        self._took = time.monotonic() - began
        self._adopt(line)
        self._spawn(self._keep())
        self._spawn(self._give())
        self._spawn(self._follow_clock())
        self._spawn(self._doubt())

    async def disconnect(self) -> None:
        """Leave: the thread ends, and with it every connection."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        line, self._line = self._line, None
        self._up.clear()
        self._why = "not connected"
        if line is not None:
            await line.close()

    def now(self) -> int:
        """The venue's time (UTC ms)."""
        return self._clock.now()

    async def diagnose(self) -> list[Finding]:
        """The login, and how the venue's quotes lie in time. Raises Unavailable."""
        login = Finding(
            "login",
            Verdict.OK,
            f"{self._login.user!r} at {self._login.auth_host}, ready after {self._took:.1f} s",
        )
        return [login, await self._clock_finding()]

    async def _clock_finding(self) -> Finding:
        symbols = list(self._heard) or await self.list_symbols()
        for symbol in symbols[:_ASKED]:
            contract = await self.get_contract(symbol)
            if contract.sessions.is_open(self.now()):
                await self._until(symbol, self.now())
                if self._heard.get(symbol):
                    late = self.now() - self._heard[symbol]
                    return clock_finding(late, f"the last quote of {symbol}")
        return Finding(
            "clock",
            Verdict.SKIPPED,
            "no quote of this moment: the market does not trade now",
            "look again while it trades",
        )

    # ---- requests

    async def list_symbols(self) -> list[str]:
        """Futures that are listed and main contracts, sorted. Raises Unavailable."""
        futures = await self._query(queries.FUTURES, {"exchange_id": list(MARKETS)})
        mains = await self._query(queries.MAINS, {})
        found = (symbol_of(str(entry.get("instrument_id"))) for entry in [*futures, *mains])
        return sorted({symbol for symbol in found if symbol is not None})

    async def get_contract(self, symbol: str) -> Contract:
        """The contract; that of a main contract is the one it stands for at present.

        Margin and commission are the vendor's figures in yuan per lot. Raises UnknownSymbol,
        Unavailable.
        """
        kept = self._contracts.get(symbol)
        if kept is not None and abs(self.now() - kept[0]) < _CONTRACT_AGE:
            return kept[1]
        if len(self._contracts) == _SINGLY:
            await self._learn_all()
            if symbol in self._contracts:
                return self._contracts[symbol][1]
        contract = contract_of(symbol, await self._entry(symbol))
        self._contracts[symbol] = (self.now(), contract)
        return contract

    async def _learn_all(self) -> None:
        """Every listed contract in one answer, once somebody turns out to want many."""
        for entry in await self._query(queries.CONTRACTS, {"exchange_id": list(MARKETS)}):
            symbol = symbol_of(str(entry.get("instrument_id")))
            if symbol is not None:
                self._contracts[symbol] = (self.now(), contract_of(symbol, entry))

    async def main_contract(self, symbol: str) -> str:
        """Which contract ``symbol`` (``SHFE.rb_main``) stands for at present.

        Raises UnknownSymbol, also for a symbol that is no main contract; Unavailable.
        """
        if not is_main(symbol):
            raise UnknownSymbol(f"{symbol} is no main contract: write SHFE.rb_main")
        future = underlying_of(await self._entry(symbol))
        found = None if future is None else symbol_of(str(future.get("instrument_id")))
        if found is None:
            raise UnknownSymbol(f"{symbol}: the venue names no contract for it at present")
        return found

    async def _entry(self, symbol: str) -> Mapping[str, Any]:
        instrument = instrument_of(symbol)
        entries = await self._query(queries.CONTRACT, {"instrument_id": [instrument]})
        for entry in entries:
            if entry.get("instrument_id") == instrument:
                return entry
        raise UnknownSymbol(f"{symbol}: the venue lists no such contract")

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`MarketBase.get_kline_histories`, of the newest :attr:`history_limit` klines.

        Raises InvalidRequest if ``from_ts`` or ``limit`` reaches farther back than these.
        """
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        key = (instrument_of(symbol), duration_ms(timeframe) // 1000)
        contract = await self.get_contract(symbol)
        await self._until(symbol, self._minute())
        now = self.now()
        wanted = _wanted(contract, timeframe, from_ts, limit, to_ts, now)
        for width in WIDTHS:
            if width < wanted and width < WIDTHS[-1]:
                continue
            rows = await self._rows(key, width)
            klines = klines_of(symbol, timeframe, rows, contract.sessions)
            closed, unfinished = self._split(klines, contract)
            found = _cut(closed, from_ts, limit, to_ts)
            if len(rows) < width or rows[0][1] <= 0 or _reaches(closed, found, from_ts, limit):
                break
        else:
            _refuse_reach(closed, found, from_ts, limit)
        if not forming or not len(unfinished):
            return found
        if to_ts is not None and int(unfinished.datetime[0]) >= to_ts:
            return found
        return Klines.concat([found, unfinished])

    def _split(self, klines: Klines, contract: Contract) -> tuple[Klines, Klines]:
        """The closed ones, and the one that forms."""
        count = len(klines)
        if not count:
            return klines, klines
        end = contract.sessions.kline_end(int(klines.datetime[-1]), klines.timeframe)
        closed = count if end <= self._known(klines.symbol, contract) else count - 1
        unfinished = klines[closed:]
        unfinished.forming = bool(len(unfinished))
        return klines[:closed], unfinished

    async def _until(self, symbol: str, moment: int) -> None:
        """Return once all of ``symbol`` up to ``moment`` (UTC ms) has come, or was asked for."""
        contract, instrument = self._contracts[symbol][1], instrument_of(symbol)
        line = await self._ready()
        line.follow_quote(instrument)
        patience = asyncio.get_running_loop().time() + self._grace / 1000
        while self._known(symbol, contract) < moment:
            left = patience - asyncio.get_running_loop().time()
            if left > 0:
                await first_of(self._pulse.wait(), timeout=left)
                continue
            await self._probe(instrument)
            return

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """Klines that close after this call. Raises UnknownSymbol, UnknownTimeframe, Unavailable.

        What only the venue knows of a symbol is found out at the first reading.
        """
        instrument_of(symbol)
        duration_ms(timeframe)
        return self._watch_klines(symbol, timeframe, self.now())

    async def _watch_klines(self, symbol: str, timeframe: str, now: int) -> AsyncIterator[Kline]:
        key = (symbol, timeframe)
        self._opening += 1  # no moment is settled before its first bars are known
        try:
            contract = await self.get_contract(symbol)
        finally:
            self._opening -= 1
        after = _before(now, timeframe, contract)
        self._readers[key] = self._readers.get(key, 0) + 1
        if key not in self._series:
            self._series[key] = Series(symbol, timeframe, contract.sessions, after)
            # Not before the stream below has begun: what is offered earlier is dropped.
            asyncio.get_running_loop().call_soon(self._follow, key)
        try:
            async for kline in self._streams.klines(symbol, timeframe, after):
                yield kline
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key], self._series[key]

    async def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """Ticks from now on; ``volume`` is what was traded since the tick before."""
        await self.get_contract(symbol)
        asyncio.get_running_loop().call_soon(self._follow_ticks, symbol)
        async for tick in self._streams.ticks(symbol):
            yield tick

    def watch_clock(self) -> AsyncIterator[int]:
        """Moments up to which every closed kline was given."""
        return self._streams.clock()

    def _follow(self, key: Key) -> None:
        series = self._series.get(key)
        if self._line is None or series is None:
            return
        instrument, seconds = instrument_of(series.symbol), duration_ms(series.timeframe) // 1000
        missed = bars_between(series.given, self.now(), seconds * 1000, series.sessions)
        width = next((width for width in WIDTHS if width > missed + 1), WIDTHS[-1])
        series.synced = False
        self._line.follow((instrument, seconds), series.given, width)

    def _follow_ticks(self, symbol: str) -> None:
        if self._line is not None:
            self._line.follow((instrument_of(symbol), 0), self.now(), WIDTHS[0])

    # ---- what comes from the line

    def _hear(self, line: Line, news: News) -> None:
        if line is not self._line:
            return
        self._held = news.held
        for instrument, moment in news.quotes.items():
            symbol = symbol_of(instrument)
            if symbol is not None and moment:
                self._heard[symbol] = moment
        for (instrument, seconds), rows in news.rows.items():
            symbol = symbol_of(instrument)
            if symbol is not None:
                self._take(symbol, seconds, rows)
        for instrument, seconds in news.behind:
            late = self._series.get((str(symbol_of(instrument)), _TIMEFRAMES[seconds]))
            if late is not None:
                late.synced = False
        if news.line is not None:
            self._on_line(*news.line)
        self._pulse.set()
        self._pulse = asyncio.Event()
        self._news.set()

    def _take(self, symbol: str, seconds: int, rows: Floats) -> None:
        if not seconds:
            for tick in ticks_of(symbol, rows, self._contracts[symbol][1].sessions):
                self._streams.offer_tick(tick)
            return
        series = self._series.get((symbol, _TIMEFRAMES[seconds]))
        if series is not None:
            series.merge(klines_of(symbol, series.timeframe, rows, series.sessions))
            series.synced = True

    def _on_line(self, up: bool, why: str) -> None:
        if up == self._up.is_set():
            return
        if up:
            self._up.set()
            self._down.clear()
            self._tell(FeedState.CONNECTED, why)
        else:
            self._why = why
            self._up.clear()
            self._down.set()
            log.warning("tqsdk: %s", why)
            self._tell(FeedState.DISCONNECTED, why)

    def _on_ended(self, line: Line, error: LiveTraderError | None) -> None:
        if line is self._line and error is not None:
            self._line = None
            self._on_line(False, str(error))
            self._down.set()

    # ---- giving

    def _minute(self) -> int:
        return self.now() // MINUTE_MS * MINUTE_MS

    def _known(self, symbol: str, contract: Contract) -> int:
        """Up to which moment (UTC ms) all of ``symbol`` has come."""
        heard = max(self._heard.get(symbol, 0), self._answered)
        return known_until(heard, self.now(), contract.sessions)

    def _known_of(self, series: Series) -> int:
        if not series.synced:
            return 0
        heard = max(self._heard.get(series.symbol, 0), self._answered)
        return known_until(heard, self.now(), series.sessions)

    async def _give(self) -> None:
        """Give what has closed, moment by moment, whenever something has come."""
        while True:
            await self._news.wait()
            self._news.clear()
            now = self.now()
            known = {series: self._known_of(series) for series in self._series.values()}
            settled = 0 if self._opening else min([now, *known.values()])
            closed = [
                (series.end(kline), series, kline)
                for series, until in known.items()
                for kline in series.take(until)
            ]
            closed.sort(key=lambda one: one[0])
            for end, group in groupby(closed, key=lambda one: one[0]):
                for _, series, kline in group:
                    self._streams.offer(Klines.of(series.symbol, series.timeframe, [kline]))
                if end <= settled:
                    await self._streams.settle(end)
            await self._streams.settle(settled // MINUTE_MS * MINUTE_MS)

    async def _follow_clock(self) -> None:
        """Outside the sessions nothing comes, and the clock goes on."""
        while True:
            await self._clock.sleep_until(self._minute() + MINUTE_MS)
            self._news.set()

    async def _doubt(self) -> None:
        """Ask about bars that nothing has closed ``grace`` after their minute."""
        while True:
            minute = self._minute()
            await self._clock.sleep_until(minute + self._grace)
            waiting = [one for one in self._series.values() if self._known_of(one) < minute]
            if waiting and self._up.is_set() and self._line is not None:
                await self._question(waiting[0].symbol)
            if self._up.is_set() and self._held > MAX_ROWS:
                await self._renew()
            await self._clock.sleep_until(minute + MINUTE_MS)

    async def _question(self, symbol: str) -> None:
        line = self._line
        try:
            await self._probe(instrument_of(symbol))
        except RequestTimeout as error:
            if line is self._line:
                self._on_line(False, str(error))
        except LiveTraderError as error:
            log.debug("tqsdk: %s", error)

    async def _probe(self, instrument: str) -> None:
        """Ask, and know by the answer that all has come that was sent before."""
        line, asked = await self._ready(), self.now()
        await self._within(line.probe(instrument))
        if line is self._line:
            self._answered = max(self._answered, asked - self._grace)
            self._news.set()

    # ---- the line

    def _new_line(self) -> Line:
        return Line(self._login, self._timeout, self._hear, self._on_ended)

    def _adopt(self, line: Line) -> None:
        self._line = line
        self._heard.clear()
        self._answered = 0
        self._held = 0
        for key in self._series:
            self._follow(key)
        for symbol in self._streams.wanted_ticks():
            self._follow_ticks(symbol)
        self._up.set()
        self._down.clear()

    async def _keep(self) -> None:
        """Replace the line whenever it was lost, or stays down."""
        while True:
            await self._down.wait()
            if self._line is not None:
                await first_of(self._up.wait(), timeout=self._reconnect_after)
            if not self._up.is_set():
                await self._replace()

    async def _replace(self) -> None:
        old, self._line = self._line, None
        if old is not None:
            await old.close()
        pause = self._reconnect_after
        while True:
            line = self._new_line()
            try:
                await line.start()
            except LiveTraderError as error:
                await line.close()
                self._why = str(error)
                log.warning("tqsdk: %s; next attempt in %g s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except asyncio.CancelledError:
                await line.close()
                raise
            else:
                break
        self._adopt(line)
        self._tell(FeedState.CONNECTED, "a new line to tqsdk")

    async def _renew(self) -> None:
        """A fresh TqApi in the place of one that holds too much, without a pause."""
        line = self._new_line()
        try:
            await line.start()
        except LiveTraderError as error:
            await line.close()
            log.warning("tqsdk: cannot free memory by a second line: %s", error)
            return
        except asyncio.CancelledError:
            await line.close()
            raise
        old = self._line
        self._adopt(line)
        if old is not None:
            await old.close()

    async def _ready(self) -> Line:
        """The line, once it is up. Raises NotConnected."""
        if not self._up.is_set() and self._tasks:
            await first_of(self._up.wait(), timeout=self._timeout)
        if self._line is None or not self._up.is_set():
            raise NotConnected(f"no line to tqsdk: {self._why}")
        return self._line

    async def _query(self, text: str, variables: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        line = await self._ready()
        entries: list[Mapping[str, Any]] = await self._within(line.query(text, variables))
        return entries

    async def _rows(self, key: tuple[str, int], width: int) -> Floats:
        line = await self._ready()
        rows: Floats = await self._within(line.rows(key, width))
        return rows

    async def _within(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await within(work, self._timeout, self._login.md_host)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task of the tq adapter ended on an error", exc_info=error)


# --------------------------------------------------------------------------- history


def _wanted(
    contract: Contract,
    timeframe: str,
    from_ts: int | None,
    limit: int | None,
    to_ts: int | None,
    now: int,
) -> int:
    """How many of the newest klines hold what is asked for."""
    length, sessions = duration_ms(timeframe), contract.sessions
    later = 0 if to_ts is None else bars_between(to_ts, now, length, sessions)
    wanted = []
    if limit is not None:
        wanted.append(limit + later + 2)
    if from_ts is not None:
        wanted.append(bars_between(from_ts, now, length, sessions) + 2)
    return min(wanted, default=WIDTHS[-1])


def _cut(klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None) -> Klines:
    times = klines.datetime
    first = 0 if from_ts is None else int(times.searchsorted(from_ts))
    last = len(times) if to_ts is None else int(times.searchsorted(to_ts))
    if limit is not None:
        first = max(first, last - limit)
    return klines[first : max(first, last)]


def _reaches(closed: Klines, found: Klines, from_ts: int | None, limit: int | None) -> bool:
    """Whether ``found`` would be the same if more klines were known before ``closed``."""
    if limit is not None and len(found) >= limit:
        return True
    return from_ts is not None and len(closed) > 0 and int(closed.datetime[0]) <= from_ts


def _refuse_reach(closed: Klines, found: Klines, from_ts: int | None, limit: int | None) -> None:
    """Raise InvalidRequest for what was asked for and is not to be had."""
    asked = [name for name, value in (("from_ts", from_ts), ("limit", limit)) if value is not None]
    if not asked or not len(closed):
        return
    raise InvalidRequest(
        f"{closed.symbol} {closed.timeframe}: {' and '.join(asked)} reaches back beyond the newest "
        f"{WIDTHS[-1]:,} klines, which are all that tqsdk gives; the oldest opens at "
        f"{int(closed.datetime[0])} (UTC ms). Ask for less, or keep klines with a CachedMarket"
    )


def _before(now: int, timeframe: str, contract: Contract) -> int:
    """The open (UTC ms) after which klines close later than ``now``."""
    if timeframe != "1d":
        return now - duration_ms(timeframe)
    sessions = contract.sessions
    return sessions.open_of(sessions.trading_date(now)) - 1
