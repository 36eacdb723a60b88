"""Cases run through backtrader's BackBroker and through PaperTrade."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import backtrader as bt

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Order, OrderType, Side, TimeInForce
from livetrader_core.service import MarketService
from livetrader_core.trade.paper import PaperTrade
from tests.support.scripted_market import ScriptedMarket
from tests.trade.random_cases import DAY, MINUTE, TRAILING, Case, Outcome, Wish

TYPES = {
    OrderType.MARKET: bt.Order.Market,
    OrderType.CLOSE: bt.Order.Close,
    OrderType.LIMIT: bt.Order.Limit,
    OrderType.STOP: bt.Order.Stop,
    OrderType.STOP_LIMIT: bt.Order.StopLimit,
    OrderType.TRAILING_STOP: bt.Order.StopTrail,
    OrderType.TRAILING_STOP_LIMIT: bt.Order.StopTrailLimit,
}
TRAILING_TYPES = tuple(TYPES[kind] for kind in TRAILING)


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

    Unchanged, it tries the last bar of a silent feed again in every round of the others. And a
    trailing stop stands on the tick, wherever it moves.
    """

    def next(self) -> None:
        super().next()
        for order in self.pending:  # also one that sleeps has seen this bar
            order.info.as_of = max(order.info.as_of, _ms(order.data.datetime.datetime(0)))

    def _try_exec(self, order: bt.Order) -> None:
        if _ms(order.data.datetime.datetime(0)) - MINUTE < order.info.as_of:
            return
        super()._try_exec(order)
        if order.exectype in TRAILING_TYPES and order.alive():
            put_on_tick(order)


def put_on_tick(order: bt.Order) -> None:
    """Round a trailing stop, and the limit at its distance."""
    tick = order.info.tick
    created = order.created
    created.price = round(created.price / tick) * tick
    if order.exectype == bt.Order.StopTrailLimit:
        created.pricelimit = round((created.price - order._limitoffset) / tick) * tick


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
        self.by_number: dict[int, bt.Order] = {}

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
        for number in self.p.case.cancels[len(self) - 1]:
            self.cancel(self.by_number[number])

    def _order(self, wanted: Wish) -> None:
        make = self.buy if wanted.side is Side.BUY else self.sell
        now = _ms(self.datetime.datetime(0))
        order = make(
            data=self.by_symbol[wanted.symbol],
            size=wanted.quantity,
            exectype=TYPES[wanted.type],
            valid=_moment(wanted.expires_at) if wanted.expires_at else None,
            oco=None if wanted.oco is None else self.by_number[wanted.oco],
            parent=None if wanted.parent is None else self.by_number[wanted.parent],
            transmit=wanted.transmit,
            number=wanted.number,
            as_of=now,
            tick=self.p.case.contracts[wanted.symbol].price_tick,
            **_prices(wanted),
        )
        self.by_number[wanted.number] = order
        # backtrader has a session end at 23:59:59.99999, and so never on a minute.
        order.dteos = bt.date2num(_moment(now - now % DAY + DAY))
        if wanted.type in TRAILING:
            put_on_tick(order)


def _prices(wanted: Wish) -> dict[str, float]:
    """Prices in backtrader's words; those of a trailing stop are where the price would stand."""
    if wanted.type is OrderType.LIMIT:
        return {"price": wanted.price}
    limit = {"plimit": wanted.price} if wanted.type is OrderType.STOP_LIMIT else {}
    if wanted.type not in TRAILING:
        return {"price": wanted.stop_price, **limit}
    sign, stop = wanted.side.sign, wanted.stop_price
    if wanted.trail_amount:
        price, trail = stop - sign * wanted.trail_amount, {"trailamount": wanted.trail_amount}
    else:
        price = stop / (1 + sign * wanted.trail_percent)
        trail = {"trailpercent": wanted.trail_percent}
    if wanted.type is OrderType.TRAILING_STOP_LIMIT:
        limit = {"plimit": price - (stop - wanted.price)}
    return {"price": price, **limit, **trail}


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
    for klines, wishes, cancels in zip(case.moments, case.wishes, case.cancels, strict=True):
        await market.moment(*klines)
        (balance,) = await paper.fetch_balance()
        outcome.money.append((balance.available, balance.equity))
        for wanted in wishes:
            await paper.create_order(_order(wanted, market.time))
        for number in cancels:
            with contextlib.suppress(OrderRejected):  # it has ended already
                await paper.cancel_order(str(number))
    await paper.disconnect()
    await reader
    await service.stop()
    return outcome


async def _collect(events: object, outcome: Outcome) -> None:
    ends = {
        "filled": "Completed",
        "expired": "Expired",
        "rejected": "Margin",
        "canceled": "Canceled",
    }
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
        trail_amount=wanted.trail_amount,
        trail_percent=wanted.trail_percent,
        parent="" if wanted.parent is None else str(wanted.parent),
        oco="" if wanted.oco is None else str(wanted.oco),
    )


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=ms)


def _ms(moment: datetime) -> int:
    since = moment.replace(tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return round(since.total_seconds()) * 1000
