"""A journal's file, read without a trace: what people and programs look at beside the server.

SQLite itself would leave files of the reader's beside the journal, which the server's user may not
be allowed to write, and a reader that takes its time would keep a server from starting. So the file
is copied under SQLite's own lock (https://sqlite.org/lockingv3.html), and the copy is read.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Self

from livetrader_core.errors import InvalidRequest, JournalInUse, StorageError
from livetrader_core.models import TradeEvent
from livetrader_core.trade.journal import SCHEMA_VERSION, hint, is_open_here

Record = TypeVar("Record")

#: Where SQLite's shared lock lies in a file, and how long it is.
_LOCK_START, _LOCK_LENGTH = 0x4000_0002, 510
#: Seconds for which somebody else's lock is waited for.
_PATIENCE, _PAUSE = 1.0, 0.02


class JournalCopy:
    """A copy of the journal in the file ``path`` as it is now, to be read a row at a time.

    Raises StorageError: there is none, it is damaged, or (JournalInUse) a server has it open.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._folder = tempfile.TemporaryDirectory(prefix="livetrader-")
        try:
            self._connection = self._open(self._copied(Path(self._folder.name)))
        except BaseException:
            self._folder.cleanup()
            raise

    def _copied(self, folder: Path) -> Path:
        source, copy = self.path.resolve(), folder / "journal"
        if not source.is_file():
            raise StorageError(f"journal {self.path}: there is no such file")
        try:
            with self._still(source):
                shutil.copyfile(source, copy)
                log = Path(f"{source}-wal")
                if log.is_file():
                    shutil.copyfile(log, f"{copy}-wal")
        except OSError as error:
            raise StorageError(
                f"journal {self.path}: cannot be copied to {folder} to be read: {error.strerror}; "
                "TMPDIR names another folder"
            ) from error
        return copy

    @contextmanager
    def _still(self, source: Path) -> Iterator[None]:
        """Nobody writes the file ``source`` meanwhile."""
        if is_open_here(source):
            raise self._in_use()
        with source.open("rb") as file:
            deadline = time.monotonic() + _PATIENCE
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, _LOCK_LENGTH, _LOCK_START)
                    break
                except (BlockingIOError, PermissionError):
                    if time.monotonic() > deadline:
                        raise self._in_use() from None
                    time.sleep(_PAUSE)
            yield

    def _in_use(self) -> JournalInUse:
        return JournalInUse(
            f"journal {self.path}: another process has it open: name its server with --endpoint, "
            "or stop it"
        )

    def _open(self, copy: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(copy, isolation_level=None)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            connection.close()
            raise self._failure(error) from error
        if version != SCHEMA_VERSION:
            connection.close()
            raise StorageError(
                f"journal {self.path}: no journal of this livetrader: its layout has version "
                f"{version}, and not {SCHEMA_VERSION}"
            )
        return connection

    def close(self) -> None:
        """Remove the copy; may be called more than once."""
        self._connection.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading

    def count(self, table: str = "events") -> int:
        """How many rows ``table`` has."""
        ((count,),) = self._rows(f"SELECT count(*) FROM {table}")
        return int(count)

    def events(
        self, client_order_ids: Sequence[str] = (), latest: int | None = None
    ) -> Iterator[TradeEvent]:
        """Events in order: those of some orders, or the ``latest`` so many, or all."""
        query, values = "SELECT seq, body FROM events", list[Any]()
        if client_order_ids:
            marks = ", ".join("?" * len(client_order_ids))
            query += f" WHERE client_order_id IN ({marks})"
            values += client_order_ids
        elif latest is not None:
            query = f"SELECT * FROM ({query} ORDER BY seq DESC LIMIT ?)"
            values.append(latest)
        rows = self._rows(f"{query} ORDER BY seq", *values)
        return self._decoded("events", rows, TradeEvent.from_dict)

    def records(self, table: str, key: str, make: Callable[[Any], Record]) -> Iterator[Record]:
        """What ``make`` makes of every row of ``table``, sorted by the column ``key``."""
        return self._decoded(table, self.bodies(table, key), make)

    def bodies(self, table: str, key: str) -> Iterator[tuple[Any, str]]:
        """Key and JSON text of every row of ``table``, sorted by the column ``key``."""
        return self._rows(f"SELECT {key}, body FROM {table} ORDER BY {key}")

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        return [told for (told,) in self._rows("PRAGMA integrity_check") if told != "ok"]

    def _decoded(
        self, table: str, rows: Iterator[tuple[Any, str]], make: Callable[[Any], Record]
    ) -> Iterator[Record]:
        for key, body in rows:
            try:
                record = make(json.loads(body))
            except (ValueError, TypeError, KeyError, InvalidRequest) as error:
                raise StorageError(
                    f"journal {self.path}: row {key} of {table} cannot be read ({error}); "
                    "`livetrader journal verify` says what is damaged"
                ) from error
            yield record

    def _rows(self, query: str, *values: Any) -> Iterator[Any]:
        try:
            # `yield from` would close the cursor, perhaps after the connection was closed.
            for row in self._connection.execute(query, values):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StorageError:
        return StorageError(f"journal {self.path}: cannot read it: {error}{hint(error)}")
