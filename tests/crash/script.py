"""What a strategy does on three venues, made up from a seed: the same for whoever asks again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from livetrader_core.models import Order, OrderType, Side, TimeInForce

EURUSD, GBPUSD = "FOREX.EURUSD", "FOREX.GBPUSD"
AUDUSD, NZDUSD = "FOREX.AUDUSD", "FOREX.NZDUSD"
REBAR, MEAL = "SHFE.rb2605", "DCE.m2605"
APPLE, ALIBABA = "US.AAPL", "US.BABA"
STOCK = "US.A"
#: What trading hours all venues have in common: those of the stocks, which is night in Shanghai.
MONDAY = 1_768_228_200_000  # 2026-01-12 14:30 UTC
MINUTES = 390
#: When strategies begin.
START = MONDAY + 20 * 60_000
#: What can be asked to go wrong, by venue. Of the others nothing is asked.
FAULTS: dict[str, tuple[str, ...]] = {
    "dwx": ("lose", "drop", "reject", "requote", "lie", "slip", "cut"),
    "mt4": ("drop", "reject", "requote", "slip", "cut", "restart"),
    "tq": ("lost_request", "lost_answer", "trades_late", "refuse", "cut"),
}
#: Who logs in at the futures venue.
USER, PASSWORD = "somebody", "a password"

MARKET, LIMIT, STOP = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP
TRAILING, STOP_LIMIT = OrderType.TRAILING_STOP, OrderType.STOP_LIMIT
#: Where the prices of the venues begin (see venues.py); limits are set around them.
PRICES = {EURUSD: 1.12, GBPUSD: 1.32, AUDUSD: 0.72, NZDUSD: 0.62, REBAR: 3000.0, MEAL: 2800.0}
PRICES |= {APPLE: 220.0, ALIBABA: 120.0, STOCK: 100.0}
TICKS = dict.fromkeys((EURUSD, GBPUSD, AUDUSD, NZDUSD), 0.00001) | {REBAR: 1.0, MEAL: 1.0}
TICKS |= {APPLE: 0.01, ALIBABA: 0.01, STOCK: 0.01}
#: Both are MetaTrader 4 terminals: one with the published expert advisor, one with our own.
METATRADER = ("dwx", "mt4")
#: "paper" has its prices from a TDX server; "socket" is plain and quick.
VENUES = {
    "dwx": (EURUSD, GBPUSD),
    "mt4": (AUDUSD, NZDUSD),
    "tq": (REBAR, MEAL),
    "paper": (APPLE, ALIBABA),
    "socket": (STOCK,),
}
#: How far (ticks) a limit stands that never fills, and one that may.
FAR = {"dwx": 3000, "mt4": 3000, "tq": 120, "paper": 1000, "socket": 1000}
NEAR = {"dwx": 25, "mt4": 25, "tq": 2, "paper": 3, "socket": 1000}
_BY_SYMBOL = {symbol: name for name, symbols in VENUES.items() for symbol in symbols}


def venue_of(symbol: str) -> str:
    """The venue of a symbol, by its name here."""
    return _BY_SYMBOL[symbol]


@dataclass(frozen=True)
class Action:
    """Place ``order``, or cancel or modify what was placed under its id."""

    do: str
    order: Order


def script(seed: int, count: int, venues: tuple[str, ...]) -> list[Action]:
    """``count`` orders over ``venues``, with the cancels and changes of some between them."""
    chance = random.Random(seed)
    actions: list[Action] = []
    for number in range(count):
        venue = venues[number % len(venues)]
        order, kind = _order(chance, f"x{seed}-{number}", venue)
        actions.append(Action("place", order))
        if kind == "far" and chance.random() < 0.6:
            later = len(actions) + chance.randrange(8)
            actions.insert(later, Action("cancel", order))
        if order.type is TRAILING:
            changed = order.but(quantity=round(2 * order.quantity, 2))
            actions.append(Action("modify", changed))
            if chance.random() < 0.5:
                actions.append(Action("cancel", order))
    return actions


def tour(seed: int, venue: str) -> list[Action]:
    """A few orders that go as many ways as there are: filled, cancelled, changed, refused."""
    chance = random.Random(seed)
    symbol = chance.choice(VENUES[venue])
    plain = Order(f"y{seed}-0", symbol, Side.BUY, MARKET, 0.03 if venue in METATRADER else 3.0)
    if venue == "tq":
        plain = plain.but(time_in_force=TimeInForce.DAY)
    far = plain.but(type=LIMIT, price=_price(symbol, venue, -1, "far"))
    # Closes what there is and opens the other way: several steps at once, which FOK cannot have.
    turn = plain.but(side=Side.SELL, quantity=5 * plain.quantity)
    orders = [plain, far, turn, far.but(quantity=2 * far.quantity), turn.but(side=Side.BUY)]
    if venue == "tq":
        orders.append(turn.but(type=LIMIT, price=far.price, time_in_force=TimeInForce.FOK))
    if venue in METATRADER:
        # Refused by the terminal: a stop on the wrong side of the market.
        orders.append(plain.but(type=STOP, stop_price=far.price))
    named = [order.but(client_order_id=f"y{seed}-{n}") for n, order in enumerate(orders)]
    actions = [Action("place", order) for order in named]
    return [
        *actions,
        Action("cancel", named[1]),
        Action("modify", named[3]),
        Action("cancel", named[0]),
    ]


def orders_of(actions: list[Action]) -> dict[str, Order]:
    """All that ``actions`` place, by id."""
    return {a.order.client_order_id: a.order for a in actions if a.do == "place"}


def _order(chance: random.Random, name: str, venue: str) -> tuple[Order, str]:
    symbol = chance.choice(VENUES[venue])
    side = chance.choice([Side.BUY, Side.SELL])
    lots = chance.randint(1, 5)
    quantity = lots / 100 if venue in METATRADER else float(lots)
    order = Order(name, symbol, side, MARKET, quantity)
    if venue == "tq":
        order = order.but(time_in_force=TimeInForce.DAY)
    kinds = {"market": 12, "far": 4, "near": 3}
    if venue in METATRADER:
        kinds |= {"stop": 2, "trailing": 2, "due": 1}
    kind = chance.choices(list(kinds), list(kinds.values()))[0]
    if kind in ("far", "near"):
        return order.but(type=LIMIT, price=_price(symbol, venue, -side.sign, kind)), kind
    if kind == "stop":
        return order.but(type=STOP, stop_price=_price(symbol, venue, side.sign, "near")), kind
    if kind == "due":
        # The server holds it, and sends it at the first price that it hears.
        stop = _price(symbol, venue, -side.sign, "far")
        limit = _price(symbol, venue, -side.sign, "far")
        return order.but(type=STOP_LIMIT, stop_price=stop, price=limit), kind
    if kind == "trailing":
        how = chance.choice(["far", "near"])
        trail = round((FAR if how == "far" else NEAR)[venue] * TICKS[symbol], 5)
        stop = _price(symbol, venue, side.sign, how)
        return order.but(type=TRAILING, stop_price=stop, trail_amount=trail), kind
    return order, kind


def _price(symbol: str, venue: str, way: int, kind: str) -> float:
    distance = (FAR if kind == "far" else NEAR)[venue]
    return round(PRICES[symbol] + way * distance * TICKS[symbol], 5)
