"""Whether the setting ``time_zone`` fits the terminal's clock."""

from __future__ import annotations

import logging

from livetrader_core.market.finding import Finding, Verdict
from livetrader_core.market.metatrader.servertime import ServerTime
from livetrader_core.market.specs import FOREX_SESSIONS
from livetrader_core.timeframe import DAY_MS, MINUTE_MS

log = logging.getLogger(__name__)

#: Offsets are whole quarters of an hour.
_QUARTER_MS = 15 * MINUTE_MS
_ADVICE = "set time_zone to the zone of the broker's server, or set the clock"
#: Bars in a row that must agree before they are believed.
_AGREEING = 3


class ZoneCheck:
    """Compares times that the terminal gives with ours, and warns once of each difference."""

    def __init__(self, zone: ServerTime, where: str) -> None:
        self._zone = zone
        self._where = where
        self._doubts: dict[int, str] = {}
        self._agreed = ""
        self._next = 0
        self._signs: list[int] = []

    def due(self, now: int) -> bool:
        """Whether the account's clock should be looked at again: once in each day."""
        return now >= self._next

    def asked(self, now: int) -> None:
        """The account's clock is being looked at."""
        self._next = now + DAY_MS

    def account(self, server: int, now: int) -> None:
        """``server`` is the server time (ms) of the last quote of any symbol."""
        off = self._quarters(server, now)
        # Without quotes that clock stands: only a time that has not come yet proves anything.
        if off > 0 or self._quotes_flow(now):
            self._judge(off, server)

    def offset(self, ahead: int, now: int) -> None:
        """The server's clock was seen to be ``ahead`` of UTC (ms) just now."""
        supposed = self._zone.to_server(now) - now
        self._judge(round((ahead - supposed) / _QUARTER_MS), now + ahead)

    def sign(self, server: int, now: int) -> None:
        """A bar that opened at ``server`` was published just now."""
        self._signs = [*self._signs[1 - _AGREEING :], self._quarters(server, now)]
        if len(self._signs) == _AGREEING and len(set(self._signs)) == 1:
            self._judge(self._signs[0], server)

    def newest(self, opened: int, now: int) -> None:
        """A bar of the history opened at ``opened`` (UTC ms)."""
        if opened > now + 2 * MINUTE_MS:
            server = self._zone.to_server(opened)
            self._judge(max(1, self._quarters(server, now)), server)

    def finding(self) -> Finding:
        """What `livetrader doctor` says of the zone."""
        if self._doubts:
            return Finding("time zone", Verdict.DOUBT, "; ".join(self._doubts.values()), _ADVICE)
        if self._agreed:
            return Finding("time zone", Verdict.OK, self._agreed)
        return Finding(
            "time zone",
            Verdict.SKIPPED,
            f"{self._zone.name}: no quote is fresh enough to check it against",
            "ask again while the market is open",
        )

    def _quarters(self, server: int, now: int) -> int:
        return round((self._zone.moment(server) - now) / _QUARTER_MS)

    def _quotes_flow(self, now: int) -> bool:
        return FOREX_SESSIONS.is_open(now) and FOREX_SESSIONS.is_open(now - _QUARTER_MS)

    def _judge(self, quarters: int, server: int) -> None:
        minutes = server % DAY_MS // MINUTE_MS
        shown = f"the terminal shows {minutes // 60:02d}:{minutes % 60:02d}"
        if not quarters:
            self._agreed = f"{shown}, as {self._zone.name} has it"
        elif quarters not in self._doubts:
            doubt = (
                f"{shown}, {quarters / 4:+g} h from what time_zone={self._zone.name!r} makes of "
                "this computer's clock"
            )
            self._doubts[quarters] = doubt
            log.warning("%s: %s: %s", self._where, doubt, _ADVICE)
