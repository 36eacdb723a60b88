"""Keeps one line standing: whichever is lost is replaced by a new one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from livetrader_core.errors import LiveTraderError, NotConnected
from livetrader_core.market.tq.line import Line
from livetrader_core.market.tq.waiting import first_of

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 60.0

AnyLine = TypeVar("AnyLine", bound=Line)


class Keeper(Generic[AnyLine]):
    """Makes lines with ``make``; one that stands is used after ``adopt`` has returned.

    ``pause`` is how long (seconds) it waits before the second attempt; later ones come more seldom.
    """

    def __init__(
        self,
        make: Callable[[], AnyLine],
        adopt: Callable[[AnyLine], Awaitable[None]],
        pause: float,
    ) -> None:
        self._make = make
        self._adopt = adopt
        self._pause = pause
        #: The line that stands, or that is being made.
        self.line: AnyLine | None = None
        self.why = "not connected"
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    def stands(self, line: AnyLine) -> bool:
        """Whether ``line`` can be used."""
        return self.line is line and self._up.is_set()

    async def open(self) -> None:
        """The first line. Raises what is against it."""
        await self._raise_line()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """No line any more."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        self._up.clear()
        self.why = "not connected"
        line, self.line = self.line, None
        if line is not None:
            await line.close()

    @property
    def lost(self) -> str:
        """Why there is no line; empty while one stands."""
        return "" if self._up.is_set() else f"no line to tqsdk: {self.why}"

    async def ready(self, timeout: float) -> AnyLine:
        """The line, once it stands, at most ``timeout`` seconds later. Raises NotConnected."""
        if not self._up.is_set() and self._keeping is not None:
            await first_of(self._up.wait(), timeout)
        if self.line is None or self.lost:
            raise NotConnected(self.lost)
        return self.line

    def replace(self, line: Line, why: str) -> None:
        """``line`` is of no use any more."""
        if line is self.line and self._up.is_set():
            log.warning("tqsdk: %s", why)
            self.why = why
            self._up.clear()
            self._lost.set()

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            pause = self._pause
            while not self._up.is_set():
                try:
                    await self._raise_line()
                    log.warning("tqsdk: a new line stands")
                except LiveTraderError as error:
                    self.why = str(error)
                    log.warning("tqsdk: %s; next attempt in %g s", error, pause)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    async def _raise_line(self) -> None:
        old, self.line = self.line, None
        if old is not None:
            await old.close()
        line = self.line = self._make()
        try:
            await line.start()
            await self._adopt(line)
        except BaseException:
            self.line = None
            await line.close()
            raise
        self._up.set()
