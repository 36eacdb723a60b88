"""``status`` in a terminal: a view that follows what happens."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livetrader_core.models import Order, OrderType, Side
from livetrader_core.rpc import Client
from tests.cli.conftest import served, wait_until


class Screen:
    """A terminal with ``livetrader status`` in it, and all that was written to it."""

    def __init__(self, folder: Path, lines: int) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._seen = bytearray()
        self.view = subprocess.Popen(
            [sys.executable, "-m", "livetrader_core.cli", "status", "--every", "0.2"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": str(lines)},
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, *words: str) -> None:
        """Return when all ``words`` were shown since the last time."""
        wait_until(lambda: all(word.encode() in self._read() for word in words), 20.0)
        self._seen.clear()

    def wait_for_end(self) -> str:
        """What was shown until the end."""
        wait_until(lambda: bool(self._read()) and self.view.poll() is not None)
        return self._read().decode(errors="replace")  # it may begin within a letter

    def _read(self) -> bytes:
        try:
            self._seen += os.read(self._master, 65_536)
        except OSError:  # nothing new, or the other end is closed
            time.sleep(0.02)
        return bytes(self._seen)

    def close(self) -> None:
        if self.view.poll() is None:
            self.view.kill()
            self.view.wait(10.0)
        os.close(self._master)


@contextmanager
def screen(folder: Path, lines: int = 80) -> Iterator[Screen]:
    shown = Screen(folder, lines)
    try:
        yield shown
    finally:
        shown.close()


@contextmanager
def connected(folder: Path) -> Iterator[Client]:
    with Client(5.0) as client:
        client.connect(f"ipc://{folder}/server")
        yield client


def test_it_outlives_the_server_and_ends_at_ctrl_c(workplace: Path) -> None:
    with served(workplace) as server, screen(workplace) as shown:
        shown.wait_for("Ctrl-C ends", "Open orders", "Server")
        with connected(workplace) as client:
            client.create_order(Order("d-1", "US.BABA", Side.BUY, OrderType.LIMIT, 1.0, price=10.0))
        shown.wait_for("d-1")
        server.send_signal(signal.SIGKILL)
        server.wait(10.0)
        shown.wait_for("trying again", "no server there", "d-1")
        with served(workplace):
            shown.wait_for("Ctrl-C ends")
            shown.view.send_signal(signal.SIGINT)
            assert "Traceback" not in shown.wait_for_end()
            assert shown.view.returncode == 0


def test_alarms_are_seen_in_a_low_terminal_too(workplace: Path) -> None:
    with served(workplace), screen(workplace, lines=12) as shown:
        shown.wait_for("Ctrl-C ends")
        with connected(workplace) as client:
            client.kill(reason="wrong parameters")
        shown.wait_for("The kill switch is on: wrong parameters", "Markets")
