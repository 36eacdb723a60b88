"""The requests of a client: method, arguments, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from livetrader_core.errors import InvalidRequest, ProtocolError
from livetrader_core.models import (
    Balance,
    Clock,
    Contract,
    FeedStatus,
    Fill,
    KillState,
    Klines,
    Order,
    Position,
    Reconciliation,
    TradeEvent,
)
from livetrader_core.rpc import protocol
from livetrader_core.rpc.protocol import Greeting, Reply

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A request. ``may_have_happened``: without an answer its outcome is unknown."""

    method: str
    args: tuple[Any, ...]
    read: Callable[[Reply], Result]
    may_have_happened: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Where a subscription begins: its klines, the number of the last publication they include,
    and when the newest kline that the server knows opened (-1: none).
    """

    klines: Klines
    topic: bytes
    seq: int
    newest: int


@dataclass(frozen=True, slots=True)
class State:
    """What a server last said: for whoever missed it."""

    control_seq: int
    trade_seq: int
    clocks: tuple[Clock, ...]
    statuses: tuple[FeedStatus, ...]


# --------------------------------------------------------------------------- reading


def _klines(reply: Reply) -> Klines:
    if reply.klines is None:
        raise ProtocolError("an answer without klines")
    return reply.klines


def _nothing(reply: Reply) -> None:
    return None


def _map(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise ProtocolError(f"the answer is {type(value).__name__}, not a map")
    return value


def _record(make: Callable[[dict[str, Any]], Result], value: Any) -> Result:
    try:
        return make(_map(value))
    except (TypeError, KeyError, ValueError, InvalidRequest) as error:
        raise ProtocolError(f"the answer is not what it should be: {error}") from None


def _one(make: Callable[[dict[str, Any]], Result]) -> Callable[[Reply], Result]:
    return lambda reply: _record(make, reply.result)


def _many(make: Callable[[dict[str, Any]], Result]) -> Callable[[Reply], list[Result]]:
    def read(reply: Reply) -> list[Result]:
        if type(reply.result) is not list:
            raise ProtocolError(f"the answer is {type(reply.result).__name__}, not a list")
        return [_record(make, item) for item in reply.result]

    return read


def _order_or_none(reply: Reply) -> Order | None:
    return None if reply.result is None else _record(Order.from_dict, reply.result)


def _strings(reply: Reply) -> list[str]:
    if type(reply.result) is not list or not all(type(item) is str for item in reply.result):
        raise ProtocolError("the answer is not a list of strings")
    return reply.result


def _joined(reply: Reply) -> Joined:
    result = reply.result
    if type(result) is not list or [type(item) for item in result] != [bytes, int, int]:
        raise ProtocolError("the answer is not that of a subscription")
    return Joined(_klines(reply), *result)


def _state(reply: Reply) -> State:
    result = reply.result
    if type(result) is not list or [type(item) for item in result] != [int, int, list, list]:
        raise ProtocolError("the answer is not a server's state")
    return State(
        result[0],
        result[1],
        tuple(protocol.clock_from(fields) for fields in result[2]),
        tuple(protocol.status_from(fields) for fields in result[3]),
    )


# --------------------------------------------------------------------------- calls


def hello(version: str, scheme: str) -> Call[Greeting]:
    """The greeting."""
    args = (protocol.PROTOCOL, version, scheme)
    return Call("hello", args, lambda reply: Greeting.from_dict(reply.result))


def status() -> Call[dict[str, Any]]:
    """What the server is doing."""
    return Call("status", (), lambda reply: _map(reply.result))


def state() -> Call[State]:
    """The last clocks and statuses."""
    return Call("state", (), _state)


def get_kline_histories(
    symbol: str,
    from_ts: int | None,
    limit: int | None,
    to_ts: int | None,
    timeframe: str,
    forming: bool,
) -> Call[Klines]:
    """Klines by time or count."""
    args = (symbol, from_ts, limit, to_ts, timeframe, forming)
    return Call("get_kline_histories", args, _klines)


def get_contract(symbol: str) -> Call[Contract]:
    """A contract."""
    return Call("get_contract", (symbol,), _one(Contract.from_dict))


def list_symbols() -> Call[list[str]]:
    """All symbols."""
    return Call("list_symbols", (), _strings)


def subscribe(symbol: str, timeframe: str, from_ts: int | None, limit: int | None) -> Call[Joined]:
    """Start a stream."""
    return Call("subscribe", (symbol, timeframe, from_ts, limit), _joined)


def resume(symbol: str, timeframe: str, start_id: str, seq: int, last: int) -> Call[Joined]:
    """Go on with a stream after a break."""
    return Call("resume", (symbol, timeframe, start_id, seq, last), _joined)


def unsubscribe(symbol: str, timeframe: str) -> Call[None]:
    """A stream is wanted no more."""
    return Call("unsubscribe", (symbol, timeframe), _nothing)


def begin_replay(start: int, end: int | None) -> Call[None]:
    """Begin the recorded markets."""
    return Call("begin_replay", (start, end), _nothing)


def follow(name: str, window: int) -> Call[None]:
    """Have a paced stream wait for acknowledgements."""
    return Call("follow", (name, window), _nothing)


def unfollow(name: str) -> Call[None]:
    """Have it wait no more."""
    return Call("unfollow", (name,), _nothing)


def create_order(order: Order) -> Call[Order]:
    """Place an order."""
    args = (order.to_dict(),)
    return Call("create_order", args, _one(Order.from_dict), may_have_happened=True)


def cancel_order(client_order_id: str) -> Call[None]:
    """Ask to cancel."""
    return Call("cancel_order", (client_order_id,), _nothing)


def modify_order(
    client_order_id: str, quantity: float | None, price: float | None, stop_price: float | None
) -> Call[Order]:
    """Change a working order."""
    args = (client_order_id, quantity, price, stop_price)
    return Call("modify_order", args, _one(Order.from_dict), may_have_happened=True)


def fetch_order(client_order_id: str) -> Call[Order | None]:
    """One order."""
    return Call("fetch_order", (client_order_id,), _order_or_none)


def fetch_orders(offset: int, limit: int) -> Call[list[Order]]:
    """A page of all orders."""
    return Call("fetch_orders", (offset, limit), _many(Order.from_dict))


def fetch_open_orders() -> Call[list[Order]]:
    """Orders that are not final."""
    return Call("fetch_open_orders", (), _many(Order.from_dict))


def fetch_fills(since: int, offset: int, limit: int) -> Call[list[Fill]]:
    """A page of the executions since a moment."""
    return Call("fetch_fills", (since, offset, limit), _many(Fill.from_dict))


def fetch_positions(market: str | None) -> Call[list[Position]]:
    """Net positions of all venues, or of the one that trades ``market``."""
    return Call("fetch_positions", (market,), _many(lambda fields: Position(**fields)))


def fetch_balance(market: str | None) -> Call[list[Balance]]:
    """The accounts of all venues, or of the one that trades ``market``."""
    return Call("fetch_balance", (market,), _many(lambda fields: Balance(**fields)))


def give_up_order(order: Order) -> Call[Order]:
    """See that an order that may never have arrived is not sent anymore."""
    return Call("give_up_order", (order.to_dict(),), _one(Order.from_dict))


def kill(flatten: bool, reason: str) -> Call[KillState]:
    """Throw the kill switch."""
    return Call("kill", (flatten, reason), _one(KillState.from_dict), may_have_happened=True)


def lift() -> Call[KillState]:
    """Lift the kill switch."""
    return Call("lift", (), _one(KillState.from_dict), may_have_happened=True)


def kill_state() -> Call[KillState]:
    """Whether the kill switch is on."""
    return Call("kill_state", (), _one(KillState.from_dict))


def reconcile(accept: bool) -> Call[Reconciliation]:
    """Compare the books with the venues."""
    return Call("reconcile", (accept,), _one(Reconciliation.from_dict))


def venue_orders() -> Call[list[Order]]:
    """Orders at the venues that are not ours."""
    return Call("venue_orders", (), _many(Order.from_dict))


def events_after(seq: int, limit: int) -> Call[list[TradeEvent]]:
    """Trade events of the journal."""
    return Call("events_after", (seq, limit), _many(protocol.trade_event_from))
