"""Bars of the terminal's history, page by page, by UTC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from livetrader_core.errors import LiveTraderError, ProtocolError, Unavailable
from livetrader_core.market.metatrader.bars import ASKED, open_start, to_klines
from livetrader_core.market.metatrader.servertime import ServerTime
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.heard import HeardBars
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Argument, read_bars
from livetrader_core.market.mt4.refusal import RETRY, refusal_of
from livetrader_core.models import Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import DAY_MS, duration_ms

#: Bars of one reply, at most; and how long a stretch is gone back at once, in bars.
_PAGE = 500
_STEP = 20_000
#: A stretch without a single bar that is longer than this is taken for the history's beginning.
_LONGEST_HOLE_MS = 56 * DAY_MS
_TRIES = 10
#: Asked beyond now, so that a wrong `time_zone` shows itself instead of hiding the newest bars.
_AHEAD_MS = DAY_MS


class History:
    """Asks one expert advisor for bars. ``line`` gives the connection, or raises NotConnected.

    ``pause``: seconds until it is asked again while the terminal loads.
    """

    def __init__(
        self,
        line: Callable[[], Line],
        zone: ServerTime,
        code: Callable[[str], str],
        sessions: Callable[[str], Sessions],
        heard: HeardBars,
        pause: float,
    ) -> None:
        self._line = line
        self._zone = zone
        self._code = code
        self._sessions = sessions
        self._heard = heard
        self._pause = pause

    async def before(
        self, symbol: str, base: str, end: int, start: int | None, count: int | None
    ) -> Klines:
        """Bars that open up to ``end``: back to ``start``, or at least ``count``, or all.

        Bars beyond ``count`` may be among them. Raises Unavailable.
        """
        length = duration_ms(base)
        step = usual = _STEP * length
        if count is not None and count < _STEP:
            step = end - open_start(self._sessions(symbol), end, count * length)
        parts: list[Klines] = []
        until, have, hole = end + 1, 0, 0
        while True:
            begin = until - step if start is None else max(start, until - step)
            part = await self._between(symbol, base, begin, until)
            if len(part):
                parts.append(part)
                have, hole, step = have + len(part), 0, usual
            else:
                hole += until - begin
                step = min(2 * step, _LONGEST_HOLE_MS)
            until = begin
            if begin == start or (count is not None and have >= count):
                break
            if hole >= _LONGEST_HOLE_MS:
                break
        return Klines.concat(parts[::-1]) if parts else Klines.empty(symbol, base)

    async def since(self, symbol: str, base: str, need: int, closing: int, now: int) -> Klines:
        """Every bar that opens from ``need`` on; from what was published, if nothing lacks there.

        Raises Unavailable.
        """
        heard = self._heard.between(symbol, need, closing) if base == "1m" else None
        if heard is not None:
            return heard
        return await self._between(symbol, base, need, now + _AHEAD_MS)

    async def _between(self, symbol: str, base: str, start: int, end: int) -> Klines:
        """Bars that open in [``start``, ``end``)."""
        first = self._zone.to_server(start) // 1000
        last = -(-self._zone.to_server(end) // 1000)
        parts = [Klines.empty(symbol, base)]
        ask: int = max(0, first)
        while ask < last:
            page, beyond = await self._page(symbol, base, ask, last)
            if len(page):
                parts.append(page)
            if not beyond:
                break
            ask = beyond
        found = Klines.concat(parts)
        # An hour that the server's clock passes twice belongs to one stretch only.
        low, high = np.searchsorted(found.datetime, [start, end])
        return found[int(low) : int(high)]

    async def _page(self, symbol: str, base: str, start: int, end: int) -> tuple[Klines, int]:
        """Bars from ``start`` on (server seconds), and from where to go on; 0: that was all."""
        code, minutes = self._code(symbol), ASKED[base]
        body = await self._ask("bars", code, minutes, start, end, _PAGE)
        if fields.text(body, "symbol") != code or fields.integer(body, "minutes") != minutes:
            raise ProtocolError(f"symbol: {code} of {minutes} minutes was asked for: {body!r:.120}")
        bars = read_bars(fields.items(body, "bars", _PAGE))
        beyond = fields.integer(body, "next")
        if beyond and beyond <= start:
            raise ProtocolError(f"next: goes back to {beyond} from {start}")
        if len(bars) and not start * 1000 <= bars.server[0] <= bars.server[-1] < end * 1000:
            raise ProtocolError(f"bars: {code}: some lie outside of what was asked for")
        return to_klines(symbol, base, bars.server, bars.columns, self._zone), beyond

    async def _ask(self, method: str, code: str, *args: Argument) -> dict[str, object]:
        """The answer, once the terminal has loaded its history."""
        for _ in range(_TRIES):
            try:
                return await self._line().request(method, code, *args)
            except LiveTraderError as error:
                refusal = refusal_of(error)
                if refusal is None or refusal.code != RETRY:
                    raise
            await asyncio.sleep(self._pause)
        raise Unavailable(
            f"{code}: the terminal still loads its history; open a chart of it in MetaTrader, and "
            "ask again"
        )
