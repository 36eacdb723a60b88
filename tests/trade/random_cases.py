"""Random bars, and random orders of every kind on them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from livetrader_core.models import Commission, Contract, Kline, Margin, OrderType, Side
from livetrader_core.trade.paper.matching import NO_SLIPPAGE, Slippage
from tests.support.scripted_market import START, bar, contract

MINUTE = 60_000
#: Minutes from START to the first bar: the trading day, which is UTC's, ends inside every case.
FIRST = 1420
DAY = 1440 * MINUTE
PAID, MARGINED = "US.A", "SHFE.B"

TRAILING = (OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT)

#: A fill as both sides tell it: order number, symbol, signed quantity, price, close of the bar.
FillRow = tuple[int, str, float, float, int]
#: Cash that can be spent, and equity, after a moment.
MoneyRow = tuple[float, float]


@dataclass(frozen=True)
class Wish:
    """An order to be made at a moment."""

    number: int
    symbol: str
    side: Side
    type: OrderType
    quantity: float
    price: float
    stop_price: float
    expires_at: int
    trail_amount: float = 0.0
    trail_percent: float = 0.0
    parent: int | None = None
    oco: int | None = None
    #: Whether BackBroker gets it, and what waits with it, at once.
    transmit: bool = True


@dataclass
class Case:
    """Bars by moment, orders and cancels by moment, and the settings of the broker."""

    contracts: dict[str, Contract]
    moments: list[list[Kline]]
    wishes: list[list[Wish]]
    cancels: list[list[int]]
    cash: float
    check_margin: bool
    slippage: Slippage = NO_SLIPPAGE
    volume_percent: int = 0


@dataclass
class Outcome:
    """What became of a case."""

    fills: list[FillRow] = field(default_factory=list)
    money: list[MoneyRow] = field(default_factory=list)
    ends: dict[int, str] = field(default_factory=dict)


def contracts(rng: random.Random) -> dict[str, Contract]:
    """A stock, and a future with one of several kinds of margin and commission."""
    margin = rng.choice([Margin(per_unit=50.0), Margin(rate=0.1), Margin(20.0, 0.05)])
    return {
        PAID: contract(PAID, price_tick=0.25, commission=Commission(rate=rng.choice([0, 0.001]))),
        MARGINED: contract(
            MARGINED,
            price_tick=0.25,
            multiplier=10.0,
            margin=margin,
            commission=Commission(rng.choice([0.0, 1.5]), rng.choice([0.0, 0.0002])),
        ),
    }


def bars(rng: random.Random, symbol: str, length: int, silence: float) -> dict[int, Kline]:
    """A walk on a coarse grid, so that opens, stops and limits often meet exactly."""
    price, made = 100.0, {}
    for minute in range(length):
        open_ = price + 0.25 * rng.choice([0, 0, 0, -1, 1, -4, 4, -9, 9])
        close = open_ + 0.25 * rng.randint(-6, 6)
        high = max(open_, close) + 0.25 * rng.choice([0, 0, 2, 5, 9])
        low = min(open_, close) - 0.25 * rng.choice([0, 0, 2, 5, 9])
        price = min(max(close, 60.0), 140.0)
        if minute and rng.random() < silence:
            continue
        volume = float(rng.choice([0, 3, 17, 100, 1000]))
        made[minute] = bar(FIRST + minute, open_, high, low, close, volume, symbol)
    return made


def wish(rng: random.Random, number: int, minute: int, last: dict[str, float]) -> Wish:
    """An order near the last price; a third of them expire soon."""
    symbol = rng.choice([PAID, MARGINED])

    def near() -> float:
        return last[symbol] + 0.25 * rng.randint(-7, 7)

    expires_at = 0
    if rng.random() < 0.33:
        expires_at = START + (FIRST + minute + 1) * MINUTE + rng.choice([30, 60, 90, 240]) * 1000
    made = Wish(
        number,
        symbol,
        rng.choice([Side.BUY, Side.SELL]),
        rng.choice(list(OrderType)),
        float(rng.choice([1, 2, 5, 40])),
        near(),
        near(),
        expires_at,
    )
    if made.type not in TRAILING:
        return made
    if rng.random() < 0.5:
        return replace(made, trail_amount=0.25 * rng.randint(1, 12))
    return replace(made, trail_percent=rng.choice([0.004, 0.01, 0.025]))


def batch(rng: random.Random, number: int, minute: int, last: dict[str, float]) -> list[Wish]:
    """An order, an OCO group or a bracket of one or two children, numbered from ``number``."""
    kind = rng.choice(["single", "single", "single", "group", "bracket"])
    count = 1 if kind == "single" else rng.randint(2, 3)
    made = [wish(rng, number + place, minute, last) for place in range(count)]
    if kind == "group":
        return [made[0], *(replace(one, oco=number) for one in made[1:])]
    if kind == "bracket":
        made = [replace(one, parent=number, transmit=False) for one in made]
        made[0] = replace(made[0], parent=None)
        made[-1] = replace(made[-1], transmit=True)
    return made


def case(
    seed: int,
    length: int = 30,
    slippage: Slippage = NO_SLIPPAGE,
    volume_percent: int = 0,
    poor: bool = False,
) -> Case:
    """The case of ``seed``; a ``poor`` account cannot afford all of it."""
    rng = random.Random(seed)
    specs = contracts(rng)
    series = {PAID: bars(rng, PAID, length, 0.0), MARGINED: bars(rng, MARGINED, length, 0.2)}
    moments, wishes, last, number = [], [], {PAID: 100.0, MARGINED: 100.0}, 0
    cancels = []
    for minute in range(length):
        given = [made[minute] for made in series.values() if minute in made]
        last.update({kline.symbol: kline.close for kline in given})
        made_now: list[Wish] = []
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            made_now += batch(rng, number + len(made_now), minute, last)
        number += len(made_now)
        # What is canceled after the last bar is told to nobody in backtrader.
        can_cancel = number and minute < length - 1 and rng.random() < 0.15
        cancels.append([rng.randrange(number)] if can_cancel else [])
        moments.append(given)
        wishes.append(made_now)
    cash = 3_000.0 if poor else 1e7
    return Case(specs, moments, wishes, cancels, cash, poor, slippage, volume_percent)
