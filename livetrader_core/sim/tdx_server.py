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
from itertools import pairwise

from livetrader_core.clock import Clock
from livetrader_core.models import Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tdx_series import NUMBERS, Series
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
            Series(recording, shown.get(recording.symbol), us_daily_lot, implausible_oldest, keeps)
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
        rows = dict.fromkeys(NUMBERS.values())
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
