"""Random orders on random bars, run through backtrader's BackBroker and through PaperTrade."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import backtrader as bt

from livetrader_core.models import (
    Commission,
    Contract,
    Kline,
    Margin,
    Order,
    OrderType,
    Side,
    TimeInForce,
)
from livetrader_core.service import MarketService
from livetrader_core.trade.paper import PaperTrade
from livetrader_core.trade.paper.matching import NO_SLIPPAGE, Slippage
from tests.support.scripted_market import START, ScriptedMarket, bar, contract

MINUTE = 60_000
PAID, MARGINED = "US.A", "SHFE.B"

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


@dataclass
class Case:
    """Bars by moment, orders by moment, and the settings of the broker."""

    contracts: dict[str, Contract]
    moments: list[list[Kline]]
    wishes: list[list[Wish]]
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


# --------------------------------------------------------------------------- cases


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
        made[minute] = bar(minute, open_, high, low, close, volume, symbol)
    return made


def wish(rng: random.Random, number: int, minute: int, last: dict[str, float]) -> Wish:
    """An order near the last price; a third of them expire soon."""
    symbol = rng.choice([PAID, MARGINED])

    def near() -> float:
        return last[symbol] + 0.25 * rng.randint(-7, 7)

    expires_at = 0
    if rng.random() < 0.33:
        expires_at = START + (minute + 1) * MINUTE + rng.choice([30, 60, 90, 240]) * 1000
    return Wish(
        number,
        symbol,
        rng.choice([Side.BUY, Side.SELL]),
        rng.choice([OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT]),
        float(rng.choice([1, 2, 5, 40])),
        near(),
        near(),
        expires_at,
    )


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
    for minute in range(length):
        given = [made[minute] for made in series.values() if minute in made]
        last.update({kline.symbol: kline.close for kline in given})
        made_now = []
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            made_now.append(wish(rng, number, minute, last))
            number += 1
        moments.append(given)
        wishes.append(made_now)
    return Case(specs, moments, wishes, 3_000.0 if poor else 1e7, poor, slippage, volume_percent)


# --------------------------------------------------------------------------- backtrader


class _Feed(bt.feed.DataBase):  # type: ignore[misc]
    """Klines from a list, stamped at their close."""

    params = (("klines", ()),)

    def start(self) -> None:
        super().start()
        self._rows = iter(self.p.klines)

    def _load(self) -> bool:
        kline = next(self._rows, None)
        if kline is None:
            return False
        self.lines.datetime[0] = bt.date2num(_moment(kline.datetime + MINUTE))
        for name in ("open", "high", "low", "close", "volume"):
            getattr(self.lines, name)[0] = kline[name]
        self.lines.openinterest[0] = 0.0
        return True


class _Broker(bt.brokers.BackBroker):  # type: ignore[misc]
    """BackBroker, except that an order meets no bar older than itself, and none twice.

    Unchanged, it tries the last bar of a silent feed again in every round of the others.
    """

    def _try_exec(self, order: bt.Order) -> None:
        opened = _ms(order.data.datetime.datetime(0)) - MINUTE
        if opened >= order.info.as_of:
            order.info.as_of = opened + MINUTE
            super()._try_exec(order)


class _Commission(bt.CommInfoBase):  # type: ignore[misc]
    """A contract, in backtrader's words."""

    params = (("contract", None),)

    def __init__(self) -> None:
        super().__init__()
        self._stocklike = not self.p.contract.margined

    def get_margin(self, price: float) -> float:
        return float(self.p.contract.margin_of(price))

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        return float(self.p.contract.commission_of(size, price))


class _Strategy(bt.Strategy):  # type: ignore[misc]
    params = (("case", None), ("outcome", None))

    def __init__(self) -> None:
        self.by_symbol = {data._name: data for data in self.datas}

    def notify_order(self, order: bt.Order) -> None:
        number = order.info.number
        # The list of executions is shared by all clones; the pending ones are this clone's own.
        for bit in order.executed.iterpending():
            close = _ms(bt.num2date(bit.dt))
            row = (number, order.data._name, float(bit.size), float(bit.price), close)
            self.p.outcome.fills.append(row)
        if not order.alive():
            self.p.outcome.ends[number] = order.getstatusname()

    def next(self) -> None:
        self.p.outcome.money.append((self.broker.getcash(), self.broker.getvalue()))
        for wanted in self.p.case.wishes[len(self) - 1]:
            self._order(wanted)

    def _order(self, wanted: Wish) -> None:
        kind = {
            OrderType.MARKET: bt.Order.Market,
            OrderType.LIMIT: bt.Order.Limit,
            OrderType.STOP: bt.Order.Stop,
            OrderType.STOP_LIMIT: bt.Order.StopLimit,
        }[wanted.type]
        make = self.buy if wanted.side is Side.BUY else self.sell
        make(
            data=self.by_symbol[wanted.symbol],
            size=wanted.quantity,
            exectype=kind,
            price=wanted.price if wanted.type is OrderType.LIMIT else wanted.stop_price,
            plimit=wanted.price if wanted.type is OrderType.STOP_LIMIT else None,
            valid=_moment(wanted.expires_at) if wanted.expires_at else None,
            number=wanted.number,
            as_of=_ms(self.datetime.datetime(0)),
        )


def run_backtrader(case: Case) -> Outcome:
    """``case`` in a backtest."""
    outcome = Outcome()
    cerebro = bt.Cerebro(stdstats=False)
    slip = case.slippage
    broker = _Broker(
        cash=case.cash,
        checksubmit=False,
        slip_perc=slip.perc,
        slip_fixed=slip.fixed,
        slip_open=slip.on_open,
        slip_match=slip.match,
        slip_limit=slip.limit,
        slip_out=slip.out,
    )
    if case.volume_percent:
        broker.set_filler(bt.fillers.FixedBarPerc(perc=case.volume_percent))
    cerebro.broker = broker
    for symbol, spec in case.contracts.items():
        klines = [k for moment in case.moments for k in moment if k.symbol == symbol]
        cerebro.adddata(_Feed(klines=klines), name=symbol)
        broker.addcommissioninfo(_Commission(contract=spec, mult=spec.multiplier), name=symbol)
    cerebro.addstrategy(_Strategy, case=case, outcome=outcome)
    cerebro.run()
    return outcome


# --------------------------------------------------------------------------- livetrader


def run_paper(case: Case) -> Outcome:
    """``case`` at the paper venue."""
    return asyncio.run(_run_paper(case))


async def _run_paper(case: Case) -> Outcome:
    market = ScriptedMarket(case.contracts.values())
    service = MarketService(market)
    paper = PaperTrade(
        service,
        cash=case.cash,
        check_margin=case.check_margin,
        volume_limit=case.volume_percent / 100,
    )
    paper._book.rules = replace(paper._book.rules, slippage=case.slippage)
    outcome = Outcome()
    await service.connect()
    await paper.connect()
    for symbol in case.contracts:
        await service.watch(symbol)
    events = paper.watch_events()
    reader = asyncio.get_running_loop().create_task(_collect(events, outcome))
    for klines, wishes in zip(case.moments, case.wishes, strict=True):
        await market.moment(*klines)
        (balance,) = await paper.fetch_balance()
        outcome.money.append((balance.available, balance.equity))
        for wanted in wishes:
            await paper.create_order(_order(wanted, market.time))
    await paper.disconnect()
    await reader
    await service.stop()
    return outcome


async def _collect(events: object, outcome: Outcome) -> None:
    ends = {"filled": "Completed", "expired": "Expired", "rejected": "Margin"}
    async for event in events:  # type: ignore[attr-defined]
        number, fill = int(event.order.client_order_id), event.fill
        if fill is not None:
            signed = fill.side.sign * fill.quantity
            outcome.fills.append((number, fill.symbol, signed, fill.price, fill.datetime))
        if event.order.status.is_final:
            outcome.ends[number] = ends[event.order.status.value]


def _order(wanted: Wish, as_of: int) -> Order:
    return Order(
        str(wanted.number),
        wanted.symbol,
        wanted.side,
        wanted.type,
        wanted.quantity,
        price=wanted.price,
        stop_price=wanted.stop_price,
        time_in_force=TimeInForce.GTD if wanted.expires_at else TimeInForce.GTC,
        expires_at=wanted.expires_at,
        as_of=as_of,
    )


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=ms)


def _ms(moment: datetime) -> int:
    since = moment.replace(tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return round(since.total_seconds()) * 1000
