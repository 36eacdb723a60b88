"""``livetrader history``: klines kept on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
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
from livetrader_core.errors import InvalidRequest
from livetrader_core.timeframe import duration_ms

if TYPE_CHECKING:
    from livetrader_core.models import Klines
    from livetrader_core.session import Session
    from livetrader_core.store import KlineStore

#: Klines of one request; what was fetched is kept page by page.
PAGE = 20_000


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

    From the server if one runs, else from the configured markets themselves. It goes on where an
    earlier fetch ended or was interrupted; what is stored of a symbol never has a hole of ours.
    """
    if from_ts is not None and to_ts is not None and from_ts >= to_ts:
        raise click.BadParameter("--from must lie before --to", param_hint="--from")

    async def work() -> list[Fetched]:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(_session(settings, endpoint))
            store = stack.enter_context(_open_store(settings))
            progress = stack.enter_context(_progress(settings))
            done = []
            for symbol in dict.fromkeys(symbols):
                fetcher = Fetcher(session, store, symbol, timeframe, _Bar(progress, symbol))
                done.append(await fetcher.fetch(from_ts, to_ts, again))
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


@dataclass(frozen=True)
class Fetched:
    """What a fetch brought, and what is stored now: first and last open (UTC ms)."""

    symbol: str
    timeframe: str
    fetched: int
    stored: int
    first: int
    last: int


class Fetcher:
    """Brings klines of one symbol into the store, page by page.

    What is stored stays one piece: newer klines are added onwards from its end, older ones
    backwards from its beginning. So wherever it is interrupted, it can go on. ``tell`` is called
    with the moment reached and the number of klines so far.
    """

    def __init__(
        self,
        session: Session,
        store: KlineStore,
        symbol: str,
        timeframe: str,
        tell: Callable[[int, int], None],
        page: int = PAGE,
    ) -> None:
        self._session = session
        self._store = store
        self._symbol = symbol
        self._timeframe = timeframe
        self._tell = tell
        self._page = page
        self._count = 0

    async def fetch(self, from_ts: int | None, to_ts: int | None, again: bool = False) -> Fetched:
        """Fetch what opens in [``from_ts``, ``to_ts``). Raises InvalidRequest if nothing does."""
        newest = await self._get(from_ts, 1, to_ts)
        if not len(newest):
            raise InvalidRequest(
                f"{self._symbol} {self._timeframe}: the market has no klines of this time"
            )
        end = int(newest.datetime[-1]) + 1
        stored = None if again else self._stored()
        if stored is None:
            await self._backwards(from_ts, end)
        else:
            first, last, _ = stored
            await self._onwards(last + 1, end)
            if from_ts is None or from_ts < first:
                await self._backwards(from_ts, first)
        first, last, count = self._stored() or (0, 0, 0)
        return Fetched(self._symbol, self._timeframe, self._count, count, first, last)

    async def _onwards(self, start: int, end: int) -> None:
        step = self._page * duration_ms(self._timeframe)
        while start < end:
            until = min(start + step, end)
            await self._keep(await self._get(start, None, until))
            start = until
            self._tell(until, self._count)

    async def _backwards(self, start: int | None, end: int) -> None:
        while start is None or start < end:
            page = await self._get(start, self._page, end)
            if not len(page):
                return
            await self._keep(page)
            end = int(page.datetime[0])
            self._tell(end, self._count)

    async def _get(self, from_ts: int | None, limit: int | None, to_ts: int | None) -> Klines:
        return await self._session.get_kline_histories(
            self._symbol, from_ts, limit, to_ts, self._timeframe
        )

    async def _keep(self, page: Klines) -> None:
        self._count += await asyncio.to_thread(self._store.write, page)

    def _stored(self) -> tuple[int, int, int] | None:
        for row in self._store.ranges():
            if (row.symbol, row.timeframe) == (self._symbol, self._timeframe):
                return row.first, row.last, row.count
        return None


@asynccontextmanager
async def _session(settings: Settings, endpoint: str | None) -> AsyncIterator[Session]:
    from livetrader_core.config import build_market
    from livetrader_core.local import LocalSession
    from livetrader_core.rpc import RemoteSession

    where = settings.endpoint(endpoint)
    session: Session
    if where is not None:
        session = RemoteSession(where, timeout=30.0)
    else:
        session = LocalSession(build_market(settings.config))
    try:
        await session.open(lambda event: None)
        yield session
    finally:
        await session.close()


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
    """A line of progress: how far is known only by the moment that was reached."""

    def __init__(self, progress: Progress, symbol: str) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(symbol, total=None, klines=0, at="…")

    def __call__(self, ts: int, klines: int) -> None:
        self._progress.update(self._task, klines=klines, at=show_moment(ts))


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
