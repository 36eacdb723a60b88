"""Subscribers: klines and trade events delivered in a background thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

from livetrader_core.errors import LiveTraderError, NotConnected
from livetrader_core.models import Clock, FeedStatus, Kline, MarketEvent, TradeEvent
from livetrader_core.rpc.client import Client
from livetrader_core.rpc.keys import Keys
from livetrader_core.rpc.session import RemoteSession
from livetrader_core.rpc.sockets import new_loop
from livetrader_core.timeframe import duration_ms

log = logging.getLogger(__name__)

#: How many moments of a paced stream a subscriber may lag behind.
_WINDOW = 256
#: Seconds between attempts to reach a server that went away before the first subscription.
_RETRY = 0.5


class _Subscriber(ABC):
    """A session in a thread of its own."""

    def __init__(self, timeout: float = 5.0, keys: Keys | None = None) -> None:
        self.timeout = timeout
        self.keys = keys
        self._endpoint: str | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._closed = False

    def connect(self, endpoint: str) -> None:
        """See that a server answers at ``endpoint`` and has what is wanted.

        Raises NotConnected, RequestTimeout, VersionMismatch, EndpointError, UnknownSymbol.
        """
        with Client(self.timeout, self.keys) as client:
            client.connect(endpoint)
            self._check(client)
        self._endpoint = endpoint

    def run(self) -> None:
        """Deliver in the background from now on; returns at once. Raises NotConnected."""
        with self._lock:
            if self._endpoint is None:
                raise NotConnected(f"{type(self).__name__}: call connect(endpoint) before run()")
            if self._thread is not None and self._thread.is_alive():
                return
            self._closed, self._ended = False, asyncio.Event()
            self._loop = new_loop()
            name = f"{type(self).__name__} {self._endpoint}"
            self._thread = threading.Thread(
                target=self._run_thread, args=(self._loop, self._endpoint), name=name, daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop delivering; may be called from any thread, and more than once.

        When it returns, nothing is delivered any more.
        """
        with self._lock:
            thread = self._thread
            self._closed = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._ended.set)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run_thread(self, loop: asyncio.AbstractEventLoop, endpoint: str) -> None:
        try:
            loop.run_until_complete(self._run(endpoint))
        except Exception:
            log.exception("%s: the subscriber ended", endpoint)
        finally:
            with self._lock:
                self._loop = None
                loop.close()

    async def _run(self, endpoint: str) -> None:
        ended = asyncio.get_running_loop().create_task(self._ended.wait())
        while not ended.done():
            session = RemoteSession(endpoint, self.timeout, keys=self.keys)
            try:
                await self._open(session)
                await ended
            except LiveTraderError as error:
                log.warning("%s: not subscribed yet: %s", endpoint, error)
                await asyncio.wait([ended], timeout=_RETRY)
            finally:
                await session.close()

    @abstractmethod
    def _check(self, client: Client) -> None:
        """Raise what cannot be subscribed."""

    @abstractmethod
    async def _open(self, session: RemoteSession) -> None:
        """Open ``session`` and subscribe."""


class MarketSubscriber(_Subscriber):
    """Calls :meth:`on_kline` with each closed kline of ``symbol`` (one or several), in a thread.

    Whatever happens to the line or the server, each comes once and in order. A replay as fast as
    it is read waits for it. ::

        class Printer(MarketSubscriber):
            def on_kline(self, kline):
                print(kline["datetime"], kline["close"])

        subscriber = Printer("US.BABA")
        subscriber.connect("ipc:///tmp/market")
        subscriber.run()
    """

    def __init__(
        self,
        symbol: str | Sequence[str],
        timeframe: str = "1m",
        timeout: float = 5.0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(timeout, keys)
        self.symbols = [symbol] if isinstance(symbol, str) else list(symbol)
        self.timeframe = timeframe
        duration_ms(timeframe)

    def on_kline(self, kline: Kline) -> None:
        """A kline closed. An exception raised here is logged; the next kline comes all the same."""

    def on_status(self, status: FeedStatus) -> None:
        """The stream broke, goes on, or is over."""

    def _check(self, client: Client) -> None:
        for symbol in self.symbols:
            client.get_contract(symbol)

    async def _open(self, session: RemoteSession) -> None:
        acknowledge = _Acknowledger(session)

        def on_event(event: MarketEvent | TradeEvent) -> None:
            if self._closed:
                return
            if isinstance(event, Kline):
                self.on_kline(event)
            elif isinstance(event, FeedStatus):
                self.on_status(event)
            elif isinstance(event, Clock):
                acknowledge.up_to(event.datetime)

        await session.open(on_event)
        if any(info.paced for info in session.info.markets.values()):
            await session.follow(_WINDOW)
        for symbol in self.symbols:
            await session.subscribe(symbol, self.timeframe, limit=0)


class _Acknowledger:
    """Acknowledges clocks, those that arrive together with one message."""

    def __init__(self, session: RemoteSession) -> None:
        self._session = session
        self._ts = -1
        self._task: asyncio.Task[None] | None = None

    def up_to(self, ts: int) -> None:
        """Everything up to ``ts`` (UTC ms) was consumed."""
        self._ts = max(self._ts, ts)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        self._task = None
        await self._session.ack(self._ts)


class TradeSubscriber(_Subscriber):
    """Calls :meth:`on_event` with each trade event numbered above ``from_seq``, in a thread.

    None is lost and none comes twice: after a break they are replayed from the server's journal.
    ``from_seq=-1``: only those that happen from now on.
    """

    def __init__(self, from_seq: int = 0, timeout: float = 5.0, keys: Keys | None = None) -> None:
        super().__init__(timeout, keys)
        self._seq = from_seq

    def on_event(self, event: TradeEvent) -> None:
        """Something happened to an order. An exception raised here is logged."""

    def on_status(self, status: FeedStatus) -> None:
        """The line to the server broke, or goes on."""

    def _check(self, client: Client) -> None:
        return

    async def _open(self, session: RemoteSession) -> None:
        def on_event(event: MarketEvent | TradeEvent) -> None:
            if self._closed:
                return
            if isinstance(event, TradeEvent):
                self._seq = event.seq
                self.on_event(event)
            elif isinstance(event, FeedStatus):
                self.on_status(event)

        await session.open(on_event, trade_from=self._seq)
