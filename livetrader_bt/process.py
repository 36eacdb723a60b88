"""Processes that a program starts beside itself, and ends with itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from livetrader_core.errors import LiveTraderError, Unavailable
from livetrader_core.rpc import Client

#: Seconds that a server may take to start: loading tqsdk takes some.
_START = 60.0


@contextlib.contextmanager
def serving(
    output: Path, settings: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server process on an ipc endpoint of its own; it is gone when the block ends.

    ``settings`` is its livetrader.toml without the endpoint, ``environment`` what it has beyond
    ours. Settings and log are written to ``output``. Raises Unavailable.
    """
    folder = Path(tempfile.mkdtemp(prefix="livetrader-"))
    endpoint = f"ipc://{folder}/demo"
    config = output / "livetrader.toml"
    config.write_text(f"{settings}\n[server]\nendpoint = {endpoint!r}\n")
    log_path = output / "server.log"
    try:
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "livetrader_core.cli", "--config", str(config), "serve"],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Ctrl-C reaches this process only, which then ends the server in good order.
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )
            try:
                _wait_until_ready(process, endpoint, log_path)
                yield endpoint
            finally:
                end_process(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[Any], endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + _START
    while True:
        if process.poll() is not None:
            raise Unavailable(
                f"the server ended with code {process.returncode}: {log.read_text().strip()}"
            )
        try:
            with Client(timeout=1.0) as client:
                client.connect(endpoint)
                return
        except LiveTraderError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the server did not answer within {_START:g} s; see {log}"
                ) from None
            time.sleep(0.05)


def end_process(process: subprocess.Popen[Any]) -> None:
    """End a process in good order, or, after ten seconds, at once."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
