"""What `livetrader doctor` asks of an account, and what it finds."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass

from livetrader_core.errors import ConfigError, LiveTraderError, OrderRejected
from livetrader_core.market.finding import Finding, Verdict
from livetrader_core.models import Order, OrderStatus, OrderType, Side
from livetrader_core.trade.base import TradeBase

_PAUSE = 0.2


@dataclass(frozen=True)
class Probe:
    """A limit order to buy that is never filled: at a price far below the market."""

    symbol: str
    quantity: float
    price: float

    @classmethod
    def parse(cls, text: str) -> Probe:
        """What ``SYMBOL,QUANTITY,PRICE`` names. Raises ValueError."""
        symbol, quantity, price = text.split(",")
        probe = cls(symbol.strip(), float(quantity), float(price))
        if probe.quantity <= 0 or probe.price <= 0 or "." not in probe.symbol:
            raise ValueError(f"{text!r} must be SYMBOL,QUANTITY,PRICE")
        return probe

    def order(self) -> Order:
        """A new order of it."""
        name = f"doctor-{secrets.token_hex(4)}"
        return Order(name, self.symbol, Side.BUY, OrderType.LIMIT, self.quantity, price=self.price)


async def examine_account(trade: TradeBase, probe: Probe | None, patience: float) -> list[Finding]:
    """Connect ``trade`` and look at its account; with ``probe``, place that order and cancel it.

    ``patience``: seconds to wait for what becomes of the order. It is disconnected afterwards.
    """
    began = time.monotonic()
    try:
        await trade.connect()
    except LiveTraderError as error:
        await trade.disconnect()
        advice = "set it right, then ask again"
        if not isinstance(error, ConfigError):
            advice = "check host, ports, login, and that the venue's program runs"
        return [Finding("reachable", Verdict.FAILED, str(error), advice)]
    try:
        found = [Finding("reachable", Verdict.OK, f"in {time.monotonic() - began:.1f} s")]
        found += await _account(trade)
        found += await trade.diagnose()
        if probe is not None:
            found.append(await _round_trip(trade, probe.order(), patience))
    finally:
        await trade.disconnect()
    return found


async def _account(trade: TradeBase) -> list[Finding]:
    try:
        balances = await trade.fetch_balance()
        positions = await trade.fetch_positions()
        orders = await trade.fetch_open_orders()
    except LiveTraderError as error:
        return [Finding("account", Verdict.FAILED, str(error), "see the venue's own program")]
    told = ", ".join(f"{one.account} {one.equity:,.2f} {one.currency}" for one in balances)
    held = ", ".join(f"{p.quantity:+g} {p.symbol}" for p in positions) or "flat"
    return [
        Finding("account", Verdict.OK, told),
        Finding("positions", Verdict.OK, f"{held}; {len(orders)} orders work"),
    ]


async def _round_trip(trade: TradeBase, order: Order, patience: float) -> Finding:
    """Place ``order``, see it work at the venue, cancel it, see it gone."""
    name, check = order.client_order_id, "order and cancel"
    began = time.monotonic()
    try:
        await trade.create_order(order)
        if not await _reaches(trade, name, (OrderStatus.ACCEPTED,), patience):
            told = f"{name} was sent and is not seen to work; look for it, and cancel it by hand"
            return Finding(check, Verdict.FAILED, told, "see the venue's own program")
        placed = time.monotonic() - began
        await trade.cancel_order(name)
        if not await _reaches(trade, name, (OrderStatus.CANCELED,), patience):
            return Finding(check, Verdict.FAILED, f"{name} still works", "cancel it by hand")
    except OrderRejected as error:
        return Finding(check, Verdict.FAILED, str(error), "is the price far below the market?")
    except LiveTraderError as error:
        return Finding(check, Verdict.FAILED, str(error), f"look whether {name} works there")
    took = time.monotonic() - began
    return Finding(check, Verdict.OK, f"worked after {placed:.2f} s, gone after {took:.2f} s")


async def _reaches(
    trade: TradeBase, name: str, wanted: tuple[OrderStatus, ...], patience: float
) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        order = await trade.fetch_order(name)
        if order is not None and order.status in wanted:
            return True
        await asyncio.sleep(_PAUSE)
    return False
