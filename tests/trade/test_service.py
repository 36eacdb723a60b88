"""The trade service: journaled before sent, sent once, and never guessing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.errors import (
    InvalidRequest,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    RequestTimeout,
    StorageError,
    UnknownSymbol,
)
from livetrader_core.models import Order, OrderStatus, OrderType, Side, TradeEvent
from livetrader_core.trade import Journal, TradeService
from tests.trade.scripted_venue import NOW, ScriptedVenue, order, until

S = OrderStatus


def run(
    work: Callable[[ScriptedVenue, TradeService], Awaitable[None]],
    journal: Journal | Path | None = None,
    venue: ScriptedVenue | None = None,
    **settings: Any,
) -> None:
    async def main() -> None:
        scripted = venue or ScriptedVenue()
        service = TradeService(scripted, journal, **settings)
        await service.connect()
        try:
            await work(scripted, service)
        finally:
            await service.stop()

    asyncio.run(main())


def statuses(service: TradeService, client_order_id: str = "a-1") -> list[OrderStatus]:
    events = service.events_after(0)
    return [e.order.status for e in events if e.order.client_order_id == client_order_id]


async def status(service: TradeService, client_order_id: str = "a-1") -> OrderStatus:
    found = await service.fetch_order(client_order_id)
    assert found is not None
    return found.status


async def raises(error: Exception) -> None:
    raise error


# --------------------------------------------------------------------------- sending


def test_order_is_journaled_before_it_leaves() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        seen: list[Order | None] = []

        async def look(sent: Order) -> None:
            seen.append(service.journal.order(sent.client_order_id))

        venue.on_create = look
        taken = await service.create_order(order())
        assert [o.status for o in seen if o] == [S.SUBMITTED]
        assert (taken.status, taken.order_id) == (S.ACCEPTED, "v-a-1")
        assert statuses(service) == [S.SUBMITTED, S.ACCEPTED]

    run(work)


def test_known_id_returns_that_order() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        first = await service.create_order(order())
        assert await service.create_order(order()) == first
        with pytest.raises(InvalidRequest, match="another quantity; ids are never used twice"):
            await service.create_order(order(quantity=99.0))
        assert venue.arrived == ["a-1"]

    run(work)


def test_racing_requests_with_one_id_make_one_order() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        gate = asyncio.Event()

        async def wait(_: Order) -> None:
            await gate.wait()

        venue.on_create = wait
        racing = [asyncio.ensure_future(service.create_order(order())) for _ in range(20)]
        await until(lambda: bool(venue.arrived))
        gate.set()
        assert {o.status for o in await asyncio.gather(*racing)} == {S.ACCEPTED}
        assert venue.arrived == ["a-1"]
        assert service.seq == 2

    run(work)


def test_known_id_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    venue = ScriptedVenue()

    async def first(venue: ScriptedVenue, service: TradeService) -> None:
        await service.create_order(order())

    async def second(venue: ScriptedVenue, service: TradeService) -> None:
        assert (await service.create_order(order())).status is S.ACCEPTED
        assert venue.arrived == ["a-1"]

    run(first, path, venue)
    run(second, path, venue)


def test_orders_reach_the_venue_in_the_order_of_their_arrival() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        ids = [f"a-{n}" for n in range(50)]
        await asyncio.gather(*(service.create_order(order(i)) for i in ids))
        assert venue.arrived == ids
        assert [o.client_order_id for o in await service.fetch_orders()] == ids

    run(work)


def test_caller_that_gives_up_leaves_no_order_half_sent() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        gate = asyncio.Event()

        async def wait(_: Order) -> None:
            await gate.wait()

        venue.on_create = wait
        caller = asyncio.ensure_future(service.create_order(order()))
        await until(lambda: bool(venue.arrived))
        caller.cancel()
        gate.set()
        await until(lambda: statuses(service)[-1] is S.ACCEPTED)

    run(work)


@pytest.mark.parametrize(
    "error", [OrderRejected("no money"), InvalidRequest("no money"), NotConnected("no money")]
)
def test_refusal_is_rejected_with_its_reason(error: Exception) -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        venue.on_create = lambda _: raises(error)
        with pytest.raises(type(error), match="no money"):
            await service.create_order(order())
        refused = await service.fetch_order("a-1")
        assert refused is not None
        assert (refused.status, refused.reason) == (S.REJECTED, "no money")

    run(work)


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("silence"), RequestTimeout("silence"), KeyError("silence")]
)
def test_anything_short_of_a_refusal_is_unknown(error: Exception) -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        venue.on_create = lambda _: raises(error)
        with pytest.raises(OutcomeUnknown, match="silence"):
            await service.create_order(order())
        assert statuses(service) == [S.SUBMITTED, S.UNKNOWN]

    run(work)


@pytest.mark.parametrize("bad", ["", "x" * 21, "a;b", "a b", "ä", "a\n", 7, None])
def test_bad_id_is_refused(bad: Any) -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        with pytest.raises(InvalidRequest, match="client_order_id"):
            await service.create_order(order(bad))
        assert service.seq == 0

    run(work)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"quantity": 0}, InvalidRequest, "quantity"),
        ({"quantity": float("nan")}, InvalidRequest, "quantity"),
        ({"quantity": "10"}, InvalidRequest, "quantity must be a number"),
        ({"quantity": True}, InvalidRequest, "quantity must be a number"),
        ({"price": -1.0}, InvalidRequest, "price"),
        ({"type": OrderType.LIMIT}, InvalidRequest, "limit order needs a price"),
        ({"type": "market?"}, InvalidRequest, "type must be a OrderType"),
        ({"side": None}, InvalidRequest, "side must be a Side"),
        ({"as_of": 1.5}, InvalidRequest, "as_of must be a time"),
        ({"timeframe": "7m"}, InvalidRequest, "7m"),
        ({"symbol": "A"}, UnknownSymbol, "MARKET.CODE"),
        ({"symbol": "XX.A"}, UnknownSymbol, "XX is not traded here; traded: US"),
    ],
)
def test_order_that_makes_no_sense_is_not_journaled(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        with pytest.raises(error, match=message):
            await service.create_order(order().but(**changes))
        assert service.seq == 0
        assert venue.arrived == []

    run(work)


def test_orders_are_routed_by_market() -> None:
    async def main() -> None:
        first, second = ScriptedVenue("US"), ScriptedVenue("SHFE")
        service = TradeService([first, second])
        assert dict(service.markets) == {"US": first, "SHFE": second}
        await service.connect()
        await service.create_order(order("a-1", "SHFE.B"))
        await service.create_order(order("a-2", "US.A"))
        await service.stop()
        assert (first.arrived, second.arrived) == (["a-2"], ["a-1"])
        with pytest.raises(InvalidRequest, match="two trade adapters serve the market US"):
            TradeService([ScriptedVenue(), ScriptedVenue()])

    asyncio.run(main())


def test_service_that_is_not_connected_takes_no_orders() -> None:
    service = TradeService(ScriptedVenue())
    with pytest.raises(NotConnected):
        asyncio.run(service.create_order(order()))
    assert service.seq == 0


# --------------------------------------------------------------------------- events


def test_events_are_numbered_without_holes_and_given_from_any_number() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        heard: list[TradeEvent] = []
        remove = service.add_listener(heard.append)
        for n in range(5):
            await service.create_order(order(f"a-{n}"))
            venue.fill(f"a-{n}", 10.0, f"t-{n}")
        await venue.told()
        assert [event.seq for event in heard] == list(range(1, 16))
        assert service.events_after(0) == heard
        assert service.events_after(12) == heard[12:]
        assert service.events_after(3, limit=2) == heard[3:5]
        remove()
        await service.create_order(order("b"))
        assert len(heard) == 15

    run(work)


def test_fill_counts_once() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        await service.create_order(order())
        made = venue.fill("a-1", 4.0, "t-1")
        venue.tell(venue.orders["a-1"], made)
        venue.fill("a-1", 6.0, "t-2")
        venue.tell(venue.orders["a-1"], made)
        await venue.told()
        assert [fill.trade_id for fill in await service.fetch_fills()] == ["t-1", "t-2"]
        assert statuses(service) == [S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED, S.FILLED]

    run(work)


def test_fill_that_overtakes_the_answer_is_not_undone_by_it() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        async def fill_first(sent: Order) -> None:
            venue.take(sent)
            venue.fill("a-1", 10.0, "t-1")
            await venue.told()

        venue.on_create = fill_first
        answered = await service.create_order(order())
        assert (answered.status, answered.filled) == (S.FILLED, 10.0)
        assert statuses(service) == [S.SUBMITTED, S.FILLED]

    run(work)


def test_fills_that_overtake_one_another_add_up() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        await service.create_order(order())
        first = venue.fill("a-1", 4.0, "t-1", tell=False)
        after_first = venue.orders["a-1"]
        second = venue.fill("a-1", 6.0, "t-2", tell=False)
        venue.tell(venue.orders["a-1"], second)
        venue.tell(after_first, first)
        await venue.told()
        end = await service.fetch_order("a-1")
        assert end is not None
        assert (end.status, end.filled) == (S.FILLED, 10.0)
        assert sum(fill.quantity for fill in await service.fetch_fills()) == 10.0

    run(work)


def test_fill_after_a_cancellation_still_counts() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        await service.create_order(order())
        await service.cancel_order("a-1")
        await venue.told()
        assert await status(service) is S.CANCELED
        canceled = venue.orders["a-1"]
        venue.fill("a-1", 4.0, "t-1")
        venue.tell(canceled)
        await venue.told()
        end = await service.fetch_order("a-1")
        assert end is not None
        assert (end.status, end.filled) == (S.CANCELED, 4.0)
        with pytest.raises(OrderRejected, match="a-1 is canceled already"):
            await service.cancel_order("a-1")
        with pytest.raises(InvalidRequest, match="no order a-2"):
            await service.cancel_order("a-2")

    run(work)


def test_modification_is_journaled_once() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        await service.create_order(order().but(type=OrderType.LIMIT, price=10.0))
        changed = await service.modify_order("a-1", price=11.0)
        await venue.told()
        assert changed.price == 11.0
        assert statuses(service) == [S.SUBMITTED, S.ACCEPTED, S.ACCEPTED]
        with pytest.raises(InvalidRequest, match="quantity"):
            await service.modify_order("a-1", quantity=float("inf"))

    run(work)


def test_failing_listener_costs_nobody_an_event(caplog: pytest.LogCaptureFixture) -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        def fail(_: TradeEvent) -> None:
            raise RuntimeError("mine")

        heard: list[int] = []
        service.add_listener(fail)
        service.add_listener(lambda event: heard.append(event.seq))
        await service.create_order(order())
        assert heard == [1, 2]

    with caplog.at_level(logging.CRITICAL):
        run(work)


# --------------------------------------------------------------------------- what is unknown


def test_unknown_order_is_asked_about_until_the_venue_answers() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        async def arrive_unanswered(sent: Order) -> None:
            venue.take(sent)
            venue.fill("a-1", 4.0, "t-1", tell=False)
            raise OutcomeUnknown("no answer")

        answers = iter([RequestTimeout("still nothing"), NotConnected("gone")])

        def on_ask(_: str) -> None:
            error = next(answers, None)
            if error is not None:
                raise error

        venue.on_create, venue.on_ask = arrive_unanswered, on_ask
        with pytest.raises(OutcomeUnknown):
            await service.create_order(order())
        await until(lambda: statuses(service)[-1] is S.PARTIALLY_FILLED)
        assert len(venue.asked) == 3
        assert [fill.trade_id for fill in await service.fetch_fills()] == ["t-1"]
        assert S.REJECTED not in statuses(service)

    run(work, ask_every=0.01, settle_after=60.0)


def test_order_the_venue_has_not_seen_yet_is_not_rejected_too_early() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        venue.on_create = lambda _: raises(OutcomeUnknown("no answer"))
        with pytest.raises(OutcomeUnknown):
            await service.create_order(order())
        await until(lambda: len(venue.asked) >= 5)
        assert await status(service) is S.UNKNOWN
        venue.take(order())
        await until(lambda: statuses(service)[-1] is S.ACCEPTED)

    run(work, ask_every=0.01, settle_after=60.0)


def test_order_that_never_arrived_is_rejected_when_the_venue_says_so() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        venue.on_create = lambda _: raises(OutcomeUnknown("no answer"))
        with pytest.raises(OutcomeUnknown):
            await service.create_order(order())
        await until(lambda: statuses(service)[-1] is S.REJECTED)
        end = await service.fetch_order("a-1")
        assert end is not None
        assert end.reason == "it never arrived at the venue"

    run(work, ask_every=0.01, settle_after=0.0)


def test_start_settles_what_an_earlier_run_left_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for name, left in [
        ("arrived", S.SUBMITTED),
        ("lost", S.UNKNOWN),
        ("filled", S.ACCEPTED),
        ("forgotten", S.ACCEPTED),
        ("over", S.CANCELED),
    ]:
        journal.append(NOW, order(name).but(status=left, created_at=NOW))
    venue = ScriptedVenue()
    venue.take(order("arrived"))
    venue.take(order("filled"))
    venue.fill("filled", 3.0, "t-1", tell=False)
    venue.fill("filled", 7.0, "t-2", tell=False)

    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        ends = {o.client_order_id: o.status for o in await service.fetch_orders()}
        assert ends == {
            "arrived": S.ACCEPTED,
            "lost": S.REJECTED,
            "filled": S.FILLED,
            "forgotten": S.CANCELED,
            "over": S.CANCELED,
        }
        assert [fill.trade_id for fill in await service.fetch_fills()] == ["t-1", "t-2"]
        assert [o.client_order_id for o in await service.fetch_open_orders()] == ["arrived"]
        assert "over" not in venue.asked

    run(work, journal, venue, settle_after=0.0)
    journal.close()


def test_start_without_an_answer_leaves_the_order_unknown(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.append(NOW, order().but(status=S.SUBMITTED))
    venue = ScriptedVenue()

    def silent(_: str) -> None:
        raise RequestTimeout("no answer")

    venue.on_ask = silent

    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        assert await status(service) is S.UNKNOWN

    run(work, journal, venue)
    journal.close()


def test_stop_leaves_an_order_on_its_way_to_the_next_start(tmp_path: Path) -> None:
    path, venue = tmp_path / "journal.db", ScriptedVenue()

    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        async def hang(sent: Order) -> None:
            venue.take(sent)
            await asyncio.Event().wait()

        venue.on_create = hang
        caller = asyncio.ensure_future(service.create_order(order()))
        await until(lambda: bool(venue.arrived))
        await service.stop()
        with pytest.raises(OutcomeUnknown, match="stopped while it was on its way"):
            await caller

    async def later(venue: ScriptedVenue, service: TradeService) -> None:
        assert await status(service) is S.ACCEPTED

    run(work, path, venue)
    run(later, path, venue)


def test_failed_connect_leaves_nothing_behind() -> None:
    class Dead(ScriptedVenue):
        async def connect(self) -> None:
            raise NotConnected("nobody there")

    async def main() -> None:
        alive = ScriptedVenue("SHFE")
        service = TradeService([alive, Dead()])
        with pytest.raises(NotConnected, match="nobody there"):
            await service.connect()
        assert not alive.connected
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


# --------------------------------------------------------------------------- the journal fails


class BrokenJournal(Journal):
    """A journal that fails while it is told to."""

    broken = False

    def append(self, *arguments: Any) -> TradeEvent:
        if self.broken:
            raise StorageError("journal j.db: cannot write it: disk full")
        return super().append(*arguments)


def test_order_does_not_leave_without_the_journal() -> None:
    journal = BrokenJournal(":memory:")

    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        journal.broken = True
        with pytest.raises(StorageError, match=r"j\.db.*order a-1 was not sent"):
            await service.create_order(order())
        assert venue.arrived == []
        assert await service.fetch_order("a-1") is None
        journal.broken = False
        assert (await service.create_order(order())).status is S.ACCEPTED

    run(work, journal)


def test_fills_wait_for_the_journal_in_order_and_orders_are_refused_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = BrokenJournal(":memory:")

    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        heard: list[TradeEvent] = []
        await service.create_order(order())
        service.add_listener(heard.append)
        journal.broken = True
        made = [venue.fill("a-1", 2.0, f"t-{n}") for n in range(3)]
        venue.tell(venue.orders["a-1"], made[0])
        await venue.told()
        assert heard == []
        assert await service.fetch_fills() == made
        assert [o.filled for o in await service.fetch_open_orders()] == [6.0]
        with pytest.raises(StorageError, match=r"3 changes wait.*a-2 was not sent"):
            await service.create_order(order("a-2"))
        journal.broken = False
        await until(lambda: len(heard) == 3)
        assert [e.fill for e in heard] == made
        assert [e.seq for e in service.events_after(0)] == [1, 2, 3, 4, 5]
        assert (await service.create_order(order("a-2"))).status is S.ACCEPTED

    with caplog.at_level(logging.CRITICAL):
        run(work, journal, ask_every=0.01)


def test_side_of_an_order_is_kept_as_given() -> None:
    async def work(venue: ScriptedVenue, service: TradeService) -> None:
        sold = await service.create_order(order().but(side=Side.SELL, quantity=7))
        assert (sold.side, sold.quantity) == (Side.SELL, 7.0)
        assert await service.fetch_order("a-1") == sold

    run(work)
