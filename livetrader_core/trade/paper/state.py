"""The state of a paper account in an SQLite file, so that it outlives the server.

One transaction holds all that one moment changed, and is on disk before anybody hears of it. What
is in the file is a whole: an account, its orders and its fills as they were at one moment.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from livetrader_core.errors import InvalidRequest, StorageError
from livetrader_core.models import Contract, Fill, Kline, Order
from livetrader_core.trade.paper.account import Account, Book, Holding
from livetrader_core.trade.paper.book import Bar, Working
from livetrader_core.trade.paper.links import Links

_VERSION = 1
_SCHEMA = """
CREATE TABLE orders (number INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL, working TEXT);
CREATE TABLE fills (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE parts (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass
class Saved:
    """What a file holds; ``working`` are the orders in the book, in the order of arrival."""

    account: Account
    orders: dict[str, Order] = field(default_factory=dict)
    working: list[Working] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    links: Links = field(default_factory=Links)


class StateFile:
    """The file ``path``; one process at a time has it open. Raises StorageError."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        #: The rows of working orders, and the account without what it is valued at.
        self._written: dict[str, tuple[str, str | None]] = {}
        self._books = ""

    def open(self) -> Saved | None:
        """Open it; returns what is in it, None if it is new."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise self._failure("open", error) from error
        self._connection = connection
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._create(connection)
                return None
            if version != _VERSION:
                raise StorageError(
                    f"state {self.path}: its layout has version {version}, and this livetrader "
                    f"knows {_VERSION}; use the livetrader that wrote it, or another file"
                )
            return self._read(connection)
        except sqlite3.Error as error:
            self.close()
            raise self._failure("read", error) from error
        except StorageError:
            self.close()
            raise
        except (ValueError, TypeError, KeyError, InvalidRequest) as error:
            self.close()
            raise StorageError(
                f"state {self.path}: cannot be read ({error}); it is damaged: move it away to "
                "begin with a new account, or restore a copy"
            ) from error

    def close(self) -> None:
        """Close it; may be called more than once."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={_VERSION}")
        connection.execute("COMMIT")

    def write(
        self,
        account: Account,
        links: Links,
        orders: Sequence[tuple[Order, Working | None]],
        fills: Sequence[Fill],
    ) -> None:
        """Write what one moment changed; all of it is on disk on return, or none.

        ``orders`` may name some that are as they were. Prices alone are not written: they change
        with every kline.
        """
        if self._connection is None:
            raise StorageError(f"state {self.path}: is not open")
        rows = {o.client_order_id: (_dump(o.to_dict()), _working_text(w)) for o, w in orders}
        changed = {n: row for n, row in rows.items() if self._written.get(n) != row}
        books = _dump(_account_to_dict(account, with_marks=False))
        if not changed and not fills and books == self._books:
            return
        self._transact(self._connection, account, links, changed, fills)
        self._written = {name: row for name, row in rows.items() if row[1] is not None}
        self._books = books

    def _transact(
        self,
        connection: sqlite3.Connection,
        account: Account,
        links: Links,
        rows: Mapping[str, tuple[str, str | None]],
        fills: Iterable[Fill],
    ) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for name, row in rows.items():
                connection.execute(
                    "INSERT INTO orders (client_order_id, body, working) VALUES (?, ?, ?) "
                    "ON CONFLICT (client_order_id) DO UPDATE SET body=excluded.body, "
                    "working=excluded.working",
                    (name, *row),
                )
            for fill in fills:
                connection.execute("INSERT INTO fills (body) VALUES (?)", (_dump(fill.to_dict()),))
            parts = {"account": _account_to_dict(account), "links": links.to_dict()}
            for name, body in parts.items():
                connection.execute(
                    "INSERT INTO parts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET "
                    "body=excluded.body",
                    (name, _dump(body)),
                )
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise self._failure("write", error) from error

    def _read(self, connection: sqlite3.Connection) -> Saved | None:
        parts = {
            name: json.loads(body)
            for name, body in connection.execute("SELECT name, body FROM parts")
        }
        if "account" not in parts:
            return None
        saved = Saved(_account_from_dict(parts["account"]), links=Links.from_dict(parts["links"]))
        rows = connection.execute("SELECT body, working FROM orders ORDER BY number")
        for body, working in rows:
            order = Order.from_dict(json.loads(body))
            saved.orders[order.client_order_id] = order
            if working is not None:
                saved.working.append(_working_from_dict(order, json.loads(working)))
        for (body,) in connection.execute("SELECT body FROM fills ORDER BY number"):
            saved.fills.append(Fill.from_dict(json.loads(body)))
        return saved

    def _failure(self, what: str, error: Exception) -> StorageError:
        hint = "; another process has it open" if "locked" in str(error) else ""
        return StorageError(f"state {self.path}: cannot {what} it: {error}{hint}")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _working_text(working: Working | None) -> str | None:
    if working is None:
        return None
    last = working.last
    return _dump(
        {
            "contract": working.contract.to_dict(),
            "awake": working.awake,
            "triggered": working.triggered,
            "last": None if last is None else {"kline": asdict(last.kline), "end": last.end},
            "noted_close": working.noted_close,
        }
    )


def _working_from_dict(order: Order, data: Mapping[str, Any]) -> Working:
    last = data["last"]
    return Working(
        order,
        Contract.from_dict(data["contract"]),
        data["awake"],
        data["triggered"],
        None if last is None else Bar(Kline(**last["kline"]), last["end"]),
        data["noted_close"],
    )


def _account_to_dict(account: Account, with_marks: bool = True) -> dict[str, Any]:
    return {
        currency: {
            "cash": book.cash,
            "realized_profit": book.realized_profit,
            "commission": book.commission,
            "holdings": [
                {
                    "contract": holding.contract.to_dict(),
                    "quantity": holding.quantity,
                    "average_price": holding.average_price,
                    "mark": holding.mark if with_marks else 0.0,
                    "day": holding.day.isoformat() if holding.day else None,
                }
                for holding in book.holdings.values()
            ],
        }
        for currency, book in account.books.items()
    }


def _account_from_dict(data: Mapping[str, Any]) -> Account:
    account = Account({})
    for currency, fields in data.items():
        book = Book(currency, fields["cash"], fields["realized_profit"], fields["commission"])
        for held in fields["holdings"]:
            contract = Contract.from_dict(held["contract"])
            day = date.fromisoformat(held["day"]) if held["day"] else None
            book.holdings[contract.symbol] = Holding(
                contract, held["quantity"], held["average_price"], held["mark"], day
            )
        account.books[currency] = book
    return account
