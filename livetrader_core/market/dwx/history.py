"""Bars of the terminal's history, in chunks, by UTC.

`HIST` has two traps. NOT_AVAILABLE can mean that there are no bars or that the terminal has not
loaded them yet, and costs the expert advisor two seconds; and a reply does not say which request
it answers. Both are avoided by asking from a bar on, or up to a bar, that is known to be there:
the answer then always has bars, and must begin or end with that one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from livetrader_core.errors import Unavailable
from livetrader_core.market.dwx.line import Line
from livetrader_core.market.dwx.messages import Bars, history, is_history, read_bars
from livetrader_core.market.dwx.replies import Reply
from livetrader_core.market.metatrader.bars import ASKED, open_start, to_klines
from livetrader_core.market.metatrader.servertime import ServerTime
from livetrader_core.models import Ints, Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import DAY_MS, duration_ms

log = logging.getLogger(__name__)

#: A stretch without a single bar that is longer than this is taken for the history's beginning.
_LONGEST_HOLE_MS = 56 * DAY_MS
_TRIES = 4
#: Bars remembered of each stream, from which a request can begin.
_REMEMBERED = 64
_BEGINNINGS = 4
#: Asked beyond now, so that a wrong `time_zone` shows itself instead of hiding the newest bars.
_AHEAD_MS = DAY_MS


class History:
    """Asks one expert advisor for bars. ``line`` gives the connection, or raises NotConnected."""

    def __init__(
        self,
        line: Callable[[], Line],
        zone: ServerTime,
        code: Callable[[str], str],
        sessions: Callable[[str], Sessions],
        chunk: int,
        pause: float,
    ) -> None:
        self._line = line
        self._zone = zone
        self._code = code
        self._sessions = sessions
        self._chunk = chunk
        self._pause = pause
        self._known: dict[tuple[str, str], Ints] = {}
        self._turn = 0

    # ---- ranges

    async def before(
        self,
        symbol: str,
        base: str,
        end: int,
        start: int | None,
        count: int | None,
    ) -> Klines:
        """Bars that open up to ``end``: back to ``start``, or at least ``count``, or all.

        Bars before ``start`` or beyond ``count`` may be among them. Raises Unavailable.
        """
        length = duration_ms(base)
        span = self._chunk * length
        reach = end - span if start is None else max(start, end - span)
        if count is not None:
            reach = max(
                reach, open_start(self._sessions(symbol), end, min(count, self._chunk) * length)
            )
        newest = await self._newest(symbol, base, reach, end)
        if newest is None:
            return Klines.empty(symbol, base)
        parts, have, hole = [newest], len(newest), span
        while (start is None or int(parts[-1].datetime[0]) > start) and not (
            count is not None and have >= count
        ):
            oldest = int(parts[-1].datetime[0])
            # What was looked at so far may reach beyond the oldest bar; look twice as far.
            reach = oldest - hole if start is None else max(start, oldest - hole)
            older = await self._until(symbol, base, reach, oldest)
            if len(older):
                parts.append(older)
                have, hole = have + len(older), span
            elif reach == start or hole >= _LONGEST_HOLE_MS:
                break
            else:
                hole = min(2 * hole, _LONGEST_HOLE_MS)
        return Klines.concat(parts[::-1])

    async def since(
        self, symbol: str, base: str, need: int, closing: int, now: int
    ) -> Klines | None:
        """Bars from ``need`` on, and some before; None if the terminal has none at all.

        Raises Unavailable.
        """
        bars = await self._from_known(symbol, base, need, now)
        if not len(bars):
            return None
        known = self._known.get((symbol, base), bars.datetime[:0])
        recent = bars.datetime[bars.datetime <= now]
        self._known[symbol, base] = np.union1d(known, recent)[-_REMEMBERED:]
        return bars

    async def _from_known(self, symbol: str, base: str, need: int, now: int) -> Klines:
        known = self._known.get((symbol, base), np.empty(0, np.int64))
        beginnings = known[known <= need][-_BEGINNINGS:]
        if not len(beginnings):
            start = need - _REMEMBERED * duration_ms(base)
            return await self.before(symbol, base, now, start, None)
        # Another one each time, so that an answer tells which request it belongs to.
        self._turn += 1
        anchor = int(beginnings[self._turn % len(beginnings)])
        try:
            return await self.after(symbol, base, anchor, now)
        except MissingBar:
            del self._known[symbol, base]
            raise

    async def after(self, symbol: str, base: str, anchor: int, end: int) -> Klines:
        """Every bar that opens from ``anchor``, a bar that is known, up to ``end`` and beyond.

        Raises Unavailable if the terminal does not give that bar any more.
        """
        span = step = self._chunk * duration_ms(base)
        parts: list[Klines] = []
        while True:
            until = anchor + step if anchor + step < end else end + _AHEAD_MS
            part = await self._anchored(symbol, base, anchor, until, first=anchor)
            parts.append(part[1:] if parts else part)
            if until > end:
                return Klines.concat(parts)
            last = int(part.datetime[-1])
            step = span if last > anchor else 2 * step
            anchor = last

    async def _newest(self, symbol: str, base: str, start: int, end: int) -> Klines | None:
        """Bars from ``start`` to ``end``, or the nearest before; None if there are none at all."""
        span = max(end - start, duration_ms(base))
        tries = 0
        while True:
            klines = await self._ask(symbol, base, end - span, end)
            if klines is not None:
                return klines
            # An answer that holds nothing can't be told from an older one's.
            await self._line().heartbeat()
            tries += 1
            if span >= _LONGEST_HOLE_MS:
                if tries >= _TRIES:
                    return None
                await asyncio.sleep(self._pause)
            span = min(max(2 * span, span + DAY_MS), _LONGEST_HOLE_MS)

    async def _until(self, symbol: str, base: str, start: int, last: int) -> Klines:
        """Bars from ``start`` up to ``last``, a bar that is known and is left out of them."""
        found = await self._anchored(symbol, base, start, last, last=last)
        return found[:-1]

    async def _anchored(
        self,
        symbol: str,
        base: str,
        start: int,
        end: int,
        first: int | None = None,
        last: int | None = None,
    ) -> Klines:
        """Bars of a range of which the first or the last is known."""
        for _ in range(_TRIES):
            klines = await self._ask(symbol, base, start, end, first, last)
            if klines is not None:
                return klines
            await self._line().heartbeat()
            await asyncio.sleep(self._pause)
        raise MissingBar(
            f"{symbol}: the terminal says that it has no {base} bars where it gave some before; "
            "open a chart of it in MetaTrader, so that its history is kept loaded"
        )

    # ---- one request

    async def _ask(
        self,
        symbol: str,
        base: str,
        start: int,
        end: int,
        first: int | None = None,
        last: int | None = None,
    ) -> Klines | None:
        code, period = self._code(symbol), ASKED[base]
        to_server = self._zone.to_server
        begin, until = to_server(start), to_server(end)
        command = history(code, period, begin, until)
        # Seconds are all that the command can carry.
        earliest, latest = begin // 1000 * 1000, until // 1000 * 1000

        found: list[Bars | None] = []

        def accept(reply: Reply) -> bool:
            if not is_history(reply, code, period, earliest, latest):
                return False
            bars = read_bars(reply)
            if bars is not None and not (
                (first is None or bars.server[0] == to_server(first))
                and (last is None or bars.server[-1] == to_server(last))
            ):
                return False
            found.append(bars)
            return True

        line = self._line()
        reply = await line.request(command, accept)
        if reply is not None and "_symbol" not in reply and not await _alone(line):
            return None
        bars = found[0] if found else None
        return (
            None if bars is None else to_klines(symbol, base, bars.server, bars.columns, self._zone)
        )


class MissingBar(Unavailable):
    """The terminal does not give a bar that it gave before."""


async def _alone(line: Line) -> bool:
    """Whether the answer that just came was the only one.

    The earliest builds don't name the symbol in it. If it belonged to an older request, the right
    one comes before the answer to what is asked now.
    """
    strays = line.strays
    await line.heartbeat()
    return line.strays == strays
