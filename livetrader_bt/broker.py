"""LiveTraderBroker: a backtrader broker that trades at the venues of a store.

Everything of backtrader runs in the thread of ``cerebro.run()``; what the venues tell arrives in
the hub's inbox and is applied in :meth:`LiveTraderBroker.next`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import backtrader as bt

from livetrader_bt.account import Account
from livetrader_bt.adoption import adopted_order, feed_for, open_trades
from livetrader_bt.desk import Desk
from livetrader_bt.groups import Groups
from livetrader_bt.hub import NEVER, Source
from livetrader_bt.orders import Orders
from livetrader_bt.placing import Wish, buying, order_for, selling
from livetrader_bt.rules import (
    fault_in_change,
    feed_of,
    livetrader_feeds,
    no_commission,
    now_of,
    on_grid,
    refuse,
    symbols_of,
)
from livetrader_bt.terms import change_terms, wire_order, wire_prices
from livetrader_core.errors import ConfigError, LiveTraderError
from livetrader_core.ids import OrderIds
from livetrader_core.models import Contract, Order, Position, TradeEvent

if TYPE_CHECKING:
    from livetrader_bt.backtest import LiveTraderBackBroker
    from livetrader_bt.feed import LiveTraderData
    from livetrader_bt.store import LiveTraderStore

log = logging.getLogger(__name__)

BACKFILL_ORDERS = ("refuse", "simulate")
STOP_ORDERS = ("keep", "cancel")
#: How many seconds the end of a run waits for answers to what it asked of the venues.
PATIENCE = 5.0


class LiveTraderBroker(bt.BrokerBase):
    """Orders, positions, cash and value of the venues behind a store.

    - ``store`` or ``endpoint``: where it trades; shares its store with feeds of that endpoint;
    - ``backfill_orders`` ("refuse"): what happens to an order that a strategy issues on a
      historical bar: it is rejected, or with "simulate" filled by backtrader's own simulation,
      which ends when the feeds are live; it never reaches a venue, and makes no trade;
    - ``check_margin`` (False): whether that simulation checks the cash;
    - ``ids``: file in which the run's number is kept, so that order ids of two runs never meet;
      strategies that run side by side in one account need one each;
    - ``adopt`` (True): orders that earlier runs with the same ``ids`` left at the venues are told
      to ``notify_order`` when history is over, and can be cancelled and modified like others. What
      ended while nobody was there is not told: cash and positions have it;
    - ``stop_orders`` ("keep"): at the end of the run working orders stay at the venues, or with
      "cancel" are cancelled.

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
    )

    def __init__(self) -> None:
        super().__init__()
        _check_choice("backfill_orders", self.p.backfill_orders, BACKFILL_ORDERS)
        _check_choice("stop_orders", self.p.stop_orders, STOP_ORDERS)
        self._store = self._find_store()
        self._ids = OrderIds(self.p.ids)
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
        self.account = Account(self._store.rates)
        self.orders: list[bt.Order] = []
        self.startingcash = 0.0
        self.follows_bars = False
        self._known = Orders(self.account, self.notify)
        self._groups = Groups()
        self._desk: Desk | None = None
        self._adopted: list[bt.Order] = []
        self._notifications: deque[bt.Order] = deque()
        #: Events of symbols whose contract is being asked for; None: there is none.
        self._strangers: dict[str, list[TradeEvent] | None] = {}
        self._seen: list[tuple[int, int]] = []
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
        feeds = livetrader_feeds(self.cerebro)
        store.begin_rates(feeds)
        self.follows_bars = store.fills_on_bars()
        self._desk = Desk(
            store, self.follows_bars, self._push_rejected, self._push_doubt, self._push_refused
        )
        for feed in feeds:
            self.account.register(feed.contract)
        store.hub.on_trade(self._on_event)
        self._take_accounts(feeds)
        if self.p.backfill_orders == "simulate":
            self._simulation = self._make_simulation()
        self.startingcash = self.account.total_cash()

    def _take_accounts(self, feeds: list[LiveTraderData]) -> None:
        cash: dict[str, float] = {}
        for source, snapshot in self._store.snapshots():
            source.booked_seq = snapshot.seq
            for balance in snapshot.balances:
                cash[balance.currency] = cash.get(balance.currency, 0.0) + balance.cash
            for position in snapshot.positions:
                self._hold(position)
            if self.p.adopt:
                self._adopt(snapshot.open_orders, feeds)
        self.account.set_cash(cash)

    def _hold(self, position: Position) -> None:
        try:
            self.account.register(self._store.contract(position.symbol))
        except LiveTraderError as error:
            self._store.warn(
                f"{position.quantity:g} {position.symbol} are held, but not in the value: {error}"
            )
            self._strangers[position.symbol] = None
        else:
            self.account.set_position(position.symbol, position.quantity, position.average_price)

    def _adopt(self, open_orders: Sequence[Order], feeds: list[LiveTraderData]) -> None:
        for wire in open_orders:
            if not self._ids.is_earlier(wire.client_order_id):
                continue
            feed = feed_for(wire, feeds)
            if feed is None:
                self._store.warn(
                    f"order {wire.client_order_id} of an earlier run works at the venue; it is "
                    f"left alone, for there is no feed of {wire.symbol} here"
                )
                continue
            order = adopted_order(wire, feed, self)
            self._known.add(order, wire)
            self.orders.append(order)
            self._adopted.append(order)

    def _make_simulation(self) -> LiveTraderBackBroker:
        from livetrader_bt.backtest import LiveTraderBackBroker

        make: Any = LiveTraderBackBroker
        simulation: LiveTraderBackBroker = make(
            store=self._store,
            account_cash=dict(self.account.cash),
            check_margin=self.p.check_margin,
        )
        simulation.cerebro = self.cerebro
        return simulation

    def stop(self) -> None:
        """The run is over: wait for what was asked of the venues, and say what is not answered."""
        super().stop()
        desk, self._desk = self._desk, None
        if desk is not None:
            self._leave(desk)
        self._store.stop()

    def _leave(self, desk: Desk) -> None:
        deadline = time.monotonic() + PATIENCE
        for order in self._groups.clear():
            log.warning("order %s never left: its bracket is not complete", order.ref)
        working = self._known.alive()
        if self.p.stop_orders == "cancel":
            for known in working:
                desk.cancel(known.wire)
        for what in desk.wait(PATIENCE):
            log.error("the run ended with no answer about %s", what)
        if self.p.stop_orders == "cancel":
            self._wait_for_ends(deadline)
        for known in self._known.alive():
            log.info("order %s still works at the venue", known.wire.client_order_id)

    def _wait_for_ends(self, deadline: float) -> None:
        self._begun = True
        while self._known.alive() and time.monotonic() < deadline:
            for item in self._store.hub.take_inbox(NEVER):
                item.apply()
            time.sleep(0.005)

    # ---- orders

    def buy(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.buy``; always returns the order."""
        return self.place(buying(owner, data, size, *args, **kwargs))

    def sell(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.sell``; always returns the order."""
        return self.place(selling(owner, data, size, *args, **kwargs))

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
        self._known.add(
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
        if parent is not None and self._known.get(parent) is None:
            return "its parent was never at a venue"
        for link in (parent, oco):
            known = None if link is None else self._known.get(link)
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
        known = [self._known.get(order) for order in orders]
        if orders and self._desk is not None:
            self._desk.send([one.wire for one in known if one is not None])

    def cancel(self, order: bt.Order) -> bool:
        """Ask the venue to cancel ``order``; whether there was anything to ask for."""
        if self._simulation is not None:
            return bool(self._simulation.cancel(order))
        known = self._known.get(order)
        if known is None or not order.alive():
            return False
        if self._groups.is_waiting(order):
            for dropped in self._groups.drop(order):
                dropped.cancel()
                self.notify(dropped)
            return True
        if self._desk is None or not self._is_live(order):
            return False
        self._desk.cancel(known.wire)
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
        ``reason`` in its info why it stays as it is.
        """
        if self._simulation is not None:
            return bool(self._simulation.modify(order, size, price, plimit))
        known = self._known.get(order)
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
            change_terms(order, size, price, plimit)
            links = {"parent": known.wire.parent, "oco": known.wire.oco}
            known.wire = wire_order(order, known.wire.client_order_id, **links)
            self.notify(order)
            return True
        if self._desk is None or not self._is_live(order):
            return False
        self._desk.modify(known.wire, size, *wire_prices(order.exectype, price, plimit))
        return True

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
        alive = [order for order in self.orders if order.alive()]
        return [order.clone() for order in alive] if safe else alive

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
        for order in self._adopted:
            self.notify(order)
        open_trades(self.cerebro.runningstrats, feeds, self, self._known.trades)
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
        while (notification := simulation.get_notification()) is not None:
            # With nothing pending, no trade of the strategy is made of it.
            notification.executed.p1 = notification.executed.p2
            self._notifications.append(notification)

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

    # ---- what is told (applied in backtrader's thread)

    def _on_event(self, source: Source, event: TradeEvent) -> None:
        if event.seq <= source.booked_seq:
            return
        source.booked_seq = 0  # events come in order: nothing older follows
        if event.fill is None or self.account.knows(event.fill.symbol):
            self._known.follow(event)
        else:
            self._follow_stranger(event, event.fill.symbol)

    def _follow_stranger(self, event: TradeEvent, symbol: str) -> None:
        """A fill in a symbol that has no feed here; its contract is asked for, once."""
        if symbol not in self._strangers:
            self._strangers[symbol] = [event]
            self._store.post(lambda: self._meet(symbol))
            return
        waiting = self._strangers[symbol]
        if waiting is not None:
            waiting.append(event)

    async def _meet(self, symbol: str) -> None:
        try:
            contract = await self._store.session(symbol).get_contract(symbol)
        except LiveTraderError as error:
            reason = str(error)
            self._store.hub.push_inbox(0, lambda: self._shun(symbol, reason))
        else:
            self._store.hub.push_inbox(0, lambda: self._take_in(contract))

    def _take_in(self, contract: Contract) -> None:
        try:
            self.account.register(contract)
        except ConfigError as error:
            self._shun(contract.symbol, str(error))
            return
        for event in self._strangers.pop(contract.symbol, None) or ():
            self._known.follow(event)

    def _shun(self, symbol: str, reason: str) -> None:
        self._strangers[symbol] = None
        self._store.warn(f"{symbol} is traded in this account, but not in the value: {reason}")

    def _push_rejected(self, wire: Order, reason: str) -> None:
        self._store.hub.push_inbox(wire.as_of, lambda: self._known.reject(wire, reason))

    def _push_doubt(self, wire: Order, reason: str) -> None:
        note = self._known.note
        self._store.hub.push_inbox(wire.as_of, lambda: note(wire.client_order_id, reason))

    def _push_refused(self, client_order_id: str, reason: str) -> None:
        self._store.hub.push_inbox(0, lambda: self._known.note(client_order_id, reason))

    # ---- the books

    def setcommission(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: commissions are the venue's."""
        no_commission()

    addcommissioninfo = setcommission

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


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: it is one of {', '.join(choices)}")
