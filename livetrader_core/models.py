"""The words everything else is written in: klines, ticks, contracts, orders, fills, positions.

Times are integer milliseconds since the epoch, UTC. Prices are float64 in the contract's currency.
Quantities are in the venue's own trading unit: shares, lots or contracts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from livetrader_core.errors import InvalidRequest, UnknownSymbol
from livetrader_core.sessions import Sessions

if TYPE_CHECKING:
    import pandas

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def market_of(symbol: str) -> str:
    """The MARKET of ``MARKET.CODE``. Raises :class:`UnknownSymbol` for any other form."""
    market, dot, code = symbol.partition(".") if isinstance(symbol, str) else ("", "", "")
    if not (market and dot and code):
        raise UnknownSymbol(f"{symbol!r} is not a symbol: write MARKET.CODE, such as US.BABA")
    return market


# --------------------------------------------------------------------------- market data


@dataclass(frozen=True, slots=True)
class Kline:
    """One bar. ``datetime`` is the moment it opens; ``closed`` is False while it still forms.

    ``trading_day`` (YYYYMMDD) is given on daily klines and 0 elsewhere. Fields also answer by
    name: ``kline['close']``.
    """

    symbol: str
    timeframe: str
    datetime: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    open_interest: float = 0.0
    closed: bool = True
    trading_day: int = 0

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)


#: The columns of :class:`Klines` after ``datetime``.
VALUE_COLUMNS = ("open", "high", "low", "close", "volume", "open_interest")


class Klines:
    """Many closed klines of one symbol and timeframe, by columns, oldest first.

    ``datetime`` is int64 (UTC milliseconds of the open), the others float64, all of one length.
    ``trading_day`` is an int64 column (YYYYMMDD) on daily klines and None elsewhere. ``forming``
    says that the last row is a bar that has not closed yet.
    """

    __slots__ = (
        "close",
        "datetime",
        "forming",
        "high",
        "low",
        "open",
        "open_interest",
        "symbol",
        "timeframe",
        "trading_day",
        "volume",
    )

    def __init__(
        self,
        symbol: str,
        timeframe: str,
        datetime: Ints,
        open: Floats,
        high: Floats,
        low: Floats,
        close: Floats,
        volume: Floats,
        open_interest: Floats | None = None,
        trading_day: Ints | None = None,
        forming: bool = False,
    ) -> None:
        self.symbol = symbol
        self.timeframe = timeframe
        self.datetime = datetime
        self.open = open
        self.high = high
        self.low = low
        self.close = close
        self.volume = volume
        self.open_interest = np.zeros(len(datetime)) if open_interest is None else open_interest
        self.trading_day = trading_day
        self.forming = forming

    @classmethod
    def empty(cls, symbol: str, timeframe: str) -> Klines:
        """No klines."""
        return cls.from_columns(symbol, timeframe, np.empty(0, np.int64), [np.empty(0)] * 6)

    @classmethod
    def from_columns(
        cls,
        symbol: str,
        timeframe: str,
        datetime: Ints,
        columns: Sequence[Floats],
        trading_day: Ints | None = None,
        forming: bool = False,
    ) -> Klines:
        """Klines from value columns in the order of :data:`VALUE_COLUMNS`."""
        open_, high, low, close, volume, interest = columns
        return cls(
            symbol,
            timeframe,
            datetime,
            open_,
            high,
            low,
            close,
            volume,
            interest,
            trading_day,
            forming,
        )

    @classmethod
    def of(cls, symbol: str, timeframe: str, klines: Iterable[Kline]) -> Klines:
        """Columns from single klines, which must be in order."""
        rows = list(klines)
        columns = [np.array([getattr(k, n) for k in rows], np.float64) for n in VALUE_COLUMNS]
        days = np.array([k.trading_day for k in rows], np.int64)
        return cls.from_columns(
            symbol,
            timeframe,
            np.array([k.datetime for k in rows], np.int64),
            columns,
            trading_day=days if timeframe == "1d" else None,
            forming=bool(rows) and not rows[-1].closed,
        )

    @classmethod
    def concat(cls, parts: list[Klines]) -> Klines:
        """Klines of one symbol and timeframe behind one another; ``parts`` must not be empty."""
        first, last = parts[0], parts[-1]
        columns = [np.concatenate([getattr(p, n) for p in parts]) for n in VALUE_COLUMNS]
        days = [p.trading_day for p in parts if p.trading_day is not None]
        return cls.from_columns(
            first.symbol,
            first.timeframe,
            np.concatenate([p.datetime for p in parts]),
            columns,
            trading_day=np.concatenate(days) if len(days) == len(parts) else None,
            forming=last.forming,
        )

    def columns(self) -> tuple[Floats, ...]:
        """The value columns in the order of :data:`VALUE_COLUMNS`."""
        return (self.open, self.high, self.low, self.close, self.volume, self.open_interest)

    def __len__(self) -> int:
        return len(self.datetime)

    @overload
    def __getitem__(self, index: int) -> Kline: ...
    @overload
    def __getitem__(self, index: slice) -> Klines: ...
    def __getitem__(self, index: int | slice) -> Kline | Klines:
        if isinstance(index, slice):
            reaches_last = range(len(self))[index][-1:] == range(len(self))[-1:]
            return Klines.from_columns(
                self.symbol,
                self.timeframe,
                self.datetime[index],
                [column[index] for column in self.columns()],
                trading_day=None if self.trading_day is None else self.trading_day[index],
                forming=self.forming and reaches_last and len(self) > 0,
            )
        position = range(len(self))[index]
        return Kline(
            self.symbol,
            self.timeframe,
            int(self.datetime[position]),
            float(self.open[position]),
            float(self.high[position]),
            float(self.low[position]),
            float(self.close[position]),
            float(self.volume[position]),
            float(self.open_interest[position]),
            closed=not (self.forming and position == len(self) - 1),
            trading_day=0 if self.trading_day is None else int(self.trading_day[position]),
        )

    def __iter__(self) -> Iterator[Kline]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<Klines {self.symbol} {self.timeframe}, {len(self)} rows>"

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame indexed by the UTC time of the open. Needs pandas."""
        import pandas as pd

        index = pd.DatetimeIndex(
            pd.to_datetime(self.datetime, unit="ms", utc=True), name="datetime"
        )
        return pd.DataFrame(dict(zip(VALUE_COLUMNS, self.columns(), strict=True)), index=index)


@dataclass(frozen=True, slots=True)
class Tick:
    """One quote: last trade and best bid and ask; 0 where the venue gives none."""

    symbol: str
    datetime: int
    last: float = 0.0
    bid: float = 0.0
    ask: float = 0.0
    bid_size: float = 0.0
    ask_size: float = 0.0
    volume: float = 0.0
    open_interest: float = 0.0


# --------------------------------------------------------------------------- contracts


@dataclass(frozen=True)
class Margin:
    """What holding one unit reserves: a fixed amount and a share of its notional value.

    Both zero means that the instrument is paid in full, as stocks are.
    """

    per_unit: float = 0.0
    rate: float = 0.0


@dataclass(frozen=True)
class Commission:
    """What trading one unit costs: a fixed amount and a share of its notional value."""

    per_unit: float = 0.0
    rate: float = 0.0


@dataclass(frozen=True)
class Swap:
    """What holding one unit over a night brings (negative: costs), in the contract's currency.

    ``triple_weekday`` (Monday is 0) is the trading day whose night counts three times.
    """

    long: float = 0.0
    short: float = 0.0
    triple_weekday: int = 2


@dataclass(frozen=True)
class Contract:
    """What one unit of a symbol is, costs and when it trades.

    ``multiplier`` turns a price into the currency value of one unit (a lot of EURUSD: 100,000).
    """

    symbol: str
    price_tick: float
    quantity_step: float
    min_quantity: float
    multiplier: float
    currency: str
    sessions: Sessions
    margin: Margin = Margin()
    commission: Commission = Commission()
    swap: Swap = Swap()
    shortable: bool = True
    name: str = ""
    expires_at: int = 0

    @property
    def timezone(self) -> str:
        """The time zone its sessions are written in."""
        return self.sessions.timezone

    @property
    def margined(self) -> bool:
        """Whether a position reserves margin instead of being paid in full."""
        return bool(self.margin.per_unit or self.margin.rate)

    def margin_of(self, price: float) -> float:
        """Margin (or, if not margined, full value) of one unit at ``price``, in its currency."""
        if not self.margined:
            return price * self.multiplier
        return self.margin.per_unit + self.margin.rate * price * self.multiplier

    def commission_of(self, quantity: float, price: float) -> float:
        """Commission for trading ``quantity`` units (sign ignored) at ``price``."""
        notional = price * self.multiplier
        return abs(quantity) * (self.commission.per_unit + self.commission.rate * notional)

    def round_price(self, price: float) -> float:
        """``price`` on the nearest tick. The one rounding of every mode."""
        return _on_grid(round(price / self.price_tick), self.price_tick)

    def round_quantity(self, quantity: float) -> float:
        """``quantity`` rounded toward zero to a whole number of steps; 0 if below the minimum."""
        # A hair is added so that 0.3 lots of step 0.1 are three steps and not two.
        steps = math.floor(abs(quantity) / self.quantity_step + 1e-9)
        rounded = _on_grid(steps, self.quantity_step)
        if rounded < self.min_quantity - 1e-12:
            return 0.0
        return math.copysign(rounded, quantity)

    def snap_quantity(self, quantity: float) -> float:
        """``quantity``, a sum of whole steps, without what floating-point sums leave behind."""
        return _on_grid(round(quantity / self.quantity_step), self.quantity_step)

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire carries it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Contract:
        """The contract behind :meth:`to_dict`."""
        fields = dict(data)
        sessions = fields["sessions"]
        fields["sessions"] = Sessions(
            timezone=sessions["timezone"],
            day=tuple((a, b) for a, b in sessions["day"]),
            night=tuple((a, b) for a, b in sessions["night"]),
            weekdays=tuple(sessions["weekdays"]),
        )
        fields["margin"] = Margin(**fields["margin"])
        fields["commission"] = Commission(**fields["commission"])
        fields["swap"] = Swap(**fields.get("swap", {}))
        return cls(**fields)


def _on_grid(steps: int, step: float) -> float:
    # Multiplying by 0.1 leaves 0.30000000000000004; ten significant decimals bring the value
    # back to the float that a person would write.
    return round(steps * step, 10)


# --------------------------------------------------------------------------- trading


class Side(str, Enum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for buy, -1 for sell."""
        return 1 if self is Side.BUY else -1


class OrderType(str, Enum):
    """How an order is priced."""

    MARKET = "market"
    CLOSE = "close"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"
    TRAILING_STOP_LIMIT = "trailing_stop_limit"


class TimeInForce(str, Enum):
    """How long an order works."""

    GTC = "gtc"
    DAY = "day"
    GTD = "gtd"
    IOC = "ioc"
    FOK = "fok"


class Offset(str, Enum):
    """Whether a futures order opens or closes; AUTO leaves it to the adapter."""

    AUTO = "auto"
    OPEN = "open"
    CLOSE = "close"
    CLOSE_TODAY = "close_today"


class OrderStatus(str, Enum):
    """Where an order stands. UNKNOWN: sent and not answered; only the venue can end it."""

    CREATED = "created"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to the order."""
        return self in _FINAL


_FINAL = frozenset(
    {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED}
)


@dataclass(frozen=True)
class Order:
    """An order, from the client's wish to the venue's last word.

    ``as_of`` is the moment the strategy saw when it ordered (0: the server's own clock): a
    simulated fill uses only klines of ``timeframe`` that open at or after it. ``expires_at`` ends
    a GTD order at the first kline that closes after it. ``average_price`` is that of the fills.

    A trailing order's ``stop_price`` is where its stop stands now; it follows the price at
    ``trail_amount`` (in price) or ``trail_percent`` (0.01 is 1 %), one of the two. The ``price``
    of a trailing stop-limit keeps its distance to the stop.

    ``parent`` is the client_order_id of a bracket's first order: this one sleeps until that is
    filled and dies with it; of a parent's children the first that is filled or canceled ends the
    others. ``oco`` is the client_order_id of the first of a group, of which one order that ends
    in any way cancels the rest. ``held`` says that the server keeps the order, and its venue does
    not know it yet.
    """

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    quantity: float
    price: float = 0.0
    stop_price: float = 0.0
    time_in_force: TimeInForce = TimeInForce.GTC
    offset: Offset = Offset.AUTO
    expires_at: int = 0
    as_of: int = 0
    timeframe: str = "1m"
    trail_amount: float = 0.0
    trail_percent: float = 0.0
    parent: str = ""
    oco: str = ""
    held: bool = False
    order_id: str = ""
    status: OrderStatus = OrderStatus.CREATED
    filled: float = 0.0
    average_price: float = 0.0
    reason: str = ""
    created_at: int = 0
    updated_at: int = 0

    @property
    def remaining(self) -> float:
        """What is not filled yet."""
        return self.quantity - self.filled

    def but(self, **changes: Any) -> Order:
        """A copy with ``changes``."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire and the journal carry it."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Order:
        """The order behind :meth:`to_dict`. Raises :class:`InvalidRequest` naming a bad field."""
        try:
            return cls(
                **{
                    **data,
                    "side": Side(data["side"]),
                    "type": OrderType(data["type"]),
                    "time_in_force": TimeInForce(data.get("time_in_force", "gtc")),
                    "offset": Offset(data.get("offset", "auto")),
                    "status": OrderStatus(data.get("status", "created")),
                }
            )
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidRequest(f"not an order: {error}") from None


@dataclass(frozen=True)
class Fill:
    """One execution. ``trade_id`` is the venue's and unique per venue.

    ``datetime`` is the venue's time of the execution, ``kline`` the open of the kline it fell in
    (0 where the venue does not fill by klines). ``commission`` is in the contract's currency.
    """

    trade_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: float
    price: float
    commission: float
    datetime: int
    kline: int = 0
    order_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire and the journal carry it."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fill:
        """The fill behind :meth:`to_dict`."""
        return cls(**{**data, "side": Side(data["side"])})


@dataclass(frozen=True)
class Position:
    """The net position in one symbol: positive is long. ``average_price`` is its entry."""

    symbol: str
    quantity: float
    average_price: float

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire carries it."""
        return asdict(self)


@dataclass(frozen=True)
class Balance:
    """An account in one currency.

    ``cash`` is money after realized profit, commissions and full payments; ``margin`` is what
    positions reserve of it; ``available`` can be spent; ``equity`` is cash plus open profit of
    margined positions plus the market value of those paid in full.
    """

    account: str
    currency: str
    cash: float
    margin: float
    available: float
    equity: float

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire carries it."""
        return asdict(self)


@dataclass(frozen=True)
class TradeEvent:
    """Something that happened to an order. ``seq`` counts without holes from 1 in a journal.

    ``clock`` is the venue's time (UTC milliseconds) at which it happened. ``fill`` is given when
    the change of ``order`` is that fill.
    """

    seq: int
    clock: int
    order: Order
    fill: Fill | None = None

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire and the journal carry it."""
        return {
            "seq": self.seq,
            "clock": self.clock,
            "order": self.order.to_dict(),
            "fill": self.fill.to_dict() if self.fill else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TradeEvent:
        """The event behind :meth:`to_dict`."""
        fill = data["fill"]
        return cls(
            seq=data["seq"],
            clock=data["clock"],
            order=Order.from_dict(data["order"]),
            fill=Fill.from_dict(fill) if fill else None,
        )


@dataclass(frozen=True)
class KillState:
    """The kill switch: while it is ``on``, no new order leaves.

    ``since`` is the computer's time (UTC ms) at which it was thrown, ``reason`` why. ``flatten``
    says that positions are closed, too.
    """

    on: bool = False
    since: int = 0
    reason: str = ""
    flatten: bool = False

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire and the journal carry it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KillState:
        """The state behind :meth:`to_dict`."""
        return cls(**data)


@dataclass(frozen=True)
class Reconciliation:
    """What came of comparing the journal's books with the venues', at ``datetime`` (UTC ms).

    ``differences`` says in words what does not agree; ``blocked`` that new orders are refused for
    it; ``foreign`` are orders working at the venues that nobody placed here: they are left alone.
    """

    datetime: int
    differences: tuple[str, ...] = ()
    foreign: tuple[Order, ...] = ()
    blocked: bool = False

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping, as the wire carries it."""
        return {
            "datetime": self.datetime,
            "differences": list(self.differences),
            "foreign": [order.to_dict() for order in self.foreign],
            "blocked": self.blocked,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reconciliation:
        """The report behind :meth:`to_dict`."""
        return cls(
            datetime=data["datetime"],
            differences=tuple(data["differences"]),
            foreign=tuple(Order.from_dict(order) for order in data["foreign"]),
            blocked=data["blocked"],
        )


@dataclass(frozen=True)
class Clock:
    """A venue's clock: every kline of ``markets`` that closes at or before ``datetime`` was given.

    ``trade_seq`` is the number of the last trade event up to this moment where market data and
    trading run side by side in one server, else 0.
    """

    markets: tuple[str, ...]
    datetime: int
    trade_seq: int = 0


class FeedState(str, Enum):
    """What can be said about the stream of one market."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    ENDED = "ended"


@dataclass(frozen=True)
class FeedStatus:
    """A change in a market's stream; ENDED: nothing more will come (a replay is over)."""

    markets: tuple[str, ...]
    state: FeedState
    reason: str = ""


#: What a market service tells its listeners.
MarketEvent = Kline | Tick | Clock | FeedStatus


def _plain(record: Order | Fill) -> dict[str, Any]:
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in vars(record).items()
    }
