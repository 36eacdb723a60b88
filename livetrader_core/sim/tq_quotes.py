"""The quotes side of a DIFF server: what one connection asked for, and what it has not been told.

The protocol: the client sends ``peek_message`` and gets one ``rtn_data`` as soon as there is
something new; what is new is a list of diffs that it merges into its picture of the world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from livetrader_core.sim.tq_contracts import ContractService
from livetrader_core.sim.tq_instrument import TIMEFRAMES, Instrument

Diff = dict[str, Any]

#: Most bars or ticks that a chart holds.
MAX_WIDTH = 10_000


@dataclass
class Chart:
    """A ``set_chart`` request, and whether it was answered."""

    request: Diff
    instrument: Instrument | None
    seconds: int
    width: int
    answered: bool = False
    #: Whether the answer had no bars, which then come next.
    empty: bool = False
    right: int = -1


@dataclass
class _Sent:
    """What a connection has of one series: rows ``first`` … ``last``, and the newest of them."""

    first: int
    last: int
    newest: Any = None


@dataclass
class QuotesLine:
    """One connection to ``/md``. ``withhold`` says whether a chart's first answer has no bars."""

    instruments: Mapping[str, Instrument]
    service: ContractService
    withhold: Callable[[], bool] = lambda: False
    peeked: bool = False
    #: Whether the connection is to be dropped at once.
    doomed: bool = False
    _greeted: bool = False
    _subscribed: str | None = None
    _quotes: dict[str, Diff] = field(default_factory=dict)
    _charts: dict[str, Chart] = field(default_factory=dict)
    _sent: dict[tuple[str, int], _Sent] = field(default_factory=dict)
    _answers: list[Diff] = field(default_factory=list)
    _told_at: int = -1

    def receive(self, message: Diff, now: int) -> None:
        """Take a request at ``now`` (UTC ms). What is not known is ignored, as the venue does."""
        aid = message.get("aid")
        if aid == "peek_message":
            self.peeked = True
        elif aid == "subscribe_quote":
            self._subscribe(str(message.get("ins_list", "")))
        elif aid == "set_chart":
            self._set_chart(message)
        elif aid == "ins_query":
            self._query(message, now)

    def collect(self, now: int) -> list[Diff]:
        """What is new at ``now`` (UTC ms), and from now on counts as told."""
        diffs: list[Diff] = []
        if not self._greeted:
            self._greeted = True
            diffs.append({"mdhis_more_data": False, "ins_list": ""})
        diffs += self._answers
        self._answers = []
        stands = now == self._told_at
        self._told_at = now
        if quotes := self._new_quotes(now, stands):
            diffs.append({"quotes": quotes})
        diffs += self._new_rows(now, stands)
        return diffs

    # ---- requests

    def _subscribe(self, ins_list: str) -> None:
        self._subscribed = ins_list
        names = set(ins_list.split(","))
        self._quotes = {name: quote for name, quote in self._quotes.items() if name in names}
        for name in names & self.instruments.keys():
            self._quotes.setdefault(name, {})
        self._answers.append({"quotes": {}, "ins_list": ins_list})

    def _set_chart(self, message: Diff) -> None:
        chart_id, name = str(message.get("chart_id", "")), str(message.get("ins_list", ""))
        if not name:
            self._charts.pop(chart_id, None)
            self._answers.append({"charts": {chart_id: None}})
            return
        seconds = int(message.get("duration", 0)) // 10**9
        known = seconds in TIMEFRAMES or not seconds
        self._charts[chart_id] = Chart(
            request={key: value for key, value in message.items() if key != "aid"}
            | {"aid": "set_chart"},
            instrument=self.instruments.get(name) if known else None,
            seconds=seconds,
            width=min(int(message.get("view_width", 1)), MAX_WIDTH),
        )

    def _query(self, message: Diff, now: int) -> None:
        query_id, query = str(message.get("query_id", "")), str(message.get("query", ""))
        if not query:
            self._answers.append({"symbols": {query_id: None}})
            return
        variables = message.get("variables") or {}
        told = {"query": query, "variables": variables}
        answer = told | self.service.answer(query, variables, now)
        self._answers.append({"symbols": {query_id: answer}})

    # ---- news

    def _new_quotes(self, now: int, stands: bool) -> Diff:
        """What has changed; while the time ``stands`` only what was never told."""
        changed = {}
        for name, known in self._quotes.items():
            if stands and known:
                continue
            quote = self.instruments[name].quote(now)
            news = {key: value for key, value in quote.items() if known.get(key) != value}
            if news:
                known.update(news)
                changed[name] = news
        return changed

    def _new_rows(self, now: int, stands: bool) -> list[Diff]:
        """As :meth:`_new_quotes`, of charts and their rows."""
        charts: Diff = {}
        series: dict[tuple[str, int], int] = {}
        for chart_id, chart in self._charts.items():
            if stands and chart.answered and not chart.empty:
                continue
            if chart.instrument is None:
                if not chart.answered:
                    chart.answered = True
                    charts[chart_id] = _state(chart, -1, ready=True)
                continue
            key = (chart.instrument.name, chart.seconds)
            last = self._last(chart.instrument, chart.seconds, now)
            if not chart.answered:
                chart.answered = True
                chart.empty = self.withhold()
                if chart.empty:
                    charts[chart_id] = _state(chart, -1, ready=True)
                    continue
            chart.empty = False
            if chart.right != last:
                whole = chart.right < 0
                chart.right = last
                charts[chart_id] = _state(chart, last, ready=True) if whole else _ends(chart)
            series[key] = max(series.get(key, 0), chart.width)
        rows = self._rows(series, now)
        return ([{"charts": charts}] if charts else []) + rows

    def _rows(self, series: Mapping[tuple[str, int], int], now: int) -> list[Diff]:
        klines: Diff = {}
        ticks: Diff = {}
        for (name, seconds), width in series.items():
            rows = self._unsent(self.instruments[name], seconds, width, now)
            if rows is None:
                continue
            if seconds:
                klines.setdefault(name, {})[str(seconds * 10**9)] = rows
            else:
                ticks[name] = rows
        found = []
        if klines:
            found.append({"klines": klines})
        if ticks:
            found.append({"ticks": ticks})
        return found

    def _unsent(self, instrument: Instrument, seconds: int, width: int, now: int) -> Diff | None:
        """Rows that the connection lacks; the newest again if it changed; None if nothing did."""
        last = self._last(instrument, seconds, now)
        first = max(0, last - width + 1)
        if last < 0:
            return None
        sent = self._sent.get((instrument.name, seconds))
        if sent is None or sent.last > last:  # a clock that was set back: all of it again
            rows = self._read(instrument, seconds, first, last, now)
            self._sent[instrument.name, seconds] = _Sent(first, last, rows[str(last)])
            return {"last_id": last, "data": rows}
        rows = self._read(instrument, seconds, sent.last, last, now)
        if rows[str(sent.last)] == sent.newest:
            del rows[str(sent.last)]
        if first < sent.first:
            rows |= self._read(instrument, seconds, first, sent.first - 1, now)
            sent.first = first
        if not rows:
            return None
        sent.newest = rows.get(str(last), sent.newest)
        sent.last = last
        return {"last_id": last, "data": rows}

    @staticmethod
    def _last(instrument: Instrument, seconds: int, now: int) -> int:
        if not seconds:
            return instrument.last_tick_id(now)
        return instrument.bars(seconds).last_id(now)

    @staticmethod
    def _read(instrument: Instrument, seconds: int, first: int, last: int, now: int) -> Diff:
        if not seconds:
            return dict(instrument.ticks(first, last))
        return dict(instrument.bars(seconds).rows(first, last, now))


def _ends(chart: Chart) -> Diff:
    return {"left_id": max(0, chart.right - chart.width + 1), "right_id": chart.right}


def _state(chart: Chart, last: int, ready: bool) -> Diff:
    left = -1 if last < 0 else max(0, last - chart.width + 1)
    return {
        "left_id": left,
        "right_id": last,
        "more_data": False,
        "ready": ready,
        "state": chart.request,
    }
