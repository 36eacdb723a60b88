"""Brackets and OCO groups that the server minds: every ending, and what races with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from livetrader_core.errors import NotConnected, OrderRejected, OutcomeUnknown
from livetrader_core.models import Order, OrderStatus, OrderType, Side, TimeInForce
from livetrader_core.trade.risk import RiskChecks, RiskLimits
from tests.support.scripted_market import bar
from tests.trade.holding import SYMBOL, Rig, held, run
from tests.trade.scripted_venue import until

S, T = OrderStatus, OrderType

ENTRY = held(T.LIMIT, Side.BUY, "entry", price=100)
LOSS = held(T.STOP, Side.SELL, "loss", stop_price=90, parent="entry")
GAIN = held(T.LIMIT, Side.SELL, "gain", price=110, parent="entry")


async def bracket(rig: Rig, entry: Order = ENTRY) -> None:
    """An entry of which nothing is filled, and its two children."""
    for order in (entry, LOSS, GAIN):
        await rig.trade.create_order(order)
    assert [rig.order(i).held for i in ("loss", "gain")] == [True, True]


async def position(rig: Rig) -> None:
    """A bracket whose entry is filled: the gain works at the venue, the loss is held."""
    await bracket(rig)
    rig.venue.fill("entry", 10.0, "t-1")
    await rig.sent("entry", "gain")
    assert (rig.order("gain").held, rig.order("loss").held) == (False, True)
    assert (rig.venue.sent[1].type, rig.venue.sent[1].parent) == (T.LIMIT, "")
    assert rig.order("gain").parent == "entry"


# --------------------------------------------------------------------------- brackets


def test_children_sleep_until_the_parent_is_filled() -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig)
        rig.venue.fill("entry", 9.0, "t-1")
        await rig.venue.told()
        assert rig.market.readers == {}
        assert rig.venue.arrived == ["entry"]
        rig.venue.fill("entry", 1.0, "t-2")
        await rig.sent("entry", "gain")
        await rig.quote(90.01)
        assert rig.order("loss").held

    run(work)


def test_child_that_waits_for_no_price_is_sent_as_soon_as_the_venue_is_reached() -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig)
        failures = iter([NotConnected("down"), NotConnected("down")])

        async def down(_: Order) -> None:
            if error := next(failures, None):
                raise error

        rig.venue.on_create = down
        rig.venue.fill("entry", 10.0, "t-1")
        await until(lambda: "gain" in rig.venue.orders)
        await rig.ends(S.ACCEPTED, "gain")
        assert rig.venue.arrived == ["entry", "gain", "gain", "gain"]
        assert not rig.order("gain").held

    run(work)


def test_filled_gain_ends_the_loss() -> None:
    async def work(rig: Rig) -> None:
        await position(rig)
        rig.venue.fill("gain", 10.0, "t-2")
        await rig.ends(S.CANCELED, "loss")
        assert rig.order("loss").reason == "gain (filled) of its bracket"
        await until(lambda: not rig.market.readers)
        assert rig.venue.arrived == ["entry", "gain"]

    run(work)


def test_filled_loss_cancels_the_gain_at_the_venue() -> None:
    async def work(rig: Rig) -> None:
        await position(rig)
        await rig.quote(89)
        await rig.sent("entry", "gain", "loss")
        assert rig.venue.canceled == []
        rig.venue.fill("loss", 10.0, "t-2")
        await rig.ends(S.CANCELED, "gain")
        assert rig.venue.canceled == ["gain"]

    run(work)


def test_partly_filled_child_leaves_the_other_as_it_is() -> None:
    async def work(rig: Rig) -> None:
        await position(rig)
        rig.venue.fill("gain", 4.0, "t-2")
        await rig.venue.told()
        await rig.quote(100)
        assert (rig.order("loss").held, rig.order("loss").quantity) == (True, 10.0)

    run(work)


@pytest.mark.parametrize("child", ["loss", "gain"])
def test_cancelled_child_ends_the_other(child: str) -> None:
    async def work(rig: Rig) -> None:
        await position(rig)
        await rig.trade.cancel_order(child)
        await rig.ends(S.CANCELED, "loss", "gain")
        assert rig.status("entry") is S.FILLED

    run(work)


@pytest.mark.parametrize("child", ["loss", "gain"])
def test_child_cancelled_in_its_sleep_ends_the_whole_bracket(child: str) -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig)
        await rig.trade.cancel_order(child)
        await rig.ends(S.CANCELED, "loss", "gain", "entry")
        assert rig.venue.canceled == ["entry"]

    run(work)


def test_expired_child_ends_the_other() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(ENTRY)
        end = rig.market.at(30)
        await rig.trade.create_order(LOSS.but(time_in_force=TimeInForce.GTD, expires_at=end))
        await rig.trade.create_order(GAIN)
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.sent("entry", "gain")
        rig.market.time = end
        await rig.ends(S.EXPIRED, "loss")
        await rig.ends(S.CANCELED, "gain")

    run(work)


def test_refused_child_leaves_the_other() -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig)

        async def refuse(_: Order) -> None:
            raise OrderRejected("price too far away")

        rig.venue.on_create = refuse
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.ends(S.REJECTED, "gain")
        rig.venue.on_create = None
        await rig.quote(90)
        await rig.sent("entry", "gain", "loss")
        assert rig.status("loss") is S.ACCEPTED

    run(work)


async def cancel(rig: Rig) -> None:
    await rig.trade.cancel_order("entry")


async def die(rig: Rig) -> None:
    rig.venue.tell(rig.venue.orders["entry"].but(status=S.EXPIRED))


async def be_rejected(rig: Rig) -> None:
    rig.venue.tell(rig.venue.orders["entry"].but(status=S.REJECTED))


@pytest.mark.parametrize("end", [cancel, die, be_rejected])
@pytest.mark.parametrize("filled", [0.0, 4.0])
def test_children_die_with_their_parent(
    end: Callable[[Rig], Awaitable[None]], filled: float
) -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig)
        if filled:
            rig.venue.fill("entry", filled, "t-1")
        await end(rig)
        await rig.ends(S.CANCELED, "loss", "gain")
        assert rig.order("loss").reason.startswith("its parent entry (")
        assert rig.venue.arrived == ["entry"]

    run(work)


def test_parent_whose_fate_is_unknown_lets_its_children_sleep() -> None:
    async def work(rig: Rig) -> None:
        async def silent(sent: Order) -> None:
            rig.venue.take(sent)
            raise OutcomeUnknown("no answer")

        asked = False

        def on_ask(_: str) -> None:
            nonlocal asked
            if not asked:
                asked = True
                raise OutcomeUnknown("still none")

        rig.venue.on_create, rig.venue.on_ask = silent, on_ask
        with pytest.raises(OutcomeUnknown):
            await rig.trade.create_order(ENTRY)
        rig.venue.on_create = None
        for order in (LOSS, GAIN):
            assert (await rig.trade.create_order(order)).held
        rig.venue.fill("entry", 10.0, "t-1", tell=False)
        await rig.sent("entry", "gain")

    run(work)


def test_held_parent_wakes_its_children_as_any_other() -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig, held(T.STOP, Side.BUY, "entry", stop_price=105))
        await rig.quote(85)  # below the loss, which sleeps
        assert rig.order("loss").held
        await rig.quote(105)
        await rig.sent("entry")
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.sent("entry", "gain")
        await rig.quote(90)
        await rig.sent("entry", "gain", "loss")

    run(work)


def test_child_that_comes_after_its_parents_fill_is_awake() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(ENTRY)
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.venue.told()
        assert not (await rig.trade.create_order(GAIN)).held
        assert (await rig.trade.create_order(LOSS)).held
        await rig.quote(90)
        await rig.sent("entry", "gain", "loss")

    run(work)


def test_child_of_a_bracket_that_is_over_is_refused() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(ENTRY)
        await rig.trade.cancel_order("entry")
        await rig.venue.told()
        with pytest.raises(OrderRejected, match=r"loss: its parent entry \(canceled\)"):
            await rig.trade.create_order(LOSS)
        await rig.trade.create_order(ENTRY.but(client_order_id="e-2"))
        rig.venue.fill("e-2", 10.0, "t-1")
        await rig.venue.told()
        await rig.trade.create_order(GAIN.but(parent="e-2"))
        rig.venue.fill("gain", 10.0, "t-2")
        await rig.venue.told()
        with pytest.raises(OrderRejected, match=r"gain \(filled\) of its bracket"):
            await rig.trade.create_order(LOSS.but(parent="e-2"))
        assert not any(i in rig.trade._held._links for i in ("entry", "e-2", "gain", "loss"))

    run(work)


def test_trailing_child_begins_to_trail_when_it_wakes() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(ENTRY)
        await rig.trade.create_order(held(stop_price=500, client_order_id="other"))
        trailing = LOSS.but(type=T.TRAILING_STOP, trail_amount=10.0)
        await rig.trade.create_order(trailing)
        await rig.quote(150)
        assert rig.order("loss").stop_price == 90.0
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.venue.told()
        await until(lambda: len(rig.trade._held._waiting["US.A"]) == 2)
        rig.later(1)
        await rig.quote(120)
        assert rig.order("loss").stop_price == 110.0

    run(work)


def test_kline_in_which_a_child_woke_counts_by_its_close() -> None:
    async def work(rig: Rig) -> None:
        await bracket(rig)
        rig.later(1.5)
        rig.venue.fill("entry", 10.0, "t-1")
        await rig.sent("entry", "gain")
        await until(lambda: SYMBOL in rig.market.kline_readers)
        rig.trade._held._feeds._live_since[SYMBOL] = 0  # type: ignore[union-attr]
        await rig.market.moment(bar(1, 101, 102, 80, 101))  # its low was before the entry
        assert rig.order("loss").held
        await rig.market.moment(bar(2, 101, 102, 90, 101))
        await rig.sent("entry", "gain", "loss")

    run(work, ticks=False)


def test_bracket_as_large_as_the_position_may_be_passes() -> None:
    async def work(rig: Rig) -> None:
        rig.trade._gate._risk = RiskChecks(RiskLimits(max_position=10.0))
        await bracket(rig)
        with pytest.raises(OrderRejected, match=r"max_position: US\.A could come to -20"):
            await rig.trade.create_order(LOSS.but(client_order_id="more", parent=""))
        with pytest.raises(OrderRejected, match=r"max_position: US\.A could come to -11"):
            await rig.trade.create_order(LOSS.but(client_order_id="larger", quantity=11.0))

    run(work)


# --------------------------------------------------------------------------- OCO groups

FIRST = held(T.LIMIT, Side.BUY, "first", price=90)
SECOND = held(T.STOP, Side.BUY, "second", stop_price=110, oco="first")
THIRD = held(T.LIMIT, Side.BUY, "third", price=80, oco="second")


async def group(rig: Rig) -> None:
    """Two that work at the venue and one that is held."""
    for order in (FIRST, SECOND, THIRD):
        await rig.trade.create_order(order)
    assert [rig.order(i).held for i in ("first", "second", "third")] == [False, True, False]
    assert rig.order("third").oco == "first"
    assert [sent.oco for sent in rig.venue.sent] == ["", ""]


@pytest.mark.parametrize("one", ["first", "third"])
def test_fill_of_one_cancels_the_rest(one: str) -> None:
    async def work(rig: Rig) -> None:
        await group(rig)
        rig.venue.fill(one, 10.0, "t-1")
        (other,) = {"first", "third"} - {one}
        await rig.ends(S.CANCELED, "second", other)
        assert rig.order("second").reason == f"{one} (filled) of its OCO group"
        assert rig.venue.canceled == [other]

    run(work)


@pytest.mark.parametrize("one", ["first", "second", "third"])
def test_cancellation_of_one_cancels_the_rest(one: str) -> None:
    async def work(rig: Rig) -> None:
        await group(rig)
        await rig.trade.cancel_order(one)
        await rig.ends(S.CANCELED, "first", "second", "third")

    run(work)


def test_partial_fill_of_one_cancels_the_rest_and_it_works_on() -> None:
    async def work(rig: Rig) -> None:
        await group(rig)
        rig.venue.fill("third", 4.0, "t-1")
        await rig.ends(S.CANCELED, "first", "second")
        assert rig.status("third") is S.PARTIALLY_FILLED
        rig.venue.fill("third", 6.0, "t-2")
        await rig.ends(S.FILLED, "third")

    run(work)


def test_held_one_that_is_filled_cancels_those_at_the_venue() -> None:
    async def work(rig: Rig) -> None:
        await group(rig)
        await rig.quote(110)
        await rig.sent("first", "third", "second")
        rig.venue.fill("second", 10.0, "t-1")
        await rig.ends(S.CANCELED, "first", "third")

    run(work)


@pytest.mark.parametrize("filled", [True, False])
def test_of_two_that_one_price_triggers_only_the_first_is_sent(filled: bool) -> None:
    async def work(rig: Rig) -> None:
        async def refuse(_: Order) -> None:
            raise OrderRejected("no money")

        await rig.trade.create_order(SECOND.but(oco=""))
        await rig.trade.create_order(
            SECOND.but(client_order_id="other", oco="second", stop_price=105.0)
        )
        if not filled:
            rig.venue.on_create = refuse
        await rig.quote(120)
        await until(lambda: rig.venue.arrived == ["second"])
        if filled:
            await rig.sent("second")
            await rig.quote(121)
            assert rig.order("other").held
            rig.venue.fill("second", 10.0, "t-1")
        await rig.ends(S.CANCELED, "other")
        assert rig.venue.arrived == ["second"]

    run(work)


def test_fill_that_races_the_cancellation_counts() -> None:
    async def work(rig: Rig) -> None:
        await group(rig)

        async def too_late(client_order_id: str) -> None:
            rig.venue.fill(client_order_id, 10.0, f"t-{client_order_id}")
            raise OrderRejected(f"{client_order_id} is filled")

        rig.venue.cancel_order = too_late  # type: ignore[method-assign]
        rig.venue.fill("first", 10.0, "t-1")
        await rig.ends(S.FILLED, "first", "third")
        await rig.ends(S.CANCELED, "second")
        assert len(await rig.trade.fetch_fills()) == 2

    run(work)


def test_partial_fills_that_race_do_not_cancel_one_another() -> None:
    async def work(rig: Rig) -> None:
        await group(rig)
        rig.venue.fill("first", 4.0, "t-1")
        rig.venue.fill("third", 4.0, "t-2")
        await rig.ends(S.CANCELED, "second", "third")
        assert rig.venue.canceled == ["third"]
        assert rig.status("first") is S.PARTIALLY_FILLED
        rig.venue.fill("first", 6.0, "t-3")
        await rig.ends(S.FILLED, "first")

    run(work)


def test_group_that_is_over_takes_no_more() -> None:
    async def work(rig: Rig) -> None:
        await rig.trade.create_order(FIRST)
        rig.venue.fill("first", 1.0, "t-1")
        await rig.venue.told()
        with pytest.raises(OrderRejected, match=r"second: first \(partially filled\) of its OCO"):
            await rig.trade.create_order(SECOND)
        assert await rig.trade.fetch_order("second") is None

    run(work)


def test_groups_do_not_touch_one_another() -> None:
    async def work(rig: Rig) -> None:
        await group(rig)
        await rig.trade.create_order(FIRST.but(client_order_id="alone"))
        await position(rig_with(rig))
        rig.venue.fill("first", 10.0, "t-9")
        await rig.ends(S.CANCELED, "second", "third")
        assert rig.status("alone") is S.ACCEPTED
        assert (rig.status("gain"), rig.order("loss").held) == (S.ACCEPTED, True)
        rig.venue.fill("gain", 10.0, "t-10")
        await rig.ends(S.CANCELED, "loss")
        assert not rig.trade._held._book
        assert "first" not in rig.trade._held._links
        assert "entry" not in rig.trade._held._links

    run(work)


def rig_with(rig: Rig) -> Rig:
    """The rig, with what arrived so far forgotten."""
    rig.venue.arrived.clear()
    rig.venue.sent.clear()
    return rig
