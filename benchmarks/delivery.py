"""From a published bar to ``next()``, with one feed and with many."""

from __future__ import annotations

import functools
import queue
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import backtrader as bt

from benchmarks.harness import Goal, Limit, Row, percentile
from benchmarks.market import BenchMarket, kline
from livetrader_bt import LiveTraderStore
from livetrader_core.models import Kline
from livetrader_core.service import MarketService

#: Days since 0001 of the first bar's close, and of one minute.
FIRST, MINUTE = bt.date2num(datetime(2025, 1, 1)), 1 / 1440
#: A run of the reference that falls behind is ended after this many seconds.
PATIENCE = 25.0


class QueueFeed(bt.DataBase):
    """The reference: waits on a queue inside ``_load``, as backtrader's own live feeds do."""

    params = (("qcheck", 0.5), ("timeframe", bt.TimeFrame.Minutes))

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: queue.Queue[int | None] = queue.Queue()

    def islive(self) -> bool:
        return True

    def haslivedata(self) -> bool:
        return not self.arrivals.empty()

    def start(self) -> None:
        super().start()
        self.put_notification(self.LIVE)

    def _load(self) -> bool | None:
        try:
            minute = self.arrivals.get(timeout=self._qcheck) if self._qcheck else self._at_once()
        except queue.Empty:
            return None
        if minute is None:
            return False
        bar = kline("US.A", minute)
        self.lines.datetime[0] = FIRST + (minute + 1) * MINUTE
        self.lines.open[0], self.lines.high[0] = bar.open, bar.high
        self.lines.low[0], self.lines.close[0] = bar.low, bar.close
        self.lines.volume[0], self.lines.openinterest[0] = bar.volume, 0.0
        return True

    def _at_once(self) -> int | None:
        return self.arrivals.get_nowait()


class Latency(bt.Strategy):
    """Notes when each bar of its last feed arrives, and ends the run after ``count``."""

    params = (("arrived", None), ("count", 0))

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        now = time.perf_counter()
        number = len(self.datas[-1])
        if number > len(self.p.arrived):
            self.p.arrived.append(now)
        if number >= self.p.count:
            self.env.runstop()


def latencies(
    feeds: list[Any], push: Callable[[int, list[float]], None], count: int, gap: float
) -> list[float]:
    """Milliseconds from publication to ``next()`` of ``count`` bars of the last feed.

    ``push`` publishes a bar, every ``gap`` seconds, and notes when it did so. Bars that are not
    delivered in time count with the time they have waited.
    """
    cerebro = bt.Cerebro(stdstats=False)
    for feed in feeds:
        cerebro.adddata(feed)
    sent: list[float] = []
    arrived: list[float] = []
    cerebro.addstrategy(Latency, arrived=arrived, count=count)
    end = threading.Timer(count * gap + PATIENCE, cerebro.runstop)

    def publish() -> None:
        time.sleep(1.0)
        for minute in range(count):
            push(minute, sent)
            time.sleep(gap)

    thread = threading.Thread(target=publish)
    thread.start()
    end.start()
    cerebro.run()
    end.cancel()
    thread.join()
    now = time.perf_counter()
    arrived += [now] * (len(sent) - len(arrived))
    return [(at - before) * 1e3 for before, at in zip(sent, arrived, strict=True)]


def reference(feeds: int, count: int, gap: float) -> list[float]:
    """Latencies of the technique that backtrader's own live feeds use."""
    datas = [QueueFeed() for _ in range(feeds)]

    def push(minute: int, sent: list[float]) -> None:
        sent.append(time.perf_counter())
        datas[-1].arrivals.put(minute)

    return latencies(datas, push, count, gap)


def ours(
    feeds: int, count: int, gap: float, align_timeout: float = 0.0, clocked: bool = False
) -> list[float]:
    """Latencies of livetrader's feeds, the services in this process."""
    symbols = [f"US.{number}" for number in range(feeds)]
    market = BenchMarket(symbols, clocked=clocked)
    store = LiveTraderStore(service=MarketService(market), align_timeout=align_timeout)
    store.connect()
    datas = [store.getdata(symbol, backfill_start=False) for symbol in symbols]

    async def publish(bar: Kline, sent: list[float]) -> None:
        sent.append(time.perf_counter())
        market.push(bar)

    def push(minute: int, sent: list[float]) -> None:
        store.post(functools.partial(publish, kline(symbols[-1], minute), sent))

    try:
        return latencies(datas, push, count, gap)
    finally:
        store.close()


def one_feed(quick: bool) -> list[Row]:
    """Published bar to ``next()``, one feed."""
    count, rounds = (30, 1) if quick else (300, 5)
    samples: dict[str, list[float]] = {"queue in _load": [], "ours": []}
    for _ in range(rounds):
        samples["queue in _load"] += reference(1, count, 0.01)
        samples["ours"] += ours(1, count, 0.01)
    return [
        Row(
            f"published bar → next(), one feed, {name}",
            "ms",
            {key: tell(values) for key, values in samples.items()},
            [Goal("ours", "queue in _load", most=1.5)],
        )
        for name, tell in (("p50", statistics.median), ("p99", lambda v: percentile(v, 0.99)))
    ]


def many_feeds(quick: bool) -> list[Row]:
    """The same with many feeds of which one is active, a bar every 0.7 s."""
    count = 4 if quick else 30
    rows = []
    for feeds in (2,) if quick else (2, 10, 30):
        theirs = reference(feeds, count, 0.7)
        free = ours(feeds, count, 0.7)
        aligned = ours(feeds, count, 0.7, align_timeout=1.0, clocked=True)
        medians = {
            "queue in _load": statistics.median(theirs),
            "ours": statistics.median(free),
            "ours, aligned": statistics.median(aligned),
        }
        rows.append(Row(f"published bar → next(), 1 of {feeds} feeds active, p50", "ms", medians))
        worst = {
            "queue in _load": percentile(theirs, 0.99),
            "ours": percentile(free, 0.99),
            "ours, aligned": percentile(aligned, 0.99),
        }
        goals: list[Goal | Limit] = [Limit("ours", 5.0, "ms")] if feeds == 30 else []
        note = "aligned: align_timeout=1, each venue's clock known"
        rows.append(Row(f"… p99, {feeds} feeds", "ms", worst, goals, note))
    return rows


def backlog(quick: bool) -> list[Row]:
    """Draining live bars that wait."""
    count, rounds = (1000, 1) if quick else (20_000, 5)

    def drain(feed: Any, fill: Callable[[], None]) -> float:
        arrived: list[float] = []
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(feed)
        cerebro.addstrategy(Latency, arrived=arrived, count=count)
        fill()
        cerebro.run()
        return arrived[-1] - arrived[0]

    def theirs() -> float:
        feed = QueueFeed()
        return drain(feed, lambda: [feed.arrivals.put(n) for n in range(count)] and None)

    def own() -> float:
        market = BenchMarket(["US.A"])
        store = LiveTraderStore(service=MarketService(market), align_timeout=0)
        feed = store.getdata("US.A", backfill_start=False)
        start = feed.start

        async def publish() -> None:
            market.push(*(kline("US.A", n) for n in range(count)))

        def start_with_backlog() -> None:
            start()
            store.call(publish())
            while len(feed._channel.waiting) < count:
                time.sleep(0.01)

        feed.start = start_with_backlog
        try:
            return drain(feed, lambda: None)
        finally:
            store.close()

    samples: dict[str, list[float]] = {"queue in _load": [], "ours": []}
    for _ in range(rounds):
        samples["queue in _load"].append(theirs())
        samples["ours"].append(own())
    values = {name: statistics.median(taken) for name, taken in samples.items()}
    return [
        Row(
            f"drain a backlog of {count:,} live bars, one feed",
            "s",
            values,
            [Goal("ours", "queue in _load", most=1.0)],
        )
    ]
