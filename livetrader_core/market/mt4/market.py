"""Mt4Market: quotes of a MetaTrader 4 terminal with livetrader's own expert advisor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from livetrader_core.clock import Clock
from livetrader_core.errors import (
    LiveTraderError,
    NotConnected,
    ProtocolError,
    UnknownSymbol,
)
from livetrader_core.market.finding import Finding, Verdict, clock_finding
from livetrader_core.market.metatrader import settings
from livetrader_core.market.metatrader.market import Kind, MetaTraderMarket
from livetrader_core.market.metatrader.servertime import EET_US
from livetrader_core.market.metatrader.updater import Source
from livetrader_core.market.mt4 import fields
from livetrader_core.market.mt4.address import ENDPOINT, Address
from livetrader_core.market.mt4.contracts import Terms
from livetrader_core.market.mt4.heard import HeardBars
from livetrader_core.market.mt4.history import History
from livetrader_core.market.mt4.hub import Hub, User, hub_of
from livetrader_core.market.mt4.line import Line
from livetrader_core.market.mt4.messages import Beat, Publication, Quote, read_bars
from livetrader_core.market.mt4.refusal import NOT_FOUND, RETRY, refusal_of
from livetrader_core.market.mt4.watches import Watches
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Contract, Tick
from livetrader_core.rpc.keys import KeyPair
from livetrader_core.timeframe import MINUTE_MS

log = logging.getLogger(__name__)

#: How long the terms of a contract are taken for true (computer's time, seconds).
_TERMS_HOLD = 600.0
_LONGEST_PAUSE = 0.5
#: How far this computer's clock may be behind the broker's (ms): a bar that is said to be over long
#: before its end shows that the broker's clock leapt, and may still change.
_EARLY_MS = 5000


class Mt4Market(MetaTraderMarket):
    """Klines, ticks and contracts of a MetaTrader 4 terminal, through LiveTrader.mq4.

    ``endpoint`` is where the advisor takes requests; its publications come from the port that it
    names, or from ``publications`` where a tunnel changes that. ``token`` is its input Token, and
    is taken from the environment. ``keys`` (our ``.key_secret`` file) and ``server_key`` (its
    public key, or a file with it) are needed if it has CURVE keys. Any number of clients may use
    one advisor; a trade adapter in the same event loop with the same settings uses the same
    connection.

    ``time_zone`` is that of the broker's server: ``EET-US`` (UTC+2, in summer +3, changing with
    New York, so that the New York close is midnight), ``EET-EU`` (changing with Europe), a fixed
    ``UTC+2``, or an IANA name. It is checked against each heartbeat; a doubt is a warning that
    names this setting. ``suffix`` is what the broker writes behind a code (``EURUSD.m``).
    ``markets`` are the MARKETs that this terminal serves.

    ``timeout``: seconds an answer may take; ``connect_timeout``: seconds connecting may;
    ``retry`` and ``longest_retry``: seconds between attempts to come back, doubling.
    ``late_ticks``: seconds after a bar's end in which the broker may still send ticks of it, if
    the advisor has not said that it is over (by default 2, and 0 with a ``clock`` of a simulated
    venue). Times are the computer's but for ``late_ticks``.

    Volumes are tick counts. Klines above ``1h`` are made from hours, so that they begin where
    those of other venues do and not at the server's midnight. MetaTrader has no bar for a minute
    without a tick. Raises ConfigError naming the setting at fault.
    """

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        publications: str | None = None,
        token: str = "",
        keys: str | Path | KeyPair | None = None,
        server_key: str | Path | None = None,
        time_zone: str = EET_US,
        suffix: str = "",
        markets: Sequence[str] = ("FOREX",),
        timeout: float = 5.0,
        connect_timeout: float = 5.0,
        retry: float = 1.0,
        longest_retry: float = 30.0,
        late_ticks: float | None = None,
        clock: Clock | str | None = None,
    ) -> None:
        self._address = Address.of(endpoint, publications, token, keys, server_key)
        self._timeout = settings.seconds("timeout", timeout)
        self._hello = settings.seconds("connect_timeout", connect_timeout)
        self._heard = HeardBars()
        super().__init__(
            str(self._address),
            time_zone,
            suffix,
            markets,
            retry,
            longest_retry,
            1.0,  # as often as a heartbeat comes
            late_ticks,
            clock,
        )
        self._hub: Hub | None = None
        self._user = User(self._on_publication, self._on_lost)
        self._line: Line | None = None
        self._watches = Watches()
        self._symbols: dict[str, str] = {}
        self._terms: dict[str, tuple[float, Contract]] = {}
        self._broker_away = False
        self._newest = 0
        self._heard_first: set[str] = set()
        self._topics: dict[str, Callable[[Publication], None]] = {
            "bar": self._on_bar,
            "tick": self._on_tick,
            "beat": self._on_beat,
        }

    def _make_source(self) -> Source:
        return History(
            self._working,
            self._zone,
            self._code,
            self._sessions,
            self._heard,
            min(self._retry, _LONGEST_PAUSE),
        )

    # ---- life

    async def _open(self) -> None:
        """A new line, with what is to be published on it."""
        if self._hub is None:
            self._hub = hub_of(self._address)
            self._hub.join(self._user)
        line = await self._hub.line(self._timeout, self._hello)
        if line is not self._line:
            self._heard.forget()
            self._terms.clear()
            self._heard_first.clear()
            self._line = line
            self._watches.begin(line)
        self._judge(line.beat)
        self._require_broker(line)
        await self._watches.update(line, asyncio.get_running_loop().time())

    async def _leave(self) -> None:
        if (line := self._working_or_none()) is not None:
            self._watches.end(line)
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
        await self._watches.update(line, asyncio.get_running_loop().time())
        self._require_broker(line)

    def _require_broker(self, line: Line) -> None:
        """Raise NotConnected while the terminal has no connection itself."""
        self._broker_away = not line.beat.connected
        if self._broker_away:
            raise NotConnected(
                f"{self._address}: the terminal has no connection to its broker: check its login"
            )

    async def _silent(self) -> None:
        """Whether the advisor lives is told by its heartbeat."""

    def _judge(self, beat: Beat) -> None:
        """Compare the server's clock with what ``time_zone`` makes of ours."""
        if beat.offset is not None:
            self._check.offset(beat.offset * 1000, self._clock.now())

    async def diagnose(self) -> list[Finding]:
        """The advisor and its account, whether ``time_zone`` fits, how late quotes come."""
        line = self._working_or_none()
        if line is None:
            return []  # why is told by connect()
        began = asyncio.get_running_loop().time()
        try:
            beat = Beat.read(await line.request("ping"))
        except LiveTraderError as error:
            return [Finding("expert advisor", Verdict.FAILED, str(error), "see its Experts tab")]
        took = asyncio.get_running_loop().time() - began
        self._judge(beat)
        greeting = line.greeting
        told = f"LiveTrader {greeting.version} answers in {1000 * took:.0f} ms"
        found = [
            Finding("expert advisor", Verdict.OK, told),
            _broker(greeting.server, greeting.demo, beat),
            self._check.finding(),
        ]
        if line.missed:
            lost = f"{line.missed} publications were lost; bars were read again, ticks were not"
            found.append(Finding("publications", Verdict.DOUBT, lost, "is the network too slow?"))
        if self._lag is not None and self._lag.ms:
            found.append(clock_finding(self._lag.ms, "the terminal's newest quote"))
        return found

    # ---- requests

    async def get_contract(self, symbol: str) -> Contract:
        """The broker's contract of ``symbol``: tick, lots, margin and swap from the terminal.

        Sessions and currency are the usual ones. The margin rate is what the terminal asks for a
        lot at the price there is. Raises UnknownSymbol, Unavailable.
        """
        self._checked(symbol)
        line, now = self._working(), asyncio.get_running_loop().time()
        known = self._terms.get(symbol)
        if known is not None and now < known[0] + _TERMS_HOLD:
            return known[1]
        contract = await self._read_contract(symbol, line)
        self._terms[symbol] = (now, contract)
        self._confirmed.add(symbol)
        return contract

    async def _read_contract(self, symbol: str, line: Line) -> Contract:
        code = self._code(symbol)
        try:
            terms = Terms.read(await line.request("contract", code))
        except LiveTraderError as error:
            refusal = refusal_of(error)
            if refusal is None or refusal.code != NOT_FOUND:
                raise
            raise UnknownSymbol(
                f"{symbol}: the terminal has no symbol {code}; brokers write some with a suffix "
                "(see Market Watch), which the setting 'suffix' adds"
            ) from refusal
        return terms.contract(symbol, line.greeting.leverage, await self._quote(code, line))

    async def _quote(self, code: str, line: Line) -> Quote | None:
        try:
            return Quote.read(await line.request("tick", code))
        except LiveTraderError as error:
            refusal = refusal_of(error)
            if refusal is None or refusal.code != RETRY:
                raise
            return None

    async def list_symbols(self) -> list[str]:
        """The broker's symbols of these markets, as far as sessions and currency are known.

        Raises Unavailable.
        """
        line = self._working()
        codes: list[str] = []
        place = 0
        while True:
            body = await line.request("symbols", place)
            codes += [name for name in fields.items(body, "symbols") if isinstance(name, str)]
            beyond = fields.integer(body, "next")
            if not beyond:
                break
            if beyond <= place:
                raise ProtocolError(f"next: goes back to {beyond} from {place}")
            place = beyond
        return sorted(symbol for code in codes if (symbol := self._symbol(code)) is not None)

    def _symbol(self, code: str) -> str | None:
        """The symbol that the broker calls ``code``; None if it is none of ours."""
        if not code.endswith(self._suffix):
            return None
        for market in self.markets:
            symbol = f"{market}.{code[: len(code) - len(self._suffix)]}"
            try:
                default_contract(symbol)
            except UnknownSymbol:
                continue
            return symbol
        return None

    async def _confirm(self, symbol: str) -> None:
        await self.get_contract(symbol)

    # ---- streams

    def _add(self, kind: Kind, symbol: str) -> None:
        self._symbols[self._code(symbol)] = symbol
        self._watches.add(kind, self._code(symbol), self._working_or_none())

    def _remove(self, kind: Kind, symbol: str) -> None:
        self._watches.remove(kind, self._code(symbol), self._working_or_none())

    def _on_publication(self, heard: Publication) -> None:
        handle = self._topics.get(heard.topic)
        if handle is None:
            return
        try:
            handle(heard)
        except ProtocolError as error:
            log.warning("%s: topic %s: %s", self._address, heard.topic, error)

    def _on_bar(self, heard: Publication) -> None:
        symbol = self._symbols.get(heard.symbol)
        if symbol is None:
            return
        bars = read_bars([heard.body.get("bar")])
        opened = self._zone.moment(int(bars.server[0]))
        if not bars.closed[0]:
            raise ProtocolError("bar: a bar was published that may still change")
        if (
            opened + MINUTE_MS > self._clock.now() + _EARLY_MS
            or not self._zone.exists(bars.server)[0]
        ):
            return  # the history tells when it is time, and warns
        self._heard.add(symbol, opened, tuple(float(column[0]) for column in bars.columns))
        if self._updater.sign(symbol, opened + MINUTE_MS):
            self._wake.set()

    def _on_tick(self, heard: Publication) -> None:
        symbol = self._symbols.get(heard.symbol)
        if symbol is None:
            return
        quote, now = Quote.read(heard.body), self._clock.now()
        self._saw(symbol, quote.time, now)
        self._streams.offer_tick(Tick(symbol, now, bid=quote.bid, ask=quote.ask))

    def _on_beat(self, heard: Publication) -> None:
        beat = Beat.read(heard.body)
        self._judge(beat)
        self._saw("", beat.time, self._clock.now())
        if not beat.connected:
            self._wake.set()
        elif self._broker_away:
            self._hurry.set()

    def _saw(self, of: str, server: int, now: int) -> None:
        """A quote of the server time ``server`` (seconds) is the newest ``of`` a symbol, or all."""
        first = of not in self._heard_first
        self._heard_first.add(of)
        if server <= self._newest:
            return
        self._newest = server
        # The first one that is told may be from before the weekend.
        if self._lag is not None and not first:
            self._lag.saw(self._zone.moment(server * 1000), now)


def _broker(server: str, demo: bool, beat: Beat) -> Finding:
    told = f"{server}, {'a demo' if demo else 'a REAL'} account"
    if not beat.connected:
        advice = "check the terminal's login"
        return Finding("broker", Verdict.FAILED, f"{told}: the terminal is not connected", advice)
    return Finding("broker", Verdict.OK, told)
