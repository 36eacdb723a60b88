"""At what price an order fills on a closed kline: backtrader's BackBroker's rules, as functions.

A closed kline says where a price opened, closed and how far it went, but not in which order. Each
rule therefore takes what is certain, and where nothing is, the guess that BackBroker takes, so
that paper trading and a backtest agree on every fill:

* **Market**: the open. It is the first price after the order was made.
* **Limit**: the open if that is already as good as the limit (the gap is the trader's gain), else
  the limit if the kline reached it.
* **Stop**: the open if that is already beyond the stop (the gap is the trader's loss), else the
  stop if the kline reached it. Nothing remembers that a stop was hit: what a volume limit left
  unfilled waits until a later kline reaches the stop again.
* **Stop-limit**: as a stop it is first triggered, and stays so. Triggered at the open, the whole
  kline lies behind it, and it is matched as a limit order. Triggered inside, a limit that lets the
  stop price through fills there; a limit that does not is filled only if the kline closed beyond
  it while the rest of its course leads there for certain (a buy in a falling kline, a sell in a
  rising one). Otherwise it waits, as a limit order, for the next kline.

Slippage moves a price against the order. Prices at an open and at a limit are not moved unless
asked for; a moved price stays inside the kline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from livetrader_core.models import Kline, Order, OrderType, Side

STOPS = (OrderType.STOP, OrderType.TRAILING_STOP)
STOP_LIMITS = (OrderType.STOP_LIMIT, OrderType.TRAILING_STOP_LIMIT)


@dataclass(frozen=True)
class Slippage:
    """How far a fill moves against the order: ``perc`` (0.01 is 1 %), else ``fixed`` (in price).

    The others are BackBroker's ``slip_open``, ``slip_match``, ``slip_limit`` and ``slip_out``:
    ``on_open`` moves fills at an open too; ``match`` caps a price at the kline's high or low, else
    there is no fill; ``limit`` caps it at an order's limit even without ``match``; ``out`` allows
    prices outside the kline.
    """

    perc: float = 0.0
    fixed: float = 0.0
    on_open: bool = False
    match: bool = True
    limit: bool = True
    out: bool = False

    def worse(self, price: float, sign: int, bound: float, limited: bool = False) -> float | None:
        """``price`` moved up for a buy (``sign`` 1) or down for a sell (-1), at most to ``bound``.

        ``limited``: a limit price bounds it. None: no price can be had.
        """
        if self.perc:
            moved = price * (1 + sign * self.perc)
        elif self.fixed:
            moved = price + sign * self.fixed
        else:
            return price
        if sign * moved <= sign * bound:
            return moved
        if self.match or (limited and self.limit):
            return moved if self.out else bound
        return None

    def worse_open(
        self, price: float, sign: int, bound: float, limited: bool = False
    ) -> float | None:
        """:meth:`worse` for a fill at an open."""
        return self.worse(price, sign, bound, limited) if self.on_open else price


NO_SLIPPAGE = Slippage()


@dataclass(frozen=True)
class Match:
    """What a kline does to an order: the ``price`` of a fill, if any, and whether a stop-limit
    is triggered after it.
    """

    price: float | None
    triggered: bool = False


def match(
    order: Order, kline: Kline, triggered: bool = False, slippage: Slippage = NO_SLIPPAGE
) -> Match:
    """Try ``order`` on the closed ``kline``; ``triggered`` says that its stop-limit already was.

    A trailing stop is matched where its stop stands. Close orders are no matter of one kline: see
    :class:`~livetrader_core.trade.paper.book.Working`.
    """
    if order.type is OrderType.MARKET:
        return Match(_market(order.side, kline, slippage))
    if order.type is OrderType.LIMIT:
        return Match(_limit(order.side, order.price, kline, slippage))
    if order.type in STOPS:
        return Match(_stop(order.side, order.stop_price, kline, slippage))
    if order.type in STOP_LIMITS:
        if triggered:
            return Match(_limit(order.side, order.price, kline, slippage), True)
        return _stop_limit(order, kline, slippage)
    raise ValueError(f"{order.type.value} orders are not matched on klines")


def fillable(remaining: float, kline: Kline, volume_limit: float, step: float) -> float:
    """How much of ``remaining`` one kline can fill: at most ``volume_limit`` (a fraction; 0: no
    limit) of its volume, rounded down to ``step``.
    """
    if not volume_limit:
        return remaining
    # A hair is added so that 29 % of 100 is 29 and not 28.
    steps = math.floor(kline.volume * volume_limit / step + 1e-9)
    return min(round(steps * step, 10), remaining)


def _extreme(sign: int, kline: Kline) -> float:
    # The worst price of the kline for this side: where slippage ends.
    return kline.high if sign > 0 else kline.low


def _market(side: Side, kline: Kline, slippage: Slippage) -> float | None:
    sign = side.sign
    return slippage.worse_open(kline.open, sign, _extreme(sign, kline))


def _limit(side: Side, limit: float, kline: Kline, slippage: Slippage) -> float | None:
    sign = side.sign
    if sign * limit >= sign * kline.open:
        # A buy ends at the lower of limit and high. A sell ends at its limit alone: BackBroker
        # does not hold it to the low.
        bound = min(kline.high, limit) if side is Side.BUY else limit
        return slippage.worse_open(kline.open, sign, bound, limited=True)
    best = kline.low if side is Side.BUY else kline.high
    return limit if sign * limit >= sign * best else None


def _stop(side: Side, stop: float, kline: Kline, slippage: Slippage) -> float | None:
    sign = side.sign
    worst = _extreme(sign, kline)
    if sign * kline.open >= sign * stop:
        return slippage.worse_open(kline.open, sign, worst)
    if sign * worst >= sign * stop:
        return slippage.worse(stop, sign, worst)
    return None


def _stop_limit(order: Order, kline: Kline, slippage: Slippage) -> Match:
    sign, stop, limit = order.side.sign, order.stop_price, order.price
    worst = _extreme(sign, kline)
    if sign * kline.open >= sign * stop:
        return Match(_limit(order.side, limit, kline, slippage), True)
    if sign * worst < sign * stop:
        return Match(None)
    if sign * limit >= sign * stop:
        # BackBroker ends this slippage at the kline's extreme, not at the limit.
        return Match(slippage.worse(stop, sign, worst, limited=True), True)
    if _came_back(order.side, kline) and sign * limit >= sign * kline.close:
        return Match(limit, True)
    return Match(None, True)


def _came_back(side: Side, kline: Kline) -> bool:
    # Whether the price must have turned back after the stop was hit. A kline that closes where it
    # opened counts for a sell and not for a buy, as BackBroker has it.
    return kline.open > kline.close if side is Side.BUY else kline.open <= kline.close
