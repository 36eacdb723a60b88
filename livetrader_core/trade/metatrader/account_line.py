"""The life of an account at a MetaTrader 4 terminal: connected, lost, and back."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic

from livetrader_core.clock import Clock
from livetrader_core.errors import LiveTraderError, NotConnected, Unavailable
from livetrader_core.market.metatrader import settings
from livetrader_core.market.metatrader.hub import Hub, LineT, User
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.events import EventStream
from livetrader_core.trade.metatrader.memory import Memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """Seconds that an answer and connecting may take, and between attempts to connect."""

    timeout: float
    connect_timeout: float
    retry: float
    longest_retry: float

    @classmethod
    def of(
        cls, timeout: float, connect_timeout: float, retry: float, longest_retry: float
    ) -> Patience:
        """Raises ConfigError naming the setting at fault."""
        pause = settings.seconds("retry", retry)
        return cls(
            settings.seconds("timeout", timeout),
            settings.seconds("connect_timeout", connect_timeout),
            pause,
            max(pause, settings.seconds("longest_retry", longest_retry)),
        )


class AccountLine(TradeBase, Generic[LineT]):
    """An account that is reached over a hub, and of which ``memory`` keeps the orders.

    ``where`` names the terminal in errors, ``hub`` gives its hub in the running event loop, which
    tells ``on_publication`` what is published.
    """

    def __init__(
        self,
        where: str,
        hub: Callable[[], Hub[LineT, Any]],
        on_publication: Callable[[Any], None],
        memory: Memory,
        patience: Patience,
        clock: Clock,
    ) -> None:
        #: The number of the account; known when it is connected.
        self.account_id = ""
        self._where = where
        self._hub_of = hub
        self._user: User[Any] = User(on_publication, lambda: self._wake.set())
        self._memory = memory
        self._patience = patience
        self._clock = clock
        self._events = EventStream()
        self._hub: Hub[LineT, Any] | None = None
        self._line: LineT | None = None
        self._task: asyncio.Task[None] | None = None
        #: One thing at a time.
        self._turn = asyncio.Lock()
        #: There is something to look at.
        self._wake = asyncio.Event()

    # ---- what an adapter does

    @abstractmethod
    async def _account_on(self, line: LineT) -> str:
        """The number of the account that ``line`` leads to. Raises Unavailable."""

    @abstractmethod
    async def _catch_up(self, anew: bool) -> None:
        """Bring the orders up to date; ``anew``: on a line that is new. Raises Unavailable."""

    @abstractmethod
    async def _rest(self) -> None:
        """Wait until there is something to look at."""

    # ---- life

    async def connect(self) -> None:
        """Reach the account and its orders. Raises Unavailable, ConfigError, StorageError."""
        if self._task is not None:
            return
        self._turn, self._wake = asyncio.Lock(), asyncio.Event()
        self._hub = self._hub_of()
        self._hub.join(self._user)
        try:
            line = await self._new_line(self._hub)
            self.account_id = await self._account_on(line)
            self._memory.open(self.account_id)
            self._line = line
            async with self._turn:
                await self._catch_up(True)
        except BaseException:
            await self._leave()
            raise
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def disconnect(self) -> None:
        """Leave the terminal; orders go on working there. May be called more than once."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._leave()
        self._events.close()

    async def _leave(self) -> None:
        self._line = None
        hub, self._hub = self._hub, None
        if hub is not None:
            await hub.leave(self._user)
        self._memory.close()

    async def _run(self) -> None:
        """Keep the line, and the orders up to date, until cancelled."""
        pause, anew = self._patience.retry, False
        while True:
            self._wake.clear()
            try:
                anew = await self._renew() or anew
                async with self._turn:
                    await self._catch_up(anew)
            except LiveTraderError as error:
                log.warning("%s", error)
            except Exception:  # orders of which nothing is heard any more would be worse
                log.exception("%s: the orders could not be brought up to date", self._where)
            else:
                pause, anew = self._patience.retry, False
                await self._rest()
                continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._patience.longest_retry)

    async def _renew(self) -> bool:
        """Make a new line if the old one is lost; returns whether it did. Raises Unavailable."""
        if self._hub is None:
            raise NotConnected(self.lost)
        if self._line is not None and not self.lost:
            return False
        line = await self._new_line(self._hub)
        self._check_account(await self._account_on(line))
        self._line = line
        return True

    def _check_account(self, number: str) -> None:
        """Raise Unavailable if the terminal was logged in to another account meanwhile."""
        if number != self.account_id:
            raise Unavailable(
                f"{self._where}: the terminal is logged in to account {number}, and not to "
                f"{self.account_id}; log in again, or restart this server"
            )

    async def _new_line(self, hub: Hub[LineT, Any]) -> LineT:
        return await hub.line(self._patience.timeout, self._patience.connect_timeout)

    @property
    def lost(self) -> str:
        """As :attr:`TradeBase.lost`."""
        if self._line is None:
            return f"{self._where}: not connected; call connect() first"
        return "" if self._line.lost is None else str(self._line.lost)

    def _working(self) -> LineT:
        if self._line is None or self.lost:
            raise NotConnected(self.lost)
        return self._line

    # ---- what is told

    def watch_events(self) -> AsyncIterator[VenueEvent]:
        """As :meth:`TradeBase.watch_events`."""
        return self._events.reader()

    def now(self, symbol: str) -> int:
        """The time of the ``clock`` (UTC ms)."""
        return self._clock.now()
