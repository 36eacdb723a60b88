"""From ``buy()`` to the venue's socket, from its fill to ``notify_order``, and orders a second."""

from __future__ import annotations

import asyncio
import socket
import statistics
import threading
import time
from typing import Any

import backtrader as bt

from benchmarks.delivery import QueueFeed, latencies
from benchmarks.harness import Row, peer, percentile
from benchmarks.market import BenchMarket, kline
from benchmarks.venue import SocketTrade, SocketVenue, line_of, sides
from benchmarks.wire import folder
from livetrader_bt import LiveTraderStore
from livetrader_core.models import Order, OrderType

SYMBOL = "US.A"
#: Seconds between two bars, each of which makes the strategy order.
GAP = 0.02


def serve(endpoint: str, journal: str, venue: str) -> None:
    """The server that trades: a bar every :data:`GAP`, the journal on disk."""
    from livetrader_core.rpc import Server
    from livetrader_core.service import MarketService
    from livetrader_core.trade import TradeService

    class PacedMarket(BenchMarket):
        async def connect(self) -> None:
            self._pushing = asyncio.get_running_loop().create_task(self._push())

        async def disconnect(self) -> None:
            self._pushing.cancel()

        async def _push(self) -> None:
            minute = 0
            while True:
                await asyncio.sleep(GAP)
                self.push(kline(SYMBOL, minute))
                minute += 1

    market = MarketService(PacedMarket([SYMBOL]))
    server = Server(market, TradeService(SocketTrade(venue), journal))
    server.bind(endpoint)
    print("ready", flush=True)
    server.run()


class Trader(bt.Strategy):
    """Orders on every bar once live, and notes when it did and when it heard of the fill."""

    params = (("count", 0), ("ordered", None), ("told", None))

    def __init__(self) -> None:
        self.live = False

    def notify_data(self, data: Any, status: int, *args: Any, **kwargs: Any) -> None:
        self.live = status == data.LIVE

    def notify_order(self, order: bt.Order) -> None:
        if order.status == order.Completed:
            self.p.told[order.info.client_order_id] = time.perf_counter()
            if len(self.p.told) == self.p.count:
                self.env.runstop()

    def next(self) -> None:
        if self.live and len(self.p.ordered) < self.p.count:
            before = time.perf_counter()
            order = self.sell() if len(self.p.ordered) % 2 else self.buy()
            self.p.ordered[order.info.client_order_id] = before


def ours(count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from ``buy()`` to the venue, and from its fill to ``notify_order``."""
    with folder() as path:
        venue = SocketVenue(f"{path}/venue")
        ordered: dict[str, float] = {}
        told: dict[str, float] = {}
        endpoint = f"ipc://{path}/server"
        with peer("orders-server", endpoint, f"{path}/journal", venue.path):
            store = LiveTraderStore(endpoint, align_timeout=0)
            cerebro = bt.Cerebro(stdstats=False)
            cerebro.adddata(store.getdata(SYMBOL, backfill_start=False))
            cerebro.setbroker(store.getbroker(ids=f"{path}/ids"))
            cerebro.addstrategy(Trader, count=count, ordered=ordered, told=told)
            try:
                cerebro.run()
            finally:
                store.close()
        venue.close()
    out = [(venue.arrived[name] - at) * 1e3 for name, at in ordered.items()]
    back = [(told[name] - at) * 1e3 for name, at in venue.filled.items()]
    return out, back


def bare(count: int) -> list[float]:
    """Milliseconds to the venue when ``next()`` writes to its socket itself: nothing is kept."""
    with folder() as path:
        venue = SocketVenue(f"{path}/venue")
        sent: dict[str, float] = {}

        class Writer(QueueFeed):
            def _load(self) -> bool | None:
                loaded = super()._load()
                if loaded:
                    name = str(len(sent))
                    sent[name] = time.perf_counter()
                    line.sendall(line_of(name, quantity=1.0))
                return loaded

        with socket.socket(socket.AF_UNIX) as line:
            line.connect(venue.path)
            answers = threading.Thread(target=line.makefile("rb").read)
            answers.start()
            feed = Writer()

            def push(minute: int, pushed: list[float]) -> None:
                pushed.append(time.perf_counter())
                feed.arrivals.put(minute)

            latencies([feed], push, count, GAP)
            line.shutdown(socket.SHUT_WR)
            answers.join()
        venue.close()
    return [(venue.arrived[name] - at) * 1e3 for name, at in sent.items()]


def latency(quick: bool) -> list[Row]:
    """``buy()`` to the venue's socket, and its fill to ``notify_order``; the journal is on."""
    count, rounds = (20, 1) if quick else (500, 3)
    samples: dict[str, list[float]] = {"socket written in next()": [], "ours": []}
    fills: list[float] = []
    for _ in range(rounds):
        samples["socket written in next()"] += bare(count)
        out, back = ours(count)
        samples["ours"] += out
        fills += back
    note = "journal on disk, server over ipc; the other keeps nothing and checks nothing"
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        values = {key: percentile(taken, share) for key, taken in samples.items()}
        rows.append(Row(f"buy() in next() → order at the venue's socket, {name}", "ms", values))
        rows[-1].note = note
    values = {"ours": statistics.median(fills), "ours, p99": percentile(fills, 0.99)}
    rows.append(Row("fill at the venue → notify_order(), p50", "ms", values))
    return rows


def throughput(quick: bool) -> list[Row]:
    """Orders a second through one server: each is journaled when it is sent, taken and filled."""
    count, rounds = (50, 1) if quick else (1000, 3)
    values = {
        "one after the other": statistics.median(_rate(count // 2, 1) for _ in range(rounds)),
        "ours": statistics.median(_rate(count, 64) for _ in range(rounds)),
    }
    note = "64 at once; every order is written to disk three times before it is filled"
    return [Row("orders a second", "1/s", values, note=note)]


def _rate(count: int, at_once: int) -> float:
    from livetrader_core.rpc import AsyncClient

    async def place(endpoint: str) -> float:
        client = AsyncClient()
        await client.connect(endpoint)
        free = asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with free:
                name = f"b-{number}"
                await client.create_order(Order(name, SYMBOL, sides(number), OrderType.MARKET, 1.0))

        before = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(count)))
        rate = count / (time.perf_counter() - before)
        await client.close()
        return rate

    with folder() as path:
        venue = SocketVenue(f"{path}/venue")
        endpoint = f"ipc://{path}/server"
        with peer("orders-server", endpoint, f"{path}/journal", venue.path):
            rate = asyncio.run(place(endpoint))
        venue.close()
    return rate
