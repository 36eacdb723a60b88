"""client_order_ids that are never used twice, over any number of runs, strategies and machines."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import secrets
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class OrderIds:
    r"""Ids such as ``k3f9a2.7-1c``: a random name, the number of the run, a counter.

    ``path`` is a small file that remembers name and run; None: one in the user's state folder.
    Where it cannot be written, a longer random name takes its place. Ids have at most 20 ASCII
    characters and no ``;``. Between :meth:`hold` and :meth:`release` others know that the run is
    under way.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()
        #: What the ids of this run begin with.
        self.run = self._begin_run()
        self._numbers = itertools.count(1)
        self._mark: int | None = None

    def hold(self) -> None:
        """Say that this run is under way, until :meth:`release` or the end of the process."""
        number = self.run.partition(".")[2]
        if number and self._mark is None:
            self._mark = _acquire(self._mark_of(number))

    def release(self) -> None:
        """The run is over; may be called more than once."""
        mark, self._mark = self._mark, None
        if mark is not None:
            with suppress(OSError):
                self._mark_of(self.run.partition(".")[2]).unlink()
            os.close(mark)

    def is_earlier(self, client_order_id: str) -> bool:
        """Whether a run with the same file made ``client_order_id`` that is over."""
        name, dot, _ = self.run.partition(".")
        run = client_order_id.partition("-")[0]
        if not dot or not run.startswith(name + dot) or run == self.run:
            return False
        return not _is_held(self._mark_of(run.partition(".")[2]))

    def _mark_of(self, number: str) -> Path:
        return self.path.with_name(f"{self.path.name}.run-{number}")

    def next(self) -> str:
        """A new id."""
        return f"{self.run}-{_base36(next(self._numbers))}"

    def _begin_run(self) -> str:
        try:
            name, run = _next_run(self.path)
        except (OSError, sqlite3.Error) as error:
            log.warning(
                "%s cannot keep the run's number (%s): a random one is used", self.path, error
            )
            return _random(12)
        return f"{name}.{_base36(run)}"


def _acquire(path: Path) -> int | None:
    """Lock the file ``path``; None if that cannot be."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("%s cannot say that this run is under way: %s", path, error)
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _is_held(path: Path) -> bool:
    """Whether some run has the file ``path`` locked; what a dead one left is removed."""
    if not path.exists():
        return False
    file = _acquire(path)
    if file is None:
        return True
    with suppress(OSError):
        path.unlink()
    os.close(file)
    return False


def default_path() -> Path:
    """The file in the user's state folder."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        root = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(root) / "livetrader" / "order-ids.db"


def _next_run(path: Path) -> tuple[str, int]:
    """Count one more run in the file; processes that do so at once get different numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A copied file must not continue the original's numbers.
    place = os.path.realpath(path)
    with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS runs (place TEXT PRIMARY KEY, name TEXT, run INTEGER)"
        )
        connection.execute(
            "INSERT INTO runs VALUES (?, ?, 1) ON CONFLICT (place) DO UPDATE SET run = run + 1",
            (place, _random(6)),
        )
        row = connection.execute("SELECT name, run FROM runs WHERE place=?", (place,)).fetchone()
        connection.execute("COMMIT")
    return str(row[0]), int(row[1])


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
