"""How reports of an order combine with what is known of it."""

from __future__ import annotations

from typing import Any

import pytest

from livetrader_core.models import Order, OrderStatus, OrderType, Side, TimeInForce
from livetrader_core.trade.progress import combine

S, T, TIF = OrderStatus, OrderType, TimeInForce


def order(status: OrderStatus, **fields: Any) -> Order:
    wish = {"type": T.STOP_LIMIT, "price": 101.0, "stop_price": 100.0, "parent": "p", "oco": "o"}
    return Order(
        **{
            "client_order_id": "a",
            "symbol": "US.A",
            "side": Side.BUY,
            "quantity": 10.0,
            **wish,
            "status": status,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("known", "held", "reported", "after"),
    [
        (S.ACCEPTED, True, S.SUBMITTED, S.SUBMITTED),
        (S.ACCEPTED, False, S.SUBMITTED, S.ACCEPTED),
        (S.PARTIALLY_FILLED, False, S.ACCEPTED, S.PARTIALLY_FILLED),
        (S.SUBMITTED, False, S.UNKNOWN, S.UNKNOWN),
        (S.UNKNOWN, False, S.SUBMITTED, S.UNKNOWN),
        (S.CANCELED, False, S.ACCEPTED, S.CANCELED),
    ],
)
def test_only_a_held_order_steps_back(
    known: OrderStatus, held: bool, reported: OrderStatus, after: OrderStatus
) -> None:
    combined = combine(order(known, held=held), order(reported))
    assert (combined.status, combined.held) == (after, False)


def test_order_that_did_not_reach_the_venue_is_held_again() -> None:
    combined = combine(order(S.SUBMITTED), order(S.ACCEPTED, held=True, reason="down"))
    assert (combined.status, combined.held, combined.reason) == (S.ACCEPTED, True, "down")


def test_client_sees_what_it_wished_and_not_what_the_venue_got() -> None:
    known = order(S.SUBMITTED, time_in_force=TIF.GTD, expires_at=9)
    sent = known.but(
        type=T.LIMIT, stop_price=0.0, time_in_force=TIF.GTC, expires_at=0, parent="", oco=""
    )
    combined = combine(known, sent.but(status=S.ACCEPTED, order_id="v", quantity=8.0, price=102.0))
    assert combined == known.but(status=S.ACCEPTED, order_id="v", quantity=8.0, price=102.0)


def test_moved_stop_and_found_deadline_of_a_venue_are_taken() -> None:
    known = order(S.ACCEPTED, type=T.TRAILING_STOP, trail_amount=5.0, time_in_force=TIF.DAY)
    reported = known.but(stop_price=98.0, expires_at=7)
    assert combine(known, reported) == reported
