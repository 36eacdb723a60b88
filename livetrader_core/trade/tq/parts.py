"""An order of ours and its parts at the venue: their ids, and their sum.

A part is known at the venue by the client_order_id, its number and the quantity of the whole, all
within the id that we may choose there. So an order is found again from nothing but the venue's
books, and a part that was never sent is seen to be missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from livetrader_core.models import Offset, Order, OrderStatus, OrderType, Side, TimeInForce
from livetrader_core.trade.tq.books import VenueOrder, VenueTrade

_PREFIX = "LT"
_ODD = re.compile(r"[^A-Za-z0-9-]")
_QUOTED = re.compile(r"~([0-9a-f]{2})")
#: How venues say that an order was cancelled, and that it was refused.
_CANCELED, _REFUSED = "撤", "拒绝"


class PartId(NamedTuple):
    """Which part (from 1) of which order of how many lots."""

    client_order_id: str
    part: int
    total: int

    def __str__(self) -> str:
        quoted = _ODD.sub(lambda odd: f"~{ord(odd[0]):02x}", self.client_order_id)
        return f"{_PREFIX}_{quoted}_{self.part}_{self.total}"


def read_id(order_id: str) -> PartId | None:
    """The part behind an order id of the venue; None for an order that is not ours."""
    fields = order_id.split("_")
    if len(fields) != 4 or fields[0] != _PREFIX or not all(f.isdecimal() for f in fields[2:]):
        return None
    name = _QUOTED.sub(lambda code: chr(int(code[1], 16)), fields[1])
    return PartId(name, int(fields[2]), int(fields[3]))


def join(
    client_order_id: str,
    parts: Sequence[VenueOrder],
    trades: Sequence[VenueTrade],
    wished: Order | None = None,
    sending: bool = False,
    ended: OrderStatus | None = None,
) -> Order:
    """The order that ``parts`` make up, with what of ``trades`` has come.

    ``wished`` is the order as it was sent, if that is still known; ``sending`` says that parts may
    still follow, ``ended`` what became of an order that was neither filled nor refused.
    """
    first = min(parts, key=lambda one: one.order_id)
    known = read_id(first.order_id)
    order = wished or _guessed(client_order_id, first, known)
    sent = sum(part.volume for part in parts)
    traded = sum(trade.volume for trade in trades)
    told = sum(part.traded for part in parts)
    amount = sum(trade.volume * trade.price for trade in trades)
    complete = all(part.finished for part in parts) and traded >= told and not sending
    status, reason = OrderStatus.ACCEPTED, ""
    if traded >= order.quantity:
        status = OrderStatus.FILLED
    elif complete:
        status = _end(parts, traded, ended)
        reason = _reason(parts, round(order.quantity) - sent)
    elif traded:
        status = OrderStatus.PARTIALLY_FILLED
    return order.but(
        order_id=" ".join(part.exchange_order_id for part in parts if part.exchange_order_id),
        status=status,
        filled=float(traded),
        average_price=round(amount / traded, 10) if traded else 0.0,
        reason=reason,
        created_at=order.created_at or first.inserted,
    )


def _guessed(client_order_id: str, first: VenueOrder, known: PartId | None) -> Order:
    """The order as the venue alone describes it."""
    kind = OrderType.MARKET if first.price is None else OrderType.LIMIT
    force = TimeInForce.DAY
    if first.time_condition == "IOC" and kind is OrderType.LIMIT:
        force = TimeInForce.FOK if first.volume_condition == "ALL" else TimeInForce.IOC
    return Order(
        client_order_id,
        first.symbol,
        Side.BUY if first.direction == "BUY" else Side.SELL,
        kind,
        float(first.volume if known is None else known.total),
        price=first.price or 0.0,
        time_in_force=force,
        offset=Offset.AUTO,
    )


def refused(part: VenueOrder) -> bool:
    """Whether the venue refused the part, so that it never worked."""
    if not part.finished or part.traded:
        return False
    canceled = _CANCELED in part.message and _REFUSED not in part.message
    return not part.exchange_order_id or not canceled


def _end(parts: Sequence[VenueOrder], traded: int, ended: OrderStatus | None) -> OrderStatus:
    if ended is not None:
        return ended
    if not traded and all(refused(part) for part in parts):
        return OrderStatus.REJECTED
    return OrderStatus.CANCELED


def _reason(parts: Sequence[VenueOrder], unsent: int) -> str:
    said = [part.message for part in parts if part.left and part.message]
    if unsent:
        said.append(f"{unsent} lots were never sent")
    return "; ".join(dict.fromkeys(said))
