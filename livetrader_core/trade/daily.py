"""The day's loss, kept up to date for the risk checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone

from livetrader_core.errors import LiveTraderError
from livetrader_core.models import Balance
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.risk import DailyLoss, RiskChecks

log = logging.getLogger(__name__)

_NOTE = "daily_loss"


async def keep_counting(
    risk: RiskChecks,
    journal: Journal,
    fetch_balance: Callable[[], Awaitable[list[Balance]]],
    now: Callable[[], int],
    every: float,
) -> None:
    """Tell ``risk`` of the loss since the UTC day of ``now`` (ms) began, every so many seconds."""
    noted = journal.noted(_NOTE)
    daily = DailyLoss(risk.limits.max_daily_loss, noted)
    while True:
        try:
            day = datetime.fromtimestamp(now() / 1000, timezone.utc).date()
            risk.lost = daily.take(day.isoformat(), await fetch_balance())
            if (note := daily.to_note()) != noted:
                journal.note(_NOTE, note)
                noted = note
        except LiveTraderError as error:
            log.warning("the day's loss is not known: %s", error)
        await asyncio.sleep(every)
