"""Asking for what is new: bars at every minute of the venue's clock, quotes every so often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livetrader_core.clock import Clock
from livetrader_core.errors import LiveTraderError, ProtocolError, Unavailable
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.streams import Key, Streams
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.history import History, Instrument
from livetrader_core.market.tdx.lines import Lines
from livetrader_core.models import Klines, Tick
from livetrader_core.timeframe import MINUTE_MS, duration_ms

log = logging.getLogger(__name__)

#: Bars asked for beyond those that can be new: the one that forms, and the last known.
MARGIN = 3
#: Outside the session a symbol is asked for this seldom.
_IDLE_MS = 15 * MINUTE_MS
#: A host that gives nothing new for so long, while the market is open, is compared with others.
_STUCK_MS = 10 * MINUTE_MS
#: After so many failed rounds a symbol no longer holds the others' clock back.
_PATIENCE = 3


@dataclass(frozen=True)
class VenueTime:
    """The venue's clock, how late its quotes come and when a minute is taken for final."""

    clock: Clock
    delay_ms: int
    grace_ms: int

    def quoted(self) -> int:
        """The moment (UTC ms) that quotes of now are of."""
        return self.clock.now() - self.delay_ms

    def complete(self) -> int:
        """The moment (UTC ms) up to which the venue's bars are final."""
        return (self.quoted() - self.grace_ms) // MINUTE_MS * MINUTE_MS

    async def sleep_until_complete(self, moment: int) -> None:
        """Return once bars that close at ``moment`` (UTC ms) are final."""
        await self.clock.sleep_until(moment + self.delay_ms + self.grace_ms)


class Polling:
    """Offers to ``streams`` the bars that are watched, each once it is closed."""

    def __init__(
        self,
        streams: Streams,
        lines: Lines,
        history: History,
        instrument: Callable[[str], Instrument],
        time: VenueTime,
    ) -> None:
        self._streams = streams
        self._lines = lines
        self._history = history
        self._instrument = instrument
        self._time = time
        #: By stream: every bar that closes at or before this moment was offered.
        self._reached: dict[Key, int] = {}
        self._failed: dict[Key, int] = {}
        self._moved = time.complete()

    async def run(self) -> None:
        """Ask for what is new at every minute of the venue's clock."""
        while True:
            complete = self._time.complete()
            if not await self._round(complete):
                await self._wait_for_line()
                continue
            await self._time.sleep_until_complete(complete + MINUTE_MS)

    async def _wait_for_line(self) -> None:
        await asyncio.sleep(min(self._lines.limits.backoff, 1.0))
        await self._lines.wait(self._lines.limits.backoff_most)

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
        if not due or len(self._lines.hosts) == 1:
            self._moved = complete
        elif complete - self._moved >= _STUCK_MS:
            self._moved = complete
            self._lines.rank_anew("it gave no new bars")

    def _excuse(self, key: Key, error: LiveTraderError) -> bool:
        """Whether ``key`` failed so often, while the line stood, that the others go on without."""
        if not self._lines.standing:
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
        first = passed // duration_ms(base) + MARGIN
        klines = await self._history.fetch(
            instrument, base, lambda klines: bool(klines.datetime[0] <= back_to), first
        )
        if timeframe not in ("1m", "1d"):
            klines = klines[int(np.searchsorted(klines.datetime, back_to)) :]
            klines = aggregate(klines, timeframe, instrument.sessions)
        ends = instrument.sessions.kline_ends(klines.datetime, timeframe)
        return klines[: int(np.searchsorted(ends, complete, side="right"))]


class TickPolling:
    """Offers to ``streams`` the quotes that are watched and changed, asked every ``every_ms``."""

    def __init__(
        self,
        streams: Streams,
        lines: Lines,
        instrument: Callable[[str], Instrument],
        time: VenueTime,
        every_ms: int,
    ) -> None:
        self._streams = streams
        self._lines = lines
        self._instrument = instrument
        self._time = time
        self._every_ms = every_ms
        self._quotes: dict[str, wire.Quote] = {}

    async def run(self) -> None:
        """Ask for the quotes of the symbols whose ticks are watched."""
        while True:
            await self._time.clock.sleep_until(self._time.clock.now() + self._every_ms)
            for symbol in self._streams.wanted_ticks():
                try:
                    await self._ask_tick(self._instrument(symbol))
                except (Unavailable, ProtocolError) as error:
                    log.info("no quote of %s: %s", symbol, error)

    async def _ask_tick(self, instrument: Instrument) -> None:
        code = instrument.code
        moment = self._time.quoted()
        quote, _ = await self._lines.call(wire.quote(code.market, code.code))
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
