"""The three sockets to one expert advisor, and one request at a time over them.

The protocol has no request ids, so order is all there is: a request is sent when the one before
it is over, and a reply counts only if it can be the answer. After a time-out the sockets are
thrown away, for the late answer would else be taken for the next one's.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from livetrader_core.errors import (
    NotConnected,
    ProtocolError,
    RequestTimeout,
    Unavailable,
)
from livetrader_core.market.dwx.messages import HEARTBEAT, answers, check_blocked
from livetrader_core.market.dwx.replies import LONGEST_REPLY, Reply, parse_reply
from livetrader_core.rpc.sockets import LoopSocket, receive_frame

log = logging.getLogger(__name__)

Accept = Callable[[Reply], bool]

_LONGEST_PUBLICATION = 4096
#: How long the empty frame may come behind its reply; builds before 2020 send none.
_EMPTY_WAIT = 0.25
#: The advisor's side of a connection may be ready a little later than ours, and drop its answer.
_HELLO_AGAIN = 0.2
_EVENT = struct.Struct("=hi")
_WATCHED = int(
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
)


@dataclass(frozen=True)
class Address:
    """Where an expert advisor listens. The names of the ports are the client's side of them."""

    host: str
    push: int
    pull: int
    sub: int

    def __str__(self) -> str:
        return f"{self.host}:{self.push}/{self.pull}/{self.sub}"

    def endpoint(self, port: int) -> str:
        """The ZeroMQ endpoint of one of the ports."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{port}"


class Line:
    """A connection that works until it is lost; then a new one is made.

    ``timeout`` is how long an answer may take, ``hello`` how long connecting may (seconds of the
    computer's time). ``on_lost`` is called once, ``on_publication`` with each published frame.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: Address,
        timeout: float,
        hello: float,
        on_publication: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.address = address
        self.lost: Unavailable | None = None
        #: Whether this build sends an empty frame behind each reply.
        self.empty_frames = True
        #: How many replies came that answered nothing.
        self.strays = 0
        self._timeout = timeout
        self._hello = hello
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._frames: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._exchanges: set[asyncio.Task[Reply | None]] = set()
        self._busy = False
        self._shaken = 0
        self._old_empties = 0
        self._sockets: list[LoopSocket[Any]] = []
        self._push = self._socket(context, zmq.PUSH, address.push, lambda frame: None)
        self._socket(context, zmq.PULL, address.pull, self._on_reply)
        self._sub = self._socket(context, zmq.SUB, address.sub, on_publication)

    def _socket(
        self, context: zmq.Context[Any], kind: int, port: int, on_frame: Callable[[bytes], None]
    ) -> LoopSocket[bytes]:
        socket = context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.IPV6, ":" in self.address.host)
        socket.set(zmq.RECONNECT_IVL, -1)
        socket.set(zmq.CONNECT_TIMEOUT, max(1, round(self._hello * 1000)))
        limit = _LONGEST_PUBLICATION if kind == zmq.SUB else LONGEST_REPLY
        socket.set(zmq.MAXMSGSIZE, limit)
        if kind == zmq.PUSH:
            # Nothing is queued for an advisor that is not there: it would run much later.
            socket.set(zmq.IMMEDIATE, 1)
        monitor = socket.get_monitor_socket(_WATCHED)
        self._sockets.append(LoopSocket(monitor, _receive_event, self._on_event))
        try:
            socket.connect(self.address.endpoint(port))
        except zmq.ZMQError as error:
            socket.disable_monitor()
            socket.close()
            lost = Unavailable(f"host: {self.address.endpoint(port)}: {error}")
            self._lose(lost, quiet=True)
            raise lost from error
        receive = _receive_nothing if kind == zmq.PUSH else receive_frame
        wrapped = LoopSocket(socket, receive, on_frame)
        self._sockets.append(wrapped)
        return wrapped

    # ---- life

    async def open(self) -> None:
        """Wait for all three connections and prove that the advisor answers. Raises Unavailable."""
        deadline = self._loop.time() + self._hello
        try:
            while self._shaken < 3:
                await self._change(deadline - self._loop.time())
        except RequestTimeout:
            error = Unavailable(
                f"{self.address}: no expert advisor: is MetaTrader running with it attached to a "
                "chart, and are the ports open?"
            )
            self._lose(error)
            raise error from None
        # Twice: the answer to what an earlier line asked may come between.
        await self._hear(self._hello, again=_HELLO_AGAIN)
        await self._hear(self._hello)

    async def close(self) -> None:
        """Close the sockets; an open request ends with NotConnected."""
        self._lose(NotConnected(f"{self.address}: disconnected"), quiet=True)
        if self._exchanges:
            await asyncio.wait(self._exchanges)

    def _lose(self, error: Unavailable, quiet: bool = False) -> None:
        if self.lost is not None:
            return
        self.lost = error
        for socket in self._sockets:
            if not socket.closed and socket.socket.type != zmq.PAIR:
                socket.socket.disable_monitor()
        for socket in self._sockets:
            socket.close()
        self._wake()
        if not quiet:
            self._on_lost()

    # ---- what arrives

    def _on_event(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._shaken += 1
            self._wake()
        elif self._shaken < 3:
            self._lose(
                NotConnected(
                    f"{self.address}: refused: is MetaTrader running with the expert advisor "
                    "attached to a chart, and are the ports open?"
                )
            )
        else:
            self._lose(NotConnected(f"{self.address}: the expert advisor closed the connection"))

    def _on_reply(self, frame: bytes) -> None:
        if self._busy:
            self._frames.append(frame)
            self._wake()
        else:
            self._drop(frame)

    def _drop(self, frame: bytes) -> None:
        """Leave out a frame that answers nothing in flight, and expect its empty frame."""
        self.strays += bool(frame)
        step = 1 if frame else -1
        self._old_empties = max(0, self._old_empties + step * self.empty_frames)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _change(self, seconds: float) -> None:
        """Wait until something happens. Raises RequestTimeout, and what the line was lost with."""
        if self.lost is None:
            waiting = self._waiting = self._loop.create_future()
            timer = self._loop.call_later(seconds, _expire, waiting)
            try:
                await waiting
            finally:
                timer.cancel()
        if self.lost is not None:
            raise self.lost

    async def _frame(self, seconds: float) -> bytes:
        while not self._frames:
            await self._change(seconds)
        return self._frames.popleft()

    # ---- requests

    async def request(self, command: str, accept: Accept) -> Reply | None:
        """The answer to ``command``: the first reply that ``accept`` says can be it.

        None if only the empty frame came: a command that this build doesn't know, or a lost
        reply. A caller that is cancelled leaves the exchange running to its end, so that nobody
        else gets its answer. Raises RequestTimeout, Unavailable, ProtocolError.
        """
        return await self._start(command, accept, self._timeout)

    async def heartbeat(self) -> float:
        """Have the advisor say that it lives; whatever came before its answer is dropped.

        Returns the seconds that it took.
        """
        began = self._loop.time()
        await self._hear(self._timeout)
        return self._loop.time() - began

    async def _hear(self, seconds: float, again: float | None = None) -> None:
        if await self._start(HEARTBEAT, answers("heartbeat"), seconds, again) is None:
            error = Unavailable(f"{self.address}: what is there does not answer HEARTBEAT")
            self._lose(error)
            raise error

    def _start(
        self, command: str, accept: Accept, seconds: float, again: float | None = None
    ) -> asyncio.Future[Reply | None]:
        exchange = self._loop.create_task(self._in_turn(command, accept, seconds, again))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._end)
        return asyncio.shield(exchange)

    def _end(self, exchange: asyncio.Task[Reply | None]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # its caller may be gone, and nobody else asks

    async def _in_turn(
        self, command: str, accept: Accept, seconds: float, again: float | None
    ) -> Reply | None:
        async with self._turn:
            if self.lost is not None:
                raise self.lost
            self._busy = True
            try:
                return await self._exchange(command, accept, seconds, again)
            except ProtocolError as error:
                self._lose(Unavailable(f"{self.address}: {error}"))
                raise
            finally:
                self._busy = False
                while self._frames:
                    self._drop(self._frames.popleft())

    async def _exchange(
        self, command: str, accept: Accept, seconds: float, again: float | None
    ) -> Reply | None:
        """Send ``command`` and wait for its answer; after ``again`` seconds send it once more."""
        self._send(command)
        deadline = self._loop.time() + seconds
        while True:
            left = deadline - self._loop.time()
            try:
                frame = await self._frame(left if again is None else min(again, left))
            except RequestTimeout:
                if self._loop.time() >= deadline:
                    raise self._silent(command, seconds) from None
                self._send(command)
                continue
            if not frame:
                if self._is_own_empty():
                    return None
                continue
            reply = parse_reply(frame)
            check = _blocked(reply)
            if check is None and not accept(reply):
                log.debug("%s: a stray reply was dropped: %.80r", self.address, frame)
                self._drop(frame)
                continue
            await self._take_empty()
            if check is not None:
                raise check
            return reply

    def _silent(self, command: str, seconds: float) -> RequestTimeout:
        error = RequestTimeout(
            f"{self.address}: no answer to {command.partition(';')[0]} within {seconds:g} s"
        )
        self._lose(error)
        return error

    def _send(self, command: str) -> None:
        try:
            self._push.send(command.encode())
        except zmq.ZMQError as error:
            lost = NotConnected(f"{self.address}: {command.partition(';')[0]} not sent: {error}")
            self._lose(lost)
            raise lost from error

    def _is_own_empty(self) -> bool:
        """Whether an empty frame that came first belongs to the request in flight."""
        if not self.empty_frames:
            self.empty_frames = True
            return False
        if self._old_empties:
            self._old_empties -= 1
            return False
        return True

    async def _take_empty(self) -> None:
        """Step over the empty frame behind a reply, and over copies of the reply before it."""
        if not self.empty_frames:
            return
        try:
            while await self._frame(_EMPTY_WAIT):
                self.strays += 1
        except RequestTimeout:
            self.empty_frames = False

    # ---- subscriptions

    def subscribe(self, topic: str) -> None:
        """Hear publications whose topic begins with ``topic``."""
        if self.lost is None:
            self._sub.socket.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Undo one :meth:`subscribe`."""
        if self.lost is None:
            self._sub.socket.unsubscribe(topic)


def _blocked(reply: Reply) -> Unavailable | None:
    try:
        check_blocked(reply)
    except Unavailable as error:
        return error
    return None


def _receive_nothing(socket: zmq.Socket[Any]) -> bytes:
    # A PUSH socket only sends; but its wakes must be taken notice of, or they go on.
    socket.getsockopt(zmq.EVENTS)
    raise zmq.Again


def _receive_event(socket: zmq.Socket[Any]) -> int:
    event, _endpoint = socket.recv_multipart(zmq.NOBLOCK)
    return int(_EVENT.unpack(event)[0])


def _expire(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_exception(RequestTimeout())
