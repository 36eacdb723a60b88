"""What cards do with a rig: read streams, wait for conditions, know what is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np

from livetrader_core.market.aggregate import aggregate
from livetrader_core.models import Kline, Klines
from livetrader_core.timeframe import MINUTE_MS
from tests.conformance.rig import Rig

#: Longest wait for anything, in seconds of the computer: far more than any of it takes.
PATIENCE = 15.0
#: How long nothing may come where nothing must come.
SILENCE = 0.05


async def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for ``condition``; fails with ``what()`` if it does not come true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not after {PATIENCE:g} s: {what()}")
        await asyncio.sleep(0.002)


async def silence() -> None:
    """Let what must not come have time to come."""
    await asyncio.sleep(SILENCE)


# --------------------------------------------------------------------------- what is right


def recorded(rig: Rig, symbol: str, timeframe: str = "1m") -> Klines:
    """All klines that the venue has of ``symbol``, those of the future too."""
    recording = rig.recordings[symbol]
    return aggregate(recording.klines, timeframe, recording.contract.sessions)


def closed(rig: Rig, symbol: str, timeframe: str = "1m") -> Klines:
    """The klines that are over by the venue's time."""
    klines = recorded(rig, symbol, timeframe)
    ends = rig.recordings[symbol].contract.sessions.kline_ends(klines.datetime, timeframe)
    return klines[: int(np.searchsorted(ends, rig.clock.now(), side="right"))]


def since(rig: Rig, symbol: str, moment: int, timeframe: str = "1m") -> Klines:
    """The klines that closed after ``moment`` (UTC ms) and are over by the venue's time."""
    klines = closed(rig, symbol, timeframe)
    ends = rig.recordings[symbol].contract.sessions.kline_ends(klines.datetime, timeframe)
    return klines[int(np.searchsorted(ends, moment, side="right")) :]


def between(klines: Klines, from_ts: int, to_ts: int) -> Klines:
    """Those that open in [``from_ts``, ``to_ts``)."""
    first, last = np.searchsorted(klines.datetime, [from_ts, to_ts])
    return klines[int(first) : int(last)]


def assert_same(got: Klines, right: Klines, rig: Rig) -> None:
    """The same klines: time, prices (as far as the wire carries them), volume."""
    assert (got.symbol, got.timeframe) == (right.symbol, right.timeframe)
    missing = np.setdiff1d(right.datetime, got.datetime)
    assert not len(missing), f"{right.symbol}: {len(missing)} klines missing, first {missing[0]}"
    extra = np.setdiff1d(got.datetime, right.datetime)
    assert not len(extra), f"{right.symbol}: {len(extra)} klines too many, first {extra[0]}"
    assert got.datetime.tolist() == right.datetime.tolist(), f"{right.symbol}: not in order"
    tolerance = 0.51 * 10.0**-rig.decimals
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(
            getattr(got, name),
            getattr(right, name),
            rtol=0,
            atol=tolerance,
            err_msg=f"{right.symbol} {name}",
        )
    np.testing.assert_allclose(
        got.volume, right.volume, rtol=1e-9, err_msg=f"{right.symbol} volume"
    )


# --------------------------------------------------------------------------- readers


class Reader:
    """One reader of a kline stream: what it got, and the venue's time when it got it."""

    def __init__(self, rig: Rig, symbol: str, timeframe: str = "1m") -> None:
        self.symbol = symbol
        self.timeframe = timeframe
        self.since = rig.clock.now()
        self.klines: list[Kline] = []
        self._rig = rig
        self._sessions = rig.recordings[symbol].contract.sessions
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for kline in self._rig.market.watch_klines(self.symbol, self.timeframe):
            end = self._sessions.kline_end(kline.datetime, self.timeframe)
            now = self._rig.clock.now()
            assert kline.closed, f"a forming kline was given as closed: {kline}"
            assert end <= now, f"given {end - now} ms before it closed: {kline}"
            assert kline.symbol == self.symbol, f"{self.symbol} got {kline}"
            self.klines.append(kline)

    def right(self) -> Klines:
        """What it must have got by now."""
        return since(self._rig, self.symbol, self.since, self.timeframe)

    async def complete(self) -> None:
        """Wait for all that closed by the venue's time; nothing else may have come."""
        right = self.right()
        await until(
            lambda: self._task.done() or len(self.klines) >= len(right),
            lambda: f"{self.symbol}: {len(self.klines)} of {len(right)} klines came",
        )
        if self._task.done():
            self._task.result()
            raise AssertionError(f"the stream of {self.symbol} ended")
        assert_same(Klines.of(self.symbol, self.timeframe, self.klines), right, self._rig)

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        (outcome,) = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome


class Moments:
    """A reader of the adapter's clock, which checks that each moment was given completely."""

    def __init__(self, rig: Rig, *readers: Reader) -> None:
        self.seen: list[int] = []
        self._rig = rig
        self._readers = readers
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for moment in self._rig.market.watch_clock():
            assert not self.seen or moment > self.seen[-1], "the clock did not ascend"
            assert moment <= self._rig.clock.now(), "the clock is ahead of the venue's time"
            for reader in self._readers:
                right = reader.right().datetime
                due = right[right + MINUTE_MS <= moment]
                got = len(reader.klines)
                assert got >= len(due), f"{moment} was told with {got} of {len(due)} klines read"
            self.seen.append(moment)

    async def reached(self, moment: int) -> None:
        """Wait until the clock says ``moment``."""
        await until(
            lambda: self._task.done() or bool(self.seen and self.seen[-1] >= moment),
            lambda: f"the clock said {self.seen[-1:]}, not {moment}",
        )
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        (outcome,) = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome


@asynccontextmanager
async def reading(rig: Rig, *symbols: str, timeframe: str = "1m") -> AsyncIterator[list[Reader]]:
    """Readers of ``symbols`` that have begun to read."""
    async with AsyncExitStack() as stack:
        readers = []
        for symbol in symbols:
            reader = Reader(rig, symbol, timeframe)
            stack.push_async_callback(reader.close)
            readers.append(reader)
        await asyncio.sleep(0)
        yield readers


async def history(
    rig: Rig,
    symbol: str,
    from_ts: int | None = None,
    limit: int | None = None,
    to_ts: int | None = None,
    timeframe: str = "1m",
    forming: bool = False,
) -> Klines:
    """The adapter's history, in time."""
    work = asyncio.ensure_future(
        rig.market.get_kline_histories(symbol, from_ts, limit, to_ts, timeframe, forming)
    )
    return await ended(work, f"history of {symbol}")


async def ended(work: asyncio.Future[Klines], what: str) -> Klines:
    """The result of ``work``, which must not take longer than anything may."""
    done, _ = await asyncio.wait([work], timeout=PATIENCE)
    if not done:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        raise AssertionError(f"{what}: no answer after {PATIENCE:g} s")
    return work.result()


async def steps(rig: Rig, count: int, length: int = MINUTE_MS) -> None:
    """Move the venue's time ``count`` times by ``length`` milliseconds."""
    for _ in range(count):
        await rig.advance(rig.clock.now() + length)


async def connect(rig: Rig) -> None:
    """Connect the adapter, in time."""

    async def work() -> Klines:
        await rig.market.connect()
        return Klines.empty("", "1m")

    await ended(asyncio.ensure_future(work()), "connect")
