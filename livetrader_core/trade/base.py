"""What a trade adapter is: one venue's account.

| method               | required | what it gives                                                |
|----------------------|----------|--------------------------------------------------------------|
| ``connect``          | yes      | a working connection, or an error                            |
| ``disconnect``       | yes      | nothing left behind                                          |
| ``create_order``     | yes      | the order as the venue took it, or why not                   |
| ``cancel_order``     | yes      | the request to cancel, delivered                             |
| ``fetch_order``      | yes      | what the venue knows of one order: the way out of UNKNOWN    |
| ``fetch_open_orders``| yes      | what works at the venue                                      |
| ``fetch_fills``      | yes      | executions, for reconciliation                               |
| ``fetch_positions``  | yes      | net positions                                                |
| ``fetch_balance``    | yes      | the accounts                                                 |
| ``watch_events``     | yes      | every later change of an order, with its fill                |
| ``modify_order``     | no       | a changed price or quantity                                  |
| ``close_hedged``     | no       | no position against another one of the same symbol           |
| ``diagnose``         | no       | findings for `livetrader doctor`                             |
| ``lost``             | no       | why nothing can be sent at the moment                        |
| ``now``              | no       | the venue's time, if it is not the computer's                |
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

from livetrader_core.errors import InvalidRequest
from livetrader_core.market.finding import Finding
from livetrader_core.models import Balance, Fill, Order, OrderType, Position, TimeInForce


@dataclass(frozen=True)
class VenueEvent:
    """A change of an order as the venue tells it: the order after it, and the fill if it was one.

    ``clock`` is the venue's time in UTC milliseconds.
    """

    clock: int
    order: Order
    fill: Fill | None = None


#: The fields of an order that :meth:`TradeBase.modify_order` can be asked to change.
CHANGES = frozenset({"quantity", "price", "stop_price"})


@dataclass(frozen=True)
class Abilities:
    """What a venue does by itself. The rest is held by the server until it can be sent.

    ``linked``: OCO groups and brackets; ``modify``: what of a working order can be changed, of
    quantity, price and stop_price.
    ``closing_reserves``: while an order that closes works, nothing else can close the same units.
    """

    types: frozenset[OrderType] = frozenset({OrderType.MARKET, OrderType.LIMIT})
    times_in_force: frozenset[TimeInForce] = frozenset({TimeInForce.GTC})
    linked: bool = False
    modify: frozenset[str] = frozenset()
    closing_reserves: bool = False


class TradeBase(ABC):
    """Trading at one venue.

    The outcome policy: a refusal is :class:`~livetrader_core.errors.OrderRejected`; anything that
    leaves open whether the order reached the venue is
    :class:`~livetrader_core.errors.OutcomeUnknown`, and never a rejection.
    """

    #: MARKET codes it trades.
    markets: tuple[str, ...] = ()
    #: Whether no real money moves here.
    paper: bool = False
    #: Whether the account outlives this program: what it holds can be compared with the journal.
    keeps_books: bool = True
    #: What the venue does by itself.
    abilities: Abilities = Abilities()

    @abstractmethod
    async def connect(self) -> None:
        """Reach the venue. Raises Unavailable if it can't."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Leave the venue; may be called more than once."""

    @abstractmethod
    async def create_order(self, order: Order) -> Order:
        """Send ``order``; returns it as the venue took it. Raises OrderRejected, OutcomeUnknown."""

    @abstractmethod
    async def cancel_order(self, client_order_id: str) -> None:
        """Ask to cancel; the outcome comes as an event. Raises OrderRejected if it can't be."""

    @abstractmethod
    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order as the venue knows it; None: it never arrived."""

    @abstractmethod
    async def fetch_open_orders(self) -> list[Order]:
        """Orders that still work, oldest first."""

    @abstractmethod
    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Executions at or after ``since`` (UTC ms), oldest first."""

    @abstractmethod
    async def fetch_positions(self) -> list[Position]:
        """Net positions that are not flat."""

    @abstractmethod
    async def fetch_balance(self) -> list[Balance]:
        """The accounts, one for each currency."""

    @abstractmethod
    def watch_events(self) -> AsyncIterator[VenueEvent]:
        """Every change of an order from this call on; a reader that asks on is done with one."""

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """Change a working order. Raises InvalidRequest where the venue cannot."""
        raise InvalidRequest(
            f"{type(self).__name__} cannot modify orders ({client_order_id}); cancel and order anew"
        )

    async def close_hedged(self) -> None:
        """Close what the account holds of ours on both sides of one symbol, where it can.

        The net positions stay what they are. Raises Unavailable.
        """
        return

    @property
    def lost(self) -> str:
        """Why nothing can be sent to the venue at the moment; empty while its line stands."""
        return ""

    async def diagnose(self) -> list[Finding]:
        """What it can tell of its account besides what every one is asked, when connected."""
        return []

    def now(self, symbol: str) -> int:
        """The venue's time for ``symbol`` in UTC milliseconds."""
        return time.time_ns() // 1_000_000
