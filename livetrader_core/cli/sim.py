"""``livetrader sim``: a venue to rehearse with."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livetrader_core.cli.context import (
    Settings,
    json_option,
    parse_moment,
    parse_names,
    pass_settings,
    show_moment,
)
from livetrader_core.errors import ConfigError

if TYPE_CHECKING:
    from livetrader_core.clock import Clock
    from livetrader_core.sim.recording import Recording
    from livetrader_core.sim.venue import Fault, SimulatedVenue

Make = Callable[[Sequence["Recording"], "Clock", int], "SimulatedVenue"]


@dataclass(frozen=True)
class _Kind:
    """A venue: its markets, usual symbols, port, and the settings of the adapter for it."""

    adapter: str
    markets: tuple[str, ...]
    symbols: tuple[str, ...]
    port: int
    make: Make
    settings: Callable[[Any, list[str]], dict[str, Any]]
    #: The settings of the trade adapter beyond those; None where nothing can be traded.
    trading: Callable[[Any], dict[str, Any]] | None = None


def _make_tdx(recordings: Sequence[Recording], clock: Clock, port: int) -> SimulatedVenue:
    from livetrader_core.sim.tdx_server import TdxServer

    return TdxServer(recordings, clock, port=port)


def _make_mt4(recordings: Sequence[Recording], clock: Clock, port: int) -> SimulatedVenue:
    from livetrader_core.sim.dwx_trading import ExpertInputs
    from livetrader_core.sim.mt4_terminal import Mt4Terminal

    ports = (port, port + 1, port + 2) if port else (0, 0, 0)
    # As a user sets the advisor up who trades with it.
    inputs = ExpertInputs(maximum_orders=1000, maximum_lots=100.0)
    return Mt4Terminal(
        recordings, clock, "127.0.0.1", *ports, balance=_BALANCE, inputs=inputs, freeze=0.0
    )


def _make_tq(recordings: Sequence[Recording], clock: Clock, port: int) -> SimulatedVenue:
    try:
        from livetrader_core.sim.tq_server import TqServer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"sim tq needs the package {error.name}: pip install 'livetrader[tq]'"
        ) from error
    return TqServer(recordings, clock, port=port)


#: What the account at the MetaTrader 4 terminal begins with (USD).
_BALANCE = 100_000.0
_FUTURES = ("SHFE", "INE", "DCE", "CZCE", "CFFEX", "GFEX")
_KINDS: Mapping[str, _Kind] = {
    "tdx": _Kind(
        "tdx",
        ("US", "HK", *_FUTURES),
        ("US.BABA", "US.AAPL"),
        7727,
        _make_tdx,
        lambda venue, markets: {
            "host": venue.endpoint,
            "markets": markets,
            "delay_ms": 0,
            "holidays": False,
        },
    ),
    "mt4": _Kind(
        "dwx",
        ("FOREX",),
        ("FOREX.EURUSD",),
        27680,
        _make_mt4,
        lambda venue, markets: {
            "host": venue.host,
            "push_port": venue.push_port,
            "pull_port": venue.pull_port,
            "sub_port": venue.sub_port,
            "symbols": sorted(venue.recordings),
        },
        lambda venue: {"currency": "USD"},
    ),
    "tq": _Kind(
        "tq",
        _FUTURES,
        ("SHFE.cu2605", "DCE.m2605"),
        7788,
        _make_tq,
        lambda venue, markets: {
            "user": "anybody",
            "auth_url": venue.auth_url,
            "md_url": venue.md_url,
        },
        lambda venue: {
            "kind": "account",
            "broker": "simulated",
            "account": "demo",
            "td_url": venue.td_url,
        },
    ),
}


@click.command("sim")
@click.argument("kind", metavar="VENUE", type=click.Choice(list(_KINDS)))
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Recorded klines (a folder, a file, a .duckdb), instead of generated ones.",
)
@click.option(
    "--symbols",
    callback=lambda *a: parse_names(a[2]) if a[2] else None,
    help="What it has; else a few, or all that is recorded.",
)
@click.option("--seed", default=7, show_default=True, help="Of generated klines and of faults.")
@click.option(
    "--start",
    type=parse_moment,
    metavar="TIME",
    help="The venue's time when it starts; else now, or a recording's last day.",
)
@click.option("--speed", default=1.0, show_default=True, help="How fast its time runs.")
@click.option(
    "--clock",
    metavar="CLOCK",
    help="Instead of --start and --speed: the clock of another venue, as that one printed it.",
)
@click.option(
    "--books",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what the account has at the end to this file, as JSON.",
)
@click.option("--port", type=click.IntRange(0, 65_533), help="Its (first) port; 0: a free one.")
@click.option(
    "--fault", "faults", multiple=True, metavar="KIND", help="What goes wrong, at random."
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="Seconds from one fault to the next.",
)
@click.option(
    "--lasting",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Seconds that a fault lasts at most.",
)
@json_option
@pass_settings
def command(
    settings: Settings,
    kind: str,
    data: Path | None,
    symbols: list[str] | None,
    seed: int,
    start: int | None,
    speed: float,
    clock: str | None,
    books: Path | None,
    port: int | None,
    faults: tuple[str, ...],
    every: float,
    lasting: float,
    as_json: bool,
) -> None:
    """Simulate VENUE on this computer, in its own protocol, until Ctrl-C.

    \b
    tdx   a TDX extended-market server (US and HK stocks, futures)
    mt4   a MetaTrader 4 terminal with the DWX ZeroMQ expert advisor
    tq    tqsdk's servers: login and quotes of Chinese futures

    It prints what to write in livetrader.toml for the adapter to connect to it. Faults are cut,
    stall, late, empty, drop, fragment, duplicate, restart and clock_jump, as far as VENUE has them.
    """
    asyncio.run(
        _serve(
            settings,
            _KINDS[kind],
            _Wish(data, symbols, seed, start, speed, clock, books, port, faults, every, lasting),
            as_json,
        )
    )


@dataclass(frozen=True)
class _Wish:
    """What the command line asks for."""

    data: Path | None
    symbols: list[str] | None
    seed: int
    start: int | None
    speed: float
    clock: str | None
    books: Path | None
    port: int | None
    faults: tuple[str, ...]
    every: float
    lasting: float


async def _serve(settings: Settings, kind: _Kind, wish: _Wish, as_json: bool) -> None:
    recordings = await _recordings(kind, wish)
    clock = _clock(recordings, wish)
    venue = kind.make(recordings, clock, kind.port if wish.port is None else wish.port)
    plan = _faults(venue, wish)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        try:
            await venue.start()
        except OSError as error:
            raise ConfigError(f"--port: {error.strerror or error}; try --port 0") from None
        _announce(settings, kind, venue, clock, as_json)
        await _until(ended, venue, plan, wish, settings)
        _write_books(venue, wish.books)
    finally:
        await venue.stop()
    if not as_json:
        settings.say("stopped")


def _clock(recordings: Sequence[Recording], wish: _Wish) -> Clock:
    from livetrader_core.clock import SpedClock, SystemClock, parse_clock

    if wish.clock is not None:
        return parse_clock(wish.clock)
    start = _start(recordings, wish)
    if start is None and wish.speed == 1:
        return SystemClock()
    now = time.time_ns() // 1_000_000
    return SpedClock(now if start is None else start, wish.speed)


def _write_books(venue: SimulatedVenue, file: Path | None) -> None:
    if file is None:
        return
    books = venue.books()
    file.write_text(json.dumps(None if books is None else books.to_dict(), indent=2) + "\n")


async def _recordings(kind: _Kind, wish: _Wish) -> list[Recording]:
    from livetrader_core.market.replay import ReplayMarket
    from livetrader_core.models import market_of
    from livetrader_core.sim.recording import Recording

    if wish.data is None:
        # Around the start, so that there is a past to ask for and a future to wait for.
        moment = _now(wish)
        replay = ReplayMarket(
            "generated", start=moment, seed=wish.seed, symbols=wish.symbols or kind.symbols
        )
    else:
        replay = ReplayMarket(wish.data, symbols=wish.symbols)
    found = []
    for symbol in await replay.list_symbols():
        if market_of(symbol) in kind.markets:
            klines = await replay.get_kline_histories(symbol)
            found.append(Recording(await replay.get_contract(symbol), klines))
    await replay.disconnect()
    if not any(len(recording.klines) for recording in found):
        raise ConfigError(
            f"--data: {wish.data or 'generated klines'} hold nothing of {', '.join(kind.markets)}"
        )
    return found


def _now(wish: _Wish) -> int:
    """The venue's time, where no recording says it."""
    from livetrader_core.clock import parse_clock

    if wish.clock is not None:
        return parse_clock(wish.clock).now()
    return time.time_ns() // 1_000_000 if wish.start is None else wish.start


def _start(recordings: Sequence[Recording], wish: _Wish) -> int | None:
    """The venue's time at the beginning; None: the computer's."""
    if wish.start is not None or wish.data is None:
        return wish.start
    last = max(int(r.ends[-1]) for r in recordings if len(r.klines))
    return last - 24 * 3_600_000


def _faults(venue: SimulatedVenue, wish: _Wish) -> list[tuple[float, Fault]]:
    from livetrader_core.sim.venue import FaultKind, random_faults

    known = sorted(kind.value for kind in venue.faults)
    for name in wish.faults:
        if name not in known:
            raise click.BadParameter(f"--fault {name}: this venue has {', '.join(known)}")
    kinds = frozenset(FaultKind(name) for name in wish.faults)
    return random_faults(wish.seed, kinds, 1000, wish.lasting) if kinds else []


async def _until(
    ended: asyncio.Event,
    venue: SimulatedVenue,
    plan: list[tuple[float, Fault]],
    wish: _Wish,
    settings: Settings,
) -> None:
    ending = asyncio.ensure_future(ended.wait())
    for _, fault in cycle(plan):
        await asyncio.wait([ending], timeout=wish.every)
        if ending.done():
            return
        moment = show_moment(venue.clock.now())
        settings.note(f"{moment}  {fault.kind.value}, {fault.seconds:.1f} s")
        venue.inject(fault)
    await ending


def _announce(
    settings: Settings, kind: _Kind, venue: SimulatedVenue, clock: Clock, as_json: bool
) -> None:
    from livetrader_core.clock import SystemClock
    from livetrader_core.models import market_of

    markets = sorted({market_of(symbol) for symbol in venue.recordings})
    own_time = {} if isinstance(clock, SystemClock) else {"clock": str(clock)}
    quoting = {"adapter": kind.adapter, **kind.settings(venue, markets), **own_time}
    trading = None
    if kind.trading is not None:
        reached = {name: value for name, value in quoting.items() if name != "symbols"}
        trading = {**reached, **kind.trading(venue)}
    if as_json:
        told = {"settings": quoting, "trading": trading, "symbols": sorted(venue.recordings)}
        click.echo(json.dumps(told))
        return
    settings.say("simulating  ", (", ".join(sorted(venue.recordings)), "bold"))
    settings.say(f"its time    {show_moment(venue.clock.now())} UTC")
    settings.say("for livetrader.toml:\n")
    _say_table(settings, f"markets.{kind.adapter}", quoting)
    if trading is not None:
        settings.say("")
        _say_table(settings, f"trades.{kind.adapter}", trading)
    if kind.adapter == "tq":
        settings.say("\nand in the environment:")
        for name in (
            "MARKETS__TQ__PASSWORD",
            "TRADES__TQ__PASSWORD",
            "TRADES__TQ__ACCOUNT_PASSWORD",
        ):
            settings.say(f"LIVETRADER_{name}=anything")
    settings.say("")


def _say_table(settings: Settings, name: str, table: Mapping[str, Any]) -> None:
    settings.say(f"[{name}]")
    for key, value in table.items():
        settings.say(f"{key} = {json.dumps(value)}")
