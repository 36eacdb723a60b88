"""Orders that close a position: set on its tickets as stop-loss or take-profit.

As a pending order such an order would open a second ticket against the first, in an account that
holds both. As a level of the ticket it closes it, and works on when this server is gone. The expert
advisor sets both levels of a ticket at once, and 0 points means the open price: a level that is not
wanted is set where no price ever comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from livetrader_core.models import Contract, Order, OrderType
from livetrader_core.trade.dwx.closing import gain_of
from livetrader_core.trade.dwx.messages import Trade

#: Beyond this multiple (or part) of the open price no price ever comes.
_FAR = 5.0
#: Tickets that vanish together are told apart by the balance, if they are not more than these.
_MOST_TOGETHER = 6


@dataclass(frozen=True)
class Guarded:
    """A ticket with a level: its lots, its open price, and +1 if it is long, else -1."""

    ticket: int
    lots: float
    price: float
    sign: int


@dataclass(frozen=True)
class Guard:
    """What an order is at the terminal: the ``level`` of tickets, a stop-loss or a take-profit."""

    level: float
    gain: bool
    tickets: tuple[Guarded, ...]

    def but(self, tickets: Iterable[Guarded]) -> Guard:
        """The same of other tickets."""
        return replace(self, tickets=tuple(tickets))


def guard_of(order: Order, opposing: Sequence[Trade]) -> Guard | None:
    """How ``order`` can be set on positions that it closes; None: it can't.

    ``opposing`` are our positions of the other side, oldest first. A ticket has one level of a
    kind, for all its lots: the newest with as many lots as the order, or the oldest together.
    """
    if order.type not in (OrderType.LIMIT, OrderType.STOP):
        return None
    gain = order.type is OrderType.LIMIT
    free = [trade for trade in opposing if not level_of(trade, gain)]
    found = _fitting(order.quantity, free)
    level = order.price if gain else order.stop_price
    return Guard(level, gain, tuple(map(_guarded, found))) if found else None


def _guarded(trade: Trade) -> Guarded:
    return Guarded(trade.ticket, trade.lots, trade.price, trade.side.sign)


def _fitting(lots: float, free: Sequence[Trade]) -> Sequence[Trade]:
    for trade in reversed(free):
        if abs(trade.lots - lots) < 1e-9:
            return [trade]
    for count in range(2, len(free) + 1):
        if abs(sum(trade.lots for trade in free[:count]) - lots) < 1e-9:
            return free[:count]
    return []


def level_of(trade: Trade, gain: bool) -> float:
    """The take-profit or the stop-loss of ``trade``; 0 if it has none."""
    level = trade.take_profit if gain else trade.stop_loss
    return 0.0 if level < trade.price / _FAR or level > trade.price * _FAR else level


def points_of(trade: Trade, gain: bool, level: float, tick: float) -> tuple[int, int]:
    """The points of stop-loss and take-profit that set ``level`` and leave the other as it is."""
    loss, profit = level_of(trade, False), level_of(trade, True)
    if gain:
        profit = level
    else:
        loss = level
    return _points(trade, loss, tick, -1), _points(trade, profit, tick, 1)


def _points(trade: Trade, level: float, tick: float, way: int) -> int:
    """How many points ``level`` (0: none) lies in the direction of the gain (+1) or loss (-1)."""
    sign = trade.side.sign * way
    if level:
        return round((level - trade.price) / tick) * sign
    opened = round(trade.price / tick)
    return opened - 1 if sign < 0 else round(2 * _FAR) * opened


def is_set(guard: Guard, trade: Trade, tick: float) -> bool:
    """Whether ``trade`` has the level of ``guard``."""
    return abs(level_of(trade, guard.gain) - guard.level) < tick / 2


def followed(guard: Guard, trades: Mapping[int, Trade], tick: float) -> list[Guarded]:
    """The tickets that still carry the level; what a partial close left has a new number."""
    rests = {trade.rest_of: trade for trade in trades.values() if trade.rest_of}
    found = []
    for one in guard.tickets:
        trade = trades.get(one.ticket) or rests.get(one.ticket)
        if trade is not None and is_set(guard, trade, tick):
            found.append(_guarded(trade))
    return found


def vanished(guard: Guard, trades: Mapping[int, Trade]) -> list[Guarded]:
    """The tickets that are not open any more."""
    rests = {trade.rest_of for trade in trades.values()}
    return [one for one in guard.tickets if one.ticket not in trades and one.ticket not in rests]


def reached(
    candidates: Mapping[Guarded, Sequence[Guard]],
    gained: float | None,
    contracts: Mapping[Guarded, Contract],
    currency: str,
) -> dict[Guarded, Guard]:
    """Which of its guards closed each ticket that vanished; none of them: it is left out.

    ``gained`` is what the balance grew by meanwhile, None if that is not known.
    """
    tickets = list(candidates)
    if gained is None or len(tickets) > _MOST_TOGETHER:
        return {one: candidates[one][0] for one in tickets}
    best = min(
        itertools.product(*(candidates[one] for one in tickets)),
        key=lambda choice: abs(gained - _total(tickets, choice, contracts, currency)),
    )
    found = dict(zip(tickets, best, strict=True))
    if len(tickets) == 1 and not _explains(tickets[0], best[0], gained, contracts, currency):
        return {}
    return found


def _total(
    tickets: Sequence[Guarded],
    choice: Sequence[Guard],
    contracts: Mapping[Guarded, Contract],
    currency: str,
) -> float:
    return sum(
        gain_of(one.price, one.sign, one.lots, guard.level, contracts[one], currency)
        for one, guard in zip(tickets, choice, strict=True)
    )


def _explains(
    one: Guarded,
    guard: Guard,
    gained: float,
    contracts: Mapping[Guarded, Contract],
    currency: str,
) -> bool:
    """Whether the level can have brought that: a loss may be larger, a gain too, but no less."""
    contract = contracts[one]
    here = gain_of(one.price, one.sign, one.lots, guard.level, contract, currency)
    # Commission and swap, and the broker's own limit of slippage.
    slack = abs(
        gain_of(
            guard.level, 1, one.lots, guard.level + 20 * contract.price_tick, contract, currency
        )
    )
    return gained >= here - slack if guard.gain else gained <= here + slack
