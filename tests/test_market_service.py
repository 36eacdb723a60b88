"""MarketService: what its listeners hear when a market fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from livetrader_core.errors import Unavailable
from livetrader_core.models import FeedState, FeedStatus, Kline, MarketEvent
from livetrader_core.service import MarketService
from tests.rpc.wiring import run, until
from tests.support.ticking_market import TickingMarket


class FailingMarket(TickingMarket):
    """Its stream of klines ends on ``error`` after the first one, once."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        async for kline in super().watch_klines(symbol, timeframe):
            yield kline
            if self.error is not None:
                error, self.error = self.error, None
                raise error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("host: gone"), "host: gone"),
        (ZeroDivisionError("a bug"), "its stream failed: ZeroDivisionError: a bug"),
    ],
)
def test_a_stream_that_fails_is_told_and_can_be_taken_up_again(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        market = FailingMarket(error)
        service = MarketService(market)
        heard: list[MarketEvent] = []
        service.add_listener(heard.append)
        await service.connect()
        await service.watch("US.A")
        closing = asyncio.create_task(market.close_one())
        await until(lambda: any(isinstance(event, FeedStatus) for event in heard))
        (status,) = [event for event in heard if isinstance(event, FeedStatus)]
        assert (status.state, status.reason) == (FeedState.DISCONNECTED, reason)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await service.watch("US.A")
        await market.close_one(2)
        assert sum(isinstance(event, Kline) for event in heard) == 3
        await service.stop()

    with caplog.at_level(logging.CRITICAL):
        run(main)
