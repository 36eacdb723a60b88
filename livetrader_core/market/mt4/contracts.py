"""Contracts as the expert advisor tells them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.fields import Object
from livetrader_core.market.mt4.messages import Quote
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, Margin, Swap

_DAYS_OF_A_YEAR = 360
#: Digits of a margin rate that the terminal's rounded money lets one trust.
_RATE_DIGITS = 4


@dataclass(frozen=True)
class Terms:
    """The broker's terms of a symbol. ``stop_level`` and ``freeze_level`` are in points.

    Money (``tick_value``, ``margin_required``) is of one lot, in the account's currency. Sources
    of meaning: MQL4's MarketInfo.
    """

    symbol: str
    digits: int
    point: float
    lot_size: float
    min_lot: float
    lot_step: float
    max_lot: float
    stop_level: int
    freeze_level: int
    tick_value: float
    tick_size: float
    margin_required: float
    swap_long: float
    swap_short: float
    swap_type: int
    trade_allowed: bool

    @classmethod
    def read(cls, body: Object) -> Terms:
        """The terms in a reply to ``contract``. Raises ProtocolError naming the field at fault."""
        return cls(
            symbol=fields.text(body, "symbol"),
            digits=fields.integer(body, "digits", 0, 8),
            point=fields.positive(body, "point"),
            lot_size=fields.positive(body, "lot_size"),
            min_lot=fields.positive(body, "min_lot"),
            lot_step=fields.positive(body, "lot_step"),
            max_lot=fields.positive(body, "max_lot"),
            stop_level=fields.integer(body, "stop_level"),
            freeze_level=fields.integer(body, "freeze_level"),
            tick_value=fields.number(body, "tick_value", 0),
            tick_size=fields.number(body, "tick_size", 0),
            margin_required=fields.number(body, "margin_required", 0),
            swap_long=fields.number(body, "swap_long"),
            swap_short=fields.number(body, "swap_short"),
            swap_type=fields.integer(body, "swap_type", 0, 3),
            trade_allowed=fields.flag(body, "trade_allowed"),
        )

    def contract(self, symbol: str, leverage: int, quote: Quote | None) -> Contract:
        """The contract of ``symbol``, with the usual sessions and currency.

        ``leverage`` is the account's, for the margin where there is no ``quote`` to tell it by.
        Raises UnknownSymbol if sessions and currency are not known.
        """
        usual = default_contract(symbol)
        night = self._night(quote)
        return replace(
            usual,
            price_tick=self.tick_size or self.point,
            quantity_step=self.lot_step,
            min_quantity=self.min_lot,
            multiplier=self.lot_size,
            margin=self._margin(leverage, quote) or usual.margin,
            swap=Swap(self.swap_long * night, self.swap_short * night),
        )

    def _margin(self, leverage: int, quote: Quote | None) -> Margin | None:
        if quote is not None and self.margin_required and self.tick_value and self.tick_size:
            # Both are in the account's currency, whose rate drops out.
            ticks = quote.bid / self.tick_size
            rate = self.margin_required / (ticks * self.tick_value)
            return Margin(rate=float(f"{rate:.{_RATE_DIGITS}g}"))
        return Margin(rate=1 / leverage) if leverage > 0 else None

    def _night(self, quote: Quote | None) -> float:
        """What one of the broker's units of swap is, for a lot, in the contract's currency."""
        if self.swap_type == 0:
            return self.point * self.lot_size
        if quote is None:
            return 0.0
        if self.swap_type == 2:
            return quote.bid * self.lot_size / 100 / _DAYS_OF_A_YEAR
        return quote.bid  # in the base currency, which is the margin's too
