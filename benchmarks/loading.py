"""Loading a year of one-minute bars for a backtest."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import backtrader as bt

from benchmarks.harness import Goal, Row, interleaved
from benchmarks.market import BenchMarket
from livetrader_bt import LiveTraderStore
from livetrader_core.models import Klines
from livetrader_core.service import MarketService

SYMBOL = "US.A"
LINES = ("datetime", "open", "high", "low", "close", "volume", "openinterest")


class Stopwatch(bt.Strategy):
    """Built when all data is loaded; looks at the clock and ends the run."""

    params = (("loaded", None),)

    def __init__(self) -> None:
        self.p.loaded.append(time.perf_counter())
        self.p.loaded.append([bytes(getattr(self.data.lines, n).array) for n in LINES])
        self.env.runstop()


def load(make: Callable[[], Any]) -> tuple[float, list[bytes]]:
    """Seconds until Cerebro has all of the feed in memory, and its lines, bit by bit."""
    loaded: list[Any] = []
    feed = make()
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(Stopwatch, loaded=loaded)
    before = time.perf_counter()
    cerebro.run()
    return loaded[0] - before, loaded[1]


def write_csv(klines: Klines, path: Path) -> None:
    """As GenericCSVData reads it, stamped at the close."""
    with path.open("w") as file:
        file.write(",".join(LINES) + "\n")
        for bar in klines:
            closed = datetime.fromtimestamp(bar.datetime / 1000 + 60, timezone.utc)
            values = (bar.open, bar.high, bar.low, bar.close, bar.volume, 0.0)
            file.write(f"{closed:%Y-%m-%d %H:%M:%S},{','.join(map(repr, values))}\n")


def loading(quick: bool) -> list[Row]:
    """300,000 bars: GenericCSVData, PandasData, ours; and whether the lines are the same."""
    import pandas as pd

    count = 3000 if quick else 300_000
    market = BenchMarket([SYMBOL], count)
    klines = market._history[SYMBOL]
    frame = klines.to_frame()
    frame.index = frame.index.tz_localize(None) + pd.Timedelta(minutes=1)
    lines: dict[str, list[bytes]] = {}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "klines.csv"
        write_csv(klines, path)

        def csv() -> Any:
            return bt.feeds.GenericCSVData(
                dataname=str(path), timeframe=bt.TimeFrame.Minutes, openinterest=6
            )

        def pandas() -> Any:
            return bt.feeds.PandasData(dataname=frame, openinterest="open_interest")

        def ours() -> Any:
            store = LiveTraderStore(service=MarketService(market))
            store.connect()
            return store.getdata(SYMBOL, historical=True)

        def measure(name: str, make: Callable[[], Any]) -> Callable[[], float]:
            def once() -> float:
                seconds, lines[name] = load(make)
                return seconds

            return once

        contenders = {"GenericCSVData": csv, "PandasData": pandas, "ours": ours}
        values = interleaved(
            {name: measure(name, make) for name, make in contenders.items()}, 1 if quick else 3
        )
    same = lines["ours"] == lines["GenericCSVData"]
    return [
        Row(
            f"load {count:,} one-minute bars for a backtest",
            "s",
            values,
            [Goal("ours", "GenericCSVData", most=0.01)],
            "the lines are the same to the last bit" if same else "THE LINES DIFFER",
        )
    ]
