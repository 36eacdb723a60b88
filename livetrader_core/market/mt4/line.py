"""The two sockets to one expert advisor, and any number of requests in flight over them.

Replies carry the id of their request. A line that is lost stays lost: its hub makes another one,
so that nothing which was asked on the old one is taken for something of the new.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import zmq

from livetrader_core.errors import (
    LiveTraderError,
    NotConnected,
    ProtocolError,
    RequestTimeout,
    Unavailable,
)
from livetrader_core.market.mt4.address import Address
from livetrader_core.market.mt4.fields import LONGEST, Object
from livetrader_core.market.mt4.messages import (
    COMMON_TOPICS,
    Argument,
    Beat,
    Greeting,
    Publication,
    read_publication,
    read_reply,
    request_frames,
)
from livetrader_core.market.mt4.refusal import Refusal, error_of
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.rpc.sockets import Frames, LoopSocket, receive_frames

log = logging.getLogger(__name__)

#: Seconds without a beat, of which one comes each second, after which the line is lost.
SILENCE = 3.0
_HIGH_WATER = 10_000
_EVENT = struct.Struct("=hi")
_FAILED = (
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
)
_WATCHED = int(
    zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(_FAILED) | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
)

_numbers = itertools.count(1)


class Line:
    """A connection to the advisor at ``address`` that works until it is lost.

    ``timeout`` is how long an answer may take, ``hello`` how long connecting may (seconds of the
    computer's time). ``on_lost`` is called once; ``on_publication`` with each publication, in
    order and none twice.
    """

    def __init__(
        self,
        address: Address,
        context: zmq.Context[Any],
        timeout: float,
        hello: float,
        on_publication: Callable[[Publication], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.address = address
        self.lost: Unavailable | None = None
        #: Replies and publications that could not be read, or answered nothing.
        self.strays = 0
        #: Publications that did not arrive, as their numbers tell.
        self.missed = 0
        self._context = context
        self._timeout = timeout
        self._hello = hello
        self._on_publication = on_publication
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._greeting: Greeting | None = None
        self._beat: Beat | None = None
        self._heard_at = self._loop.time()
        self._silence: asyncio.TimerHandle | None = None
        self._waiting: dict[int, asyncio.Future[Object]] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._shaken: list[asyncio.Future[None]] = []
        self._sockets: list[LoopSocket[Any]] = []
        self._requests: LoopSocket[Frames] | None = None
        self._topics: LoopSocket[Frames] | None = None

    @property
    def greeting(self) -> Greeting:
        """What the advisor said of itself when the line was opened."""
        assert self._greeting is not None, "the line was not opened"
        return self._greeting

    @property
    def beat(self) -> Beat:
        """The advisor's last beat."""
        return self.greeting.beat if self._beat is None else self._beat

    # ---- life

    async def open(self) -> None:
        """Connect and exchange greetings. Raises Unavailable, NotAllowed, ProtocolError."""
        deadline = self._loop.time() + self._hello
        try:
            self._requests = self._socket(zmq.DEALER, self.address.requests, self._on_reply)
            await self._shake(deadline)
            self._greeting = Greeting.read(await self._greet(deadline))
            topics = self.address.publications or Endpoint(
                "tcp", host=self.address.requests.host, port=self._greeting.publications
            )
            self._topics = self._socket(zmq.SUB, topics, self._on_frames)
            for topic in COMMON_TOPICS:
                self.subscribe(topic)
            await self._shake(deadline)
        except LiveTraderError as error:
            self._lose(error if isinstance(error, Unavailable) else Unavailable(str(error)), True)
            raise
        self._heard_at = self._loop.time()
        self._look_for_silence()

    async def close(self) -> None:
        """Close the sockets; open requests end with Unavailable."""
        self._lose(NotConnected(f"{self.address}: disconnected"), quiet=True)

    def _socket(
        self, kind: int, endpoint: Endpoint, on_frames: Callable[[Frames], None]
    ) -> LoopSocket[Frames]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.IPV6, ":" in endpoint.host)
        socket.set(zmq.RECONNECT_IVL, -1)
        socket.set(zmq.CONNECT_TIMEOUT, max(1, round(self._hello * 1000)))
        socket.set(zmq.MAXMSGSIZE, LONGEST)
        socket.set(zmq.RCVHWM, _HIGH_WATER)
        if kind == zmq.DEALER:
            # Nothing is queued for an advisor that is not there: it would be done much later.
            socket.set(zmq.IMMEDIATE, 1)
        if self.address.keys is not None:
            self.address.keys.show(socket)
        shaken: asyncio.Future[None] = self._loop.create_future()
        self._shaken.append(shaken)
        monitor = socket.get_monitor_socket(_WATCHED)
        self._sockets.append(LoopSocket(monitor, _receive_event, self._on_event_of(shaken)))
        wrapped = LoopSocket(socket, receive_frames, on_frames)
        self._sockets.append(wrapped)
        try:
            socket.connect(str(endpoint))
        except zmq.ZMQError as error:
            raise Unavailable(f"endpoint: {endpoint}: {error}") from error
        return wrapped

    async def _shake(self, deadline: float) -> None:
        """Wait for the connection made last. Raises Unavailable."""
        left = deadline - self._loop.time()
        done, _ = await asyncio.wait({self._shaken[-1]}, timeout=max(0.0, left))
        if self.lost is not None:
            raise self.lost
        if not done:
            raise Unavailable(
                f"{self.address}: no expert advisor: is MetaTrader running with LiveTrader on a "
                "chart, and are its ports open?"
            )

    async def _greet(self, deadline: float) -> Object:
        try:
            return await self.request("hello", timeout=max(0.01, deadline - self._loop.time()))
        except RequestTimeout:
            raise Unavailable(
                f"{self.address}: what is there does not answer hello: is it LiveTrader, and is "
                "the terminal logged in?"
            ) from None

    def _lose(self, error: Unavailable, quiet: bool = False) -> None:
        if self.lost is not None:
            return
        self.lost = error
        if self._silence is not None:
            self._silence.cancel()
        for socket in self._sockets:
            if not socket.closed and socket.socket.type != zmq.PAIR:
                socket.socket.disable_monitor()
        for socket in self._sockets:
            socket.close()
        for shaken in self._shaken:
            if not shaken.done():
                shaken.set_result(None)
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unavailable(f"{error}; whether it was done is not known"))
        if not quiet:
            self._on_lost()

    def _on_event_of(self, shaken: asyncio.Future[None]) -> Callable[[int], None]:
        def on_event(event: int) -> None:
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                if not shaken.done():
                    shaken.set_result(None)
            elif event in _FAILED:
                self._lose(Unavailable(f"{self.address}: {self._why_failed(event)}"))
            elif shaken.done():
                told = "the expert advisor closed the connection"
                self._lose(NotConnected(f"{self.address}: {told}"))
            else:
                told = "refused: is MetaTrader running with LiveTrader attached to a chart"
                self._lose(NotConnected(f"{self.address}: {told}, and are its ports open?"))

        return on_event

    def _why_failed(self, event: int) -> str:
        keys = self.address.keys
        if keys is None:
            asks = "the expert advisor asks for keys: set keys and server_key"
            # Who asks for keys mostly just hangs up.
            certain = event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            return asks if certain else f"broken off at once: {asks}, or the line was cut"
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return (
                f"the expert advisor does not let in the key {keys.pair.public}: list it in its "
                "input ClientKeys"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return "the expert advisor has no keys: set its input CurveSecretKey"
        return "broken off while keys were exchanged: is server_key the advisor's public key?"

    def _look_for_silence(self) -> None:
        left = self._heard_at + SILENCE - self._loop.time()
        if left <= 0:
            told = f"no heartbeat of the expert advisor for {SILENCE:g} s"
            self._lose(Unavailable(f"{self.address}: {told}"))
        elif self.lost is None:
            self._silence = self._loop.call_later(left, self._look_for_silence)

    # ---- requests

    async def request(
        self, method: str, *args: Argument, timeout: float | None = None
    ) -> dict[str, Any]:
        """The fields of the answer to ``method``.

        Raises NotConnected if it was not sent; RequestTimeout or another Unavailable if no answer
        came, so that it may have been done; what an error reply means (its code is in
        :func:`refusal_of` the error); ProtocolError; InvalidRequest.
        """
        if self.lost is not None or self._requests is None:
            raise NotConnected(str(self.lost or f"{self.address}: not connected"))
        number = next(_numbers)
        frames = request_frames(self.address.token, number, method, args)
        future: asyncio.Future[Object] = self._loop.create_future()
        self._waiting[number] = future
        seconds = self._timeout if timeout is None else timeout
        timer: asyncio.TimerHandle | None = None
        try:
            try:
                self._requests.send_frames(frames)
            except zmq.ZMQError as error:
                raise NotConnected(f"{self.address}: {method} not sent: {error}") from error
            timer = self._loop.call_later(seconds, self._expire, future, method, seconds)
            return await future
        except Refusal as refusal:
            raise error_of(refusal, str(self.address), method) from refusal
        finally:
            self._waiting.pop(number, None)
            if timer is not None:
                timer.cancel()

    def _expire(self, future: asyncio.Future[Object], method: str, seconds: float) -> None:
        if not future.done():
            future.set_exception(
                RequestTimeout(f"{self.address}: no answer to {method} within {seconds:g} s")
            )

    def _on_reply(self, frames: Frames) -> None:
        try:
            number, answer = read_reply(frames)
        except ProtocolError as error:
            self._stray(error)
            self._fail_unread(frames, error)
            return
        future = self._waiting.get(number)
        if future is None or future.done():
            self._stray(ProtocolError("a reply that nobody waits for"))
        elif isinstance(answer, Refusal):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _fail_unread(self, frames: Sequence[bytes | memoryview], error: ProtocolError) -> None:
        """Tell whoever asked, if that can be read, that the answer can't."""
        name = bytes(frames[0][:64])
        future = self._waiting.get(int(name)) if name.isdigit() else None
        if future is not None and not future.done():
            future.set_exception(ProtocolError(f"{self.address}: {error}"))

    def _stray(self, error: ProtocolError) -> None:
        self.strays += 1
        log.debug("%s: %s", self.address, error)

    # ---- publications

    def subscribe(self, topic: str) -> None:
        """Hear the publications of ``topic``, such as ``tick|EURUSD|``."""
        if self.lost is None and self._topics is not None:
            # What was published while nobody listened was not missed.
            name, _, symbol = topic.partition("|")
            self._seen.pop((name, symbol.removesuffix("|")), None)
            self._topics.socket.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Undo one :meth:`subscribe`."""
        if self.lost is None and self._topics is not None:
            self._topics.socket.unsubscribe(topic)

    def _on_frames(self, frames: Frames) -> None:
        try:
            heard = read_publication(frames)
            self._take(heard)
        except ProtocolError as error:
            self._stray(error)

    def _take(self, heard: Publication) -> None:
        if heard.start != self.greeting.start:
            self._lose(NotConnected(f"{self.address}: the expert advisor started anew"))
            return
        key = (heard.topic, heard.symbol)
        before = self._seen.get(key)
        if before is not None and heard.number <= before:
            self._stray(ProtocolError(f"{heard.topic}: number {heard.number} came again"))
            return
        self._seen[key] = heard.number
        missed = 0 if before is None else heard.number - before - 1
        self.missed += missed
        if heard.topic == "beat":
            self._beat = Beat.read(heard.body)
            self._heard_at = self._loop.time()
        self._on_publication(replace(heard, missed=missed) if missed else heard)


def _receive_event(socket: zmq.Socket[Any]) -> int:
    event, _endpoint = socket.recv_multipart(zmq.NOBLOCK)
    return int(_EVENT.unpack(event)[0])
