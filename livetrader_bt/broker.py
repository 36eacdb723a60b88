"""LiveTraderBroker: a backtrader broker that trades at the venues of a store.

Everything of backtrader runs in the thread of ``cerebro.run()``; what the venues tell arrives in
the hub's inbox and is applied in :meth:`LiveTraderBroker.next`.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

import backtrader as bt

from livetrader_bt.account import Account
from livetrader_bt.books import Books
from livetrader_bt.ending import STOP_ORDERS, leave
from livetrader_bt.groups import Groups
from livetrader_bt.hub import NEVER
from livetrader_bt.placing import Wish, order_for, wish_of
from livetrader_bt.requests import Requests
from livetrader_bt.rules import (
    check_choice,
    fault_in_change,
    feed_of,
    livetrader_feeds,
    no_commission,
    now_of,
    on_grid,
    refuse,
    symbols_of,
)
from livetrader_bt.simulation import simulate, told_by
from livetrader_bt.terms import change_terms, wire_order, wire_prices
from livetrader_core.errors import ConfigError
from livetrader_core.ids import OrderIds
from livetrader_core.models import Order

if TYPE_CHECKING:
    from livetrader_bt.backtest import LiveTraderBackBroker
    from livetrader_bt.feed import LiveTraderData
    from livetrader_bt.store import LiveTraderStore

log = logging.getLogger(__name__)

BACKFILL_ORDERS = ("refuse", "simulate")


class LiveTraderBroker(bt.BrokerBase):
    """Orders, positions, cash and value of the venues behind a store.

    - ``store`` or ``endpoint``: where it trades; shares its store with feeds of that endpoint;
    - ``backfill_orders`` ("refuse"): what happens to an order that a strategy issues on a
      historical bar: it is rejected, or with "simulate" filled by backtrader's own simulation,
      which ends when the feeds are live; it never reaches a venue, and makes no trade;
    - ``check_margin`` (False): whether that simulation checks the cash;
    - ``ids``: file in which the run's number is kept, so that order ids of two runs never meet;
    - ``adopt`` (True): orders that earlier runs with the same ``ids`` left at the venues are told
      to ``notify_order`` when history is over, and can be cancelled and modified like others. What
      ended while nobody was there is not told: cash and positions have it;
    - ``stop_orders`` ("keep"): at the end of the run working orders stay at the venues, or with
      "cancel" are cancelled;
    - ``refresh_every`` (60): so often, in seconds, are cash and positions compared with those of
      the venues, which know of swaps, settlements and deposits; 0: never.

    An order's ``info`` has ``client_order_id``, ``as_of`` (UTC ms), ``adopted`` if it is of an
    earlier run, ``simulated`` if it is of history, and ``reason`` when it was refused, is in
    doubt, or something asked of it was refused. Cash and value are in the store's base currency.
    """

    params = (
        ("store", None),
        ("endpoint", None),
        ("backfill_orders", "refuse"),
        ("check_margin", False),
        ("ids", None),
        ("adopt", True),
        ("stop_orders", "keep"),
        ("refresh_every", 60.0),
    )

    def __init__(self) -> None:
        super().__init__()
        check_choice("backfill_orders", self.p.backfill_orders, BACKFILL_ORDERS)
        check_choice("stop_orders", self.p.stop_orders, STOP_ORDERS)
        self._store = self._find_store()
        self._reset()

    def _find_store(self) -> LiveTraderStore:
        from livetrader_bt.store import shared_store

        if self.p.store is not None:
            store: LiveTraderStore = self.p.store
            return store
        if self.p.endpoint is None:
            raise ConfigError("LiveTraderBroker needs an endpoint or a store")
        return shared_store(self.p.endpoint)

    def _reset(self) -> None:
        self._ids = OrderIds(self.p.ids)
        self._books = Books(self._store, self)
        self.orders: list[bt.Order] = []
        self.startingcash = 0.0
        self.follows_bars = False
        self._refreshes = False
        self._groups = Groups()
        self._requests: Requests | None = None
        self._notifications: deque[bt.Order] = deque()
        self._seen: list[tuple[int, int]] = []  # where the feeds were in the last round
        self._bar_round = False
        #: Whether history is over, so that what the venues tell is taken.
        self._begun = False
        self._simulation: LiveTraderBackBroker | None = None

    # ---- life

    def start(self) -> None:
        """Take cash, positions and open orders from the venues. Raises Unavailable."""
        super().start()
        self._reset()
        store = self._store
        store.attach(self.cerebro)
        store.start(broker=self)
        store.connect()
        feeds = livetrader_feeds(self.cerebro)
        store.seed_rates(feeds=feeds)
        self.follows_bars = store.fills_on_bars()
        self._requests = Requests(
            store, self.follows_bars, self._push_rejected, self._push_doubt, self._push_refused
        )
        store.hub.on_trade(self._books.take)
        self._ids.hold()
        self._books.open(feeds, self._ids if self.p.adopt else None)
        self.orders.extend(self._books.adopted)
        self._refreshes = bool(self.p.refresh_every) and not (
            self.follows_bars and _nights_are_free(feeds)
        )
        if self._refreshes:
            store.post(lambda: self._books.keep_fresh(self.p.refresh_every))
        if self.p.backfill_orders == "simulate":
            self._simulation = simulate(store, self.cerebro, self.account, self.p.check_margin)
        self.startingcash = self.account.total_cash()

    def stop(self) -> None:
        """The run is over: wait for what was asked of the venues, and say what is not answered."""
        super().stop()
        requests, self._requests = self._requests, None
        if requests is not None:
            self._begun = True
            unsent = self._groups.clear()
            leave(self._store, self._books.orders, requests, unsent, self.p.stop_orders)
            if self._refreshes:
                self._books.close()
            self._ids.release()
        self._store.stop()

    # ---- orders

    def buy(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.buy``; always returns the order."""
        return self.place(wish_of(bt.order.BuyOrder, owner, data, size, *args, **kwargs))

    def sell(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.sell``; always returns the order."""
        return self.place(wish_of(bt.order.SellOrder, owner, data, size, *args, **kwargs))

    def place(self, wish: Wish) -> bt.Order:
        """Take an order; with ``transmit=False`` it waits for the last of its bracket."""
        if self._simulation is not None:
            wish.info.setdefault("simulated", True)
            return self._simulation.place(wish)
        order, reason = order_for(wish, self.cerebro, self._store.hub.live_from())
        reason = reason or self._fault_in_links(order, wish.oco)
        if reason:
            return self._refused(order, reason)
        order.addinfo(client_order_id=self._ids.next())
        leader = self._groups.join(order, wish.oco)
        self._books.orders.add(
            order,
            wire_order(
                order,
                order.info.client_order_id,
                parent="" if order.parent is None else order.parent.info.client_order_id,
                oco="" if leader is None else leader.info.client_order_id,
            ),
        )
        self.orders.append(order)
        self._submit(self._groups.take(order))
        return order

    def _fault_in_links(self, order: bt.Order, oco: bt.Order | None) -> str:
        parent, symbol = order.parent, order.data.symbol
        if parent is not None and self._books.orders.get(parent) is None:
            return "its parent was never at a venue"
        for link in (parent, oco):
            known = None if link is None else self._books.orders.get(link)
            if known is None or known.order.status == bt.Order.Completed:
                continue
            if self._store.session(known.wire.symbol) is not self._store.session(symbol):
                return f"it is linked to an order in {known.wire.symbol}, at another server"
        return ""

    def _refused(self, order: bt.Order, reason: str) -> bt.Order:
        self._reject(order, reason)
        for other in self._groups.drop_bracket(order):
            self._reject(other, f"its bracket was refused: {reason}")
        return order

    def _reject(self, order: bt.Order, reason: str) -> None:
        self.orders.append(order)
        refuse(order, self, reason)
        self.notify(order)

    def _submit(self, orders: list[bt.Order]) -> None:
        for order in orders:
            order.submit(self)
            self.notify(order)
        known = [self._books.orders.get(order) for order in orders]
        if orders and self._requests is not None:
            self._requests.send([one.wire for one in known if one is not None])

    def cancel(self, order: bt.Order) -> bool:
        """Ask the venue to cancel ``order``; whether there was anything to ask for."""
        if self._simulation is not None:
            return bool(self._simulation.cancel(order))
        known = self._books.orders.get(order)
        if known is None or not order.alive():
            return False
        if self._groups.is_waiting(order):
            for dropped in self._groups.drop(order):
                dropped.cancel()
                self.notify(dropped)
            return True
        if self._requests is None or not self._is_live(order):
            return False
        self._requests.cancel(known.wire)
        return True

    def modify(
        self,
        order: bt.Order,
        size: float | None = None,
        price: float | None = None,
        plimit: float | None = None,
    ) -> bool:
        """Ask the venue to change a working order; whether there was anything to ask for.

        ``size`` is the whole new size, without sign; ``price`` and ``plimit`` mean what they do in
        ``buy``; None leaves a term as it is. The strategy is told of the changed order, or of the
        ``reason`` in its info why it stays as it is. A trailing stop that moves is not told,
        whoever moved it.
        """
        if self._simulation is not None:
            return bool(self._simulation.modify(order, size, price, plimit))
        known = self._books.orders.get(order)
        if known is None or not order.alive():
            return False
        if reason := fault_in_change(order, size, price, plimit):
            order.addinfo(reason=reason)
            self.notify(order)
            return False
        contract = order.data.contract
        size = None if size is None else abs(contract.round_quantity(size))
        price, plimit = on_grid(contract, price), on_grid(contract, plimit)
        if self._groups.is_waiting(order):
            wire = known.wire
            if change_terms(order, size, price, plimit):
                known.wire = wire_order(order, wire.client_order_id, wire.parent, wire.oco)
                self.notify(order)
            return True
        if self._requests is None or not self._is_live(order):
            return False
        self._requests.modify(known.wire, size, *wire_prices(order.exectype, price, plimit))
        return True

    def kill(self, flatten: bool = False, reason: str = "") -> None:
        """Stop all trading of the servers' accounts, other programs' too; see
        :meth:`LiveTraderStore.kill`. On a historical bar nothing happens.

        Raises Unavailable, StorageError.
        """
        if self._begun:
            self._store.kill(flatten, reason)
        else:
            log.warning("the kill switch was not thrown: the bar is history")

    def _is_live(self, order: bt.Order) -> bool:
        if not self._begun:
            log.warning("order %s is left as it is: the bar is history", order.info.client_order_id)
        return self._begun

    def orderstatus(self, order: bt.Order) -> int:
        """The status of ``order``."""
        return int(order.status)

    def get_orders_open(self, safe: bool = False) -> list[bt.Order]:
        """Orders that still work; copies if ``safe``."""
        if self._simulation is not None:
            return list(self._simulation.get_orders_open(safe))
        return [order.clone() if safe else order for order in self.orders if order.alive()]

    # ---- the round

    def next(self) -> None:
        """Apply what the venues told since the last round."""
        feeds = livetrader_feeds(self.cerebro)
        self._bar_round = self._has_new_bar(feeds)
        now = now_of(feeds)
        self.account.mark(feeds)
        if self._simulation is not None:
            self._simulate(now)
            return
        if self.follows_bars and not self._bar_round:
            return
        if not self._begun and not self._begin(feeds):
            return
        for item in self._store.hub.take_inbox(now if self.follows_bars else NEVER):
            item.apply()

    def _begin(self, feeds: list[LiveTraderData]) -> bool:
        """Once history is over, tell of what was before this run; whether it is over."""
        if not self._store.hub.all_caught_up():
            return False
        self._begun = True
        self._books.begin(feeds)
        return True

    def _has_new_bar(self, feeds: list[LiveTraderData]) -> bool:
        positions = [feed.position_in_time() for feed in feeds]
        changed = positions != self._seen
        self._seen = positions
        return changed

    def _simulate(self, now: int) -> None:
        simulation = self._simulation
        if simulation is None or not self._bar_round:
            return
        if now > self._store.hub.live_from():
            simulation.cancel_all()
            self._simulation = None
        else:
            simulation.next()
        self._notifications.extend(told_by(simulation))

    def notify(self, order: bt.Order) -> None:
        """Tell the strategy of ``order`` as it is now."""
        self._notifications.append(order.clone())

    def get_notification(self) -> bt.Order | None:
        """Cerebro asks for the next notification.

        Where fills happen on bars, nothing is told between two bars: a strategy that answers a
        notification with an order then does so on the same bar as in a backtest.
        """
        if not self._notifications or (self.follows_bars and not self._bar_round):
            return None
        return self._notifications.popleft()

    # ---- what became of requests (called in the background)

    def _push_rejected(self, wire: Order, reason: str) -> None:
        self._store.hub.push_inbox(wire.as_of, lambda: self._books.orders.reject(wire, reason))

    def _push_doubt(self, wire: Order, reason: str) -> None:
        note = self._books.orders.note
        self._store.hub.push_inbox(wire.as_of, lambda: note(wire.client_order_id, reason))

    def _push_refused(self, client_order_id: str, reason: str) -> None:
        self._store.hub.push_inbox(0, lambda: self._books.orders.note(client_order_id, reason))

    # ---- the books

    def setcommission(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: commissions are the venue's."""
        no_commission()

    addcommissioninfo = setcommission

    @property
    def account(self) -> Account:
        """Cash and positions."""
        return self._books.account

    @property
    def positions(self) -> dict[Any, bt.Position]:
        """Positions by feed."""
        feeds = livetrader_feeds(self.cerebro)
        return {feed: self.getposition(feed) for feed in feeds}

    def getcommissioninfo(self, data: Any) -> bt.CommInfoBase:
        """The CommissionInfo of the venue's contract."""
        feed = feed_of(data)
        if feed is None:
            return super().getcommissioninfo(data)
        return self.account.register(feed.contract)

    def getposition(self, data: Any) -> bt.Position:
        """The net position in the symbol of ``data``."""
        if self._simulation is not None:
            return self._simulation.getposition(data)
        feed = feed_of(data)
        return bt.Position() if feed is None else self.account.position(feed.symbol)

    def getcash(self) -> float:
        """What can be spent, in the base currency."""
        if self._simulation is not None:
            return self._simulation.get_cash()
        return self.account.available()

    get_cash = getcash

    def getvalue(self, datas: Any = None, mkt: bool = False, lever: bool = False) -> float:
        """Equity in the base currency, or the value of the positions in ``datas``."""
        if self._simulation is not None:
            return self._simulation.get_value(datas, mkt, lever)
        if datas is None and not mkt:
            return self.account.equity()
        return self.account.position_value(symbols_of(self.positions if datas is None else datas))

    get_value = getvalue


def _nights_are_free(feeds: list[LiveTraderData]) -> bool:
    """Whether no position changes the cash overnight, which no event tells of."""
    return not any(feed.contract.swap.long or feed.contract.swap.short for feed in feeds)
