"""The DWX expert advisor v2.0.1 as its clients meet it: commands in, replies and topics out.

It has no sockets: :class:`~livetrader_core.sim.mt4_terminal.Mt4Terminal` gives it those. Formats
are those of MQL4: ``DoubleToString`` has eight decimals, ``%f`` six, ``TimeToString`` no seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from livetrader_core.errors import ConfigError
from livetrader_core.sim.dwx_trading import DwxTrading, ExpertInputs
from livetrader_core.sim.mt4_model import Mt4Model, Rate
from livetrader_core.sim.mt4_trading import Mt4Trading

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PERIOD_NAMES = {1: "M1", 5: "M5", 15: "M15", 30: "M30", 60: "H1", 240: "H4", 1440: "D1"}

Handler = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Build:
    """What differs between the builds that are in use."""

    separator: str  #: between a topic and what is published
    every_tick: bool  #: whether a forming bar is published at every tick, or once
    account_info: bool  #: whether it knows GET_ACCOUNT_INFO
    empty_frames: bool = True  #: whether an empty frame follows each reply
    named: bool = True  #: whether a HIST reply names its symbol
    named_order: bool = True  #: whether the reply to a new order names its symbol


BUILDS = {
    "current": Build(":|:", every_tick=False, account_info=True),
    "patched": Build(" ", every_tick=True, account_info=False, named_order=False),
    "early": Build(" ", False, False, empty_frames=False, named=False, named_order=False),
}


def build_of(build: str | Build) -> Build:
    """A build by its name. Raises ConfigError."""
    if isinstance(build, Build):
        return build
    if build not in BUILDS:
        raise ConfigError(f"build: there are {', '.join(BUILDS)}, not {build!r}")
    return BUILDS[build]


class DwxExpert:
    """The expert advisor over a terminal.

    ``handlers`` answer by the first field of a command, ``trades`` by the second of a TRADE
    command; a reply is the whole text. ``blocked`` is what all but HEARTBEAT are answered while
    the terminal does not let it work, such as ``NO_BROKER_CONNECTION``. ``missing`` counts the
    next HIST commands that find no history.
    """

    def __init__(
        self,
        model: Mt4Model,
        build: Build,
        trading: Mt4Trading | None = None,
        inputs: ExpertInputs | None = None,
    ) -> None:
        self.model = model
        self.trading = trading or Mt4Trading(model)
        self.build = build
        self.blocked: str | None = None
        self.missing = 0
        self.account_number = 8_123_456
        orders = DwxTrading(self.trading, inputs or ExpertInputs(), build.named_order)
        self.trades: dict[str, Handler] = dict(orders.handlers)
        if build.account_info:
            self.trades["GET_ACCOUNT_INFO"] = self._account_info
        self.handlers: dict[str, Handler] = {
            "HIST": self._history,
            "TRACK_PRICES": self._track_prices,
            "TRACK_RATES": self._track_rates,
            "TRADE": self._trade,
        }
        self.prices: list[str] = []
        self.rates: list[tuple[str, int]] = []
        self._last_ticks: dict[str, str] = {}
        self._last_rates: dict[tuple[str, int], int] = {}

    # ---- commands

    def answer(self, command: str) -> str | None:
        """The reply to ``command``; None to one that it does not know."""
        fields = command.split(";")
        if fields[0] == "HEARTBEAT":
            return "{'_action': 'heartbeat', '_response': 'loud and clear!'}"
        handler = self.handlers.get(fields[0])
        if handler is None or (fields[0] == "TRADE" and fields[1] not in self.trades):
            return None
        if self.blocked is not None:
            return f"{{'_response': '{self.blocked}__ABORTED_COMMAND'}}"
        return handler(fields)

    def _trade(self, fields: Sequence[str]) -> str:
        return self.trades[fields[1]](fields)

    def _history(self, fields: Sequence[str]) -> str:
        _, name, minutes, start, end = fields[:5]
        period = int(minutes)
        head = "{'_action': 'HIST'"
        if self.build.named:
            head += f", '_symbol': '{name}_{_PERIOD_NAMES.get(period, 'UNKNOWN')}'"
        rates = self.model.rates(name, period, _read_time(start), _read_time(end))
        if self.missing > 0:
            self.missing -= 1
            rates = []
        if not rates:
            return head + ", '_response': 'NOT_AVAILABLE'}"
        return head + ", '_data': [" + ", ".join(map(_rate, rates)) + "]}"

    def _track_prices(self, fields: Sequence[str]) -> str:
        wanted = fields[1:]
        if not wanted:
            self.prices = []
            return "{'_action': 'TRACK_PRICES', '_data': {'symbol_count': 0}}"
        known = [name for name in wanted if self.model.select(name)]
        self.prices, self._last_ticks = known, {}
        return _tracked("TRACK_PRICES", "symbol_count", wanted, known)

    def _track_rates(self, fields: Sequence[str]) -> str:
        names, periods = fields[1::2], fields[2::2]
        wanted = names[: len(periods)]
        if not wanted:
            self.rates = []
            return "{'_action': 'TRACK_RATES', '_data': {'instrument_count': 0}}"
        known = [name for name in wanted if self.model.select(name)]
        self.rates = [
            (name, int(period))
            for name, period in zip(names, periods, strict=False)
            if name in known
        ]
        self._last_rates = {}
        return _tracked("TRACK_RATES", "instrument_count", wanted, known)

    def _account_info(self, fields: Sequence[str]) -> str:
        moment = _write_time(self.model.time_current())
        account = self.trading
        account.advance()
        return (
            f"{{'_action': 'GET_ACCOUNT_INFORMATION', 'account_number':{self.account_number}, "
            f"'_data': [{{'currenttime': '{moment}', 'account_name': 'Simulated', "
            f"'account_balance':{account.balance:.8f}, 'account_equity':{account.equity:.8f}, "
            f"'account_profit':{account.profit:.8f}, "
            f"'account_free_margin':{account.free_margin:.8f}, "
            f"'account_leverage':{account.leverage}}}]}}"
        )

    # ---- publications

    def publications(self) -> list[str]:
        """What it publishes at a tick."""
        found = []
        mark = self.build.separator
        for name in self.prices:
            quote = self.model.quote(name)
            text = "" if quote is None else f"{quote[0]:.6f};{quote[1]:.6f}"
            if text and text != self._last_ticks.get(name):
                self._last_ticks[name] = text
                found.append(f"{name}{mark}{text}")
        for name, period in self.rates:
            rate = self._forming(name, period)
            new = rate is not None and rate.time > self._last_rates.get((name, period), 0)
            if rate is not None and (new or self.build.every_tick):
                self._last_rates[name, period] = rate.time
                found.append(
                    f"{name}_{_PERIOD_NAMES[period]}{mark}{rate.time};{rate.open:.6f};"
                    f"{rate.high:.6f};{rate.low:.6f};{rate.close:.6f};"
                    f"{rate.tick_volume};{rate.spread};{rate.real_volume}"
                )
        return found

    def _forming(self, name: str, period: int) -> Rate | None:
        if period == 1:
            return self.model.forming(name)
        now = self.model.server_time()
        rates = self.model.rates(name, period, now - period * 60_000, now)
        return rates[-1] if rates else None


def _tracked(action: str, count: str, wanted: Sequence[str], known: Sequence[str]) -> str:
    missing = ", ".join(f"'{name}'" for name in wanted if name not in known)
    return (
        f"{{'_action': '{action}', '_data': {{'{count}':{len(wanted)}, "
        f"'error_symbols':[{missing}]}}}}"
    )


def _rate(rate: Rate) -> str:
    return (
        f"{{'time':'{_write_time(rate.time * 1000)}', 'open':{rate.open:.8f}, "
        f"'high':{rate.high:.8f}, 'low':{rate.low:.8f}, 'close':{rate.close:.8f}, "
        f"'tick_volume':{rate.tick_volume}, 'spread':{rate.spread}, "
        f"'real_volume':{rate.real_volume}}}"
    )


def _write_time(server: int) -> str:
    days, rest = divmod(server // 60_000, 1440)
    return f"{_day(days)} {rest // 60:02d}:{rest % 60:02d}"


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).strftime("%Y.%m.%d")


def _read_time(text: str) -> int:
    form = "%Y.%m.%d %H:%M:%S" if text.count(":") == 2 else "%Y.%m.%d %H:%M"
    moment = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
    return round((moment - _EPOCH).total_seconds() * 1000)
