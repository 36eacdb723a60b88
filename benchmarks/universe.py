"""A day of 500 symbols, sped up: delay, CPU and memory of the server; and a month's memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, ask, cpu, peer, percentile, process_of
from benchmarks.market import ALWAYS, START, kline
from benchmarks.wire import folder
from livetrader_core.errors import UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import Contract, Kline, Klines
from livetrader_core.timeframe import DAY_MS, MINUTE_MS

#: 04:00 to 20:00, as US stocks are quoted.
MINUTES_A_DAY = 960
#: Market minutes a second: a day of 16 hours in less than two minutes.
SPEED = 10.0


@dataclass(frozen=True)
class Size:
    """How much is measured. ``speed`` is market minutes a second; 0: as fast as they are read."""

    symbols: int = 500
    minutes: int = MINUTES_A_DAY
    days: int = 1
    speed: float = SPEED

    @property
    def names(self) -> list[str]:
        """The symbols."""
        return [f"US.S{number:03d}" for number in range(self.symbols)]


class UniverseMarket(MarketBase):
    """Closes a kline of every symbol each minute of each session, and keeps none."""

    markets = ("US",)
    clocked = True

    def __init__(self, size: Size) -> None:
        self.size = size
        self._minute = asyncio.Condition()
        self._now = 0
        self._begun = asyncio.Event()

    async def connect(self) -> None:
        """Nothing to reach."""

    async def disconnect(self) -> None:
        """Nothing to leave."""

    def begin(self, start: int, end: int | None) -> None:
        """Run."""
        self._begun.set()

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """A kline a minute."""
        given = 0
        while True:
            async with self._minute:
                while self._now <= given:
                    await self._minute.wait()
                given = self._now
            yield kline(symbol, (given - START) // MINUTE_MS - 1)

    async def watch_clock(self) -> AsyncIterator[int]:
        """Every minute, when its klines were given."""
        await self._begun.wait()
        began, count = time.monotonic(), 0
        for day in range(self.size.days):
            for minute in range(self.size.minutes):
                count += 1
                if self.size.speed:
                    due = began + count / self.size.speed
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                async with self._minute:
                    self._now = START + day * DAY_MS + (minute + 1) * MINUTE_MS
                    self._minute.notify_all()
                # All readers have theirs before the clock is told.
                for _ in range(3):
                    await asyncio.sleep(0)
                yield self._now

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """None are kept."""
        return Klines.empty(symbol, timeframe)

    async def get_contract(self, symbol: str) -> Contract:
        """A stock that always trades."""
        if symbol not in self.size.names:
            raise UnknownSymbol(f"{symbol}: no such symbol")
        return Contract(symbol, 0.01, 1.0, 1.0, 1.0, "USD", ALWAYS)

    async def list_symbols(self) -> list[str]:
        """All of them."""
        return self.size.names


def serve(endpoint: str, size: str) -> None:
    """The server, in a process of its own."""
    from livetrader_core.rpc import Server
    from livetrader_core.service import MarketService

    server = Server(MarketService(UniverseMarket(Size(**json.loads(size)))), hwm=0)
    server.bind(endpoint)
    print("ready", flush=True)
    server.run()


def follow(endpoint: str, size: str) -> None:
    """Subscribe to everything, run, and print what was seen as JSON."""
    print(json.dumps(asyncio.run(_follow(endpoint, Size(**json.loads(size))))))


async def _follow(endpoint: str, size: Size) -> dict[str, Any]:
    from livetrader_core.models import Clock
    from livetrader_core.rpc import RemoteSession

    delays: list[float] = []
    memory: list[int] = []
    seen = {"klines": 0, "moments": 0, "first": 0.0}
    over = asyncio.Event()
    server = process_of("universe-server", endpoint)

    def listen(event: Any) -> None:
        if isinstance(event, Kline):
            if not seen["klines"]:
                seen["first"] = time.monotonic()
            seen["klines"] += 1
            if size.speed:
                due = seen["first"] + seen["moments"] / size.speed
                delays.append(time.monotonic() - due)
        elif isinstance(event, Clock) and event.datetime:
            seen["moments"] += 1
            if seen["moments"] % size.minutes == 0:
                memory.append(resident(server))
                if seen["moments"] == size.days * size.minutes:
                    over.set()

    session = RemoteSession(endpoint, timeout=60.0)
    await session.open(listen)
    for symbol in size.names:
        await session.subscribe(symbol, limit=0)
    before, began = cpu(server), time.monotonic()
    await session.begin_replay(0)
    await over.wait()
    spent, took = cpu(server) - before, time.monotonic() - began
    await session.close()
    return {
        "klines": seen["klines"],
        "seconds": took,
        "cpu": spent / took,
        "memory": memory,
        "p50": percentile(delays, 0.5) * 1000 if delays else 0.0,
        "p99": percentile(delays, 0.99) * 1000 if delays else 0.0,
    }


def resident(process: int) -> int:
    """Resident memory in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"process {process} tells no memory")


def measure(size: Size) -> dict[str, Any]:
    """What a follower saw of a server of ``size``."""
    told = json.dumps(asdict(size))
    with folder() as path:
        endpoint = f"ipc://{path}/universe"
        with peer("universe-server", endpoint, told):
            seen: dict[str, Any] = ask("universe-follower", endpoint, told)
            return seen


def universe(quick: bool) -> list[Row]:
    """500 symbols: a day at a pace, and a month as fast as it is read."""
    at_pace = Size(50, 100, 1, 100.0) if quick else Size()
    at_most = Size(50, 100, 3, 0.0) if quick else Size(days=21, speed=0.0)
    day, month = measure(at_pace), measure(at_most)
    pace = f"{at_pace.symbols} symbols, {at_pace.minutes} minutes at {at_pace.speed:g} a second"
    memory = month["memory"]
    return [
        Row(f"{pace}: minute's turn → subscriber", "ms", {"p50": day["p50"], "p99": day["p99"]}),
        Row(f"{pace}: server", "share of a core", {"processor": day["cpu"]}),
        Row(f"{pace}: server", "MB", {"resident": day["memory"][-1]}),
        Row(
            f"{at_most.symbols} symbols, {at_most.days} days of sessions: server",
            "MB",
            {
                "after a day": memory[0],
                "in the middle": memory[len(memory) // 2],
                "at the end": memory[-1],
            },
            note=f"{month['klines']:,} klines in {month['seconds']:.0f} s",
        ),
    ]
