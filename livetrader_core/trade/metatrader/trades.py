"""Orders and positions at a MetaTrader 4 terminal, each of them a ticket."""

from __future__ import annotations

from dataclasses import dataclass

from livetrader_core.models import OrderType, Side

#: MQL4's numbers of the types of orders.
KINDS = {
    (OrderType.MARKET, Side.BUY): 0,
    (OrderType.MARKET, Side.SELL): 1,
    (OrderType.LIMIT, Side.BUY): 2,
    (OrderType.LIMIT, Side.SELL): 3,
    (OrderType.STOP, Side.BUY): 4,
    (OrderType.STOP, Side.SELL): 5,
}
_ORDERS = {kind: wish for wish, kind in KINDS.items()}


@dataclass(frozen=True)
class Trade:
    """An order or a position at the terminal; ``opened`` is server time (ms).

    ``client_order_id`` is that of the order which opened it, empty if it is none of ours;
    ``rest_of`` the ticket of which this is what a partial close left, 0 if it is none.
    """

    ticket: int
    magic: int
    name: str
    lots: float
    kind: int
    price: float
    opened: int
    client_order_id: str = ""
    rest_of: int = 0
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
