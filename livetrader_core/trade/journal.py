"""Journal: orders and trade events on disk, before anybody else hears of them.

SQLite with a write-ahead log and ``synchronous=FULL``: a write that returned survives a killed
process and a power cut. One process at a time has the journal open.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from livetrader_core.errors import InvalidRequest, StorageError
from livetrader_core.models import Fill, Order, TradeEvent, market_of

Record = TypeVar("Record")

#: Number of the table layout below.
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE orders (
    number INTEGER PRIMARY KEY,
    client_order_id TEXT NOT NULL UNIQUE,
    final INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX open_orders ON orders (number) WHERE NOT final;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    written_at INTEGER NOT NULL,
    client_order_id TEXT NOT NULL,
    clock INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE fills (
    market TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    seq INTEGER NOT NULL UNIQUE,
    client_order_id TEXT NOT NULL,
    datetime INTEGER NOT NULL,
    quantity REAL NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (market, trade_id)
) WITHOUT ROWID;
CREATE INDEX fills_of_order ON fills (client_order_id);
CREATE INDEX fills_by_time ON fills (datetime, seq);
"""


#: The journals that this process has open. Closing a file takes SQLite's locks off it.
_open_here: set[str] = set()


def is_open_here(path: str | Path) -> bool:
    """Whether this process has the journal in the file ``path`` open."""
    return os.path.realpath(path) in _open_here


class Journal:
    """The journal in the file ``path``; ``":memory:"`` keeps it in memory, for tests.

    Every method raises StorageError, naming the file, when the disk does not do its part; once it
    does again, so does the journal. It may be used from any thread.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        #: Tells this journal from any other, so that event numbers are not mixed up.
        self.start_id = ""
        #: Number of the last event; 0 before the first.
        self.seq = 0
        self._lock = threading.RLock()
        self._doubtful: TradeEvent | None = None
        self._connection: sqlite3.Connection | None = None
        self.open()

    # ---- life

    def open(self) -> None:
        """Open it, as creating it did; nothing happens if it is open."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()

    def close(self) -> None:
        """Close the file; may be called more than once."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                _open_here.discard(os.path.realpath(self.path))

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self.close()

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            if self.path != ":memory:":
                os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            # A second process would number its events from the same number on.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._prepare(connection)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise self._failure("open", error) from error
        except StorageError:
            assert connection is not None
            connection.close()
            raise
        if self.path != ":memory:":
            _open_here.add(os.path.realpath(self.path))
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise StorageError(
                f"journal {self.path}: its layout has version {version}, this livetrader knows "
                f"version {SCHEMA_VERSION}; use the livetrader that wrote it, or another file"
            )
        connection.execute("BEGIN IMMEDIATE")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('start_id', ?)", (secrets.token_hex(8),))
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("CREATE INDEX IF NOT EXISTS events_of_order ON events (client_order_id)")
        (self.start_id,) = connection.execute(
            "SELECT value FROM meta WHERE key='start_id'"
        ).fetchone()
        (self.seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        connection.execute("COMMIT")

    # ---- writing

    def append(self, clock: int, order: Order, fill: Fill | None = None) -> TradeEvent:
        """Write the next event and the order as it is after it; both are on disk on return.

        A fill that is in the journal already is an error of the caller's (see :meth:`has_fill`).
        """
        with self._lock:
            self.open()
            if self._survived(clock, order, fill):
                return TradeEvent(self.seq, clock, order, fill)
            event = TradeEvent(self.seq + 1, clock, order, fill)
            self._doubtful = event
            with self._transaction() as connection:
                _insert(connection, event)
            self.seq, self._doubtful = event.seq, None
            return event

    def note(self, key: str, value: Any) -> None:
        """Keep ``value`` (plain data) under ``key``, in the place of what was there."""
        with self._lock:
            self.open()
            with self._transaction() as connection:
                connection.execute(
                    "INSERT INTO meta VALUES (?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET value=excluded.value",
                    (f"note:{key}", json.dumps(value, separators=(",", ":"))),
                )

    def noted(self, key: str) -> Any:
        """What was kept under ``key``; None if nothing was."""
        rows = self._rows("SELECT key, value FROM meta WHERE key=?", f"note:{key}")
        return self._decoded("meta", rows, lambda data: data)[0] if rows else None

    def _survived(self, clock: int, order: Order, fill: Fill | None) -> bool:
        # A commit can fail after its last byte was written. Whoever repeats it gets that event.
        doubtful, self._doubtful = self._doubtful, None
        return doubtful == TradeEvent(self.seq, clock, order, fill)

    # ---- reading

    def order(self, client_order_id: str) -> Order | None:
        """The order with this id; None if there is none."""
        found = self._orders("WHERE client_order_id=?", client_order_id)
        return found[0] if found else None

    def first(self, client_order_id: str) -> Order | None:
        """The order as it was first written; None if there is none."""
        rows = self._rows(
            "SELECT seq, body FROM events WHERE client_order_id=? ORDER BY seq LIMIT 1",
            client_order_id,
        )
        events = self._decoded("events", rows, TradeEvent.from_dict)
        return events[0].order if events else None

    def orders(self, offset: int = 0, limit: int | None = None) -> list[Order]:
        """All orders, in the order of their arrival; ``limit`` of them after ``offset``."""
        return self._orders(
            "ORDER BY number LIMIT ? OFFSET ?", -1 if limit is None else limit, offset
        )

    def open_orders(self) -> list[Order]:
        """Orders that are not final, in the order of their arrival."""
        return self._orders("WHERE NOT final ORDER BY number")

    def linked_orders(self, client_order_id: str = "") -> list[Order]:
        """Orders that name this one (empty: any) as their parent or OCO group, oldest first."""
        parent, oco = "json_extract(body, '$.parent')", "json_extract(body, '$.oco')"
        if client_order_id:
            which, values = f"{parent}=? OR {oco}=?", [client_order_id] * 2
        else:
            which, values = f"{parent}!='' OR {oco}!=''", []
        return self._orders(f"WHERE {which} ORDER BY number", *values)

    def fills(self, since: int = 0, offset: int = 0, limit: int | None = None) -> list[Fill]:
        """Fills at or after ``since`` (UTC ms), oldest first; ``limit`` after ``offset``."""
        rows = self._rows(
            "SELECT seq, body FROM fills WHERE datetime>=? ORDER BY datetime, seq LIMIT ? OFFSET ?",
            since,
            -1 if limit is None else limit,
            offset,
        )
        return self._decoded("fills", rows, Fill.from_dict)

    def holdings(self) -> dict[str, float]:
        """The sum of all fills by symbol: what they bought less what they sold."""
        rows = self._rows(
            "SELECT json_extract(body, '$.symbol'), "
            "sum(CASE json_extract(body, '$.side') WHEN 'buy' THEN quantity ELSE -quantity END) "
            "FROM fills GROUP BY 1"
        )
        return {symbol: float(quantity) for symbol, quantity in rows}

    def last_fill_at(self, markets: Sequence[str]) -> int:
        """When the newest fill in ``markets`` happened (UTC ms); 0 before the first."""
        marks = ", ".join("?" for _ in markets)
        found = self._rows(
            f"SELECT coalesce(max(datetime), 0) FROM fills WHERE market IN ({marks})", *markets
        )
        return int(found[0][0])

    def has_fill(self, fill: Fill) -> bool:
        """Whether this fill was written before; a trade_id counts once per MARKET."""
        return bool(
            self._rows(
                "SELECT 1 FROM fills WHERE market=? AND trade_id=?",
                market_of(fill.symbol),
                fill.trade_id,
            )
        )

    def filled(self, client_order_id: str) -> float:
        """The sum of an order's fills."""
        rows = self._rows(
            "SELECT coalesce(sum(quantity), 0.0) FROM fills WHERE client_order_id=?",
            client_order_id,
        )
        return float(rows[0][0])

    def last_written_at(self, client_order_id: str) -> int:
        """When the last event of an order was written, by this computer's clock (UTC ms)."""
        rows = self._rows(
            "SELECT coalesce(max(written_at), 0) FROM events WHERE client_order_id=?",
            client_order_id,
        )
        return int(rows[0][0])

    def events_after(self, seq: int, limit: int | None = None) -> list[TradeEvent]:
        """Events numbered above ``seq``, the first ``limit`` of them (None: all)."""
        rows = self._rows(
            "SELECT seq, body FROM events WHERE seq>? ORDER BY seq LIMIT ?",
            seq,
            -1 if limit is None else limit,
        )
        return self._decoded("events", rows, TradeEvent.from_dict)

    def _orders(self, which: str, *values: Any) -> list[Order]:
        rows = self._rows(f"SELECT number, body FROM orders {which}", *values)
        return self._decoded("orders", rows, Order.from_dict)

    def _decoded(self, table: str, rows: list[Any], make: Callable[[Any], Record]) -> list[Record]:
        return [self._record(table, number, body, make) for number, body in rows]

    def _record(
        self, table: str, number: object, body: str, make: Callable[[Any], Record]
    ) -> Record:
        try:
            return make(json.loads(body))
        except (ValueError, TypeError, KeyError, InvalidRequest) as error:
            raise StorageError(
                f"journal {self.path}: row {number} of {table} cannot be read ({error}); the file "
                "is damaged: move it away, or restore a copy"
            ) from error

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._usable().execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._failure("read", error) from error

    # ---- the file

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._usable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._forget(connection)
            raise self._failure("write", error) from error

    def _forget(self, connection: sqlite3.Connection) -> None:
        # After a failed write only the file knows what it holds: the next use reads it anew. What
        # is in memory has nowhere to be read from.
        if self.path == ":memory:":
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return
        connection.close()
        self._connection = None
        _open_here.discard(os.path.realpath(self.path))

    def _usable(self) -> sqlite3.Connection:
        self.open()
        assert self._connection is not None
        return self._connection

    def _failure(self, what: str, error: Exception) -> StorageError:
        return StorageError(f"journal {self.path}: cannot {what} it: {error}{hint(error)}")


def _insert(connection: sqlite3.Connection, event: TradeEvent) -> None:
    order, fill = event.order, event.fill
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
        (
            event.seq,
            time.time_ns() // 1_000_000,
            order.client_order_id,
            event.clock,
            _dump(event.to_dict()),
        ),
    )
    connection.execute(
        "INSERT INTO orders (client_order_id, final, body) VALUES (?, ?, ?) "
        "ON CONFLICT (client_order_id) DO UPDATE SET final=excluded.final, body=excluded.body",
        (order.client_order_id, order.status.is_final, _dump(order.to_dict())),
    )
    if fill is not None:
        connection.execute(
            "INSERT INTO fills VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                market_of(fill.symbol),
                fill.trade_id,
                event.seq,
                fill.client_order_id,
                fill.datetime,
                fill.quantity,
                _dump(fill.to_dict()),
            ),
        )


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def hint(error: Exception) -> str:
    """What to do about an error of SQLite's or of the system's; empty if nothing is known."""
    text = str(error)
    if "full" in text or "disk I/O" in text or "No space" in text:
        return "; is the disk full? It works again as soon as there is space"
    if "locked" in text:
        return "; another process has it open: stop that one, or use another file"
    if "not a database" in text or "malformed" in text:
        return "; the file is damaged or not a journal: move it away, or use another file"
    return ""
