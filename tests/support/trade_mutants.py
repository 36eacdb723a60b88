"""Trade adapters with one mistake each, and the card that must notice it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from livetrader_core.errors import (
    ConfigError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    Unavailable,
)
from livetrader_core.models import (
    Balance,
    Fill,
    Offset,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    TimeInForce,
)
from livetrader_core.trade.base import TradeBase, VenueEvent
from livetrader_core.trade.dwx import DwxTrade
from livetrader_core.trade.metatrader.trades import Trade
from livetrader_core.trade.mt4 import Mt4Trade
from livetrader_core.trade.mt4.messages import OrderEvent
from livetrader_core.trade.mt4.terminal import Terminal
from livetrader_core.trade.paper import PaperTrade
from livetrader_core.trade.tq import TqTrade

S, T = OrderStatus, OrderType

#: Mutant: the card that must fail.
TRADE_MUTANTS: list[tuple[type[TradeBase], str]] = []


def caught_by(*numbers: str) -> Callable[[type[Any]], type[Any]]:
    """The decorated mutant must fail these cards."""

    def register(mutant: type[Any]) -> type[Any]:
        TRADE_MUTANTS.extend((mutant, number) for number in numbers)
        return mutant

    return register


# --------------------------------------------------------------------------- paper: orders


class Alters(PaperTrade):
    """Takes another order than it was given."""

    def alter(self, order: Order) -> Order:
        """The order that is taken."""
        raise NotImplementedError

    async def create_order(self, order: Order) -> Order:
        return await super().create_order(self.alter(order))


@caught_by("T03")
class OnlyBuys(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(side=Side.BUY)


@caught_by("T04")
class LimitAtMarket(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(type=T.MARKET) if order.type is T.LIMIT else order


@caught_by("T05")
class StopAtMarket(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(type=T.MARKET) if order.type is T.STOP else order


@caught_by("T06")
class StopLimitAtLimit(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(type=T.LIMIT) if order.type is T.STOP_LIMIT else order


@caught_by("T07")
class TrailsNothing(Alters):
    def alter(self, order: Order) -> Order:
        kind = T.STOP if order.type is T.TRAILING_STOP else order.type
        return order.but(type=kind, trail_amount=0.0)


@caught_by("T08")
class NoGroups(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(oco="")


@caught_by("T09", "T10", "T11")
class NoBrackets(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(parent="")


@caught_by("T12", "T13", "T14")
class NeverEnds(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(time_in_force=TimeInForce.GTC, expires_at=0)


@caught_by("T14")
class NotAllOrNothing(Alters):
    def alter(self, order: Order) -> Order:
        fok = order.time_in_force is TimeInForce.FOK
        return order.but(time_in_force=TimeInForce.IOC) if fok else order


@caught_by("T15")
class FillsAtOnce(PaperTrade):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "volume_limit": 0.0})


@caught_by("T20", "T21")
class RoundsInSilence(Alters):
    def alter(self, order: Order) -> Order:
        price, quantity = round(order.price, 2), max(1.0, float(int(order.quantity)))
        return order.but(price=price, quantity=quantity)


@caught_by("T22")
class LendsMoney(PaperTrade):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "check_margin": False})


@caught_by("T22")
class GivesNoReason(PaperTrade):
    def _tell(self, order: Order, clock: int, fill: Fill | None = None) -> None:
        super()._tell(order.but(reason=""), clock, fill)


@caught_by("T23")
class TakesEverySymbol(PaperTrade):
    async def create_order(self, order: Order) -> Order:
        if order.symbol.endswith("ZZZZZZ"):
            return order.but(status=S.ACCEPTED)
        return await super().create_order(order)


@caught_by("T30")
class SendsTwice(PaperTrade):
    async def create_order(self, order: Order) -> Order:
        await super().create_order(order.but(client_order_id=f"{order.client_order_id}+"))
        return await super().create_order(order)


@caught_by("T50")
class MixesSymbols(Alters):
    def alter(self, order: Order) -> Order:
        return order.but(symbol="US.B" if order.symbol == "US.A" else "US.A")


# --------------------------------------------------------------------------- paper: changes


@caught_by("T16", "T26", "T56")
class NeverCancels(PaperTrade):
    async def cancel_order(self, client_order_id: str) -> None:
        return


@caught_by("T27")
class CancelsInWordsOnly(PaperTrade):
    async def cancel_order(self, client_order_id: str) -> None:
        order = await self.fetch_order(client_order_id)
        assert order is not None
        now = self.now(order.symbol)
        self._events.put(VenueEvent(now, order.but(status=S.CANCELED)))


@caught_by("T28")
class NeverTellsTheEnd(PaperTrade):
    def _tell(self, order: Order, clock: int, fill: Fill | None = None) -> None:
        if order.status is not S.CANCELED:
            super()._tell(order, clock, fill)


@caught_by("T29")
class KeepsTheQuantity(PaperTrade):
    async def modify_order(
        self,
        client_order_id: str,
        quantity: float | None = None,
        price: float | None = None,
        stop_price: float | None = None,
    ) -> Order:
        return await super().modify_order(client_order_id, None, price, stop_price)


# --------------------------------------------------------------------------- paper: books


@caught_by("T01", "T55")
class TwoCentsTooMany(PaperTrade):
    async def fetch_balance(self) -> list[Balance]:
        return [replace(one, cash=one.cash + 0.02) for one in await super().fetch_balance()]


@caught_by("T48")
class CannotSay(PaperTrade):
    async def fetch_order(self, client_order_id: str) -> Order | None:
        found = await super().fetch_order(client_order_id)
        if found is None:
            raise Unavailable(f"{client_order_id}: ask again")
        return found


@caught_by("T51")
class NeverShort(PaperTrade):
    async def fetch_positions(self) -> list[Position]:
        return [replace(one, quantity=abs(one.quantity)) for one in await super().fetch_positions()]


@caught_by("T61")
class LeavesATask(PaperTrade):
    async def disconnect(self) -> None:
        if self._remove_hook is not None:
            self._left = asyncio.get_running_loop().create_task(asyncio.sleep(60))
        await super().disconnect()


# --------------------------------------------------------------------------- the line


@caught_by("T02")
class ComesInAnyway(DwxTrade):
    async def connect(self) -> None:
        with suppress(Unavailable, ConfigError):
            await super().connect()


@caught_by("T24", "T25")
class HidesRefusals(DwxTrade):
    async def create_order(self, order: Order) -> Order:
        try:
            return await super().create_order(order)
        except OrderRejected:
            return order.but(status=S.ACCEPTED)


@caught_by("T40", "T41")
class NeverComesBack(DwxTrade):
    async def _renew(self) -> bool:
        if self._line is not None and self._line.lost is not None:
            raise NotConnected("gone for good")
        return await super()._renew()


@caught_by("T42", "T43", "T47")
class DoubtIsRefusal(DwxTrade):
    async def create_order(self, order: Order) -> Order:
        try:
            return await super().create_order(order)
        except OutcomeUnknown as error:
            raise OrderRejected(str(error)) from error


@caught_by("T44")
class TakesWhileAway(DwxTrade):
    async def create_order(self, order: Order) -> Order:
        try:
            return await super().create_order(order)
        except NotConnected:
            return order.but(status=S.ACCEPTED)


@caught_by("T45", "T46")
class Forgets(DwxTrade):
    async def fetch_order(self, client_order_id: str) -> Order | None:
        return None


@caught_by("T57")
class SeesOnlyOurs(DwxTrade):
    async def fetch_open_orders(self) -> list[Order]:
        found = await super().fetch_open_orders()
        return [order for order in found if not order.client_order_id.startswith("mt4:")]


@caught_by("T60")
class NamesFillsAnew(DwxTrade):
    numbers = itertools.count()

    async def fetch_fills(self, since: int = 0) -> list[Fill]:
        found = await super().fetch_fills(since)
        return [replace(one, trade_id=f"{one.trade_id}/{next(self.numbers)}") for one in found]


# --------------------------------------------------------------------------- tickets and offsets


@caught_by("T54")
class NewestFirst(DwxTrade):
    def _target(self, order: Order, trades: dict[int, Trade]) -> Trade | None:
        found = self._opposing(order, trades)
        return found[-1] if found else None


@caught_by("T54")
class NeverCloses(DwxTrade):
    def _target(self, order: Order, trades: dict[int, Trade]) -> Trade | None:
        return None


class TurnedRound(Terminal):
    async def trades(self) -> dict[int, Trade]:
        return dict(reversed((await super().trades()).items()))


@caught_by("T54")
class NewestFirstAtOurAdvisor(Mt4Trade):
    async def connect(self) -> None:
        self._terminal = TurnedRound(self._working, self.markets, "")
        await super().connect()


@caught_by("T41", "T46")
class HearsNoEvents(Mt4Trade):
    def _take(self, event: OrderEvent, journal: str) -> None:
        self._memory.write_all([], event=event.number, journal=journal)


@caught_by("T43", "T47")
class TakesSilenceForRefusal(Mt4Trade):
    async def create_order(self, order: Order) -> Order:
        try:
            return await super().create_order(order)
        except OutcomeUnknown as error:
            raise OrderRejected(str(error)) from error


@caught_by("T59")
class TakesAllForOurs(DwxTrade):
    async def connect(self) -> None:
        self._books.ours = lambda trade: True  # type: ignore[method-assign]
        await super().connect()


@caught_by("T52")
class OnlyOpens(TqTrade):
    async def create_order(self, order: Order) -> Order:
        return await super().create_order(order.but(offset=Offset.OPEN))


@caught_by("T53")
class IgnoresOffsets(TqTrade):
    async def create_order(self, order: Order) -> Order:
        return await super().create_order(order.but(offset=Offset.AUTO))


@caught_by("T58")
class KeepsNoBooks(TqTrade):
    async def connect(self) -> None:
        self.keeps_books = False
        await super().connect()
