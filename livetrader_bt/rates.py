"""What one unit of each currency is worth in the base currency: fixed, or as a feed says."""

from __future__ import annotations

import math
from collections.abc import Mapping

from livetrader_core.errors import ConfigError, UnknownSymbol
from livetrader_core.models import market_of

#: Before a symbol: its price is how much of the currency one unit of the base is.
_INVERSE = "1/"


class Rates:
    """Rates by currency.

    A rate is a number, or the symbol whose price it is: ``{"EUR": "FOREX.EURUSD"}``; where one
    unit of the base is priced in the currency, ``{"JPY": "1/FOREX.USDJPY"}``.
    """

    def __init__(self, base: str = "USD", rates: Mapping[str, float | str] | None = None) -> None:
        self.base = base
        self._fixed: dict[str, float] = {base: 1.0}
        self._followed: dict[str, tuple[str, bool]] = {}
        self._prices: dict[str, float] = {}
        self._first: dict[str, float] = {}
        for currency, rate in (rates or {}).items():
            if currency != base:
                self._set(currency, rate)

    def _set(self, currency: str, rate: float | str) -> None:
        if isinstance(rate, str):
            symbol = rate.removeprefix(_INVERSE)
            try:
                market_of(symbol)
            except UnknownSymbol as error:
                raise ConfigError(f"rates: {currency}: {error}") from None
            self._followed[currency] = symbol, rate.startswith(_INVERSE)
        elif math.isfinite(rate) and rate > 0:
            self._fixed[currency] = float(rate)
        else:
            raise ConfigError(f"rates: {currency} = {rate!r}: it must be a number above 0")

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that rates follow."""
        return tuple(dict.fromkeys(symbol for symbol, _ in self._followed.values()))

    def seed(self, symbol: str, price: float) -> None:
        """Take ``price`` of ``symbol`` as the one that runs begin with."""
        self._first[symbol] = self._prices[symbol] = price

    def reset(self) -> None:
        """A run begins: rates are what they were seeded with."""
        self._prices = dict(self._first)

    def follow(self, symbol: str, price: float) -> None:
        """Take ``price`` of ``symbol`` for the rates that follow it."""
        if price > 0:
            self._prices[symbol] = price

    def knows(self, symbol: str) -> bool:
        """Whether ``symbol`` was seeded."""
        return symbol in self._first

    def of(self, currency: str) -> float:
        """The rate of ``currency``. Raises ConfigError naming it if there is none."""
        if currency in self._fixed:
            return self._fixed[currency]
        symbol, inverse = self._followed.get(currency, ("", False))
        if symbol in self._prices:
            price = self._prices[symbol]
            return 1.0 / price if inverse else price
        if symbol:
            raise ConfigError(
                f"the rate from {currency} to {self.base} follows {symbol}, of which no price is "
                "known yet"
            )
        raise ConfigError(
            f"no rate from {currency} to {self.base}: give one, as in "
            f"rates={{'{currency}': …}} or under [rates] in livetrader.toml"
        )
