"""Brackets and OCO groups: which orders sleep, and which end because others did.

The rules are those of backtrader's own broker. Of an **OCO group** one order that ends in any way,
or is filled in part, cancels the rest. The children of a **bracket** sleep until their parent is
filled and die with it; the first of them that is filled, cancelled or expires ends the others, and
the parent too if that still works. A partly filled child leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from livetrader_core.models import Order, OrderStatus

#: Ends of a child that end its bracket. A refused one leaves the others: a take-profit that the
#: venue does not take must not cost the position its stop.
_ENDS_BRACKET = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED)
_ENDS_BY_ITSELF = (OrderStatus.FILLED, OrderStatus.EXPIRED)


class Links:
    """The linked orders, with those they name, for as long as one of them is open."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._groups: dict[str, list[str]] = {}
        self._children: dict[str, list[str]] = {}
        self._first: dict[str, str] = {}

    def __contains__(self, client_order_id: str) -> bool:
        return client_order_id in self._orders

    def clear(self) -> None:
        """Know of no order."""
        for known in (self._orders, self._groups, self._children, self._first):
            known.clear()

    def add(self, order: Order) -> None:
        """Take ``order``, or what became of it. Whom it names must be added before it."""
        name = order.client_order_id
        if name not in self._orders:
            if order.oco:
                self._groups.setdefault(order.oco, [order.oco]).append(name)
            if order.parent:
                self._children.setdefault(order.parent, []).append(name)
        self._orders[name] = order
        group = order.oco or name
        if order.filled or order.status.is_final:
            self._first.setdefault(group, name)

    def remove(self, order: Order) -> None:
        """Undo :meth:`add` of an order that was new."""
        name = order.client_order_id
        for names in (self._groups.get(order.oco, []), self._children.get(order.parent, [])):
            if name in names:
                names.remove(name)
        del self._orders[name]

    def load(self, orders: Iterable[Order]) -> None:
        """Take orders of an earlier run; those with nothing open around them are left out."""
        # Who was filled came first in its group: what was cancelled without a fill was its loser.
        taken = sorted(orders, key=lambda order: (not order.filled, order.updated_at))
        for order in taken:
            self.add(order)
        self.forget(*[order.client_order_id for order in taken])

    def forget(self, *client_order_ids: str) -> None:
        """Forget each of these and all around it, if they have all ended."""
        for client_order_id in client_order_ids:
            self._forget(client_order_id)

    def _forget(self, client_order_id: str) -> None:
        around = self._around(client_order_id)
        if any(not self._orders[name].status.is_final for name in around):
            return
        for name in around:
            self._groups.pop(name, None)
            self._first.pop(name, None)
            self._children.pop(name, None)
            del self._orders[name]

    def _around(self, client_order_id: str) -> set[str]:
        found: set[str] = set()
        ahead = [client_order_id]
        while ahead:
            name = ahead.pop()
            if name in found or name not in self._orders:
                continue
            found.add(name)
            here = self._orders[name]
            ahead += [here.parent, *self._children.get(name, ())]
            ahead += self._groups.get(here.oco or name, ())
        return found

    def sleeps(self, order: Order) -> bool:
        """Whether ``order`` waits for its parent to be filled."""
        return bool(order.parent) and not self._has_filled(order.parent)

    def _has_filled(self, name: str) -> bool:
        return name in self._orders and self._orders[name].status is OrderStatus.FILLED

    def named_by(self, order: Order) -> list[Order]:
        """Its parent and the first of its group, if they are open."""
        named = [self._orders[n] for n in (order.parent, order.oco) if n in self]
        return [other for other in named if not other.status.is_final]

    def woke_at(self, order: Order) -> int:
        """When its parent was filled (UTC ms); 0 if it has none."""
        return self._orders[order.parent].updated_at if order.parent in self._orders else 0

    def fellows(self, order: Order) -> list[Order]:
        """The other orders of its OCO group and the other children of its parent."""
        name = order.client_order_id
        names = [*self._groups.get(order.oco or name, ()), *self._children.get(order.parent, ())]
        return [self._orders[n] for n in dict.fromkeys(names) if n != name and n in self]

    def doom(self, order: Order, others_made_way: bool = False) -> str:
        """Why ``order`` must end, in words; empty if it may go on.

        ``others_made_way``: orders that were cancelled without a fill were so for this one.
        """
        if others_made_way:
            return self._doomed_by_fills(order)
        return self._doomed_by_group(order) or self._doomed_by_bracket(order)

    def _doomed_by_fills(self, order: Order) -> str:
        name, group = order.client_order_id, order.oco or order.client_order_id
        for other in [self._orders[n] for n in self._groups.get(group, ()) if n != name]:
            if other.filled or other.status in _ENDS_BY_ITSELF:
                return f"{_state(other)} of its OCO group"
        for other in [self._orders[n] for n in self._children.get(order.parent, ()) if n != name]:
            if other.status in _ENDS_BY_ITSELF:
                return f"{_state(other)} of its bracket"
        parent = self._orders.get(order.parent)
        if parent is not None and parent.status.is_final and not self._has_filled(order.parent):
            return f"its parent {_state(parent)}"
        return ""

    def _doomed_by_group(self, order: Order) -> str:
        name = order.client_order_id
        group = order.oco or name
        first = self._first.get(group, name)
        if first == name or group not in self._groups:
            return ""
        return f"{_state(self._orders[first])} of its OCO group"

    def _doomed_by_bracket(self, order: Order) -> str:
        name = order.client_order_id
        parent = self._orders.get(order.parent)
        if parent is not None and parent.status.is_final and not self._has_filled(order.parent):
            return f"its parent {_state(parent)}"
        for other in [*self._children.get(order.parent, ()), *self._children.get(name, ())]:
            if other != name and self._orders[other].status in _ENDS_BRACKET:
                return f"{_state(self._orders[other])} of its bracket"
        return ""


def _state(order: Order) -> str:
    return f"{order.client_order_id} ({order.status.value.replace('_', ' ')})"
