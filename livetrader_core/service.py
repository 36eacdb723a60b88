"""MarketService: several markets behind one face, for use as a module or behind a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from livetrader_core.errors import InvalidRequest, LiveTraderError, UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.models import (
    Clock,
    Contract,
    FeedState,
    FeedStatus,
    Kline,
    Klines,
    MarketEvent,
    Tick,
    market_of,
)
from livetrader_core.pacing import Pacer
from livetrader_core.timeframe import duration_ms

log = logging.getLogger(__name__)

#: Most klines that one request may ask for.
MAX_KLINES = 500_000

Listener = Callable[[MarketEvent], None]
Hook = Callable[[Kline | Clock], Awaitable[None]]
Item = TypeVar("Item")


class MarketService:
    """Klines, ticks and contracts of one or several markets, routed by MARKET.

    As a module, inside a running event loop::

        service = MarketService(market, ["US.BABA"])
        queue = service.start()
        symbol, kline = await queue.get()
        klines = await service.get_kline_histories("US.BABA", limit=100)
        service.stop()

    ``queue_size`` bounds the queue of :meth:`start`: a paced market waits while it is full.
    """

    def __init__(
        self,
        market: MarketBase | Sequence[MarketBase],
        symbols: Iterable[str] = (),
        timeframe: str = "1m",
        queue_size: int = 1000,
    ) -> None:
        self.markets = [market] if isinstance(market, MarketBase) else list(market)
        self.symbols = list(symbols)
        self.timeframe = timeframe
        self.pacer = Pacer()
        #: Number of the last trade event, asked whenever a clock is published.
        self.trade_seq: Callable[[], int] = lambda: 0
        self._by_market = self._route()
        self._clocks: dict[str, int] = {}
        self._listeners: list[Listener] = []
        self._hooks: list[Hook] = []
        self._watches: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._tick_watches: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._queue: asyncio.Queue[tuple[str, Kline]] = asyncio.Queue(queue_size)
        self._connected = False

    def _route(self) -> dict[str, MarketBase]:
        routes: dict[str, MarketBase] = {}
        for market in self.markets:
            for code in market.markets:
                if code in routes:
                    raise InvalidRequest(f"two adapters serve the market {code}")
                routes[code] = market
        return routes

    # ---- life

    def start(self) -> asyncio.Queue[tuple[str, Kline]]:
        """Connect in the background and queue (symbol, closed kline) of ``symbols``.

        Must be called inside a running event loop.
        """
        self._spawn(self._start())
        return self._queue

    async def _start(self) -> None:
        await self.connect()
        self._hooks.append(self._enqueue)
        for symbol in self.symbols:
            await self.watch(symbol, self.timeframe)

    async def _enqueue(self, event: Kline | Clock) -> None:
        if isinstance(event, Kline):
            await self._queue.put((event.symbol, event))

    async def connect(self) -> None:
        """Connect every market. Raises Unavailable."""
        if self._connected:
            return
        for market in self.markets:
            market.on_state = partial(self._on_state, market)
        await asyncio.gather(*(market.connect() for market in self.markets))
        self._by_market = self._route()
        self._connected = True
        for market in self.markets:
            if market.clocked:
                self._spawn(self._run_clock(market))

    @property
    def connected(self) -> bool:
        """Whether every market is connected."""
        return self._connected

    def stop(self) -> asyncio.Task[None]:
        """Stop all streams and disconnect; may be awaited, and called more than once."""
        for task in [*self._tasks, *self._watches.values(), *self._tick_watches.values()]:
            task.cancel()
        tasks = [*self._tasks, *self._watches.values(), *self._tick_watches.values()]
        self._tasks, self._watches, self._tick_watches = set(), {}, {}
        return asyncio.get_running_loop().create_task(self._stop(tasks))

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*tasks, return_exceptions=True)
        self._connected = False
        self._clocks.clear()
        self.pacer.clear()
        for market in self.markets:
            await market.disconnect()

    # ---- requests

    def market_for(self, symbol: str) -> MarketBase:
        """The adapter that serves ``symbol``. Raises UnknownSymbol."""
        code = market_of(symbol)
        try:
            return self._by_market[code]
        except KeyError:
            served = ", ".join(sorted(self._by_market)) or "none"
            raise UnknownSymbol(f"{symbol}: no market {code} here; served: {served}") from None

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`MarketBase.get_kline_histories`, with its arguments checked.

        Raises InvalidRequest for a limit outside 1 … :data:`MAX_KLINES`, and for an answer that
        would be longer.
        """
        _check_range(from_ts, limit, to_ts)
        duration_ms(timeframe)
        klines = await self.market_for(symbol).get_kline_histories(
            symbol, from_ts, limit, to_ts, timeframe, forming
        )
        if len(klines) > MAX_KLINES:
            raise InvalidRequest(
                f"{symbol} {timeframe}: {len(klines)} klines are more than {MAX_KLINES}; "
                "ask for them in pieces with from_ts, to_ts or limit"
            )
        return klines

    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``."""
        return await self.market_for(symbol).get_contract(symbol)

    async def list_symbols(self) -> list[str]:
        """All symbols of all markets, sorted."""
        lists = await asyncio.gather(*(market.list_symbols() for market in self.markets))
        return sorted({symbol for symbols in lists for symbol in symbols})

    def clock(self, symbol: str) -> int:
        """The venue's time for ``symbol`` (UTC ms): its clock's last moment, if it has a clock."""
        market = self.market_for(symbol)
        return self._clocks.get(market_of(symbol)) or market.now()

    def last_clock(self, market: MarketBase) -> int:
        """The last moment (UTC ms) that ``market`` gave completely; 0 if it never said."""
        return max((self._clocks.get(code, 0) for code in market.markets), default=0)

    # ---- streams

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every event; returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def add_hook(self, hook: Hook) -> Callable[[], None]:
        """Await ``hook`` with every kline and clock *before* listeners hear of it."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    async def watch(self, symbol: str, timeframe: str = "1m") -> None:
        """Publish the klines of ``symbol``; once is enough. Raises UnknownSymbol."""
        duration_ms(timeframe)
        market = self.market_for(symbol)
        if (symbol, timeframe) in self._watches:
            return
        await market.get_contract(symbol)  # an unknown symbol fails here, not in a task
        if (symbol, timeframe) not in self._watches:
            klines = market.watch_klines(symbol, timeframe)
            self._watches[symbol, timeframe] = self._task(
                self._run_stream(klines, self._on_kline, (market_of(symbol),), market.clocked)
            )
        # The task has begun to read when this returns: history asked for next leaves no hole.
        await asyncio.sleep(0)

    async def watch_ticks(self, symbol: str) -> None:
        """Publish the ticks of ``symbol``; once is enough."""
        market = self.market_for(symbol)
        if symbol not in self._tick_watches:
            ticks = market.watch_ticks(symbol)
            self._tick_watches[symbol] = self._task(
                self._run_stream(ticks, self._on_tick, (market_of(symbol),), market.clocked)
            )

    async def _on_kline(self, kline: Kline) -> None:
        for hook in self._hooks:
            await hook(kline)
        self._publish(kline)

    def _on_state(self, market: MarketBase, state: FeedState, reason: str) -> None:
        self._publish(FeedStatus(market.markets, state, reason))

    async def _on_tick(self, tick: Tick) -> None:
        self._publish(tick)

    async def _run_clock(self, market: MarketBase) -> None:
        async def on_moment(ts: int) -> None:
            clock = Clock(market.markets, ts)
            for hook in self._hooks:
                await hook(clock)
            for code in market.markets:
                self._clocks[code] = ts
            self._publish(Clock(market.markets, ts, self.trade_seq()))
            if market.paced:
                await self.pacer.wait(ts)

        await self._run_stream(market.watch_clock(), on_moment, market.markets, False)

    async def _run_stream(
        self,
        stream: AsyncIterator[Item],
        handle: Callable[[Item], Awaitable[None]],
        markets: tuple[str, ...],
        quiet_end: bool,
    ) -> None:
        """Read ``stream`` to its end, and tell listeners why it ended.

        ``quiet_end``: the market's clock announces the end, after the last kline.
        """
        try:
            async for item in stream:
                await handle(item)
        except LiveTraderError as error:
            self._end_stream(markets, str(error))
            return
        except Exception as error:
            log.exception("a market stream of %s ended on an error", ", ".join(markets))
            self._end_stream(markets, f"its stream failed: {type(error).__name__}: {error}")
            return
        if not quiet_end:
            self._publish(FeedStatus(markets, FeedState.ENDED))

    def _end_stream(self, markets: tuple[str, ...], reason: str) -> None:
        """Tell that a stream is over; whoever asks for it next begins a new one."""
        task = asyncio.current_task()
        self._watches = {key: t for key, t in self._watches.items() if t is not task}
        self._tick_watches = {key: t for key, t in self._tick_watches.items() if t is not task}
        self._publish(FeedStatus(markets, FeedState.DISCONNECTED, reason))

    def _publish(self, event: MarketEvent) -> None:
        for listener in self._listeners:
            listener(event)

    # ---- tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_log_failure)
        return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("a market stream ended on an error", exc_info=error)


def _check_range(from_ts: int | None, limit: int | None, to_ts: int | None) -> None:
    for name, value in (("from_ts", from_ts), ("limit", limit), ("to_ts", to_ts)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InvalidRequest(f"{name} must be an integer, not {value!r}")
    if limit is not None and not 1 <= limit <= MAX_KLINES:
        raise InvalidRequest(f"limit must lie between 1 and {MAX_KLINES}, not {limit}")
    if from_ts is not None and to_ts is not None and from_ts > to_ts:
        raise InvalidRequest(f"from_ts {from_ts} lies after to_ts {to_ts}")
