"""DwxMarket: forex quotes of a MetaTrader 4 terminal with the DWX expert advisor v2.0.1."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from livetrader_core.clock import Clock
from livetrader_core.errors import (
    ConfigError,
    LiveTraderError,
    NotConnected,
    ProtocolError,
    UnknownSymbol,
)
from livetrader_core.market.dwx.history import History
from livetrader_core.market.dwx.hub import Hub, User, hub_of
from livetrader_core.market.dwx.line import Address, Line
from livetrader_core.market.dwx.messages import (
    ACCOUNT_INFO,
    Quote,
    account_time,
    answers,
    read_publication,
)
from livetrader_core.market.dwx.tracking import Tracking
from livetrader_core.market.finding import Finding, Verdict, clock_finding
from livetrader_core.market.metatrader import settings
from livetrader_core.market.metatrader.market import Kind, MetaTraderMarket
from livetrader_core.market.metatrader.servertime import EET_US
from livetrader_core.market.metatrader.updater import Source
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, Tick

log = logging.getLogger(__name__)


class DwxMarket(MetaTraderMarket):
    """Klines and ticks of a MetaTrader 4 terminal, through the published DWX v2.0.1 advisor.

    ``host`` and the three ports are those of the expert advisor; the ports are named from this
    side: ``push_port`` takes commands (its PULL_PORT's peer, 32768), ``pull_port`` gives replies,
    ``sub_port`` ticks. It has no password and no encryption: reach it over loopback, a tunnel or
    a private network only. One client at a time: it deals its replies out to all who connect; a
    DwxTrade in the same event loop, with the same host and ports, uses the same connection.

    ``time_zone`` is that of the broker's server, which the protocol does not tell: ``EET-US``
    (UTC+2, in summer +3, changing with New York, so that the New York close is midnight),
    ``EET-EU`` (changing with Europe), a fixed ``UTC+2``, or an IANA name. It is checked against
    the terminal's clock; a doubt is a warning that names this setting.

    ``symbols`` is what :meth:`list_symbols` gives, for the advisor can't list them; others may be
    used too, and are looked up when they are. ``suffix`` is what the broker writes behind a code
    (``EURUSD.m``). ``markets`` are the MARKETs that this terminal serves.

    ``timeout``: seconds an answer may take; ``connect_timeout``: seconds connecting may;
    ``retry`` and ``longest_retry``: seconds between attempts to come back, doubling;
    ``heartbeat``: seconds of silence after which the advisor is asked whether it lives.
    ``chunk``: bars asked for at once. ``late_ticks``: seconds after a bar's end in which the
    broker may still send ticks of it, if no later bar shows that it is over (by default 2, and 0
    with a ``clock`` of a simulated venue). Times are the computer's but for ``late_ticks``.

    Volumes are tick counts. Klines above ``1h`` are made from hours, so that they begin where
    those of other venues do and not at the server's midnight. MetaTrader has no bar for a minute
    without a tick. Raises ConfigError naming the setting at fault.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        push_port: int = 32768,
        pull_port: int = 32769,
        sub_port: int = 32770,
        time_zone: str = EET_US,
        symbols: Sequence[str] = (),
        suffix: str = "",
        markets: Sequence[str] = ("FOREX",),
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        retry: float = 1.0,
        longest_retry: float = 30.0,
        heartbeat: float = 5.0,
        chunk: int = 5000,
        late_ticks: float | None = None,
        clock: Clock | str | None = None,
    ) -> None:
        ports = {"push_port": push_port, "pull_port": pull_port, "sub_port": sub_port}
        self._address = Address(
            settings.host(host), *(settings.port(*item) for item in ports.items())
        )
        self._timeout = settings.seconds("timeout", timeout)
        self._hello = settings.seconds("connect_timeout", connect_timeout)
        if isinstance(chunk, bool) or not isinstance(chunk, int) or not 10 <= chunk <= 100_000:
            raise ConfigError(f"chunk: must be a number of bars from 10 to 100000, not {chunk!r}")
        self._chunk = chunk
        super().__init__(
            str(self._address),
            time_zone,
            suffix,
            markets,
            retry,
            longest_retry,
            heartbeat,
            late_ticks,
            clock,
        )
        self._listed = self._checked_list(symbols)
        self._tells_time = False
        self._hub: Hub | None = None
        self._user = User(self._on_publication, self._on_lost)
        self._line: Line | None = None
        self._tracking = Tracking(self._code)

    def _make_source(self) -> Source:
        return History(
            self._working, self._zone, self._code, self._sessions, self._chunk, self._retry
        )

    # ---- life

    async def _open(self) -> None:
        """A new line, with the lists of what is to be published on it."""
        if self._hub is None:
            self._hub = hub_of(self._address)
            self._hub.join(self._user)
        line = self._line = await self._hub.line(self._timeout, self._hello)
        self._tracking.begin(line)
        await self._check_clock(line)
        await self._tracking.update(line)

    async def _leave(self) -> None:
        self._line = None
        hub, self._hub = self._hub, None
        if hub is not None:
            await hub.leave(self._user)

    def _working(self) -> Line:
        """The line. Raises NotConnected."""
        line = self._line
        if line is None:
            raise NotConnected(f"{self._address}: not connected; call connect() first")
        if line.lost is not None:
            raise NotConnected(str(line.lost))
        return line

    def _working_or_none(self) -> Line | None:
        return None if self._line is None or self._line.lost is not None else self._line

    def _fault(self) -> str | None:
        if self._line is None:
            return ""
        return None if self._line.lost is None else str(self._line.lost)

    async def _prepare(self, now: int) -> None:
        line = self._working()
        await self._tracking.update(line)
        if self._check.due(now):
            await self._check_clock(line)

    async def _silent(self) -> None:
        await self._working().heartbeat()

    async def _check_clock(self, line: Line) -> None:
        """Compare the terminal's clock with ours, where the build tells it."""
        self._check.asked(self._clock.now())
        self._tells_time = False
        if not line.empty_frames:
            return  # those builds know no GET_ACCOUNT_INFO, and don't answer what they don't know
        reply = await line.request(ACCOUNT_INFO, answers("GET_ACCOUNT_INFORMATION"))
        if reply is None:
            return
        self._tells_time = True
        try:
            self._check.account(account_time(reply), self._clock.now())
        except ProtocolError as error:
            log.warning("%s: the account's clock can't be read: %s", self._address, error)

    async def diagnose(self) -> list[Finding]:
        """The advisor's answer, its build, whether ``time_zone`` fits, how late quotes come."""
        line = self._working_or_none()
        if line is None:
            return []  # why is told by connect()
        try:
            took = await line.heartbeat()
            await self._check_clock(line)
        except LiveTraderError as error:
            return [Finding("expert advisor", Verdict.FAILED, str(error), "see its Experts tab")]
        build = "tells" if self._tells_time else "a build that does not tell"
        told = f"answers in {1000 * took:.0f} ms; {build} the account's clock"
        found = [Finding("expert advisor", Verdict.OK, told), self._check.finding()]
        if self._lag is not None and self._lag.ms:
            found.append(clock_finding(self._lag.ms, "the terminal's newest quote"))
        return found

    # ---- requests

    async def get_contract(self, symbol: str) -> Contract:
        """The usual contract of ``symbol``, which the advisor does not tell; a lot is 100,000.

        The terminal is asked whether it has the symbol, once. Raises UnknownSymbol, Unavailable.
        """
        contract = default_contract(self._checked(symbol))
        if symbol not in self._confirmed:
            await self._confirm(symbol)
        return contract

    async def list_symbols(self) -> list[str]:
        """The ``symbols`` of the settings, and others that were used; the advisor has no list."""
        return sorted({*self._listed, *self._confirmed})

    async def _confirm(self, symbol: str) -> None:
        """Have the terminal select ``symbol``, which it must before it loads its history."""
        await self._tracking.look_up(symbol, self._working())
        self._wake.set()  # the next round puts the list right
        self._confirmed.add(symbol)

    # ---- streams

    def _add(self, kind: Kind, symbol: str) -> None:
        self._tracking.add(kind, symbol, self._working_or_none())

    def _remove(self, kind: Kind, symbol: str) -> None:
        self._tracking.remove(kind, symbol, self._working_or_none())

    def _on_publication(self, frame: bytes) -> None:
        try:
            sign = read_publication(frame)
        except ProtocolError as error:
            log.debug("%s: %s", self._address, error)
            return
        now = self._clock.now()
        if isinstance(sign, Quote):
            for symbol in self._tracking.watched("prices"):
                if self._code(symbol) == sign.symbol:
                    self._streams.offer_tick(Tick(symbol, now, bid=sign.bid, ask=sign.ask))
            return
        for symbol in self._tracking.watched("rates"):
            if self._code(symbol) == sign.symbol and self._updater.sign(
                symbol, self._zone.moment(sign.server), heard=now
            ):
                self._check.sign(sign.server, now)
                self._wake.set()

    # ---- symbols

    def _checked_list(self, symbols: Sequence[str]) -> list[str]:
        try:
            return sorted({self._checked(symbol) for symbol in settings.names("symbols", symbols)})
        except UnknownSymbol as error:
            raise ConfigError(f"symbols: {error}") from None
