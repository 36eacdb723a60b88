"""Quotes of MetaTrader 4 through our own expert advisor, compiled and run as its tests do."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row, ask, cpu, peer, percentile, process_of
from livetrader_core.clock import SpedClock, parse_clock
from livetrader_core.market.mt4 import Mt4Market
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from livetrader_core.sim.mt4_model import Mt4Model
from livetrader_core.sim.mt4_terminal import free_port
from livetrader_core.sim.recording import Recording
from livetrader_core.timeframe import MINUTE_MS

_CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY", "SEK")
SYMBOLS = [f"FOREX.{a}{b}" for a, b in islice(combinations(_CURRENCIES, 2), 30)]
_TICKS = {symbol: default_contract(symbol).price_tick for symbol in SYMBOLS}
#: Not all symbols are quoted at the same moment.
_PHASES = {symbol: place / len(SYMBOLS) for place, symbol in enumerate(SYMBOLS)}
#: Quotes a second of each symbol: an ordinary hour, and news.
PACES = (5.0, 50.0)
#: The advisor's own default, in seconds.
TIMER = 0.01
#: A Tuesday noon, 2026-01-13.
_NOON = 1_768_305_600_000


class Course:
    """Quotes that tell when they came up: the n-th of each symbol is n ticks above 1.

    ``begun`` is in monotonic seconds, which all processes of a computer have in common.
    """

    def __init__(self, pace: float, begun: float) -> None:
        self.pace = pace
        self.begun = begun

    def bid(self, symbol: str) -> float:
        """The quote of now."""
        passed = (time.monotonic() - self.begun) * self.pace
        return 1.0 + int(passed + _PHASES[symbol]) * _TICKS[symbol]

    def delay(self, symbol: str, bid: float) -> float:
        """Seconds since the quote ``bid`` came up."""
        number = round((bid - 1.0) / _TICKS[symbol])
        return time.monotonic() - self.begun - (number - _PHASES[symbol]) / self.pace


class QuotedModel(Mt4Model):
    """A terminal whose quotes are those of a course, and come all the time."""

    course: Course

    def quote(self, name: str) -> tuple[float, float] | None:
        """The last bid and ask."""
        symbol = f"FOREX.{name}"
        bid = self.course.bid(symbol)
        return bid, bid + _TICKS[symbol]

    def time_current(self) -> int:
        """Server time (ms) of the last quote."""
        return self.server_time()


def _recording(symbol: str) -> Recording:
    times = _NOON + np.arange(-5, 60, dtype=np.int64) * MINUTE_MS
    columns = [np.ones(len(times))] * 5 + [np.zeros(len(times))]
    return Recording(default_contract(symbol), Klines.from_columns(symbol, "1m", times, columns))


def serve(endpoint: str, settings: str) -> None:
    """The terminal, in a process of its own."""
    asyncio.run(_serve(endpoint, json.loads(settings)))


async def _serve(endpoint: str, settings: dict[str, Any]) -> None:
    from tests.ea.terminal import EaTerminal

    clock = parse_clock(settings["clock"])
    with tempfile.TemporaryDirectory() as files:
        terminal = EaTerminal(
            [_recording(symbol) for symbol in SYMBOLS],
            clock,
            Path(files),
            timer=TIMER,
            RequestPort=int(endpoint.rpartition(":")[2]),
            PublicationPort=settings["publications"],
        )
        model = QuotedModel(terminal.recordings, clock, "EET-US")
        model.course = Course(settings["pace"], settings["begun"])
        terminal.functions.model = model
        await terminal.start()
        print("ready", flush=True)
        await asyncio.Event().wait()


def follow(endpoint: str, settings: str) -> None:
    """Read the ticks of all symbols, and print what was seen as JSON."""
    print(json.dumps(asyncio.run(_follow(endpoint, json.loads(settings)))))


async def _follow(endpoint: str, settings: dict[str, Any]) -> dict[str, float]:
    terminal = process_of("ticks-server", endpoint)
    course = Course(settings["pace"], settings["begun"])
    market = Mt4Market(
        endpoint,
        f"tcp://127.0.0.1:{settings['publications']}",
        clock=settings["clock"],
    )
    await market.connect()
    delays: list[float] = []

    async def read(symbol: str) -> None:
        async for tick in market.watch_ticks(symbol):
            delays.append(course.delay(symbol, tick.bid))

    readers = [asyncio.ensure_future(read(symbol)) for symbol in SYMBOLS]
    await asyncio.sleep(2.0)
    delays.clear()
    before, ours, began = cpu(terminal), time.process_time(), time.monotonic()
    await asyncio.sleep(settings["seconds"])
    took = time.monotonic() - began
    seen = {
        "p50": percentile(delays, 0.5) * 1000,
        "p99": percentile(delays, 0.99) * 1000,
        "terminal": (cpu(terminal) - before) / took,
        "adapter": (time.process_time() - ours) / took,
        "ticks": len(delays) / took,
    }
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await market.disconnect()
    return seen


def measure(pace: float, seconds: float) -> dict[str, float]:
    """What a reader saw of a terminal with so many quotes a second of each symbol."""
    endpoint = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
    settings = json.dumps(
        {
            "publications": free_port("127.0.0.1"),
            "clock": str(SpedClock(_NOON)),
            "begun": time.monotonic(),
            "pace": pace,
            "seconds": seconds,
        }
    )
    with peer("ticks-server", endpoint, settings):
        seen: dict[str, float] = ask("ticks-follower", endpoint, settings)
        return seen


def ticks(quick: bool) -> list[Row]:
    """30 symbols: quote at the terminal → reader of ticks, and what it costs."""
    rows = []
    for pace in PACES:
        seen = measure(pace, 3.0 if quick else 20.0)
        title = f"MetaTrader 4, our advisor, 30 symbols, {30 * pace:g} quotes a second"
        note = f"{seen['ticks']:,.0f} ticks a second; the advisor looks every {TIMER * 1000:g} ms"
        delays = {"ours": seen["p50"], "ours, p99": seen["p99"]}
        rows.append(Row(f"{title}: quote → watch_ticks, p50", "ms", delays, note=note))
        shares = {"ours": seen["adapter"], "simulated terminal with the advisor": seen["terminal"]}
        rows.append(Row(f"{title}: processor", "share of a core", shares))
    return rows
