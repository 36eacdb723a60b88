"""A simulated futures venue, and adapters that trade there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from livetrader_core.clock import SteppedClock
from livetrader_core.models import Commission, Contract, Klines, Margin, Order, OrderType, Side
from livetrader_core.sessions import Sessions
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tq_matching import Desk
from livetrader_core.sim.tq_server import TqServer
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.tq import TqTrade
from tests.market.samples import at

BEIJING = "Asia/Shanghai"
REBAR, MEAL = "SHFE.rb2605", "DCE.m2605"
USER, PASSWORD = "somebody", "a password"
ACCOUNT, ACCOUNT_PASSWORD = "12345", "another password"
#: The first of two trading days, a minute into its morning.
MONDAY = at("2026-01-12 09:01", BEIJING)
TUESDAY = at("2026-01-13 09:01", BEIJING)


def quiet(symbol: str, price: float) -> Recording:
    """Two mornings of a symbol whose last price stands still, its ask one tick higher."""
    sessions = Sessions(BEIJING, ((540, 615), (630, 690), (810, 900)))
    contract = Contract(
        symbol,
        1.0,
        1.0,
        1.0,
        10.0,
        "CNY",
        sessions,
        Margin(rate=0.1),
        Commission(per_unit=1.51),
        name=symbol,
        expires_at=at("2026-05-15 15:00", BEIJING),
    )
    days = [at(f"2026-01-{day} 09:00", BEIJING) for day in (12, 13)]
    times = np.concatenate([day + np.arange(75) * 60_000 for day in days])
    column = np.full(len(times), price)
    klines = Klines(
        symbol, "1m", times.astype(np.int64), column, column, column, column, column * 0 + 400.0
    )
    return Recording(contract, klines)


def with_prices(recording: Recording, prices: list[float]) -> Recording:
    """``recording`` with these prices in its first minutes, and the last of them afterwards."""
    klines = recording.klines
    column = np.full(len(klines), prices[-1])
    column[: len(prices)] = prices
    moved = Klines(
        klines.symbol, "1m", klines.datetime, column, column, column, column, klines.volume
    )
    return replace(recording, klines=moved)


class TqVenue:
    """The venue, its clock, and what an adapter needs to come there."""

    def __init__(self, recordings: list[Recording], start: int = MONDAY, **settings: Any) -> None:
        self.clock = SteppedClock(start)
        self.server = TqServer(
            recordings,
            self.clock,
            users={USER: PASSWORD},
            accounts={ACCOUNT: ACCOUNT_PASSWORD},
            **settings,
        )

    def adapter(self, **settings: Any) -> TqTrade:
        given: dict[str, Any] = {
            "user": USER,
            "password": PASSWORD,
            "auth_url": self.server.auth_url,
            "md_url": self.server.md_url,
            "td_url": self.server.td_url,
            "reconnect_after": 0.05,
            "timeout": 10.0,
            "clock": self.clock,
        }
        return TqTrade(**{**given, **settings})

    def broker(self, **settings: Any) -> TqTrade:
        """An adapter for an account with a broker."""
        who = {"kind": "account", "broker": "a broker", "account": ACCOUNT}
        return self.adapter(**{**who, "account_password": ACCOUNT_PASSWORD, **settings})

    def desk(self, user: str = USER) -> Desk:
        return self.server.trading.desk(user)

    def move(self, minutes: float) -> None:
        self.clock.advance(self.clock.now() + round(minutes * 60_000))


@asynccontextmanager
async def open_venue(
    recordings: list[Recording] | None = None, start: int = MONDAY, **settings: Any
) -> AsyncIterator[TqVenue]:
    if recordings is None:
        recordings = [quiet(REBAR, 3000.0), quiet(MEAL, 2800.0)]
    venue = TqVenue(recordings, start, **settings)
    await venue.server.start()
    try:
        yield venue
    finally:
        await venue.server.stop()


@asynccontextmanager
async def trading_at(venue: TqVenue, **settings: Any) -> AsyncIterator[TqTrade]:
    trade = venue.adapter(**settings)
    try:
        await trade.connect()
        yield trade
    finally:
        await trade.disconnect()


class Listener:
    """Everything that an adapter tells."""

    def __init__(self, trade: TqTrade) -> None:
        self.events: list[VenueEvent] = []
        self._task = asyncio.get_running_loop().create_task(self._read(trade.watch_events()))

    async def _read(self, events: AsyncIterator[VenueEvent]) -> None:
        async for event in events:
            self.events.append(event)

    def states(self, name: str) -> list[str]:
        """The states of one order, without repetitions."""
        seen = [e.order.status.value for e in self.events if e.order.client_order_id == name]
        return [one for index, one in enumerate(seen) if index == 0 or seen[index - 1] != one]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def until(condition: Callable[[], object], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.005)


def buy(name: str, volume: float, price: float = 0.0, symbol: str = REBAR, **more: Any) -> Order:
    kind = OrderType.LIMIT if price else OrderType.MARKET
    return Order(name, symbol, Side.BUY, kind, volume, price=price, **more)


def sell(name: str, volume: float, price: float = 0.0, symbol: str = REBAR, **more: Any) -> Order:
    return buy(name, volume, price, symbol, **more).but(side=Side.SELL)
