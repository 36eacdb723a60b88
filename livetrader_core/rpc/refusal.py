"""Why a server at a tcp endpoint does not let us in: ZeroMQ itself gives a client no word of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import zmq
from typing_extensions import Self
from zmq.utils.monitor import parse_monitor_message

from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.rpc.keys import Keys

#: Seconds that a server is given at most to refuse us, and between two looks.
_PATIENCE, _PAUSE = 0.5, 0.01

_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


def time_to_greet(endpoint: Endpoint, timeout: float) -> float:
    """Of ``timeout`` seconds, those after which to ask :func:`why_refused` what is wrong."""
    return timeout - min(_PATIENCE, timeout / 2) if endpoint.scheme == "tcp" else timeout


async def why_refused(endpoint: Endpoint, keys: Keys | None, deadline: float) -> str:
    """What keeps the server at ``endpoint`` from talking to us; "" if it is not there.

    It is asked until ``deadline`` (monotonic seconds).
    """
    if endpoint.scheme != "tcp":
        return ""
    with _Knock(endpoint, keys) as knock:
        for _ in range(_looks(deadline)):
            if heard := knock.heard():
                return heard
            await asyncio.sleep(_PAUSE)
    return ""


def _looks(deadline: float) -> int:
    return round(max(0.0, min(_PATIENCE, deadline - time.monotonic())) / _PAUSE)


def why_refused_blocking(endpoint: Endpoint, keys: Keys | None, deadline: float) -> str:
    """:func:`why_refused` where there is no event loop."""
    if endpoint.scheme != "tcp":
        return ""
    with _Knock(endpoint, keys) as knock:
        for _ in range(_looks(deadline)):
            if heard := knock.heard():
                return heard
            time.sleep(_PAUSE)
    return ""


class _Knock:
    """A connection that is only made to see how it fails."""

    def __init__(self, endpoint: Endpoint, keys: Keys | None) -> None:
        self._keys = keys
        self._socket: zmq.Socket[Any] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.IPV6, 1)
        if keys is not None:
            keys.show(self._socket)
        self._monitor: zmq.Socket[Any] = self._socket.get_monitor_socket(_FAILURES)
        self._endpoint = endpoint

    def __enter__(self) -> Self:
        self._socket.connect(str(self._endpoint))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def heard(self) -> str:
        """Why it failed, as soon as it did."""
        if not self._monitor.poll(0):
            return ""
        event = parse_monitor_message(self._monitor.recv_multipart())["event"]
        return self._meaning(int(event))

    def _meaning(self, event: int) -> str:
        if self._keys is None:
            asks = "the server asks for keys; make some with `livetrader keys new` and give them"
            # Who asks for keys mostly just hangs up.
            certain = event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            return asks if certain else f"{asks}; or the line was cut"
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return (
                f"the server does not let in the key {self._keys.pair.public}; list it there under "
                "[server.clients]"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return "the server has no keys; connect without them, or do not connect"
        return (
            "the server broke off while keys were exchanged: is the server key the one that "
            "`livetrader keys show` prints there?"
        )
