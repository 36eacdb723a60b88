"""A server in a thread of its own, for tests that need one at the other end of a wire."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from livetrader_core.rpc.server import Server


@contextmanager
def serving(
    make: Callable[[], tuple[Any, ...]], endpoint: str = "", **server: Any
) -> Iterator[str]:
    """Serve what ``make`` returns, on an ipc endpoint if none is given; gives the endpoint.

    ``make`` runs in the server's thread.
    """
    folder = tempfile.mkdtemp(prefix="lt")
    endpoint = endpoint or f"ipc://{folder}/s"
    bound = threading.Event()
    failures: list[BaseException] = []
    servers: list[Server] = []
    served: list[str] = []

    def run() -> None:
        try:
            servers.append(Server(*make(), **server))
            served.append(servers[0].bind(endpoint))
            bound.set()
            servers[0].run()
        except BaseException as error:
            failures.append(error)
        finally:
            bound.set()

    thread = threading.Thread(target=run, name="test-server")
    thread.start()
    assert bound.wait(20.0)
    try:
        if failures:
            raise failures[0]
        yield served[0]
    finally:
        for running in servers:
            running.close()
        thread.join(20.0)
        shutil.rmtree(folder, ignore_errors=True)
        assert not thread.is_alive()
