"""The DWX adapter's pure parts: frames, times, and golden frames written by hand."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livetrader_core.errors import ConfigError, ProtocolError, Unavailable
from livetrader_core.market.dwx import messages
from livetrader_core.market.dwx.replies import parse_reply
from livetrader_core.market.metatrader.bars import base_of
from livetrader_core.market.metatrader.lag import FeedLag
from livetrader_core.market.metatrader.servertime import EET_EU, EET_US, server_time
from livetrader_core.sim.mt4_model import server_offset
from tests.market.samples import at
from tests.support import dwx_frames as frames

HOUR = 3_600_000


def parse(text: str) -> dict[Any, Any]:
    return parse_reply(text.encode())


# --------------------------------------------------------------------------- replies


def test_golden_replies() -> None:
    assert parse(frames.HEARTBEAT) == {"_action": "heartbeat", "_response": "loud and clear!"}
    bars = messages.read_bars(parse(frames.HISTORY))
    assert bars is not None
    opens = server_time(EET_US).to_utc(bars.server).tolist()
    assert opens == [at("2020-11-02 14:30"), at("2020-11-02 14:31")]
    assert [column.tolist() for column in bars.columns] == [
        [1.1633, 1.16341],
        [1.16352, 1.16341],
        [1.16325, 1.163],
        [1.16341, 1.1631],
        [57.0, 0.0],
    ]
    assert messages.read_bars(parse(frames.NO_HISTORY)) is None
    assert messages.error_symbols(parse(frames.TRACK_PRICES)) == ["NOPE"]
    assert messages.error_symbols(parse(frames.TRACK_RATES)) == []
    shown = messages.account_time(parse(frames.ACCOUNT))
    assert server_time(EET_US).moment(shown) == at("2020-11-02 14:31")


def test_golden_commands() -> None:
    zone = server_time(EET_US)
    start = zone.to_server(at("2020-11-02 14:30"))
    command = messages.history("EURUSD", 1, start, start + 60_000)
    assert command == frames.HISTORY_COMMAND
    assert messages.track_prices(["EURUSD", "USDJPY"]) == "TRACK_PRICES;EURUSD;USDJPY"
    assert messages.track_prices([]) == "TRACK_PRICES"
    assert messages.track_rates(["EURUSD", "USDJPY"]) == "TRACK_RATES;EURUSD;1;USDJPY;1"
    assert messages.ACCOUNT_INFO.count(";") == 10


@pytest.mark.parametrize("mark", [":|:", " "])
def test_golden_publications(mark: str) -> None:
    tick = messages.read_publication(frames.TICK.replace(":|:", mark).encode())
    assert tick == messages.Quote("EURUSD", 1.16341, 1.16342)
    bar = messages.read_publication(frames.BAR.replace(":|:", mark).encode())
    assert isinstance(bar, messages.BarSign)
    assert (bar.symbol, bar.period) == ("EURUSD", 1)
    assert server_time(EET_US).moment(bar.server) == at("2020-11-02 14:31")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"EURUSD",
        b"EURUSD:|:",
        b"EURUSD:|:1.1",
        b"EURUSD:|:nan;1.2",
        b"EURUSD:|:-1;1.2",
        b"EURUSD_X9:|:1;1;1;1;1;1;1;1",
        b"EURUSD_M1:|:x;1;1;1;1;1;1;1",
        b"\xff\xfe",
    ],
)
def test_bad_publications_are_told_apart(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="publication"):
        messages.read_publication(frame)


def test_a_comment_is_never_run() -> None:
    bomb = "__import__('os').system('touch /tmp/bad')"
    text = (
        f"{{'_action': 'OPEN_TRADES', '_trades': {{42: {{'_comment': '{bomb}', '_lots': 0.1}}}}}}"
    )
    assert parse(text)["_trades"][42]["_comment"] == bomb
    with pytest.raises(ProtocolError):
        parse(f"{{'_action': {bomb}}}")


def test_odd_replies_that_the_advisor_sends() -> None:
    assert parse("{}") == {}
    assert parse("{'_action': 'EXECUTION', '_magic': 9}}") == {"_action": "EXECUTION", "_magic": 9}
    doubled = "{'_response': '130', '_response': 'ERROR_SETTING_SL_TP'}"
    assert parse(doubled) == {"_response": "ERROR_SETTING_SL_TP"}
    assert parse("{'_comment': 'it's mine', 'x': -1.5e3}") == {
        "_comment": "it's mine",
        "x": -1500.0,
    }
    assert parse("{'_responses': {7: {'_response': 'CLOSE_MARKET'}}, 'e': [], 'n': [1, 'a']}") == {
        "_responses": {7: {"_response": "CLOSE_MARKET"}},
        "e": [],
        "n": [1, "a"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "nonsense",
        "{'a'}",
        "{'a': }",
        "{'a': 1,}",
        "{'a': 1} {'b': 2}",
        "{'a': 1.#INF}",
        "{'a': nan}",
        "{'a': 123456789012345678901234567890}",
        "{'a': [1, 2}",
        "{'a': 'b}",
        "{'a': " * 100 + "1" + "}" * 100,
        "{'a': " + "[" * 100_000,
    ],
)
def test_bad_replies_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse(text)


@given(st.text(alphabet="{}[]':,;.-+0123456789eE_ \nax", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ProtocolError:
        return
    assert isinstance(found, dict)


@given(st.binary(max_size=80))
def test_any_frame_is_read_or_refused(frame: bytes) -> None:
    for read in (parse_reply, messages.read_publication):
        try:
            read(frame)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "{'time':'2020.11.02 16:30'}",
        "{'time':'2020.13.02 16:30', 'open':1, 'high':1, 'low':1, 'close':1, 'tick_volume':1}",
        "{'time':'16:30', 'open':1, 'high':1, 'low':1, 'close':1, 'tick_volume':1}",
        "{'time':'2020.11.02 16:30', 'open':0, 'high':1, 'low':1, 'close':1, 'tick_volume':1}",
        "{'time':'2020.11.02 16:30', 'open':1, 'high':1, 'low':1, 'close':1, 'tick_volume':-1}",
        "5",
    ],
)
def test_bad_bars_are_refused(rows: str) -> None:
    with pytest.raises(ProtocolError):
        messages.read_bars(parse(f"{{'_action': 'HIST', '_data': [{rows}]}}"))


def test_bars_out_of_order_are_refused() -> None:
    row = frames.HISTORY[frames.HISTORY.index("[") + 1 : frames.HISTORY.index("}") + 1]
    with pytest.raises(ProtocolError, match="order"):
        messages.read_bars(parse(f"{{'_action': 'HIST', '_data': [{row}, {row}]}}"))


def test_an_answer_is_told_from_those_to_other_requests() -> None:
    reply = parse(frames.HISTORY)
    start = messages.read_time("2020.11.02 16:30")
    end = start + 60_000

    def fits(symbol: str, period: int, first: int, last: int) -> bool:
        return messages.is_history(reply, symbol, period, first, last)

    assert fits("EURUSD", 1, start, end)
    assert not fits("USDJPY", 1, start, end)
    assert not fits("EURUSD", 5, start, end)
    assert not fits("EURUSD", 1, start + 60_000, end)
    assert not fits("EURUSD", 1, start, end - 60_000)
    assert not messages.is_history(parse(frames.HEARTBEAT), "EURUSD", 1, start, end)


def test_a_blocked_terminal_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"NO_BROKER_CONNECTION: .*login"):
        messages.check_blocked(parse(frames.BLOCKED))
    with pytest.raises(Unavailable, match="SOMETHING_NEW: look into its journal"):
        messages.check_blocked(parse("{'_response': 'SOMETHING_NEW__ABORTED_COMMAND'}"))
    messages.check_blocked(parse(frames.HEARTBEAT))
    messages.check_blocked(parse("{}"))


# --------------------------------------------------------------------------- server time


@pytest.mark.parametrize("name", [EET_US, EET_EU, "Europe/London", "UTC"])
def test_server_time_is_that_of_the_simulated_server(name: str) -> None:
    """Two implementations that share nothing, each half hour of three years."""
    zone, offset = server_time(name), server_offset(name)
    for moment in range(at("2019-01-01"), at("2022-01-01"), HOUR // 2):
        assert zone.to_server(moment) == moment + offset(moment)


def test_the_new_york_close_is_midnight_all_year() -> None:
    zone = server_time(EET_US)
    for month in range(1, 13):
        for day in (1, 10, 20, 28):
            close = at(f"2020-{month:02d}-{day:02d} 17:00", "America/New_York")
            assert zone.to_server(close) % (24 * HOUR) == 0


@pytest.mark.parametrize(
    "name", [EET_US, EET_EU, "Europe/London", "UTC+2", "GMT-3:30", "Asia/Tokyo"]
)
def test_there_and_back(name: str) -> None:
    zone = server_time(name)
    moments = np.arange(at("2020-01-01"), at("2021-01-01"), HOUR // 2, dtype=np.int64)
    server = np.array([zone.to_server(int(moment)) for moment in moments])
    back = zone.to_utc(server)
    assert zone.exists(server).all()
    # Of an hour that is passed twice, the second pass is read as the first.
    wrong = moments[back != moments]
    assert len(wrong) == (2 if name in (EET_US, EET_EU, "Europe/London") else 0)
    assert (moments[back != moments] - back[back != moments] == HOUR).all()


def test_an_hour_that_is_left_out_does_not_exist() -> None:
    zone = server_time(EET_EU)  # 2020-03-29, 03:00 becomes 04:00
    times = [at(f"2020-03-29 {hour}") for hour in ("02:59", "03:00", "03:59", "04:00")]
    assert zone.exists(np.array(times)).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "minutes"),
    [(EET_US, 60), ("UTC", 60), ("Asia/Kolkata", 30), ("Asia/Kathmandu", 15), ("UTC+5:45", 15)],
)
def test_klines_are_made_from_bars_that_begin_with_them(name: str, minutes: int) -> None:
    grain = server_time(name).grain
    assert grain % (minutes * 60_000) == 0 or grain == minutes * 60_000
    bases = {60: "1h", 30: "30m", 15: "15m"}
    assert base_of("4h", grain) == bases[minutes]
    assert base_of("3m", grain) == "1m"


@pytest.mark.parametrize("name", ["", "EET-JP", "UTC+15", "../etc/passwd", "UTC+"])
def test_zones_that_do_not_exist(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^time_zone: .*EET-US"):
        server_time(name)


# --------------------------------------------------------------------------- lag


def test_the_least_delay_of_recent_ticks_is_the_lag(caplog: pytest.LogCaptureFixture) -> None:
    lag = FeedLag("there")
    with caplog.at_level(logging.WARNING):
        for number, delay in enumerate((900, 400, 30_000)):
            lag.saw(number * 60_000, number * 60_000 + delay)
            assert lag.ms == (0 if number < 2 else 400)
        assert not caplog.records
        for number in range(10):
            lag.saw(number * 60_000, number * 60_000 + 25_000 + number)
        assert lag.ms == 25_000
        for number in range(10):
            lag.saw(number * 60_000, number * 60_000 - 3_000)
        assert lag.ms == 0
    assert [record.getMessage() for record in caplog.records] == [
        "there: quotes come 25 s late by this computer's clock: set it by NTP, or look at the "
        "terminal's connection"
    ]
