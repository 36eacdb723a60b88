"""The books of a live run: what the account held before it, and every event since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.account import Account
from livetrader_bt.adoption import adopted_order, feed_for, open_trades
from livetrader_bt.feed import LiveTraderData
from livetrader_bt.hub import Source
from livetrader_bt.orders import Orders
from livetrader_core.errors import ConfigError, LiveTraderError
from livetrader_core.ids import OrderIds
from livetrader_core.models import Contract, Order, Position, TradeEvent

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore


class Books:
    """Account and orders of one run of ``broker``."""

    def __init__(self, store: LiveTraderStore, broker: Any) -> None:
        self._store = store
        self._broker = broker
        self.account = Account(store.rates)
        self.orders = Orders(self.account, broker.notify)
        #: Orders of earlier runs.
        self.adopted: list[bt.Order] = []
        #: Events in symbols whose contract is being asked for; None: it cannot be had.
        self._strangers: dict[str, list[TradeEvent] | None] = {}

    # ---- the start

    def open(self, feeds: Sequence[LiveTraderData], ids: OrderIds | None) -> None:
        """Take cash, positions and the open orders of earlier runs with ``ids`` (None: none).

        Raises Unavailable, and ConfigError for money without a rate.
        """
        cash: dict[str, float] = {}
        for feed in feeds:
            self.account.register(feed.contract)
        for source, snapshot in self._store.snapshots():
            source.booked_seq = snapshot.seq
            for balance in snapshot.balances:
                cash[balance.currency] = cash.get(balance.currency, 0.0) + balance.cash
            for position in snapshot.positions:
                self._hold(position)
            for wire in snapshot.open_orders:
                if ids is not None and ids.is_earlier(wire.client_order_id):
                    self._adopt(wire, feeds)
        self.account.set_cash(cash)

    def _hold(self, position: Position) -> None:
        symbol = position.symbol
        try:
            self.account.register(self._store.contract(symbol))
        except LiveTraderError as error:
            self._shun(symbol, f"{position.quantity:g} {symbol} are held", error)
        else:
            self.account.set_position(symbol, position.quantity, position.average_price)

    def _adopt(self, wire: Order, feeds: Sequence[LiveTraderData]) -> None:
        feed = feed_for(wire, feeds)
        if feed is None:
            self._store.warn(
                f"order {wire.client_order_id} of an earlier run works at the venue; it is left "
                f"alone, for there is no feed of {wire.symbol} here"
            )
            return
        order = adopted_order(wire, feed, self._broker)
        self.orders.add(order, wire)
        self.adopted.append(order)

    def begin(self, feeds: Sequence[LiveTraderData]) -> None:
        """History is over: the strategies are told of what was before them."""
        for order in self.adopted:
            self._broker.notify(order)
        strategies = self._broker.cerebro.runningstrats
        open_trades(strategies, feeds, self._broker, self.orders.trades)

    # ---- events (in backtrader's thread)

    def take(self, source: Source, event: TradeEvent) -> None:
        """Book ``event``, unless the account had it when it was opened."""
        if event.seq <= source.booked_seq:
            return
        source.booked_seq = 0  # events come in order: nothing older follows
        if event.fill is None or self.account.knows(event.fill.symbol):
            self.orders.follow(event)
        else:
            self._take_stranger(event, event.fill.symbol)

    def _take_stranger(self, event: TradeEvent, symbol: str) -> None:
        """A fill in a symbol that has no feed here; its contract is asked for, once."""
        if symbol not in self._strangers:
            self._strangers[symbol] = [event]
            self._store.post(lambda: self._ask_for(symbol))
            return
        waiting = self._strangers[symbol]
        if waiting is not None:
            waiting.append(event)

    async def _ask_for(self, symbol: str) -> None:
        hub = self._store.hub
        try:
            contract = await self._store.session(symbol).get_contract(symbol)
        except LiveTraderError as error:
            failure = error
            hub.push_inbox(0, lambda: self._shun(symbol, f"{symbol} is traded", failure))
        else:
            hub.push_inbox(0, lambda: self._meet(contract))

    def _meet(self, contract: Contract) -> None:
        symbol = contract.symbol
        try:
            self.account.register(contract)
        except ConfigError as error:
            self._shun(symbol, f"{symbol} is traded", error)
            return
        for event in self._strangers.pop(symbol, None) or ():
            self.orders.follow(event)

    def _shun(self, symbol: str, what: str, error: LiveTraderError) -> None:
        self._strangers[symbol] = None
        self._store.warn(f"{what} in this account, but not in its value: {error}")
