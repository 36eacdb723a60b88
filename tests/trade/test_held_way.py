"""Where working orders reserve what they would close, they make way for one that is triggered."""

from __future__ import annotations

from pathlib import Path

from livetrader_core.errors import NotConnected, OrderRejected, RequestTimeout
from livetrader_core.models import Order, OrderStatus
from livetrader_core.trade.base import Abilities
from tests.trade.holding import Rig, run
from tests.trade.scripted_venue import until
from tests.trade.test_held_links import position

S = OrderStatus


async def reserved(rig: Rig) -> None:
    """A position with its gain at a venue that reserves, and its loss held."""
    rig.venue.abilities = Abilities(closing_reserves=True)
    await position(rig)


def test_the_gain_is_canceled_before_the_loss_is_sent() -> None:
    async def work(rig: Rig) -> None:
        await reserved(rig)
        working_when_sent: list[bool] = []

        async def look(order: Order) -> None:
            working_when_sent.append(not rig.venue.orders["gain"].status.is_final)

        rig.venue.on_create = look
        await rig.quote(90.0)
        await rig.sent("entry", "gain", "loss")
        assert working_when_sent == [False]
        await rig.looked()
        assert (rig.status("gain"), rig.status("loss")) == (S.CANCELED, S.ACCEPTED)
        assert rig.venue.canceled == ["gain"]
        rig.venue.fill("loss", 10.0, "t-2")
        await rig.ends(S.FILLED, "loss")

    run(work)


def test_a_gain_that_is_filled_meanwhile_counts() -> None:
    async def work(rig: Rig) -> None:
        await reserved(rig)

        async def too_late(client_order_id: str) -> None:
            rig.venue.fill("gain", 10.0, "t-2")
            raise OrderRejected("it is filled")

        rig.venue.cancel_order = too_late  # type: ignore[method-assign]
        await rig.quote(90.0)
        await rig.ends(S.CANCELED, "loss")
        assert rig.venue.arrived == ["entry", "gain"]

    run(work)


def test_a_triggered_loss_is_sent_whenever_the_server_dies(tmp_path: Path) -> None:
    """Before the gain is canceled, and after it, with the price long gone."""

    async def work(rig: Rig) -> None:
        await reserved(rig)
        cancel = rig.venue.cancel_order

        async def silent(client_order_id: str) -> None:
            raise RequestTimeout("no answer")

        rig.venue.cancel_order = silent  # type: ignore[method-assign]
        await rig.quote(90.0)
        await until(lambda: rig.order("loss").reason.startswith("triggered"))
        await rig.restart()
        rig.venue.cancel_order = cancel  # type: ignore[method-assign]

        async def unreachable(order: Order) -> None:
            raise NotConnected("the line is down")

        rig.venue.on_create = unreachable
        await rig.ends(S.CANCELED, "gain")
        await until(lambda: "the line is down" in rig.order("loss").reason)
        await rig.restart()
        assert rig.order("loss").held
        rig.venue.on_create = None
        await rig.ends(S.ACCEPTED, "loss")
        await until(lambda: not rig.order("loss").held)
        await rig.looked()
        assert rig.status("loss") is S.ACCEPTED

    run(work, journal=tmp_path / "journal")


def test_a_gain_that_the_user_cancels_still_ends_the_bracket() -> None:
    async def work(rig: Rig) -> None:
        await reserved(rig)
        await rig.trade.cancel_order("gain")
        await rig.ends(S.CANCELED, "loss")

    run(work)
