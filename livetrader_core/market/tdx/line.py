"""One connection to one host: one request at a time, and never another's answer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from livetrader_core.errors import LiveTraderError, NotConnected, ProtocolError, RequestTimeout
from livetrader_core.market.tdx.wire import HEADER_SIZE, Header, Request, read_body, read_header

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """Where a host is."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class NotSent(NotConnected):
    """The connection was given up before the request left."""


@dataclass
class _Asked:
    """The request that waits for its answer."""

    request: Request[Any]
    tag: int
    body: asyncio.Future[bytes]


class Line(asyncio.Protocol):
    """A connection that is given up at the first thing wrong with it.

    A request that times out, fails or is cancelled leaves an answer on its way that nobody may
    take for the next one's, so the connection is aborted. Each request has a tag of its own, and
    what repeats the tag of an earlier one is dropped.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        #: Why it was given up; empty while it stands.
        self.why = ""
        #: Whether it was given up because a caller went away, not because something was wrong.
        self.abandoned = False
        #: How many calls it has in hand.
        self.load = 0
        #: When something was last heard (the event loop's time).
        self.heard = 0.0
        #: Answers that came a second time.
        self.repeated = 0
        self.on_lost: Callable[[Line], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()
        self._lock = asyncio.Lock()
        self._buffer = bytearray()
        self._tag = 0
        self._asked: _Asked | None = None

    @classmethod
    async def open(cls, address: Address, timeout: float) -> Line:
        """A connection to ``address``. Raises NotConnected after ``timeout`` seconds at most."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            loop.create_connection(lambda: cls(address), address.ip, address.port)
        )
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        except asyncio.CancelledError:
            _give_up(task)
            raise
        if not done:
            _give_up(task)
            raise NotConnected(f"{address}: no connection within {timeout:g} s")
        try:
            _, line = task.result()
        except OSError as error:
            raise NotConnected(f"{address}: {error.strerror or error}") from error
        return line

    @property
    def standing(self) -> bool:
        """Whether it can be used."""
        return not self.why

    async def call(self, request: Request[T], timeout: float) -> T:
        """The answer to ``request``. Raises NotSent, NotConnected, RequestTimeout, ProtocolError.

        Calls wait for one another; ``timeout`` is for each answer alone.
        """
        self.load += 1
        try:
            async with self._lock:
                if not self.standing:
                    raise NotSent(f"{self.address}: {self.why}")
                body = await self._ask(request, timeout)
        finally:
            self.load -= 1
        try:
            return request.parse(body)
        # The parsers are pytdx's: they raise whatever comes to them.
        except (ProtocolError, struct.error, ValueError, LookupError) as error:
            self.abort(f"the answer to {request.what} cannot be read: {error}")
            raise ProtocolError(f"{self.address}: {self.why}") from error

    async def _ask(self, request: Request[Any], timeout: float) -> bytes:
        self._tag += 1
        asked = _Asked(request, self._tag, self._loop.create_future())
        self._asked = asked
        timer = self._loop.call_later(timeout, self._expire, request, timeout)
        try:
            assert self._transport is not None
            self._transport.write(request.tagged(asked.tag))
            return await asked.body
        finally:
            timer.cancel()
            self._asked = None
            if asked.body.cancelled():
                self.abandoned = self.standing
                self.abort("a request was given up")

    def _expire(self, request: Request[Any], timeout: float) -> None:
        why = f"no answer within {timeout:g} s to {request.what}"
        self._fail(RequestTimeout(f"{self.address}: {why}"), why)

    def abort(self, why: str) -> None:
        """Give the connection up, because of ``why``."""
        self._fail(NotConnected(f"{self.address}: {why}"), why)

    def _fail(self, error: LiveTraderError, why: str) -> None:
        if self.standing:
            self.why = why
            if self._transport is not None:
                self._transport.abort()
            if self.on_lost is not None:
                self.on_lost(self)
        if self._asked is not None and not self._asked.body.done():
            self._asked.body.set_exception(error)

    async def close(self) -> None:
        """Abort it and wait until its socket is gone."""
        self.abort("closed")
        await asyncio.wait({self._closed})

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self.heard = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort(f"the host closed the connection{f' ({exc})' if exc else ''}")
        if not self._closed.done():
            self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        self._buffer += data
        try:
            while self.standing and self._take_frame():
                pass
        except ProtocolError as error:
            self._fail(ProtocolError(f"{self.address}: {error}"), str(error))

    def _take_frame(self) -> bool:
        """Take one whole frame out of the buffer, if there is one."""
        if len(self._buffer) < HEADER_SIZE:
            return False
        header = read_header(bytes(self._buffer[:HEADER_SIZE]))
        end = HEADER_SIZE + header.zipped
        if len(self._buffer) < end:
            return False
        data = bytes(self._buffer[HEADER_SIZE:end])
        del self._buffer[:end]
        self._take_answer(header, data)
        return True

    def _take_answer(self, header: Header, data: bytes) -> None:
        asked = self._asked
        if asked is not None and header.tag == asked.tag and not asked.body.done():
            if header.command != asked.request.command:
                raise ProtocolError(
                    f"an answer to command {header.command:04x}, "
                    f"asked {asked.request.command:04x} for {asked.request.what}"
                )
            asked.body.set_result(read_body(header, data))
        elif 0 < header.tag <= self._tag:
            self.repeated += 1
        else:
            raise ProtocolError(f"an answer with the tag {header.tag:08x}, which nobody sent")


def _give_up(connecting: asyncio.Task[tuple[asyncio.Transport, Line]]) -> None:
    """End an attempt to connect, even if it succeeds at this very moment."""

    def drop(task: asyncio.Task[tuple[asyncio.Transport, Line]]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.result()[1].abort("it came too late")

    connecting.cancel()
    connecting.add_done_callback(drop)
