"""A ZeroMQ socket in an event loop, without the cost of ``zmq.asyncio``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import zmq

log = logging.getLogger(__name__)

#: Messages taken in one go before others in the loop have their turn.
_BATCH = 500

Frames = list[bytes]


class LoopSocket:
    """Calls ``on_message`` with the frames of each message that arrives; sends without blocking.

    Must be made and used inside one running event loop. ZeroMQ's file descriptor tells of changes
    once: after each wake everything is read, and after each send it is looked at again.
    ``on_wake`` is called when the socket may have become writable.
    """

    def __init__(
        self,
        socket: zmq.Socket[Any],
        on_message: Callable[[Frames], None],
        on_wake: Callable[[], None] | None = None,
    ) -> None:
        self.socket = socket
        self._on_message = on_message
        self._on_wake = on_wake
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.get(zmq.FD))
        self._scheduled = False
        self.closed = False
        self._loop.add_reader(self._fd, self._wake)
        self._schedule()  # what came before the reader was there gives no sign

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message. Raises zmq.Again if it cannot be taken now, zmq.ZMQError otherwise."""
        socket = self.socket
        last = len(frames) - 1
        try:
            for position, frame in enumerate(frames):
                flags = zmq.NOBLOCK if position == last else zmq.NOBLOCK | zmq.SNDMORE
                socket.send(frame, flags)
        finally:
            self._schedule()

    def drain(self) -> None:
        """Take what has arrived, as far as one turn goes."""
        if self.closed:
            return
        recv, get = self.socket.recv, self.socket.getsockopt
        for _ in range(_BATCH):
            try:
                frames = [recv(zmq.NOBLOCK)]
                while get(zmq.RCVMORE):
                    frames.append(recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._handle(frames)
            if self.closed:
                return
        self._schedule()

    def close(self) -> None:
        """Close the socket; what was not sent yet is dropped. May be called more than once."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        self.socket.close(linger=0)

    def _handle(self, frames: Frames) -> None:
        try:
            self._on_message(frames)
        except Exception:  # whatever came, the next message must be heard
            log.exception("a message could not be handled")

    def _wake(self) -> None:
        self.drain()
        if self._on_wake is not None and not self.closed:
            self._on_wake()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self.closed and int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self.drain()


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
