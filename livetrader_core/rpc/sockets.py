"""A ZeroMQ socket in an event loop, without the cost of ``zmq.asyncio``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import zmq

log = logging.getLogger(__name__)

Message = TypeVar("Message")
#: The frames of a message; long ones are not copied.
Frames = list[bytes | memoryview]

#: Messages taken in one go before others in the loop have their turn.
_BATCH = 500
_LONG = 65_536

# As plain integers: the flags of pyzmq are enums, whose arithmetic costs more than a send.
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)


def receive_frames(socket: zmq.Socket[Any], flags: int = _NOBLOCK) -> Frames:
    """The frames of one message. Raises zmq.Again if there is none."""
    frame = socket.recv(flags, copy=False)
    frames: Frames = [content(frame)]
    while frame.more:
        frame = socket.recv(_NOBLOCK, copy=False)
        frames.append(content(frame))
    return frames


def receive_frame(socket: zmq.Socket[Any]) -> bytes:
    """One frame; for sockets where every frame stands for itself. Raises zmq.Again."""
    return socket.recv(_NOBLOCK)


def content(frame: zmq.Frame) -> bytes | memoryview:
    """What is in ``frame``; a long one is not copied."""
    return frame.bytes if len(frame) < _LONG else frame.buffer


class LoopSocket(Generic[Message]):
    """Calls ``on_message`` with each message that ``receive`` takes; sends without blocking.

    Must be made and used inside one running event loop. ZeroMQ's file descriptor tells of changes
    once: after each wake everything is read, and after each send it is looked at again.
    ``on_wake`` is called when the socket may have become writable.
    """

    def __init__(
        self,
        socket: zmq.Socket[Any],
        receive: Callable[[zmq.Socket[Any]], Message],
        on_message: Callable[[Message], None],
        on_wake: Callable[[], None] | None = None,
    ) -> None:
        self.socket = socket
        self._receive = receive
        self._on_message = on_message
        self._on_wake = on_wake
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.get(zmq.FD))
        self._scheduled = False
        self.closed = False
        self._loop.add_reader(self._fd, self._wake)
        self._schedule()  # what came before the reader was there gives no sign

    def send(self, frame: bytes) -> None:
        """Send a message of one frame. Raises zmq.Again if it cannot be taken now, zmq.ZMQError."""
        try:
            self.socket.send(frame, _NOBLOCK)
        finally:
            self._schedule()

    def send_frames(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send a message of several frames. Raises as :meth:`send`, having sent nothing then."""
        send, last = self.socket.send, len(frames) - 1
        try:
            for frame in frames[:last]:
                send(frame, _SNDMORE, len(frame) < _LONG)
            send(frames[last], _NOBLOCK, len(frames[last]) < _LONG)
        finally:
            self._schedule()

    def drain(self) -> None:
        """Take what has arrived, as far as one turn goes."""
        receive, socket, on_message = self._receive, self.socket, self._on_message
        for _ in range(_BATCH):
            if self.closed:
                return
            try:
                message = receive(socket)
            except zmq.Again:
                return
            try:
                on_message(message)
            except Exception:  # whatever came, the next message must be heard
                log.exception("a message could not be handled")
        self._schedule()

    def close(self) -> None:
        """Close the socket; what was not sent yet is dropped. May be called more than once."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        self.socket.close(linger=0)

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
        if self.closed:
            return
        events = int(self.socket.getsockopt(zmq.EVENTS))
        if events & _POLLIN:
            self.drain()
        if events & _POLLOUT and self._on_wake is not None and not self.closed:
            self._on_wake()


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
