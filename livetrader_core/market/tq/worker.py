"""What happens in the thread of a TqApi: subscriptions, questions, and news for the other side.

Everything that one packet of the venue changed leaves in one :class:`News`, so that bars and the
quotes that speak for them arrive together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from livetrader_core.errors import InvalidRequest, LiveTraderError, ProtocolError
from livetrader_core.market.tq.library import LINE_DOWN, LINE_UP
from livetrader_core.market.tq.parsing import KLINE_COLUMNS, TICK_COLUMNS, filled, quote_time
from livetrader_core.market.tq.queries import PROBE
from livetrader_core.models import Floats

#: An instrument and the length of its bars in seconds; 0 stands for ticks.
Key = tuple[str, int]

#: How wide series are asked for: tqsdk keeps each for as long as it runs, so there are few.
WIDTHS = (64, 1000, 10_000)

#: How long subscriptions are gathered (seconds).
_GATHER = 0.005


@dataclass
class News:
    """What has changed since the last: rows by series, times of quotes (UTC ms), answers."""

    rows: dict[Key, Floats] = field(default_factory=dict)
    #: Series of which more has come than was read; the rest follows.
    behind: set[Key] = field(default_factory=set)
    quotes: dict[str, int] = field(default_factory=dict)
    #: Whether the line came up or went down, and why.
    line: tuple[bool, str] | None = None
    answers: list[tuple[asyncio.Future[Any], Any]] = field(default_factory=list)
    #: Rows that tqsdk holds in memory.
    held: int = 0
    #: What has changed in the books of the account that is traded with.
    books: Any = None


class _Frame:
    """A series of tqsdk, read as an array of rows."""

    def __init__(self, frame: Any, columns: Sequence[str]) -> None:
        # tqsdk looks at the names of all columns of all series at every packet, which takes pandas'
        # own kind of text five times as long.
        frame.columns = frame.columns.astype(object)
        self.frame = frame
        self._columns = columns
        self._views = self._read()
        # The series is filled in place: its columns need to be looked up once only.
        self._live = np.shares_memory(self._views[0], self._read()[0])

    def _read(self) -> list[Any]:
        return [self.frame[name].to_numpy() for name in self._columns]

    def rows(self, since_ns: float = 1.0) -> Floats:
        """The filled rows from ``since_ns`` on, oldest first."""
        views = self._views if self._live else self._read()
        return self._from(int(np.searchsorted(views[0], since_ns)), views)

    def news(self, after_ns: float) -> Floats:
        """The filled rows after ``after_ns`` and the one before these."""
        views = self._views if self._live else self._read()
        return self._from(max(0, int(np.searchsorted(views[0], after_ns, side="right")) - 1), views)

    def _from(self, first: int, views: list[Any]) -> Floats:
        return filled(np.column_stack([view[first:] for view in views]))

    @property
    def reaches(self) -> float:
        """The time (ns) of the first row; 0 if there is room before it."""
        views = self._views if self._live else self._read()
        return float(views[0][0])


class Worker:
    """Runs inside the event loop of ``api``; ``post`` is called with every News."""

    #: The connections that must stand, as the vendor calls them.
    connections: tuple[str, ...] = ("md",)

    def __init__(self, api: Any, notices: Any, post: Callable[[News], None]) -> None:
        self._api = api
        self._notices = notices
        self._post = post
        self._news = News()
        self._scheduled = False
        self._frames: dict[tuple[Key, int], _Frame] = {}
        self._followed: dict[Key, tuple[_Frame, int]] = {}
        self._since: dict[Key, float] = {}
        self._quotes: dict[str, Any] = {}
        self._wanted: dict[str, asyncio.Event] = {}
        self._dirty: set[Key] = set()
        self._heard: set[str] = set()
        self._questions = 0
        self._grown = 0
        self._commands: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- work

    async def serve(self, commands: Any) -> None:
        """Begin whatever comes in at ``commands``; an error there is raised here.

        This is the one task that the TqApi knows of: what it raises comes out of ``wait_update``.
        """
        self._commands = commands
        self._begin(self._watch_line())
        self._watch()
        try:
            async for command in commands:
                if isinstance(command, BaseException):
                    raise command
                self._begin(command(self))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _watch(self) -> None:
        """Begin to follow what is followed without being asked for."""

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._commands.send_nowait(error)

    async def answer(
        self, future: asyncio.Future[Any], work: Callable[[Worker], Awaitable[Any]]
    ) -> None:
        """The outcome of ``work`` as the answer to ``future``."""
        try:
            outcome = await work(self)
        except LiveTraderError as error:
            outcome = error
        except Exception as error:  # an error that left a task would end the whole TqApi
            outcome = ProtocolError(f"tqsdk: {type(error).__name__}: {error}")
        self._news.answers.append((future, outcome))
        self._touch()

    async def _watch_line(self) -> None:
        async with self._api.register_update_notify() as updates:
            async for _ in updates:
                for notice in self._notices.get_notifies():
                    self._on_notice(notice)

    def _on_notice(self, notice: Mapping[str, Any]) -> None:
        if notice.get("conn_id") not in self.connections:
            return
        code, text = notice.get("code"), str(notice.get("content", ""))
        if code == LINE_DOWN or code in LINE_UP:
            self._news.line = (code in LINE_UP, text)
            self._touch()

    # ---- series

    async def follow(self, key: Key, since: int, width: int) -> None:
        """Report the rows of ``key`` from ``since`` (UTC ms) on, now and whenever they change."""
        self._since[key] = since * 1e6
        if key in self._followed and width <= self._followed[key][1]:
            self._mark(key)
            return
        await self.follow_quote(key[0])
        frame = await self._frame(key, width)
        self._followed[key] = (frame, width)
        async with self._api.register_update_notify(frame.frame) as updates:
            self._mark(key)
            async for _ in updates:
                if self._followed.get(key, (None, 0))[0] is not frame:
                    return  # a wider one has taken its place
                self._mark(key)

    async def follow_quote(self, instrument: str) -> None:
        """Report the time of every quote of ``instrument``; return once its contract is known."""
        if instrument not in self._quotes:
            if not self._wanted:
                self._begin(self._subscribe())
            self._wanted.setdefault(instrument, asyncio.Event())
            await self._wanted[instrument].wait()
        quote = self._quotes[instrument]
        async with self._api.register_update_notify(quote) as updates:
            while not quote.price_tick > 0:
                await updates.recv()

    async def _subscribe(self) -> None:
        """Subscribe to all that is wanted at once: tqsdk sends the whole list every time."""
        await asyncio.sleep(_GATHER)
        wanted, self._wanted = self._wanted, {}
        quotes = self._api.get_quote_list(list(wanted))
        for (instrument, event), quote in zip(wanted.items(), quotes, strict=True):
            self._quotes[instrument] = quote
            self._begin(self._watch_quote(instrument, quote))
            event.set()

    async def _watch_quote(self, instrument: str, quote: Any) -> None:
        async with self._api.register_update_notify(quote) as updates:
            if quote.datetime:  # subscribed to already, with a main contract
                self._heard.add(instrument)
                self._touch()
            async for _ in updates:
                self._heard.add(instrument)
                self._touch()

    async def rows(self, key: Key, width: int) -> Floats:
        """The newest rows of ``key``, at most as many as the least of WIDTHS that holds them."""
        return (await self._frame(key, width)).rows()

    async def _frame(self, key: Key, width: int) -> _Frame:
        """The series of ``key``, filled."""
        frame = self._frames.get((key, width))
        if frame is None:
            frame = self._frames[key, width] = self._open(key, width)
        async with self._api.register_update_notify() as updates:
            while not self._api.is_serial_ready(frame.frame):
                await updates.recv()
        if not len(frame.rows()):
            # A venue that has only just begun to fill it would look like one that has nothing.
            await self.probe(key[0])
        return frame

    def _open(self, key: Key, width: int) -> _Frame:
        instrument, seconds = key
        if seconds:
            return _Frame(self._api.get_kline_serial(instrument, seconds, width), KLINE_COLUMNS)
        return _Frame(self._api.get_tick_serial(instrument, width), TICK_COLUMNS)

    # ---- questions

    async def probe(self, instrument: str) -> None:
        """Return once the venue has answered: all that it sent before has arrived."""
        await self.query(PROBE, {"instrument_id": [instrument]})

    async def query(self, text: str, variables: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Entries of the contract service."""
        self._questions += 1
        query_id = f"livetrader_{self._questions}"
        # tqsdk answers a question that it has seen before by itself, so none is the same.
        told = self._api.query_graphql(f"{text}\n# {query_id}", dict(variables), query_id)
        async with self._api.register_update_notify(told) as updates:
            while "result" not in told and "error" not in told:
                await updates.recv()
        error, result = told.get("error"), told.get("result")
        self._api.query_graphql("", {}, query_id)  # both sides may forget it
        if error:
            raise InvalidRequest(f"the contract service refused a question: {error}")
        return list((result or {}).get("multi_symbol_info") or ())

    # ---- news

    def _mark(self, key: Key) -> None:
        self._dirty.add(key)
        self._touch()

    def _touch(self) -> None:
        # Later in the same turn: all that a packet changed is marked before any of it is read.
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        news, self._news = self._news, News()
        for key in self._dirty:
            self._read(key, news)
        for instrument in self._heard:
            news.quotes[instrument] = quote_time(self._quotes[instrument].datetime)
        self._dirty, self._heard = set(), set()
        self._add(news)
        news.held = sum(width for _, width in self._frames) + self._grown
        self._post(news)

    def _add(self, news: News) -> None:
        """Add what else there is to tell."""

    def _read(self, key: Key, news: News) -> None:
        frame, width = self._followed[key]
        since = self._since[key]
        if key[1] and frame.reaches > since and width < WIDTHS[-1]:
            # More has come at once than the series is wide.
            news.behind.add(key)
            wider = WIDTHS[WIDTHS.index(width) + 1]
            self._begin(self.follow(key, round(since / 1e6), wider))
            return
        # The last bar may still change; a tick needs the one before it for its volume.
        rows = frame.rows(since) if key[1] else frame.news(since)
        news.rows[key] = rows
        if len(rows):
            self._grown += len(rows) - 1
            self._since[key] = float(rows[-1][0])
