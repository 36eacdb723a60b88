"""How the published Python connector talks to the DWX expert advisor, with plain pyzmq.

PUSH and PULL with a high-water mark of 1, SUB with a prefix, everything with DONTWAIT; a thread
that polls both and keeps the last answer. Where the connector runs answers through ``eval``, this
reads them as literals. It shares nothing with the adapter.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message


class PublishedConnector:
    """A client with the connector's command texts; all methods block."""

    def __init__(self, host: str, push: int, pull: int, sub: int) -> None:
        self._context = zmq.Context()
        self._push = self._context.socket(zmq.PUSH)
        self._push.setsockopt(zmq.SNDHWM, 1)
        self._pull = self._context.socket(zmq.PULL)
        self._pull.setsockopt(zmq.RCVHWM, 1)
        self._sub = self._context.socket(zmq.SUB)
        monitors = [s.get_monitor_socket() for s in (self._push, self._pull, self._sub)]
        for socket, port in ((self._push, push), (self._pull, pull), (self._sub, sub)):
            socket.connect(f"tcp://{host}:{port}")
        for monitor in monitors:
            while recv_monitor_message(monitor)["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED:
                pass
        for socket in (self._push, self._pull, self._sub):
            socket.disable_monitor()
        for monitor in monitors:
            monitor.close()
        time.sleep(0.05)  # the other side's handshakes end a little later
        self._ended = Event()
        self.frames: list[str] = []
        self.published: list[str] = []
        self._thread = Thread(target=self._poll, daemon=True)
        self._thread.start()

    def __enter__(self) -> PublishedConnector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._context.destroy(0)

    def _poll(self) -> None:
        poller = zmq.Poller()
        poller.register(self._pull, zmq.POLLIN)
        poller.register(self._sub, zmq.POLLIN)
        while not self._ended.is_set():
            ready = dict(poller.poll(20))
            if self._pull in ready:
                parts = self._pull.recv_multipart(zmq.DONTWAIT)
                self.frames.append(" + ".join(part.decode() for part in parts))
            if self._sub in ready:
                self.published.append(self._sub.recv_string(zmq.DONTWAIT))

    # ---- commands

    def send(self, command: str) -> None:
        """Send a command as it stands, once there is somebody to take it."""
        until(lambda: bool(self._push.poll(0, zmq.POLLOUT)))
        self._push.send_string(command, zmq.DONTWAIT)

    def ask(self, command: str, frames: int = 2) -> list[str]:
        """The frames that a command yields: its reply, and an empty one."""
        before = len(self.frames)
        self.send(command)
        until(lambda: len(self.frames) >= before + frames)
        return self.frames[before:]

    def read(self, command: str) -> Any:
        """The reply to a command, as the connector understands it."""
        reply, empty = self.ask(command)
        assert empty == ""
        return ast.literal_eval(reply)

    def heartbeat(self) -> Any:
        return self.read("HEARTBEAT;")

    def history(self, symbol: str, timeframe: int, start: str, end: str) -> Any:
        return self.read(f"HIST;{symbol};{timeframe};{start};{end}")

    def trade(self, action: str) -> Any:
        """A TRADE command with the connector's default order in its eleven fields."""
        return self.read(f"TRADE;{action};0;EURUSD;0.0;500;500;dwx-zeromq;0.01;123456;0")

    def track_prices(self, *symbols: str) -> Any:
        for symbol in symbols:
            self._sub.setsockopt_string(zmq.SUBSCRIBE, symbol)
        return self.read(";".join(("TRACK_PRICES", *symbols)))

    def track_rates(self, *instruments: tuple[str, int]) -> Any:
        for symbol, _ in instruments:
            self._sub.setsockopt_string(zmq.SUBSCRIBE, symbol)
        pairs = [f"{symbol};{timeframe}" for symbol, timeframe in instruments]
        return self.read(";".join(("TRACK_RATES", *pairs)))


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for ``condition``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)
