"""A simulated futures venue: what an unmodified TqApi logs in to, reads quotes from and trades at.

One port serves the vendor's auth service (a token for whoever is known), the calendar documents
and the DIFF protocol: quotes at ``/md``, trading at ``/td``. Only loopback is bound: nothing here
is meant for a network.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import jwt
from aiohttp import WSMsgType, web

from livetrader_core.clock import Clock
from livetrader_core.sim.books import VenueBooks
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tq_contracts import ContractService, product_of
from livetrader_core.sim.tq_instrument import BEIJING, TICK_MS, Instrument
from livetrader_core.sim.tq_quotes import QuotesLine
from livetrader_core.sim.tq_trading import Trading, TradingLine
from livetrader_core.sim.venue import Fault, FaultKind, SimulatedVenue

_REALM = "/auth/realms/shinnytech"
_HOLIDAYS = "/shinny_chinese_holiday.json"
_CONTINUOUS = "/continuous_table.json"
_QUOTES = "/md"
_TRADING = "/td"
#: The client reads the token and does not check who signed it.
_SIGNATURE = "a simulated venue signs for nobody"
_NEVER_EXPIRES = 4_102_415_999


class TqServer(SimulatedVenue):
    """The venue of ``recordings`` on ``host``, ``port`` (0: a free one).

    ``users`` maps user names to passwords; None lets anybody in. ``mains`` says which symbol is
    the main contract of a product, such as ``{"SHFE.rb": "SHFE.rb2002"}``; by default the one
    with the greatest recorded volume. Bars come as the clock moves, to whoever peeks.

    Accounts are opened with ``cash`` at their first login; ``accounts`` maps the ids of brokers'
    accounts to passwords, None lets anybody in. What can go wrong with orders is set at
    :attr:`trading`.
    """

    faults = frozenset(
        {
            FaultKind.CUT,
            FaultKind.STALL,
            FaultKind.LATE,
            FaultKind.EMPTY,
            FaultKind.DUPLICATE,
            FaultKind.RESTART,
        }
    )

    def __init__(
        self,
        recordings: Sequence[Recording],
        clock: Clock,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Mapping[str, str] | None = None,
        mains: Mapping[str, str] | None = None,
        cash: float = 1_000_000.0,
        accounts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(recordings, clock)
        self.host = host
        self.port = port
        self._users = users
        futures = {one.symbol: Instrument(one.symbol, one) for one in recordings}
        chosen = _busiest(recordings, clock.now()) | dict(mains or {})
        self._mains = {
            f"KQ.m@{product}": Instrument(f"KQ.m@{product}", self.recordings[symbol])
            for product, symbol in chosen.items()
        }
        self._instruments = futures | self._mains
        self.trading = Trading(futures, clock.now(), cash, accounts)
        self._service = ContractService(futures.values(), self._mains)
        self._faults = _Faults()
        self._lines: dict[_Socket, asyncio.Task[None]] = {}
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def books(self) -> VenueBooks | None:
        """Those of the account that logged in first; None: nobody has."""
        return self.trading.books(self.clock.now())

    @property
    def auth_url(self) -> str:
        """What ``TQ_AUTH_URL`` has to be."""
        return f"http://{self.host}:{self.port}"

    @property
    def md_url(self) -> str:
        """What ``TQ_MD_URL`` has to be."""
        return f"ws://{self.host}:{self.port}{_QUOTES}"

    @property
    def td_url(self) -> str:
        """What ``TQ_TD_URL`` has to be."""
        return f"ws://{self.host}:{self.port}{_TRADING}"

    def environment(self) -> dict[str, str]:
        """Variables that lead a TqApi here and nowhere else."""
        return {
            "TQ_AUTH_URL": self.auth_url,
            "TQ_MD_URL": self.md_url,
            "TQ_TD_URL": self.td_url,
            "TQ_CHINESE_HOLIDAY_URL": f"{self.auth_url}{_HOLIDAYS}",
            "TQ_CONT_TABLE_URL": f"{self.auth_url}{_CONTINUOUS}",
        }

    # ---- life

    async def start(self) -> None:
        """Serve. Raises OSError if the port is taken."""
        if self._runner is None:
            await self._listen()
            self._spawn(self._follow_clock())

    async def stop(self) -> None:
        """Close every connection and the port."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hang_up()

    @property
    def running(self) -> bool:
        """Whether its port is open."""
        return self._runner is not None

    async def _listen(self) -> None:
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, self.host, self.port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def _hang_up(self) -> None:
        runner, self._runner = self._runner, None
        self._cut()
        if runner is not None:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(f"{_REALM}/protocol/openid-connect/token", self._token)
        app.router.add_get(f"{_REALM}/rest/get-grant/tq", self._grant)
        app.router.add_put(f"{_REALM}/rest/update-grant-accounts/{{account}}", self._grant)
        app.router.add_get(_HOLIDAYS, self._holidays)
        app.router.add_get(_CONTINUOUS, self._continuous)
        app.router.add_get(_QUOTES, self._quotes)
        app.router.add_get(_TRADING, self._trading)
        return app

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- auth and documents

    async def _token(self, request: web.Request) -> web.Response:
        await self._faults.stalled()
        form = await request.post()
        user, password = str(form.get("username", "")), str(form.get("password", ""))
        renewal = form.get("grant_type") == "refresh_token"
        if not renewal and self._users is not None and self._users.get(user) != password:
            refusal = {
                "error": "invalid_grant",
                "error_description": "Invalid user credentials",
            }
            return web.json_response(refusal, status=401)
        claims = {"sub": user, "grants": {"features": ["futr"], "accounts": []}}
        token = jwt.encode(claims, _SIGNATURE, algorithm="HS256")
        return web.json_response(
            {"access_token": token, "refresh_token": token, "token_type": "bearer"}
        )

    async def _grant(self, request: web.Request) -> web.Response:
        await self._faults.stalled()
        return web.json_response({"exp": _NEVER_EXPIRES, "daysleft": 9999, "account_type": "FREE"})

    async def _holidays(self, request: web.Request) -> web.Response:
        return web.json_response(_holidays(list(self.recordings.values())))

    async def _continuous(self, request: web.Request) -> web.Response:
        table = {}
        for name, instrument in self._mains.items():
            days = instrument.recording.trading_days
            first = str(int(days[0])) if len(days) else "19900101"
            table[name.removeprefix("KQ.m@")] = [[first, instrument.recording.symbol]]
        return web.json_response(table)

    # ---- quotes and trading

    async def _quotes(self, request: web.Request) -> web.WebSocketResponse:
        line = QuotesLine(self._instruments, self._service, self._faults.empty)
        return await self._serve(request, line)

    async def _trading(self, request: web.Request) -> web.WebSocketResponse:
        return await self._serve(request, TradingLine(self.trading, self._wake_trading))

    def _wake_trading(self) -> None:
        for connection in self._lines:
            if connection.trades:
                connection.wake()

    def cut_trading(self) -> None:
        """Drop the connections that trade, and no other."""
        for connection in list(self._lines):
            if connection.trades:
                connection.cut()

    async def _serve(
        self, request: web.Request, line: QuotesLine | TradingLine
    ) -> web.WebSocketResponse:
        # Compression costs more than loopback carries.
        socket = web.WebSocketResponse(compress=False, max_msg_size=0, autoping=True)
        await socket.prepare(request)
        connection = _Socket(request, socket, line, self.clock, self._faults)
        writer = asyncio.get_running_loop().create_task(connection.write())
        self._lines[connection] = writer
        try:
            await connection.read()
        finally:
            self._lines.pop(connection, None)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def _follow_clock(self) -> None:
        """Wake every connection whenever bars and quotes change."""
        while True:
            await self.clock.sleep_until((self.clock.now() // TICK_MS + 1) * TICK_MS)
            self.trading.advance(self.clock.now())
            for connection in self._lines:
                connection.wake()

    # ---- faults

    def _show(self, fault: Fault) -> None:
        if fault.kind is FaultKind.CUT:
            self._cut()
        elif fault.kind is FaultKind.RESTART:
            self._spawn(self._restart(fault.seconds))
        else:
            self._faults.add(fault)

    def _cut(self) -> None:
        for connection in list(self._lines):
            connection.cut()

    async def _restart(self, seconds: float) -> None:
        if self._runner is None:
            return  # it is restarting already
        await self._hang_up()
        await asyncio.sleep(seconds)
        await self._listen()


class _Faults:
    """Faults of answers that wait to be shown."""

    def __init__(self) -> None:
        self._until = 0.0
        self._empty = 0
        self._late: list[float] = []
        self._twice = 0

    def add(self, fault: Fault) -> None:
        if fault.kind is FaultKind.STALL:
            self._until = max(self._until, time.monotonic() + fault.seconds)
        elif fault.kind is FaultKind.EMPTY:
            self._empty += fault.count
        elif fault.kind is FaultKind.LATE:
            self._late += [fault.seconds] * fault.count
        elif fault.kind is FaultKind.DUPLICATE:
            self._twice += fault.count

    async def stalled(self) -> None:
        """Return once the stall is over and the delay of this answer has passed."""
        if self._late:
            await asyncio.sleep(self._late.pop())
        while (left := self._until - time.monotonic()) > 0:  # noqa: ASYNC110 - it may be prolonged
            await asyncio.sleep(left)

    def empty(self) -> bool:
        """Whether this answer holds no bars."""
        self._empty -= 1
        if self._empty < 0:
            self._empty = 0
            return False
        return True

    def twice(self) -> bool:
        """Whether this answer is sent twice."""
        self._twice -= 1
        if self._twice < 0:
            self._twice = 0
            return False
        return True


class _Socket:
    """One websocket: requests in, news out while a peek waits."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        line: QuotesLine | TradingLine,
        clock: Clock,
        faults: _Faults,
    ) -> None:
        self._request = request
        self._socket = socket
        self._line = line
        self._clock = clock
        self._faults = faults
        self._news = asyncio.Event()

    @property
    def trades(self) -> bool:
        """Whether it is a line for trading."""
        return isinstance(self._line, TradingLine)

    def wake(self) -> None:
        self._news.set()

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def read(self) -> None:
        async for frame in self._socket:
            if frame.type is not WSMsgType.TEXT:
                continue
            message = _parsed(frame.data)
            if message is not None:
                self._line.receive(message, self._clock.now())
                if self._line.doomed:
                    self.cut()
                self.wake()

    async def write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if not self._line.peeked:
                continue
            await self._faults.stalled()
            diffs = self._line.collect(self._clock.now())
            if diffs:
                self._line.peeked = False
                text = json.dumps({"aid": "rtn_data", "data": diffs})
                await self._send(text)
                if self._faults.twice():
                    await self._send(text)

    async def _send(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except ConnectionError:
            return  # the reader sees the end of the line too, and ends both


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _busiest(recordings: Sequence[Recording], now: int) -> dict[str, str]:
    """The symbol with the greatest volume of each ``EXCHANGE.product``."""
    best: dict[str, tuple[float, str]] = {}
    for recording in recordings:
        exchange, code = recording.symbol.split(".", 1)
        product = f"{exchange}.{product_of(code, now)[0]}"
        best[product] = max(
            best.get(product, (-1.0, "")), (float(recording.klines.volume.sum()), recording.symbol)
        )
    return {product: symbol for product, (_, symbol) in best.items()}


def _holidays(recordings: Sequence[Recording]) -> list[str]:
    """Weekdays between the recorded days on which nothing is recorded."""
    traded = {int(day) for one in recordings for day in set(one.trading_days.tolist())}
    if not traded:
        return ["1990-01-01"]
    day = datetime.strptime(str(min(traded)), "%Y%m%d").replace(tzinfo=BEIJING)
    last = datetime.strptime(str(max(traded)), "%Y%m%d").replace(tzinfo=BEIJING)
    found = [f"{day.year}-01-01"]
    while day <= last:
        if day.weekday() < 5 and int(day.strftime("%Y%m%d")) not in traded:
            found.append(day.strftime("%Y-%m-%d"))
        day += timedelta(days=1)
    return sorted(set(found))
