"""ReplayMarket: recorded or generated klines and ticks as a market, at any speed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from livetrader_core.errors import ConfigError, InvalidRequest, UnknownSymbol
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.base import MarketBase
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.playback import Feed, Playback
from livetrader_core.market.recorded import Ticks
from livetrader_core.market.shift import shift_contract, shift_klines, shift_ticks
from livetrader_core.market.sources import (
    STORE_SUFFIXES,
    FileSource,
    MadeUpSource,
    Source,
    StoreSource,
)
from livetrader_core.models import Contract, Ints, Kline, Klines, Tick, market_of
from livetrader_core.timeframe import DAY_MS, duration_ms

if TYPE_CHECKING:
    from livetrader_core.store import KlineStore

#: A moment as settings give it: UTC milliseconds, or ISO 8601 (UTC where it names no offset).
Moment = int | str | date | datetime


#: How much is generated before a given start, and after it if no end is given.
_AROUND_MS = 60 * DAY_MS


@dataclass(frozen=True)
class _Series:
    """All klines of one stream, and when each closes."""

    klines: Klines
    ends: Ints


class ReplayMarket(MarketBase):
    """Klines and ticks of the past, given as if they happened now.

    ``source``: a CSV file or a folder of them (see :mod:`livetrader_core.market.recorded`), a
    KlineStore or the path of one (``.duckdb``, ``.db``), a GeneratedSource, or ``"generated"``,
    which makes klines of ``symbols`` from ``seed``, around ``start`` and ``end`` if they are given;
    or a :class:`~livetrader_core.market.sources.Source` of one's own, which knows its contracts.
    ``symbols`` limits what is shown; ``contracts`` is a JSON file of contracts (by default
    ``contracts.json`` in the folder).

    Until it begins it is an archive: everything is history, and streams wait. With ``start`` (UTC
    milliseconds or an ISO date and time) it begins when it is connected, else with :meth:`begin`;
    after ``end`` every stream ends.

    ``speed`` 1 is real time, 60 a minute each second; ``"max"`` is as fast as it is read. At
    ``"max"`` nothing moves while no kline or tick is watched.

    ``shift_weeks`` moves klines, ticks and expiries by whole weeks, all of them or by MARKET or
    symbol: ``{"SHFE": 52}``. The local time of day in the market's own time zone stays, so that
    its hours stay; where daylight saving differs between the two dates, the UTC time of day moves
    by that difference. A local time that the new date lacks is left out, and of two klines that
    would come to one moment the first is kept; neither happens in the hours of the markets known
    here.

    Timeframes above ``1m`` are made from it, unless they are recorded themselves. Raises
    ConfigError naming the setting at fault.
    """

    clocked = True

    def __init__(
        self,
        source: str | Path | KlineStore | GeneratedSource | Source = "generated",
        speed: float | str = "max",
        start: Moment | None = None,
        end: Moment | None = None,
        shift_weeks: int | Mapping[str, int] = 0,
        seed: int = 0,
        symbols: Sequence[str] | None = None,
        contracts: str | Path | None = None,
    ) -> None:
        names = _check_symbols(symbols)
        rate = _check_speed(speed)
        self.paced = rate is None
        self._start = None if start is None else moment_of("start", start)
        self._end = None if end is None else moment_of("end", end)
        if self._start is not None and self._end is not None and self._end < self._start:
            raise ConfigError(f"end: {end} lies before start, {start}")
        listed = _check_path("contracts", contracts)
        if source == "generated":
            self._source: Source = MadeUpSource(
                _generator(names, seed, self._start, self._end), listed
            )
        else:
            self._source = _open_source(source, listed)
        self._symbols = _select(self._source.symbols(), names)
        self.markets = tuple(sorted({market_of(symbol) for symbol in self._symbols}))
        self._weeks = _check_weeks(shift_weeks, self._symbols)
        self._playback = Playback(rate)
        self._contracts: dict[str, Contract] = {}
        self._series: dict[tuple[str, str], _Series] = {}
        self._ticks: dict[str, Ticks | None] = {}

    # ---- life

    async def connect(self) -> None:
        """Begin, if ``start`` was given."""
        if self._start is not None and not self._playback.begun:
            self.begin(self._start, self._end)

    async def disconnect(self) -> None:
        """End every stream; it is an archive again."""
        self._playback.stop()
        self._source.close()

    def begin(self, start: int, end: int | None = None) -> None:
        """Set the clock to ``start``: klines that close later are the future, up to ``end``.

        Both are UTC milliseconds. Raises InvalidRequest if it has begun already.
        """
        given = {"start": start} if end is None else {"start": start, "end": end}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidRequest(f"{name} must be UTC milliseconds, not {value!r}")
        self._playback.begin(start, end)

    @property
    def begun(self) -> bool:  # type: ignore[override]
        """Whether the replay has a clock; until then it is an archive."""
        return self._playback.begun

    def now(self) -> int:
        """The replay's clock once it has begun (UTC ms), before that the computer's."""
        return self._playback.now() if self._playback.begun else super().now()

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        """Closed klines after the clock; it takes part from this call on, not from first reading.

        Raises UnknownSymbol, UnknownTimeframe, DataError.
        """
        series = self._load(symbol, timeframe)
        return self._playback.watch(Feed(series.ends, partial(_rows, series.klines)))

    def watch_ticks(self, symbol: str) -> AsyncIterator[Tick]:
        """Recorded ticks after the clock. Raises InvalidRequest if there are none, DataError."""
        ticks = self._load_ticks(symbol)
        if ticks is None:
            raise InvalidRequest(f"{symbol}: no ticks are recorded; they need a file {symbol}-tick")
        return self._playback.watch(Feed(ticks.datetime, ticks.rows))

    def watch_clock(self) -> AsyncIterator[int]:
        """The clock, beginning with what it shows now: at first ``start`` itself."""
        return self._playback.watch_clock()

    # ---- requests

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        """As :meth:`MarketBase.get_kline_histories`; what closes after the clock is not shown.

        A forming kline is known of timeframes that are made from ``1m``. Raises DataError too.
        """
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        klines = self._history(symbol, timeframe)
        times = klines.datetime
        first = 0 if from_ts is None else int(np.searchsorted(times, from_ts))
        last = len(times) if to_ts is None else int(np.searchsorted(times, to_ts))
        if limit is not None:
            first = max(first, last - limit)
        wanted = klines[first : max(first, last)]
        if not forming or last < len(times):
            return wanted
        unfinished = self._forming(symbol, timeframe)
        if unfinished is None or (to_ts is not None and unfinished.datetime[0] >= to_ts):
            return wanted
        return Klines.concat([wanted, unfinished])

    async def get_contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``: from the contracts file, else the usual one of its market."""
        return self._contract(symbol)

    async def list_symbols(self) -> list[str]:
        """The symbols that are recorded, sorted."""
        return list(self._symbols)

    # ---- data

    def _contract(self, symbol: str) -> Contract:
        if symbol not in self._contracts:
            self._check_known(symbol)
            contract = self._source.contract(symbol)
            self._contracts[symbol] = shift_contract(contract, self._weeks_of(symbol))
        return self._contracts[symbol]

    def _check_known(self, symbol: str) -> None:
        market_of(symbol)
        if symbol not in self._symbols:
            raise UnknownSymbol(f"{symbol} is not recorded; there are {', '.join(self._symbols)}")

    def _weeks_of(self, symbol: str) -> int:
        return self._weeks.get(symbol, self._weeks.get(market_of(symbol), self._weeks.get("", 0)))

    def _load(self, symbol: str, timeframe: str) -> _Series:
        duration_ms(timeframe)
        series = self._series.get((symbol, timeframe))
        if series is None:
            sessions = self._contract(symbol).sessions
            klines = self._read(symbol, timeframe)
            for column in (klines.datetime, *klines.columns()):
                column.flags.writeable = False  # histories are views of it
            series = _Series(klines, sessions.kline_ends(klines.datetime, timeframe))
            self._series[symbol, timeframe] = series
        return series

    def _read(self, symbol: str, timeframe: str) -> Klines:
        contract, recorded = self._contract(symbol), self._source.timeframes(symbol)
        if timeframe in recorded:
            klines = self._source.klines(symbol, timeframe, contract)
            return shift_klines(klines, self._weeks_of(symbol), contract.sessions)
        if timeframe != "1m" and "1m" in recorded:
            return aggregate(self._load(symbol, "1m").klines, timeframe, contract.sessions)
        return Klines.empty(symbol, timeframe)

    def _load_ticks(self, symbol: str) -> Ticks | None:
        if symbol not in self._ticks:
            contract, ticks = self._contract(symbol), self._source.ticks(symbol)
            if ticks is not None:
                ticks = shift_ticks(ticks, self._weeks_of(symbol), contract.sessions)
            self._ticks[symbol] = ticks
        return self._ticks[symbol]

    def _history(self, symbol: str, timeframe: str) -> Klines:
        series = self._load(symbol, timeframe)
        if not self._playback.begun:
            return series.klines
        return series.klines[: np.searchsorted(series.ends, self.now(), side="right")]

    def _forming(self, symbol: str, timeframe: str) -> Klines | None:
        """What is known so far of the kline that holds the clock."""
        made = timeframe not in self._source.timeframes(symbol)
        if not (made and self._playback.begun):
            return None
        closed = self._history(symbol, "1m")
        known = len(self._history(symbol, timeframe))
        everything = self._load(symbol, timeframe).klines
        if known == len(everything):
            return None
        part = closed[np.searchsorted(closed.datetime, everything.datetime[known]) :]
        if not len(part):
            return None
        unfinished = aggregate(part, timeframe, self._contract(symbol).sessions)
        unfinished.forming = True
        return unfinished


def _rows(klines: Klines, start: int, stop: int) -> Iterator[Kline]:
    columns = [column[start:stop].tolist() for column in (klines.datetime, *klines.columns())]
    count = len(columns[0])
    closed = [True] * count
    days = [0] * count if klines.trading_day is None else klines.trading_day[start:stop].tolist()
    for row in zip(*columns, closed, days, strict=True):
        yield Kline(klines.symbol, klines.timeframe, *row)


# --------------------------------------------------------------------------- settings


def _generator(
    symbols: list[str] | None, seed: int, start: int | None, end: int | None
) -> GeneratedSource:
    try:
        if start is None:
            return GeneratedSource(symbols, seed)
        first, last = start - _AROUND_MS, (start + _AROUND_MS if end is None else end)
        day = datetime.fromtimestamp(first / 1000, timezone.utc).date()
        return GeneratedSource(symbols, seed, day, (last - first) // DAY_MS + 2)
    except UnknownSymbol as error:
        raise ConfigError(f"symbols: {error}") from None


def _open_source(source: object, listed: Path | None) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, GeneratedSource):
        return MadeUpSource(source, listed)
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.suffix in STORE_SUFFIXES:
            return StoreSource(path, listed)
        return FileSource(path, listed)
    if hasattr(source, "ranges"):  # isinstance would need DuckDB imported
        return StoreSource(cast("KlineStore", source), listed)
    raise ConfigError(
        f"source: must be a path, a KlineStore, a GeneratedSource or 'generated', not {source!r}"
    )


def _check_path(name: str, path: object) -> Path | None:
    if path is None or isinstance(path, str | Path):
        return None if path is None else Path(path).expanduser()
    raise ConfigError(f"{name}: must be the path of a file, not {path!r}")


def _select(recorded: list[str], wanted: list[str] | None) -> list[str]:
    if wanted is None:
        return recorded
    missing = [symbol for symbol in wanted if symbol not in recorded]
    if missing:
        raise ConfigError(
            f"symbols: {', '.join(missing)} not recorded; there are {', '.join(recorded)}"
        )
    return sorted(set(wanted))


def _check_symbols(symbols: object) -> list[str] | None:
    if symbols is None:
        return None
    if isinstance(symbols, str) or not isinstance(symbols, Sequence):
        raise ConfigError(f"symbols: must be a list of symbols, not {symbols!r}")
    for symbol in symbols:
        try:
            market_of(symbol)
        except UnknownSymbol as error:
            raise ConfigError(f"symbols: {error}") from None
    return list(symbols)


def _check_speed(speed: object) -> float | None:
    if speed == "max":
        return None
    number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if not (number and 0 < float(speed) < float("inf")):  # type: ignore[arg-type]
        raise ConfigError(f"speed: must be 'max' or a number above 0, not {speed!r}")
    return float(speed)  # type: ignore[arg-type]


def _check_weeks(value: Any, symbols: list[str]) -> dict[str, int]:
    """Weeks by symbol and MARKET; "" stands for all."""
    weeks = dict(value) if isinstance(value, Mapping) else {"": value}
    known = {"", *symbols, *map(market_of, symbols)}
    for key, count in weeks.items():
        name = f"shift_weeks.{key}" if key else "shift_weeks"
        if key not in known:
            raise ConfigError(f"{name}: no such symbol or market; there are {', '.join(symbols)}")
        if isinstance(count, bool) or not isinstance(count, int):
            raise ConfigError(f"{name}: must be a whole number of weeks, not {count!r}")
    return weeks


def moment_of(name: str, value: object) -> int:
    """A moment of a setting in UTC milliseconds. Raises ConfigError naming the setting."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    else:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    raise ConfigError(
        f"{name}: must be UTC milliseconds or a time such as 2020-11-02T14:30:00Z, not {value!r}"
    )
