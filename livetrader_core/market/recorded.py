"""Klines and ticks in CSV files, plain or gzip: ``SYMBOL-TIMEFRAME[_anything].csv[.gz]``.

The first line names the columns: ``datetime_utc_ms,open,high,low,close,volume``, then
``open_interest`` if there is one; further columns are ignored. ``datetime_utc_ms`` is the moment a
kline opens. A ``-1d`` file holds the trading day instead, as 00:00 UTC of its date. A ``-tick``
file has ``datetime_utc_ms`` and any of the fields of a Tick.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from livetrader_core.errors import DataError
from livetrader_core.market.aggregate import session_opens
from livetrader_core.models import VALUE_COLUMNS, Floats, Ints, Klines, Tick
from livetrader_core.sessions import Sessions, as_yyyymmdd, from_yyyymmdd
from livetrader_core.timeframe import DAY_MS, DURATIONS_MS

Bools = npt.NDArray[np.bool_]

TICK = "tick"
KLINE_HEADER = ("datetime_utc_ms", *VALUE_COLUMNS)
_REQUIRED = KLINE_HEADER[:-1]
_TICK_FIELDS = ("last", "bid", "ask", "bid_size", "ask_size", "volume", "open_interest")
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_NAME = re.compile(
    rf"(?P<symbol>[^.]+\..+)-(?P<timeframe>{'|'.join(DURATIONS_MS)}|{TICK})(_.*)?\.csv(\.gz)?"
)


@dataclass(frozen=True)
class RecordedFile:
    """A file of recorded klines or ticks (``timeframe`` is then "tick")."""

    path: Path
    symbol: str
    timeframe: str


def recorded_file(path: Path) -> RecordedFile | None:
    """What a file holds by its name; None if it is not named as a recording is."""
    matched = _NAME.fullmatch(path.name)
    return RecordedFile(path, matched["symbol"], matched["timeframe"]) if matched else None


@dataclass(frozen=True)
class Ticks:
    """Ticks of one symbol by columns, in order of time; a field that is missing is 0."""

    symbol: str
    datetime: Ints
    fields: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.datetime)

    def rows(self, start: int, stop: int) -> Iterator[Tick]:
        """The ticks from row ``start`` up to ``stop``."""
        columns = [values[start:stop].tolist() for values in self.fields.values()]
        for ts, *values in zip(self.datetime[start:stop].tolist(), *columns, strict=True):
            yield Tick(self.symbol, ts, **dict(zip(self.fields, values, strict=True)))


# --------------------------------------------------------------------------- reading


def read_klines(path: Path, symbol: str, timeframe: str, sessions: Sessions) -> Klines:
    """The klines in ``path``. Raises DataError naming the file and the first bad line."""
    table = _read_table(path, _kline_columns)
    _check_klines(table)
    datetime, days = table.datetime(), None
    if timeframe == "1d":
        days = _trading_days(table, datetime, sessions)
        datetime = session_opens(days, sessions)
    columns = [np.ascontiguousarray(column) for column in table.values.T[1:]]
    if len(columns) < len(VALUE_COLUMNS):
        columns.append(np.zeros(len(datetime)))
    return Klines.from_columns(symbol, timeframe, datetime, columns, trading_day=days)


def read_ticks(path: Path, symbol: str) -> Ticks:
    """The ticks in ``path``. Raises DataError naming the file and the first bad line."""
    table = _read_table(path, _tick_columns)
    values, ts = table.values, table.values[:, 0]
    table.refuse(
        (_not_finite(values), "a value is not a finite number"),
        (_bad_times(ts), "datetime_utc_ms is not a whole number of milliseconds"),
        (np.r_[False, ts[1:] < ts[:-1]], "its time lies before that of the row above"),
        (_negative(values[:, 1:]), "a value is negative"),
    )
    columns = zip(table.names[1:], table.values.T[1:], strict=True)
    fields = {name: np.ascontiguousarray(values) for name, values in columns}
    return Ticks(symbol, table.datetime(), fields)


@dataclass(frozen=True)
class _Table:
    """Numbers of a CSV file, one row a line, and where they came from."""

    path: Path
    names: list[str]
    values: Floats
    lines: list[str]

    def datetime(self) -> Ints:
        return self.values[:, 0].astype(np.int64)

    def line_of(self, row: int) -> int:
        """The line (from 1) that holds data row ``row``: blank lines are not rows."""
        filled = [number for number, line in enumerate(self.lines, 2) if line.strip()]
        return filled[row]

    def refuse(self, *checks: tuple[Bools, str]) -> None:
        """Raise DataError for the first row for which a check is true."""
        failures = [(int(bad.argmax()), reason) for bad, reason in checks if bad.any()]
        if failures:
            row, reason = min(failures, key=lambda failure: failure[0])
            raise DataError(f"{self.path}, line {self.line_of(row)}: {reason}")


def _read_table(path: Path, choose: Callable[[Path, list[str]], list[str]]) -> _Table:
    header, *lines = _read_text(path).split("\n")
    columns = [name.strip() for name in header.split(",")]
    names = choose(path, columns)
    used = [columns.index(name) for name in names]
    if not any(line.strip() for line in lines):
        return _Table(path, names, np.empty((0, len(names))), lines)
    commas = len(columns) - 1
    if any(line.count(",") != commas for line in lines if line):
        _explain(path, lines, columns, used)
    try:
        values = np.loadtxt(lines, delimiter=",", comments=None, usecols=used, ndmin=2)
    except ValueError as error:
        _explain(path, lines, columns, used)
        raise DataError(f"{path}: {error}") from error
    return _Table(path, names, values, lines)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is not a whole gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _kline_columns(path: Path, columns: list[str]) -> list[str]:
    if tuple(columns[: len(_REQUIRED)]) != _REQUIRED:
        raise DataError(
            f"{path}, line 1: the columns must begin with {','.join(_REQUIRED)}, "
            f"not {','.join(columns[: len(_REQUIRED)])!r}"
        )
    return [name for name in KLINE_HEADER if name in columns]


def _tick_columns(path: Path, columns: list[str]) -> list[str]:
    fields = [name for name in _TICK_FIELDS if name in columns]
    if columns[0] != "datetime_utc_ms" or not {"last", "bid", "ask"} & set(fields):
        raise DataError(
            f"{path}, line 1: the columns must be datetime_utc_ms and some of "
            f"{','.join(_TICK_FIELDS)}, not {','.join(columns)!r}"
        )
    return ["datetime_utc_ms", *fields]


def _explain(path: Path, lines: list[str], columns: list[str], used: list[int]) -> None:
    """Raise DataError for the first line that cannot be read as numbers."""
    for number, line in enumerate(lines, 2):
        cells = line.split(",")
        if not line.strip():
            continue
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {number}: {len(cells)} columns, but the header names {len(columns)}"
            )
        for index in used:
            try:
                float(cells[index])
            except ValueError:
                raise DataError(
                    f"{path}, line {number}: {columns[index]} is {cells[index]!r}, not a number"
                ) from None


def _check_klines(table: _Table) -> None:
    names, values = table.names, table.values
    ts, (open_, high, low, close), volume = values[:, 0], values.T[1:5], values[:, 5]
    step = np.diff(ts, prepend=ts[:1] - 1)
    table.refuse(
        (_not_finite(values), "a value is not a finite number"),
        (_bad_times(ts), "datetime_utc_ms is not a whole number of milliseconds"),
        (step == 0, "its time is that of the row above"),
        (step < 0, "its time lies before that of the row above"),
        (_low_prices(values[:, 1:5]), "a price is not above 0"),
        (high < low, "high lies below low"),
        ((high < open_) | (high < close), "high lies below open or close"),
        ((low > open_) | (low > close), "low lies above open or close"),
        (volume < 0, "volume is negative"),
        (_negative(values[:, 6:]), f"{names[-1]} is negative"),
    )


def _not_finite(values: Floats) -> Bools:
    return np.asarray(~np.isfinite(values).all(axis=1), np.bool_)


def _negative(values: Floats) -> Bools:
    return np.asarray((values < 0).any(axis=1), np.bool_)


def _low_prices(prices: Floats) -> Bools:
    return np.asarray((prices <= 0).any(axis=1), np.bool_)


def _bad_times(ts: Floats) -> Bools:
    return np.not_equal(np.floor(ts), ts) | (ts < 0) | (ts > _LATEST_MS)


def _trading_days(table: _Table, labels: Ints, sessions: Sessions) -> Ints:
    table.refuse((labels % DAY_MS != 0, "the time of a daily row must be 00:00 UTC of its date"))
    dates = [date.fromordinal(_EPOCH_ORDINAL + label // DAY_MS) for label in labels.tolist()]
    closed = np.array([not sessions.is_trading_day(day) for day in dates], np.bool_)
    table.refuse((closed, "its date is no trading day of this market"))
    return np.array([as_yyyymmdd(day) for day in dates], np.int64)


# --------------------------------------------------------------------------- writing


def write_klines(path: Path, klines: Klines) -> None:
    """Write ``klines`` as a CSV file, gzip if its name ends so. Raises OSError."""
    columns = [kline_labels(klines).tolist(), *map(_shortest, klines.columns())]
    line = ",".join(["%r"] * len(columns)) + "\n"
    with _open_to_write(path) as file:
        file.write(",".join(KLINE_HEADER) + "\n")
        file.writelines(line % row for row in zip(*columns, strict=True))


def kline_labels(klines: Klines) -> Ints:
    """What ``datetime_utc_ms`` says of each kline: its open, or of a daily one its date."""
    if klines.trading_day is None:
        return klines.datetime
    days = [from_yyyymmdd(day).toordinal() for day in klines.trading_day.tolist()]
    return (np.array(days, np.int64) - _EPOCH_ORDINAL) * DAY_MS


def _shortest(column: Floats) -> list[Any]:
    """The numbers of ``column``, as integers where all of them are whole."""
    whole = bool(np.all((column == np.floor(column)) & (np.abs(column) < 2**53)))
    values: list[Any] = (column.astype(np.int64) if whole else column).tolist()
    return values


@contextmanager
def _open_to_write(path: Path) -> Iterator[TextIO]:
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    # No name and no time inside, so that the same klines give the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text
