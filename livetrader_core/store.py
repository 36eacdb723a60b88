"""KlineStore: klines on disk, in DuckDB."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from livetrader_core.errors import DataError, InvalidRequest, StorageError
from livetrader_core.market.ranges import Range, subtract, union
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
    CREATE TABLE IF NOT EXISTS covered (
        series INTEGER NOT NULL, from_ts BIGINT NOT NULL, to_ts BIGINT NOT NULL
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


@dataclass(frozen=True)
class Piece:
    """Klines to store, and the ranges of time of which nothing is missing once they are."""

    klines: Klines
    covered: Sequence[Range] = ()


class KlineStore:
    """Closed klines by symbol, timeframe and time, in one file.

    It also knows which ranges of time it has completely (:meth:`covered`): a minute without a
    kline in one of these had none at the venue.

    One process at a time can have it open; within it, threads may share it. Every method raises
    StorageError if the file cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writing = threading.Lock()
        self._known: dict[tuple[str, str], int] = {}
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
        return self.record([Piece(klines)])

    def record(self, pieces: Sequence[Piece]) -> int:
        """Store the klines of ``pieces`` and what they cover: all of it, or after a crash nothing.

        Returns how many klines were written. Raises DataError as :meth:`write` does.
        """
        closed = [_closed(piece.klines) for piece in pieces]
        if not any(map(len, closed)) and not any(piece.covered for piece in pieces):
            return 0
        with self._writing, self._cursor() as cursor:
            cursor.begin()
            ids = self._series_ids(cursor, [(k.symbol, k.timeframe) for k in closed])
            _insert(cursor, ids, closed)
            _cover(cursor, ids, [piece.covered for piece in pieces])
            cursor.commit()
            self._known.update(zip([(k.symbol, k.timeframe) for k in closed], ids, strict=True))
        return sum(map(len, closed))

    def covered(self, symbol: str, timeframe: str = "1m") -> list[Range]:
        """The ranges [from, to) of time of which every closed kline is stored, in order."""
        with self._cursor() as cursor:
            return _covered(cursor, self._series_id(cursor, symbol, timeframe))

    def uncover(self, symbol: str, timeframe: str, from_ts: int, to_ts: int) -> None:
        """Forget that [``from_ts``, ``to_ts``) is complete; what is stored stays."""
        with self._writing, self._cursor() as cursor:
            series = self._series_id(cursor, symbol, timeframe)
            cursor.begin()
            rest = subtract(_covered(cursor, series), from_ts, to_ts)
            cursor.execute("DELETE FROM covered WHERE series = ?", [series])
            for start, end in rest:
                cursor.execute("INSERT INTO covered VALUES (?, ?, ?)", [series, start, end])
            cursor.commit()

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
            series = self._series_id(cursor, symbol, timeframe)
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

    def _series_id(
        self, cursor: duckdb.DuckDBPyConnection, symbol: str, timeframe: str
    ) -> int | None:
        """The number of a series; None if nothing was stored of it."""
        known = self._known.get((symbol, timeframe))
        if known is None:
            # Fetched to the end: a result that is not holds up whatever the cursor does next.
            sql = "SELECT id FROM series WHERE symbol = ? AND timeframe = ?"
            rows = cursor.execute(sql, [symbol, timeframe]).fetchall()
            known = rows[0][0] if rows else None
        return known

    def _series_ids(
        self, cursor: duckdb.DuckDBPyConnection, keys: Sequence[tuple[str, str]]
    ) -> list[int]:
        """The numbers of many series, new ones where they have none."""
        if any(key not in self._known for key in keys):
            for key in keys:
                sql = "INSERT OR IGNORE INTO series (symbol, timeframe) VALUES (?, ?)"
                if key not in self._known:
                    cursor.execute(sql, key)
            rows = cursor.execute("SELECT symbol, timeframe, id FROM series").fetchall()
            known = {(symbol, timeframe): number for symbol, timeframe, number in rows}
            return [known[key] for key in keys]
        return [self._known[key] for key in keys]

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        # A connection serves one thread at a time; a cursor is a connection of its own.
        with _storage(str(self.path)), self._connection.cursor() as cursor:
            yield cursor


class SharedStore:
    """One KlineStore for several owners in this process: open while any of them has it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._store: KlineStore | None = None
        self._owners = 0

    def acquire(self) -> KlineStore:
        """The store; whoever has it calls :meth:`release`. Raises StorageError."""
        with self._lock:
            if self._store is None:
                self._store = KlineStore(self.path)
            self._owners += 1
            return self._store

    def release(self) -> None:
        """It is not needed here any more; the last one closes it."""
        with self._lock:
            self._owners -= 1
            if self._owners == 0 and self._store is not None:
                self._store.close()
                self._store = None


def _closed(klines: Klines) -> Klines:
    market_of(klines.symbol)
    duration_ms(klines.timeframe)
    if not np.all(klines.datetime[1:] > klines.datetime[:-1]):
        raise DataError(f"{klines.symbol} {klines.timeframe}: klines do not ascend in time")
    return klines[:-1] if klines.forming else klines


def _insert(cursor: duckdb.DuckDBPyConnection, ids: Sequence[int], parts: Sequence[Klines]) -> None:
    filled = [(series, part) for series, part in zip(ids, parts, strict=True) if len(part)]
    if not filled:
        return
    columns: dict[str, Any] = {
        "series": np.concatenate([np.full(len(part), series, np.int32) for series, part in filled]),
        "datetime": np.concatenate([part.datetime for _, part in filled]),
    }
    for name in VALUE_COLUMNS:
        columns[name] = np.concatenate([getattr(part, name) for _, part in filled])
    columns["trading_day"] = np.concatenate([_days(part) for _, part in filled])
    cursor.register("batch", columns)
    plain = len(filled) == 1 and not _taken(cursor, *filled[0])
    insert = "INSERT" if plain else "INSERT OR REPLACE"  # the plain one is faster
    cursor.execute(f"{insert} INTO klines SELECT series, {', '.join(_COLUMNS)} FROM batch")


def _days(klines: Klines) -> npt.NDArray[np.int64]:
    return np.zeros(len(klines), np.int64) if klines.trading_day is None else klines.trading_day


def _taken(cursor: duckdb.DuckDBPyConnection, series: int, klines: Klines) -> bool:
    bounds = [series, int(klines.datetime[0]), int(klines.datetime[-1])]
    sql = "SELECT 1 FROM klines WHERE series = ? AND datetime BETWEEN ? AND ? LIMIT 1"
    return bool(cursor.execute(sql, bounds).fetchall())


def _covered(cursor: duckdb.DuckDBPyConnection, series: int | None) -> list[Range]:
    sql = "SELECT from_ts, to_ts FROM covered WHERE series = ?"
    return union((start, end) for start, end in cursor.execute(sql, [series]).fetchall())


def _cover(
    cursor: duckdb.DuckDBPyConnection,
    ids: Sequence[int],
    covered: Sequence[Sequence[Range]],
) -> None:
    """Add ``covered`` to what is covered of each series, by three statements for all of them."""
    wider: dict[int, list[Range]] = {}
    for series, ranges in zip(ids, covered, strict=True):
        if ranges:
            wider.setdefault(series, []).extend(ranges)
    if not wider:
        return
    among = f"series IN ({', '.join(map(str, wider))})"
    known = cursor.execute(f"SELECT series, from_ts, to_ts FROM covered WHERE {among}").fetchall()
    for series, start, end in known:
        wider[series].append((start, end))
    rows = [(series, *span) for series, ranges in wider.items() for span in union(ranges)]
    if sorted(rows) == sorted(known):
        return
    table = np.array(rows, np.int64).reshape(-1, 3)
    names = ("series", "from_ts", "to_ts")
    cursor.register("wider", {name: table[:, i].copy() for i, name in enumerate(names)})
    cursor.execute(f"DELETE FROM covered WHERE {among}")
    cursor.execute("INSERT INTO covered SELECT series, from_ts, to_ts FROM wider")


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
