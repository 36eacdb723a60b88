"""Tickets and events as the expert advisor tells them (extra/mql4/PROTOCOL.md)."""

from __future__ import annotations

from dataclasses import dataclass

from livetrader_core.errors import ProtocolError
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.fields import Object
from livetrader_core.models import Order, OrderType, Side
from livetrader_core.trade.metatrader.trades import KINDS, Trade

_TYPES = ("buy", "sell", "buy_limit", "sell_limit", "buy_stop", "sell_stop")
_KINDS_OF_EVENTS = frozenset(
    {"placed", "opened", "filled", "modified", "parted", "closed", "deleted"}
)


@dataclass(frozen=True)
class Ticket:
    """A ticket: ``trade`` as it is or was, and what closing it brought.

    ``costs`` are commission and swap that were paid (account's currency); ``closed`` is server
    time (ms), 0 while it is open or pending; ``expiration`` likewise.
    """

    trade: Trade
    root: int
    expiration: int
    profit: float
    costs: float
    close_price: float
    closed: int

    @classmethod
    def read(cls, body: Object) -> Ticket:
        """The ticket in ``body``. Raises ProtocolError naming the field at fault."""
        kind = fields.text(body, "type")
        if kind not in _TYPES:
            raise ProtocolError(f"type: {kind!r} is no type of orders")
        trade = Trade(
            fields.integer(body, "ticket", 1),
            fields.integer(body, "magic", -(2**31)),
            fields.text(body, "symbol"),
            round(fields.number(body, "lots", 0), 8),
            _TYPES.index(kind),
            fields.number(body, "price", 0),
            fields.integer(body, "time") * 1000,
            fields.text(body, "op"),
            stop_loss=fields.number(body, "sl", 0),
            take_profit=fields.number(body, "tp", 0),
        )
        return cls(
            trade,
            fields.integer(body, "root"),
            fields.integer(body, "expiration") * 1000,
            fields.number(body, "profit"),
            round(-fields.number(body, "commission") - fields.number(body, "swap"), 2),
            fields.number(body, "close_price", 0),
            fields.integer(body, "close_time") * 1000,
        )


@dataclass(frozen=True)
class OrderEvent:
    """What happened to a ticket; ``by`` is the operation that did it, empty if none of ours."""

    number: int
    kind: str
    by: str
    reason: str
    rest: int
    ticket: Ticket

    @classmethod
    def read(cls, body: Object) -> OrderEvent:
        """The event in ``body``. Raises ProtocolError naming the field at fault."""
        kind = fields.text(body, "kind")
        if kind not in _KINDS_OF_EVENTS:
            raise ProtocolError(f"kind: {kind!r} is no kind of events")
        return cls(
            fields.integer(body, "number", 1),
            kind,
            fields.text(body, "by"),
            fields.text(body, "reason"),
            fields.integer(body, "rest"),
            Ticket.read(fields.object_of(body, "order")),
        )


def type_of(order: Order) -> str:
    """The advisor's word for the type of ``order``."""
    return _TYPES[KINDS[order.type, order.side]]


def at_market(side: Side) -> str:
    """The advisor's word for a market order."""
    return _TYPES[KINDS[OrderType.MARKET, side]]
