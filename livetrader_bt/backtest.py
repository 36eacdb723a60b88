"""The backtest's broker: backtrader's own, on the books and contracts of live trading.

Fills are BackBroker's own but for one rule: an order takes part only in bars of its own feed that
open at or after the moment it was issued. Left alone, BackBroker fills an order for a silent feed
on that feed's old bar, in the past.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import backtrader as bt

from livetrader_bt.account import Account, Positions, TradeSums, snap
from livetrader_bt.feed import LiveTraderData
from livetrader_bt.placing import Wish, order_for, wish_of
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
from livetrader_bt.terms import TRAILING, change_terms, put_on_tick

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore


@dataclass(frozen=True)
class _Cancel:
    """A wish to cancel, queued among the submitted orders."""

    order: bt.Order


@dataclass(frozen=True)
class _Change:
    """A wish to modify, queued among the submitted orders."""

    order: bt.Order
    size: float | None
    price: float | None
    plimit: float | None


class LiveTraderBackBroker(bt.brokers.BackBroker):
    """BackBroker for a backtest that live trading is compared with.

    - ``store``: gives contracts and rates;
    - ``account_cash``: what it starts with, by currency;
    - ``live_from``: orders issued at or before this moment (UTC ms) are refused, as they are
      while a live feed still delivers history;
    - ``check_margin`` (False): refuse what the cash does not cover, as BackBroker does.

    Cash and value are in the store's base currency.
    """

    params = (
        ("store", None),
        ("account_cash", None),
        ("live_from", 0),
        ("check_margin", False),
    )

    # BackBroker's own
    pending: deque[bt.Order]
    submitted: deque[Any]
    _fundval: float
    _fundshares: float

    def init(self) -> None:
        """Start flat; called at construction and at every start."""
        self._store: LiveTraderStore = self.p.store
        if any(not self._store.rates.knows(symbol) for symbol in self._store.rates.symbols):
            self._store.seed_rates()
        self.account = Account(self._store.rates)
        self.account.set_cash(self.p.account_cash or {self._store.rates.base: self.p.cash})
        self.p.cash = self.account.total_cash()
        self._trade_sums = TradeSums()
        self._last_snapped: Any = None
        self._seen: dict[LiveTraderData, tuple[int, int]] = {}
        #: Why no order is taken; empty if orders are.
        self._killed = ""
        #: Orders that take no part in the round at hand.
        self._held: list[bt.Order] = []
        super().init()
        self.positions = Positions()

    def start(self) -> None:
        """Called by Cerebro."""
        feeds = livetrader_feeds(self.cerebro)
        self._store.check_rates(feeds)
        super().start()
        for feed in feeds:
            self.account.register(feed.contract)

    # ---- orders

    def buy(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.buy``, with size and prices rounded to the contract."""
        return self.place(wish_of(bt.order.BuyOrder, owner, data, size, *args, **kwargs))

    def sell(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> bt.Order:
        """As ``bt.BrokerBase.sell``, with size and prices rounded to the contract."""
        return self.place(wish_of(bt.order.SellOrder, owner, data, size, *args, **kwargs))

    def place(self, wish: Wish) -> bt.Order:
        """Take an order; with ``transmit=False`` it waits for the last of its bracket."""
        check = wish.info.pop("_checksubmit", True)
        order, reason = order_for(wish, self.cerebro, self.p.live_from)
        if reason := reason or self._killed:
            return self._refused(order, reason)
        if wish.oco is not None:  # who names an order that was refused is in a group all the same
            self._ocos.setdefault(wish.oco.ref, wish.oco.ref)
        self._ocoize(order, wish.oco)
        if order.parent is not None and order.parent.status == bt.Order.Completed:
            self._pchildren[order.parent.ref] = self._pchildren[order.parent.ref]
            self._toactivate.append(order)
        return self.submit(order, check=check)

    def transmit(self, order: bt.Order, check: bool = True) -> bt.Order:
        """Send ``order``, unless it was sent with an earlier one of its bracket."""
        return super().transmit(order, check) if order.status == bt.Order.Created else order

    def _refused(self, order: bt.Order, reason: str) -> bt.Order:
        self._reject(order, reason)
        for other in self._waiting_with(order):
            self._reject(other, f"its bracket was refused: {reason}")
        return order

    def _reject(self, order: bt.Order, reason: str) -> None:
        refuse(order, self, reason)
        self.notify(order)

    def _waiting_with(self, order: bt.Order) -> list[bt.Order]:
        """Take out what waits in the bracket of ``order`` for its last order."""
        root = order if order.parent is None else order.parent
        waiting = [o for o in self._pchildren.get(root.ref, ()) if o.status == bt.Order.Created]
        if root.status == bt.Order.Created and waiting:
            del self._pchildren[root.ref]
        for other in waiting:
            self._forget(other)
        return waiting

    def _forget(self, order: bt.Order) -> None:
        root = order if order.parent is None else order.parent
        if root.ref in self._pchildren:
            kept = [other for other in self._pchildren[root.ref] if other.ref != order.ref]
            self._pchildren[root.ref] = deque(kept)

    def cancel(self, order: bt.Order, bracket: bool = False) -> bool:
        """Cancel ``order`` before the next bar is matched, as a venue does once it has heard of it.

        Says whether there was anything to cancel.
        """
        if bracket:
            return self._cancel_linked(order)
        if not order.alive():
            return False
        if order.status == bt.Order.Created:
            self._cancel_waiting(order)
        else:
            self.submitted.append(_Cancel(order))
        return True

    def _cancel_waiting(self, order: bt.Order) -> None:
        if order.parent is None:
            dropped = self._waiting_with(order)
        else:
            self._forget(order)
            dropped = [order]
        for other in dropped:
            other.cancel()
            self.notify(other)

    def modify(
        self,
        order: bt.Order,
        size: float | None = None,
        price: float | None = None,
        plimit: float | None = None,
    ) -> bool:
        """Change an order before the next bar is matched; see ``LiveTraderBroker.modify``."""
        if not order.alive():
            return False
        if reason := fault_in_change(order, size, price, plimit):
            order.addinfo(reason=reason)
            self.notify(order)
            return False
        contract = order.data.contract
        size = None if size is None else abs(contract.round_quantity(size))
        change = _Change(order, size, on_grid(contract, price), on_grid(contract, plimit))
        if order.status == bt.Order.Created:
            self._change(change)
        else:
            self.submitted.append(change)
        return True

    def _change(self, change: _Change) -> None:
        order = change.order
        if not order.alive():
            return
        size = order.size
        changed = change_terms(order, change.size, change.price, change.plimit)
        if changed and (order.size != size or order.exectype not in TRAILING):
            self.notify(order)

    def _cancel_linked(self, order: bt.Order) -> bool:
        if not any(held is order for held in self._held):
            return bool(super().cancel(order, bracket=True))
        self._cancel_held(order)
        self._ococheck(order)
        return True

    def _cancel_held(self, order: bt.Order) -> None:
        self._held = [held for held in self._held if held is not order]
        order.cancel()
        self.notify(order)

    def _ococheck(self, order: bt.Order) -> None:
        # BackBroker looks for the others of the group among the orders of this round only, and
        # leaves the children of a bracket asleep for ever whose parent it cancels here.
        group = set(self._ocol.get(self._ocos.get(self._ocos[order.ref]), ()))
        ended = [o for o in reversed(self.pending) if o is not None and o.ref in group]
        super()._ococheck(order)
        for other in [held for held in self._held if held.ref in group]:
            self._cancel_held(other)
            ended.append(other)
        for other in ended:
            self._bracketize(other, cancel=True)

    def _bracketize(self, order: bt.Order, cancel: bool = False) -> None:
        # BackBroker's, but that it may be come back to while it cancels.
        root = order.ref if order.parent is None else order.parent.ref
        if cancel or order.parent is not None:
            for other in self._pchildren.pop(root, ()):
                self.cancel(other, bracket=True)
        elif root in self._pchildren:
            self._pchildren[root].popleft()
            self._toactivate.extend(self._pchildren[root])

    def kill(self, flatten: bool = False, reason: str = "") -> None:
        """Cancel all orders and refuse later ones, as :meth:`LiveTraderBroker.kill` does live.

        ``flatten``: then close every position with the next bar.
        """
        feeds = livetrader_feeds(self.cerebro)
        if now_of(feeds) <= self.p.live_from:
            return
        for order in self.get_orders_open():
            self.cancel(order)
        owner = next(iter(self.cerebro.runningstrats), None)
        for feed in {feed.symbol: feed for feed in feeds}.values() if flatten else ():
            size = self.getposition(feed).size
            if size:
                make = bt.order.SellOrder if size > 0 else bt.order.BuyOrder
                self.place(wish_of(make, owner, feed, abs(size)))
        self._killed = f"the kill switch is on ({reason})" if reason else "the kill switch is on"

    def cancel_all(self) -> None:
        """Cancel every open order now."""
        self.check_submitted()
        for order in list(self.pending):
            super().cancel(order)

    def check_submitted(self) -> None:
        """Accept and cancel what was asked for, in that order; without margin checks, all."""
        requests, self.submitted = self.submitted, deque()
        for request in requests:
            if isinstance(request, _Cancel):
                self._accept_submitted()
                super().cancel(request.order)
            elif isinstance(request, _Change):
                self._accept_submitted()
                self._change(request)
            else:
                self.submitted.append(request)
        self._accept_submitted()

    def _accept_submitted(self) -> None:
        if self.p.check_margin:
            super().check_submitted()
            return
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is not None:
                self.submit_accept(order)

    # ---- the round

    def next(self) -> None:
        """Match the orders whose own feed has a new bar of after they were issued."""
        feeds = livetrader_feeds(self.cerebro)
        self.account.mark(feeds)
        self.check_submitted()
        fresh = self._fresh_feeds(feeds)
        self._held = [order for order in self.pending if not self._takes_part(order, fresh)]
        waiting = {order.ref for order in self._held}
        self.pending = deque(order for order in self.pending if order.ref not in waiting)
        super().next()
        # BackBroker tries orders in the order they were submitted, which is that of their refs.
        self.pending = deque(sorted([*self.pending, *self._held], key=lambda order: order.ref))
        self._held = []

    def _fresh_feeds(self, feeds: list[LiveTraderData]) -> set[LiveTraderData]:
        fresh = set()
        for feed in feeds:
            if self._seen.get(feed) != feed.position_in_time():
                self._seen[feed] = feed.position_in_time()
                fresh.add(feed)
        return fresh

    @staticmethod
    def _takes_part(order: bt.Order, fresh: set[LiveTraderData]) -> bool:
        return order.data in fresh and order.data.bar_open() >= order.info.as_of

    def _execute(
        self,
        order: bt.Order,
        ago: int | None = None,
        price: float | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if ago is None or price is None:
            return super()._execute(order, ago, price, *args, **kwargs)
        loan = 0.0 if self.p.check_margin else self._loan(order, price)
        before = len(order.executed.exbits)
        self.cash += loan
        result = super()._execute(order, ago, price, *args, **kwargs)
        self.cash -= loan
        snap(order.data.contract, self.positions[order.data])
        for bit in list(order.executed.exbits)[before:]:
            commission = order.data.contract.commission_of(bit.size, bit.price)
            self.account.apply(order.data.symbol, bit.size, bit.price, commission)
        return result

    def _try_exec(self, order: bt.Order) -> None:
        super()._try_exec(order)
        if order.exectype in TRAILING and order.alive():
            put_on_tick(order)

    def notify(self, order: bt.Order) -> None:
        """Tell the strategy of ``order`` as it is now."""
        if order.executed.exbits:
            self._snap_last_fill(order)
        super().notify(order)

    def _snap_last_fill(self, order: bt.Order) -> None:
        # Where a fill turns a position round, BackBroker adds its two parts up again, and a
        # rounding error of the sum leaves the order "partial" for ever.
        contract, bit = order.data.contract, order.executed.exbits[-1]
        if bit is self._last_snapped:
            return
        self._last_snapped = bit
        for name in ("size", "opened", "closed", "psize"):
            setattr(bit, name, contract.snap_quantity(getattr(bit, name)))
        bit.closed, bit.opened = self._trade_sums.exact(order, bit.closed, bit.opened)
        order.executed.remsize = contract.snap_quantity(order.executed.remsize)
        if not order.executed.remsize and order.status == order.Partial:
            order.completed()

    def _loan(self, order: bt.Order, price: float) -> float:
        # BackBroker's check of the cash cannot be switched off, so it is lent enough for the
        # moment; a power of two, so that taking it back leaves the sum as it was.
        info = self.getcommissioninfo(order.data)
        size = abs(order.executed.remsize)
        position = self.positions[order.data]
        need = info.getoperationcost(size, price) + info.getcommission(size, price)
        need += abs(info.profitandloss(position.size, position.adjbase or price, price))
        need += abs(self.cash)
        return 2.0 ** math.ceil(math.log2(4.0 * need + 1.0))

    # ---- the books

    def setcommission(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: commissions are the venue's."""
        no_commission()

    addcommissioninfo = setcommission

    def getcommissioninfo(self, data: Any) -> bt.CommInfoBase:
        """The CommissionInfo of the venue's contract."""
        feed = feed_of(data)
        if feed is None:
            return super().getcommissioninfo(data)
        return self.account.register(feed.contract)

    def getposition(self, data: Any) -> bt.Position:
        """The net position in the symbol of ``data``."""
        feed = feed_of(data)  # a feed overloads its truth value
        return self.positions[data if feed is None else feed]

    def get_cash(self) -> float:
        """What can be spent, in the base currency."""
        return self.account.available()

    getcash = get_cash

    def set_cash(self, cash: float) -> None:
        """Start with ``cash`` of the base currency."""
        self.p.account_cash = {self._store.rates.base: cash}
        self.account.set_cash(self.p.account_cash)
        super().set_cash(cash)

    setcash = set_cash

    def get_value(self, datas: Any = None, mkt: bool = False, lever: bool = False) -> float:
        """Equity in the base currency, or the value of the positions in ``datas``."""
        if datas is not None:
            return self._value_of(datas)
        return self._value_of(self.positions) if mkt else self.account.equity()

    getvalue = get_value

    def _value_of(self, datas: Any) -> float:
        return self.account.position_value(symbols_of(datas))

    def _get_value(self, datas: Any = None, lever: bool = False) -> float:
        while self._cash_addition:
            added = self._cash_addition.popleft()
            self._fundshares += added / self._fundval
            self.cash += added
            base = self._store.rates.base
            self.account.cash[base] = self.account.cash.get(base, 0.0) + added
        self._value = self.account.equity()
        self._valuemkt = self._value_of(self.positions)
        self._fundval = self._value / self._fundshares if self._fundshares else self._fundval
        return self._value
