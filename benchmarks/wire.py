"""Rows of the wire: request and reply, publish to subscriber, history."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.harness import Goal, Row, ask, interleaved, peer

CONTENDERS = ("bare", "zerorpc", "our")


@contextmanager
def folder() -> Iterator[str]:
    """A short path for ipc sockets."""
    path = tempfile.mkdtemp(prefix="ltb")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def exchange(contender: str, what: str, count: int, history: int) -> list[float]:
    """Seconds that each of ``count`` requests took, server and client in processes of their own."""
    with folder() as path:
        endpoint = f"ipc://{path}/{contender}"
        with peer(f"{contender}-server", endpoint, str(history)):
            taken: list[float] = ask(f"{contender}-client", endpoint, what, str(count))
            return taken


def requests(quick: bool) -> list[Row]:
    """Request and reply of one kline."""
    count = 200 if quick else 3000

    def median_us(contender: str) -> Callable[[], float]:
        return lambda: statistics.median(exchange(contender, "kline", count, 1000)) * 1e6

    values = interleaved({name: median_us(name) for name in CONTENDERS}, 1 if quick else 5)
    return [
        Row(
            "request and reply of one kline, ipc, p50",
            "µs",
            _named(values),
            [
                Goal("ours", "bare asyncio pyzmq", most=1.3),
                Goal("ours", "zerorpc", most=1 / 2.5),
            ],
        )
    ]


def history(quick: bool) -> list[Row]:
    """100,000 klines in one reply."""
    # Enough that the allocator has settled on reusing its pages, on both sides.
    count = 3 if quick else 100

    def median_ms(contender: str) -> Callable[[], float]:
        return lambda: statistics.median(exchange(contender, "history", count, 100_000)) * 1e3

    values = interleaved({name: median_ms(name) for name in CONTENDERS}, 1 if quick else 5)
    return [
        Row(
            "100,000 klines of history, ipc",
            "ms",
            _named(values),
            [Goal("ours", "bare asyncio pyzmq", most=2.0)],
            "bare: the columns as raw frames, in one reply; zerorpc: a list of lists",
        )
    ]


def publications(quick: bool) -> list[Row]:
    """Publisher to subscriber, one process each."""
    counts = {"bare": 100_000, "zerorpc": 20_000, "our": 100_000}

    def rate(contender: str) -> Callable[[], float]:
        count = 5000 if quick else counts[contender]

        def measure() -> float:
            with folder() as path:
                endpoint = f"ipc://{path}/{contender}"
                server = "our-server" if contender == "our" else f"{contender}-publisher"
                with peer(server, endpoint, "10" if contender == "our" else str(count)):
                    measured: float = ask(f"{contender}-subscriber", endpoint, str(count))
                    return measured

        return measure

    values = interleaved({name: rate(name) for name in CONTENDERS}, 1 if quick else 5)
    return [
        Row(
            "publish → subscriber, ipc",
            "klines/s",
            _named(values),
            [
                Goal("ours", "bare asyncio pyzmq", least=0.7),
                Goal("ours", "zerorpc", least=2.5),
            ],
            "ours delivers Kline objects with their gaps checked; bare unpacks a list",
        )
    ]


def _named(values: dict[str, float]) -> dict[str, float]:
    names = {"bare": "bare asyncio pyzmq", "zerorpc": "zerorpc", "our": "ours"}
    return {names[key]: value for key, value in values.items()}
