"""Adapters of the plain venue with one mistake each, and the card that must notice it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from livetrader_core.errors import InvalidRequest, NotConnected, Unavailable, UnknownSymbol
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, FeedState, Kline, Klines
from livetrader_core.timeframe import DAY_MS, MINUTE_MS, duration_ms
from tests.support.plain_market import PlainMarket
from tests.support.plain_venue import PAGE

#: Mutant: the card that must fail.
MUTANTS: list[tuple[type[PlainMarket], str]] = []


def caught_by(number: str):  # type: ignore[no-untyped-def]
    """The decorated mutant must fail card ``number``."""

    def register(mutant: type[PlainMarket]) -> type[PlainMarket]:
        MUTANTS.append((mutant, number))
        return mutant

    return register


class HistoryMutant(PlainMarket):
    """Wrong only in what it answers: ``_twist`` is given the right answer and the question."""

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        klines = await super().get_kline_histories(
            symbol, from_ts, limit, to_ts, timeframe, forming
        )
        return await self._twist(klines, from_ts, limit, to_ts)

    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        return klines

    async def _right(self, *arguments: Any) -> Klines:
        return await PlainMarket.get_kline_histories(self, *arguments)


class StreamMutant(PlainMarket):
    """Wrong only in what it streams."""

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        since = (moment - self._streams.last(symbol, timeframe)) // duration_ms(timeframe) + 2
        klines = await self.get_kline_histories(symbol, limit=since, timeframe=timeframe)
        self._streams.offer(self._twist(klines, moment))

    def _twist(self, klines: Klines, moment: int) -> Klines:
        return klines


def with_columns(klines: Klines, keep: Any = slice(None), **columns: Any) -> Klines:
    """``klines`` with rows kept and columns changed."""
    names = ("open", "high", "low", "close", "volume", "open_interest")
    return Klines.from_columns(
        columns.get("symbol", klines.symbol),
        klines.timeframe,
        columns.get("datetime", klines.datetime)[keep],
        [columns.get(name, getattr(klines, name))[keep] for name in names],
        trading_day=columns.get("trading_day", klines.trading_day),
        forming=klines.forming,
    )


# --------------------------------------------------------------------------- life


@caught_by("M01")
class OffHours(PlainMarket):
    """Believes in the computer's time."""

    def now(self) -> int:
        return super().now() - DAY_MS


@caught_by("M02")
class NeverDown(PlainMarket):
    """Connects to nothing without a word."""

    async def connect(self) -> None:
        with suppress(Unavailable):
            await super().connect()


@caught_by("M02")
class WaitsForEver(PlainMarket):
    """Tries to connect until the venue is there."""

    async def connect(self) -> None:
        while not self._tasks:
            with suppress(Unavailable):
                await super().connect()
            await asyncio.sleep(0.01)


@caught_by("M03")
class Unsorted(PlainMarket):
    async def list_symbols(self) -> list[str]:
        return sorted(self._symbols, reverse=True)


@caught_by("M03")
class CoarseTick(PlainMarket):
    async def get_contract(self, symbol: str) -> Contract:
        return replace(await super().get_contract(symbol), price_tick=0.25)


@caught_by("M04")
class AnySymbol(PlainMarket):
    """Has no klines of a symbol that it does not know, and says no more."""

    async def get_kline_histories(self, symbol: str, *a: Any, **k: Any) -> Klines:
        try:
            return await super().get_kline_histories(symbol, *a, **k)
        except UnknownSymbol:
            return Klines.empty(symbol, "1m")


@caught_by("M05")
class AnyTimeframe(PlainMarket):
    async def get_kline_histories(self, *a: Any, **k: Any) -> Klines:
        try:
            return await super().get_kline_histories(*a, **k)
        except InvalidRequest:
            return await super().get_kline_histories(a[0], limit=1)


@caught_by("M40")
class LeakedTask(PlainMarket):
    async def disconnect(self) -> None:
        self._tasks.clear()
        await super().disconnect()


@caught_by("M40")
class LeakedThread(PlainMarket):
    """A thread for each connection, which disconnecting does not end."""

    async def connect(self) -> None:
        _ends.clear()
        threading.Thread(target=_ends.wait, args=(5.0,), daemon=True).start()
        await super().connect()


@caught_by("M40")
class LeakedSocket(PlainMarket):
    """A socket for each connection, which disconnecting does not close."""

    async def connect(self) -> None:
        _left.append(socket.socket())
        await super().connect()


_ends = threading.Event()
_left: list[socket.socket] = []


def clean_up() -> None:
    """Take away what mutants left behind."""
    _ends.set()
    while _left:
        _left.pop().close()


@caught_by("M41")
class DisconnectsOnce(PlainMarket):
    async def disconnect(self) -> None:
        if self._writer is None and self._told is None:
            raise NotConnected("not connected")
        await super().disconnect()


@caught_by("M42")
class ConnectsOnce(PlainMarket):
    """Goes on polling only the first time."""

    async def connect(self) -> None:
        if hasattr(self, "_before"):
            await self._open()
        else:
            self._before = True
            await super().connect()


@caught_by("M43")
class ForgetsRequests(PlainMarket):
    async def connect(self) -> None:
        await super().connect()
        self._timeout = 60.0

    def _fail(self, why: Unavailable) -> None:
        return


# --------------------------------------------------------------------------- history


@caught_by("M10")
class OneTooFew(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        return klines[-(limit - 1) :] if limit and limit > 1 else klines


@caught_by("M11")
class ToInclusive(HistoryMutant):
    async def _page(
        self, symbol: str, timeframe: str, from_ts: int | None, limit: int, to_ts: int | None
    ) -> Klines:
        inclusive = None if to_ts is None else to_ts + 1
        return await super()._page(symbol, timeframe, from_ts, limit, inclusive)


@caught_by("M11")
class FromExclusive(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        return with_columns(klines, klines.datetime != from_ts)


@caught_by("M12")
class OldestOfRange(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        if from_ts is None or limit is None:
            return klines
        whole = await self._right(klines.symbol, from_ts, None, to_ts)
        return whole[:limit]


@caught_by("M13")
class NearestInstead(HistoryMutant):
    """Gives the last kline before a range that holds none."""

    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        return klines if len(klines) else await self._right(klines.symbol, None, 1, to_ts)


@caught_by("M14")
class NothingBeyond(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        if from_ts is not None and from_ts > self.now():
            raise InvalidRequest("from_ts lies in the future")
        return klines


@caught_by("M15")
class OnePageOnly(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        return klines[-2 * PAGE :]


@caught_by("M15")
class DoubledPageEdge(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        if len(klines) <= PAGE:
            return klines
        return Klines.concat([klines[: -PAGE + 1], klines[-PAGE:]])


@caught_by("M15")
class NoDaylightSaving(HistoryMutant):
    """Is an hour off before the clocks were changed."""

    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        off = np.where(klines.datetime < 1_762_063_200_000, 60 * MINUTE_MS, 0)
        return with_columns(klines, datetime=klines.datetime - off)


@caught_by("M16")
class FormingAsClosed(HistoryMutant):
    async def get_kline_histories(self, *a: Any, **k: Any) -> Klines:
        klines = await self._right(*[*a, None, None, None, "1m"][:5], True)
        klines.forming = False
        return klines


@caught_by("M17")
class FormingUnmarked(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        klines.forming = False
        return klines


@caught_by("M17")
class NeverForming(HistoryMutant):
    async def get_kline_histories(self, *a: Any, **k: Any) -> Klines:
        return await self._right(*a[:5], **{n: v for n, v in k.items() if n != "forming"})


@caught_by("M18")
class StampedAtTheEnd(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        late = duration_ms(klines.timeframe) - MINUTE_MS
        return with_columns(klines, datetime=klines.datetime + late)


@caught_by("M19")
class MidnightDays(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        if klines.timeframe != "1d":
            return klines
        return with_columns(klines, datetime=klines.datetime // DAY_MS * DAY_MS)


@caught_by("M19")
class NoTradingDay(HistoryMutant):
    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        return with_columns(klines, trading_day=None)


# --------------------------------------------------------------------------- streams


@caught_by("M20")
class DropsSome(StreamMutant):
    def _twist(self, klines: Klines, moment: int) -> Klines:
        return with_columns(klines, klines.datetime // MINUTE_MS % 4 != 0)


@caught_by("M20")
class SaysTwice(PlainMarket):
    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        async for kline in super().watch_klines(symbol, timeframe):
            yield kline
            if kline.datetime // MINUTE_MS % 3 == 0:
                yield kline


@caught_by("M20")
class TooEarly(PlainMarket):
    """Takes the kline that forms for a closed one."""

    async def _run(self) -> None:
        half = MINUTE_MS // 2
        moment = self._clock.now() // half * half
        while True:
            await self._clock.sleep_until(moment + half)
            moment = self._clock.now() // half * half
            for symbol, timeframe in self._streams.wanted():
                klines = await self._page(symbol, timeframe, None, 3, None)
                klines.forming = False
                self._streams.offer(klines)


@caught_by("M20")
class SilentMinute(PlainMarket):
    """Gives a kline one minute late."""

    async def _poll(self, moment: int) -> bool:
        await self._clock.sleep_until(moment + MINUTE_MS)
        return await super()._poll(moment)


@caught_by("M20")
class WrongVolume(StreamMutant):
    """Has only what had traded by the time it looked."""

    def _twist(self, klines: Klines, moment: int) -> Klines:
        return with_columns(klines, volume=klines.volume // 2)


@caught_by("M21")
class MixesSymbols(PlainMarket):
    """Takes whatever answer comes for the one it asked for."""

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        other = self._symbols[moment // MINUTE_MS % 2]
        klines = await self.get_kline_histories(other, limit=2)
        self._streams.offer(with_columns(klines, symbol=symbol))


@caught_by("M22")
class MinutesForAll(PlainMarket):
    """Gives minutes, whatever timeframe is watched."""

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        async for kline in super().watch_klines(symbol, "1m"):
            yield replace(kline, timeframe=timeframe)


@caught_by("M23")
class SettlesFirst(PlainMarket):
    async def _run(self) -> None:
        moment = self._clock.now() // MINUTE_MS * MINUTE_MS
        while True:
            await self._clock.sleep_until(moment + MINUTE_MS)
            moment = self._clock.now() // MINUTE_MS * MINUTE_MS
            await self._settle(moment)
            await self._poll(moment)


@caught_by("M23")
class NeverSettles(PlainMarket):
    async def _settle(self, moment: int) -> None:
        return


@caught_by("M23")
class NoClock(PlainMarket):
    clocked = False


@caught_by("M24")
class NewestOnly(PlainMarket):
    """Gives the newest kline, however far the clock went."""

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        self._streams.offer(await self.get_kline_histories(symbol, limit=1, timeframe=timeframe))


@caught_by("M25")
class FillsTheNight(PlainMarket):
    """Makes up klines where nothing traded."""

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        await super()._offer(symbol, timeframe, moment)
        if not default_contract(symbol).sessions.is_open(moment - MINUTE_MS):
            last = (await self.get_kline_histories(symbol, limit=1))[0]
            made_up = replace(last, datetime=moment - MINUTE_MS)
            self._streams.offer(Klines.of(symbol, timeframe, [made_up]))


@caught_by("M26")
class SlowHistory(HistoryMutant):
    """Its history is a minute behind its stream."""

    async def _twist(
        self, klines: Klines, from_ts: int | None, limit: int | None, to_ts: int | None
    ) -> Klines:
        if limit != 5:
            return klines
        return await self._right(klines.symbol, None, 5, int(klines.datetime[-1]))


@caught_by("M27")
class OneReaderOnly(PlainMarket):
    """Gives each kline to whoever is first."""

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        given: set[int] = self.__dict__.setdefault("_given", set())
        async for kline in super().watch_klines(symbol, timeframe):
            if kline.datetime not in given:
                given.add(kline.datetime)
                yield kline


@caught_by("M28")
class RemembersReaders(PlainMarket):
    """Who comes back gets what was missed."""

    def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        since: dict[str, int] = self.__dict__.setdefault("_since", {})
        after = since.setdefault(symbol, self.now() - duration_ms(timeframe))
        return self._streams.klines(symbol, timeframe, after)


@caught_by("M29")
class WaitsForTheDead(PlainMarket):
    """Says no moment while anybody is busy with a kline, dead or alive."""

    _busy = 0

    async def watch_klines(self, symbol: str, timeframe: str = "1m") -> AsyncIterator[Kline]:
        async for kline in super().watch_klines(symbol, timeframe):
            self._busy += 1
            yield kline
            self._busy -= 1

    async def _settle(self, moment: int) -> None:
        if not self._busy:
            await super()._settle(moment)


# --------------------------------------------------------------------------- the line


class Forgetful(PlainMarket):
    """Goes on with the newest kline after the line was down."""

    async def _reopen(self) -> None:
        await super()._reopen()
        self._skip = True

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        if getattr(self, "_skip", False):
            klines = await self.get_kline_histories(symbol, limit=1, timeframe=timeframe)
            self._streams.offer(klines)
        else:
            await super()._offer(symbol, timeframe, moment)


caught_by("M30")(Forgetful)
caught_by("M31")(type("ForgetfulAfterRestart", (Forgetful,), {}))


@caught_by("M30")
class GivesUp(PlainMarket):
    """Does not connect again."""

    async def _reopen(self) -> None:
        await asyncio.Event().wait()


@caught_by("M32")
class SkipsWhatTimesOut(PlainMarket):
    """Minutes that were not answered are forgotten."""

    async def _poll(self, moment: int) -> bool:
        if not await super()._poll(moment):
            for symbol, timeframe in self._streams.wanted():
                self._streams._last[symbol, timeframe] = moment - MINUTE_MS
            return True
        return True


class TakesTheNextReply(PlainMarket):
    """Does not look at the number of a reply."""

    def _on_reply(self, reply: dict[str, Any]) -> None:
        number = next(iter(self._replies), None)
        self._early = getattr(self, "_early", [])
        if number is None:
            self._early.append(reply)  # nobody waits for it yet
        else:
            super()._on_reply({**reply, "id": number})

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if early := getattr(self, "_early", []):
            reply: dict[str, Any] = early.pop(0)
            return reply
        return await super()._ask(request)

    async def _poll(self, moment: int) -> bool:
        try:
            return await super()._poll(moment)
        except KeyError:
            return False

    async def _close(self, why: Unavailable) -> None:
        # A new line is opened only at the end: what was asked before is still being answered.
        if not self._tasks:
            await super()._close(why)


caught_by("M33")(TakesTheNextReply)
caught_by("M35")(type("TakesTheRepeatedReply", (TakesTheNextReply,), {}))


@caught_by("M34")
class BelievesEmptiness(StreamMutant):
    """An empty answer says that nothing traded."""

    async def _offer(self, symbol: str, timeframe: str, moment: int) -> None:
        after = self._streams.last(symbol, timeframe) + 1
        klines = await self._page(symbol, timeframe, after, PAGE, moment)
        self._streams.offer(klines)


@caught_by("M36")
class TellsAgain(PlainMarket):
    def _state(self, state: FeedState, reason: str = "") -> None:
        self._tell(state, reason)


@caught_by("M36")
class TellsNothing(PlainMarket):
    def _state(self, state: FeedState, reason: str = "") -> None:
        return


@caught_by("M36")
class TellsNoReason(PlainMarket):
    def _state(self, state: FeedState, reason: str = "") -> None:
        super()._state(state)


@caught_by("M37")
class EmptyWhileAway(PlainMarket):
    async def get_kline_histories(self, symbol: str, *a: Any, **k: Any) -> Klines:
        try:
            return await super().get_kline_histories(symbol, *a, **k)
        except Unavailable:
            return Klines.empty(symbol, "1m")


@caught_by("M37")
class OsErrorWhileAway(PlainMarket):
    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await super()._ask(request)
        except Unavailable as error:
            raise ConnectionResetError("104") from error
