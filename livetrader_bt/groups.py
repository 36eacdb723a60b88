"""Brackets that wait for their last order, and groups of which one order cancels the rest."""

from __future__ import annotations

import backtrader as bt


class Groups:
    """Which orders belong together."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[bt.Order]] = {}
        self._members: dict[int, list[bt.Order]] = {}

    # ---- brackets

    def take(self, order: bt.Order) -> list[bt.Order]:
        """Take ``order``; returns what leaves now, a parent before its children."""
        queue = self._waiting.setdefault(_root(order), [])
        queue.append(order)
        return self._waiting.pop(_root(order)) if order.transmit else []

    def is_waiting(self, order: bt.Order) -> bool:
        """Whether ``order`` waits for the last of its bracket."""
        return any(other is order for other in self._waiting.get(_root(order), ()))

    def drop(self, order: bt.Order) -> list[bt.Order]:
        """Forget an order that waits, with its children if it is a parent; returns them all."""
        queue = self._waiting.get(_root(order), [])
        if order.parent is None:
            return self._waiting.pop(order.ref, [])
        self._waiting[_root(order)] = [other for other in queue if other is not order]
        return [order]

    def drop_bracket(self, order: bt.Order) -> list[bt.Order]:
        """Forget all that wait in the bracket of ``order``; returns them."""
        return self._waiting.pop(_root(order), [])

    def clear(self) -> list[bt.Order]:
        """Forget all that wait; returns them."""
        waiting = [order for queue in self._waiting.values() for order in queue]
        self._waiting.clear()
        return waiting

    # ---- one cancels the others

    def join(self, order: bt.Order, oco: bt.Order | None) -> bt.Order | None:
        """Put ``order`` into the group of ``oco``; returns the group's first order, if not itself.

        A group of which one order has ended is over: who joins it begins another.
        """
        group = [] if oco is None else self._members.get(oco.ref, [oco])
        if any(not member.alive() for member in group):
            group = []
        group = [*group, order]
        for member in group:
            self._members[member.ref] = group
        if oco is not None:
            self._members[oco.ref] = group
        return group[0] if group[0] is not order else None


def _root(order: bt.Order) -> int:
    return int(order.ref if order.parent is None else order.parent.ref)
