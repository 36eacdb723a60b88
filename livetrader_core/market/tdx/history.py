"""Bars by pages, newest first, each page joined to the one before it.

Pages overlap by one bar. Where the overlap is missing (another host, which lags behind, answered)
it begins anew; and as there is a bar in every page but the first, an empty one is never believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from livetrader_core.errors import ProtocolError, Unavailable
from livetrader_core.market.aggregate import session_opens
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.codes import Code
from livetrader_core.market.tdx.labels import Labels
from livetrader_core.market.tdx.lines import Host, Lines
from livetrader_core.market.tdx.wire import MOST_BARS, Page, Request
from livetrader_core.models import Ints, Klines
from livetrader_core.sessions import Sessions

log = logging.getLogger(__name__)

_RESTARTS = 4
#: A first daily volume is nonsense if it is so many times the usual one.
_IMPLAUSIBLE = 50.0
#: Answers without bars in a row after which a symbol that never had any is taken to have none.
_BELIEVED = 4

#: Whether the bars gathered so far are enough.
Enough = Callable[[Klines], bool]


class _Disjoint(Exception):
    """A page does not meet the newer one."""


class Instrument:
    """What is needed to ask for the bars of one symbol and to read them."""

    def __init__(self, symbol: str, code: Code, sessions: Sessions, labels: Labels) -> None:
        self.symbol = symbol
        self.code = code
        self.sessions = sessions
        self.labels = labels
        #: Whether the venue ever gave bars of it, by timeframe.
        self.seen: set[str] = set()


class History:
    """Asks ``lines`` for bars. ``daily_lot`` is the unit of US daily volumes in shares."""

    def __init__(self, lines: Lines, now: Callable[[], int], daily_lot: int) -> None:
        self._lines = lines
        self._now = now
        self._daily_lot = daily_lot
        #: By setting: what is wrong with the way labels are read.
        self.doubts: dict[str, str] = {}

    async def fetch(
        self,
        instrument: Instrument,
        timeframe: str,
        enough: Enough,
        first: int = MOST_BARS,
        before: int | None = None,
    ) -> Klines:
        """Bars of ``timeframe`` (1m or 1d) from the newest back until ``enough`` or the first.

        The last one may still form. ``first`` is how many to ask for first. Bars that open at or
        after ``before`` (UTC ms) need not be among them. Raises Unavailable, ProtocolError.
        """
        for _ in range(_RESTARTS):
            try:
                start = 0
                if before is not None:
                    start = await self._place(instrument, timeframe, before)
                return await self._fetch(instrument, timeframe, enough, first, start, before)
            except _Disjoint:
                first, before = MOST_BARS, None
        raise Unavailable(
            f"{instrument.symbol}: the hosts' bars do not fit together; leave out those that lag"
        )

    async def _fetch(
        self,
        instrument: Instrument,
        timeframe: str,
        enough: Enough,
        first: int,
        start: int,
        before: int | None,
    ) -> Klines:
        parts: list[Klines] = []
        size = min(first, MOST_BARS)
        while True:
            page = await self._page(instrument, timeframe, start, size)
            if start and not parts and before is not None:
                _check_reaches(page, before)
            older = _older(page, parts[0]) if parts else page
            if not len(older):
                break
            if parts and timeframe == "1d":
                # The oldest bar of an answer can be wrong: the next answer has it once more.
                parts[0] = Klines.concat([page[len(older) : len(older) + 1], parts[0][1:]])
            parts.insert(0, older)
            if enough(Klines.concat(parts) if len(parts) > 1 else older):
                break
            start += len(page) - 1
            size = MOST_BARS
        if not parts:
            return Klines.empty(instrument.symbol, timeframe)
        return _without_nonsense(Klines.concat(parts), instrument)

    async def _place(self, instrument: Instrument, timeframe: str, before: int) -> int:
        """How many of the newest bars can be passed over: all open at or after ``before``."""
        near, far = 0, 2 * MOST_BARS
        while await self._opens_after(instrument, timeframe, far, before):
            near, far = far, 2 * far
        while far - near > MOST_BARS:
            middle = (near + far) // 2
            if await self._opens_after(instrument, timeframe, middle, before):
                near = middle
            else:
                far = middle
        return near

    async def _opens_after(
        self, instrument: Instrument, timeframe: str, start: int, before: int
    ) -> bool:
        """Whether there is a bar number ``start``, and it opens at or after ``before``."""
        page, host = await self._lines.call(_request(instrument, timeframe, start, 1))
        if not len(page):
            return False
        return bool(self._read(instrument, timeframe, page, host).datetime.max(initial=0) >= before)

    async def _page(self, instrument: Instrument, timeframe: str, start: int, size: int) -> Klines:
        request = _request(instrument, timeframe, start, size)
        for _ in range(_BELIEVED):
            page, host = await self._lines.call(request)
            if len(page):
                self._lines.gave(host, len(page))
                instrument.seen.add(timeframe)
                return self._read(instrument, timeframe, page, host)
            if start or timeframe in instrument.seen:
                self._lines.doubt(host, f"{host.address}: no bars of {instrument.symbol}")
        if start or timeframe in instrument.seen:
            raise Unavailable(f"{instrument.symbol}: {host.address} answers without bars")
        return Klines.empty(instrument.symbol, timeframe)

    def _read(self, instrument: Instrument, timeframe: str, page: Page, host: Host) -> Klines:
        columns = [*page.prices, page.volume, page.open_interest]
        if instrument.labels.market in ("US", "HK"):
            columns[5] = np.zeros(len(page))  # turnover, read as whole numbers
        days = None
        if timeframe == "1d":
            days = page.day
            opens = session_opens(days, instrument.sessions)
            if instrument.labels.market == "US":
                columns[4] = page.volume * self._daily_lot
        else:
            opens = instrument.labels.opens(page.day, page.minute)
            self._check(instrument, page, opens, host)
        if np.any(opens[1:] < opens[:-1]):
            raise ProtocolError(f"{host.address}: {instrument.symbol} has bars out of order")
        kept = np.r_[opens[1:] != opens[:-1], True]  # of a bar that is given twice, the later one
        kept &= (page.prices[0] > 0) & (page.prices[2] > 0)
        return Klines.from_columns(
            instrument.symbol,
            timeframe,
            opens[kept],
            [column[kept] for column in columns],
            trading_day=None if days is None else days[kept],
        )

    def _check(self, instrument: Instrument, page: Page, opens: Ints, host: Host) -> None:
        """Warn, once, where labels read by the setting give times that cannot be."""
        labels = instrument.labels
        doubt = labels.doubt(opens, page.day, page.minute, instrument.sessions, self._now())
        if not doubt:
            self.doubts.pop(labels.setting, None)
        elif labels.setting not in self.doubts:
            self.doubts[labels.setting] = f"{host.address} gives {instrument.symbol} {doubt}"
            log.warning("%s", self.doubts[labels.setting])


def _request(instrument: Instrument, timeframe: str, start: int, size: int) -> Request[Page]:
    category = wire.DAILY if timeframe == "1d" else wire.ONE_MINUTE
    return wire.bars(category, instrument.code.market, instrument.code.code, start, size)


def _check_reaches(page: Klines, before: int) -> None:
    """Raise _Disjoint if bars between ``page`` and ``before`` may have been passed over."""
    if not len(page) or page.datetime[-1] < before:
        raise _Disjoint


def _older(page: Klines, newer: Klines) -> Klines:
    """The part of ``page`` before ``newer``. Raises _Disjoint if they don't meet."""
    if not len(page) or page.datetime[-1] < newer.datetime[0]:
        raise _Disjoint
    return page[: int(np.searchsorted(page.datetime, newer.datetime[0]))]


def _without_nonsense(klines: Klines, instrument: Instrument) -> Klines:
    """Without a first US daily bar whose volume cannot be: an answer's oldest may carry such."""
    if klines.timeframe != "1d" or instrument.labels.market != "US" or len(klines) < 3:
        return klines
    usual = float(np.median(klines.volume[1:]))
    return klines[1:] if klines.volume[0] > _IMPLAUSIBLE * max(usual, 1.0) else klines
