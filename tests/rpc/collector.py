"""A subscriber in a process of its own: ``python -m tests.rpc.collector ENDPOINT SYMBOL…``.

It prints "ready", collects klines until it has those of the number that it reads from its standard
input, and prints what it collected as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict

from livetrader_core.models import FeedState, FeedStatus, Kline
from livetrader_core.rpc import MarketSubscriber
from tests.support.scripted_market import START
from tests.support.ticking_market import MINUTE


class Collector(MarketSubscriber):
    """Keeps everything."""

    def __init__(self, symbols: list[str]) -> None:
        super().__init__(symbols, timeout=1.0)
        self.klines: dict[str, list[list[object]]] = defaultdict(list)
        self.breaks = 0
        self.arrived = threading.Condition()

    def on_kline(self, kline: Kline) -> None:
        row = [getattr(kline, name) for name in Kline.__slots__]
        with self.arrived:
            self.klines[kline.symbol].append(row)
            self.arrived.notify()

    def on_status(self, status: FeedStatus) -> None:
        self.breaks += status.state is FeedState.DISCONNECTED

    def last(self) -> int:
        """The number of the kline that every symbol has reached."""
        if len(self.klines) < len(self.symbols):
            return -1
        newest = min(int(str(rows[-1][2])) for rows in self.klines.values())
        return (newest - START) // MINUTE


def main() -> None:
    endpoint, *symbols = sys.argv[1:]
    collector = Collector(symbols)
    collector.connect(endpoint)
    collector.run()
    with collector.arrived:
        collector.arrived.wait_for(lambda: collector.last() >= 0)
    print("ready", flush=True)
    number = int(sys.stdin.readline())
    with collector.arrived:
        complete = collector.arrived.wait_for(lambda: collector.last() >= number, 30.0)
    collector.close()
    json.dump([complete, collector.breaks, collector.klines], sys.stdout)


if __name__ == "__main__":
    main()
