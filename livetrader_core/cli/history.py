"""``livetrader history``: klines kept on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from livetrader_core.cli.context import (
    Settings,
    endpoint_option,
    json_option,
    parse_moment,
    pass_settings,
    print_json,
    show_moment,
    timeframe_option,
)

if TYPE_CHECKING:
    from livetrader_core.fetching import Fetched, Tell
    from livetrader_core.store import KlineStore

    Fetch = Callable[[str, str, int | None, int | None, bool, Tell], Coroutine[None, None, Fetched]]


@click.group("history")
def command() -> None:
    """Fetch klines into the kline store, list them, export them."""


# --------------------------------------------------------------------------- fetch


@command.command("fetch")
@click.argument("symbols", metavar="SYMBOL…", nargs=-1, required=True)
@timeframe_option
@click.option(
    "--from",
    "from_ts",
    type=parse_moment,
    metavar="TIME",
    help="First open (UTC); else all there is.",
)
@click.option(
    "--to",
    "to_ts",
    type=parse_moment,
    metavar="TIME",
    help="Up to this open (UTC), itself not included.",
)
@click.option("--again", is_flag=True, help="Fetch what is stored already once more.")
@endpoint_option
@json_option
@pass_settings
def fetch(
    settings: Settings,
    symbols: tuple[str, ...],
    timeframe: str,
    from_ts: int | None,
    to_ts: int | None,
    again: bool,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Fetch klines of SYMBOL… into the kline store.

    From the server if one runs, else from the configured markets themselves. What is there is not
    fetched again: an interrupted fetch goes on where it ended. What is stored of a symbol is made
    one piece, from its first kline to its last.
    """
    if from_ts is not None and to_ts is not None and from_ts >= to_ts:
        raise click.BadParameter("--from must lie before --to", param_hint="--from")

    async def work() -> list[Fetched]:
        async with AsyncExitStack() as stack:
            fetch = await stack.enter_async_context(_fetcher(settings, endpoint))
            progress = stack.enter_context(_progress(settings))
            done = []
            for symbol in dict.fromkeys(symbols):
                bar = _Bar(progress, symbol)
                done.append(await fetch(symbol, timeframe, from_ts, to_ts, again, bar))
            return done

    done = asyncio.run(work())
    if as_json:
        print_json([asdict(each) for each in done])
        return
    for each in done:
        settings.say(
            f"{each.symbol} {each.timeframe}: {each.fetched:,} klines fetched, "
            f"{each.stored:,} stored from {show_moment(each.first)} to {show_moment(each.last)}"
        )


@asynccontextmanager
async def _fetcher(settings: Settings, endpoint: str | None) -> AsyncIterator[Fetch]:
    """What fetches: from a server or the markets themselves, into our store or the server's."""
    from livetrader_core.config import build_market
    from livetrader_core.errors import StorageError
    from livetrader_core.fetching import Fetcher, ServerFetcher
    from livetrader_core.rpc import RemoteSession

    where = settings.endpoint(endpoint)
    async with AsyncExitStack() as stack:
        if where is None:
            service = build_market(settings.config)
            stack.push_async_callback(service.stop)
            await service.connect()
            yield Fetcher(service, stack.enter_context(_open_store(settings))).fetch
            return
        session = RemoteSession(where, timeout=30.0, keys=settings.keys)
        stack.push_async_callback(session.close)
        await session.open(lambda event: None)
        try:
            store = stack.enter_context(_open_store(settings))
        except StorageError:
            if not any(market.cache for market in settings.config.markets.values()):
                raise
            yield ServerFetcher(session).fetch
        else:
            yield Fetcher(session, store).fetch


def _open_store(settings: Settings) -> KlineStore:
    from livetrader_core.config import make_folder
    from livetrader_core.store import KlineStore

    config = settings.config
    make_folder(config, "store.path", config.store.path)
    return KlineStore(config.store.path)


def _progress(settings: Settings) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(pulse_style="cyan"),
        TextColumn("{task.fields[klines]:,} klines, at {task.fields[at]}"),
        TimeElapsedColumn(),
        console=settings.notes,
        transient=True,
    )


class _Bar:
    """A line of progress; without an end where nobody knows how far back a market goes."""

    def __init__(self, progress: Progress, symbol: str) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(symbol, total=None, klines=0, at="…")

    def __call__(self, ts: int, klines: int, share: float | None) -> None:
        total = None if share is None else 1.0
        self._progress.update(
            self._task, total=total, completed=share, klines=klines, at=show_moment(ts)
        )


# --------------------------------------------------------------------------- list, export


@command.command("list")
@json_option
@pass_settings
def list_stored(settings: Settings, as_json: bool) -> None:
    """What the kline store holds."""
    with _open_store(settings) as store:
        rows = store.ranges()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        settings.say(
            f"nothing is stored in {settings.config.store.path}; "
            "try: livetrader history fetch US.BABA"
        )
        return
    title = Text(str(settings.config.store.path))
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("symbol")
    table.add_column("timeframe")
    table.add_column("first open (UTC)")
    table.add_column("last open (UTC)")
    table.add_column("klines", justify="right")
    for row in rows:
        table.add_row(
            row.symbol,
            row.timeframe,
            show_moment(row.first),
            show_moment(row.last),
            f"{row.count:,}",
        )
    settings.out.print(table)


@command.command("export")
@click.argument("symbol")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@timeframe_option
@pass_settings
def export(settings: Settings, symbol: str, file: Path, timeframe: str) -> None:
    """Write the stored klines of SYMBOL to FILE, a .csv, .csv.gz or .parquet."""
    with _open_store(settings) as store:
        count = store.export(symbol, timeframe, file)
    settings.say(f"{file}: {count:,} klines of {symbol} {timeframe}")
