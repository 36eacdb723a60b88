"""Risk limits, checked in the server before the journal lets an order out.

No client can go round them. Each check has a reason of its own, which begins with ``risk:`` and
the name of the setting that refused the order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from livetrader_core.errors import ConfigError
from livetrader_core.models import Balance, Contract, Order, Side

_MINUTE = 60.0


@dataclass(frozen=True)
class RiskLimits:
    """What an order may be at most; 0 and an empty list mean no limit.

    ``symbols`` are patterns such as ``US.*``. ``max_quantity`` is of one order in the venue's unit,
    ``max_notional`` its value by currency, ``max_position`` the net position in the venue's unit
    that it and all working orders of its side could lead to. ``price_collar`` (0.05 is 5 %) is how
    far a limit or stop price may lie from the last known price. ``orders_per_minute`` counts all
    orders together. ``max_daily_loss`` is by currency, from the equity at the venue day's first
    sight; beyond it only orders that reduce a position pass.
    """

    symbols: tuple[str, ...] = ()
    max_quantity: float = 0.0
    max_notional: Mapping[str, float] = field(default_factory=dict)
    max_position: float = 0.0
    price_collar: float = 0.0
    orders_per_minute: int = 0
    max_daily_loss: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_quantity", "max_position", "price_collar", "orders_per_minute"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: {getattr(self, name)!r} is below 0")
        for name in ("max_notional", "max_daily_loss"):
            for currency, amount in getattr(self, name).items():
                if not amount > 0:
                    raise ConfigError(f"{name}: {currency} = {amount!r} must be above 0")

    @property
    def need_price(self) -> bool:
        """Whether a check needs the last known price."""
        return bool(self.max_notional or self.price_collar)


@dataclass(frozen=True)
class Exposure:
    """What is known when an order is checked.

    ``price`` is the last known one (0: none), ``position`` the net position expected, ``working``
    what remains of the open orders of the same symbol and side.
    """

    contract: Contract | None
    price: float
    position: float
    working: float


class RiskChecks:
    """Says why an order must not leave, by ``limits``; ``seconds`` is a clock."""

    def __init__(self, limits: RiskLimits, seconds: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._seconds = seconds
        self._passed: deque[float] = deque()
        #: Loss of the day by currency, where it is beyond its limit.
        self.lost: dict[str, float] = {}

    def refusal(self, order: Order, known: Exposure, counts: bool = True) -> str:
        """Why ``order`` is refused; empty if it may leave, which then counts for the rate.

        ``counts``: whether it is a new order, and not the change of one.
        """
        checks = (
            self._symbol(order),
            self._grid(order, known.contract),
            self._quantity(order),
            self._position(order, known),
            self._notional(order, known),
            self._collar(order, known),
            self._daily_loss(order, known),
            self._rate() if counts else "",
        )
        reason = next((told for told in checks if told), "")
        if not reason and counts:
            self._passed.append(self._seconds())
        return f"risk: {reason}" if reason else ""

    def _symbol(self, order: Order) -> str:
        allowed = self.limits.symbols
        if not allowed or any(fnmatchcase(order.symbol, pattern) for pattern in allowed):
            return ""
        return f"symbols: {order.symbol} is not among {', '.join(allowed)}"

    @staticmethod
    def _grid(order: Order, contract: Contract | None) -> str:
        if contract is None:
            return ""
        rounded = contract.round_quantity(order.quantity)
        if abs(rounded - order.quantity) <= 1e-9:
            return ""
        return (
            f"quantity: {order.quantity:g} of {order.symbol} is not a multiple of "
            f"{contract.quantity_step:g}, at least {contract.min_quantity:g}"
        )

    def _quantity(self, order: Order) -> str:
        most = self.limits.max_quantity
        if not most or order.quantity <= most:
            return ""
        return f"max_quantity: {order.quantity:g} of {order.symbol} is more than {most:g}"

    def _position(self, order: Order, known: Exposure) -> str:
        most = self.limits.max_position
        sign = order.side.sign
        reached = known.position + sign * (known.working + order.quantity)
        if not most or sign * reached <= most + 1e-9:
            return ""
        return (
            f"max_position: {order.symbol} could come to {reached:g}, of at most {most:g} "
            f"(now {known.position:g}, working {known.working:g})"
        )

    def _notional(self, order: Order, known: Exposure) -> str:
        if not self.limits.max_notional:
            return ""
        if known.contract is None:
            return f"max_notional: the contract of {order.symbol} is not known"
        currency = known.contract.currency
        most = self.limits.max_notional.get(currency)
        if most is None:
            return ""
        price = max(order.price, order.stop_price, known.price)
        if not price:
            return f"max_notional: no price of {order.symbol} is known yet"
        value = order.quantity * price * known.contract.multiplier
        if value <= most:
            return ""
        return f"max_notional: {value:,.2f} {currency} is more than {most:,.2f}"

    def _collar(self, order: Order, known: Exposure) -> str:
        width = self.limits.price_collar
        prices = [price for price in (order.price, order.stop_price) if price]
        if not width or not prices:
            return ""
        if not known.price:
            return f"price_collar: no price of {order.symbol} is known yet"
        for price in prices:
            if abs(price - known.price) > width * known.price:
                return (
                    f"price_collar: {price:g} is more than {width:.2%} from the last price of "
                    f"{order.symbol}, {known.price:g}"
                )
        return ""

    def _daily_loss(self, order: Order, known: Exposure) -> str:
        if not self.lost or _reduces(order, known):
            return ""
        told = ", ".join(f"{loss:,.2f} {currency}" for currency, loss in self.lost.items())
        return f"max_daily_loss: {told} lost today; only orders that reduce a position pass"

    def _rate(self) -> str:
        most = self.limits.orders_per_minute
        if not most:
            return ""
        now = self._seconds()
        while self._passed and self._passed[0] <= now - _MINUTE:
            self._passed.popleft()
        if len(self._passed) < most:
            return ""
        wait = self._passed[0] + _MINUTE - now
        return f"orders_per_minute: {most} left in the last minute; again in {wait:.0f} s"


class DailyLoss:
    """Equity since the day's first sight: how much of it is lost, by currency."""

    def __init__(self, limits: Mapping[str, float], noted: Mapping[str, object] | None) -> None:
        self._limits = limits
        self._day = str(noted.get("day", "")) if noted else ""
        equity = noted.get("equity") if noted else None
        self._start: dict[str, float] = dict(equity) if isinstance(equity, dict) else {}

    def take(self, day: str, balances: Sequence[Balance]) -> dict[str, float]:
        """Losses beyond their limit, by currency, now that it is ``day`` (YYYY-MM-DD)."""
        equity: dict[str, float] = {}
        for balance in balances:
            equity[balance.currency] = equity.get(balance.currency, 0.0) + balance.equity
        if day != self._day:
            self._day, self._start = day, {}
        for currency, value in equity.items():
            self._start.setdefault(currency, value)
        losses = {c: self._start[c] - value for c, value in equity.items()}
        return {c: loss for c, loss in losses.items() if loss >= self._limits.get(c, float("inf"))}

    def to_note(self) -> dict[str, object]:
        """What must survive a restart."""
        return {"day": self._day, "equity": self._start}


def _reduces(order: Order, known: Exposure) -> bool:
    held = known.position if order.side is Side.SELL else -known.position
    return order.quantity + known.working <= held + 1e-9
