"""TqTrade, an unmodified tqsdk, and the simulated futures venue behind it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from livetrader_core.models import Contract, Klines
from livetrader_core.service import MarketService
from livetrader_core.sim.recording import MINUTE_MS, Recording
from livetrader_core.sim.tq_matching import Desk
from livetrader_core.sim.tq_server import TqServer
from livetrader_core.sim.venue import Fault, FaultKind
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.tq import TqTrade
from tests.conformance.trade_rig import BEFORE, TradeRig, VenueBooks
from tests.conformance.trade_table import FUTURES
from tests.support.tq_trading import MEAL, MONDAY, PASSWORD, REBAR, TUESDAY, USER, quiet

_NO_MONEY = "CTP:资金不足"


class TqTradeRig(TradeRig):
    """Futures at two exchanges: one tells positions by the day they were opened, one does not."""

    name = "tq"
    kind = FUTURES
    trade: ClassVar[type[TqTrade]] = TqTrade
    prices: ClassVar[dict[str, float]] = {REBAR: 3000.0, MEAL: 2800.0}
    spread = 1
    start = MONDAY + BEFORE * MINUTE_MS
    too_many = 900.0

    _venue: TqServer | None = None

    @classmethod
    def contract(cls, symbol: str) -> Contract:
        return quiet(symbol, cls.prices[symbol]).contract

    @property
    def venue(self) -> TqServer:
        assert self._venue is not None
        return self._venue

    @property
    def desk(self) -> Desk:
        return self.venue.trading.desk(USER)

    def recordings(self) -> list[Recording]:
        """The course on Monday; Tuesday morning the price stands where it ended."""
        return [_with_tuesday(one) for one in super().recordings()]

    async def open_venue(self) -> None:
        self._venue = TqServer(self.recordings(), self.clock, users={USER: PASSWORD}, accounts={})
        self._venue.trading.depth = round(self.part) if self.parts else 0
        await self._venue.start()

    async def close_venue(self) -> None:
        await self.venue.stop()

    def adapter(self, market: MarketService) -> TradeBase:
        return self._adapter()

    def _adapter(self, **settings: Any) -> TqTrade:
        given: dict[str, Any] = {
            "user": USER,
            "password": PASSWORD,
            "auth_url": self.venue.auth_url,
            "md_url": self.venue.md_url,
            "td_url": self.venue.td_url,
            "reconnect_after": 0.05,
            "timeout": 1.5,
            "clock": self.clock,
        }
        return self.trade(**{**given, **settings})

    async def books(self) -> VenueBooks:
        self.venue.trading.advance(self.clock.now())
        desk = self.desk
        traded: dict[str, float] = {}
        for trade in desk.trades.values():
            symbol = f"{trade['exchange_id']}.{trade['instrument_id']}"
            traded[symbol] = traded.get(symbol, 0.0) + trade["volume"]
        nets = {
            symbol: float(held["volume_long"] - held["volume_short"])
            for symbol, held in desk.account.positions(desk.price).items()
        }
        # An order of ours may be there in several parts, one for each offset.
        working = {key.rsplit("_", 2)[0] for key, one in desk.orders.items() if one.alive}
        positions = {symbol: volume for symbol, volume in nets.items() if volume}
        tree = desk.account.tree(desk.price, desk.frozen_margin())
        cash = tree["balance"] - tree["float_profit"]
        return VenueBooks(len(working), traded, positions, cash)

    def refuse_next(self) -> None:
        self.desk.refusals.append(_NO_MONEY)

    def strangers(self) -> list[TradeBase]:
        broker = {"kind": "account", "broker": "a broker", "account": "12345"}
        return [
            self._adapter(password="wrong"),
            self._adapter(**broker, account_password="wrong"),
            self._adapter(auth_url="http://127.0.0.1:9"),
        ]

    def lose_next_order(self) -> None:
        self.venue.trading.lost_requests = 1

    def lose_next_answer(self) -> None:
        self.venue.trading.lost_answers = 1

    def slow(self, seconds: float) -> None:
        self.venue.inject(Fault(FaultKind.LATE, seconds, 2))

    def cut(self) -> None:
        self.venue.inject(Fault(FaultKind.CUT))

    async def leave(self) -> None:
        await self.venue.stop()

    async def come_back(self) -> None:
        await self.venue.start()

    async def shut(self) -> None:
        await self.leap(self.session_end() + MINUTE_MS)

    def gross(self, symbol: str) -> tuple[float, float]:
        held = self.desk.account.positions(self.desk.price)[symbol]
        return float(held["volume_long"]), float(held["volume_short"])

    def next_day(self) -> int:
        return TUESDAY

    def place_foreign(self, symbol: str) -> None:
        self._insert("by-hand", symbol, 1, self.price(symbol, -50))

    def trade_foreign(self, symbol: str, quantity: float) -> None:
        self._insert("by-hand-too", symbol, round(quantity), self.price(symbol, 5))

    def _insert(self, order_id: str, symbol: str, volume: int, price: float) -> None:
        exchange, code = symbol.split(".")
        request = {"order_id": order_id, "exchange_id": exchange, "instrument_id": code}
        how = {"price_type": "LIMIT", "time_condition": "GFD", "volume_condition": "ANY"}
        wish = {"direction": "BUY", "offset": "OPEN", "volume": volume, "limit_price": price}
        assert self.desk.insert({**request, **how, **wish}) is None
        self.venue._wake_trading()


def _with_tuesday(recording: Recording) -> Recording:
    monday = recording.klines
    more = TUESDAY - MINUTE_MS + np.arange(75, dtype=np.int64) * MINUTE_MS
    times = np.concatenate([monday.datetime, more])
    price = np.concatenate([monday.close, np.full(75, monday.close[-1])])
    columns = [price, price, price, price, np.full(len(times), 400.0), np.zeros(len(times))]
    klines = Klines.from_columns(monday.symbol, "1m", times, columns)
    return Recording(recording.contract, klines)
