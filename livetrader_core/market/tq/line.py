"""One TqApi in a thread of its own, as an event loop sees it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from livetrader_core.errors import LiveTraderError, NotConnected
from livetrader_core.market.tq.library import Ending, Login, load, open_api
from livetrader_core.market.tq.worker import Key, News, Worker
from livetrader_core.models import Floats

log = logging.getLogger(__name__)

#: How long the thread may sleep without looking up (seconds); commands and data wake it at once.
_NAP = 5.0

Hear = Callable[["Line", News], None]


class _Halt(Exception):
    """Raised inside the TqApi's loop to get out of its wait."""


class Line:
    """A TqApi for ``login``. Made, started and closed in one event loop.

    ``hear`` is called in that loop with all news, ``ended`` once the thread is over, with what
    ended it (None: :meth:`close`).
    """

    #: What runs in the thread.
    worker: type[Worker] = Worker

    def __init__(
        self,
        login: Login,
        timeout: float,
        hear: Hear,
        ended: Callable[[Line, LiveTraderError | None], None],
    ) -> None:
        self._login = login
        self._timeout = timeout
        self._hear = hear
        self._ended = ended
        self._home = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._home.create_future()
        self._over: asyncio.Future[None] = self._home.create_future()
        self._open: set[asyncio.Future[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="livetrader-tq", daemon=True)
        # Not the usual loop: tqsdk replaces a method of its loop, which uvloop's does not allow.
        self._loop = asyncio.SelectorEventLoop()
        self._ending = Ending(self._loop)
        self._commands: Any = None
        self._worker: Worker | None = None
        self._closing = False

    # ---- for the owner

    async def start(self) -> None:
        """Log in and connect. Raises ConfigError for a refused login, else NotConnected."""
        self._thread.start()
        await asyncio.shield(self._ready)

    async def close(self) -> None:
        """End the thread; nothing is left of it afterwards."""
        if self._thread.ident is None:
            self._loop.close()
            return
        self._closing = True
        if not self._over.done():
            self._send(self._halt)
        await asyncio.shield(self._over)
        self._thread.join()

    def follow(self, key: Key, since: int, width: int) -> None:
        """As :meth:`Worker.follow`."""
        self._begin(lambda worker: worker.follow(key, since, width))

    def follow_quote(self, instrument: str) -> None:
        """As :meth:`Worker.follow_quote`."""
        self._begin(lambda worker: worker.follow_quote(instrument))

    async def rows(self, key: Key, width: int) -> Floats:
        """As :meth:`Worker.rows`. Raises NotConnected."""
        rows: Floats = await self._ask(lambda worker: worker.rows(key, width))
        return rows

    async def query(self, text: str, variables: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """As :meth:`Worker.query`. Raises NotConnected, InvalidRequest."""
        entries: list[Mapping[str, Any]] = await self._ask(lambda w: w.query(text, variables))
        return entries

    async def probe(self, instrument: str) -> None:
        """As :meth:`Worker.probe`. Raises NotConnected."""
        await self._ask(lambda worker: worker.probe(instrument))

    # ---- commands

    def _begin(self, work: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
        """Begin ``work`` in the thread; an error of its ends the line."""
        self._send(lambda: self._commands.send_nowait(work))

    async def _ask(self, work: Callable[[Worker], Coroutine[Any, Any, Any]]) -> Any:
        future: asyncio.Future[Any] = self._home.create_future()
        if self._over.done():
            raise NotConnected("the line to tqsdk has ended")
        self._open.add(future)
        self._begin(lambda worker: worker.answer(future, work))
        try:
            return await future
        finally:
            self._open.discard(future)

    def _send(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return  # the loop is closed, and the owner hears of that

    # ---- in the thread

    def _run(self) -> None:
        error: LiveTraderError | None = None
        try:
            self._live()
        except _Halt:
            pass
        except LiveTraderError as reason:
            error = reason
        except Exception as reason:  # whatever a task of tqsdk's raised
            error = NotConnected(f"tqsdk gave up: {type(reason).__name__}: {reason}")
        finally:
            self._ending.close()
            self._tell(self._on_over, error)

    def _live(self) -> None:
        api = open_api(self._login, self._loop, self._ending, self._timeout)
        try:
            tqsdk = load()
            self._commands = tqsdk.TqChan(api)
            self._worker = self.worker(api, tqsdk.TqNotify(api), self._post)
            api.create_task(self._worker.serve(self._commands))
            self._tell(self._on_ready)
            if self._closing:
                return
            while True:
                api.wait_update(deadline=time.time() + _NAP)
        finally:
            self._shut(api)

    @staticmethod
    def _shut(api: Any) -> None:
        try:
            api.close()
        except Exception as error:  # of a task that failed at the same time
            log.debug("tqsdk: closing: %s", error)

    def _halt(self) -> None:
        if self._worker is None:
            self._ending.give_up()
        else:
            self._commands.send_nowait(_Halt())

    def _post(self, news: News) -> None:
        self._tell(self._on_news, news)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._home.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return  # the owner's loop ended without closing the line

    # ---- back in the owner's loop

    def _on_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_news(self, news: News) -> None:
        self._hear(self, news)
        for future, outcome in news.answers:
            if future.done():
                continue
            if isinstance(outcome, LiveTraderError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _on_over(self, error: LiveTraderError | None) -> None:
        reason = error or NotConnected("the line to tqsdk was closed")
        for future in [self._ready, *self._open]:
            if not future.done():
                future.set_exception(reason)
                future.exception()  # whoever waits raises it; that nobody does is no news
        if not self._over.done():
            self._over.set_result(None)
        self._ended(self, error)
