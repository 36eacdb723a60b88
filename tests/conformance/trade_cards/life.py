"""Coming in, being kept out, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from livetrader_core.errors import ConfigError, NotConnected, Unavailable
from livetrader_core.models import OrderType, Side, market_of
from tests.conformance.census import Census
from tests.conformance.hand import PATIENCE, until
from tests.conformance.trade_cards import card
from tests.conformance.trade_hand import bought, eventually, first, place, wish
from tests.conformance.trade_rig import TradeRig


@card("T01")
async def comes_in(rig: TradeRig) -> None:
    session = rig.session
    assert await session.fetch_positions() == []
    assert await session.fetch_open_orders() == []
    [balance] = await session.fetch_balance()
    assert balance.cash == pytest.approx((await rig.books()).cash)
    assert balance.cash > 0
    assert (balance.margin, balance.available) == (0, pytest.approx(balance.equity))
    assert balance.currency == rig.contracts[first(rig)].currency
    for symbol in rig.prices:
        assert session.info.markets[market_of(symbol)].trade in ("paper", "live")


@card("T02", checked=False)
async def is_kept_out(rig: TradeRig) -> None:
    await rig.end()  # it was let in before; now nobody is
    before = Census.take()
    for stranger in rig.strangers():
        began = time.monotonic()
        with pytest.raises((ConfigError, Unavailable)) as refused:
            await asyncio.wait_for(stranger.connect(), PATIENCE)
        assert time.monotonic() - began < PATIENCE
        assert len(str(refused.value)) > 10, "the message must say what is wrong"
        with pytest.raises(NotConnected):
            await stranger.create_order(wish(rig, "T02", Side.BUY))
        await stranger.disconnect()
    await _nothing_more_than(before)


@card("T61", checked=False)
async def nothing_left(rig: TradeRig) -> None:
    await rig.end()
    await _a_life(rig, 0)  # what is made once per process is made now
    before = Census.take()
    await _a_life(rig, 1)
    await _nothing_more_than(before)


async def _a_life(rig: TradeRig, number: int) -> None:
    await rig.begin()
    await bought(rig, f"T61-{number}-a")
    await place(rig, wish(rig, f"T61-{number}-b", Side.BUY, OrderType.LIMIT, ticks=-50))
    await place(rig, wish(rig, f"T61-{number}-c", Side.BUY, OrderType.STOP_LIMIT, 60, 50))
    await eventually(rig.session.fetch_balance)
    await rig.end()


async def _nothing_more_than(before: Census) -> None:
    await until(
        lambda: not Census.take().left_of(before),
        lambda: "left behind: " + "; ".join(Census.take().left_of(before)),
    )
