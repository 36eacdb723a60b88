"""An account of a simulated futures venue: positions by the day they were opened, and money.

Every evening profits are settled: from then on a position counts from the day's last price, and
what it had won until then is part of the balance. So is money counted by the exchanges of China.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from livetrader_core.models import Contract

LONG, SHORT = "long", "short"
#: Exchanges where CLOSE is for positions of earlier days and CLOSETODAY for today's.
BY_DAY = frozenset({"SHFE", "INE"})

#: The price of a symbol at the moment.
Price = Callable[[str], float]


@dataclass
class Lot:
    """``volume`` opened together on the trading day ``day``; ``mark`` is where profit counts from.

    That is the price it was opened at, later the price of the last settlement.
    """

    day: int
    volume: int
    opened_at: float
    mark: float


class Account:
    """Money and positions; ``day`` is the current trading day (YYYYMMDD)."""

    def __init__(self, user: str, cash: float, contracts: dict[str, Contract], day: int) -> None:
        self.user = user
        self.day = day
        self.static = cash
        self.close_profit = 0.0
        self.commission = 0.0
        self._contracts = contracts
        self._lots: dict[tuple[str, str], list[Lot]] = {}

    def _open_lots(self) -> Iterator[tuple[str, str, Lot]]:
        for (symbol, way), lots in self._lots.items():
            for lot in lots:
                yield symbol, way, lot

    def volume(self, symbol: str, way: str, today: bool) -> int:
        """What is held of ``symbol`` LONG or SHORT, opened today or before."""
        lots = self._lots.get((symbol, way), ())
        return sum(lot.volume for lot in lots if (lot.day == self.day) == today)

    # ---- changes

    def trade(self, symbol: str, direction: str, offset: str, volume: int, price: float) -> None:
        """Book an execution; what it closes must be there."""
        self.commission += self._contracts[symbol].commission_of(volume, price)
        if offset == "OPEN":
            way = LONG if direction == "BUY" else SHORT
            self._lots.setdefault((symbol, way), []).append(Lot(self.day, volume, price, price))
            return
        way = SHORT if direction == "BUY" else LONG
        lots = self._lots[symbol, way]
        for lot in self._to_close(symbol, lots, offset):
            taken = min(volume, lot.volume)
            lot.volume -= taken
            volume -= taken
            self.close_profit += self._profit(symbol, way, taken, lot.mark, price)
        self._lots[symbol, way] = [lot for lot in lots if lot.volume]

    def _to_close(self, symbol: str, lots: list[Lot], offset: str) -> list[Lot]:
        if symbol.split(".")[0] not in BY_DAY:
            return lots
        return [lot for lot in lots if (lot.day == self.day) == (offset == "CLOSETODAY")]

    def settle(self, day: int, price: Price) -> None:
        """The trading day is over and ``day`` begins."""
        self.static += self.close_profit + self.position_profit(price) - self.commission
        self.close_profit = self.commission = 0.0
        for symbol, _, lot in self._open_lots():
            lot.mark = price(symbol)
        self.day = day

    # ---- figures

    def _profit(self, symbol: str, way: str, volume: int, since: float, now: float) -> float:
        sign = 1 if way == LONG else -1
        return sign * (now - since) * volume * self._contracts[symbol].multiplier

    def position_profit(self, price: Price) -> float:
        """Profit of what is held since the last settlement."""
        return sum(
            self._profit(symbol, way, lot.volume, lot.mark, price(symbol))
            for symbol, way, lot in self._open_lots()
        )

    def float_profit(self, price: Price) -> float:
        """Profit of what is held since it was opened."""
        return sum(
            self._profit(symbol, way, lot.volume, lot.opened_at, price(symbol))
            for symbol, way, lot in self._open_lots()
        )

    def margin(self) -> float:
        """What is reserved for what is held."""
        return sum(
            lot.volume * self._contracts[symbol].margin_of(lot.mark)
            for symbol, _, lot in self._open_lots()
        )

    def balance(self, price: Price) -> float:
        """The equity."""
        return self.static + self.close_profit + self.position_profit(price) - self.commission

    def tree(self, price: Price, frozen_margin: float) -> dict[str, Any]:
        """The account as the protocol writes it."""
        balance, margin = self.balance(price), self.margin()
        return {
            "user_id": self.user,
            "currency": "CNY",
            "pre_balance": self.static,
            "static_balance": self.static,
            "balance": balance,
            "available": balance - margin - frozen_margin,
            "float_profit": self.float_profit(price),
            "position_profit": self.position_profit(price),
            "close_profit": self.close_profit,
            "frozen_margin": frozen_margin,
            "margin": margin,
            "commission": self.commission,
            "frozen_commission": 0.0,
            "frozen_premium": 0.0,
            "premium": 0.0,
            "deposit": 0.0,
            "withdraw": 0.0,
            "market_value": 0.0,
            "risk_ratio": margin / balance if balance else 0.0,
        }

    def positions(self, price: Price) -> dict[str, dict[str, Any]]:
        """The positions as the protocol writes them; one that was closed stays, with zeros."""
        symbols = sorted({symbol for symbol, _ in self._lots})
        return {symbol: self._position(symbol, price(symbol)) for symbol in symbols}

    def _position(self, symbol: str, price: float) -> dict[str, Any]:
        exchange, code = symbol.split(".", 1)
        tree: dict[str, Any] = {
            "user_id": self.user,
            "exchange_id": exchange,
            "instrument_id": code,
            "last_price": price,
        }
        for way in (LONG, SHORT):
            tree |= self._side(symbol, way, price)
        for name in ("float_profit", "position_profit", "margin"):
            tree[name] = tree[f"{name}_{LONG}"] + tree[f"{name}_{SHORT}"]
        return tree

    def _side(self, symbol: str, way: str, price: float) -> dict[str, Any]:
        lots = self._lots.get((symbol, way), [])
        contract = self._contracts[symbol]
        volume = sum(lot.volume for lot in lots)
        today, earlier = (self.volume(symbol, way, is_today) for is_today in (True, False))
        opened = sum(lot.volume * lot.opened_at for lot in lots)
        marked = sum(lot.volume * lot.mark for lot in lots)
        return {
            f"pos_{way}_today": today,
            f"pos_{way}_his": earlier,
            f"volume_{way}_today": today,
            f"volume_{way}_his": earlier,
            f"volume_{way}": volume,
            # The protocol writes what is no number as a dash.
            f"open_price_{way}": opened / volume if volume else "-",
            f"open_cost_{way}": opened * contract.multiplier,
            f"position_price_{way}": marked / volume if volume else "-",
            f"position_cost_{way}": marked * contract.multiplier,
            f"float_profit_{way}": sum(
                self._profit(symbol, way, lot.volume, lot.opened_at, price) for lot in lots
            ),
            f"position_profit_{way}": sum(
                self._profit(symbol, way, lot.volume, lot.mark, price) for lot in lots
            ),
            f"margin_{way}": sum(lot.volume * contract.margin_of(lot.mark) for lot in lots),
        }
