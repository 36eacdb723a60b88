"""TRADE commands of the DWX protocol v2.0.1, and what is read from their answers.

Facts from the expert advisor's published source and from running it: eleven fields always; a close
that failed says SUCCESS too, and gives no ``_close_price`` then; the price that it gives is the one
it asked for. Comments are cut at 31 characters, and rewritten when a part is closed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from livetrader_core.errors import ProtocolError
from livetrader_core.market.dwx.messages import read_time
from livetrader_core.market.dwx.replies import Reply
from livetrader_core.models import Order, OrderType, Side

_PREFIX = "lt:"
_REST_OF = re.compile(r"from #(\d+)")
_KINDS = {
    (OrderType.MARKET, Side.BUY): 0,
    (OrderType.MARKET, Side.SELL): 1,
    (OrderType.LIMIT, Side.BUY): 2,
    (OrderType.LIMIT, Side.SELL): 3,
    (OrderType.STOP, Side.BUY): 4,
    (OrderType.STOP, Side.SELL): 5,
}
_ORDERS = {kind: wish for wish, kind in _KINDS.items()}

OPEN_TRADES = "TRADE;GET_OPEN_TRADES;0;EURUSD;0.0;0;0;;0.01;0;0"

#: What the advisor's and the broker's refusals mean, and what to do.
_REASONS = {
    "LOT_SIZE_ERROR": "more lots than the expert advisor's input MaximumLotSize allows; raise it",
    "NUM_ORDERS_ERROR": "the expert advisor's input MaximumOrders is reached; raise it",
    "4": "the broker's server is busy",
    "6": "the terminal has no connection to the broker's server",
    "129": "invalid price",
    "130": "invalid stops: the price is too near to the market or on its wrong side, or the "
    "expert advisor's input DMA_MODE is off",
    "131": "the broker does not trade this volume",
    "132": "the market is closed",
    "133": "trading of this symbol is disabled",
    "134": "not enough money",
    "135": "the price changed",
    "136": "off quotes",
    "138": "requote",
    "146": "the trade context is busy",
    "148": "the broker's limit of orders is reached",
    "149": "the broker forbids hedging",
    "150": "the broker closes first in, first out only",
    "4106": "the broker does not have this symbol",
}
#: Refusals after which it is not known whether the broker's server did it.
_OPEN = frozenset({"1", "2", "9", "128", "142", "143"})


def comment_of(client_order_id: str) -> str:
    """The comment of an order."""
    return _PREFIX + client_order_id


def open_order(order: Order, name: str, lots: float, magic: int) -> str:
    """Open ``lots`` by ``order``, without stops."""
    kind = _KINDS[order.type, order.side]
    price = order.stop_price if order.type is OrderType.STOP else order.price
    comment = comment_of(order.client_order_id)
    return f"TRADE;OPEN;{kind};{name};{price:.8f};0;0;{comment};{lots:.8f};{magic};0"


def close(ticket: int, lots: float = 0.0) -> str:
    """Close a position or delete a pending order; with ``lots`` a part of a position."""
    if lots:
        return f"TRADE;CLOSE_PARTIAL;0;EURUSD;0.0;0;0;;{lots:.8f};0;{ticket}"
    return f"TRADE;CLOSE;0;EURUSD;0.0;0;0;;0.01;0;{ticket}"


def modify(ticket: int, loss: int, gain: int) -> str:
    """Set both levels of a position, in points from its open price towards loss and gain."""
    return f"TRADE;MODIFY;0;EURUSD;0.0;{loss};{gain};;0.01;0;{ticket}"


def answers_modify(reply: Reply) -> bool:
    """Tells what can be the answer to :func:`modify`."""
    return reply.get("_action") == "MODIFY"


def answers_open(name: str, magic: int) -> Callable[[Reply], bool]:
    """Tells what can be the answer to :func:`open_order`."""

    def accept(reply: Reply) -> bool:
        return (
            reply.get("_action") == "EXECUTION"
            and reply.get("_symbol", name) == name
            and reply.get("_magic", magic) == magic
        )

    return accept


def answers_close(ticket: int) -> Callable[[Reply], bool]:
    """Tells what can be the answer to :func:`close`; a partial close may be answered ``{}``."""
    return lambda reply: (
        not reply or (reply.get("_action") == "CLOSE" and reply.get("_ticket") == ticket)
    )


def refusal(reply: Reply) -> tuple[str, bool]:
    """Why an OPEN was refused (empty: it was not), and whether that is certain."""
    response = reply.get("_response")
    if "_ticket" in reply or response is None:
        return "", True
    code = str(response)
    told = _REASONS.get(code) or str(reply.get("response_value", "no reason given"))
    return f"the terminal answers {code}: {told}", code not in _OPEN


@dataclass(frozen=True)
class Trade:
    """An order or a position at the terminal; ``opened`` is server time (ms)."""

    ticket: int
    magic: int
    name: str
    lots: float
    kind: int
    price: float
    opened: int
    comment: str
    stop_loss: float = 0.0
    take_profit: float = 0.0

    @property
    def pending(self) -> bool:
        """Whether it waits for its price."""
        return self.kind >= 2

    @property
    def side(self) -> Side:
        """Which way it trades."""
        return Side.SELL if self.kind % 2 else Side.BUY

    @property
    def type(self) -> OrderType:
        """What type of order it is, or was: a position is taken for a market order's."""
        return _ORDERS[self.kind][0]

    @property
    def client_order_id(self) -> str:
        """The id in its comment, if it is one of ours."""
        found = self.comment.startswith(_PREFIX)
        return self.comment[len(_PREFIX) :] if found else ""

    @property
    def rest_of(self) -> int:
        """The ticket of which this is what a partial close left; 0 if it is none."""
        match = _REST_OF.match(self.comment)
        return int(match[1]) if match else 0


def read_trades(reply: Reply) -> dict[int, Trade]:
    """What GET_OPEN_TRADES lists, oldest first. Raises ProtocolError."""
    rows = reply.get("_trades")
    if not isinstance(rows, dict):
        raise ProtocolError(f"GET_OPEN_TRADES gave no trades: {reply!r:.200}")
    try:
        found = [_trade(ticket, row) for ticket, row in rows.items()]
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"a trade of GET_OPEN_TRADES cannot be read: {error!r}") from error
    return {trade.ticket: trade for trade in sorted(found, key=lambda trade: trade.ticket)}


def _trade(ticket: Any, row: Mapping[str, Any]) -> Trade:
    trade = Trade(
        int(ticket),
        int(row["_magic"]),
        str(row["_symbol"]),
        round(_finite(row["_lots"]), 8),
        int(row["_type"]),
        _finite(row["_open_price"]),
        read_time(row["_open_time"]),
        str(row["_comment"]),
        _finite(row["_SL"]),
        _finite(row["_TP"]),
    )
    if trade.kind not in _ORDERS or trade.lots <= 0:
        raise ValueError(f"ticket {ticket} has a type or lots that cannot be")
    return trade


@dataclass(frozen=True)
class Account:
    """The account as GET_ACCOUNT_INFO gives it, in its own currency."""

    number: str
    balance: float
    equity: float
    free_margin: float


def read_account(reply: Reply) -> Account:
    """Raises ProtocolError."""
    try:
        row = reply["_data"][0]
        return Account(
            str(reply["account_number"]),
            _finite(row["account_balance"]),
            _finite(row["account_equity"]),
            _finite(row["account_free_margin"]),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProtocolError(f"GET_ACCOUNT_INFO cannot be read: {error!r}") from error


def close_price(reply: Reply) -> float:
    """The price that a close asked for; 0 if it gives none, which one that failed does."""
    price = reply.get("_close_price", 0.0)
    return float(price) if isinstance(price, int | float) else 0.0


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number
