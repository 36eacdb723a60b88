"""Requests to a server: :class:`Client` blocks, :class:`AsyncClient` lives in an event loop."""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import zmq
from typing_extensions import Self

from livetrader_core.errors import (
    LiveTraderError,
    NotConnected,
    OutcomeUnknown,
    RequestTimeout,
    TooBusy,
)
from livetrader_core.models import (
    Balance,
    Contract,
    Fill,
    KillState,
    Klines,
    Order,
    Position,
    Reconciliation,
    TradeEvent,
)
from livetrader_core.rpc import calls, protocol
from livetrader_core.rpc.calls import Call
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.rpc.keys import Keys
from livetrader_core.rpc.protocol import MAX_EVENTS, Greeting, Reply
from livetrader_core.rpc.refusal import time_to_greet, why_refused, why_refused_blocking
from livetrader_core.rpc.sockets import Frames, LoopSocket, receive_frames

Result = TypeVar("Result")
Record = TypeVar("Record")


def client_socket(
    kind: int, endpoint: Endpoint, hwm: int = 1000, keys: Keys | None = None
) -> zmq.Socket[Any]:
    """A socket connected to ``endpoint`` that reconnects by itself, at short intervals.

    ``keys`` are shown over tcp, and not to sockets of this computer, which ask for none.

    Raises NotConnected if there can be no such connection.
    """
    socket: zmq.Socket[Any] = zmq.Context.instance().socket(kind)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.RCVHWM, hwm)
    socket.set(zmq.IPV6, 1)
    socket.set(zmq.MAXMSGSIZE, protocol.MAX_REPLY)
    socket.set(zmq.RECONNECT_IVL, 20)
    socket.set(zmq.RECONNECT_IVL_MAX, 500)
    socket.set(zmq.HEARTBEAT_IVL, 5_000)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 15_000)
    if kind == zmq.DEALER:
        # A request is only taken while there is a connection: none is sent late.
        socket.set(zmq.IMMEDIATE, 1)
    if keys is not None and endpoint.scheme == "tcp":
        keys.show(socket)
    try:
        socket.connect(str(endpoint))
    except zmq.ZMQError as error:
        socket.close()
        raise NotConnected(f"{endpoint}: {error.strerror}") from None
    return socket


def release() -> str:
    """The installed release of livetrader."""
    return importlib.metadata.version("livetrader")


def _not_connected(endpoint: Endpoint, method: str, timeout: float) -> NotConnected:
    return NotConnected(
        f"{endpoint}: no server there ({method} waited {timeout:g} s); is it running? "
        "`livetrader serve` starts one"
    )


def _no_answer(endpoint: Endpoint, call: Call[Any], timeout: float) -> LiveTraderError:
    message = f"{endpoint}: {call.method} was not answered within {timeout:g} s"
    if call.may_have_happened:
        return OutcomeUnknown(f"{message}; it may have been done: ask with fetch_order")
    return RequestTimeout(message)


class _ConnectionLost(NotConnected):
    """The connection was given up while a request was open."""


class Client:
    """A blocking client. Every call ends within ``timeout`` seconds, with an answer or an error.

    It may be shared by threads, and used inside a running event loop. A closed client can connect
    again. ``keys`` are for a server beyond this computer. ::

        with Client() as client:
            client.connect("ipc:///tmp/market")
            klines = client.get_kline_histories("US.BABA", None, 100)
    """

    def __init__(self, timeout: float = 5.0, keys: Keys | None = None) -> None:
        self.timeout = timeout
        self.keys = keys
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._socket: zmq.Socket[Any] | None = None
        self._endpoint: Endpoint | None = None

    def connect(self, endpoint: str) -> Greeting:
        """Connect and greet.

        Raises NotConnected, RequestTimeout, VersionMismatch, EndpointError.
        """
        target = Endpoint.parse(endpoint)
        self.close()
        with self._lock:
            self._endpoint = target
            self._socket = client_socket(zmq.DEALER, target, keys=self.keys)
        deadline = time.monotonic() + self.timeout
        try:
            hello = calls.hello(release(), target.scheme)
            return self._call(hello, time_to_greet(target, self.timeout))
        except NotConnected as error:
            self.close()
            if refused := why_refused_blocking(target, self.keys, deadline):
                raise NotConnected(f"{target}: {refused}") from error
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; may be called more than once."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, call: Call[Result], timeout: float | None = None) -> Result:
        timeout = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):
            raise TooBusy(f"{call.method}: other threads used this client for {timeout:g} s")
        try:
            reply = self._exchange(call, deadline)
        finally:
            self._lock.release()
        return call.read(reply)

    def _exchange(self, call: Call[Any], deadline: float) -> Reply:
        socket, endpoint = self._socket, self._endpoint
        if socket is None or endpoint is None:
            raise NotConnected(f"{call.method}: this client is not connected; call connect() first")
        number = next(self._ids)
        timeout_ms = protocol.timeout_to_ms(deadline - time.monotonic())
        body = protocol.encode_request(number, call.method, timeout_ms, call.args)
        self._send(socket, endpoint, call, body, deadline)
        while True:
            answer = self._receive(socket, deadline)
            if answer is None:
                raise _no_answer(endpoint, call, self.timeout)
            if answer[0] != number:
                continue  # the late reply to a request that was given up
            if isinstance(answer[1], LiveTraderError):
                raise answer[1]
            return answer[1]

    def _send(
        self,
        socket: zmq.Socket[Any],
        endpoint: Endpoint,
        call: Call[Any],
        body: bytes,
        deadline: float,
    ) -> None:
        while True:
            try:
                socket.send(body, zmq.NOBLOCK)
                return
            except zmq.Again:
                left = deadline - time.monotonic()
                if left <= 0 or not socket.poll(max(1, int(left * 1000)), zmq.POLLOUT):
                    raise _not_connected(endpoint, call.method, self.timeout) from None

    @staticmethod
    def _receive(
        socket: zmq.Socket[Any], deadline: float
    ) -> tuple[int, Reply | LiveTraderError] | None:
        while (left := deadline - time.monotonic()) > 0:
            socket.set(zmq.RCVTIMEO, max(1, int(left * 1000)))
            try:
                return protocol.decode_reply(receive_frames(socket, 0))
            except zmq.Again:
                continue
        return None

    # ---- market data

    def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`livetrader_core.market.base.MarketBase.get_kline_histories`."""
        return self._call(
            calls.get_kline_histories(symbol, from_ts, limit, to_ts, timeframe, forming)
        )

    def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``."""
        return self._call(calls.get_contract(symbol))

    def list_symbols(self) -> list[str]:
        """All symbols of all markets, sorted."""
        return self._call(calls.list_symbols())

    def status(self) -> dict[str, Any]:
        """What the server is doing, for people to read."""
        return self._call(calls.status())

    def begin_replay(self, start: int, end: int | None = None) -> None:
        """Start the recorded markets at ``start`` (UTC ms): what closes later is the future."""
        self._call(calls.begin_replay(start, end))

    # ---- trading

    def create_order(self, order: Order) -> Order:
        """Place ``order``; a known client_order_id returns that order instead of a second one.

        Raises OrderRejected, OutcomeUnknown, InvalidRequest, StorageError, NotConnected.
        """
        return self._call(calls.create_order(order))

    def cancel_order(self, client_order_id: str) -> None:
        """Ask to cancel; the outcome comes as an event."""
        self._call(calls.cancel_order(client_order_id))

    def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """Change a working order."""
        return self._call(calls.modify_order(client_order_id, quantity, price, stop_price))

    def fetch_order(self, client_order_id: str) -> Order | None:
        """The order as the journal has it; None if it never arrived."""
        return self._call(calls.fetch_order(client_order_id))

    def fetch_orders(self) -> list[Order]:
        """All journaled orders, oldest first."""
        return self._all_pages(lambda at: calls.fetch_orders(at, MAX_EVENTS))

    def fetch_open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first."""
        return self._call(calls.fetch_open_orders())

    def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Executions at or after ``since`` (UTC ms), oldest first."""
        return self._all_pages(lambda at: calls.fetch_fills(since, at, MAX_EVENTS))

    def fetch_events(self, seq: int = 0) -> list[TradeEvent]:
        """Trade events after number ``seq``, oldest first, as many as fit in one answer."""
        return self._call(calls.events_after(seq, MAX_EVENTS))

    def _all_pages(self, page_at: Callable[[int], Call[list[Record]]]) -> list[Record]:
        found: list[Record] = []
        while len(page := self._call(page_at(len(found)))) == MAX_EVENTS:
            found += page
        return found + page

    def fetch_positions(self, market: str | None = None) -> list[Position]:
        """Net positions that are not flat: of all venues, or of the one that trades ``market``."""
        return self._call(calls.fetch_positions(market))

    def fetch_balance(self, market: str | None = None) -> list[Balance]:
        """The accounts, one for each venue and currency."""
        return self._call(calls.fetch_balance(market))

    def give_up_order(self, order: Order) -> Order:
        """For who does not know whether ``order`` arrived: the known order, or it is refused."""
        return self._call(calls.give_up_order(order))

    def kill(self, flatten: bool = False, reason: str = "") -> KillState:
        """Refuse new orders until :meth:`lift`, cancel what works, ``flatten`` positions."""
        return self._call(calls.kill(flatten, reason))

    def lift(self) -> KillState:
        """Take new orders again."""
        return self._call(calls.lift())

    def kill_state(self) -> KillState:
        """Whether the kill switch is on."""
        return self._call(calls.kill_state())

    def reconcile(self, accept: bool = False) -> Reconciliation:
        """Compare the books with the venues; ``accept`` takes what the venues hold for right."""
        return self._call(calls.reconcile(accept))

    def venue_orders(self) -> list[Order]:
        """Orders that work at the venues and were not placed here."""
        return self._call(calls.venue_orders())


class AsyncClient:
    """:class:`Client` as coroutines: many requests at once over one socket, in one event loop."""

    def __init__(self, timeout: float = 5.0, keys: Keys | None = None) -> None:
        self.timeout = timeout
        self.keys = keys
        self._ids = itertools.count(1)
        self._socket: LoopSocket[Frames] | None = None
        self._endpoint: Endpoint | None = None
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._senders: list[asyncio.Future[None]] = []
        self._finishing = False

    async def connect(self, endpoint: str) -> Greeting:
        """Connect and greet.

        Raises NotConnected, RequestTimeout, VersionMismatch, EndpointError.
        """
        self._endpoint = Endpoint.parse(endpoint)
        self._close_socket()
        socket = client_socket(zmq.DEALER, self._endpoint, keys=self.keys)
        self._socket = LoopSocket(socket, receive_frames, self._on_message, self._on_wake)
        deadline = time.monotonic() + self.timeout
        hello = calls.hello(release(), self._endpoint.scheme)
        try:
            return await self.call(hello, time_to_greet(self._endpoint, self.timeout))
        except NotConnected as error:
            self._close_socket()
            if refused := await why_refused(self._endpoint, self.keys, deadline):
                raise NotConnected(f"{self._endpoint}: {refused}") from error
            raise
        except BaseException:
            self._close_socket()
            raise

    async def close(self) -> None:
        """Disconnect; open requests end with an error. May be called more than once."""
        self._close_socket()

    async def finish(self) -> None:
        """Take no more requests, let the open ones end, and disconnect."""
        self._finishing = True
        try:
            while self._waiting:
                await asyncio.wait(list(self._waiting.values()))
        finally:
            self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        lost: list[asyncio.Future[Any]] = [*self._waiting.values(), *self._senders]
        for future in lost:
            if not future.done():
                future.set_exception(_ConnectionLost("the connection was closed"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, call: Call[Result], timeout: float | None = None) -> Result:
        """Make ``call`` and read its answer, within ``timeout`` seconds."""
        timeout = self.timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        number = next(self._ids)
        body = protocol.encode_request(
            number, call.method, protocol.timeout_to_ms(timeout), call.args
        )
        await self._send(call, body, deadline, timeout)
        answer: asyncio.Future[Reply] = loop.create_future()
        self._waiting[number] = answer
        limit = loop.call_at(deadline, self._expire, answer, call, timeout)
        try:
            return call.read(await answer)
        except _ConnectionLost as error:
            self._lost(call, error)
        finally:
            limit.cancel()
            del self._waiting[number]

    def post(self, method: str, args: tuple[Any, ...]) -> bool:
        """Send a request that wants no reply; says whether it could be sent."""
        if self._socket is None:
            return False
        body = protocol.encode_request(0, method, protocol.timeout_to_ms(self.timeout), args)
        try:
            self._socket.send(body)
        except zmq.ZMQError:
            return False
        return True

    def _expire(self, answer: asyncio.Future[Reply], call: Call[Any], timeout: float) -> None:
        if not answer.done() and self._endpoint is not None:
            answer.set_exception(_no_answer(self._endpoint, call, timeout))

    @staticmethod
    def _lost(call: Call[Any], error: NotConnected) -> NoReturn:
        if call.may_have_happened:
            raise OutcomeUnknown(
                f"{call.method}: {error}; it may have been done: ask with fetch_order"
            ) from None
        raise NotConnected(f"{call.method}: {error}") from None

    async def _send(self, call: Call[Any], body: bytes, deadline: float, timeout: float) -> None:
        while True:
            if self._socket is None or self._endpoint is None or self._finishing:
                raise NotConnected(f"{call.method}: there is no connection")
            with suppress(zmq.Again):
                self._socket.send(body)
                return
            await self._writable(self._endpoint, call, deadline, timeout)

    async def _writable(
        self, endpoint: Endpoint, call: Call[Any], deadline: float, timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        wake: asyncio.Future[None] = loop.create_future()
        self._senders.append(wake)

        def give_up() -> None:
            if not wake.done():
                wake.set_exception(_not_connected(endpoint, call.method, timeout))

        limit = loop.call_at(deadline, give_up)
        try:
            await wake
        finally:
            limit.cancel()
            self._senders.remove(wake)

    def _on_wake(self) -> None:
        for wake in self._senders:
            if not wake.done():
                wake.set_result(None)

    def _on_message(self, frames: Frames) -> None:
        number, answer = protocol.decode_reply(frames)
        future = self._waiting.get(number)
        if future is None or future.done():
            return  # the late reply to a request that was given up
        if isinstance(answer, LiveTraderError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    # ---- market data

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`livetrader_core.market.base.MarketBase.get_kline_histories`."""
        return await self.call(
            calls.get_kline_histories(symbol, from_ts, limit, to_ts, timeframe, forming)
        )

    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``."""
        return await self.call(calls.get_contract(symbol))

    async def list_symbols(self) -> list[str]:
        """All symbols of all markets, sorted."""
        return await self.call(calls.list_symbols())

    async def status(self) -> dict[str, Any]:
        """What the server is doing, for people to read."""
        return await self.call(calls.status())

    async def begin_replay(self, start: int, end: int | None = None) -> None:
        """Start the recorded markets at ``start`` (UTC ms): what closes later is the future."""
        await self.call(calls.begin_replay(start, end))

    # ---- trading

    async def create_order(self, order: Order) -> Order:
        """Place ``order``; a known client_order_id returns that order instead of a second one.

        Raises OrderRejected, OutcomeUnknown, InvalidRequest, StorageError, NotConnected.
        """
        return await self.call(calls.create_order(order))

    async def cancel_order(self, client_order_id: str) -> None:
        """Ask to cancel; the outcome comes as an event."""
        await self.call(calls.cancel_order(client_order_id))

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """Change a working order."""
        return await self.call(calls.modify_order(client_order_id, quantity, price, stop_price))

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order as the journal has it; None if it never arrived."""
        return await self.call(calls.fetch_order(client_order_id))

    async def fetch_orders(self) -> list[Order]:
        """All journaled orders, oldest first."""
        return await self._all_pages(lambda at: calls.fetch_orders(at, MAX_EVENTS))

    async def fetch_open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first."""
        return await self.call(calls.fetch_open_orders())

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Executions at or after ``since`` (UTC ms), oldest first."""
        return await self._all_pages(lambda at: calls.fetch_fills(since, at, MAX_EVENTS))

    async def _all_pages(self, page_at: Callable[[int], Call[list[Record]]]) -> list[Record]:
        found: list[Record] = []
        while len(page := await self.call(page_at(len(found)))) == MAX_EVENTS:
            found += page
        return found + page

    async def fetch_positions(self, market: str | None = None) -> list[Position]:
        """Net positions that are not flat."""
        return await self.call(calls.fetch_positions(market))

    async def fetch_balance(self, market: str | None = None) -> list[Balance]:
        """The accounts, one for each venue and currency."""
        return await self.call(calls.fetch_balance(market))

    async def give_up_order(self, order: Order) -> Order:
        """For who does not know whether ``order`` arrived: the known order, or it is refused."""
        return await self.call(calls.give_up_order(order))

    async def kill(self, flatten: bool = False, reason: str = "") -> KillState:
        """Refuse new orders until :meth:`lift`, cancel what works, ``flatten`` positions."""
        return await self.call(calls.kill(flatten, reason))

    async def lift(self) -> KillState:
        """Take new orders again."""
        return await self.call(calls.lift())

    async def kill_state(self) -> KillState:
        """Whether the kill switch is on."""
        return await self.call(calls.kill_state())

    async def reconcile(self, accept: bool = False) -> Reconciliation:
        """Compare the books with the venues; ``accept`` takes what the venues hold for right."""
        return await self.call(calls.reconcile(accept))

    async def venue_orders(self) -> list[Order]:
        """Orders that work at the venues and were not placed here."""
        return await self.call(calls.venue_orders())
