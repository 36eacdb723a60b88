"""The adapter of :mod:`tests.support.plain_venue`: the smallest that passes every card."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from livetrader_core.clock import Clock, parse_clock
from livetrader_core.errors import NotConnected, RequestTimeout, Unavailable, UnknownSymbol
from livetrader_core.market.base import MarketBase
from livetrader_core.market.specs import default_contract
from livetrader_core.market.streams import Streams
from livetrader_core.models import Contract, FeedState, Kline, Klines, market_of
from livetrader_core.timeframe import MINUTE_MS, duration_ms
from tests.support.plain_venue import PAGE


class PlainMarket(MarketBase):
    """Polls the venue at each minute. ``timeout`` and ``back_off`` are seconds of the computer."""

    clocked = True

    def __init__(self, port: int, clock: Clock | str | None = None, timeout: float = 0.2) -> None:
        self._port = port
        self._clock = parse_clock(clock)
        self._timeout = timeout
        self._back_off = 0.01
        self._streams = Streams()
        self._symbols: list[str] = []
        self._writer: asyncio.StreamWriter | None = None
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._told: FeedState | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: asyncio.Task[None] | None = None

    # ---- life

    async def connect(self) -> None:
        if self._tasks:
            return
        await self._open()
        self._tasks = [asyncio.get_running_loop().create_task(self._run())]

    async def disconnect(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close(NotConnected("disconnected"))
        self._told = None

    async def _open(self) -> None:
        where = f"127.0.0.1:{self._port}"
        try:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise Unavailable(f"{where} cannot be reached: {error}") from error
        loop = asyncio.get_running_loop()
        self._listener = loop.create_task(self._listen(reader))
        try:
            self._symbols = (await self._ask({"do": "symbols"}))["symbols"]
        except BaseException:
            await self._close(NotConnected(f"{where} does not answer"))
            raise
        self.markets = tuple(sorted(set(map(market_of, self._symbols))))
        self._state(FeedState.CONNECTED)

    async def _close(self, why: Unavailable) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        self._fail(why)

    def _fail(self, why: Unavailable) -> None:
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            if not reply.done():
                reply.set_exception(why)

    def _state(self, state: FeedState, reason: str = "") -> None:
        if state is not self._told:
            self._told = state
            self._tell(state, reason)

    # ---- the wire

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._on_reply(json.loads(line))
        except ConnectionError:
            pass
        self._fail(NotConnected("the venue closed the line"))
        self._state(FeedState.DISCONNECTED, "the venue closed the line")

    def _on_reply(self, reply: dict[str, Any]) -> None:
        waiting = self._replies.pop(reply["id"], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._writer is None or self._listener is None or self._listener.done():
            raise NotConnected("there is no line to the venue")
        self._count += 1
        number, reply = self._count, asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        self._writer.write((json.dumps({"id": number, **request}) + "\n").encode())
        try:
            await asyncio.wait([reply], timeout=self._timeout)
            if not reply.done():
                raise RequestTimeout(f"no answer within {self._timeout:g} s")
            answer: dict[str, Any] = reply.result()
        finally:
            self._replies.pop(number, None)
        if "error" in answer:
            raise UnknownSymbol(answer["error"])
        return answer

    async def _page(
        self, symbol: str, timeframe: str, from_ts: int | None, limit: int, to_ts: int | None
    ) -> Klines:
        now = self._clock.now()
        request = {"symbol": symbol, "timeframe": timeframe, "from": from_ts, "to": to_ts}
        answer = await self._ask({"do": "bars", "limit": limit, **request})
        sessions = default_contract(symbol).sessions
        return Klines.of(
            symbol,
            timeframe,
            (
                Kline(
                    symbol,
                    timeframe,
                    bar[0],
                    bar[1],
                    bar[2],
                    bar[3],
                    bar[4],
                    bar[5],
                    closed=sessions.kline_end(bar[0], timeframe) <= now,
                    trading_day=bar[6] if timeframe == "1d" else 0,
                )
                for bar in answer["bars"]
            ),
        )

    # ---- requests

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        await self.get_contract(symbol)
        duration_ms(timeframe)
        pages: list[Klines] = [Klines.empty(symbol, timeframe)]
        count, until = 0, to_ts
        while limit is None or count <= limit:  # one more than asked for: the last may form
            page = await self._page(symbol, timeframe, from_ts, PAGE, until)
            pages.insert(1, page)
            count += len(page)
            if len(page) < PAGE:
                break
            until = int(page.datetime[0])
        klines = Klines.concat([page for page in pages if len(page)] or pages[:1])
        closed = klines[:-1] if klines.forming else klines
        wanted = closed if limit is None else closed[-limit:]
        return Klines.concat([wanted, klines[-1:]]) if forming and klines.forming else wanted

    async def get_contract(self, symbol: str) -> Contract:
        market_of(symbol)
        if symbol not in self._symbols:
            raise UnknownSymbol(f"{symbol}: the venue has no such symbol")
        return default_contract(symbol)

    async def list_symbols(self) -> list[str]:
        return sorted(self._symbols)

    def now(self) -> int:
        return self._clock.now()

    # ---- streams

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        now, sessions = self._clock.now(), default_contract(symbol).sessions
        after = now - duration_ms(timeframe)
        if timeframe == "1d":
            after = sessions.open_of(sessions.trading_date(now)) - 1
        return self._streams.klines(symbol, timeframe, after)

    def watch_clock(self) -> AsyncIterator[int]:
        return self._streams.clock()

    async def _run(self) -> None:
        moment = self._clock.now() // MINUTE_MS * MINUTE_MS
        while True:
            await self._clock.sleep_until(moment + MINUTE_MS)
            moment = self._clock.now() // MINUTE_MS * MINUTE_MS
            if await self._poll(moment):
                await self._settle(moment)
                continue
            await asyncio.sleep(self._back_off)
            moment -= MINUTE_MS

    async def _poll(self, moment: int) -> bool:
        """Offer what closed; False if the venue could not be asked."""
        try:
            if self._listener is None or self._listener.done():
                await self._reopen()
            for symbol, timeframe in self._streams.wanted():
                await self._offer(symbol, timeframe, moment)
        except Unavailable as error:
            self._state(FeedState.DISCONNECTED, str(error))
            await self._close(NotConnected(str(error)))
            return False
        return True

    async def _reopen(self) -> None:
        await self._close(NotConnected("the line is opened anew"))
        await self._open()

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        since = (moment - self._streams.last(symbol, timeframe)) // duration_ms(timeframe) + 2
        klines = await self.get_kline_histories(symbol, limit=since, timeframe=timeframe)
        if not len(klines):
            raise Unavailable(f"{symbol}: the venue has klines, and gave none")
        self._streams.offer(klines)

    async def _settle(self, moment: int) -> None:
        await self._streams.settle(moment)
