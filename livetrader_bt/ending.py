"""The end of a live run: nothing that was asked of a venue is left without a word."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import backtrader as bt

from livetrader_bt.hub import NEVER
from livetrader_bt.orders import Orders
from livetrader_bt.requests import Requests

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore

log = logging.getLogger(__name__)

STOP_ORDERS = ("keep", "cancel")
#: How many seconds the end of a run waits for answers.
PATIENCE = 5.0


def leave(
    store: LiveTraderStore,
    orders: Orders,
    requests: Requests,
    unsent: Sequence[bt.Order],
    stop_orders: str,
) -> None:
    """Wait for what was asked of the venues; what works there is kept or cancelled.

    What is not answered in time is logged as an error, each with its client_order_id.
    """
    deadline = time.monotonic() + PATIENCE
    for order in unsent:
        log.warning("order %s never left: its bracket is not complete", order.info.client_order_id)
        order.cancel()
    if stop_orders == "cancel":
        for known in orders.alive():
            requests.cancel(known.wire)
    for what in requests.wait(PATIENCE):
        log.error("the run ended with no answer about %s", what)
    if stop_orders == "cancel":
        _wait_for_ends(store, orders, deadline)
    for known in orders.alive():
        log.info("order %s works on at its venue", known.wire.client_order_id)


def _wait_for_ends(store: LiveTraderStore, orders: Orders, deadline: float) -> None:
    while orders.alive() and time.monotonic() < deadline:
        for item in store.hub.take_inbox(NEVER):
            item.apply()
        time.sleep(0.005)
