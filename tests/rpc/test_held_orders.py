"""Orders that the server holds do not need whoever made them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from livetrader_core.models import OrderStatus, OrderType, Side, TradeEvent
from livetrader_core.rpc import Server
from tests.rpc.wiring import opened, served
from tests.trade.holding import Rig, held
from tests.trade.scripted_venue import until

S, T = OrderStatus, OrderType


def test_bracket_outlives_its_strategy_and_the_server(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path / "journal.db")
        async with served(rig.service, rig.trade) as (_, endpoint):
            async with opened(endpoint) as (session, _):
                await session.create_order(held(T.LIMIT, Side.BUY, "entry", price=100))
                await session.create_order(
                    held(T.STOP, Side.SELL, "loss", stop_price=90, parent="entry")
                )
                gain = held(T.LIMIT, Side.SELL, "gain", price=110, parent="entry")
                assert (await session.create_order(gain)).held
            rig.venue.fill("entry", 10.0, "t-1")
            await rig.sent("entry", "gain")
        # The server is started anew, and only then does somebody look.
        rig.trade.journal.close()
        rig.trade = rig.new_trade()
        async with served(rig.service, rig.trade) as (_, endpoint):
            await rig.quote(89)
            await rig.sent("entry", "gain", "loss")
            rig.venue.fill("loss", 10.0, "t-2")
            await rig.ends(S.CANCELED, "gain")
            async with opened(endpoint, trade_from=0) as (session, events):
                assert await session.fetch_open_orders() == []
                await until(lambda: len(events) >= rig.trade.seq)
                told = [(e.order.client_order_id, e.order.status) for e in trades(events)]
                assert told.count(("loss", S.FILLED)) == 1
                assert told[-1] == ("gain", S.CANCELED)
                assert [e.seq for e in trades(events)] == list(range(1, rig.trade.seq + 1))
        rig.trade.journal.close()

    asyncio.run(main())


def trades(events: list[object]) -> list[TradeEvent]:
    return [event for event in events if isinstance(event, TradeEvent)]


def test_server_that_ends_says_nothing_of_prices_it_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        rig = Rig()
        server = Server(rig.service, rig.trade)
        server.bind("inproc://ending")
        await server.start()
        await rig.trade.create_order(held(stop_price=100))
        await rig.quote(99)
        await server.stop()

    asyncio.run(main())
    assert caplog.messages == []
