"""The compiled expert advisor in this process, over a simulated terminal."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_int, c_longlong
from pathlib import Path
from typing import Any

import zmq

from livetrader_core.sim.mt4_model import Mt4Model, Rate
from livetrader_core.sim.mt4_trading import Mt4Trading, OrderKind, Ticket, TradeError

_HISTORY_LOADS, _NO_HISTORY = 4066, 4073
_TRADES = 0
#: The error of a broker that does not say what became of a request.
TIMED_OUT = 128


class _RawOrder(Structure):
    _fields_ = (
        *((name, c_int) for name in ("ticket", "type", "magic", "unused")),
        *((name, c_double) for name in ("lots", "open_price", "stop_loss", "take_profit")),
        *((name, c_double) for name in ("close_price", "profit", "commission", "swap")),
        *((name, c_longlong) for name in ("open_time", "close_time", "expiration")),
        ("symbol", c_char * 32),
        ("comment", c_char * 64),
    )


class _RawTick(Structure):
    _fields_ = (
        ("time", c_longlong),
        *((name, c_double) for name in ("bid", "ask", "last")),
        ("volume", ctypes.c_ulonglong),
    )


class _RawRate(Structure):
    _fields_ = (
        ("time", c_longlong),
        *((name, c_double) for name in ("open", "high", "low", "close")),
        ("tick_volume", c_longlong),
        ("spread", c_int),
        ("unused", c_int),
        ("real_volume", c_longlong),
    )


class _RawAccount(Structure):
    _fields_ = (
        *((name, c_int) for name in ("number", "leverage", "demo", "unused")),
        *((name, c_double) for name in ("balance", "credit", "equity", "margin")),
        *((name, c_double) for name in ("free_margin", "profit")),
        *((name, c_char * 64) for name in ("name", "server", "company")),
        ("currency", c_char * 16),
    )


class _RawSend(Structure):
    _fields_ = (
        ("symbol", c_char_p),
        ("comment", c_char_p),
        *((name, c_int) for name in ("type", "slippage", "magic", "unused")),
        *((name, c_double) for name in ("lots", "price", "stop_loss", "take_profit")),
        ("expiration", c_longlong),
    )


_ERROR = POINTER(c_int)
_CALLS: dict[str, Any] = {
    "symbols_total": CFUNCTYPE(c_int),
    "symbol_name": CFUNCTYPE(c_int, c_int, POINTER(c_char), c_int),
    "symbol_select": CFUNCTYPE(c_int, c_char_p),
    "tick": CFUNCTYPE(c_int, c_char_p, POINTER(_RawTick)),
    "market_info": CFUNCTYPE(c_int, c_char_p, c_int, POINTER(c_double)),
    "rates": CFUNCTYPE(
        c_int,
        c_char_p,
        c_int,
        c_longlong,
        c_longlong,
        c_int,
        POINTER(_RawRate),
        c_int,
        _ERROR,
    ),
    "orders_total": CFUNCTYPE(c_int, c_int),
    "order_at": CFUNCTYPE(c_int, c_int, c_int, POINTER(_RawOrder)),
    "order_of": CFUNCTYPE(c_int, c_int, POINTER(_RawOrder)),
    "order_send": CFUNCTYPE(c_int, POINTER(_RawSend), _ERROR),
    "order_close": CFUNCTYPE(c_int, c_int, c_double, c_double, c_int, _ERROR),
    "order_modify": CFUNCTYPE(c_int, c_int, c_double, c_double, c_double, c_longlong, _ERROR),
    "order_delete": CFUNCTYPE(c_int, c_int, _ERROR),
    "account": CFUNCTYPE(c_int, POINTER(_RawAccount)),
    "time_current": CFUNCTYPE(c_longlong),
    "time_gmt": CFUNCTYPE(c_longlong),
    "state": CFUNCTYPE(c_int, c_int),
    "print": CFUNCTYPE(None, c_int, c_char_p),
}


class _RawHost(Structure):
    _fields_ = tuple(_CALLS.items())


class Switches:
    """What the user, the broker and the network do to the terminal.

    ``unloaded``: how many more times history is still loading. ``lies``: how many more trade
    operations are done, and answered with a time-out.
    """

    def __init__(self) -> None:
        self.connected = True
        self.trade_allowed = True
        self.experts_enabled = True
        self.context_busy = False
        self.unloaded = 0
        self.lies = 0
        self.account_number = 4711
        self.stray_history = False


class Terminal:
    """MQL4's functions over a simulated terminal, as the runtime calls them."""

    def __init__(self, model: Mt4Model, trading: Mt4Trading, switches: Switches) -> None:
        self.model, self.trading, self.switches = model, trading, switches
        self.printed: list[str] = []
        self.failed: BaseException | None = None
        self._places: dict[int, int] = {}

    # ---- symbols and quotes

    def symbols_total(self) -> int:
        return len(self.model.instruments)

    def symbol_name(self, index: int, name: Any, size: int) -> int:
        names = list(self.model.instruments)
        if not 0 <= index < len(names):
            return 0
        ctypes.memmove(name, names[index].encode() + b"\0", len(names[index]) + 1)
        return 1

    def symbol_select(self, name: bytes) -> int:
        return int(self.model.select(name.decode()))

    def tick(self, name: bytes, tick: Any) -> int:
        text = name.decode()
        quote = self.model.quote(text)
        if quote is None:
            return 0
        raw = tick[0]
        raw.time = (self.model.quoted_at(text) + self.model.clock_error) // 1000
        raw.bid, raw.ask = quote
        raw.last, raw.volume = 0.0, 0
        return 1

    def market_info(self, name: bytes, what: int, value: Any) -> int:
        instrument = self.model.instruments.get(name.decode())
        if instrument is None:
            return 0
        contract = instrument.recording.contract
        trading, tick = self.trading, contract.price_tick
        bid, _ = self.model.quote(instrument.name) or (0.0, 0.0)
        try:
            rate = trading._rate(instrument.name, bid)
        except TradeError:
            rate = 0.0
        known = {
            11: tick,
            12: float(instrument.digits),
            14: float(trading.stop_level),
            15: contract.multiplier,
            16: contract.multiplier * tick * rate,
            17: tick,
            18: -0.5,
            19: 0.25,
            22: 1.0,
            23: trading.lot_step,
            24: trading.lot_step,
            25: trading.largest_lot,
            32: contract.multiplier * bid * rate / trading.leverage,
        }
        value[0] = known.get(what, 0.0)
        return 1

    def rates(
        self,
        name: bytes,
        minutes: int,
        first: int,
        last: int,
        count: int,
        rates: Any,
        size: int,
        error: Any,
    ) -> int:
        if self.switches.unloaded > 0:
            self.switches.unloaded -= 1
            error[0] = _HISTORY_LOADS
            return -1
        text = name.decode()
        found = (
            self._newest(text, minutes, count)
            if count
            else self._between(text, minutes, first, last)
        )
        if not found:
            error[0] = _NO_HISTORY
            return -1
        for place, rate in enumerate(found[:size]):
            raw = rates[place]
            raw.time = rate.time
            raw.open, raw.high, raw.low, raw.close = rate.open, rate.high, rate.low, rate.close
            raw.tick_volume, raw.spread, raw.real_volume = rate.tick_volume, rate.spread, 0
        return min(len(found), size)

    def _between(self, name: str, minutes: int, first: int, last: int) -> list[Rate]:
        return self.model.rates(name, minutes, first * 1000, last * 1000)

    def _newest(self, name: str, minutes: int, count: int) -> list[Rate]:
        now = self.model.server_time()
        for hours in (1, 72, 24 * 400):
            found = self.model.rates(name, minutes, now - hours * 3_600_000, now)
            if len(found) >= count:
                break
        return found[-count:]

    # ---- orders

    def orders_total(self, pool: int) -> int:
        trading = self.trading
        return len(trading.tickets) if pool == _TRADES else len(trading.history)

    def order_at(self, position: int, pool: int, order: Any) -> int:
        trading = self.trading
        orders = list(trading.tickets.values()) if pool == _TRADES else trading.history
        if not 0 <= position < len(orders):
            return 0
        self._show(orders[position], order[0])
        return 1

    def order_of(self, number: int, order: Any) -> int:
        ticket = self.trading.tickets.get(number) or self._closed(number)
        if ticket is None:
            return 0
        self._show(ticket, order[0])
        return 1

    def _closed(self, number: int) -> Ticket | None:
        history = self.trading.history
        for place in range(len(self._places), len(history)):
            self._places[history[place].number] = place
        place_of = self._places.get(number)
        return None if place_of is None or self.switches.stray_history else history[place_of]

    def _show(self, ticket: Ticket, raw: Any) -> None:
        raw.ticket, raw.type, raw.magic = ticket.number, int(ticket.kind), ticket.magic
        raw.lots, raw.open_price = ticket.lots, ticket.open_price
        raw.stop_loss, raw.take_profit = ticket.stop_loss, ticket.take_profit
        open_ = ticket.number in self.trading.tickets
        raw.close_price = self.trading.close_price(ticket) if open_ else ticket.close_price
        raw.profit = self.trading.open_profit(ticket) if open_ else ticket.profit
        raw.commission = raw.swap = 0.0
        raw.open_time, raw.close_time = ticket.open_time // 1000, ticket.close_time // 1000
        raw.expiration = ticket.expiration // 1000
        raw.symbol, raw.comment = ticket.name.encode(), ticket.comment.encode()

    def _done(self, work: Callable[[], int], error: Any, failed: int) -> int:
        """What ``work`` gives, or ``failed`` with the terminal's ``error``."""
        try:
            result = work()
        except TradeError as refused:
            error[0] = refused.code
            return failed
        if self.switches.lies:
            self.switches.lies -= 1
            error[0] = TIMED_OUT
            return failed
        return result

    def order_send(self, wish: Any, error: Any) -> int:
        raw = wish[0]

        def send() -> int:
            ticket = self.trading.send(
                raw.symbol.decode(),
                OrderKind(raw.type),
                round(raw.lots, 8),
                raw.price,
                raw.stop_loss,
                raw.take_profit,
                raw.comment.decode(),
                raw.magic,
                raw.expiration * 1000,
            )
            return ticket.number

        return self._done(send, error, -1)

    def order_close(self, number: int, lots: float, price: float, slip: int, error: Any) -> int:
        return self._done(lambda: bool(self.trading.close(number, round(lots, 8))), error, 0)

    def order_modify(
        self, number: int, price: float, loss: float, gain: float, expiration: int, error: Any
    ) -> int:
        def modify() -> int:
            self.trading.modify(number, price, loss, gain, expiration * 1000)
            return 1

        return self._done(modify, error, 0)

    def order_delete(self, number: int, error: Any) -> int:
        def delete() -> int:
            self.trading.delete(number)
            return 1

        return self._done(delete, error, 0)

    # ---- account and state

    def account(self, account: Any) -> int:
        raw, trading = account[0], self.trading
        raw.number, raw.leverage, raw.demo = self.switches.account_number, trading.leverage, 1
        raw.balance, raw.credit, raw.equity = trading.balance, 0.0, trading.equity
        raw.margin, raw.free_margin = trading.margin, trading.free_margin
        raw.profit = trading.profit
        raw.name, raw.server, raw.company = "Zoë Tester".encode(), b"Simulated-Demo", b"Simulated"
        raw.currency = trading.currency.encode()
        return 1

    def time_current(self) -> int:
        return self.model.time_current() // 1000

    def time_gmt(self) -> int:
        return self.model.clock.now() // 1000

    def state(self, what: int) -> int:
        switches = self.switches
        states = (
            switches.connected,
            switches.trade_allowed,
            switches.experts_enabled,
            switches.context_busy,
        )
        return int(states[what])

    def print(self, kind: int, text: bytes) -> None:
        self.printed.append(text.decode())


def libzmq() -> str:
    """The libzmq that pyzmq brings, or that of the system."""
    bundled = sorted((Path(zmq.__file__).parents[1] / "pyzmq.libs").glob("libzmq-*.so*"))
    return str(bundled[0]) if bundled else "libzmq.so.5"


class Advisor:
    """One life of the expert advisor: from being attached until it is removed or killed.

    Each has its own copy of the library, for it begins with fresh variables. ``folder`` is the
    terminal's MQL4/Files, which outlives it.
    """

    def __init__(
        self, library: Path, terminal: Terminal, folder: Path, inputs: dict[str, Any]
    ) -> None:
        self.terminal = terminal
        self._copy = tempfile.NamedTemporaryFile(suffix=".so")  # noqa: SIM115 - as long as this
        shutil.copyfile(library, self._copy.name)
        self._library = ctypes.CDLL(self._copy.name)
        self._library.ea_comment.restype = c_char_p
        self._library.ea_why_dead.restype = c_char_p
        # Kept: the library calls them for as long as it lives.
        self._calls = {name: kind(self._guarded(name)) for name, kind in _CALLS.items()}
        self._host = _RawHost(**self._calls)
        self._library.ea_host(ctypes.byref(self._host), libzmq().encode(), str(folder).encode())
        for name, value in inputs.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if not self._library.ea_input(name.encode(), text.encode()):
                raise KeyError(f"the advisor has no input {name}")
        self._ended = False

    def _guarded(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return getattr(self.terminal, name)(*arguments)
            except BaseException as error:  # ctypes would only print it
                self.terminal.failed = error
                return None if name == "print" else 0

        return call

    def init(self) -> int:
        """OnInit; what it returns."""
        return self._checked(self._library.ea_init())

    def timer(self) -> None:
        """OnTimer."""
        self._checked(self._library.ea_timer())

    def tick(self) -> None:
        """OnTick."""
        self._checked(self._library.ea_tick())

    def _checked(self, result: int) -> int:
        failed, self.terminal.failed = self.terminal.failed, None
        if failed is not None:
            raise failed
        if result == -1:
            raise RuntimeError(f"the advisor ended: {self._library.ea_why_dead().decode()}")
        return result

    def fail(self, what: str, times: int) -> None:
        """Let the next calls fail: ``send``, ``receive``, ``bind`` of ZeroMQ, or ``write``."""
        self._library.ea_fail(("send", "receive", "bind", "write").index(what), times)

    def pass_time(self, seconds: float) -> None:
        """Let its clock, and nothing else, be so much later."""
        self._library.ea_pass(round(1000 * seconds))

    @property
    def chart(self) -> str:
        """What it shows on the chart."""
        return str(self._library.ea_comment().decode())

    def remove(self, reason: int = 1) -> None:
        """OnDeinit, and the end of it."""
        if not self._ended:
            self._ended = True
            self._library.ea_deinit(reason)
            self._copy.close()

    def kill(self) -> None:
        """End it as the end of the terminal's process does."""
        if not self._ended:
            self._ended = True
            self._library.ea_kill()
            self._copy.close()
