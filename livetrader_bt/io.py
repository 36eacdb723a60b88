"""The one background thread of a store: an event loop in which its sessions live."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from livetrader_core.errors import NotConnected, RequestTimeout

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class IoThread:
    """An event loop in a daemon thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._ending = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, Result], timeout: float) -> Result:
        """Run ``work`` in the loop and wait for it. Raises RequestTimeout, NotConnected."""
        with self._ending:
            if self._ended:
                work.close()
                raise NotConnected("the store was closed meanwhile")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise RequestTimeout(f"no answer within {timeout:g} s") from None
        except concurrent.futures.CancelledError:
            raise NotConnected("the store was closed meanwhile") from None

    def post(
        self, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> concurrent.futures.Future[Any] | None:
        """Run what ``work`` makes in the loop without waiting; None if the thread has ended."""
        with self._ending:
            if self._ended:
                return None
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        future.add_done_callback(_log_failure)
        return future

    def close(self) -> None:
        """Stop the loop and join the thread; may be called more than once."""
        with self._ending:
            if self._ended:
                return
            self._ended = True
            # Nothing follows it into the loop: no coroutine is left that never ran.
            ending = asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop)
        concurrent.futures.wait([ending], 5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()


async def _cancel_all() -> None:
    current = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not current]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _log_failure(future: concurrent.futures.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()):
        log.error("a background request failed: %s", error, exc_info=error)
