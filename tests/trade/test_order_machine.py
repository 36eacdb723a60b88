"""TradeService against a model: whatever happens in whatever order, nothing twice, nothing lost.

The venue of these tests is plain and always right; requests and answers are lost on the way,
events come late, twice or never, and the service is restarted at any time.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from livetrader_core.errors import (
    InvalidRequest,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    RequestTimeout,
)
from livetrader_core.models import Order, OrderStatus, OrderType, Side, TradeEvent
from livetrader_core.trade import TradeService
from livetrader_core.trade.audit import audit_events
from livetrader_core.trade.base import VenueEvent
from tests.support.data import proving
from tests.trade.scripted_venue import ScriptedVenue

S = OrderStatus
OUTCOMES = ("taken", "refused", "lost request", "lost answer", "down")
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
STEPS = Counter[str]()


class MachineVenue(ScriptedVenue):
    """Keeps its books over restarts of the service; what happens on the way is set beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.outcome = "taken"
        self.taken: Counter[str] = Counter()
        self.told_so_far: list[VenueEvent] = []
        self.reachable = True

    async def create_order(self, order: Order) -> Order:
        name = order.client_order_id
        if self.outcome == "down":
            raise NotConnected("the line is down")
        if self.outcome == "refused":
            raise OrderRejected(f"order {name}: not today")
        if self.outcome == "lost request":
            raise OutcomeUnknown(f"order {name}: no answer")
        self.taken[name] += 1
        taken = self.take(order)
        if self.outcome == "lost answer":
            raise OutcomeUnknown(f"order {name}: no answer")
        return taken

    async def cancel_order(self, client_order_id: str) -> None:
        if client_order_id not in self.working():
            raise OrderRejected(f"order {client_order_id} does not work here")
        await super().cancel_order(client_order_id)

    async def fetch_order(self, client_order_id: str) -> Order | None:
        if not self.reachable:
            raise RequestTimeout("the venue is slow")
        return await super().fetch_order(client_order_id)

    def working(self) -> list[str]:
        return [name for name, order in self.orders.items() if not order.status.is_final]

    def end(self, name: str, is_told: bool) -> None:
        self.orders[name] = self.orders[name].but(status=S.CANCELED)
        if is_told:
            self.tell(self.orders[name])


def sizes(fills: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for fill in fills:
        size = found.get(fill.symbol, 0.0) + fill.side.sign * fill.quantity
        found[fill.symbol] = round(size, 9)
    return {symbol: size for symbol, size in found.items() if size}


class OrderMachine(RuleBasedStateMachine):
    """Orders by their number; the model is what was wished, and the venue's own books."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.venue = MachineVenue()
        self.wished: dict[str, Order] = {}
        #: Orders that the model knows to have been refused before the venue saw them.
        self.refused: set[str] = set()
        self.is_killed = False
        self.trades = 0
        self.service = self.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do ``work``, and let everything that was told arrive."""
        try:
            return self.loop.run_until_complete(work)
        finally:
            self.loop.run_until_complete(self.venue.told())

    def start(self) -> TradeService:
        service = TradeService(
            self.venue,
            Path(self.folder.name) / "journal",
            ask_every=3600.0,
            settle_after=0.0,
            reconcile_every=3600.0,
        )
        self.heard: list[TradeEvent] = []
        self.heard_from = service.seq
        service.add_listener(self.heard.append)
        self.run(service.connect())
        return service

    async def stop(self) -> None:
        await asyncio.wait_for(self.service.stop(), 5.0)

    def order_of(self, name: str) -> Order:
        found = self.run(self.service.fetch_order(name))
        assert isinstance(found, Order)
        return found

    # ---- what clients ask for

    @rule(
        outcome=st.sampled_from(OUTCOMES),
        side=st.sampled_from(sorted(SIDES)),
        lots=st.integers(1, 9),
    )
    def create(self, outcome: str, side: str, lots: int) -> None:
        STEPS["steps"] += 1
        STEPS[outcome] += 1
        name = f"n{len(self.wished)}"
        wish = Order(name, "US.A", SIDES[side], OrderType.MARKET, float(lots))
        self.wished[name] = wish
        self.venue.outcome = outcome
        expected: dict[str, type[Exception] | None] = {
            "taken": None,
            "refused": OrderRejected,
            "down": NotConnected,
            "lost request": OutcomeUnknown,
            "lost answer": OutcomeUnknown,
        }
        error = OrderRejected if self.is_killed else expected[outcome]
        if error is None:
            done = self.run(self.service.create_order(wish))
            assert done.status is S.ACCEPTED
            return
        with pytest.raises(error):
            self.run(self.service.create_order(wish))
        if error is OutcomeUnknown:
            assert self.order_of(name).status is S.UNKNOWN
        else:
            self.refused.add(name)
            assert self.order_of(name).status is S.REJECTED

    @precondition(lambda self: self.wished)
    @rule(data=st.data())
    def create_again(self, data: st.DataObject) -> None:
        STEPS["steps"] += 1
        name = data.draw(st.sampled_from(sorted(self.wished)), "again")
        self.venue.outcome = "taken"
        before = self.order_of(name)
        assert self.run(self.service.create_order(self.wished[name])) == before
        with pytest.raises(InvalidRequest, match="used before"):
            self.run(self.service.create_order(self.wished[name].but(quantity=77.0)))

    @precondition(lambda self: self.wished)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        STEPS["steps"] += 1
        name = data.draw(st.sampled_from([*sorted(self.wished), "never"]), "give up")
        if name == "never":
            wish = Order(f"g{len(self.wished)}", "US.A", Side.BUY, OrderType.MARKET, 1.0)
            self.wished[wish.client_order_id] = wish
            self.refused.add(wish.client_order_id)
            assert self.run(self.service.give_up_order(wish)).status is S.REJECTED
            return
        before = self.order_of(name)
        assert self.run(self.service.give_up_order(self.wished[name])) == before

    @precondition(lambda self: self.wished)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        STEPS["steps"] += 1
        name = data.draw(st.sampled_from(sorted(self.wished)), "cancel")
        if self.order_of(name).status.is_final:
            with pytest.raises(OrderRejected):
                self.run(self.service.cancel_order(name))
        elif name in self.venue.working():
            self.run(self.service.cancel_order(name))
            assert self.order_of(name).status is S.CANCELED

    @rule(is_on=st.booleans())
    def kill(self, is_on: bool) -> None:
        STEPS["steps"] += 1
        if is_on:
            self.run(self.service.kill(reason="stop"))
            known = [n for n in self.venue.working() if self.order_of(n).status is not S.UNKNOWN]
            assert known == []
        else:
            self.run(self.service.lift())
        self.is_killed = is_on

    # ---- what happens at the venue

    @precondition(lambda self: self.venue.working())
    @rule(data=st.data(), part=st.integers(1, 9), is_told=st.booleans(), times=st.integers(1, 3))
    def fill(self, data: st.DataObject, part: int, is_told: bool, times: int) -> None:
        STEPS["steps"] += 1
        name = data.draw(st.sampled_from(self.venue.working()), "fill")
        self.trades += 1
        quantity = min(float(part), self.venue.orders[name].remaining)
        made = self.venue.fill(name, quantity, f"t{self.trades}", tell=False)
        for _ in range(times if is_told else 0):
            self.venue.tell(self.venue.orders[name], made)
        self.run(asyncio.sleep(0))

    @precondition(lambda self: self.venue.working())
    @rule(data=st.data(), is_told=st.booleans())
    def end_at_venue(self, data: st.DataObject, is_told: bool) -> None:
        STEPS["steps"] += 1
        self.venue.end(data.draw(st.sampled_from(self.venue.working()), "end"), is_told)
        self.run(asyncio.sleep(0))

    @precondition(lambda self: self.venue.orders)
    @rule(data=st.data(), status=st.sampled_from([S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED]))
    def old_news(self, data: st.DataObject, status: OrderStatus) -> None:
        """A report of long ago comes late."""
        STEPS["steps"] += 1
        name = data.draw(st.sampled_from(sorted(self.venue.orders)), "old news")
        if self.venue.orders[name].status.is_final or status is S.PARTIALLY_FILLED:
            before = self.venue.orders[name]
            self.venue.tell(before.but(status=status, filled=0.0, average_price=0.0))
            self.run(asyncio.sleep(0))

    # ---- what the service does by itself

    @rule(is_reachable=st.booleans())
    def settle(self, is_reachable: bool) -> None:
        STEPS["steps"] += 1
        self.venue.reachable = is_reachable
        self.run(self.service._inquiry.settle_open(lambda order: True))
        self.venue.reachable = True
        if is_reachable:
            self.check_settled()

    @rule()
    def reconcile(self) -> None:
        STEPS["steps"] += 1
        assert self.run(self.service.reconcile()).differences == ()
        assert sizes(self.service.journal.fills()) == sizes(self.venue.fills)

    @rule()
    def restart(self) -> None:
        STEPS["steps"] += 1
        self.run(self.stop())
        self.service = self.start()
        self.check_settled()

    def check_settled(self) -> None:
        """All that is not certain was asked: both sides say the same."""
        for name in self.wished:
            ours, theirs = self.order_of(name), self.venue.orders.get(name)
            if theirs is None:
                assert ours.status is S.REJECTED
            else:
                assert (ours.status.is_final, ours.filled) == (
                    theirs.status.is_final,
                    theirs.filled,
                ), f"{ours} at the venue: {theirs}"

    # ---- what is always true

    @invariant()
    def nothing_twice(self) -> None:
        if self.venue.taken:
            assert max(self.venue.taken.values()) == 1
        assert not self.refused & self.venue.taken.keys()

    @invariant()
    def the_journal_holds_together(self) -> None:
        assert audit_events(self.service.events_after(0)).faults == []
        ids = [order.client_order_id for order in self.service.journal.orders()]
        assert ids == list(self.wished)

    @invariant()
    def listeners_hear_what_is_journaled(self) -> None:
        assert self.heard == self.service.events_after(self.heard_from)

    @invariant()
    def fills_are_the_venues(self) -> None:
        theirs = {fill.trade_id: fill for fill in self.venue.fills}
        ours = self.service.journal.fills()
        assert len({fill.trade_id for fill in ours}) == len(ours)
        assert all(theirs[fill.trade_id] == fill for fill in ours)
        total: dict[str, float] = {}
        for fill in ours:
            total[fill.client_order_id] = total.get(fill.client_order_id, 0.0) + fill.quantity
        for name, quantity in total.items():
            assert quantity <= self.order_of(name).filled

    def teardown(self) -> None:
        if not hasattr(self, "service"):
            return
        try:
            self.restart()
            self.reconcile()
            self.nothing_twice()
            self.the_journal_holds_together()
        finally:
            self.run(self.stop())
            self.loop.close()
            self.folder.cleanup()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_orders_against_a_model(record_property: Callable[[str, object], None]) -> None:
    STEPS.clear()
    run_state_machine_as_test(
        OrderMachine,
        settings=settings(
            max_examples=300 if proving() else 15,
            stateful_step_count=50 if proving() else 25,
            deadline=None,
            derandomize=not proving(),
            suppress_health_check=list(HealthCheck),
        ),
    )
    record_property("order machine: steps compared with the model", STEPS["steps"])
    assert STEPS["steps"] > (10_000 if proving() else 100)
