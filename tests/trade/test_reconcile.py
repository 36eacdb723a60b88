"""The journal's books and the venue's: what is brought in, what is told, what is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from livetrader_core.errors import (
    InvalidRequest,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    StorageError,
)
from livetrader_core.models import Order, OrderStatus, Position, Side
from livetrader_core.trade import TradeService
from livetrader_core.trade.journal import Journal
from tests.trade.scripted_venue import ScriptedVenue, order, until

Work = Callable[[TradeService], Awaitable[None]]


def during(
    venue: ScriptedVenue | list[ScriptedVenue], journal: Path, work: Work, **settings: float
) -> None:
    """One life of a service on ``journal``."""

    async def main() -> None:
        trade = TradeService(venue, journal, **settings)  # type: ignore[arg-type]
        await trade.connect()
        try:
            await work(trade)
        finally:
            await trade.stop()

    asyncio.run(main())


def test_fills_that_were_missed_are_brought_in_once(tmp_path: Path) -> None:
    venue, journal = ScriptedVenue(), tmp_path / "journal"

    async def place(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))

    async def look(trade: TradeService) -> None:
        assert [fill.quantity for fill in await trade.fetch_fills()] == [4.0, 6.0]
        assert (await trade.reconcile()).differences == ()
        seq = trade.seq
        await trade.reconcile()
        assert trade.seq == seq
        found = await trade.fetch_order("a-1")
        assert found is not None
        assert (found.status, found.filled) == (OrderStatus.FILLED, 10.0)

    during(venue, journal, place)
    venue.fill("a-1", 4.0, "t-1", tell=False)
    venue.fill("a-1", 6.0, "t-2", tell=False)
    during(venue, journal, look)
    during(venue, journal, look)


class FillsAtOnce(ScriptedVenue):
    """Answers that an order is filled; of the fill itself nothing is heard."""

    async def create_order(self, order: Order) -> Order:
        taken = await super().create_order(order)
        self.fill(taken.client_order_id, taken.quantity, "t-1", tell=False)
        return self.orders[taken.client_order_id]


class HoursAhead(ScriptedVenue):
    """A venue whose clock is two hours ahead of the other's."""

    def now(self, symbol: str) -> int:
        return super().now(symbol) + 7_200_000


def test_a_missed_fill_is_found_although_another_venue_is_hours_ahead(tmp_path: Path) -> None:
    behind, ahead = FillsAtOnce("US"), HoursAhead("FOREX")
    journal = tmp_path / "journal"

    async def place(trade: TradeService) -> None:
        await trade.create_order(order("b-1", "FOREX.A"))
        ahead.fill("b-1", 10.0, "t-1")
        await ahead.told()
        placed = await trade.create_order(order("a-1"))
        assert placed.status is OrderStatus.FILLED

    async def look(trade: TradeService) -> None:
        assert {fill.client_order_id for fill in await trade.fetch_fills()} == {"a-1", "b-1"}
        assert (await trade.reconcile()).differences == ()

    during([behind, ahead], journal, place)
    during([behind, ahead], journal, look)


def test_what_an_account_held_before_is_its_opening_position(tmp_path: Path) -> None:
    venue, journal = ScriptedVenue(), tmp_path / "journal"
    venue.take(order("before", quantity=7.0))
    venue.fill("before", 7.0, "t-0", tell=False)

    async def trade_on(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        venue.fill("a-1", 10.0, "t-1")
        await venue.told()
        assert (await trade.reconcile()).differences == ()

    async def look(trade: TradeService) -> None:
        assert (await trade.reconcile()).differences == ()
        await trade.create_order(order("a-2"))

    during(venue, journal, trade_on)
    during(venue, journal, look)


def test_books_that_disagree_at_the_start_stop_new_orders_until_accepted(tmp_path: Path) -> None:
    venue, journal = ScriptedVenue(), tmp_path / "journal"

    async def nothing(trade: TradeService) -> None:
        return

    async def refused(trade: TradeService) -> None:
        told = "US.A: the venue holds 3, by the journal it should be 0"
        with pytest.raises(OrderRejected, match=f"not reconciled: {told}"):
            await trade.create_order(order("a-1"))
        report = await trade.reconcile()
        assert report.differences == (told,)
        assert report.blocked
        accepted = await trade.reconcile(accept=True)
        assert (accepted.differences, accepted.blocked) == ((), False)
        await trade.create_order(order("a-2"))

    async def fine(trade: TradeService) -> None:
        await trade.create_order(order("a-3"))

    during(venue, journal, nothing)
    # Somebody trades by hand while nobody looks.
    venue.take(order("by-hand", quantity=3.0))
    venue.fill("by-hand", 3.0, "t-9", tell=False)
    during(venue, journal, refused)
    during(venue, journal, fine)
    assert venue.arrived == ["a-2", "a-3"]


def test_a_difference_that_comes_up_later_is_told_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    venue = ScriptedVenue()

    async def work(trade: TradeService) -> None:
        venue.take(order("by-hand", quantity=3.0))
        venue.fill("by-hand", 3.0, "t-9", tell=False)
        await until(lambda: "the venue holds 3" in caplog.text)
        await trade.create_order(order("a-1"))

    during(venue, tmp_path / "journal", work, reconcile_every=0.01)
    assert caplog.text.count("the venue holds 3") == 1


def test_orders_of_others_are_shown_and_left_alone(tmp_path: Path) -> None:
    venue = ScriptedVenue()
    venue.take(order("theirs"))

    async def work(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        assert [o.client_order_id for o in await trade.venue_orders()] == ["theirs"]
        await trade.kill()
        assert venue.orders["theirs"].status is OrderStatus.ACCEPTED
        assert venue.orders["a-1"].status is OrderStatus.CANCELED

    during(venue, tmp_path / "journal", work)


def test_an_order_that_is_over_here_and_works_there_is_told(tmp_path: Path) -> None:
    venue = ScriptedVenue()

    async def work(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        await trade.cancel_order("a-1")
        await venue.told()
        venue.orders["a-1"] = venue.orders["a-1"].but(status=OrderStatus.ACCEPTED)
        report = await trade.reconcile()
        assert report.differences == ("order a-1 works at the venue and is canceled here",)

    during(venue, tmp_path / "journal", work)


# ---- the kill switch


def test_the_kill_switch_cancels_refuses_and_survives_a_restart(tmp_path: Path) -> None:
    venue, journal = ScriptedVenue(), tmp_path / "journal"

    async def killed(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        await trade.create_order(order("a-2"))
        venue.fill("a-2", 4.0, "t-1")
        await venue.told()
        assert (await trade.kill(flatten=True, reason="enough")).on
        await venue.told()
        assert await trade.fetch_open_orders() == [
            o for o in await trade.fetch_orders() if o.client_order_id.startswith("kill-")
        ]
        with pytest.raises(OrderRejected, match=r"the kill switch is on \(enough\)"):
            await trade.create_order(order("a-3"))

    async def still(trade: TradeService) -> None:
        assert (await trade.kill_state()).reason == "enough"
        with pytest.raises(OrderRejected, match="kill switch"):
            await trade.create_order(order("a-4"))
        assert not (await trade.lift()).on
        await trade.create_order(order("a-5"))

    during(venue, journal, killed)
    during(venue, journal, still)
    flattening = [name for name in venue.arrived if name.startswith("kill-")]
    assert [venue.orders[name].quantity for name in flattening] == [4.0]
    assert [name for name in venue.arrived if name not in flattening] == ["a-1", "a-2", "a-5"]


def test_an_order_on_its_way_is_waited_for_and_canceled(tmp_path: Path) -> None:
    venue = ScriptedVenue()
    gate = asyncio.Event()

    async def slowly(sent: object) -> None:
        await gate.wait()

    async def work(trade: TradeService) -> None:
        venue.on_create = slowly
        placing = asyncio.create_task(trade.create_order(order("a-1")))
        await until(lambda: venue.arrived == ["a-1"])
        killing = asyncio.create_task(trade.kill())
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(placing, killing)
        assert venue.orders["a-1"].status is OrderStatus.CANCELED

    during(venue, tmp_path / "journal", work)


def test_what_could_not_be_canceled_is_when_its_venue_is_back(tmp_path: Path) -> None:
    venue, journal = ScriptedVenue(), tmp_path / "journal"
    cancel = venue.cancel_order

    async def offline(client_order_id: str) -> None:
        raise NotConnected("the line is down")

    async def killed(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        venue.cancel_order = offline  # type: ignore[method-assign]
        await trade.kill()
        assert not venue.orders["a-1"].status.is_final

    async def back(trade: TradeService) -> None:
        """After a restart, too."""
        venue.cancel_order = cancel  # type: ignore[method-assign]
        await until(lambda: venue.orders["a-1"].status is OrderStatus.CANCELED)

    during(venue, journal, killed)
    during(venue, journal, back, ask_every=0.01)


def test_an_order_that_turns_up_later_is_canceled_and_its_position_closed_once(
    tmp_path: Path,
) -> None:
    venue = ScriptedVenue()

    async def lost(sent: Order) -> None:
        raise OutcomeUnknown("no answer")

    async def work(trade: TradeService) -> None:
        venue.on_create = lost
        with pytest.raises(OutcomeUnknown):
            await trade.create_order(order("a-1"))
        venue.on_create = None
        await trade.kill(flatten=True)
        assert venue.arrived == ["a-1"]
        venue.take(order("a-1"))  # it had arrived after all, and trades
        venue.fill("a-1", 3.0, "t-1")
        await until(lambda: venue.orders["a-1"].status is OrderStatus.CANCELED)
        await until(lambda: len(venue.arrived) == 2)
        closing = venue.arrived[1]
        assert (venue.orders[closing].quantity, venue.orders[closing].side) == (3.0, Side.SELL)
        await asyncio.sleep(0.3)  # it works: no second one is sent
        assert len(venue.arrived) == 2
        venue.fill(closing, 2.0, "t-2")
        venue.orders[closing] = venue.orders[closing].but(status=OrderStatus.CANCELED)
        venue.tell(venue.orders[closing])
        await until(lambda: len(venue.arrived) == 3)
        assert venue.orders[venue.arrived[2]].quantity == 1.0  # what was left
        venue.fill(venue.arrived[2], 1.0, "t-3")
        await asyncio.sleep(0.3)
        assert len(venue.arrived) == 3

    during(venue, tmp_path / "journal", work, ask_every=0.01, settle_after=30.0)


def test_a_venue_that_is_away_keeps_no_other_from_being_flattened(tmp_path: Path) -> None:
    here, away = ScriptedVenue("US"), ScriptedVenue("FOREX")

    async def main() -> None:
        trade = TradeService([away, here], tmp_path / "journal", ask_every=0.01)
        await trade.connect()
        await trade.create_order(order("a-1"))
        await trade.create_order(order("b-1", "FOREX.A"))
        here.fill("a-1", 10.0, "t-1")
        away.fill("b-1", 10.0, "t-2")
        await here.told()
        fetch = away.fetch_positions

        async def offline() -> list[Position]:
            raise NotConnected("the line is down")

        away.fetch_positions = offline  # type: ignore[method-assign]
        await trade.kill(flatten=True)
        assert len(here.arrived) == 2
        away.fetch_positions = fetch  # type: ignore[method-assign]
        await until(lambda: len(away.arrived) == 2)
        await trade.stop()

    asyncio.run(main())


def test_a_position_whose_closing_order_fills_while_it_is_asked_for_is_closed_once(
    tmp_path: Path,
) -> None:
    venue = ScriptedVenue()
    fetch = venue.fetch_positions

    async def filled_meanwhile() -> list[Position]:
        """What was held before the closing order's fill, told after it."""
        found = await fetch()
        for name in [name for name in venue.arrived if name.startswith("kill-")]:
            if not venue.orders[name].status.is_final:
                venue.fill(name, 4.0, f"t-{name}")
                await venue.told()
        return found

    async def work(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        venue.fill("a-1", 4.0, "t-1")
        await venue.told()
        venue.fetch_positions = filled_meanwhile  # type: ignore[method-assign]
        await trade.kill(flatten=True)
        await until(lambda: venue.orders[venue.arrived[-1]].status is OrderStatus.FILLED)
        await asyncio.sleep(0.3)
        assert [name for name in venue.arrived if name.startswith("kill-")] == [venue.arrived[1]]
        assert await fetch() == []

    during(venue, tmp_path / "journal", work, ask_every=0.01)


def test_a_kill_that_is_thrown_while_it_goes_on_closes_each_position_once(tmp_path: Path) -> None:
    venue = ScriptedVenue()
    fetch = venue.fetch_positions

    async def slowly() -> list[Position]:
        found = await fetch()
        await asyncio.sleep(0.03)
        return found

    async def at_once(sent: Order) -> None:
        if sent.client_order_id.startswith("kill-"):
            asyncio.get_running_loop().call_soon(
                venue.fill, sent.client_order_id, sent.quantity, f"t-{sent.client_order_id}"
            )

    async def work(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))
        venue.fill("a-1", 4.0, "t-1")
        await venue.told()
        venue.fetch_positions, venue.on_create = slowly, at_once  # type: ignore[method-assign]
        await asyncio.gather(*(trade.kill(flatten=True) for _ in range(3)))
        await asyncio.sleep(0.3)
        assert len([name for name in venue.arrived if name.startswith("kill-")]) == 1
        assert await fetch() == []

    during(venue, tmp_path / "journal", work, ask_every=0.01)


# ---- ids and rows


def test_an_order_that_was_given_up_is_refused_when_it_arrives_late(tmp_path: Path) -> None:
    venue = ScriptedVenue()

    async def work(trade: TradeService) -> None:
        taken = await trade.create_order(order("a-1"))
        assert await trade.give_up_order(order("a-1")) == taken
        given_up = await trade.give_up_order(order("a-2"))
        assert (given_up.status, given_up.reason) == (
            OrderStatus.REJECTED,
            "given up: it did not arrive",
        )
        assert await trade.create_order(order("a-2")) == given_up
        assert venue.arrived == ["a-1"]

    during(venue, tmp_path / "journal", work)


@pytest.mark.parametrize("body", ['{"client_order_id":"a-1"', "[]", '{"client_order_id": 5}'])
def test_a_damaged_row_is_an_error_that_names_it(tmp_path: Path, body: str) -> None:
    path = tmp_path / "journal"

    async def place(trade: TradeService) -> None:
        await trade.create_order(order("a-1"))

    during(ScriptedVenue(), path, place)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE orders SET body=?", (body,))
    file.close()
    journal = Journal(path)
    with pytest.raises(StorageError, match=f"{path}: row 1 of orders cannot be read"):
        journal.orders()
    journal.close()


def test_an_id_of_another_order_is_refused_though_it_was_modified(tmp_path: Path) -> None:
    venue = ScriptedVenue()

    async def work(trade: TradeService) -> None:
        first = order("a-1")
        await trade.create_order(first)
        await trade.modify_order("a-1", quantity=5.0)
        assert (await trade.create_order(first)).quantity == 5.0
        with pytest.raises(InvalidRequest, match="another symbol, side"):
            await trade.create_order(first.but(symbol="US.B", side=first.side.SELL))

    during(venue, tmp_path / "journal", work)
