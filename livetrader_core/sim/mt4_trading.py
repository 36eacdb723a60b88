"""What orders do in a MetaTrader 4 terminal: tickets, matching, closing, money.

A hedging account: a buy and a sell stand side by side. Prices are those of the recording's quotes;
a limit order fills at its price, a stop order and a stop-loss at the quote that reached them.
Error codes are MQL4's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from enum import IntEnum

from livetrader_core.sim.books import BookedFill
from livetrader_core.sim.mt4_model import Instrument, Mt4Model


class OrderKind(IntEnum):
    """MQL4's order types."""

    BUY = 0
    SELL = 1
    BUY_LIMIT = 2
    SELL_LIMIT = 3
    BUY_STOP = 4
    SELL_STOP = 5

    @property
    def sign(self) -> int:
        """+1 for orders that buy, -1 for those that sell."""
        return -1 if self % 2 else 1

    @property
    def pending(self) -> bool:
        """Whether it waits for a price."""
        return self >= OrderKind.BUY_LIMIT


_LONGEST_COMMENT = 31
_STOP_OUT = 0.5
#: How the comment of a closed part names the ticket of the rest.
_REST = "to #"

INVALID_PARAMETERS, INVALID_PRICE, INVALID_STOPS, INVALID_VOLUME = 3, 129, 130, 131
MARKET_CLOSED, TRADE_DISABLED, NOT_ENOUGH_MONEY, REQUOTE = 132, 133, 134, 138
CONTEXT_BUSY, UNKNOWN_SYMBOL, INVALID_TICKET = 146, 4106, 4108


class TradeError(Exception):
    """A trade operation that failed, with MQL4's error ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"error {code}")
        self.code = code


@dataclass(frozen=True)
class Ticket:
    """An order or a position; times are server time (ms), 0 while it is open."""

    number: int
    name: str
    kind: OrderKind
    lots: float
    open_price: float
    open_time: int
    stop_loss: float = 0.0
    take_profit: float = 0.0
    comment: str = ""
    magic: int = 0
    expiration: int = 0
    close_price: float = 0.0
    close_time: int = 0
    profit: float = 0.0


@dataclass
class Mt4Trading:
    """The account and its orders. ``currency`` is the account's, ``stop_level`` in points.

    ``refusals`` are error codes that the next trade operations fail with, ``slips`` by how many
    points the next market executions are worse than asked, ``closed_market`` refuses all.
    """

    model: Mt4Model
    balance: float = 10_000.0
    currency: str = "USD"
    leverage: int = 100
    stop_level: int = 0
    lot_step: float = 0.01
    largest_lot: float = 100.0
    tickets: dict[int, Ticket] = field(default_factory=dict)
    history: list[Ticket] = field(default_factory=list)
    refusals: deque[int] = field(default_factory=deque)
    slips: deque[int] = field(default_factory=deque)
    closed_market: bool = False
    last_ticket: int = 100_000
    _seen: int = -1

    # ---- operations

    def send(
        self,
        name: str,
        kind: OrderKind,
        lots: float,
        price: float,
        stop_loss: float = 0.0,
        take_profit: float = 0.0,
        comment: str = "",
        magic: int = 0,
        expiration: int = 0,
    ) -> Ticket:
        """As OrderSend; ``expiration`` (server ms) is for pending orders. Raises TradeError."""
        self.advance()
        instrument = self._instrument(name)
        self._check_allowed()
        if not self._is_volume(lots):
            raise TradeError(INVALID_VOLUME)
        price = round(price, instrument.digits)
        self._check_place(instrument, kind, price)
        self._check_stops(instrument, kind, price, stop_loss, take_profit)
        if not kind.pending:
            price = self._executed(instrument, price, kind.sign)
        self._check_money(instrument, kind, lots, price)
        ticket = Ticket(
            self._next(),
            name,
            kind,
            lots,
            price,
            self.model.server_time(),
            stop_loss,
            take_profit,
            comment[:_LONGEST_COMMENT],
            magic,
            expiration if kind.pending else 0,
        )
        self.tickets[ticket.number] = ticket
        return ticket

    def modify(
        self,
        number: int,
        price: float,
        stop_loss: float,
        take_profit: float,
        expiration: int | None = None,
    ) -> Ticket:
        """As OrderModify; price and expiration (None: as it is) only of a pending order.

        Raises TradeError.
        """
        self.advance()
        ticket = self._ticket(number)
        self._check_allowed()
        instrument = self._instrument(ticket.name)
        if ticket.kind.pending:
            self._check_place(instrument, ticket.kind, price)
        else:
            price = ticket.open_price
        self._check_stops(instrument, ticket.kind, price, stop_loss, take_profit)
        changed = replace(ticket, open_price=price, stop_loss=stop_loss, take_profit=take_profit)
        if ticket.kind.pending and expiration is not None:
            changed = replace(changed, expiration=expiration)
        self.tickets[number] = changed
        return changed

    def close(self, number: int, lots: float) -> Ticket:
        """As OrderClose at the current price; of a part, the rest gets a new ticket.

        Returns the closed part. Raises TradeError.
        """
        self.advance()
        ticket = self._ticket(number)
        self._check_allowed()
        if ticket.kind.pending:
            raise TradeError(INVALID_TICKET)
        if not self._is_volume(lots) or lots > ticket.lots + 1e-9:
            raise TradeError(INVALID_VOLUME)
        price = self._executed(
            self._instrument(ticket.name), self.close_price(ticket), -ticket.kind.sign
        )
        return self._close(ticket, lots, price, self.model.server_time())

    def delete(self, number: int) -> None:
        """As OrderDelete. Raises TradeError."""
        self.advance()
        ticket = self._ticket(number)
        self._check_allowed()
        if not ticket.kind.pending:
            raise TradeError(INVALID_TICKET)
        del self.tickets[number]
        self.history.append(replace(ticket, close_time=self.model.server_time()))

    # ---- money

    def close_price(self, ticket: Ticket) -> float:
        """What ``ticket`` would close at now (a pending order: the price it waits to meet)."""
        bid, ask = self._quote(ticket.name)
        return bid if ticket.kind.sign > 0 else ask

    def profit_of(self, ticket: Ticket, price: float, lots: float) -> float:
        """Profit in the account's currency of closing ``lots`` at ``price``, to the cent."""
        contract = self._instrument(ticket.name).recording.contract
        gain = (price - ticket.open_price) * ticket.kind.sign * lots * contract.multiplier
        return round(gain * self._rate(ticket.name, price), 2)

    def open_profit(self, ticket: Ticket) -> float:
        """Its profit at the current price; 0 of a pending order."""
        if ticket.kind.pending:
            return 0.0
        return self.profit_of(ticket, self.close_price(ticket), ticket.lots)

    @property
    def profit(self) -> float:
        """The profit of all open positions."""
        return round(sum(map(self.open_profit, self.tickets.values())), 2)

    @property
    def equity(self) -> float:
        """Balance and open profit."""
        return round(self.balance + self.profit, 2)

    @property
    def margin(self) -> float:
        """What positions reserve; of hedged ones only the larger side."""
        sides: dict[tuple[str, int], float] = {}
        for ticket in self.tickets.values():
            if not ticket.kind.pending:
                key = (ticket.name, ticket.kind.sign)
                sides[key] = sides.get(key, 0.0) + self._margin(ticket.name, ticket.lots)
        names = {name for name, _ in sides}
        return round(
            sum(max(sides.get((name, 1), 0.0), sides.get((name, -1), 0.0)) for name in names), 2
        )

    @property
    def free_margin(self) -> float:
        """Equity that nothing reserves."""
        return round(self.equity - self.margin, 2)

    def _margin(self, name: str, lots: float) -> float:
        contract = self._instrument(name).recording.contract
        bid, _ = self._quote(name)
        return lots * contract.multiplier * bid * self._rate(name, bid) / self.leverage

    def _rate(self, name: str, price: float) -> float:
        """What one unit of a pair's second currency is in the account's."""
        base, quote = name[:3], name[3:6]
        if quote == self.currency:
            return 1.0
        if base == self.currency:
            return 1.0 / price
        raise TradeError(TRADE_DISABLED)

    # ---- checks

    def _instrument(self, name: str) -> Instrument:
        if name not in self.model.instruments:
            raise TradeError(UNKNOWN_SYMBOL)
        return self.model.instruments[name]

    def _ticket(self, number: int) -> Ticket:
        if number not in self.tickets:
            raise TradeError(INVALID_TICKET)
        return self.tickets[number]

    def _quote(self, name: str) -> tuple[float, float]:
        quote = self.model.quote(name)
        if quote is None:
            raise TradeError(MARKET_CLOSED)
        return quote

    def _check_allowed(self) -> None:
        if self.refusals:
            raise TradeError(self.refusals.popleft())
        if self.closed_market:
            raise TradeError(MARKET_CLOSED)

    def _is_volume(self, lots: float) -> bool:
        steps = lots / self.lot_step
        whole = abs(steps - round(steps)) < 1e-6
        return whole and self.lot_step - 1e-9 <= lots <= self.largest_lot + 1e-9

    def _check_place(self, instrument: Instrument, kind: OrderKind, price: float) -> None:
        """A pending order must stand on its side of the market, ``stop_level`` points away."""
        if not kind.pending:
            return
        if price <= 0:
            raise TradeError(INVALID_PRICE)
        bid, ask = self._quote(instrument.name)
        distance = price - (ask if kind.sign > 0 else bid)
        below = kind in (OrderKind.BUY_LIMIT, OrderKind.SELL_STOP)
        if (-distance if below else distance) < self._stop_distance(instrument):
            raise TradeError(INVALID_STOPS)

    def _stop_distance(self, instrument: Instrument) -> float:
        point = instrument.recording.contract.price_tick
        return max(self.stop_level, 1) * point - point / 1000

    def _check_stops(
        self, instrument: Instrument, kind: OrderKind, price: float, loss: float, profit: float
    ) -> None:
        least = self._stop_distance(instrument)
        if not kind.pending:
            bid, ask = self._quote(instrument.name)
            price = bid if kind.sign > 0 else ask
        if loss and (price - loss) * kind.sign < least:
            raise TradeError(INVALID_STOPS)
        if profit and (profit - price) * kind.sign < least:
            raise TradeError(INVALID_STOPS)

    def _check_money(
        self, instrument: Instrument, kind: OrderKind, lots: float, price: float
    ) -> None:
        needed = self._margin(instrument.name, lots)
        if not kind.pending and needed > self.free_margin:
            raise TradeError(NOT_ENOUGH_MONEY)

    def _executed(self, instrument: Instrument, price: float, sign: int) -> float:
        slip = self.slips.popleft() if self.slips else 0
        return round(price + sign * slip * instrument.recording.contract.price_tick, 10)

    def _next(self) -> int:
        self.last_ticket += 1
        return self.last_ticket

    # ---- what happens by itself

    def advance(self) -> None:
        """Match what waits against every quote since the last call."""
        now = self.model.now()
        first = self._seen < 0
        after, self._seen = self._seen, max(self._seen, now)
        if first or now <= after or not self.tickets:
            return
        quotes = [
            (tick.datetime, name, tick.bid, tick.ask)
            for name in sorted({ticket.name for ticket in self.tickets.values()})
            for tick in self.model.instruments[name].recording.ticks(after, now)
        ]
        for moment, name, bid, ask in sorted(quotes):
            server = moment + self.model.offset(moment)
            for ticket in list(self.tickets.values()):
                if ticket.name == name:
                    self._meet(ticket, bid, ask, server)
        self._stop_out()

    def _meet(self, ticket: Ticket, bid: float, ask: float, server: int) -> None:
        """Fill or close ``ticket`` if a quote reached its price, or end it if its time is over."""
        if ticket.expiration and server >= ticket.expiration:
            del self.tickets[ticket.number]
            self.history.append(replace(_marked(ticket, "[expiration]"), close_time=server))
            return
        if ticket.kind.pending:
            filled = _fill_price(ticket, bid, ask)
            if filled is not None:
                kind = OrderKind.BUY if ticket.kind.sign > 0 else OrderKind.SELL
                self.tickets[ticket.number] = replace(
                    ticket, kind=kind, open_price=filled, open_time=server
                )
            return
        price = bid if ticket.kind.sign > 0 else ask
        if ticket.stop_loss and (price - ticket.stop_loss) * ticket.kind.sign <= 0:
            self._close(_marked(ticket, "[sl]"), ticket.lots, price, server)
        elif ticket.take_profit and (price - ticket.take_profit) * ticket.kind.sign >= 0:
            self._close(_marked(ticket, "[tp]"), ticket.lots, ticket.take_profit, server)

    def _stop_out(self) -> None:
        """Close the worst position while equity is below half of the margin."""
        while self.margin and self.equity < _STOP_OUT * self.margin:
            open_ = [ticket for ticket in self.tickets.values() if not ticket.kind.pending]
            worst = min(open_, key=self.open_profit)
            self._close(worst, worst.lots, self.close_price(worst), self.model.server_time())

    def _close(self, ticket: Ticket, lots: float, price: float, server: int) -> Ticket:
        profit = self.profit_of(ticket, price, lots)
        rest = round(ticket.lots - lots, 8)
        comment = ticket.comment
        del self.tickets[ticket.number]
        if rest > 0:
            number = self._next()
            comment = f"{_REST}{number}"
            self.tickets[number] = replace(
                ticket, number=number, lots=rest, comment=f"from #{ticket.number}"
            )
        closed = replace(
            ticket,
            lots=lots,
            comment=comment,
            close_price=price,
            close_time=server,
            profit=profit,
        )
        self.balance = round(self.balance + profit, 2)
        self.history.append(closed)
        return closed


def _marked(ticket: Ticket, mark: str) -> Ticket:
    """The terminal writes behind the comment what ended an order."""
    return replace(ticket, comment=f"{ticket.comment[: _LONGEST_COMMENT - len(mark)]}{mark}")


def executions(trading: Mt4Trading) -> list[BookedFill]:
    """All that was bought and sold, in the order of time; times are the server's."""
    closed = [ticket for ticket in trading.history if ticket.close_price]
    known = [*closed, *(t for t in trading.tickets.values() if not t.kind.pending)]
    lots = {ticket.number: ticket.lots for ticket in known}
    # A close of a part leaves the rest under a new ticket, which was opened with the first.
    rests = {
        int(ticket.comment.removeprefix(_REST)): ticket.number
        for ticket in known
        if ticket.comment.startswith(_REST)
    }
    for rest in sorted(rests, reverse=True):
        lots[rests[rest]] = round(lots[rests[rest]] + lots[rest], 8)
    found = [
        BookedFill(t.name, t.kind.sign * lots[t.number], t.open_price, t.open_time)
        for t in known
        if t.number not in rests
    ]
    found += [
        BookedFill(t.name, -t.kind.sign * t.lots, t.close_price, t.close_time) for t in closed
    ]
    return sorted(found, key=lambda fill: fill.datetime)


def _fill_price(ticket: Ticket, bid: float, ask: float) -> float | None:
    """What a pending order fills at when the quote is ``bid`` and ``ask``; None: it waits on."""
    price = ask if ticket.kind.sign > 0 else bid
    if ticket.kind in (OrderKind.BUY_LIMIT, OrderKind.SELL_LIMIT):
        return ticket.open_price if (price - ticket.open_price) * ticket.kind.sign <= 0 else None
    return price if (price - ticket.open_price) * ticket.kind.sign >= 0 else None
