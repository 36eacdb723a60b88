"""What becomes of orders that are levels of tickets, told by comparing with what is open now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from livetrader_core.market.specs import default_contract
from livetrader_core.models import Fill, OrderStatus
from livetrader_core.trade.base import VenueEvent
from livetrader_core.trade.dwx.closing import executed, gain_of
from livetrader_core.trade.dwx.guards import Guard, Guarded, followed, reached, vanished
from livetrader_core.trade.dwx.memory import Memory, Record, Step
from livetrader_core.trade.dwx.messages import Trade

log = logging.getLogger(__name__)

CLOSED = "the position that it would have closed is closed"
#: Slippage up to which the level counts as the price, and the difference as costs.
_SLIPPAGE_TICKS = 3.5


class GuardBooks:
    """Keeps the guards in ``memory`` true, and tells of every change."""

    def __init__(
        self,
        memory: Memory,
        currency: str,
        now: Callable[[], int],
        tell: Callable[[VenueEvent], None],
    ) -> None:
        self.memory = memory
        self._currency = currency
        self._now = now
        self._tell = tell

    def look(self, trades: Mapping[int, Trade], gained: float | None) -> None:
        """See which guards closed their tickets, and which have none left.

        ``gained`` is what the balance grew by since the last look, None if that is not known.
        """
        records = self._working()
        for record, fills in self._closed(records, trades, gained).items():
            self._fill(record, fills)
        for record in records:
            self._settle(self.memory.records[record.order.client_order_id], trades)

    def misses(self, trades: Mapping[int, Trade]) -> bool:
        """Whether a ticket that carried a level is not open any more."""
        return any(record.guard and vanished(record.guard, trades) for record in self._working())

    def _working(self) -> list[Record]:
        guards = [record for record in self.memory.records.values() if record.guard is not None]
        return [record for record in guards if not record.order.status.is_final]

    # ---- what a level closed

    def _closed(
        self, records: list[Record], trades: Mapping[int, Trade], gained: float | None
    ) -> dict[Record, list[Fill]]:
        candidates: dict[Guarded, list[Guard]] = {}
        owners: dict[tuple[Guarded, bool], Record] = {}
        for record in records:
            assert record.guard is not None
            for one in vanished(record.guard, trades):
                if f"{one.ticket}-close" not in self.memory.fills:
                    candidates.setdefault(one, []).append(record.guard)
                    owners[one, record.guard.gain] = record
        if not candidates:
            return {}
        contracts = {
            one: default_contract(owners[one, guards[0].gain].order.symbol)
            for one, guards in candidates.items()
        }
        chosen = reached(candidates, gained, contracts, self._currency)
        for one in candidates.keys() - chosen.keys():
            log.warning("ticket %d was closed by somebody else", one.ticket)
        return self._fills(chosen, owners, gained)

    def _fills(
        self,
        chosen: Mapping[Guarded, Guard],
        owners: Mapping[tuple[Guarded, bool], Record],
        gained: float | None,
    ) -> dict[Record, list[Fill]]:
        """The fills of what was closed together, at prices and costs that explain the balance."""
        if not chosen:
            return {}
        groups: dict[tuple[str, float], list[Guarded]] = {}
        for one, guard in chosen.items():
            symbol = owners[one, guard.gain].order.symbol
            groups.setdefault((symbol, guard.level), []).append(one)
        found: dict[Record, list[Fill]] = {}
        for (symbol, level), members in groups.items():
            price, commission = level, 0.0
            # Of several levels at once the balance tells only which they were.
            if gained is not None and len(groups) == 1:
                price, commission = self._executed(symbol, members, level, gained)
            for one in members:
                record = owners[one, chosen[one].gain]
                share = round(commission * one.lots / sum(m.lots for m in members), 2)
                found.setdefault(record, []).append(self._fill_of(record, one, price, share))
        if gained is not None and len(groups) > 1:
            _spread(found, chosen, self._missing(found, chosen, gained))
        return found

    def _missing(
        self,
        found: Mapping[Record, Sequence[Fill]],
        chosen: Mapping[Guarded, Guard],
        gained: float,
    ) -> float:
        """What levels would have brought, and the balance does not have."""
        symbols = {int(f.order_id): f.symbol for fills in found.values() for f in fills}
        brought = sum(
            gain_of(
                one.price,
                one.sign,
                one.lots,
                guard.level,
                default_contract(symbols[one.ticket]),
                self._currency,
            )
            for one, guard in chosen.items()
        )
        return round(brought - gained, 2)

    def _fill_of(self, record: Record, one: Guarded, price: float, commission: float) -> Fill:
        order = record.order
        return Fill(
            f"{one.ticket}-close",
            order.client_order_id,
            order.symbol,
            order.side,
            one.lots,
            price,
            commission,
            self._now(),
            order_id=str(one.ticket),
        )

    def _executed(
        self, symbol: str, closed: Sequence[Guarded], level: float, gained: float
    ) -> tuple[float, float]:
        """The price at which positions of one side were closed at one level, and the commission."""
        contract = default_contract(symbol)
        lots = round(sum(one.lots for one in closed), 8)
        opened = sum(one.lots * one.price for one in closed) / lots
        step = Step(lots, 0.0, closed[0].ticket, opened, closed[0].sign)
        at_level = gain_of(opened, step.sign, lots, level, contract, self._currency)
        slack = level + _SLIPPAGE_TICKS * contract.price_tick
        allowed = gain_of(level, 1, lots, slack, contract, self._currency)
        # A gap: the balance tells the price.
        asked = level if abs(gained - at_level) <= abs(allowed) else 0.0
        return executed(step, lots, asked, gained, contract, self._currency)

    def _fill(self, record: Record, fills: list[Fill]) -> None:
        order = record.order
        for fill in fills:
            filled = round(order.filled + fill.quantity, 8)
            cost = order.filled * order.average_price + fill.quantity * fill.price
            done = filled >= order.quantity - 1e-9
            order = order.but(
                status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
                filled=filled,
                average_price=cost / filled,
                reason="",
            )
            self.memory.write(Record(order, guard=record.guard), [fill])
            self._tell(VenueEvent(fill.datetime, order, fill))

    # ---- what is left

    def _settle(self, record: Record, trades: Mapping[int, Trade]) -> None:
        """Follow the tickets that still carry the level; without one the order is over."""
        order, guard = record.order, record.guard
        assert guard is not None
        if order.status.is_final:
            return
        left = followed(guard, trades, default_contract(order.symbol).price_tick)
        if left:
            self._go_on(record, guard.but(left))
        elif order.status is OrderStatus.SUBMITTED:  # it was sent, and did not arrive
            unsent = order.but(status=OrderStatus.UNKNOWN, reason="not seen by the terminal")
            self.memory.write(Record(unsent))
        elif order.status is not OrderStatus.UNKNOWN:
            gone = all(one in vanished(guard, trades) for one in guard.tickets)
            reason = CLOSED if gone else "its level was taken away at the terminal"
            ended = order.but(status=OrderStatus.CANCELED, reason=reason)
            self.memory.write(Record(ended, guard=guard))
            self._tell(VenueEvent(self._now(), ended))

    def _go_on(self, record: Record, guard: Guard) -> None:
        order = record.order
        if order.status is OrderStatus.SUBMITTED:
            order = order.but(
                status=OrderStatus.ACCEPTED, order_id=str(guard.tickets[0].ticket), reason=""
            )
        if order is record.order and guard == record.guard:
            return
        self.memory.write(Record(order, guard=guard))
        if order is not record.order:
            self._tell(VenueEvent(self._now(), order))


def _spread(
    found: dict[Record, list[Fill]], chosen: Mapping[Guarded, Guard], missing: float
) -> None:
    """Count ``missing`` as a cost of the first stop-loss, for those slip; else of the first."""
    slipping = {one.ticket for one, guard in chosen.items() if not guard.gain}
    fills = [(record, place) for record, parts in found.items() for place in range(len(parts))]
    slipped = [key for key in fills if int(found[key[0]][key[1]].order_id) in slipping]
    record, place = (slipped or fills)[0]
    found[record][place] = replace(found[record][place], commission=missing)
