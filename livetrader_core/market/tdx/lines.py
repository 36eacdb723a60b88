"""Hosts, ranked by the bars they really give, and the connections to them.

A port that accepts, or an instrument count, says little: hosts that answer everything with nothing
are common.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from livetrader_core.errors import LiveTraderError, NotConnected, ProtocolError, Unavailable
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.line import Address, Line, NotSent
from livetrader_core.market.tdx.wire import Request

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Hosts whose newest bars differ by less than this count as equally fresh.
_SAME_MS = 2 * 60_000


@dataclass
class Host:
    """One host and what is known of it."""

    address: Address
    #: Bars received, and answers in a row that held none where there should be some.
    bars: int = 0
    empty: int = 0
    #: Failures in a row.
    failures: int = 0
    #: Seconds to its first answers, its newest bar and its clock's error (ms) when last tried.
    latency: float = 0.0
    newest: int = 0
    clock_error: int = 0
    #: What was last wrong with it.
    why: str = ""

    @property
    def rank(self) -> tuple[bool, int, int, int, float]:
        """Smaller is better."""
        return (
            not self.newest,
            self.empty,
            self.failures,
            -(self.newest // _SAME_MS),
            self.latency,
        )


@dataclass(frozen=True)
class Limits:
    """Seconds and counts: what is waited for, and how long."""

    timeout: float = 5.0
    connect_timeout: float = 5.0
    backoff: float = 1.0
    backoff_most: float = 60.0
    heartbeat: float = 10.0
    connections: int = 2


class Lines:
    """Connections to the best hosts, reopened when they break.

    ``probe`` asks a line for bars and returns when the newest opened (UTC ms; 0: it has none).
    ``on_change`` hears of each change: True when there is a line again, False and why when the
    last one is lost.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        limits: Limits,
        now: Callable[[], int],
        probe: Callable[[Line], Awaitable[int]],
        on_change: Callable[[bool, str], None],
    ) -> None:
        self.hosts = [Host(address) for address in addresses]
        self.limits = limits
        self._by_address = {host.address: host for host in self.hosts}
        self._now = now
        self._probe = probe
        self._on_change = on_change
        self._lines: set[Line] = set()
        self._opening = False
        self._no_more_until = 0.0
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._told_up = True

    # ---- life

    async def open(self) -> None:
        """Try every host and connect to the best. Raises Unavailable naming each that failed."""
        await self._connect()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Leave no connection and no task."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self._up.clear()
        lines, self._lines = list(self._lines), set()
        for line in lines:
            line.on_lost = None
        await asyncio.gather(*(line.close() for line in lines))

    @property
    def attempts(self) -> int:
        """How often a request is tried."""
        return max(3, min(len(self.hosts) + 1, 5))

    @property
    def standing(self) -> bool:
        """Whether there is a line at the moment."""
        return self._up.is_set()

    async def wait(self, timeout: float) -> bool:
        """Whether there is a line, or is one within ``timeout`` seconds."""
        if self._up.is_set():
            return True
        waiter = asyncio.ensure_future(self._up.wait())
        try:
            await asyncio.wait({waiter}, timeout=timeout)
        finally:
            waiter.cancel()
        return self._up.is_set()

    # ---- requests

    async def call(self, request: Request[T]) -> tuple[T, Host]:
        """The answer to ``request`` and who gave it, after some attempts. Raises Unavailable."""
        clock = asyncio.get_running_loop()
        patience = self.limits.connect_timeout + self.limits.timeout
        deadline = clock.time() + self.attempts * patience
        failures: list[LiveTraderError] = []
        while len(failures) < self.attempts:
            left = deadline - clock.time()
            if left <= 0 or not await self.wait(min(left, patience)):
                raise NotConnected(f"{request.what}: no host answers; {self._reasons()}")
            try:
                return await self._call_once(request)
            except NotSent:
                continue  # another request was what failed
            except (Unavailable, ProtocolError) as error:
                failures.append(error)
        if isinstance(failures[-1], Unavailable):
            raise failures[-1]
        raise Unavailable(str(failures[-1])) from failures[-1]

    async def _call_once(self, request: Request[T]) -> tuple[T, Host]:
        line = await self._free_line()
        host = self._by_address[line.address]
        try:
            answer = await line.call(request, self.limits.timeout)
        except NotSent:
            raise
        except (Unavailable, ProtocolError) as error:
            host.failures += 1
            host.why = str(error)
            raise
        host.failures = 0
        return answer, host

    async def _free_line(self) -> Line:
        """The line with the least to do; a further one is opened if all are at work."""
        line = min(self._lines, key=lambda line: line.load)
        now = asyncio.get_running_loop().time()
        full = len(self._lines) >= self.limits.connections or self._opening
        if not line.load or full or now < self._no_more_until:
            return line
        self._opening = True
        try:
            another = await self._greet(min(self.hosts, key=lambda host: host.rank))
        except (Unavailable, ProtocolError):
            self._no_more_until = now + self.limits.backoff_most
            return line
        finally:
            self._opening = False
        self._adopt(another)
        return another

    def gave(self, host: Host, bars: int) -> None:
        """``host`` gave so many bars."""
        host.bars += bars
        host.empty = 0

    def doubt(self, host: Host, why: str) -> None:
        """``host`` gave no bars where there are some: it is left if there is a better one."""
        host.empty += 1
        host.why = why
        if any(other.rank < host.rank for other in self.hosts):
            self._leave([line for line in self._lines if line.address == host.address], why)

    def rank_anew(self, why: str) -> None:
        """Compare all hosts and go on with the best; the line counts as unbroken."""
        self._leave(list(self._lines), why)

    def _leave(self, lines: list[Line], why: str) -> None:
        for line in lines:
            line.abandoned = True
            line.abort(why)

    def _reasons(self) -> str:
        return "; ".join(host.why or f"{host.address}: not tried" for host in self.hosts)

    async def examine(self) -> list[Host]:
        """What every host answers now, each tried on a connection of its own, in their order."""
        hosts = [Host(host.address) for host in self.hosts]
        lines = await asyncio.gather(*(self._try(host) for host in hosts))
        await asyncio.gather(*(line.close() for line in lines if line is not None))
        return hosts

    # ---- connections

    async def _connect(self) -> None:
        """Rank the hosts anew and keep a line to the best. Raises Unavailable."""
        tries = [asyncio.ensure_future(self._try(host)) for host in self.hosts]
        try:
            await self._first_and_near(tries)
        finally:
            for trial in tries:
                trial.cancel()
            await asyncio.wait(tries)
        found = [trial.result() for trial in tries if not trial.cancelled()]
        lines = [line for line in found if line is not None and line.standing]
        if not lines:
            raise Unavailable(f"host: none of TDX's hosts answers: {self._reasons()}")
        lines.sort(key=lambda line: self._by_address[line.address].rank)
        for spare in lines[1:]:
            spare.abort("another host is better")
        best = self._by_address[lines[0].address]
        if not best.newest:
            log.warning(
                "%s answers, but gave no bars; `livetrader doctor` shows which hosts do",
                best.address,
            )
        self._adopt(lines[0])

    async def _first_and_near(self, tries: Sequence[asyncio.Future[Line | None]]) -> None:
        """Wait until one host gave bars, and a little longer; else for all of them."""
        loop = asyncio.get_running_loop()
        began, left = loop.time(), set(tries)
        while left and not any(host.newest for host in self.hosts):
            _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        if left:
            await asyncio.wait(left, timeout=0.2 + 2 * (loop.time() - began))

    async def _try(self, host: Host) -> Line | None:
        """A line to ``host``, which is judged by what it answers; None if it does not."""
        line: Line | None = None
        host.newest = 0
        try:
            line = await self._greet(host)
            host.newest = await self._probe(line)
        except (Unavailable, ProtocolError) as error:
            host.why = str(error)
            host.failures += 1
            if line is not None:
                line.abort("it failed its trial")
            return None
        except BaseException:
            if line is not None:
                line.abort("its trial was given up")
            raise
        host.failures = 0
        return line

    async def _greet(self, host: Host) -> Line:
        """A new line to ``host``, set up."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            line = await Line.open(host.address, self.limits.connect_timeout)
            try:
                clock = await line.call(wire.setup(), self.limits.timeout)
            except BaseException:
                line.abort("it was not greeted")
                raise
        except (Unavailable, ProtocolError) as error:
            host.why = str(error)
            raise
        host.latency = loop.time() - began
        host.clock_error = clock - self._now() if clock else 0
        return line

    def _adopt(self, line: Line) -> None:
        self._lines.add(line)
        line.on_lost = self._on_lost
        if not line.standing:
            self._on_lost(line)
            return
        self._up.set()

    def _on_lost(self, line: Line) -> None:
        self._lines.discard(line)
        if self._lines:
            return
        self._up.clear()
        if not line.abandoned:
            self._tell(False, f"{line.address}: {line.why}")
        self._lost.set()

    def _tell(self, up: bool, why: str = "") -> None:
        if up != self._told_up:
            self._told_up = up
            self._on_change(up, why)

    async def _keep(self) -> None:
        """Reconnect when no line is left, and keep idle ones alive."""
        while True:
            if not self._lines:
                await self._reconnect()
            self._lost.clear()
            if self._lines:
                await self._nap()
                await self._beat()

    async def _nap(self) -> None:
        waiter = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({waiter}, timeout=self.limits.heartbeat / 2)
        finally:
            waiter.cancel()

    async def _reconnect(self) -> None:
        pause = self.limits.backoff
        while True:
            try:
                await self._connect()
            except Unavailable as error:
                self._tell(False, str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, self.limits.backoff_most)
            else:
                if self._lines:
                    self._tell(True)
                return

    async def _beat(self) -> None:
        """Ask something of each line that was silent: a host drops lines it hears nothing from."""
        stale = asyncio.get_running_loop().time() - self.limits.heartbeat
        for line in [line for line in self._lines if not line.load and line.heard < stale]:
            try:
                await line.call(wire.count(), self.limits.timeout)
            except (Unavailable, ProtocolError) as error:
                self._by_address[line.address].why = str(error)
