"""The kill switch: it survives a restart, because it lies in the journal.

While it is on, what is left is tried again and again: a venue may be away when it is thrown, and an
order of which nobody knew may turn up later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from livetrader_core.errors import LiveTraderError
from livetrader_core.models import KillState, Order, OrderType, Position, Side
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.journal import Journal

log = logging.getLogger(__name__)

_NOTE = "kill"
#: How the ids of orders begin that close positions.
_OURS = "kill-"


class KillSwitch:
    """Off until it is thrown; then on, whatever is restarted, until it is lifted."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.state = KillState()

    def load(self) -> None:
        """Read the journal. Raises StorageError."""
        noted = self._journal.noted(_NOTE)
        self.state = KillState.from_dict(noted) if noted else KillState()

    def throw(self, reason: str, flatten: bool = False) -> None:
        """Refuse new orders from now on. Raises StorageError; it is on all the same.

        Thrown again, it stays what it was, and flattens if it is asked to now.
        """
        since = self.state.since or time.time_ns() // 1_000_000
        flatten = flatten or self.state.flatten
        self._set(KillState(True, since, reason or self.state.reason, flatten))

    def lift(self) -> None:
        """Take new orders again. Raises StorageError."""
        self._set(KillState())

    def _set(self, state: KillState) -> None:
        if state.on:
            self.state = state  # first of all, whatever the disk does
        self._journal.note(_NOTE, state.to_dict())
        self.state = state

    @property
    def refusal(self) -> str:
        """Why an order is refused; empty if it is not."""
        if not self.state.on:
            return ""
        why = f" ({self.state.reason})" if self.state.reason else ""
        return f"the kill switch is on{why}; lift it with `livetrader kill --lift`"


@dataclass(frozen=True)
class KillDesk:
    """What the trade service does for the switch."""

    adapters: Sequence[TradeBase]
    open_orders: Callable[[], list[Order]]
    find: Callable[[str], Order | None]
    cancel: Callable[[str], Awaitable[None]]
    let_out: Callable[[TradeBase, Order], Awaitable[Order]]


class Killing:
    """Cancels and closes what is left while ``switch`` is on."""

    def __init__(self, switch: KillSwitch, desk: KillDesk) -> None:
        self.switch = switch
        self._desk = desk
        self._flattened_at = float("-inf")
        self._flattening = asyncio.Lock()

    def begin(self) -> None:
        """In this event loop, from now on."""
        self._flattening = asyncio.Lock()
        self._flattened_at = float("-inf")

    def lift(self) -> None:
        """Take new orders again. Raises StorageError."""
        self.switch.lift()
        self._flattened_at = float("-inf")

    async def enforce(self, flattens: bool, pause: float) -> None:
        """Cancel all; ``flattens``, unless that was begun less than ``pause`` seconds ago."""
        await cancel_all(self._desk)
        if not flattens:
            return
        async with self._flattening:  # two at once would each close the same positions
            # A venue's positions may lag behind its fills: closing is not tried again at once.
            if (now := asyncio.get_running_loop().time()) >= self._flattened_at + pause:
                self._flattened_at = now
                await flatten(self._desk, self.switch.state.since)

    async def go_on(self, pause: float) -> None:
        """Try again what could not be done."""
        if self.switch.state.on:
            await self.enforce(self.switch.state.flatten, pause)


async def cancel_all(desk: KillDesk) -> None:
    """Cancel every order but those that close positions; what cannot be is told to the log."""
    names = [order.client_order_id for order in desk.open_orders()]
    await asyncio.gather(*(_cancel(desk, n) for n in names if not n.startswith(_OURS)))


async def _cancel(desk: KillDesk, name: str) -> None:
    try:
        await desk.cancel(name)
    except Exception as error:  # none may keep the others from being canceled
        log.warning("kill: order %s was not canceled: %s", name, error, exc_info=_unforeseen(error))


async def flatten(desk: KillDesk, since: int) -> None:
    """Close every position of every venue that can be asked, unless it is being closed already.

    ``since`` is when the switch was thrown (UTC ms), which is part of the orders' ids.
    """
    for adapter in desk.adapters:
        # An order that closes and fills while positions are asked for may be in them or not.
        before = _closing(desk)
        try:
            await adapter.close_hedged()
            positions = await adapter.fetch_positions()
        except Exception as error:
            venue = type(adapter).__name__
            log.error(
                "kill: positions of %s are not known: %s", venue, error, exc_info=_unforeseen(error)
            )
            continue
        closing = before | _closing(desk)
        for position in positions:
            if position.symbol not in closing:
                await _close(desk, adapter, position, since)


def _closing(desk: KillDesk) -> set[str]:
    """Symbols whose positions are being closed."""
    return {o.symbol for o in desk.open_orders() if o.client_order_id.startswith(_OURS)}


async def _close(desk: KillDesk, adapter: TradeBase, position: Position, since: int) -> None:
    number = 0
    while desk.find(name := f"{_OURS}{since % 10**10}-{number}") is not None:
        number += 1
    side = Side.SELL if position.quantity > 0 else Side.BUY
    order = Order(name, position.symbol, side, OrderType.MARKET, abs(position.quantity))
    try:
        await desk.let_out(adapter, order)
    except Exception as error:
        symbol = position.symbol
        log.error("kill: %s was not flattened: %s", symbol, error, exc_info=_unforeseen(error))


def _unforeseen(error: Exception) -> bool:
    return not isinstance(error, LiveTraderError)
