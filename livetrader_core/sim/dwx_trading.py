"""The TRADE commands of the DWX expert advisor v2.0.1, with the flaws it has.

A close that fails says SUCCESS; a failed one is tried three times; a stop that cannot be set closes
the order; with ``dma`` off a reply ends in one ``}`` too many. Nothing tells of fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from livetrader_core.sim.mt4_trading import Mt4Trading, OrderKind, Ticket, TradeError

_TRIES = 3
_TEXTS = {
    0: "no error",
    3: "invalid trade parameters",
    128: "trade timeout",
    129: "invalid price",
    130: "invalid stops",
    131: "invalid trade volume",
    132: "market is closed",
    133: "trade is disabled",
    134: "not enough money",
    135: "price changed",
    136: "off quotes",
    138: "requote",
    146: "trade context is busy",
    4106: "unknown symbol",
    4108: "invalid ticket",
}


@dataclass(frozen=True)
class ExpertInputs:
    """What the user sets when the advisor is attached; these are its own defaults."""

    maximum_orders: int = 1
    maximum_lots: float = 0.01
    dma: bool = True


@dataclass(frozen=True)
class _Command:
    """The eleven fields. ``loss`` and ``profit`` are points from the open price."""

    kind: int
    name: str
    price: float
    loss: float
    profit: float
    comment: str
    lots: float
    magic: int
    ticket: int


def _read(fields: Sequence[str]) -> _Command:
    _, _, kind, name, price, loss, profit, comment, lots, magic, ticket = fields[:11]
    return _Command(
        int(kind),
        name,
        float(price),
        float(loss),
        float(profit),
        comment,
        float(lots),
        int(magic),
        int(ticket),
    )


class DwxTrading:
    """Answers to TRADE commands over ``trading``. ``named`` is whether EXECUTION has a symbol."""

    def __init__(self, trading: Mt4Trading, inputs: ExpertInputs, named: bool) -> None:
        self.trading = trading
        self.inputs = inputs
        self.named = named
        self._selected_pending = False
        self.handlers = {
            "OPEN": self._open,
            "MODIFY": self._modify,
            "CLOSE": self._close,
            "CLOSE_PARTIAL": self._close_partial,
            "CLOSE_MAGIC": self._close_magic,
            "CLOSE_ALL": self._close_all,
            "GET_OPEN_TRADES": self._open_trades,
        }

    # ---- orders

    def _open(self, fields: Sequence[str]) -> str:
        command = _read(fields)
        head = "{'_action': 'EXECUTION'"
        if command.lots > self.inputs.maximum_lots:
            return head + _refused("LOT_SIZE_ERROR", "MAX_LOT_SIZE_EXCEEDED") + "}"
        if len(self.trading.tickets) >= self.inputs.maximum_orders:
            return head + _refused("NUM_ORDERS_ERROR", "MAX_NUMBER_OF_ORDERS_EXCEEDED") + "}"
        try:
            ticket = self._send(command)
        except TradeError as error:
            return head + _refused(str(error.code), _text(error.code)) + "}"
        self._selected_pending = ticket.kind.pending
        symbol = f", '_symbol': '{ticket.name}'" if self.named else ""
        reply = (
            f"{head}{symbol}, '_magic': {ticket.magic}, '_ticket': {ticket.number}, "
            f"'_open_time': '{_time(ticket.open_time)}', '_open_price': {ticket.open_price:.8f}"
        )
        if not self.inputs.dma:
            return reply + "}}"
        return reply + self._set_stops(ticket, command) + "}"

    def _send(self, command: _Command) -> Ticket:
        kind = OrderKind(command.kind)
        quote = self.trading.model.quote(command.name)
        price = command.price
        if not kind.pending and quote is not None:
            price = quote[1] if kind is OrderKind.BUY else quote[0]
        loss = profit = 0.0
        if not self.inputs.dma:
            # No stops are those at the price itself, which no broker takes.
            loss, profit = self._stops(command.name, kind, price, command)
        return self.trading.send(
            command.name, kind, command.lots, price, loss, profit, command.comment, command.magic
        )

    def _stops(
        self, name: str, kind: OrderKind, price: float, command: _Command
    ) -> tuple[float, float]:
        instrument = self.trading.model.instruments.get(name)
        if instrument is None:
            return 0.0, 0.0
        step = instrument.recording.contract.price_tick * kind.sign
        digits = instrument.digits
        return (
            round(price - command.loss * step, digits),
            round(price + command.profit * step, digits),
        )

    def _set_stops(self, ticket: Ticket, command: _Command) -> str:
        """Set the stops of what was just opened; what can't have them is closed."""
        if command.loss == 0 and command.profit == 0:
            return ""
        told = ""
        for left in reversed(range(_TRIES)):
            changed, text = self._change(ticket.number, ticket.open_price, command)
            told += text
            if changed:
                return told
            if left == 0:
                told += self._close_at_market(ticket) + ", '_response': 'ERROR_SETTING_SL_TP'"
        return told

    def _modify(self, fields: Sequence[str]) -> str:
        command = _read(fields)
        _, told = self._change(command.ticket, command.price, command)
        return "{'_action': 'MODIFY'" + told + "}"

    def _change(self, number: int, price: float, command: _Command) -> tuple[bool, str]:
        ticket = self.trading.tickets.get(number)
        if ticket is None:
            return False, ", '_response': 'NOT_FOUND'"
        self._selected_pending = ticket.kind.pending
        if not ticket.kind.pending or price == 0.0:
            price = ticket.open_price
        loss, profit = self._stops(ticket.name, ticket.kind, price, command)
        try:
            self.trading.modify(number, price, loss, profit)
        except TradeError as error:
            digits = self.trading.model.instruments[ticket.name].digits
            return False, (
                f"{_failed(error.code)}, '_sl_attempted': {loss:.{digits}f}, "
                f"'_tp_attempted': {profit:.{digits}f}"
            )
        return True, f", '_sl': {loss:.8f}, '_tp': {profit:.8f}"

    # ---- closing

    def _close(self, fields: Sequence[str]) -> str:
        number = _read(fields).ticket
        self.trading.advance()
        head = f"{{'_action': 'CLOSE', '_ticket': {number}"
        ticket = self.trading.tickets.get(number)
        told = ", '_response': 'NOT_FOUND'"
        if ticket is not None:
            told = self._end(ticket) + ", '_response_value': 'SUCCESS'"
        # It goes through all orders, and stays at the newest.
        for last in list(self.trading.tickets.values())[-1:]:
            self._selected_pending = last.kind.pending
        return head + told + "}"

    def _end(self, ticket: Ticket) -> str:
        self._selected_pending = ticket.kind.pending
        if not ticket.kind.pending:
            return self._close_at_market(ticket) + ", '_response': 'CLOSE_MARKET'"
        with suppress(TradeError):  # what OrderDelete says is not looked at
            self.trading.delete(ticket.number)
        return ", '_response': 'CLOSE_PENDING'"

    def _close_at_market(self, ticket: Ticket) -> str:
        told = ""
        for _ in range(_TRIES):
            closed, text = self._close_part(ticket, ticket.lots)
            told += text
            if closed:
                break
            told += _failed(0)  # the error was read, and with that forgotten
        return told

    def _close_part(self, ticket: Ticket, lots: float) -> tuple[bool, str]:
        # What it tells is the price that it asked for, not the one that it got.
        asked = self.trading.close_price(ticket)
        try:
            self.trading.close(ticket.number, lots)
        except TradeError as error:
            return False, _failed(error.code)
        return True, f", '_close_price': {asked:.8f}, '_close_lots': {lots:.8f}"

    def _close_partial(self, fields: Sequence[str]) -> str:
        if self._selected_pending:
            return "{}"
        command = _read(fields)
        self.trading.advance()
        head = f"{{'_action': 'CLOSE', '_ticket': {command.ticket}"
        ticket = self.trading.tickets.get(command.ticket)
        if ticket is None:
            return head + ", '_response': 'CLOSE_PARTIAL_FAILED'}"
        lots = command.lots
        if lots < 0.01 or lots > ticket.lots:
            lots = ticket.lots
        _, told = self._close_part(ticket, lots)
        return f"{head}, '_response': 'CLOSE_PARTIAL'{told}}}"

    def _close_magic(self, fields: Sequence[str]) -> str:
        magic = _read(fields).magic
        head = f"{{'_action': 'CLOSE_ALL_MAGIC', '_magic': {magic}"
        found = [t for t in self.trading.tickets.values() if t.magic == magic]
        return head + self._end_all(found, named=False)

    def _close_all(self, fields: Sequence[str]) -> str:
        return "{'_action': 'CLOSE_ALL'" + self._end_all(list(self.trading.tickets.values()), True)

    def _end_all(self, found: Sequence[Ticket], named: bool) -> str:
        parts = []
        for ticket in reversed(found):
            magic = f", '_magic': {ticket.magic}" if named else ""
            parts.append(
                f"{ticket.number}: {{'_symbol':'{ticket.name}'{magic}{self._end(ticket)}}}"
            )
        last = "'_response_value': 'SUCCESS'" if found else "'_response': 'NOT_FOUND'"
        return f", '_responses': {{{', '.join(parts)}}}, {last}}}"

    # ---- what there is

    def _open_trades(self, fields: Sequence[str]) -> str:
        self.trading.advance()
        tickets = list(reversed(self.trading.tickets.values()))
        if tickets:
            self._selected_pending = tickets[-1].kind.pending
        trades = ", ".join(map(self._trade, tickets))
        return f"{{'_action': 'OPEN_TRADES', '_trades': {{{trades}}}}}"

    def _trade(self, ticket: Ticket) -> str:
        return (
            f"{ticket.number}: {{'_magic': {ticket.magic}, '_symbol': '{ticket.name}', "
            f"'_lots': {ticket.lots:.8f}, '_type': {int(ticket.kind)}, "
            f"'_open_price': {ticket.open_price:.8f}, '_open_time': '{_time(ticket.open_time)}', "
            f"'_SL': {ticket.stop_loss:.8f}, '_TP': {ticket.take_profit:.8f}, "
            f"'_pnl': {self.trading.open_profit(ticket):.8f}, '_comment': '{ticket.comment}'}}"
        )


def _refused(response: str, value: str) -> str:
    return f", '_response': '{response}', 'response_value': '{value}'"


def _failed(code: int) -> str:
    return f", '_response': '{code}', '_response_value': '{_text(code)}'"


def _text(code: int) -> str:
    return _TEXTS.get(code, "unknown error")


def _time(server: int) -> str:
    moment = datetime.fromtimestamp(server // 1000, timezone.utc)
    return moment.strftime("%Y.%m.%d %H:%M:%S")
