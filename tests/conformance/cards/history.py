"""History: by count and by time, closed and forming klines, every timeframe."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import numpy as np

from livetrader_core.models import Klines
from livetrader_core.sessions import Sessions
from livetrader_core.timeframe import DAY_MS, MINUTE_MS
from tests.conformance.cards import card
from tests.conformance.hand import assert_same, between, closed, history, recorded, steps
from tests.conformance.rig import Rig

HOUR_MS = 60 * MINUTE_MS


@card("M10")
async def by_count(rig: Rig) -> None:
    for symbol in rig.symbols():
        for limit in (1, 2, 100, 1000):
            got = await history(rig, symbol, limit=limit)
            assert_same(got, closed(rig, symbol)[-limit:], rig)


@card("M11")
async def by_time(rig: Rig) -> None:
    for symbol in rig.symbols():
        klines = closed(rig, symbol)
        first, last = int(klines.datetime[-300]), int(klines.datetime[-100])
        assert_same(await history(rig, symbol, first, None, last), klines[-300:-100], rig)
        assert_same(await history(rig, symbol, first, None, last + 1), klines[-300:-99], rig)
        assert_same(await history(rig, symbol, first + 1, None, last), klines[-299:-100], rig)
        assert_same(await history(rig, symbol, last), klines[-100:], rig)


@card("M12")
async def newest_of_a_range(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    klines = closed(rig, symbol)
    first, last = int(klines.datetime[-400]), int(klines.datetime[-200])
    assert_same(await history(rig, symbol, None, 7, last), klines[-207:-200], rig)
    assert_same(await history(rig, symbol, first, 7, last), klines[-207:-200], rig)
    assert_same(await history(rig, symbol, first, 7), klines[-7:], rig)
    assert_same(await history(rig, symbol, first, 500, last), klines[-400:-200], rig)


@card("M13")
async def nothing_there(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    klines = closed(rig, symbol)
    gap = int(np.argmax(np.diff(klines.datetime)))  # the longest: a weekend
    from_ts, to_ts = int(klines.datetime[gap]) + 1, int(klines.datetime[gap + 1])
    for bounds in ((from_ts, None, to_ts), (from_ts, 10, to_ts), (from_ts, None, from_ts)):
        got = await history(rig, symbol, *bounds)
        assert (got.symbol, got.timeframe, len(got)) == (symbol, "1m", 0)


@card("M14")
async def before_and_beyond(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    klines, now = closed(rig, symbol), rig.clock.now()
    assert not len(await history(rig, symbol, now + HOUR_MS))
    assert not len(await history(rig, symbol, now + HOUR_MS, None, now + 2 * HOUR_MS))
    around = await history(rig, symbol, now - HOUR_MS, None, now + DAY_MS)
    assert_same(around, between(klines, now - HOUR_MS, now), rig)
    first = int(klines.datetime[0])
    assert not len(await history(rig, symbol, first - 2 * DAY_MS, None, first))
    early = await history(rig, symbol, first - DAY_MS, None, int(klines.datetime[9]))
    assert_same(early, klines[:9], rig)


@card("M15")
async def everything(rig: Rig) -> None:
    for symbol in rig.symbols():
        klines = closed(rig, symbol)
        assert_same(await history(rig, symbol, int(klines.datetime[0])), klines, rig)
        assert_same(await history(rig, symbol, limit=len(klines) + 10), klines, rig)


@card("M16")
async def closed_only(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    for moment in (15_000, 30_000, 59_000, 60_000, 61_000):
        await rig.advance(rig.clock.now() // MINUTE_MS * MINUTE_MS + moment)
        for timeframe in ("1m", "5m"):
            got = await history(rig, symbol, limit=20, timeframe=timeframe)
            assert not got.forming
            assert_same(got, closed(rig, symbol, timeframe)[-20:], rig)


@card("M17")
async def the_forming_one(rig: Rig) -> None:
    symbol = rig.symbols()[0]
    seen = 0
    for _ in range(3):
        await steps(rig, 1, 50_000)
        got = await history(rig, symbol, limit=20, forming=True)
        right = rig.recordings[symbol].forming(rig.clock.now())
        klines = closed(rig, symbol)
        if right is None:
            assert not got.forming
            continue
        seen += 1
        assert got.forming
        assert not got[-1].closed
        assert got[-1].datetime == right.datetime
        assert abs(got[-1].open - right.open) <= 0.51 * 10.0**-rig.decimals
        rest = got[:-1]
        assert_same(rest, klines[len(klines) - len(rest) :], rig)
        await steps(rig, 1, 10_000)
    assert seen
    past = await history(rig, symbol, None, 5, int(closed(rig, symbol).datetime[-10]), "1m", True)
    assert not past.forming


@card("M18")
async def longer(rig: Rig) -> None:
    for symbol in rig.symbols():
        for timeframe in ("5m", "15m", "1h"):
            klines = closed(rig, symbol, timeframe)
            assert_same(await history(rig, symbol, None, 40, None, timeframe), klines[-40:], rig)
            first, last = int(klines.datetime[-30]), int(klines.datetime[-10])
            got = await history(rig, symbol, first, None, last, timeframe)
            assert_same(got, klines[-30:-10], rig)


@card("M19")
async def daily(rig: Rig) -> None:
    for symbol in rig.symbols():
        sessions = rig.recordings[symbol].contract.sessions
        await _daily(rig, symbol)
        await rig.advance(_next_close(sessions, rig.clock.now()))
        await _daily(rig, symbol)


async def _daily(rig: Rig, symbol: str) -> None:
    klines: Klines = closed(rig, symbol, "1d")
    got = await history(rig, symbol, None, 3, None, "1d")
    assert_same(got, klines[-3:], rig)
    assert got.trading_day is not None
    assert klines.trading_day is not None
    assert got.trading_day.tolist() == klines.trading_day[-3:].tolist()
    assert len(recorded(rig, symbol, "1d")) > len(klines), "the recording must not be over"


def _next_close(sessions: Sessions, now: int) -> int:
    day: date = datetime.fromtimestamp(now / 1000, timezone.utc).date() - timedelta(days=2)
    while sessions.close_of(day) <= now or not sessions.is_trading_day(day):
        day += timedelta(days=1)
    return sessions.close_of(day)
