"""The books of a live run: what the account held before it, and every event since."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.account import Account
from livetrader_bt.adoption import adopted_order, feed_for, open_trades
from livetrader_bt.feed import LiveTraderData
from livetrader_bt.hub import NEVER, Source
from livetrader_bt.orders import Orders
from livetrader_bt.snapshot import Snapshot
from livetrader_core.errors import ConfigError, LiveTraderError
from livetrader_core.ids import OrderIds
from livetrader_core.models import Contract, Order, Position, TradeEvent

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore

log = logging.getLogger(__name__)

#: How often the last comparison of a run is tried.
_LAST_ATTEMPTS = 3


def _cash_in(snapshots: Sequence[tuple[Source, Snapshot]]) -> dict[str, float]:
    cash: dict[str, float] = {}
    for _, snapshot in snapshots:
        for balance in snapshot.balances:
            cash[balance.currency] = cash.get(balance.currency, 0.0) + balance.cash
    return cash


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
        for feed in feeds:
            self.account.register(feed.contract)
        snapshots = self._store.snapshots()
        for source, snapshot in snapshots:
            source.booked_seq = source.taken_seq = snapshot.seq
            for position in snapshot.positions:
                self._hold(position)
            for wire in snapshot.open_orders:
                if ids is not None and ids.is_earlier(wire.client_order_id):
                    self._adopt(wire, feeds)
        self.account.set_cash(_cash_in(snapshots))

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

    # ---- what no event tells: swaps, settlements, deposits

    async def keep_fresh(self, every: float) -> None:
        """Every so many seconds, have the accounts compared with the venues'."""
        while True:
            await asyncio.sleep(every)
            try:
                snapshots = await self._store.take_snapshots()
            except LiveTraderError as error:
                log.info("the accounts cannot be compared with the venues': %s", error)
            else:
                self._push_refresh(snapshots)

    def _push_refresh(self, snapshots: list[tuple[Source, Snapshot]]) -> None:
        def apply() -> None:
            if not self.refresh(snapshots):
                log.debug("the accounts moved while they were compared")

        self._store.hub.push_inbox(0, apply)

    def refresh(self, snapshots: list[tuple[Source, Snapshot]]) -> bool:
        """Take over what the venues hold; whether that could be, as of the same events."""
        if any(source.taken_seq != snapshot.seq for source, snapshot in snapshots):
            return False
        held = {p.symbol: p for _, snapshot in snapshots for p in snapshot.positions}
        for symbol in self.account.holdings:
            position = held.get(symbol, Position(symbol, 0.0, 0.0))
            self._correct(position, self.account.position(symbol).size)
        self.account.cash.update(_cash_in(snapshots))
        return True

    def close(self) -> None:
        """At the end of a run: the cash that the venues have, if they can be asked.

        Commissions that a venue did not tell with its fills are in it.
        """
        for _ in range(_LAST_ATTEMPTS):
            try:
                snapshots = self._store.snapshots()
            except LiveTraderError as error:
                log.info("the accounts were not compared at the end: %s", error)
                return
            for item in self._store.hub.take_inbox(NEVER):
                item.apply()
            if all(source.taken_seq == snapshot.seq for source, snapshot in snapshots):
                self.account.cash.update(_cash_in(snapshots))
                return
        log.info("the accounts were not compared at the end: they moved")

    def _correct(self, position: Position, size: float) -> None:
        symbol, quantity = position.symbol, position.quantity
        apart = self.account.commission(symbol).contract.snap_quantity(quantity - size)
        if apart:
            self._store.warn(
                f"{quantity:g} {symbol} are held, where the orders of this run and its start say "
                f"{size:g}: the venue's figure is taken"
            )
        if apart or position.average_price != self.account.position(symbol).price:
            self.account.set_position(symbol, quantity, position.average_price)

    # ---- events (in backtrader's thread)

    def take(self, source: Source, event: TradeEvent) -> None:
        """Book ``event``, unless the account had it when it was opened."""
        if event.seq <= source.booked_seq:
            return
        source.taken_seq = event.seq
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
