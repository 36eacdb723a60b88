"""What a remote session passes on to its server as it is."""

from __future__ import annotations

from typing import Any

from livetrader_core.models import (
    Balance,
    Contract,
    Fill,
    KillState,
    Klines,
    Order,
    Position,
    Reconciliation,
)
from livetrader_core.outstanding import Outstanding
from livetrader_core.rpc.client import AsyncClient
from livetrader_core.session import Session


class RemoteRequests(Session):
    """The requests of a session, over ``client``; orders count as outstanding until answered."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._outstanding = Outstanding()

    # ---- market data

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
        return await self._client.get_kline_histories(
            symbol, from_ts, limit, to_ts, timeframe, forming
        )

    async def get_contract(self, symbol: str) -> Contract:
        """As :meth:`Session.get_contract`."""
        return await self._client.get_contract(symbol)

    async def list_symbols(self) -> list[str]:
        """As :meth:`Session.list_symbols`."""
        return await self._client.list_symbols()

    async def status(self) -> dict[str, Any]:
        """As :meth:`Session.status`."""
        return await self._client.status()

    # ---- trading

    async def create_order(self, order: Order) -> Order:
        """As :meth:`Session.create_order`."""
        with self._outstanding.one():
            return await self._client.create_order(order)

    async def cancel_order(self, client_order_id: str) -> None:
        """As :meth:`Session.cancel_order`."""
        with self._outstanding.one():
            await self._client.cancel_order(client_order_id)

    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        """As :meth:`Session.modify_order`."""
        with self._outstanding.one():
            return await self._client.modify_order(client_order_id, quantity, price, stop_price)

    async def fetch_order(self, client_order_id: str) -> Order | None:
        """As :meth:`Session.fetch_order`."""
        return await self._client.fetch_order(client_order_id)

    async def fetch_orders(self) -> list[Order]:
        """As :meth:`Session.fetch_orders`."""
        return await self._client.fetch_orders()

    async def fetch_open_orders(self) -> list[Order]:
        """As :meth:`Session.fetch_open_orders`."""
        return await self._client.fetch_open_orders()

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        """As :meth:`Session.fetch_fills`."""
        return await self._client.fetch_fills(since)

    async def fetch_positions(self, market: str | None = None) -> list[Position]:
        """As :meth:`Session.fetch_positions`."""
        return await self._client.fetch_positions(market)

    async def fetch_balance(self, market: str | None = None) -> list[Balance]:
        """As :meth:`Session.fetch_balance`."""
        return await self._client.fetch_balance(market)

    async def give_up_order(self, order: Order) -> Order:
        """As :meth:`Session.give_up_order`."""
        return await self._client.give_up_order(order)

    async def kill(self, flatten: bool = False, reason: str = "") -> KillState:
        """As :meth:`Session.kill`."""
        return await self._client.kill(flatten, reason)

    async def lift(self) -> KillState:
        """As :meth:`Session.lift`."""
        return await self._client.lift()

    async def kill_state(self) -> KillState:
        """As :meth:`Session.kill_state`."""
        return await self._client.kill_state()

    async def reconcile(self, accept: bool = False) -> Reconciliation:
        """As :meth:`Session.reconcile`."""
        return await self._client.reconcile(accept)

    async def venue_orders(self) -> list[Order]:
        """As :meth:`Session.venue_orders`."""
        return await self._client.venue_orders()
