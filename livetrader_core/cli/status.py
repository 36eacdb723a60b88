"""``livetrader status``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from livetrader_core.cli.balance import balances_table
from livetrader_core.cli.context import (
    PATIENCE,
    PROBE_TIMEOUT,
    Settings,
    endpoint_option,
    join,
    json_option,
    make_table,
    pass_settings,
    print_json,
    show_moment,
    show_number,
)
from livetrader_core.cli.orders import orders_table
from livetrader_core.cli.positions import find_contracts, last_prices, positions_table
from livetrader_core.cli.venues import ask_venues
from livetrader_core.errors import LiveTraderError, NotAllowed, UnknownMethod
from livetrader_core.models import Balance, Contract, KillState, Order, Position
from livetrader_core.timeframe import duration_ms

if TYPE_CHECKING:
    from livetrader_core.rpc import Client
    from livetrader_core.session import MarketInfo

#: Orders and streams that one view shows.
_MOST = 20


@click.command("status")
@click.option("--once", is_flag=True, help="Print it once, also in a terminal.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is looked at anew.",
)
@endpoint_option
@json_option
@pass_settings
def command(
    settings: Settings, once: bool, every: float, endpoint: str | None, as_json: bool
) -> None:
    """What the server is doing: venues, feeds, orders, positions, profit.

    In a terminal the view follows until Ctrl-C; elsewhere, with --once or with --json it is
    printed once. Profit is at the last kline that the server published, before commissions.

    \b
    livetrader status
    livetrader status --once --endpoint tcp://127.0.0.1:7000
    livetrader status --json
    """
    where = endpoint or settings.server
    if as_json or once or not settings.out.is_terminal:
        view = _look_once(settings, endpoint)
        if as_json:
            print_json(view.to_dict(where))
        else:
            settings.out.print(view.render(where))
        return
    _follow(settings, where, every)


@dataclass
class View:
    """What is shown of one moment; ``trades`` is False where nothing may be known of trading.

    ``unknown`` says why positions or balances could not be had; ``away``, by their markets, which
    venues of several could not be asked for theirs.
    """

    status: Mapping[str, Any]
    markets: Mapping[str, MarketInfo]
    trades: bool = False
    kill: KillState = field(default_factory=KillState)
    orders: list[Order] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    balances: list[Balance] = field(default_factory=list)
    contracts: dict[str, Contract] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)

    def to_dict(self, endpoint: str) -> dict[str, Any]:
        """Plain values for a program; None where something is not known."""
        told: dict[str, Any] = {
            "endpoint": endpoint,
            **self.status,
            "markets": {code: asdict(market) for code, market in self.markets.items()},
        }
        if self.trades:
            told["kill"] = self.kill.to_dict()
            told["open_orders"] = [order.to_dict() for order in self.orders]
            told["positions"] = [position.to_dict() for position in self.positions]
            told["balances"] = [balance.to_dict() for balance in self.balances]
            told.update(dict.fromkeys(self.unknown), unknown=self.unknown, away=self.away)
        return told

    def render(self, endpoint: str) -> RenderableType:
        """Tables for people; what a low terminal cuts off is the least urgent."""
        parts: list[RenderableType] = self._alarms() if self.trades else []
        parts.append(_markets_table(self.markets, self.status))
        if self.trades:
            parts += self._trading()
        return Group(*parts, _streams_table(self.status), _server_table(endpoint, self.status))

    def _alarms(self) -> list[RenderableType]:
        alarms: list[RenderableType] = []
        if self.kill.on:
            reason = f": {self.kill.reason}" if self.kill.reason else ""
            alarms.append(Text(f"The kill switch is on{reason}. No order is taken.", "bold red"))
        alarms += [
            Text(f"{markets}: positions and balance are not known: {reason}", "bold red")
            for markets, reason in self.away.items()
        ]
        alarms += [
            Text(f"The books differ: {told}", "red") for told in self.status.get("differences", ())
        ]
        return alarms

    def _trading(self) -> list[RenderableType]:
        title = "Open orders"
        if len(self.orders) > _MOST:
            title += f" (the latest {_MOST} of {len(self.orders):,})"
        prices = last_prices(self.status)
        return [
            self._known("positions", self.positions)
            or positions_table(self.positions, self.contracts, prices),
            self._known("balances", self.balances) or balances_table(self.balances),
            orders_table(self.orders[-_MOST:], title) if self.orders else _line(title, "none"),
        ]

    def _known(self, name: str, records: Sequence[object]) -> Text | None:
        """A line in the place of a table; None if the table can be shown."""
        if name in self.unknown:
            return _line(name.capitalize(), f"not known: {self.unknown[name]}", "red")
        return None if records else _line(name.capitalize(), "none")


def _line(title: str, told: str, style: str = "dim") -> Text:
    return Text.assemble((f"{title}  ", "bold"), (told, style))


# ---- looking


def _look_once(settings: Settings, endpoint: str | None) -> View:
    from livetrader_core.rpc import Client

    with Client(timeout=PROBE_TIMEOUT, keys=settings.keys) as client:
        markets = client.connect(endpoint or settings.server).markets
        client.timeout = PATIENCE
        return _look(client, markets, {})


def _look(
    client: Client, markets: Mapping[str, MarketInfo], contracts: dict[str, Contract]
) -> View:
    """The view of now; ``contracts`` are those known already, and those learnt are added."""
    view = View(client.status(), markets, contracts=contracts)
    if not any(market.trade for market in markets.values()):
        return view
    with suppress(NotAllowed, UnknownMethod):  # a key that may only read market data
        view.kill = client.kill_state()
        view.orders = client.fetch_open_orders()
        view.trades = True
    if view.trades:
        _look_at_accounts(client, view)
    return view


def _look_at_accounts(client: Client, view: View) -> None:
    """What the venues are asked for, and may not answer."""
    try:
        view.positions, view.away = ask_venues(client, client.fetch_positions)
    except LiveTraderError as error:
        view.unknown["positions"] = str(error)
    try:
        view.balances, away = ask_venues(client, client.fetch_balance)
        view.away |= away
    except LiveTraderError as error:
        view.unknown["balances"] = str(error)
    if view.unknown:
        client.status()  # raises if it is the server that is gone, and not a venue
    new = [position for position in view.positions if position.symbol not in view.contracts]
    view.contracts.update(find_contracts(client, new))


def _follow(settings: Settings, where: str, every: float) -> None:
    """Show it until Ctrl-C; a server that goes away is waited for."""
    from livetrader_core.rpc import Client

    contracts: dict[str, Contract] = {}
    view: View | None = None
    with (
        Client(timeout=PROBE_TIMEOUT, keys=settings.keys) as client,
        Live(console=settings.out, auto_refresh=False) as live,
        suppress(KeyboardInterrupt),
    ):
        markets: Mapping[str, MarketInfo] | None = None
        while True:
            try:
                if markets is None:
                    markets = client.connect(where).markets
                view = _look(client, markets, contracts)
                live.update(Group(_header(every), view.render(where)), refresh=True)
            except LiveTraderError as error:
                if view is None:
                    raise
                markets = None
                lost = Group(Text("No answer; trying again.", "bold red"), Text(str(error), "red"))
                live.update(Group(lost, view.render(where)), refresh=True)
            time.sleep(every)


def _header(every: float) -> Text:
    now = show_moment(time.time_ns() // 1_000_000_000 * 1000)
    return Text(f"{now} UTC, every {every:g} s; Ctrl-C ends", "dim")


# ---- tables


def _server_table(endpoint: str, status: Mapping[str, Any]) -> Table:
    table = Table(title="Server", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("endpoints", join([str(e) for e in status.get("endpoints", [endpoint])]))
    table.add_row("version", f"{status.get('version')} (protocol {status.get('protocol')})")
    table.add_row("running for", _duration(float(status.get("uptime", 0))))
    for name in ("clients", "requests", "errors", "bad_frames", "published", "trade_seq"):
        if name in status:
            table.add_row(name.replace("_", " "), f"{status[name]:,}")
    return table


def _markets_table(markets: Mapping[str, MarketInfo], status: Mapping[str, Any]) -> Table:
    table = make_table("Markets", "market", "feed", "trading", "pace", "clock (UTC)")
    clocks, feeds = status.get("clocks", {}), status.get("feeds", {})
    lost = status.get("lost", {})
    for code, market in sorted(markets.items()):
        pace = "as fast as read" if market.paced else "its own"
        if market.delay_ms:
            pace += f", {market.delay_ms / 60_000:g} min late"
        clock = show_moment(clocks[code]) if clocks.get(code) else "not begun"
        trade = _trade(market.trade or "none", lost.get(code))
        table.add_row(code, _feed(feeds.get(code)), trade, pace, clock)
    return table


def _feed(state: str | None) -> Text:
    state = state or "connected"
    return Text(state, "" if state.startswith("connected") else "red")


def _trade(kind: str, lost: str | None) -> Text:
    """Where orders go, and whether they can."""
    style = {"live": "bold red", "paper": "green"}.get(kind, "dim")
    told = Text(kind, style)
    return told if lost is None else told.append(f", lost: {lost}", "red")


def _streams_table(status: Mapping[str, Any]) -> Table:
    table = make_table(
        "Streams",
        *("stream", "klines", "last opened (UTC)", "closed before", "close"),
        numbers=("klines", "closed before", "close"),
    )
    streams, latest = status.get("streams", {}), status.get("latest", {})
    for name, count in sorted(streams.items())[:_MOST]:
        opened, close = latest.get(name, (0, 0.0))
        last = (show_moment(opened), _age(name, opened, status), show_number(close))
        table.add_row(name, f"{count:,}", *(last if opened else ("-", "-", "-")))
    if len(streams) > _MOST:
        table.add_row(Text(f"and {len(streams) - _MOST:,} more", "dim"))
    if not streams:
        table.add_row(Text("none is watched", "dim"))
    return table


def _age(stream: str, opened: int, status: Mapping[str, Any]) -> str:
    """How long before its venue's clock the kline closed that opened at ``opened`` (UTC ms)."""
    symbol, _, timeframe = stream.partition(" ")
    clock = status.get("clocks", {}).get(symbol.partition(".")[0], 0)
    if not clock:
        return "-"
    return _duration(max(0, clock - opened - duration_ms(timeframe)) / 1000)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)[:24] or "0 s"
