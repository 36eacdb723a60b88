"""What the terminal does not remember: which order closed what, and at what price.

The expert advisor tells of no closed trade, and a close carries no comment. So each step is written
down before it is sent, in a file of its own, and what became of it after.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from livetrader_core.errors import ConfigError, StorageError
from livetrader_core.models import Fill, Order
from livetrader_core.trade.metatrader.guards import Guard, Guarded


@dataclass(frozen=True)
class Step:
    """One command that changes something: it opens (``ticket`` 0), or closes a position.

    ``lots``, ``price`` and ``sign`` are those of the whole position that it closes (a part of),
    ``balance`` is the account's before it.
    """

    lots: float
    balance: float
    ticket: int = 0
    price: float = 0.0
    sign: int = 1


@dataclass(frozen=True)
class Record:
    """An order, the ticket that it opened (0: none yet), and the step that is not answered.

    ``guard``: it is no ticket of its own, but a level of others. ``operation``: what the step is
    called, where the expert advisor knows them by their names.
    """

    order: Order
    ticket: int = 0
    step: Step | None = None
    guard: Guard | None = None
    operation: str = ""


class Memory:
    """Orders and fills of one account, on disk (``path``) or only in memory (None)."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        self.fills: dict[str, Fill] = {}
        #: The account's balance when it was seen last; None: it never was.
        self.balance: float | None = None
        #: The number of the last event that was taken; None: there was none yet.
        self.event: int | None = None
        #: Which journal of the advisor the events are of; empty: not known.
        self.journal = ""
        self._database: sqlite3.Connection | None = None

    def open(self, account: str) -> None:
        """Read what is known of ``account``. Raises StorageError, ConfigError."""
        if self._database is not None:
            return
        name = ":memory:" if self.path is None else str(self.path)
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            database = self._database = sqlite3.connect(name, isolation_level=None)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            for table in ("orders", "fills", "notes"):
                database.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, body TEXT)"
                )
            self._check_account(account)
            if self.path is not None:
                self._read()
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise StorageError(f"state: {name}: {error}") from error
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; may be called more than once."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def write(self, record: Record, fills: Sequence[Fill] = ()) -> None:
        """Keep ``record`` and new ``fills``, both or none. Raises StorageError."""
        self.write_all([record], fills)

    def write_all(
        self,
        records: Sequence[Record],
        fills: Sequence[Fill] = (),
        event: int | None = None,
        journal: str | None = None,
    ) -> None:
        """Keep all of it or nothing; ``event`` is the one it comes from, of ``journal``.

        Raises StorageError.
        """
        if self._database is None:
            raise StorageError(f"state: {self.path} is closed")
        try:
            with self._transaction(self._database) as database:
                for record in records:
                    self._insert(database, record)
                self._insert_fills(database, fills)
                if event is not None:
                    self._note(database, "event", event)
                if journal is not None:
                    self._note(database, "journal", journal)
        except sqlite3.Error as error:
            raise StorageError(f"state: {self.path}: {error}") from error
        self.records.update({record.order.client_order_id: record for record in records})
        self.event = self.event if event is None else event
        self.journal = self.journal if journal is None else journal
        self.fills.update({fill.trade_id: fill for fill in fills})

    def note_balance(self, balance: float) -> None:
        """Keep the account's balance as it was seen last. Raises StorageError."""
        if self._database is None or balance == self.balance:
            return
        try:
            self._note(self._database, "balance", balance)
        except sqlite3.Error as error:
            raise StorageError(f"state: {self.path}: {error}") from error
        self.balance = balance

    @staticmethod
    def _transaction(database: sqlite3.Connection) -> sqlite3.Connection:
        database.execute("BEGIN IMMEDIATE")
        return database

    @staticmethod
    def _note(database: sqlite3.Connection, name: str, value: float | str) -> None:
        database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))

    @staticmethod
    def _insert(database: sqlite3.Connection, record: Record) -> None:
        body = {
            "order": record.order.to_dict(),
            "ticket": record.ticket,
            "step": None if record.step is None else asdict(record.step),
            "guard": None if record.guard is None else asdict(record.guard),
            "operation": record.operation,
        }
        database.execute(
            "INSERT OR REPLACE INTO orders VALUES (?, ?)",
            (record.order.client_order_id, json.dumps(body)),
        )

    @staticmethod
    def _insert_fills(database: sqlite3.Connection, fills: Sequence[Fill]) -> None:
        database.executemany(
            "INSERT OR REPLACE INTO fills VALUES (?, ?)",
            [(fill.trade_id, json.dumps(fill.to_dict())) for fill in fills],
        )

    def _check_account(self, account: str) -> None:
        assert self._database is not None
        self._database.execute("INSERT OR IGNORE INTO notes VALUES ('account', ?)", (account,))
        (known,) = self._database.execute("SELECT body FROM notes WHERE id = 'account'").fetchone()
        if known != account:
            raise ConfigError(
                f"state: {self.path} belongs to account {known}, and the terminal is logged in "
                f"to {account}; give each account a file of its own"
            )

    def _read(self) -> None:
        assert self._database is not None
        self.records, self.fills = {}, {}
        for name, body in self._database.execute("SELECT id, body FROM orders"):
            data = json.loads(body)
            step = None if data["step"] is None else Step(**data["step"])
            guard = _guard(data.get("guard"))
            order, operation = Order.from_dict(data["order"]), data.get("operation", "")
            self.records[name] = Record(order, data["ticket"], step, guard, operation)
        for name, body in self._database.execute("SELECT id, body FROM fills ORDER BY rowid"):
            self.fills[name] = Fill.from_dict(json.loads(body))
        noted = dict(self._database.execute("SELECT id, body FROM notes WHERE id != 'account'"))
        if "balance" in noted:
            self.balance = float(json.loads(noted["balance"]))
        if "event" in noted:
            self.event = int(json.loads(noted["event"]))
        if "journal" in noted:
            self.journal = str(json.loads(noted["journal"]))


def _guard(data: Any) -> Guard | None:
    if data is None:
        return None
    return Guard(data["level"], data["gain"], tuple(Guarded(**one) for one in data["tickets"]))
