"""KlineStore: klines on disk, in DuckDB."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from livetrader_core.errors import DataError, InvalidRequest, StorageError
from livetrader_core.market.recorded import kline_labels, write_klines
from livetrader_core.models import VALUE_COLUMNS, Klines, market_of
from livetrader_core.timeframe import duration_ms

# A number stands for symbol and timeframe in each row: the key is then short, and twice as fast.
_SCHEMA = """
    CREATE SEQUENCE IF NOT EXISTS series_ids;
    CREATE TABLE IF NOT EXISTS series (
        id INTEGER PRIMARY KEY DEFAULT nextval('series_ids'),
        symbol VARCHAR NOT NULL, timeframe VARCHAR NOT NULL,
        UNIQUE (symbol, timeframe)
    );
    CREATE TABLE IF NOT EXISTS klines (
        series INTEGER, datetime BIGINT,
        open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, volume DOUBLE, open_interest DOUBLE,
        trading_day BIGINT,
        PRIMARY KEY (series, datetime)
    );
"""
_COLUMNS = ("datetime", *VALUE_COLUMNS, "trading_day")


@dataclass(frozen=True)
class StoredRange:
    """What is stored of one symbol and timeframe: its first and last open (UTC ms), how many."""

    symbol: str
    timeframe: str
    first: int
    last: int
    count: int


class KlineStore:
    """Closed klines by symbol, timeframe and time, in one file.

    One process at a time can have it open; within it, threads may share it. Every method raises
    StorageError if the file cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writing = threading.Lock()
        with _storage(f"{self.path} cannot be opened"):
            self._connection = self._open()
            self._connection.execute(_SCHEMA)

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            return duckdb.connect(str(self.path))
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise
            raise StorageError(
                f"{self.path} is open in another process; only one can have it. Read through "
                "the livetrader server that serves it, or stop that process"
            ) from error

    def write(self, klines: Klines) -> int:
        """Store ``klines``, replacing those of the same moments; returns how many were written.

        A forming kline is left out. Raises DataError if they do not ascend in time.
        """
        market_of(klines.symbol)
        duration_ms(klines.timeframe)
        if klines.forming:
            klines = klines[:-1]
        if not len(klines):
            return 0
        if not np.all(klines.datetime[1:] > klines.datetime[:-1]):
            raise DataError(f"{klines.symbol} {klines.timeframe}: klines do not ascend in time")
        days = np.zeros(len(klines), np.int64) if klines.trading_day is None else klines.trading_day
        batch = dict(zip(_COLUMNS, (klines.datetime, *klines.columns(), days), strict=True))
        with self._writing, self._cursor() as cursor:
            cursor.register("batch", batch)
            cursor.begin()
            series = _series_id(cursor, klines.symbol, klines.timeframe, create=True)
            first, last = int(klines.datetime[0]), int(klines.datetime[-1])
            taken = cursor.execute(
                "SELECT 1 FROM klines WHERE series = ? AND datetime BETWEEN ? AND ? LIMIT 1",
                [series, first, last],
            ).fetchone()
            insert = "INSERT OR REPLACE" if taken else "INSERT"  # the plain one is faster
            cursor.execute(
                f"{insert} INTO klines SELECT ?, {', '.join(_COLUMNS)} FROM batch", [series]
            )
            cursor.commit()
        return len(klines)

    def read(
        self,
        symbol: str,
        timeframe: str = "1m",
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
    ) -> Klines:
        """Klines that open in [``from_ts``, ``to_ts``), the newest ``limit`` of them."""
        duration_ms(timeframe)
        with self._cursor() as cursor:
            series = _series_id(cursor, symbol, timeframe)
            sql = f"SELECT {', '.join(_COLUMNS)} FROM klines WHERE series = ?"
            values: list[Any] = [series]
            for comparison, bound in ((">=", from_ts), ("<", to_ts)):
                if bound is not None:
                    sql += f" AND datetime {comparison} ?"
                    values.append(bound)
            if limit is not None:
                sql += " ORDER BY datetime DESC LIMIT ?"
                values.append(limit)
            columns = cursor.execute(sql, values).fetchnumpy()
        return _in_order(symbol, timeframe, columns)

    def ranges(self) -> list[StoredRange]:
        """What is stored, by symbol and timeframe."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT symbol, timeframe, min(datetime), max(datetime), count(*) "
                "FROM klines JOIN series ON series = id GROUP BY ALL ORDER BY symbol, timeframe"
            ).fetchall()
        return [StoredRange(*row) for row in rows]

    def export(self, symbol: str, timeframe: str, path: str | Path) -> int:
        """Write all klines of ``symbol`` to a ``.csv``, ``.csv.gz`` or ``.parquet`` file.

        The columns are those of :mod:`livetrader_core.market.recorded`. The file appears whole or
        not at all; returns how many klines it holds. Raises InvalidRequest for another suffix or
        if nothing is stored.
        """
        path = Path(path)
        writer = self._writer(path)
        klines = self.read(symbol, timeframe)
        if not len(klines):
            raise InvalidRequest(f"{symbol} {timeframe}: nothing is stored in {self.path}")
        with _storage(f"{path} cannot be written"), _appearing(path) as unfinished:
            writer(unfinished, klines)
        return len(klines)

    def _writer(self, path: Path) -> Callable[[Path, Klines], None]:
        if path.name.endswith((".csv", ".csv.gz")):
            return write_klines
        if path.suffix == ".parquet":
            return self._write_parquet
        raise InvalidRequest(f"{path}: the name of an export must end in .csv, .csv.gz or .parquet")

    def _write_parquet(self, path: Path, klines: Klines) -> None:
        columns = (kline_labels(klines), *klines.columns())
        batch = dict(zip(("datetime_utc_ms", *VALUE_COLUMNS), columns, strict=True))
        with self._cursor() as cursor:
            cursor.register("batch", batch)
            cursor.sql("SELECT * FROM batch").write_parquet(str(path))

    def close(self) -> None:
        """Close the file; may be called more than once."""
        self._connection.close()

    def __enter__(self) -> KlineStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        # A connection serves one thread at a time; a cursor is a connection of its own.
        with _storage(str(self.path)), self._connection.cursor() as cursor:
            yield cursor


def _series_id(
    cursor: duckdb.DuckDBPyConnection, symbol: str, timeframe: str, create: bool = False
) -> int | None:
    key = [symbol, timeframe]
    if create:
        cursor.execute("INSERT OR IGNORE INTO series (symbol, timeframe) VALUES (?, ?)", key)
    row = cursor.execute("SELECT id FROM series WHERE symbol = ? AND timeframe = ?", key).fetchone()
    return row[0] if row else None


def _in_order(symbol: str, timeframe: str, columns: Mapping[str, npt.NDArray[Any]]) -> Klines:
    datetime, *prices, days = (columns[name] for name in _COLUMNS)
    if not np.all(datetime[1:] > datetime[:-1]):
        # Sorting here costs a tenth of what ORDER BY costs where all rows are read.
        order = np.argsort(datetime)
        datetime, days = datetime[order], days[order]
        prices = [column[order] for column in prices]
    return Klines.from_columns(
        symbol, timeframe, datetime, prices, trading_day=days if timeframe == "1d" else None
    )


@contextmanager
def _storage(what: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise StorageError(f"{what}: {error}") from error


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when it is done."""
    # A folder of its own keeps the suffix, by which writers choose the format.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)
