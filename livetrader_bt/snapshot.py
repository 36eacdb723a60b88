"""An account at one moment: what a run begins with, none of it counted twice, none lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from livetrader_core.errors import Unavailable
from livetrader_core.models import Balance, Order, Position
from livetrader_core.session import Session

#: For so many seconds a venue that moves real money must stay still after it was asked: it may
#: show a fill in its positions before it tells of it.
_STILLNESS = 0.25
_PATIENCE = 5.0


@dataclass(frozen=True)
class Snapshot:
    """What one session's accounts hold after trade event number ``seq``."""

    seq: int
    balances: list[Balance]
    positions: list[Position]
    open_orders: list[Order]


async def take_snapshot(session: Session, real_money: bool) -> Snapshot:
    """The accounts between two readings of one event number. Raises Unavailable."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        before = (await session.status())["trade_seq"]
        balances = await session.fetch_balance()
        positions = await session.fetch_positions()
        orders = await session.fetch_open_orders()
        if real_money:
            await asyncio.sleep(_STILLNESS)
        after = (await session.status())["trade_seq"]
        if before == after:
            return Snapshot(after, balances, positions, orders)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{session.info.start_id}: the account trades without a pause of "
                f"{_STILLNESS:g} s: its positions cannot be taken; start again when it is quiet"
            )
