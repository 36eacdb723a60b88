"""The methods that a server answers, with their arguments checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from livetrader_core.errors import (
    InvalidRequest,
    LiveTraderError,
    TooBusy,
    UnknownMethod,
    VersionMismatch,
)
from livetrader_core.local import begin_replays
from livetrader_core.models import Klines, Order
from livetrader_core.rpc.guard import Role
from livetrader_core.rpc.protocol import MAX_EVENTS, PROTOCOL, Reply, Request, kline_topic
from livetrader_core.rpc.publisher import Publisher, Stream
from livetrader_core.service import MAX_KLINES, MarketService
from livetrader_core.trade import TradeService

Answer = Reply | Awaitable[Reply]


@dataclass
class Peer:
    """What the server knows of one client connection."""

    identity: bytes
    #: What the sender of the request at hand may do.
    role: Role = Role.ADMIN
    #: When it was last heard (monotonic seconds).
    heard: float = 0.0
    in_flight: int = 0
    streams: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class Param:
    """One positional argument and the types it may have."""

    name: str
    types: tuple[type, ...]


def _param(name: str, *types: type) -> Param:
    return Param(name, types)


_SYMBOL = _param("symbol", str)
_TIMEFRAME = _param("timeframe", str)
_MARKET = _param("market", str, NoneType)
_FROM = _param("from_ts", int, NoneType)
_LIMIT = _param("limit", int, NoneType)
_TO = _param("to_ts", int, NoneType)
_ORDER_ID = _param("client_order_id", str)
_SEQ = _param("seq", int)
_NAME = _param("name", str)
_WINDOW = _param("window", int)
_TS = _param("ts", int)


def _number(name: str) -> Param:
    return _param(name, float, int, NoneType)


_PAGE = (_param("offset", int), _param("limit", int))


class Methods:
    """Maps requests to the services. ``hello`` and ``status`` are the server's own."""

    def __init__(
        self,
        market: MarketService | None,
        trade: TradeService | None,
        publisher: Publisher,
        hello: Callable[[str], dict[str, Any]],
        status: Callable[[], dict[str, Any]],
        max_subscriptions: int,
    ) -> None:
        self._market_service = market
        self._trade_service = trade
        self._publisher = publisher
        self._greet = hello
        self._tell_status = status
        self._max_subscriptions = max_subscriptions
        self._table: dict[str, tuple[Callable[..., Answer], tuple[Param, ...]]] = {
            "ping": (self._ping, ()),
            "status": (self._status, ()),
            "state": (self._state, ()),
            "get_kline_histories": (
                self._histories,
                (_SYMBOL, _FROM, _LIMIT, _TO, _TIMEFRAME, _param("forming", bool)),
            ),
            "get_contract": (self._contract, (_SYMBOL,)),
            "list_symbols": (self._symbols, ()),
            "subscribe": (self._subscribe, (_SYMBOL, _TIMEFRAME, _FROM, _LIMIT)),
            "resume": (
                self._resume,
                (_SYMBOL, _TIMEFRAME, _param("start_id", str), _SEQ, _param("last", int)),
            ),
            "unsubscribe": (self._unsubscribe, (_SYMBOL, _TIMEFRAME)),
            "begin_replay": (
                self._begin_replay,
                (_param("start", int), _param("end", int, NoneType)),
            ),
            "follow": (self._follow, (_NAME, _WINDOW)),
            "ack": (self._ack, (_NAME, _WINDOW, _TS)),
            "unfollow": (self._unfollow, (_NAME,)),
            "create_order": (self._create_order, (_param("order", dict),)),
            "cancel_order": (self._cancel_order, (_ORDER_ID,)),
            "modify_order": (
                self._modify_order,
                (_ORDER_ID, _number("quantity"), _number("price"), _number("stop_price")),
            ),
            "fetch_order": (self._fetch_order, (_ORDER_ID,)),
            "fetch_orders": (self._fetch_orders, _PAGE),
            "fetch_open_orders": (self._fetch_open_orders, ()),
            "fetch_fills": (self._fetch_fills, (_param("since", int), *_PAGE)),
            "fetch_positions": (self._fetch_positions, (_MARKET,)),
            "fetch_balance": (self._fetch_balance, (_MARKET,)),
            "give_up_order": (self._give_up_order, (_param("order", dict),)),
            "kill": (self._kill, (_param("flatten", bool), _param("reason", str))),
            "lift": (self._lift, ()),
            "kill_state": (self._kill_state, ()),
            "reconcile": (self._reconcile, (_param("accept", bool),)),
            "venue_orders": (self._venue_orders, ()),
            "events_after": (self._events_after, (_SEQ, _param("limit", int))),
        }

    def answer(self, peer: Peer, request: Request) -> Answer:
        """Begin to answer. Raises InvalidRequest, UnknownMethod and what the method raises."""
        if request.method == "hello":
            return Reply(self._hello(request.args))
        entry = self._table.get(request.method)
        if entry is None:
            raise UnknownMethod(f"there is no method {request.method[:64]!r}")
        handler, params = entry
        _check_args(request.method, params, request.args)
        return handler(peer, *request.args)

    # ---- the server itself

    def _hello(self, args: Sequence[Any]) -> dict[str, Any]:
        theirs = args[0] if args else None
        if type(theirs) is not int or theirs != PROTOCOL:
            release = args[1] if len(args) > 1 and isinstance(args[1], str) else "unknown"
            raise VersionMismatch(
                f"the client (livetrader {release[:32]}) speaks protocol {str(theirs)[:32]}, this "
                f"server protocol {PROTOCOL}; install the same release on both sides"
            )
        params = (_param("protocol", int), _param("version", str), _param("scheme", str))
        _check_args("hello", params, args)
        return self._greet(args[2])

    def _ping(self, peer: Peer) -> Reply:
        """Only to be heard."""
        return Reply()

    def _status(self, peer: Peer) -> Reply:
        told = self._tell_status()
        if peer.role < Role.TRADE:
            told.pop("differences", None)  # they name what is held
        return Reply(told)

    def _state(self, peer: Peer) -> Reply:
        return Reply(self._publisher.state(self._trade_seq()))

    def _trade_seq(self) -> int:
        return self._trade_service.seq if self._trade_service is not None else 0

    # ---- market data

    @property
    def _market(self) -> MarketService:
        if self._market_service is None:
            raise UnknownMethod("this server has no market data")
        return self._market_service

    async def _histories(
        self,
        peer: Peer,
        symbol: str,
        from_ts: int | None,
        limit: int | None,
        to_ts: int | None,
        timeframe: str,
        forming: bool,
    ) -> Reply:
        klines = await self._market.get_kline_histories(
            symbol, from_ts, limit, to_ts, timeframe, forming
        )
        return Reply(klines=klines)

    async def _contract(self, peer: Peer, symbol: str) -> Reply:
        return Reply((await self._market.get_contract(symbol)).to_dict())

    async def _symbols(self, peer: Peer) -> Reply:
        return Reply(await self._market.list_symbols())

    async def _subscribe(
        self, peer: Peer, symbol: str, timeframe: str, from_ts: int | None, limit: int | None
    ) -> Reply:
        """Klines so far, and ``[topic, seq, newest]``: the number of the last publication that
        they include, and when the newest kline known opened (-1: there is none).
        """
        stream = await self._watch(peer, symbol, timeframe)
        if limit == 0:
            newest = await self._newest(stream)
            return Reply([stream.topic, stream.seq, newest], Klines.empty(symbol, timeframe))
        klines = await self._market.get_kline_histories(symbol, from_ts, limit, timeframe=timeframe)
        # Nothing is awaited between: history, memory and number are of one moment.
        klines = stream.joined_to(klines, from_ts or 0)
        if limit is not None:
            klines = klines[-limit:]
        seq = stream.seq
        newest = int(klines.datetime[-1]) if len(klines) else await self._newest(stream)
        return Reply([stream.topic, seq, newest], klines)

    async def _resume(
        self, peer: Peer, symbol: str, timeframe: str, start_id: str, seq: int, last: int
    ) -> Reply:
        """What was published after number ``seq`` of run ``start_id``; the result is that of
        ``subscribe``. If that is not remembered: klines that open after ``last`` (-1: the client
        has none and knows of none).
        """
        stream = await self._watch(peer, symbol, timeframe)
        same_run = start_id == self._publisher.start_id
        missed = stream.since(seq) if same_run else None
        if missed is not None:
            klines = Klines.of(symbol, timeframe, missed)
        else:
            from_ts = last + 1
            if same_run and seq == 0 and stream.first >= 0:
                # A replay may begin before what an archive's last kline was at the subscription.
                from_ts = min(from_ts, stream.first)
            klines = await self._market.get_kline_histories(
                symbol, from_ts, MAX_KLINES, timeframe=timeframe
            )
            klines = stream.joined_to(klines, from_ts)
        newest = int(klines.datetime[-1]) if len(klines) else last
        return Reply([stream.topic, stream.seq, newest], klines)

    async def _watch(self, peer: Peer, symbol: str, timeframe: str) -> Stream:
        kline_topic(symbol, timeframe)
        key = (symbol, timeframe)
        if key not in peer.streams and len(peer.streams) >= self._max_subscriptions:
            raise TooBusy(
                f"{symbol} {timeframe}: this client has {len(peer.streams)} subscriptions, the "
                "most that it may have"
            )
        peer.streams.add(key)
        try:
            await self._market.watch(symbol, timeframe)
        except BaseException:
            peer.streams.discard(key)
            raise
        return self._publisher.stream(symbol, timeframe)

    async def _newest(self, stream: Stream) -> int:
        if stream.recent:
            return stream.recent[-1].datetime
        try:
            klines = await self._market.get_kline_histories(
                stream.symbol, limit=1, timeframe=stream.timeframe
            )
        except LiveTraderError:
            return -1
        return int(klines.datetime[-1]) if len(klines) else -1

    def _unsubscribe(self, peer: Peer, symbol: str, timeframe: str) -> Reply:
        peer.streams.discard((symbol, timeframe))
        return Reply()

    # ---- replays

    def _begin_replay(self, peer: Peer, start: int, end: int | None) -> Reply:
        begin_replays(self._market, start, end)
        return Reply()

    def _follow(self, peer: Peer, name: str, window: int) -> Reply:
        _check_window(window)
        self._market.pacer.join(name, window)
        return Reply()

    def _ack(self, peer: Peer, name: str, window: int, ts: int) -> Reply:
        """``name`` is done with everything up to ``ts``; -1: with nothing yet."""
        _check_window(window)
        pacer = self._market.pacer
        if name not in pacer.followers:  # it was silent for longer than its lease
            pacer.join(name, window)
        pacer.ack(name, ts)
        return Reply()

    def _unfollow(self, peer: Peer, name: str) -> Reply:
        self._market.pacer.leave(name)
        return Reply()

    # ---- trading

    @property
    def _trade(self) -> TradeService:
        if self._trade_service is None:
            raise UnknownMethod("this server does not trade")
        return self._trade_service

    async def _create_order(self, peer: Peer, order: dict[str, Any]) -> Reply:
        return Reply((await self._trade.create_order(Order.from_dict(order))).to_dict())

    async def _cancel_order(self, peer: Peer, client_order_id: str) -> Reply:
        await self._trade.cancel_order(client_order_id)
        return Reply()

    async def _modify_order(
        self,
        peer: Peer,
        client_order_id: str,
        quantity: float | None,
        price: float | None,
        stop_price: float | None,
    ) -> Reply:
        order = await self._trade.modify_order(client_order_id, quantity, price, stop_price)
        return Reply(order.to_dict())

    async def _fetch_order(self, peer: Peer, client_order_id: str) -> Reply:
        order = await self._trade.fetch_order(client_order_id)
        return Reply(order.to_dict() if order is not None else None)

    async def _fetch_orders(self, peer: Peer, offset: int, limit: int) -> Reply:
        _check_page(offset, limit)
        orders = await self._trade.fetch_orders(offset, limit)
        return Reply([order.to_dict() for order in orders])

    async def _fetch_open_orders(self, peer: Peer) -> Reply:
        return Reply([order.to_dict() for order in await self._trade.fetch_open_orders()])

    async def _fetch_fills(self, peer: Peer, since: int, offset: int, limit: int) -> Reply:
        _check_page(offset, limit)
        fills = await self._trade.fetch_fills(since, offset, limit)
        return Reply([fill.to_dict() for fill in fills])

    async def _fetch_positions(self, peer: Peer, market: str | None) -> Reply:
        positions = await self._trade.fetch_positions(market)
        return Reply([position.to_dict() for position in positions])

    async def _fetch_balance(self, peer: Peer, market: str | None) -> Reply:
        return Reply([balance.to_dict() for balance in await self._trade.fetch_balance(market)])

    async def _give_up_order(self, peer: Peer, order: dict[str, Any]) -> Reply:
        return Reply((await self._trade.give_up_order(Order.from_dict(order))).to_dict())

    async def _kill(self, peer: Peer, flatten: bool, reason: str) -> Reply:
        return Reply((await self._trade.kill(flatten, reason)).to_dict())

    async def _lift(self, peer: Peer) -> Reply:
        return Reply((await self._trade.lift()).to_dict())

    async def _kill_state(self, peer: Peer) -> Reply:
        return Reply((await self._trade.kill_state()).to_dict())

    async def _reconcile(self, peer: Peer, accept: bool) -> Reply:
        return Reply((await self._trade.reconcile(accept)).to_dict())

    async def _venue_orders(self, peer: Peer) -> Reply:
        return Reply([order.to_dict() for order in await self._trade.venue_orders()])

    def _events_after(self, peer: Peer, seq: int, limit: int) -> Reply:
        _check_page(0, limit)
        return Reply([event.to_dict() for event in self._trade.events_after(seq, limit)])


def _check_page(offset: int, limit: int) -> None:
    if offset < 0:
        raise InvalidRequest(f"offset must not be negative: {offset}")
    if not 1 <= limit <= MAX_EVENTS:
        raise InvalidRequest(f"limit must lie between 1 and {MAX_EVENTS}, not {limit}")


def _check_window(window: int) -> None:
    if window < 0:
        raise InvalidRequest(f"window must not be negative: {window}")


def _check_args(method: str, params: Sequence[Param], args: Sequence[Any]) -> None:
    if len(args) != len(params):
        names = ", ".join(param.name for param in params) or "no arguments"
        raise InvalidRequest(f"{method} takes {names}; {len(args)} arguments came")
    for param, value in zip(params, args, strict=True):
        if type(value) not in param.types:
            wanted = " or ".join(
                "nothing" if kind is NoneType else kind.__name__ for kind in param.types
            )
            raise InvalidRequest(
                f"{method}: {param.name} must be {wanted}, not {type(value).__name__}"
            )
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise InvalidRequest(f"{method}: {param.name} has more than 64 bits")
