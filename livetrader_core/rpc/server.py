"""Server: a market service, a trade service or both, behind one endpoint."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import secrets
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import zmq

from livetrader_core.errors import (
    EndpointError,
    InvalidRequest,
    LiveTraderError,
    OutcomeUnknown,
    RequestTimeout,
    TooBusy,
)
from livetrader_core.local import describe_markets
from livetrader_core.rpc import protocol
from livetrader_core.rpc.endpoints import (
    EVENTS_SUFFIX,
    Endpoint,
    EndpointLock,
    bind_socket,
    tcp_address,
)
from livetrader_core.rpc.guard import OWNER, Allowed, Guard, check_allowed
from livetrader_core.rpc.methods import Methods, Peer
from livetrader_core.rpc.protocol import BadRequest, Greeting, Reply, Request
from livetrader_core.rpc.publisher import Publisher
from livetrader_core.rpc.sockets import Frames, LoopSocket, new_loop, receive_frame, receive_frames
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService

log = logging.getLogger(__name__)

#: Connections the server remembers; the longest silent one is forgotten first.
_MAX_PEERS = 4096
#: Seconds of silence after which a client is forgotten.
_SILENCE = 60.0
#: Replies that wait for a client that does not read.
_MAX_UNREAD = 1000

#: Methods that may have done something when their time is over.
_MAY_HAVE_HAPPENED = ("create_order", "modify_order")


class Server:
    """Serves a MarketService, a TradeService, or one of each.

    ``heartbeat`` is the time between heartbeats in seconds. ``max_in_flight`` bounds the open
    requests of each client, ``max_subscriptions`` its kline streams, ``hwm`` the publications that
    wait for a slow subscriber before it loses some (it notices, and fills the hole). With a
    ``guard`` tcp endpoints ask clients for their keys, and may be reached from other computers.

    ::

        server = Server(MarketService(market))
        server.bind("ipc:///tmp/market")
        server.run()
    """

    def __init__(
        self,
        *services: MarketService | TradeService,
        heartbeat: float = 1.0,
        max_in_flight: int = 128,
        max_subscriptions: int = 4096,
        hwm: int = 20_000,
        guard: Guard | None = None,
    ) -> None:
        if not services:
            raise InvalidRequest("a server needs a MarketService, a TradeService, or both")
        self._market: MarketService | None = None
        self._trade: TradeService | None = None
        for service in services:
            self._take(service)
        self.start_id = secrets.token_hex(4)
        self.version = importlib.metadata.version("livetrader")
        self.heartbeat = heartbeat
        self.max_in_flight = max_in_flight
        self._hwm = hwm
        self._guard = guard
        self._publisher = Publisher(self.start_id, self._publish)
        self._methods = Methods(
            self._market,
            self._trade,
            self._publisher,
            self._hello,
            self.stats,
            max_subscriptions,
        )
        self._started_at = time.monotonic()
        self._counts = dict.fromkeys(
            ("requests", "errors", "timeouts", "bad_frames", "unsent_replies"), 0
        )
        self._peers: OrderedDict[bytes, Peer] = OrderedDict()
        self._endpoints: list[Endpoint] = []
        self._events: dict[str, str] = {}
        self._locks: list[EndpointLock] = []
        self._router: zmq.Socket[Any] | None = None
        self._xpub: zmq.Socket[Any] | None = None
        self._requests: LoopSocket[Any] | None = None
        self._publications: LoopSocket[bytes] | None = None
        self._removers: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._end_wanted = threading.Event()

    def _take(self, service: MarketService | TradeService) -> None:
        if isinstance(service, MarketService) and self._market is None:
            self._market = service
        elif isinstance(service, TradeService) and self._trade is None:
            self._trade = service
        else:
            raise InvalidRequest(
                f"a server takes one MarketService and one TradeService; {service!r} is neither, "
                "or the second of its kind"
            )

    # ---- binding

    def bind(self, endpoint: str) -> str:
        """Serve on ``endpoint`` too; returns it with its port, for ``tcp://127.0.0.1:*``.

        Raises EndpointInUse, InsecureEndpoint, EndpointError.
        """
        wanted = Endpoint.parse(endpoint, wildcard=True)
        if wanted.scheme == "tcp" and "tcp" in self._events:
            raise EndpointError(f"{wanted}: this server has a tcp endpoint already")
        try:
            bound = self._bind(wanted)
        except BaseException:
            if not self._endpoints:
                self._close_sockets()
            raise
        self._endpoints.append(bound)
        return str(bound)

    def _bind(self, wanted: Endpoint) -> Endpoint:
        address = wanted
        if wanted.scheme == "tcp":
            host = tcp_address(wanted, self._guard is not None)
            address = Endpoint("tcp", host=host, port=wanted.port)
        elif wanted.scheme == "ipc":
            self._locks.append(EndpointLock(wanted))
        router, xpub = self._open_sockets()
        self._choose_keys(wanted.scheme == "tcp", router, xpub)
        try:
            bound = bind_socket(router, address)
            try:
                self._bind_events(xpub, bound)
            except BaseException:
                router.unbind(str(bound))
                raise
        except BaseException:
            if wanted.scheme == "ipc":
                self._locks.pop().release()
            raise
        return Endpoint("tcp", host=wanted.host, port=bound.port) if bound.port else bound

    def _bind_events(self, xpub: zmq.Socket[Any], bound: Endpoint) -> None:
        if bound.scheme != "tcp":
            bind_socket(xpub, bound.events(EVENTS_SUFFIX))
            self._events[bound.scheme] = EVENTS_SUFFIX
            return
        # The next port, so that a tunnel can be set up beforehand; any, if that is taken.
        for port in (bound.port + 1, 0):
            try:
                events = bind_socket(xpub, Endpoint("tcp", host=bound.host, port=port))
            except EndpointError:
                if port == 0:
                    raise
                continue
            self._events["tcp"] = str(events.port)
            return

    def _open_sockets(self) -> tuple[zmq.Socket[Any], zmq.Socket[Any]]:
        if self._router is None or self._xpub is None:
            context: zmq.Context[Any] = zmq.Context.instance()
            self._router, self._xpub = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
            for socket, largest in (
                (self._router, protocol.MAX_REQUEST),
                (self._xpub, 4 * protocol.MAX_TOPIC),
            ):
                socket.set(zmq.MAXMSGSIZE, largest)
                socket.set(zmq.IPV6, 1)
                socket.set(zmq.HEARTBEAT_IVL, 5_000)
                socket.set(zmq.HEARTBEAT_TIMEOUT, 15_000)
            # A reply to a client that is gone, or that does not read, fails here and is counted.
            self._router.set(zmq.ROUTER_MANDATORY, 1)
            self._router.set(zmq.SNDHWM, _MAX_UNREAD)
            self._xpub.set(zmq.SNDHWM, self._hwm)
            if self._guard is not None:
                self._guard.start()
                self._xpub.set(zmq.XPUB_MANUAL, 1)
        return self._router, self._xpub

    def _choose_keys(self, wanted: bool, *sockets: zmq.Socket[Any]) -> None:
        # Options count for what is bound after them, so one socket has endpoints of both kinds.
        if self._guard is None:
            return
        for socket in sockets:
            if wanted:
                self._guard.protect(socket)
            else:
                socket.set(zmq.CURVE_SERVER, 0)

    def _close_sockets(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._publications is not None:
            self._publications.close()
        for socket in (self._router, self._xpub):
            if socket is not None:
                socket.close(linger=0)
        self._router = self._xpub = self._requests = self._publications = None
        if self._guard is not None:
            self._guard.stop()
        for lock in self._locks:
            lock.release()
        self._locks.clear()
        self._endpoints.clear()
        self._events.clear()

    # ---- life

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or :meth:`close`; a uvloop is used where there is one.

        Signals are heard in the main thread only. Raises Unavailable if a venue can't be reached.
        """
        loop = new_loop()
        try:
            loop.run_until_complete(self._run(loop))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        signals = (signal.SIGINT, signal.SIGTERM)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main:
            for number in signals:
                loop.add_signal_handler(number, self.close)
        try:
            await self.serve()
        finally:
            if in_main:
                for number in signals:
                    loop.remove_signal_handler(number)

    async def serve(self) -> None:
        """Serve inside a running event loop until cancelled or :meth:`close`."""
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._end_wanted.is_set():
            self._ended.set()
        ended = self._loop.create_task(self._ended.wait())
        starting = self._loop.create_task(self.start())
        try:
            # Who ends it while a venue is slow to answer does not wait for that.
            await asyncio.wait({ended, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await ended
        finally:
            for task in (starting, ended):
                task.cancel()
            await asyncio.gather(starting, ended, return_exceptions=True)
            await self.stop()

    def close(self) -> None:
        """End :meth:`run` or :meth:`serve`; may be called from any thread, and more than once."""
        self._end_wanted.set()
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)

    async def start(self) -> None:
        """Connect the services and begin to answer. Raises EndpointError if nothing is bound."""
        if self._router is None or self._xpub is None:
            raise EndpointError("this server is bound to no endpoint: call bind() first")
        self._started_at = time.monotonic()
        # Publications before anything can happen, requests when all is connected.
        receive = receive_frame if self._guard is None else self._guard.receive_subscription
        self._publications = LoopSocket(self._xpub, receive, self._on_subscription)
        if self._trade is not None:
            # First: its fills come before the klines that caused them.
            self._removers.append(self._trade.add_listener(self._publisher.on_trade))
            await self._trade.connect()
        if self._market is not None:
            await self._start_market(self._market)
        self._requests = self._open_requests(self._router)
        self._spawn(self._beat())

    def _open_requests(self, router: zmq.Socket[Any]) -> LoopSocket[Any]:
        if self._guard is None:
            return LoopSocket(
                router, receive_frames, lambda frames: self._on_request(frames, OWNER)
            )
        return LoopSocket(router, self._guard.receive_request, lambda got: self._on_request(*got))

    async def _start_market(self, market: MarketService) -> None:
        self._removers.append(market.add_listener(self._publisher.on_market))
        if self._trade is not None:
            market.trade_seq = self._trade_seq
        if any(adapter.paced for adapter in market.markets):
            market.pacer.required = max(1, market.pacer.required)
        await market.connect()

    async def stop(self) -> None:
        """Stop the services and give up the endpoints; may be called more than once."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for remove in self._removers:
            remove()
        self._removers.clear()
        self._close_sockets()
        if self._market is not None:
            await self._market.stop()
        if self._trade is not None:
            await self._trade.stop()

    # ---- requests

    def _on_request(self, frames: Frames, client: Allowed) -> None:
        peer = self._peer(bytes(frames[0]))
        try:
            if len(frames) != 2:
                raise BadRequest(f"a request of {len(frames) - 1} frames")
            request = protocol.decode_request(frames[1])
        except BadRequest as error:
            self._counts["bad_frames"] += 1
            if error.id:
                self._reply_error(peer, error.id, error)
            return
        self._counts["requests"] += 1
        if peer.in_flight >= self.max_in_flight:
            busy = TooBusy(f"{request.method}: {peer.in_flight} requests are open; await some")
            self._reply_error(peer, request.id, busy)
            return
        try:
            check_allowed(client, request.method)
            peer.role = client.role
            answer = self._methods.answer(peer, request)
        except Exception as error:
            self._reply_failure(peer, request, error)
            return
        if isinstance(answer, Reply):
            self._reply(peer, request.id, answer)
        else:
            self._answer_later(peer, request, answer)

    def _peer(self, identity: bytes) -> Peer:
        peer = self._peers.get(identity)
        if peer is None:
            peer = self._peers[identity] = Peer(identity)
            if len(self._peers) > _MAX_PEERS:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(identity)
        peer.heard = time.monotonic()
        return peer

    def _forget_silent(self) -> None:
        oldest = time.monotonic() - _SILENCE
        while self._peers:
            peer = next(iter(self._peers.values()))
            if peer.heard > oldest or peer.in_flight:
                return
            del self._peers[peer.identity]

    def _answer_later(self, peer: Peer, request: Request, answer: Awaitable[Reply]) -> None:
        peer.in_flight += 1
        task = self._spawn(self._answer(peer, request, answer))
        limit = asyncio.get_running_loop().call_later(
            request.timeout_ms / 1000, self._give_up, peer, request, task
        )

        def end(_: asyncio.Task[None]) -> None:
            peer.in_flight -= 1
            limit.cancel()

        task.add_done_callback(end)

    async def _answer(self, peer: Peer, request: Request, answer: Awaitable[Reply]) -> None:
        try:
            reply = await answer
        except Exception as error:
            self._reply_failure(peer, request, error)
        else:
            self._reply(peer, request.id, reply)

    def _give_up(self, peer: Peer, request: Request, task: asyncio.Task[None]) -> None:
        self._counts["timeouts"] += 1
        task.cancel()
        message = f"{request.method}: not done within {request.timeout_ms / 1000:g} s"
        if request.method in _MAY_HAVE_HAPPENED:
            self._reply_error(peer, request.id, OutcomeUnknown(message))
        else:
            self._reply_error(peer, request.id, RequestTimeout(message))

    def _reply_failure(self, peer: Peer, request: Request, error: Exception) -> None:
        if isinstance(error, LiveTraderError):
            self._reply_error(peer, request.id, error)
            return
        log.error("%s failed", request.method, exc_info=error)
        message = f"{request.method}: the server failed; its log says why"
        if request.method in _MAY_HAVE_HAPPENED:
            self._reply_error(peer, request.id, OutcomeUnknown(message))
        else:
            self._reply_error(peer, request.id, LiveTraderError(message))

    def _reply(self, peer: Peer, id: int, reply: Reply) -> None:
        if id:
            self._send(peer, *protocol.encode_reply(id, reply))

    def _reply_error(self, peer: Peer, id: int, error: LiveTraderError) -> None:
        self._counts["errors"] += 1
        if id:
            self._send(peer, protocol.encode_error(id, error))

    def _send(self, peer: Peer, *frames: bytes | memoryview) -> None:
        if self._requests is None or self._requests.closed:
            return
        try:
            self._requests.send_frames((peer.identity, *frames))
        except zmq.ZMQError:  # the client is gone, or does not read
            self._counts["unsent_replies"] += 1

    def _hello(self, scheme: str) -> dict[str, Any]:
        if scheme not in self._events:
            raise InvalidRequest(f"this server has no {scheme[:16]!r} endpoint")
        return Greeting(
            protocol=protocol.PROTOCOL,
            version=self.version,
            start_id=self.start_id,
            events=self._events[scheme],
            heartbeat=self.heartbeat,
            max_in_flight=self.max_in_flight,
            journal=self._trade.journal.start_id if self._trade is not None else "",
            markets=describe_markets(self._market, self._trade),
        ).to_dict()

    # ---- publications

    def _on_subscription(self, frame: bytes) -> None:
        if frame.startswith(b"\x01" + protocol.SYNC):
            self._publisher.sync(frame[1:])

    def _publish(self, topic: bytes, body: bytes) -> None:
        if self._publications is not None and not self._publications.closed:
            self._publications.send(topic + body)

    async def _beat(self) -> None:
        while True:
            self._publisher.beat(self._trade_seq(), self._clocks())
            self._forget_silent()
            await asyncio.sleep(self.heartbeat)

    def _clocks(self) -> dict[str, int]:
        if self._market is None:
            return {}
        return {
            code: self._market.last_clock(adapter) if adapter.clocked else adapter.now()
            for adapter in self._market.markets
            for code in adapter.markets
        }

    def _trade_seq(self) -> int:
        return self._trade.seq if self._trade is not None else 0

    # ---- what people ask

    def stats(self) -> dict[str, Any]:
        """What the server is, serves and has counted: plain values, for people and JSON."""
        return {
            "start_id": self.start_id,
            "version": self.version,
            "protocol": protocol.PROTOCOL,
            "uptime": round(time.monotonic() - self._started_at, 3),
            "endpoints": [str(endpoint) for endpoint in self._endpoints],
            "clients": len(self._peers),
            "open_requests": sum(peer.in_flight for peer in self._peers.values()),
            **self._counts,
            "published": self._publisher.published,
            "streams": {
                f"{stream.symbol} {stream.timeframe}": stream.seq
                for stream in self._publisher.streams
            },
            "latest": {
                f"{stream.symbol} {stream.timeframe}": [
                    stream.recent[-1].datetime,
                    stream.recent[-1].close,
                ]
                for stream in self._publisher.streams
                if stream.recent
            },
            "feeds": self._publisher.states,
            "followers": list(self._market.pacer.followers) if self._market else [],
            "trade_seq": self._trade_seq(),
            "venues": [list(one.markets) for one in self._trade.adapters] if self._trade else [],
            "lost": dict(self._trade.lost) if self._trade else {},
            "differences": list(self._trade.reconciliation.differences) if self._trade else [],
            "clocks": self._clocks(),
        }

    # ---- tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
