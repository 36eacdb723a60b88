"""Orders on historical bars before a live run, filled by backtrader's own simulation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import backtrader as bt

from livetrader_bt.account import Account

if TYPE_CHECKING:
    from livetrader_bt.backtest import LiveTraderBackBroker
    from livetrader_bt.store import LiveTraderStore


def simulate(
    store: LiveTraderStore, cerebro: Any, account: Account, check_margin: bool
) -> LiveTraderBackBroker:
    """A broker for the time of history, with the cash of ``account`` and flat."""
    from livetrader_bt.backtest import LiveTraderBackBroker

    make: Any = LiveTraderBackBroker  # backtrader makes the signature
    simulation: LiveTraderBackBroker = make(
        store=store, account_cash=dict(account.cash), check_margin=check_margin
    )
    simulation.cerebro = cerebro
    return simulation


def told_by(simulation: LiveTraderBackBroker) -> Iterator[bt.Order]:
    """What ``simulation`` has to tell, so that no trade of a strategy is made of it."""
    while (notification := simulation.get_notification()) is not None:
        executed = notification.executed
        executed.p1 = executed.p2  # nothing of it is pending
        yield notification
