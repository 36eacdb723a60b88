"""DwxMarket: forex quotes of a MetaTrader 4 terminal with the DWX expert advisor v2.0.1."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

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
from livetrader_core.market.base import MarketBase
from livetrader_core.market.dwx import settings
from livetrader_core.market.dwx.bars import base_of, gather, opening
from livetrader_core.market.dwx.history import History
from livetrader_core.market.dwx.hub import Hub, User, hub_of
from livetrader_core.market.dwx.lag import FeedLag
from livetrader_core.market.dwx.line import Address, Line
from livetrader_core.market.dwx.messages import (
    ACCOUNT_INFO,
    Quote,
    account_time,
    answers,
    read_publication,
)
from livetrader_core.market.dwx.servertime import EET_US, server_time
from livetrader_core.market.dwx.tracking import Kind, Tracking
from livetrader_core.market.dwx.updater import Updater
from livetrader_core.market.dwx.zonecheck import ZoneCheck
from livetrader_core.market.finding import Finding, Verdict, clock_finding
from livetrader_core.market.specs import default_contract
from livetrader_core.market.streams import Streams
from livetrader_core.models import Contract, FeedState, Kline, Klines, Tick, market_of
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import duration_ms

log = logging.getLogger(__name__)

_LATE_TICKS = 2.0


class DwxMarket(MarketBase):
    """Klines and ticks of a MetaTrader 4 terminal, through the published DWX v2.0.1 advisor.

    ``host`` and the three ports are those of the expert advisor; the ports are named from this
    side: ``push_port`` takes commands (its PULL_PORT's peer, 32768), ``pull_port`` gives replies,
    ``sub_port`` ticks. It has no password and no encryption: reach it over loopback, a tunnel or
    a private network only. One client at a time: it deals its replies out to all who connect; a
    DwxTrade in the same event loop, with the same host and ports, uses the same connection.

    ``time_zone`` is that of the broker's server, which the protocol does not tell: ``EET-US``
    (UTC+2, in summer +3, changing with New York, so that the New York close is midnight),
    ``EET-EU`` (changing with Europe), a fixed ``UTC+2``, or an IANA name. It is checked against
    the terminal's clock; a doubt is a warning that names this setting.

    ``symbols`` is what :meth:`list_symbols` gives, for the advisor can't list them; others may be
    used too, and are looked up when they are. ``suffix`` is what the broker writes behind a code
    (``EURUSD.m``). ``markets`` are the MARKETs that this terminal serves.

    ``timeout``: seconds an answer may take; ``connect_timeout``: seconds connecting may;
    ``retry`` and ``longest_retry``: seconds between attempts to come back, doubling;
    ``heartbeat``: seconds of silence after which the advisor is asked whether it lives.
    ``chunk``: bars asked for at once. ``late_ticks``: seconds after a bar's end in which the
    broker may still send ticks of it, if no later bar shows that it is over (by default 2, and 0
    with a ``clock`` of a simulated venue). Times are the computer's but for ``late_ticks``.

    Volumes are tick counts. Klines above ``1h`` are made from hours, so that they begin where
    those of other venues do and not at the server's midnight. MetaTrader has no bar for a minute
    without a tick. Raises ConfigError naming the setting at fault.
    """

    clocked = True

    def __init__(
        self,
        host: str = "127.0.0.1",
        push_port: int = 32768,
        pull_port: int = 32769,
        sub_port: int = 32770,
        time_zone: str = EET_US,
        symbols: Sequence[str] = (),
        suffix: str = "",
        markets: Sequence[str] = ("FOREX",),
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        retry: float = 1.0,
        longest_retry: float = 30.0,
        heartbeat: float = 5.0,
        chunk: int = 5000,
        late_ticks: float | None = None,
        clock: Clock | str | None = None,
    ) -> None:
        ports = {"push_port": push_port, "pull_port": pull_port, "sub_port": sub_port}
        self._address = Address(
            settings.host(host), *(settings.port(*item) for item in ports.items())
        )
        self._zone = server_time(time_zone)
        self.markets = settings.markets(markets)
        self._suffix = settings.suffix(suffix)
        self._listed = self._checked_list(symbols)
        self._timeout = settings.seconds("timeout", timeout)
        self._hello = settings.seconds("connect_timeout", connect_timeout)
        self._retry = settings.seconds("retry", retry)
        self._longest_retry = max(self._retry, settings.seconds("longest_retry", longest_retry))
        self._heartbeat = settings.seconds("heartbeat", heartbeat)
        self._clock = parse_clock(clock)
        if late_ticks is None:
            late_ticks = _LATE_TICKS if isinstance(self._clock, SystemClock) else 0.0
        late_ms = round(1000 * settings.seconds("late_ticks", late_ticks, 0.0, 5.0))
        if isinstance(chunk, bool) or not isinstance(chunk, int) or not 10 <= chunk <= 100_000:
            raise ConfigError(f"chunk: must be a number of bars from 10 to 100000, not {chunk!r}")
        self._history = History(
            self._working, self._zone, self._code, self._sessions, chunk, self._retry
        )
        self._streams = Streams()
        self._check = ZoneCheck(self._zone, str(self._address))
        # A simulated venue has our clock.
        real = isinstance(self._clock, SystemClock)
        self._lag = FeedLag(str(self._address)) if real else None
        self._tells_time = False
        self._updater = Updater(
            self._streams,
            self._history,
            self._check,
            self._sessions,
            self._zone.grain,
            late_ms,
            self._lag,
            self._clock,
        )
        self._hub: Hub | None = None
        self._user = User(self._on_publication, self._on_lost)
        self._line: Line | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._state: tuple[FeedState, str] | None = None
        self._confirmed: set[str] = set()
        self._tracking = Tracking(self._code)

    # ---- life

    async def connect(self) -> None:
        """Reach the expert advisor. Raises Unavailable, also while it refuses to run commands."""
        if self._task is not None:
            return
        self._hub = hub_of(self._address)
        self._hub.join(self._user)
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

    async def _leave(self) -> None:
        self._line = None
        hub, self._hub = self._hub, None
        if hub is not None:
            await hub.leave(self._user)

    def _on_lost(self) -> None:
        self._wake.set()

    async def _open(self) -> None:
        """A new line, with the lists of what is to be published on it."""
        assert self._hub is not None
        line = self._line = await self._hub.line(self._timeout, self._hello)
        self._tracking.begin(line)
        await self._check_clock(line)
        await self._tracking.update(line)

    def _working(self) -> Line:
        """The line. Raises NotConnected."""
        line = self._line
        if line is None:
            raise NotConnected(f"{self._address}: not connected; call connect() first")
        if line.lost is not None:
            raise NotConnected(str(line.lost))
        return line

    async def _run(self) -> None:
        """Keep the line and the streams going until cancelled."""
        pause = self._retry
        while True:
            self._wake.clear()
            try:
                if self._line is None or self._line.lost is not None:
                    self._say(FeedState.DISCONNECTED, _why(self._line))
                    await self._open()
                now = await self._round(self._working())
            except LiveTraderError as error:
                self._say(FeedState.DISCONNECTED, str(error))
            except Exception as error:  # a stream that stops without a word would be worse
                log.exception("%s: the streams could not be brought up to date", self._address)
                self._say(FeedState.DISCONNECTED, f"{type(error).__name__}: {error}")
            else:
                pause = self._retry
                self._say(FeedState.CONNECTED)
                await self._until_due(self._working_or_none(), now)
                continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._longest_retry)

    def _working_or_none(self) -> Line | None:
        return None if self._line is None or self._line.lost is not None else self._line

    async def _until_due(self, line: Line | None, now: int) -> None:
        """Wait for what comes due after ``now``, or for a sign that there is something to do."""
        if line is None:
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
                await line.heartbeat()
            except LiveTraderError:
                return  # the next round sees the lost line, and says so

    async def _round(self, line: Line) -> int:
        """Bring everything up to date; returns for which moment (UTC ms)."""
        await self._tracking.update(line)
        now = self._clock.now()
        if self._check.due(now):
            await self._check_clock(line)
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

    async def _check_clock(self, line: Line) -> None:
        """Compare the terminal's clock with ours, where the build tells it."""
        self._check.asked(self._clock.now())
        self._tells_time = False
        if not line.empty_frames:
            return  # those builds know no GET_ACCOUNT_INFO, and don't answer what they don't know
        reply = await line.request(ACCOUNT_INFO, answers("GET_ACCOUNT_INFORMATION"))
        if reply is None:
            return
        self._tells_time = True
        try:
            self._check.account(account_time(reply), self._clock.now())
        except ProtocolError as error:
            log.warning("%s: the account's clock can't be read: %s", self._address, error)

    async def diagnose(self) -> list[Finding]:
        """The advisor's answer, its build, whether ``time_zone`` fits, how late quotes come."""
        line = self._working_or_none()
        if line is None:
            return []  # why is told by connect()
        try:
            took = await line.heartbeat()
            await self._check_clock(line)
        except LiveTraderError as error:
            return [Finding("expert advisor", Verdict.FAILED, str(error), "see its Experts tab")]
        build = "tells" if self._tells_time else "a build that does not tell"
        told = f"answers in {1000 * took:.0f} ms; {build} the account's clock"
        found = [Finding("expert advisor", Verdict.OK, told), self._check.finding()]
        if self._lag is not None and self._lag.ms:
            found.append(clock_finding(self._lag.ms, "the terminal's newest quote"))
        return found

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
        end = now if to_ts is None else min(to_ts - 1, now)
        if from_ts is not None and from_ts > end:
            return Klines.empty(symbol, timeframe)
        # The last kline may go on after ``end``; the first one may be cut and is left out then.
        until = min(sessions.kline_end(opening(sessions, timeframe, end), timeframe) - 1, now)
        count = None if limit is None else (limit + 2) * max(1, duration // duration_ms(base))
        bars = await self._history.before(symbol, base, until, from_ts, count)
        klines, closed = gather(bars, timeframe, sessions, now, self._updater.late_ms)
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

    async def get_contract(self, symbol: str) -> Contract:
        """The usual contract of ``symbol``, which the advisor does not tell; a lot is 100,000.

        The terminal is asked whether it has the symbol, once. Raises UnknownSymbol, Unavailable.
        """
        contract = default_contract(self._checked(symbol))
        if symbol not in self._confirmed:
            await self._confirm(symbol)
        return contract

    async def list_symbols(self) -> list[str]:
        """The ``symbols`` of the settings, and others that were used; the advisor has no list."""
        return sorted({*self._listed, *self._confirmed})

    async def _confirm(self, symbol: str) -> None:
        """Have the terminal select ``symbol``, which it must before it loads its history."""
        await self._tracking.look_up(symbol, self._working())
        self._wake.set()  # the next round puts the list right
        self._confirmed.add(symbol)

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """Closed klines from now on, each read from the terminal's history once it is over.

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

        The advisor sends them when its chart's symbol moves, and every half second: quotes of
        other symbols are only sampled. Raises UnknownSymbol.
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
        self._tracking.add(kind, symbol, self._working_or_none())
        self._wake.set()
        try:
            if symbol not in self._confirmed:
                yield await self._first(symbol, items)
            async for item in items:
                yield item
        finally:
            self._tracking.remove(kind, symbol, self._working_or_none())
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

    def _on_publication(self, frame: bytes) -> None:
        try:
            sign = read_publication(frame)
        except ProtocolError as error:
            log.debug("%s: %s", self._address, error)
            return
        now = self._clock.now()
        if isinstance(sign, Quote):
            for symbol in self._tracking.watched("prices"):
                if self._code(symbol) == sign.symbol:
                    self._streams.offer_tick(Tick(symbol, now, bid=sign.bid, ask=sign.ask))
            return
        for symbol in self._tracking.watched("rates"):
            if self._code(symbol) == sign.symbol and self._updater.sign(
                symbol, self._zone.moment(sign.server), now
            ):
                self._check.sign(sign.server, now)
                self._wake.set()

    # ---- symbols

    def _checked(self, symbol: str) -> str:
        """``symbol``, if it is one of these markets and can be written. Raises UnknownSymbol."""
        market = market_of(symbol)
        if market not in self.markets:
            raise UnknownSymbol(f"{symbol}: this terminal serves {', '.join(self.markets)}")
        default_contract(symbol)
        return symbol

    def _checked_list(self, symbols: Sequence[str]) -> list[str]:
        try:
            return sorted({self._checked(symbol) for symbol in settings.names("symbols", symbols)})
        except UnknownSymbol as error:
            raise ConfigError(f"symbols: {error}") from None

    def _sessions(self, symbol: str) -> Sessions:
        return default_contract(symbol).sessions

    def _code(self, symbol: str) -> str:
        return symbol[len(market_of(symbol)) + 1 :] + self._suffix


def _why(line: Line | None) -> str:
    return "" if line is None else str(line.lost)
