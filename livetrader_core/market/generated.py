"""Made-up klines that behave like a market: for demonstrations and tests, never for judgement."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from livetrader_core.errors import ConfigError, UnknownSymbol
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, Floats, Ints, Klines, market_of
from livetrader_core.timeframe import MINUTE_MS

DEFAULT_SYMBOLS = (
    "BINANCE.BTCUSDT",
    "DCE.m2605",
    "FOREX.EURUSD",
    "FOREX.USDJPY",
    "SHFE.cu2605",
    "SHFE.rb2605",
    "US.AAPL",
    "US.BABA",
    "US.MSFT",
)
DEFAULT_START = "2025-09-01"
DEFAULT_DAYS = 120

_FIRST_DAY = date(2000, 1, 3)
_SUBSTEPS = 4
_REVERSION = 0.004  # of the level, a day: keeps prices of many years in a plausible range
_GAP_SHARE = 0.25  # how much of a day's move happens between the sessions

#: MARKET: standard deviation of a day's return.
_DAILY_VOLATILITY = {"US": 0.022, "FOREX": 0.006, "BINANCE": 0.035}
_FUTURES_VOLATILITY = 0.013
_PRICES = {
    "BINANCE.BTCUSDT": 60_000.0,
    "FOREX.EURUSD": 1.12,
    "US.AAPL": 220.0,
    "US.BABA": 120.0,
    "US.MSFT": 480.0,
}
_US_REGULAR = (9 * 60 + 30, 16 * 60)


class GeneratedSource:
    """One-minute klines made from ``seed``, by each market's own hours.

    ``days`` calendar days of trading days from ``start`` (a date, YYYY-MM-DD) on. What a day of a
    symbol holds depends on the seed, the symbol and the day alone. Raises ConfigError and
    UnknownSymbol.
    """

    def __init__(
        self,
        symbols: Sequence[str] | None = None,
        seed: int = 0,
        start: str | date = DEFAULT_START,
        days: int = DEFAULT_DAYS,
    ) -> None:
        self.seed = _whole("seed", seed, least=0)
        self.days = _whole("days", days, least=1)
        self.start = _date(start)
        names = sorted(DEFAULT_SYMBOLS if symbols is None else set(symbols))
        self._contracts = {symbol: default_contract(symbol) for symbol in names}
        self._klines: dict[str, Klines] = {}

    def symbols(self) -> list[str]:
        """The symbols it makes, sorted."""
        return list(self._contracts)

    def contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``. Raises UnknownSymbol."""
        try:
            return self._contracts[symbol]
        except KeyError:
            raise UnknownSymbol(
                f"{symbol} is not generated; there are {', '.join(self._contracts)}"
            ) from None

    def klines(self, symbol: str) -> Klines:
        """All one-minute klines of ``symbol``. Raises UnknownSymbol."""
        if symbol not in self._klines:
            self._klines[symbol] = self._generate(self.contract(symbol))
        return self._klines[symbol]

    def _generate(self, contract: Contract) -> Klines:
        maker = _Maker(contract, self.seed)
        candidates = (self.start + timedelta(days=n) for n in range(self.days))
        parts = [maker.day(day) for day in candidates if contract.sessions.is_trading_day(day)]
        return Klines.concat(parts) if parts else Klines.empty(contract.symbol, "1m")


class _Maker:
    """Makes the days of one symbol."""

    def __init__(self, contract: Contract, seed: int) -> None:
        self.contract = contract
        self.market = market_of(contract.symbol)
        self.key = zlib.crc32(contract.symbol.encode())
        self.seed = seed
        self.decimals = _decimals(contract.price_tick)
        self.tick_units = round(contract.price_tick * 10**self.decimals)
        self.price = _PRICES.get(contract.symbol) or self._usual_price()
        self.volatility = _DAILY_VOLATILITY.get(self.market, _FUTURES_VOLATILITY)

    def _usual_price(self) -> float:
        draw = self.key % 1000 / 1000
        if self.market == "US":
            return 20 + 300 * draw
        if self.market == "FOREX":
            return 150.0 if self.contract.currency == "JPY" else 0.8 + 0.6 * draw
        return self.contract.price_tick * (3000 + 3000 * draw)

    def day(self, day: date) -> Klines:
        """The klines of one trading day."""
        number = (day - _FIRST_DAY).days
        random = np.random.default_rng([self.seed, self.key, number])
        times, weights = self._minutes(day, random)
        levels, moods = _levels(self.seed, self.key, self.volatility)
        path = self._path(levels[number], levels[number + 1], moods[number], weights, random)
        open_, high, low, close = self._on_ticks(path)
        volume = self._volume(weights, high - low, random)
        return Klines(
            self.contract.symbol,
            "1m",
            times,
            open_,
            high,
            low,
            close,
            volume,
            self._open_interest(number, volume, random),
        )

    def _minutes(self, day: date, random: np.random.Generator) -> tuple[Ints, Floats]:
        """The minutes in which something traded, and how busy each was."""
        sessions = self.contract.sessions
        times = np.concatenate([np.arange(a, b, MINUTE_MS) for a, b in sessions.bounds(day)])
        weights = np.concatenate([self._busy(a, b) for a, b in sessions.bounds(day)])
        likely = np.clip(weights * 2.5, 0.0, 0.995)
        traded = random.random(len(times)) < likely
        traded[0] = True  # no day without a kline
        return times[traded], weights[traded]

    def _busy(self, start: int, end: int) -> Floats:
        """How busy each minute of a session is: more at its ends, less in the middle."""
        length = (end - start) // MINUTE_MS
        if self.market == "US":
            first, last = self.contract.sessions.day[0]
            return _us_busy(np.arange(first, last))
        place = np.linspace(-1.0, 1.0, length)
        return np.asarray(0.6 + 0.8 * place**2, np.float64)

    def _path(
        self, before: float, after: float, mood: float, weights: Floats, random: np.random.Generator
    ) -> Floats:
        """Prices through the day, a row of sub-steps for each kline, ending at ``after``."""
        count = len(weights)
        spread = weights * np.exp(0.5 * np.repeat(random.normal(size=count // 30 + 1), 30)[:count])
        spread *= self.volatility * mood / np.sqrt(_SUBSTEPS * np.sum(spread**2))
        steps = random.normal(size=(count, _SUBSTEPS)) * spread[:, None]
        walk = np.cumsum(steps.ravel())
        start = before + _GAP_SHARE * (after - before)
        clock = np.cumsum(np.repeat(spread**2, _SUBSTEPS))
        # A bridge: the walk bent so that it ends where the next day expects it.
        bridge = start + walk + (after - start - walk[-1]) * clock / clock[-1]
        opens = np.r_[start, bridge[_SUBSTEPS - 1 : -1 : _SUBSTEPS]]
        opens += random.normal(size=count) * spread * 0.3
        path = np.column_stack([opens, bridge.reshape(count, _SUBSTEPS)])
        return np.asarray(self.price * np.exp(path), np.float64)

    def _on_ticks(self, path: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        ticks = np.maximum(np.rint(path / self.contract.price_tick), 1.0)
        # Whole units divided by a power of ten give the very float one would write.
        prices = ticks * self.tick_units / 10.0**self.decimals
        return prices[:, 0].copy(), prices.max(axis=1), prices.min(axis=1), prices[:, -1].copy()

    def _volume(self, weights: Floats, spread: Floats, random: np.random.Generator) -> Floats:
        typical = {"US": 9000.0, "FOREX": 60.0, "BINANCE": 8.0}.get(self.market, 900.0)
        drawn = typical * weights * np.exp(random.normal(size=len(weights)) * 0.8)
        drawn *= 0.5 + spread / max(float(spread.mean()), self.contract.price_tick)
        if self.contract.quantity_step < 0.01:
            return np.round(drawn, 5) + 1e-5
        return np.rint(drawn) + 1.0

    def _open_interest(
        self, number: int, volume: Floats, random: np.random.Generator
    ) -> Floats | None:
        if self.contract.currency != "CNY":
            return None
        start = 100_000 + 40_000 * np.sin(number / 25 + self.key % 7)
        change = np.cumsum(np.rint(volume * random.normal(size=len(volume)) * 0.1))
        return np.asarray(np.maximum(np.rint(start) + change, 0.0), np.float64)


@lru_cache(maxsize=64)
def _levels(seed: int, key: int, volatility: float) -> tuple[list[float], list[float]]:
    """The logarithm of the price before each day since the first, and how restless each day is."""
    random = np.random.default_rng([seed, key])
    count = 365 * 60
    shocks, moods = random.normal(size=count).tolist(), random.normal(size=count).tolist()
    level, mood = 0.0, 0.0
    levels, factors = [level], []
    for shock, change in zip(shocks, moods, strict=True):
        mood = 0.95 * mood + 0.12 * change
        factor = float(np.exp(mood))
        level += shock * volatility * factor - _REVERSION * level
        levels.append(level)
        factors.append(factor)
    return levels, factors


def _us_busy(minutes: Ints) -> Floats:
    start, end = _US_REGULAR
    place = (minutes - start) / (end - start) * 2 - 1
    regular = 0.6 + 0.8 * place**2
    outside = np.where(minutes < start, minutes - 240, 1200 - minutes) / 330 * 0.1 + 0.04
    return np.where((minutes >= start) & (minutes < end), regular, outside)


def _decimals(tick: float) -> int:
    return next(n for n in range(11) if abs(tick * 10**n - round(tick * 10**n)) < 1e-9)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: must be a whole number of at least {least}, not {value!r}")
    return value


def _date(value: object) -> date:
    try:
        day = value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError:
        raise ConfigError(f"start: must be a date such as 2025-09-01, not {value!r}") from None
    if day < _FIRST_DAY:
        raise ConfigError(f"start: nothing is generated before {_FIRST_DAY}, not {day}")
    return day
