"""LocalSession: the services themselves as a session, with no wire between."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from livetrader_core.errors import InvalidRequest, NotConnected
from livetrader_core.models import (
    Balance,
    Clock,
    Contract,
    Fill,
    KillState,
    Kline,
    Klines,
    MarketEvent,
    Order,
    Position,
    Reconciliation,
    TradeEvent,
)
from livetrader_core.outstanding import Outstanding
from livetrader_core.pacing import Pacer
from livetrader_core.service import MarketService
from livetrader_core.session import Listener, MarketInfo, Session, SessionInfo
from livetrader_core.trade.service import TradeService

log = logging.getLogger(__name__)


def describe_markets(
    market: MarketService | None, trade: TradeService | None
) -> dict[str, MarketInfo]:
    """What the services say of each MARKET."""
    codes = [code for adapter in market.markets for code in adapter.markets] if market else []
    traded = dict(trade.markets) if trade else {}
    infos = {}
    for code in dict.fromkeys([*codes, *traded]):
        adapter = next((a for a in market.markets if code in a.markets), None) if market else None
        venue = traded.get(code)
        infos[code] = MarketInfo(
            clocked=adapter.clocked if adapter else False,
            paced=adapter.paced if adapter else False,
            delay_ms=adapter.delay_ms if adapter else 0,
            trade=None if venue is None else ("paper" if venue.paper else "live"),
            fill_on=getattr(venue, "fill_on", ""),
            begun=adapter.begun if adapter else True,
        )
    return infos


def begin_replays(market: MarketService, start: int, end: int | None) -> None:
    """Begin every recorded market of ``market``. Raises InvalidRequest if it has none."""
    replays = [adapter for adapter in market.markets if hasattr(adapter, "begin")]
    if not replays:
        raise InvalidRequest("no market here is a recording that could be replayed")
    for replay in replays:
        replay.begin(start, end)


@dataclass
class _Stream:
    """A subscription: what waits for the history before it, and up to where that history goes."""

    joining: bool = True
    held: list[Kline] = field(default_factory=list)
    floor: int = -1


class LocalSession(Session):
    """A session on services of this process.

    It connects them at :meth:`open` and stops them at :meth:`close`.
    """

    def __init__(
        self, market: MarketService | None = None, trade: TradeService | None = None
    ) -> None:
        self._market = market
        self._trade = trade
        self._name = f"local-{secrets.token_hex(4)}"
        self._listener: Listener = _ignore
        self._removers: list[Callable[[], None]] = []
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._joining: dict[tuple[str, str], asyncio.Lock] = {}
        self._outstanding = Outstanding()
        self._follower: asyncio.Task[None] | None = None
        self.info = SessionInfo("", importlib.metadata.version("livetrader"))

    async def open(self, listener: Listener, trade_from: int | None = None) -> None:
        """As :meth:`Session.open`."""
        self._listener = listener
        try:
            await self._open(trade_from)
        except BaseException:
            await self.close()
            raise

    async def _open(self, trade_from: int | None) -> None:
        if self._trade is not None:
            # First, so that its fills come before the klines that caused them.
            await self._trade.connect()
            if trade_from is not None:
                self._follow_trades(self._trade, trade_from)
        if self._market is not None:
            self._removers.append(self._market.add_listener(self._on_market))
            if self._trade is not None:
                self._market.trade_seq = self._last_trade
            if any(adapter.paced for adapter in self._market.markets):
                self._market.pacer.required = max(1, self._market.pacer.required)
            await self._market.connect()
        self.info = SessionInfo(
            self._name, self.info.version, describe_markets(self._market, self._trade)
        )

    def _last_trade(self) -> int:
        return self._trade.seq if self._trade is not None else 0

    def _follow_trades(self, trade: TradeService, trade_from: int) -> None:
        seq = trade.seq if trade_from < 0 else trade_from
        while events := trade.events_after(seq):
            for event in events:
                self._tell(event)
            seq = events[-1].seq
        self._removers.append(trade.add_listener(self._tell))

    async def close(self) -> None:
        """As :meth:`Session.close`."""
        for remove in self._removers:
            remove()
        self._removers.clear()
        self._streams.clear()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
            self._follower = None
        if self._market is not None:
            self._market.pacer.leave(self._name)
            await self._market.stop()
        if self._trade is not None:
            await self._trade.stop()

    def _on_market(self, event: MarketEvent) -> None:
        if isinstance(event, Kline):
            self._on_kline(event)
        else:
            self._tell(event)

    def _on_kline(self, kline: Kline) -> None:
        stream = self._streams.get((kline.symbol, kline.timeframe))
        if stream is None:
            return
        if stream.joining:
            stream.held.append(kline)
        elif kline.datetime > stream.floor:
            self._tell(kline)

    def _tell(self, event: MarketEvent | TradeEvent) -> None:
        try:
            self._listener(event)
        except Exception:  # a stream must not end with whoever listens to it
            log.exception("the listener failed on %r", event)

    # ---- market data

    async def subscribe(
        self,
        symbol: str,
        timeframe: str = "1m",
        from_ts: int | None = None,
        limit: int | None = None,
    ) -> Klines:
        """As :meth:`Session.subscribe`."""
        market, key = self._markets(), (symbol, timeframe)
        await market.watch(symbol, timeframe)
        async with self._joining.setdefault(key, asyncio.Lock()):
            if key in self._streams:
                return await self._history(symbol, timeframe, from_ts, limit)
            stream = self._streams[key] = _Stream()
            try:
                history = await self._history(symbol, timeframe, from_ts, limit)
            except BaseException:
                del self._streams[key]
                raise
            if len(history):
                stream.floor = int(history.datetime[-1])
            # After the caller has its klines, those that follow.
            asyncio.get_running_loop().call_soon(self._begin, stream)
            return history

    async def _history(
        self, symbol: str, timeframe: str, from_ts: int | None, limit: int | None
    ) -> Klines:
        if limit == 0:
            return Klines.empty(symbol, timeframe)
        return await self._markets().get_kline_histories(
            symbol, from_ts, limit, timeframe=timeframe
        )

    def _begin(self, stream: _Stream) -> None:
        """Go on with what was published while ``stream`` was joining."""
        stream.joining = False
        for kline in stream.held:
            self._on_kline(kline)
        stream.held.clear()
        self._tell_clocks(self._markets())

    def _tell_clocks(self, market: MarketService) -> None:
        for adapter in market.markets:
            moment = market.last_clock(adapter)
            if moment:
                self._tell(Clock(adapter.markets, moment, market.trade_seq()))

    async def unsubscribe(self, symbol: str, timeframe: str = "1m") -> None:
        """As :meth:`Session.unsubscribe`."""
        self._streams.pop((symbol, timeframe), None)

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`Session.get_kline_histories`."""
        return await self._markets().get_kline_histories(
            symbol, from_ts, limit, to_ts, timeframe, forming
        )

    async def get_contract(self, symbol: str) -> Contract:
        """As :meth:`Session.get_contract`."""
        return await self._markets().get_contract(symbol)

    async def list_symbols(self) -> list[str]:
        """As :meth:`Session.list_symbols`."""
        return await self._markets().list_symbols()

    async def status(self) -> dict[str, Any]:
        """As :meth:`Session.status`."""
        return {
            "start_id": self.info.start_id,
            "version": self.info.version,
            "trade_seq": self._last_trade(),
        }

    # ---- replays

    async def begin_replay(self, start: int, end: int | None = None) -> None:
        """As :meth:`Session.begin_replay`."""
        begin_replays(self._markets(), start, end)

    async def follow(self, window: int = 0) -> None:
        """As :meth:`Session.follow`."""
        pacer = self._markets().pacer
        pacer.join(self._name, window)
        if self._follower is None:
            self._follower = asyncio.get_running_loop().create_task(self._stay(pacer))

    async def _stay(self, pacer: Pacer) -> None:
        # The strategy may think for longer than the lease; it is here all the same.
        while True:
            await asyncio.sleep(pacer.lease / 4)
            pacer.touch(self._name)

    async def ack(self, ts: int) -> None:
        """As :meth:`Session.ack`."""
        await self._outstanding.answered()
        self._markets().pacer.ack(self._name, ts)

    # ---- trading

    async def create_order(self, order: Order) -> Order:
        """As :meth:`Session.create_order`."""
        with self._outstanding.one():
            return await self._trades().create_order(order)

    async def cancel_order(self, client_order_id: str) -> None:
        """As :meth:`Session.cancel_order`."""
        with self._outstanding.one():
            await self._trades().cancel_order(client_order_id)

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """As :meth:`Session.modify_order`."""
        with self._outstanding.one():
            return await self._trades().modify_order(client_order_id, quantity, price, stop_price)

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """As :meth:`Session.fetch_order`."""
        return await self._trades().fetch_order(client_order_id)

    async def fetch_orders(self) -> list[Order]:
        """As :meth:`Session.fetch_orders`."""
        return await self._trades().fetch_orders()

    async def fetch_open_orders(self) -> list[Order]:
        """As :meth:`Session.fetch_open_orders`."""
        return await self._trades().fetch_open_orders()

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """As :meth:`Session.fetch_fills`."""
        return await self._trades().fetch_fills(since)

    async def fetch_positions(self, market: str | None = None) -> list[Position]:
        """As :meth:`Session.fetch_positions`."""
        return await self._trades().fetch_positions(market)

    async def fetch_balance(self, market: str | None = None) -> list[Balance]:
        """As :meth:`Session.fetch_balance`."""
        return await self._trades().fetch_balance(market)

    async def give_up_order(self, order: Order) -> Order:
        """As :meth:`Session.give_up_order`."""
        return await self._trades().give_up_order(order)

    async def kill(self, flatten: bool = False, reason: str = "") -> KillState:
        """As :meth:`Session.kill`."""
        return await self._trades().kill(flatten, reason)

    async def lift(self) -> KillState:
        """As :meth:`Session.lift`."""
        return await self._trades().lift()

    async def kill_state(self) -> KillState:
        """As :meth:`Session.kill_state`."""
        return await self._trades().kill_state()

    async def reconcile(self, accept: bool = False) -> Reconciliation:
        """As :meth:`Session.reconcile`."""
        return await self._trades().reconcile(accept)

    async def venue_orders(self) -> list[Order]:
        """As :meth:`Session.venue_orders`."""
        return await self._trades().venue_orders()

    def _markets(self) -> MarketService:
        if self._market is None:
            raise NotConnected("this session has no market service")
        return self._market

    def _trades(self) -> TradeService:
        if self._trade is None:
            raise NotConnected("this session has no trade service")
        return self._trade


def _ignore(event: MarketEvent | TradeEvent) -> None:
    """The listener of a session that is not open."""
