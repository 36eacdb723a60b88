"""A TDX extended-market server: what an unmodified pytdx reads, over the real frames.

Request: ``01 | tag[4] | ctl | u16 n | u16 n | u16 command | payload``. Answer: ``b1 cb 74 00 | flag
| tag[4] | 00 | u16 command | u16 zipped | u16 unzipped | body``, everything little-endian, the
body inflated where the two sizes differ.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from livetrader_core.clock import Clock
from livetrader_core.models import Kline, Klines
from livetrader_core.sim.recording import MINUTE_MS, Recording
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue

log = logging.getLogger(__name__)

_MAGIC = bytes.fromhex("b1cb7400")
_REQUEST = struct.Struct("<B4sBHH")
_BARS = struct.Struct("<B9sHHIH")
_SETUP, _MARKETS, _COUNT, _INSTRUMENTS, _QUOTE, _BAR_PAGE = (
    0x2454,
    0x23F4,
    0x23F0,
    0x23F5,
    0x23FA,
    0x23FF,
)
_MOST_BARS, _MOST_INSTRUMENTS = 700, 1000
_WORTH_ZIPPING = 200
_BEIJING = timedelta(hours=8)
_BEIJING_MINUTES = 8 * 60

#: MARKET: number, category, name, short name.
_NUMBERS: dict[str, tuple[int, int, str, str]] = {
    "US": (74, 13, "美国股票", "US"),
    "HK": (31, 2, "香港主板", "KH"),
    "CFFEX": (47, 3, "中金所期货", "CZ"),
    "SHFE": (30, 3, "上海期货", "QS"),
    "INE": (30, 3, "上海期货", "QS"),
    "DCE": (29, 3, "大连商品", "QD"),
    "CZCE": (28, 3, "郑州商品", "QZ"),
    "GFEX": (66, 3, "广州期货", "QG"),
}
_IN_MONEY = ("US", "HK")  # the field that holds open interest elsewhere is turnover there
_INTRADAY = {0: 5, 1: 15, 2: 30, 3: 60, 7: 1, 8: 1}
_DAILY = (4, 9)

_VALUES = [("open", "<f4"), ("high", "<f4"), ("low", "<f4"), ("close", "<f4")]
_INTEREST_BAR = np.dtype([("date", "<u4"), *_VALUES, ("held", "<u4"), ("vol", "<u4"), ("x", "<f4")])
_TURNOVER_BAR = np.dtype([("date", "<u4"), *_VALUES, ("held", "<f4"), ("vol", "<u4"), ("x", "<f4")])


class TdxServer(SimulatedVenue):
    """Markets, instruments, quotes and bars of ``recordings`` as the extended service gives them.

    ``port`` 0 takes a free one (see :attr:`endpoint`). ``delay_ms``: how late quotes come.
    ``daily`` holds daily klines (with their trading days) of symbols whose days are not to be made
    from their minutes. ``us_daily_lot``: US daily volumes are given in units of so many shares.
    ``implausible_oldest`` shows the quirk of US daily answers whose oldest volume is nonsense.
    ``keeps`` is how many one-minute bars the host keeps (None: all).
    """

    faults = frozenset(FaultKind)

    def __init__(
        self,
        recordings: Sequence[Recording],
        clock: Clock,
        host: str = "127.0.0.1",
        port: int = 0,
        delay_ms: int = 0,
        daily: Mapping[str, Klines] | None = None,
        us_daily_lot: int = 100,
        implausible_oldest: bool = False,
        keeps: int | None = None,
    ) -> None:
        super().__init__(recordings, clock)
        self.host = host
        self.port = port
        self.delay_ms = delay_ms
        #: How many requests of each command were answered.
        self.answered: dict[int, int] = {}
        #: How many connections were accepted.
        self.accepted = 0
        shown = daily or {}
        self._series = [
            _Series(recording, shown.get(recording.symbol), us_daily_lot, implausible_oldest, keeps)
            for recording in recordings
        ]
        self._by_code = {(s.market, s.code): s for s in self._series}
        self._listener: socket.socket | None = None
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._faulty = _Faulty()
        self._returning: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        """``ip:port``, once it is started."""
        return f"{self.host}:{self.port}"

    # ---- life

    async def start(self) -> None:
        self._listener = socket.create_server((self.host, self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        # asyncio's own server leaks what it is accepting at the moment it is closed.
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self) -> None:
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
            self._returning = None
        await self._leave()

    async def _leave(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        tasks = list(self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _restart(self, seconds: float) -> None:
        await self._leave()
        self._faulty = _Faulty()
        await asyncio.sleep(seconds)
        await self.start()

    # ---- faults

    def _show(self, fault: Fault) -> None:
        if fault.kind is FaultKind.CUT:
            self._cut()
        elif fault.kind is FaultKind.RESTART:
            if self._returning is None or self._returning.done():
                self._returning = asyncio.get_running_loop().create_task(
                    self._restart(fault.seconds)
                )
        else:
            self._faulty.show(fault)

    def _cut(self) -> None:
        for client in self._clients.values():
            if client.writer is not None:
                client.writer.transport.abort()

    # ---- one client

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it is gone already
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(connection)
        task = asyncio.get_running_loop().create_task(self._serve(client))
        self._clients[task] = client
        task.add_done_callback(self._forget)
        self.accepted += 1

    def _forget(self, task: asyncio.Task[None]) -> None:
        client = self._clients.pop(task)
        if client.writer is None:
            client.connection.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the simulated TDX server failed a client", exc_info=error)

    async def _serve(self, client: _Client) -> None:
        reader, writer = await asyncio.open_connection(sock=client.connection)
        client.writer = writer
        try:
            while True:
                await self._answer(await _read_request(reader), writer)
        except (OSError, asyncio.IncompleteReadError, _BadRequest) as error:
            log.debug("a client is no longer served: %r", error)
        finally:
            writer.transport.abort()

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        fault = self._faulty.of_answer(request.command == _BAR_PAGE)
        await fault.pause()
        body = self._body(request, fault.empty)
        self.answered[request.command] = self.answered.get(request.command, 0) + 1
        if fault.dropped:
            return
        frame = _frame(request, body)
        for _ in range(2 if fault.twice else 1):
            if not fault.fragmented:
                writer.write(frame)
                await writer.drain()
                continue
            for piece in _pieces(frame):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    def _body(self, request: _Request, empty: bool) -> bytes:
        answers: dict[int, Callable[[bytes], bytes]] = {
            _SETUP: self._setup,
            _MARKETS: self._markets,
            _COUNT: self._count,
            _INSTRUMENTS: self._instruments,
            _QUOTE: self._quote,
            _BAR_PAGE: lambda payload: self._bars(payload, empty),
        }
        if request.command not in answers:
            raise _BadRequest(f"no command {request.command:04x}")
        try:
            return answers[request.command](request.payload)
        except struct.error as error:
            raise _BadRequest(str(error)) from error

    # ---- answers

    def _now(self) -> int:
        return self.clock.now() - self.delay_ms

    def _setup(self, payload: bytes) -> bytes:
        shown = self.clock.now() + self._faulty.clock_error_ms()
        local = datetime.fromtimestamp(shown / 1000, timezone.utc) + _BEIJING
        clock = struct.pack(
            "<HBBBBBB",
            local.year,
            local.month,
            local.day,
            local.minute,
            local.hour,
            0,
            local.second,
        )
        return (bytes(53) + clock).ljust(299, b"\0")

    def _markets(self, payload: bytes) -> bytes:
        rows = dict.fromkeys(_NUMBERS.values())
        packed = [
            struct.pack("<B32sB2s28x", category, name.encode("gbk"), number, short.encode("gbk"))
            for number, category, name, short in rows
        ]
        return struct.pack("<H", len(packed)) + b"".join(packed)

    def _count(self, payload: bytes) -> bytes:
        return struct.pack("<19xI8x", len(self._series))

    def _instruments(self, payload: bytes) -> bytes:
        start, count = struct.unpack("<IH", payload)
        shown = self._series[start : start + min(count, _MOST_INSTRUMENTS)]
        rows = [
            struct.pack("<BB3x9s17s9s24x", s.category, s.market, s.code, s.name, b"") for s in shown
        ]
        return struct.pack("<IH", start, len(rows)) + b"".join(rows)

    def _quote(self, payload: bytes) -> bytes:
        market, code = struct.unpack("<B9s", payload)
        series = self._by_code.get((market, code.rstrip(b"\0")))
        head = struct.pack("<B9s", market, code)
        quote = series.quote(self._now()) if series is not None else None
        return head if quote is None else head + bytes(4) + quote

    def _bars(self, payload: bytes, empty: bool) -> bytes:
        market, code, category, times, start, count = _BARS.unpack(payload)
        series = self._by_code.get((market, code.rstrip(b"\0")))
        page = b""
        if series is not None and not empty:
            page = series.page(self._now(), category, start, min(count, _MOST_BARS))
        n = len(page) // 32
        head = _BARS.pack(market, code, category, times, start, n)
        return head + (page or bytes(32))


# --------------------------------------------------------------------------- frames


@dataclass
class _Client:
    """A connection, and what writes to it once it is served."""

    connection: socket.socket
    writer: asyncio.StreamWriter | None = None


@dataclass(frozen=True)
class _Request:
    tag: bytes
    command: int
    payload: bytes


class _BadRequest(Exception):
    """Not what a client of this service sends."""


async def _read_request(reader: asyncio.StreamReader) -> _Request:
    first, tag, _, length, again = _REQUEST.unpack(await reader.readexactly(_REQUEST.size))
    if first not in (0x01, 0x0C) or length != again or length < 2:
        raise _BadRequest("not a request")
    content = await reader.readexactly(length)
    return _Request(tag, int.from_bytes(content[:2], "little"), content[2:])


def _frame(request: _Request, body: bytes) -> bytes:
    zipped = zlib.compress(body) if len(body) >= _WORTH_ZIPPING else body
    plain = len(zipped) >= len(body)
    sent = body if plain else zipped
    return (
        _MAGIC
        + (b"\x01" if plain else b"\x11")
        + request.tag
        + struct.pack("<BHHH", 0, request.command, len(sent), len(body))
        + sent
    )


def _pieces(frame: bytes) -> list[bytes]:
    """``frame`` in pieces that split its header and its body."""
    cuts = [0, 1, 5, 15, 17, *range(40, len(frame), max(40, len(frame) // 8)), len(frame)]
    cuts = sorted({min(cut, len(frame)) for cut in cuts})
    return [frame[a:b] for a, b in pairwise(cuts)]


# --------------------------------------------------------------------------- bars


class _Series:
    """One symbol as the service knows it."""

    def __init__(
        self,
        recording: Recording,
        daily: Klines | None,
        us_daily_lot: int,
        implausible_oldest: bool,
        keeps: int | None,
    ) -> None:
        place = recording.symbol.partition(".")[0]
        self.market, self.category = _NUMBERS[place][:2]
        self.code = _code(recording)
        self.name = (recording.contract.name or self.code.decode()).encode("gbk", "replace")[:17]
        self._recording = recording
        self._given_days = daily
        self._in_money = place in _IN_MONEY
        self._lot = us_daily_lot if place == "US" else 1
        self._implausible = implausible_oldest and place == "US"
        self._keeps = keeps

    @property
    def _bar(self) -> np.dtype[np.void]:
        return _TURNOVER_BAR if self._in_money else _INTEREST_BAR

    @cached_property
    def _minutes(self) -> npt.NDArray[np.void]:
        """Every one-minute bar as it looks once it is over."""
        klines = self._recording.klines
        return self._pack(self._labels(klines.datetime, self._recording.trading_days, 1), klines)

    def page(self, now: int, category: int, start: int, count: int) -> bytes:
        """The bars ``start`` … of ``category`` counted from the newest, as they are at ``now``."""
        if category in (7, 8):
            return self._one_minute(now, start, count).tobytes()
        if category in _DAILY:
            rows = self._days(now)
        elif category in _INTRADAY:
            rows = self._longer(now, _INTRADAY[category])
        else:
            return b""
        page = rows[slice(*_span(len(rows), start, count))]
        if category in _DAILY and self._implausible and len(page):
            page = page.copy()
            page["vol"][0] = 0xFFFFFF00
        return page.tobytes()

    def _one_minute(self, now: int, start: int, count: int) -> npt.NDArray[np.void]:
        known = len(self._recording.closed(now))
        oldest = 0 if self._keeps is None else max(0, known - self._keeps)
        forming = self._recording.forming(now)
        total = known - oldest + (forming is not None)
        first, last = _span(total, start, count)
        rows = self._minutes[oldest + first : oldest + last]
        if forming is not None and last == total and first < last:
            rows = rows.copy()
            self._fill(rows[-1:], Klines.of(forming.symbol, "1m", [forming]))
        return rows

    def _seen(self, now: int) -> tuple[Klines, npt.NDArray[np.int64]]:
        """All klines up to ``now``, the forming one included, and their trading days."""
        closed, forming = self._recording.closed(now), self._recording.forming(now)
        if forming is not None:
            tail = Klines.of(forming.symbol, "1m", [forming])
            closed = Klines.concat([closed, tail]) if len(closed) else tail
        return closed, self._recording.trading_days[: len(closed)]

    def _longer(self, now: int, minutes: int) -> npt.NDArray[np.void]:
        klines, days = self._seen(now)
        buckets = klines.datetime // (minutes * MINUTE_MS)
        first = _firsts(buckets)
        labels = self._labels(buckets[first] * minutes * MINUTE_MS, days[first], minutes)
        return self._pack(labels, _gather(klines, first))

    def _days(self, now: int) -> npt.NDArray[np.void]:
        if self._given_days is not None:
            klines = self._given_days
            assert klines.trading_day is not None
            known = int(np.searchsorted(klines.datetime, now, side="right"))
            return self._in_lots(self._pack(klines.trading_day, klines)[:known])
        klines, days = self._seen(now)
        first = _firsts(days)
        return self._in_lots(self._pack(days[first], _gather(klines, first)))

    def _in_lots(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        rows["vol"] //= self._lot
        return rows

    def _labels(
        self, opens: npt.NDArray[np.int64], days: npt.NDArray[np.int64], minutes: int
    ) -> npt.NDArray[np.int64]:
        """The trading day with the Beijing clock at the end of the bar, in 32 bits."""
        year, month, day = days // 10_000, days // 100 % 100, days % 100
        packed = (year - 2004 << 11) + month * 100 + day
        clock = (opens // MINUTE_MS + minutes + _BEIJING_MINUTES) % 1440
        return np.asarray(packed + (clock << 16), np.int64)

    def _pack(self, labels: npt.NDArray[np.int64], klines: Klines) -> npt.NDArray[np.void]:
        rows = np.zeros(len(klines), self._bar)
        rows["date"] = labels
        self._fill(rows, klines)
        return rows

    def _fill(self, rows: npt.NDArray[np.void], klines: Klines) -> None:
        for name in ("open", "high", "low", "close"):
            rows[name] = getattr(klines, name)
        rows["vol"] = klines.volume
        in_money = klines.volume * klines.close
        rows["held"] = in_money if self._in_money else klines.open_interest

    def quote(self, now: int) -> bytes | None:
        """The body of a quote after its first 14 bytes; None while there was no trade."""
        klines, days = self._seen(now)
        if not len(klines):
            return None
        today = int(np.searchsorted(days, days[-1]))
        day = _gather(klines, _firsts(days))[-1]
        before = float(klines.close[today - 1]) if today else day.open
        return self._quote_of(day, before, klines[len(klines) - 1])

    def _quote_of(self, day: Kline, before: float, last: Kline) -> bytes:
        tick = self._recording.contract.price_tick
        volume, held = int(day.volume), 0 if self._in_money else int(day.open_interest)
        return struct.pack(
            "<5f9I5f5I5f5I",
            *(before, day.open, day.high, day.low, day.close),
            *(0, 0, volume, int(last.volume), 0, volume // 2, volume - volume // 2, 0, held),
            *(day.close, 0.0, 0.0, 0.0, 0.0),
            *(1, 0, 0, 0, 0),
            *(day.close + tick, 0.0, 0.0, 0.0, 0.0),
            *(1, 0, 0, 0, 0),
        )


def _code(recording: Recording) -> bytes:
    """The service's code: capitals, and four digits of the month where Zhengzhou writes three."""
    place, _, code = recording.symbol.partition(".")
    code = code.upper()
    digits = code.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if place == "CZCE" and len(digits) == 3 and len(recording.klines):
        started = datetime.fromtimestamp(int(recording.klines.datetime[0]) / 1000, timezone.utc)
        year = started.year + (int(digits[0]) - started.year) % 10
        code = f"{code[:-3]}{year // 10 % 10}{digits}"
    return code.encode("gbk")


def _span(total: int, start: int, count: int) -> tuple[int, int]:
    """Which of ``total`` bars are the ``count`` newest but ``start``."""
    last = max(0, total - start)
    return max(0, last - count), last


def _firsts(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else keys


def _gather(klines: Klines, first: npt.NDArray[np.int64]) -> Klines:
    """One kline for each group of rows that begins at ``first``."""
    if not len(klines):
        return klines
    last = np.r_[first[1:], len(klines)] - 1
    columns = [
        klines.open[first],
        np.maximum.reduceat(klines.high, first),
        np.minimum.reduceat(klines.low, first),
        klines.close[last],
        np.add.reduceat(klines.volume, first),
        klines.open_interest[last],
    ]
    return Klines.from_columns(klines.symbol, klines.timeframe, klines.datetime[first], columns)


# --------------------------------------------------------------------------- faults


@dataclass(frozen=True)
class _AnswerFault:
    """What is wrong with one answer."""

    until: float = 0.0
    late: float = 0.0
    empty: bool = False
    dropped: bool = False
    fragmented: bool = False
    twice: bool = False

    async def pause(self) -> None:
        stalled = self.until - asyncio.get_running_loop().time()
        if stalled > 0 or self.late > 0:
            await asyncio.sleep(max(stalled, 0.0) + self.late)


class _Faulty:
    """The faults that answers still have to show."""

    def __init__(self) -> None:
        self._left: dict[FaultKind, int] = dict.fromkeys(FaultKind, 0)
        self._seconds: dict[FaultKind, float] = dict.fromkeys(FaultKind, 0.0)
        self._until: dict[FaultKind, float] = dict.fromkeys(FaultKind, 0.0)

    def show(self, fault: Fault) -> None:
        self._left[fault.kind] += fault.count
        self._seconds[fault.kind] = fault.seconds
        self._until[fault.kind] = asyncio.get_running_loop().time() + fault.seconds

    def clock_error_ms(self) -> int:
        """How far the venue's own clock is ahead; its bars do not follow that clock."""
        jumped = asyncio.get_running_loop().time() < self._until[FaultKind.CLOCK_JUMP]
        return 3_600_000 if jumped else 0

    def of_answer(self, has_bars: bool) -> _AnswerFault:
        return _AnswerFault(
            until=self._until[FaultKind.STALL],
            late=self._seconds[FaultKind.LATE] if self._take(FaultKind.LATE) else 0.0,
            empty=has_bars and self._take(FaultKind.EMPTY),
            dropped=self._take(FaultKind.DROP),
            fragmented=self._take(FaultKind.FRAGMENT),
            twice=self._take(FaultKind.DUPLICATE),
        )

    def _take(self, kind: FaultKind) -> bool:
        if not self._left[kind]:
            return False
        self._left[kind] -= 1
        return True
