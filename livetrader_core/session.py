"""One connection to livetrader as a trading program uses it, whether a wire lies between or not.

:class:`~livetrader_core.local.LocalSession` holds the services themselves;
:class:`~livetrader_core.rpc.session.RemoteSession` speaks to a server. Everything runs in one
event loop, and events are delivered in that loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from livetrader_core.models import (
    Balance,
    Contract,
    Fill,
    KillState,
    Klines,
    MarketEvent,
    Order,
    Position,
    Reconciliation,
    TradeEvent,
)

Listener = Callable[[MarketEvent | TradeEvent], None]


@dataclass(frozen=True)
class MarketInfo:
    """What a session says of one MARKET.

    ``trade`` is None where it cannot be traded, else whether it is ``"paper"`` or ``"live"``.
    ``clocked`` and ``paced`` are those of :class:`~livetrader_core.market.base.MarketBase`;
    ``fill_on`` is "bar" where simulated fills happen on closed klines, "" otherwise. ``begun`` is
    False for a recording that waits for :meth:`Session.begin_replay`: nothing live comes till then.
    """

    clocked: bool = False
    paced: bool = False
    delay_ms: int = 0
    trade: str | None = None
    fill_on: str = ""
    begun: bool = True


@dataclass(frozen=True)
class SessionInfo:
    """What the other side is: its run (``start_id``), its markets by MARKET."""

    start_id: str
    version: str
    markets: dict[str, MarketInfo] = field(default_factory=dict)


class Session(ABC):
    """Requests and events of one endpoint.

    A stream that was subscribed gives each closed kline once and in order, over any number of
    reconnects; trade events come each once, ordered by ``seq``. Every request ends within
    ``timeout`` seconds, with an answer or an error of :mod:`livetrader_core.errors`.
    """

    info: SessionInfo

    @abstractmethod
    async def open(self, listener: Listener, trade_from: int | None = None) -> None:
        """Connect and deliver events to ``listener`` (called in this loop; it must not block).

        ``trade_from``: trade events after this number are delivered too, earlier ones replayed
        from the journal; -1: only those that happen from now on; None: no trade events.
        """

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; may be called more than once."""

    @abstractmethod
    async def subscribe(
        self,
        symbol: str,
        timeframe: str = "1m",
        from_ts: int | None = None,
        limit: int | None = None,
    ) -> Klines:
        """Closed klines so far, as :meth:`get_kline_histories` gives them; each later one follows
        as an event, without a hole between. ``limit=0``: no history, only what follows.

        Of a stream that is subscribed already this is history only: its events go on, and the
        latest klines may be in both. A replay is begun before its history is asked for.
        """

    @abstractmethod
    async def unsubscribe(self, symbol: str, timeframe: str = "1m") -> None:
        """No more events of this stream."""

    @abstractmethod
    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`livetrader_core.market.base.MarketBase.get_kline_histories`."""

    @abstractmethod
    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``."""

    @abstractmethod
    async def list_symbols(self) -> list[str]:
        """All symbols of all markets, sorted."""

    @abstractmethod
    async def status(self) -> dict[str, Any]:
        """What the other side is doing, for people to read."""

    # ---- replays

    @abstractmethod
    async def begin_replay(self, start: int, end: int | None = None) -> None:
        """Start the recorded markets at ``start`` (UTC ms): what closes later is the future."""

    @abstractmethod
    async def follow(self, window: int = 0) -> None:
        """Make a paced stream wait for :meth:`ack`, lagging at most ``window`` moments."""

    @abstractmethod
    async def ack(self, ts: int) -> None:
        """Everything up to ``ts`` (UTC ms) is done here, and its orders have been answered."""

    # ---- trading

    @abstractmethod
    async def create_order(self, order: Order) -> Order:
        """Place ``order``; a known client_order_id returns that order instead of a second one.

        Raises OrderRejected, OutcomeUnknown, InvalidRequest, StorageError, NotConnected.
        """

    @abstractmethod
    async def cancel_order(self, client_order_id: str) -> None:
        """Ask to cancel; the outcome comes as an event."""

    @abstractmethod
    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """Change a working order."""

    @abstractmethod
    async def fetch_order(self, client_order_id: str) -> Order | None:
        """The order as the journal has it; None if it never arrived."""

    @abstractmethod
    async def fetch_orders(self) -> list[Order]:
        """All journaled orders, oldest first."""

    @abstractmethod
    async def fetch_open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first."""

    @abstractmethod
    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """Executions at or after ``since`` (UTC ms), oldest first."""

    @abstractmethod
    async def fetch_positions(self, market: str | None = None) -> list[Position]:
        """Net positions that are not flat: of all venues, or of the one that trades ``market``."""

    @abstractmethod
    async def fetch_balance(self, market: str | None = None) -> list[Balance]:
        """The accounts, one for each venue and currency: of all, or as :meth:`fetch_positions`."""

    @abstractmethod
    async def give_up_order(self, order: Order) -> Order:
        """For who does not know whether ``order`` arrived: the known order, or it is refused.

        An order that never arrived is journaled as rejected; should it arrive late, it stays so.
        """

    @abstractmethod
    async def kill(self, flatten: bool = False, reason: str = "") -> KillState:
        """Refuse new orders until :meth:`lift`, cancel what works, ``flatten`` positions."""

    @abstractmethod
    async def lift(self) -> KillState:
        """Take new orders again."""

    @abstractmethod
    async def kill_state(self) -> KillState:
        """Whether the kill switch is on."""

    @abstractmethod
    async def reconcile(self, accept: bool = False) -> Reconciliation:
        """Compare the books with the venues; ``accept`` takes what the venues hold for right."""

    @abstractmethod
    async def venue_orders(self) -> list[Order]:
        """Orders that work at the venues and were not placed here; they are left alone."""
