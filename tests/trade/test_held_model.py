"""Held orders against a model of them that knows no journal, no tasks and no crash."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Order, OrderStatus, OrderType, Side, TimeInForce
from tests.support.data import proving
from tests.support.scripted_market import START
from tests.trade.holding import SYMBOL, Rig, held
from tests.trade.scripted_venue import until

S, T = OrderStatus, OrderType
SENT_AS = {
    T.MARKET: T.MARKET,
    T.LIMIT: T.LIMIT,
    T.STOP: T.MARKET,
    T.STOP_LIMIT: T.LIMIT,
    T.TRAILING_STOP: T.MARKET,
    T.TRAILING_STOP_LIMIT: T.LIMIT,
}
OPEN = ("held", "working")


# --------------------------------------------------------------------------- the model


@dataclass
class Wish:
    """An order in the model: held, working, filled or ended."""

    order: Order
    state: str
    filled: float = 0.0


@dataclass
class Model:
    """What should become of orders when this happens to them."""

    wishes: dict[str, Wish] = field(default_factory=dict)
    first_of: dict[str, str] = field(default_factory=dict)
    now: int = START

    def create(self, order: Order) -> bool:
        if order.oco:
            order = replace(order, oco=self.leader(order.oco))
        name = order.client_order_id
        self.wishes[name] = Wish(order, "held")
        if self.is_doomed(name):
            del self.wishes[name]
            return False
        self.settle()
        return True

    def leader(self, name: str) -> str:
        return self.wishes[name].order.oco or name

    def group(self, name: str) -> list[str]:
        return [n for n in self.wishes if self.leader(n) == self.leader(name)]

    def children(self, parent: str) -> list[str]:
        return [n for n, w in self.wishes.items() if parent and w.order.parent == parent]

    def is_doomed(self, name: str) -> bool:
        if self.first_of.get(self.leader(name), name) != name:
            return True
        parent = self.wishes[name].order.parent
        if parent and self.wishes[parent].state == "ended":
            return True
        bracket = [*self.children(parent), *self.children(name)]
        return any(self.wishes[n].state in ("filled", "ended") for n in bracket if n != name)

    def sleeps(self, name: str) -> bool:
        parent = self.wishes[name].order.parent
        return bool(parent) and self.wishes[parent].state != "filled"

    def move(self, name: str, state: str) -> None:
        self.wishes[name].state = state
        if state not in OPEN:
            self.first_of.setdefault(self.leader(name), name)

    def settle(self) -> None:
        while changes := [(n, s) for n in self.wishes if (s := self.next_state(n))]:
            self.move(*changes[0])

    def next_state(self, name: str) -> str:
        wish = self.wishes[name]
        if wish.state not in OPEN:
            return ""
        if self.is_doomed(name) or 0 < wish.order.expires_at <= self.now:
            return "ended"
        native = SENT_AS[wish.order.type] is wish.order.type
        return "working" if wish.state == "held" and native and not self.sleeps(name) else ""

    def quote(self, price: float) -> None:
        for name, wish in self.wishes.items():
            if wish.state == "held" and not self.sleeps(name):
                self.try_on(name, price)
        self.settle()

    def try_on(self, name: str, price: float) -> None:
        wish = self.wishes[name]
        order, sign = wish.order, wish.order.side.sign
        if sign * price >= sign * order.stop_price:
            fellows = {*self.group(name), *self.children(order.parent)} - {name}
            in_play = [
                n
                for n in fellows
                if self.wishes[n].state == "working"
                and SENT_AS[self.wishes[n].order.type] is T.MARKET
            ]
            if not in_play:
                wish.state = "working"
        elif order.trail_amount:
            stop = price + sign * order.trail_amount
            if sign * stop < sign * order.stop_price:
                price = order.price + stop - order.stop_price if order.price else 0.0
                wish.order = replace(order, stop_price=stop, price=price)

    def fill(self, name: str, quantity: float) -> None:
        wish = self.wishes[name]
        wish.filled += quantity
        self.first_of.setdefault(self.leader(name), name)
        if wish.filled >= 10.0:
            self.move(name, "filled")
        self.settle()

    def cancel(self, name: str) -> None:
        self.move(name, "ended")
        self.settle()


# --------------------------------------------------------------------------- both at once


class Pair:
    """The model and the real thing, to which the same happens."""

    def __init__(self, path: Path) -> None:
        self.rig = Rig(path)
        self.model = Model()
        self.price = 100.0
        self.steps = 0

    async def do(self, step: tuple[Any, ...]) -> None:
        what, *arguments = step
        self.rig.market.time += 2_000
        self.model.now += 2_000
        await getattr(self, what)(*arguments)
        await self.rig.calm()
        self.compare()
        self.steps += 1

    async def create(
        self, kind: OrderType, side: Side, distance: int, link: str, whom: int, minutes: int
    ) -> None:
        names = list(self.model.wishes)
        order = held(kind, side, f"o-{len(self.rig.trade.journal.orders())}-{self.steps}")
        stop = self.price + side.sign * distance
        if kind not in (T.MARKET, T.LIMIT):
            order = order.but(stop_price=stop)
        if kind in (T.LIMIT, T.STOP_LIMIT, T.TRAILING_STOP_LIMIT):
            order = order.but(price=stop + 1)
        if kind in (T.TRAILING_STOP, T.TRAILING_STOP_LIMIT):
            order = order.but(trail_amount=float(distance))
        if link and names:
            order = order.but(**{link: names[whom % len(names)]})
        if minutes:
            end = self.model.now + minutes * 60_000
            order = order.but(time_in_force=TimeInForce.GTD, expires_at=end)
        try:
            await self.rig.trade.create_order(order)
            taken = True
        except OrderRejected:
            taken = False
        assert self.model.create(order) is taken, order

    async def quote(self, price: int) -> None:
        self.price = float(price)
        waiting = any(
            wish.state == "held" and not self.model.sleeps(name)
            for name, wish in self.model.wishes.items()
        )
        if waiting:
            if SYMBOL not in self.rig.market.readers:
                await until(lambda: SYMBOL in self.rig.market.readers)
            await self.rig.market.quote(self.price)
        self.model.quote(self.price)

    async def fill(self, whom: int, quantity: float) -> None:
        names = [n for n, w in self.model.wishes.items() if w.state == "working"]
        if names:
            name = names[whom % len(names)]
            quantity = min(quantity, 10.0 - self.model.wishes[name].filled)
            self.rig.venue.fill(name, quantity, f"t-{self.steps}")
            self.model.fill(name, quantity)

    async def cancel(self, whom: int) -> None:
        names = [n for n, w in self.model.wishes.items() if w.state in OPEN]
        if names:
            name = names[whom % len(names)]
            await self.rig.trade.cancel_order(name)
            self.model.cancel(name)

    async def wait(self, minutes: int) -> None:
        self.rig.later(minutes)
        self.model.now += minutes * 60_000
        self.model.settle()

    async def restart(self) -> None:
        await self.rig.restart()

    def compare(self) -> None:
        orders = {o.client_order_id: o for o in self.rig.trade.journal.orders()}
        assert list(orders) == list(self.model.wishes)
        for name, wish in self.model.wishes.items():
            order = orders[name]
            assert (name, state_of(order)) == (name, wish.state)
            assert (order.filled, order.type) == (wish.filled, wish.order.type)
            assert (order.stop_price, order.price) == (wish.order.stop_price, wish.order.price)
        sent = {order.client_order_id: order.type for order in self.rig.venue.sent}
        assert len(sent) == len(self.rig.venue.sent)
        for name, kind in sent.items():
            assert kind is SENT_AS[orders[name].type]
        for name, wish in self.model.wishes.items():
            assert (name in sent) or wish.state in ("held", "ended")


def state_of(order: Order) -> str:
    if order.held:
        return "held"
    if order.status.is_final:
        return "filled" if order.status is S.FILLED else "ended"
    assert order.status in (S.ACCEPTED, S.PARTIALLY_FILLED)
    return "working"


_whom = st.integers(0, 5)
_create = st.tuples(
    st.just("create"),
    st.sampled_from([*SENT_AS, T.STOP, T.STOP, T.TRAILING_STOP]),
    st.sampled_from(Side),
    st.integers(1, 4),
    st.sampled_from(["", "parent", "oco", "oco"]),
    _whom,
    st.sampled_from([0, 0, 0, 3]),
)
_step = st.one_of(
    _create,
    _create,
    st.tuples(st.just("quote"), st.integers(90, 110)),
    st.tuples(st.just("quote"), st.integers(90, 110)),
    st.tuples(st.just("fill"), _whom, st.sampled_from([4.0, 10.0, 10.0])),
    st.tuples(st.just("cancel"), _whom),
    st.tuples(st.just("wait"), st.integers(1, 3)),
    st.tuples(st.just("restart")),
)


@settings(
    max_examples=1000 if proving() else 60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not proving(),
)
@given(st.lists(_step, min_size=8, max_size=40))
def test_held_orders_do_what_the_model_says(
    record_property: Callable[[str, object], None], steps: list[tuple[Any, ...]]
) -> None:
    async def main(path: Path) -> None:
        pair = Pair(path)
        await pair.rig.open()
        try:
            for step in steps:
                await pair.do(step)
        finally:
            await pair.rig.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "journal.db"))
    record_property("held orders: steps compared with the model", len(steps))
