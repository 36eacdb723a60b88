"""A quoting venue as plain as one can be: JSON lines over TCP, pages of 700 bars, faults.

A request is ``{"id", "do", …}``, its reply carries the same id. ``symbols`` lists what there is;
``bars`` gives the newest ``limit`` bars that open in [``from``, ``to``), the forming one included,
as ``[open time, open, high, low, close, volume, trading day]``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from livetrader_core.clock import Clock
from livetrader_core.market.aggregate import aggregate
from livetrader_core.models import Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue

PAGE = 700


class PlainVenue(SimulatedVenue):
    """Serves recordings on a free port of loopback."""

    faults = frozenset(FaultKind) - {FaultKind.FRAGMENT, FaultKind.CLOCK_JUMP, FaultKind.DROP}

    def __init__(self, recordings: Sequence[Recording], clock: Clock) -> None:
        super().__init__(recordings, clock)
        self.port = 0
        #: (symbol, timeframe, from, to) of each ``bars`` request.
        self.asked: list[tuple[str, str, int | None, int | None]] = []
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._restarting: asyncio.Task[None] | None = None
        self._stalled_until = 0.0
        self._pending: dict[FaultKind, Fault] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
            self._restarting = None
        await self._down()

    async def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def _cut(self) -> None:
        for task, writer in self._lines.items():
            task.cancel()
            writer.transport.abort()

    # ---- faults

    def _show(self, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        if fault.kind is FaultKind.CUT:
            self._cut()
        elif fault.kind is FaultKind.STALL:
            self._stalled_until = loop.time() + fault.seconds
        elif fault.kind is FaultKind.RESTART:
            self._restarting = loop.create_task(self._restart(fault.seconds))
        else:
            self._pending[fault.kind] = fault

    async def _restart(self, seconds: float) -> None:
        await self._down()
        await asyncio.sleep(seconds)
        await self.start()

    def _due(self, kind: FaultKind) -> Fault | None:
        fault = self._pending.pop(kind, None)
        if fault is not None and fault.count > 1:
            self._pending[kind] = Fault(kind, fault.seconds, fault.count - 1)
        return fault

    # ---- the wire

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = writer
        try:
            while line := await reader.readline():
                await self._answer(json.loads(line), writer)
        except (asyncio.CancelledError, ConnectionError):
            return
        finally:
            del self._lines[task]
            writer.close()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._stalled_until - loop.time()))
        reply = {"id": request["id"], **self._reply(request)}
        if request["do"] == "bars" and self._due(FaultKind.EMPTY):
            reply["bars"] = []
        if late := self._due(FaultKind.LATE):
            await asyncio.sleep(late.seconds)
        times = 2 if self._due(FaultKind.DUPLICATE) else 1
        writer.write((json.dumps(reply) + "\n").encode() * times)
        await writer.drain()

    def _reply(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "symbols":
            return {"symbols": sorted(self.recordings)}
        recording = self.recordings.get(request["symbol"])
        if recording is None:
            return {"error": f"no symbol {request['symbol']}"}
        self.asked.append((request["symbol"], request["timeframe"], request["from"], request["to"]))
        bars = self._known(recording, request["timeframe"])
        first = 0 if request["from"] is None else np.searchsorted(bars.datetime, request["from"])
        last = len(bars)
        if request["to"] is not None:
            last = int(np.searchsorted(bars.datetime, request["to"]))
        first = max(int(first), last - min(request["limit"], PAGE))
        return {"bars": _rows(bars[first : max(first, last)])}

    def _known(self, recording: Recording, timeframe: str) -> Klines:
        """What there is by now, the last one maybe unfinished."""
        now = self.clock.now()
        minutes = recording.closed(now)
        forming = recording.forming(now)
        if forming is not None:
            minutes = Klines.concat([minutes, Klines.of(recording.symbol, "1m", [forming])])
        return aggregate(minutes, timeframe, recording.contract.sessions)


def _rows(bars: Klines) -> list[list[float]]:
    columns = [bars.datetime, bars.open, bars.high, bars.low, bars.close, bars.volume]
    days = np.zeros(len(bars), np.int64) if bars.trading_day is None else bars.trading_day
    return [list(row) for row in zip(*(c.tolist() for c in (*columns, days)), strict=True)]
