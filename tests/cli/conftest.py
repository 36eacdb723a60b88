"""A folder to work in, with a configuration that replays a few recorded days."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from livetrader_core.cli.app import livetrader
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.recorded import write_klines

SYMBOLS = ("US.BABA", "FOREX.EURUSD")
STRATEGIES = Path(__file__).resolve().parents[2] / "strategies"

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols, three trading days from Monday, 2025-11-03."""
    folder = tmp_path_factory.mktemp("klines")
    source = GeneratedSource(SYMBOLS, seed=3, start="2025-11-03", days=3)
    for symbol in SYMBOLS:
        write_klines(folder / f"{symbol}-1m.csv", source.klines(symbol))
    return folder


@pytest.fixture
def workplace(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, state_folder: None
) -> Iterator[Path]:
    """The working folder, short enough for the path of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="lt"))
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("LIVETRADER_")]:
        monkeypatch.delenv(name)
    (folder / "livetrader.toml").write_text(
        f"""
        [server]
        endpoint = "ipc://{folder}/server"
        [journal]
        path = "journal.sqlite"
        [store]
        path = "klines.duckdb"
        [markets.recorded]
        adapter = "replay"
        source = "{recordings}"
        [trades.paper]
        adapter = "paper"
        cash = 100_000
        """
    )
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cli(workplace: Path) -> Run:
    """Runs a command inside this process."""

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "160"}).invoke(livetrader, arguments)

    return run


@contextmanager
def process(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command as a process of its own; it is gone when the block ends."""
    started = subprocess.Popen(
        [sys.executable, "-m", "livetrader_core.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


@contextmanager
def served(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``livetrader serve`` in ``folder``, ready."""
    with process("serve", "--json", cwd=folder) as server:
        assert server.stdout is not None
        ready = server.stdout.readline()
        assert '"endpoint"' in ready, server.communicate()[1]
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10.0)


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Return when ``condition`` holds; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
