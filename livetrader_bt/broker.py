"""LiveTraderBroker: a backtrader broker that trades at the venues of a store.

Everything of backtrader runs in the thread of ``cerebro.run()``; what the venues tell arrives in
the hub's inbox and is applied in :meth:`LiveTraderBroker.next`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.account import Account
from livetrader_bt.hub import NEVER
from livetrader_bt.rules import (
    HISTORICAL,
    fault_in,
    feed_of,
    livetrader_feeds,
    now_of,
    on_grid,
    refuse,
    symbols_of,
    valid_until,
)
from livetrader_bt.times import to_ms, to_num
from livetrader_core.errors import ConfigError, LiveTraderError, OutcomeUnknown
from livetrader_core.ids import OrderIds
from livetrader_core.models import (
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
    TradeEvent,
)

if TYPE_CHECKING:
    from livetrader_bt.backtest import LiveTraderBackBroker
    from livetrader_bt.feed import LiveTraderData
    from livetrader_bt.store import LiveTraderStore
    from livetrader_core.session import Session

log = logging.getLogger(__name__)

BACKFILL_ORDERS = ("refuse", "simulate")

_TYPES = {
    bt.Order.Market: OrderType.MARKET,
    bt.Order.Limit: OrderType.LIMIT,
    bt.Order.Stop: OrderType.STOP,
    bt.Order.StopLimit: OrderType.STOP_LIMIT,
}


class LiveTraderBroker(bt.BrokerBase):
    """Orders, positions, cash and value of the venues behind a store.

    - ``store`` or ``endpoint``: where it trades; shares its store with feeds of that endpoint;
    - ``backfill_orders`` ("refuse"): what happens to an order that a strategy issues on a
      historical bar: it is rejected, or with "simulate" filled by backtrader's own simulation,
      which ends when the feeds are live; it never reaches a venue;
    - ``check_margin`` (False): whether that simulation checks the cash;
    - ``ids``: file in which the run's number is kept, so that order ids of two runs never meet.

    An order's ``info`` has ``client_order_id``, ``as_of`` (UTC ms) and, when it was refused or its
    outcome is open, ``reason``. Cash and value are in the store's base currency.
    """

    params = (
        ("store", None),
        ("endpoint", None),
        ("backfill_orders", "refuse"),
        ("check_margin", False),
        ("ids", None),
    )

    def __init__(self) -> None:
        super().__init__()
        if self.p.backfill_orders not in BACKFILL_ORDERS:
            raise ConfigError(
                f"backfill_orders={self.p.backfill_orders!r}: it is one of "
                f"{', '.join(BACKFILL_ORDERS)}"
            )
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
        self._notifications: deque[bt.Order] = deque()
        self._by_id: dict[str, bt.Order] = {}
        self._seen: list[tuple[int, int]] = []
        self._bar_round = False
        self._simulation: LiveTraderBackBroker | None = None

    # ---- life

    def start(self) -> None:
        """Take cash and positions from the venues. Raises Unavailable."""
        super().start()
        self._reset()
        self._store.attach(self.cerebro)
        self._store.start(broker=self)
        self.follows_bars = self._store.fills_on_bars()
        self._store.hub.on_trade(self._on_event)
        self._sync()
        if self.p.backfill_orders == "simulate":
            self._simulation = self._make_simulation()
        self.startingcash = self.account.total_cash()

    def _sync(self) -> None:
        cash: dict[str, float] = {}
        for balance in self._store.balances():
            cash[balance.currency] = cash.get(balance.currency, 0.0) + balance.cash
        self.account.set_cash(cash)
        for position in self._store.positions():
            self.account.register(self._store.contract(position.symbol))
            self.account.set_position(position.symbol, position.quantity, position.average_price)

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
        """Cerebro's run is over."""
        super().stop()
        self._store.stop()

    # ---- orders

    def buy(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.buy``; always returns the order."""
        return self._place(bt.order.BuyOrder, owner, data, size, *args, **kwargs)

    def sell(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.sell``; always returns the order."""
        return self._place(bt.order.SellOrder, owner, data, size, *args, **kwargs)

    def _place(
        self,
        make: Any,
        owner: Any,
        data: Any,
        size: float,
        price: float | None = None,
        plimit: float | None = None,
        exectype: int | None = None,
        valid: Any = None,
        tradeid: int = 0,
        oco: Any = None,
        trailamount: float | None = None,
        trailpercent: float | None = None,
        parent: Any = None,
        transmit: bool = True,
        **kwargs: Any,
    ) -> bt.Order:
        if self._simulation is not None:
            side = self._simulation.buy if make is bt.order.BuyOrder else self._simulation.sell
            return side(
                owner,
                data,
                size,
                price,
                plimit,
                exectype,
                valid,
                tradeid=tradeid,
                oco=oco,
                trailamount=trailamount,
                trailpercent=trailpercent,
                parent=parent,
                transmit=transmit,
                **kwargs,
            )
        feed = feed_of(data)
        if feed is None:
            order = make(owner=owner, data=data, size=size, exectype=exectype)
            return self._refused(order, f"{data._name} is not a feed of livetrader")
        contract = feed.contract
        now = now_of(livetrader_feeds(self.cerebro))
        if reason := fault_in(contract, size, price, plimit):
            order = make(owner=owner, data=feed, size=size, price=price, exectype=exectype)
            order.addinfo(as_of=now, **kwargs)
            return self._refused(order, reason)
        order = make(
            owner=owner,
            data=feed,
            size=abs(contract.round_quantity(size)),
            price=on_grid(contract, price),
            pricelimit=on_grid(contract, plimit),
            exectype=exectype,
            valid=valid_until(valid),
            tradeid=tradeid,
            simulated=not len(feed),
        )
        order.addinfo(as_of=now, **kwargs)
        if now <= self._store.hub.live_from():
            return self._refused(order, HISTORICAL)
        if order.exectype not in _TYPES or oco or parent or not transmit:
            kind = "linked (oco, bracket)" if oco or parent or not transmit else "such"
            return self._refused(
                order, f"{order.getordername()}: no {kind} orders in live trading yet"
            )
        return self._send(order, feed, now)

    def _refused(self, order: bt.Order, reason: str) -> bt.Order:
        self.orders.append(order)
        refuse(order, self, reason)
        self.notify(order)
        return order

    def _send(self, order: bt.Order, feed: LiveTraderData, now: int) -> bt.Order:
        wire = self._wire(order, feed, now)
        order.addinfo(client_order_id=wire.client_order_id)
        self.orders.append(order)
        self._by_id[wire.client_order_id] = order
        order.submit(self)
        self.notify(order)
        self._post(self._create(self._store.session(feed.symbol), wire))
        return order

    def _post(self, work: Coroutine[Any, Any, None]) -> None:
        # A simulated venue is asked in the strategy's order, so that it also answers in it; a real
        # one must not have a cancel wait behind a slow order.
        if self.follows_bars:
            self._store.post_in_order(work)
        else:
            self._store.post(work)

    def _wire(self, order: bt.Order, feed: LiveTraderData, now: int) -> Order:
        kind = _TYPES[order.exectype]
        created = order.created
        limit = {OrderType.LIMIT: created.price, OrderType.STOP_LIMIT: created.pricelimit}
        stop = {OrderType.STOP: created.price, OrderType.STOP_LIMIT: created.price}
        expires_at = self._expires_at(order, feed)
        return Order(
            client_order_id=self._ids.next(),
            symbol=feed.symbol,
            side=Side.BUY if order.isbuy() else Side.SELL,
            type=kind,
            quantity=abs(order.size),
            price=limit.get(kind) or 0.0,
            stop_price=stop.get(kind) or 0.0,
            time_in_force=TimeInForce.GTD if expires_at else TimeInForce.GTC,
            expires_at=expires_at,
            as_of=now,
            timeframe=feed.timeframe_name,
        )

    @staticmethod
    def _expires_at(order: bt.Order, feed: LiveTraderData) -> int:
        """The last moment (UTC ms) at which a bar may close and still fill ``order``; 0: any."""
        if not order.valid:
            return 0
        stamp = to_ms(order.valid)
        if feed.p.stamp == "close":
            return stamp
        return feed.close_of_stamp(stamp)

    async def _create(self, session: Session, wire: Order) -> None:
        hub = self._store.hub
        try:
            await session.create_order(wire)
        except OutcomeUnknown as error:
            reason = f"unknown: {error}"
            hub.push_inbox(wire.as_of, lambda: self._note(wire.client_order_id, reason))
        except LiveTraderError as error:
            reason = str(error)
            hub.push_inbox(wire.as_of, lambda: self._reject(wire.client_order_id, reason))

    def cancel(self, order: bt.Order) -> bool:
        """Ask the venue to cancel ``order``; whether there was anything to ask for."""
        if self._simulation is not None:
            return bool(self._simulation.cancel(order))
        client_order_id = order.info.get("client_order_id")
        if not order.alive() or client_order_id not in self._by_id:
            return False
        self._post(self._cancel(self._store.session(order.data.symbol), client_order_id))
        return True

    @staticmethod
    async def _cancel(session: Session, client_order_id: str) -> None:
        try:
            await session.cancel_order(client_order_id)
        except LiveTraderError as error:
            log.info("order %s was not canceled: %s", client_order_id, error)

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
        for item in self._store.hub.take_inbox(now if self.follows_bars else NEVER):
            item.apply()

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

    def _on_event(self, event: TradeEvent) -> None:
        order = self._by_id.get(event.order.client_order_id)
        if event.fill is not None:
            self._on_fill(order, event.fill, event.order.status is OrderStatus.FILLED)
        if order is None or not order.alive():
            return
        if event.order.reason:
            order.addinfo(reason=event.order.reason)
        self._follow(order, event.order)

    def _follow(self, order: bt.Order, venue: Order) -> None:
        status = venue.status
        if status is OrderStatus.ACCEPTED and order.status == bt.Order.Submitted:
            order.accept(self)
        elif status is OrderStatus.CANCELED:
            order.cancel()
        elif status is OrderStatus.EXPIRED:
            bt.order.OrderBase.expire(order)
            order.executed.dt = order.data.datetime[0]
        elif status is OrderStatus.REJECTED and venue.reason == "margin":
            order.margin()
        elif status is OrderStatus.REJECTED:
            order.reject(self)
        else:
            return
        self.notify(order)

    def _on_fill(self, order: bt.Order | None, fill: Fill, is_last: bool) -> None:
        info = self.account.register(self._store.contract(fill.symbol))
        size = fill.side.sign * fill.quantity
        done = self.account.apply(fill.symbol, size, fill.price, fill.commission)
        if order is None:
            return  # another client's order: the position is the account's all the same
        order.execute(
            self._stamp(order.data, fill),
            done.size,
            done.price,
            done.closed,
            done.closed_value,
            done.closed_commission,
            done.opened,
            done.opened_value,
            done.opened_commission,
            info.margin,
            done.profit,
            done.position_size,
            done.position_price,
        )
        if is_last:
            order.completed()  # whatever rounding leaves of a sum of fractions
        order.addcomminfo(info)
        self.notify(order)

    @staticmethod
    def _stamp(feed: LiveTraderData, fill: Fill) -> float:
        """The stamp of the bar that ``fill`` fell in."""
        if not fill.kline:
            return to_num(fill.datetime)
        return to_num(feed.stamp_of(fill.kline))

    def _note(self, client_order_id: str, reason: str) -> None:
        self._by_id[client_order_id].addinfo(reason=reason)

    def _reject(self, client_order_id: str, reason: str) -> None:
        order = self._by_id[client_order_id]
        if order.alive():
            refuse(order, self, reason)
            self.notify(order)

    # ---- the books

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
