"""A simulated terminal and a DwxMarket for it, for the length of a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from livetrader_core.clock import Clock, SteppedClock
from livetrader_core.market.dwx import DwxMarket
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.metatrader.market import MetaTraderMarket
from livetrader_core.market.recorded import read_klines
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Kline
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.recording import Recording
from tests.support.data import recorded_data

EURUSD, USDJPY = "FOREX.EURUSD", "FOREX.USDJPY"
MINUTE = 60_000


@lru_cache
def generated(symbol: str, start: str = "2020-10-19", days: int = 18) -> Recording:
    """Made-up klines of ``symbol``."""
    source = GeneratedSource([symbol], 7, start, days)
    return Recording(source.contract(symbol), source.klines(symbol))


@lru_cache
def recorded(name: str, symbol: str, start: str) -> Recording:
    """A recorded file, or made-up klines of the same time where there is none."""
    folder = recorded_data()
    if folder is None:
        return generated(symbol, start, 45)
    contract = default_contract(symbol)
    path = Path(folder) / f"{symbol}-1m_{name}.csv.gz"
    return Recording(contract, read_klines(path, symbol, "1m", contract.sessions))


def market_of(terminal: Mt4Terminal, clock: Clock, **settings: Any) -> DwxMarket:
    """An adapter for ``terminal`` that is quick to give up and to come back."""
    quick = {"timeout": 1.0, "connect_timeout": 1.0, "retry": 0.01, "longest_retry": 0.05}
    return DwxMarket(
        push_port=terminal.push_port,
        pull_port=terminal.pull_port,
        sub_port=terminal.sub_port,
        clock=clock,
        **{**quick, "heartbeat": 0.2, **settings},
    )


@asynccontextmanager
async def venue(
    recordings: Sequence[Recording],
    clock: SteppedClock,
    terminal_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Mt4Terminal, DwxMarket]]:
    """A started terminal and a connected adapter."""
    terminal = Mt4Terminal(recordings, clock, **{"freeze": 0.0, **(terminal_settings or {})})
    await terminal.start()
    market = market_of(terminal, clock, **settings)
    try:
        await market.connect()
        yield terminal, market
    finally:
        await market.disconnect()
        await terminal.stop()


class Watch:
    """Everything a market gives of some symbols, and its clock."""

    def __init__(self, market: MetaTraderMarket, *keys: tuple[str, str]) -> None:
        self.market = market
        self.klines: dict[tuple[str, str], list[Kline]] = {key: [] for key in keys}
        self.order: list[Kline | int] = []
        self.moment = 0
        self._tasks = [asyncio.create_task(self._read(key)) for key in keys]
        self._tasks.append(asyncio.create_task(self._clock()))

    async def _read(self, key: tuple[str, str]) -> None:
        async for kline in self.market.watch_klines(*key):
            self.klines[key].append(kline)
            self.order.append(kline)

    async def _clock(self) -> None:
        async for moment in self.market.watch_clock():
            self.moment = moment
            self.order.append(moment)

    async def ready(self) -> None:
        """Wait until it watches."""
        await eventually(lambda: set(self.klines) <= set(self.market._streams.wanted()))

    async def reach(self, moment: int, seconds: float = 10.0) -> None:
        """Wait until everything up to ``moment`` was given."""
        await eventually(lambda: self.moment >= moment, seconds)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for ``condition``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.001)
