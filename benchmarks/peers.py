"""The far sides and the measuring clients, each run in a process of its own.

Servers print "ready" and serve until they are ended; clients print what they measured as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import zmq
import zmq.asyncio

from benchmarks.market import BenchMarket, kline, klines

SYMBOL = "US.A"


def run_loop(work: Any) -> None:
    """Run a coroutine under uvloop, as the bare reference is defined."""
    import uvloop

    uvloop.run(work)


def ready() -> None:
    print("ready", flush=True)


def as_map() -> dict[str, Any]:
    one = kline(SYMBOL, 1)
    return {name: one[name] for name in one.__slots__}


# --------------------------------------------------------------------------- requests


def bare_server(endpoint: str, count: str) -> None:
    async def main() -> None:
        socket = zmq.asyncio.Context.instance().socket(zmq.REP)
        socket.bind(endpoint)
        history = klines(SYMBOL, int(count))
        columns = [history.datetime, *history.columns()]
        ready()
        while True:
            if await socket.recv() == b"kline":
                await socket.send(msgpack.packb(as_map()))
            else:
                await socket.send_multipart(columns, copy=False)

    run_loop(main())


def zerorpc_server(endpoint: str, count: str) -> None:
    import zerorpc

    history = klines(SYMBOL, int(count))
    rows = np.column_stack([history.datetime, *history.columns()]).tolist()

    class Service:
        def kline(self) -> dict[str, Any]:
            return as_map()

        def history(self) -> list[list[float]]:
            return rows

    server = zerorpc.Server(Service(), heartbeat=60)
    server.bind(endpoint)
    ready()
    server.run()


def our_server(endpoint: str, count: str) -> None:
    from livetrader_core.rpc import Server
    from livetrader_core.service import MarketService

    server = Server(MarketService(BenchMarket([SYMBOL], int(count))), hwm=0)
    server.bind(endpoint)
    ready()
    server.run()


def timed(call: Callable[[], Any], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return taken


def bare_client(endpoint: str, what: str, count: str) -> None:
    async def main() -> None:
        socket = zmq.asyncio.Context.instance().socket(zmq.REQ)
        socket.connect(endpoint)
        taken = []
        for _ in range(int(count) + 5):
            before = time.perf_counter()
            await socket.send(what.encode())
            if what == "kline":
                msgpack.unpackb(await socket.recv())
            else:
                frames = await socket.recv_multipart(copy=False)
                for frame in frames:
                    np.frombuffer(frame.buffer, np.float64)
            taken.append(time.perf_counter() - before)
        print(json.dumps(taken[5:]))

    run_loop(main())


def zerorpc_client(endpoint: str, what: str, count: str) -> None:
    import zerorpc

    client = zerorpc.Client(timeout=120, heartbeat=60)
    client.connect(endpoint)
    call = getattr(client, what)
    call()
    print(json.dumps(timed(call, int(count))))


def our_client(endpoint: str, what: str, count: str) -> None:
    from livetrader_core.rpc import Client

    client = Client(timeout=60)
    client.connect(endpoint)
    wanted = 1 if what == "kline" else 100_000

    def call() -> None:
        client.get_kline_histories(SYMBOL, None, wanted)

    timed(call, 5)
    print(json.dumps(timed(call, int(count))))
    client.close()


# --------------------------------------------------------------------------- publications


class Arrivals:
    """Counts until ``count`` came; tells how many a second, from the first to the last."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0
        self.first = self.last = 0.0
        self.over = threading.Event()

    def take(self) -> bool:
        """One more; whether it was the last."""
        if not self.seen:
            self.first = time.perf_counter()
        self.seen += 1
        if self.seen == self.count:
            self.last = time.perf_counter()
            self.over.set()
        return self.seen >= self.count

    def tell(self) -> None:
        print(json.dumps((self.count - 1) / (self.last - self.first)))


def bare_publisher(endpoint: str, count: str) -> None:
    async def main() -> None:
        context = zmq.asyncio.Context.instance()
        socket, go = context.socket(zmq.PUB), context.socket(zmq.REP)
        socket.set(zmq.SNDHWM, 0)
        socket.bind(endpoint)
        go.bind(endpoint + "-go")
        ready()
        await go.recv()
        topic = SYMBOL.encode()
        for minute in range(int(count)):
            one = kline(SYMBOL, minute)
            values = [one.datetime, one.open, one.high, one.low, one.close, one.volume]
            await socket.send_multipart([topic, msgpack.packb(values)])
        await asyncio.Event().wait()

    run_loop(main())


def bare_subscriber(endpoint: str, count: str) -> None:
    async def main() -> None:
        context = zmq.asyncio.Context.instance()
        socket, go = context.socket(zmq.SUB), context.socket(zmq.REQ)
        socket.set(zmq.RCVHWM, 0)
        socket.connect(endpoint)
        socket.subscribe(SYMBOL)
        go.connect(endpoint + "-go")
        await asyncio.sleep(0.5)
        await go.send(b"go")
        arrivals = Arrivals(int(count))
        while True:
            _, body = await socket.recv_multipart()
            msgpack.unpackb(body)
            if arrivals.take():
                break
        arrivals.tell()

    run_loop(main())


def zerorpc_publisher(endpoint: str, count: str) -> None:
    import gevent
    import zerorpc
    import zerorpc.gevent_zmq as gevent_zmq

    publisher = zerorpc.Publisher()
    publisher.bind(endpoint)
    go = zerorpc.Context.get_instance().socket(gevent_zmq.REP)
    go.bind(endpoint + "-go")
    ready()
    go.recv()
    for minute in range(int(count)):
        one = kline(SYMBOL, minute)
        publisher.on_kline(one.datetime, one.open, one.high, one.low, one.close, one.volume)
        if minute % 500 == 499:
            gevent.sleep(0.01)  # its sockets drop what is more than 1,000 ahead
    gevent.sleep(300)


def zerorpc_subscriber(endpoint: str, count: str) -> None:
    import gevent
    import zerorpc
    import zerorpc.gevent_zmq as gevent_zmq

    arrivals = Arrivals(int(count))

    class Subscriber(zerorpc.Subscriber):
        def on_kline(self, *values: float) -> None:
            arrivals.take()

    subscriber = Subscriber()
    subscriber.connect(endpoint)
    running = gevent.spawn(subscriber.run)
    go = zerorpc.Context.get_instance().socket(gevent_zmq.REQ)
    go.connect(endpoint + "-go")
    gevent.sleep(0.5)
    go.send(b"go")
    while not arrivals.over.is_set():
        gevent.sleep(0.01)
    running.kill()
    arrivals.tell()


def our_subscriber(endpoint: str, count: str) -> None:
    from livetrader_core.models import Kline
    from livetrader_core.rpc import Client, MarketSubscriber

    arrivals = Arrivals(int(count))

    class Subscriber(MarketSubscriber):
        def on_kline(self, kline: Kline) -> None:
            arrivals.take()

    subscriber = Subscriber(SYMBOL)
    subscriber.connect(endpoint)
    subscriber.run()
    time.sleep(0.5)
    client = Client()
    client.connect(endpoint)
    client.begin_replay(0, int(count))
    arrivals.over.wait(120)
    subscriber.close()
    client.close()
    arrivals.tell()


def universe_server(endpoint: str, size: str) -> None:
    from benchmarks.universe import serve

    serve(endpoint, size)


def universe_follower(endpoint: str, size: str) -> None:
    from benchmarks.universe import follow

    follow(endpoint, size)


def ticks_server(endpoint: str, settings: str) -> None:
    from benchmarks.ticks import serve

    serve(endpoint, settings)


def ticks_follower(endpoint: str, settings: str) -> None:
    from benchmarks.ticks import follow

    follow(endpoint, settings)


def orders_server(endpoint: str, journal: str, venue: str) -> None:
    from benchmarks.orders import serve

    serve(endpoint, journal, venue)


ROLES = {
    name.replace("_", "-"): role
    for name, role in globals().items()
    if name.endswith(("_server", "_client", "_publisher", "_subscriber", "_follower"))
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
