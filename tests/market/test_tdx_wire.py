"""Frames of TDX's extended market, written by hand from the protocol's description."""

from __future__ import annotations

import subprocess
import sys
import zlib

import numpy as np
import pytest

from livetrader_core.errors import ProtocolError, UnknownSymbol
from livetrader_core.market.specs import US_SESSIONS
from livetrader_core.market.tdx import wire
from livetrader_core.market.tdx.calendar import TradingDays, exchange_days
from livetrader_core.market.tdx.codes import Code, symbol_of, usual_contract, venue_code
from livetrader_core.market.tdx.labels import Labels, LabelSettings
from tests.market.samples import at

BABA = "4a 424142410000000000"
BARS_HEAD = BABA + "0800 0100 00000000"
#: 300, 302, 299.5, 301; turnover 301,000; 1,000 shares.
VALUES = "00009643 00009743 00c09543 00809643 00f99248 e8030000 00000000"


def body(text: str) -> bytes:
    return bytes.fromhex(text)


# --------------------------------------------------------------------------- frames


def test_requests_are_the_known_frames_with_a_tag_of_their_own() -> None:
    request = wire.bars(8, 74, "BABA", 700, 240)
    assert request.tagged(0x04030201) == body(
        "01 01020304 01 1600 1600 ff23" + BABA + "0800 0100 bc020000 f000"
    )
    assert request.command == 0x23FF
    assert wire.count().tagged(1) == body("01 01000000 01 0200 0200 f023")
    assert wire.instruments(500).tagged(1) == body("01 01000000 01 0800 0800 f523 f4010000 f401")
    assert wire.quote(74, "BABA").tagged(1) == body("01 01000000 01 0c00 0c00 fa23" + BABA)
    assert wire.setup().tagged(1)[:12] == body("01 01000000 01 5200 5200 5424")


def test_a_header_is_checked() -> None:
    header = wire.read_header(body("b1cb7400 11 07000000 00 ff23 3400 b403"))
    assert header == wire.Header(tag=7, command=0x23FF, zipped=0x34, unzipped=0x3B4)
    with pytest.raises(ProtocolError, match="begins with b2cb7400"):
        wire.read_header(body("b2cb7400 11 07000000 00 ff23 3400 b403"))
    with pytest.raises(ProtocolError, match="no body"):
        wire.read_header(body("b1cb7400 01 07000000 00 ff23 0000 0000"))


def test_a_body_is_inflated_to_the_size_it_says() -> None:
    text = bytes(500)
    packed = zlib.compress(text)
    assert wire.read_body(wire.Header(1, 1, len(packed), 500), packed) == text
    for wrong in (499, 501):
        with pytest.raises(ProtocolError, match="header says"):
            wire.read_body(wire.Header(1, 1, len(packed), wrong), packed)
    with pytest.raises(ProtocolError, match="inflated"):
        wire.read_body(wire.Header(1, 1, 4, 500), b"abcd")


def test_a_page_of_bars() -> None:
    page = wire.bars(8, 74, "BABA", 0, 2).parse(
        body(BARS_HEAD + "0200" + "4e84 a005" + VALUES + "4e84 0100" + VALUES)
    )
    assert page.day.tolist() == [20201102, 20201102]
    assert page.minute.tolist() == [1440, 1]
    assert [column[0] for column in page.prices] == [300.0, 302.0, 299.5, 301.0]
    assert page.volume.tolist() == [1000.0, 1000.0]


def test_open_interest_is_the_whole_number_there() -> None:
    head = "1e 435532303032000000 0800 0100 00000000 0100"
    page = wire.bars(8, 30, "CU2002", 0, 1).parse(body(head + "4e84 0100" + VALUES))
    assert page.open_interest.tolist() == [0x4892F900]


def test_an_empty_page_has_no_bars() -> None:
    request = wire.bars(8, 74, "BABA", 0, 700)
    assert len(request.parse(body(BARS_HEAD + "0000" + "00" * 32))) == 0
    assert len(request.parse(body(BARS_HEAD + "0000"))) == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("4a 4141504c0000000000 0800 0100 00000000 0100 4e84 0100" + VALUES, "asked for BABA"),
        ("1f 424142410000000000 0800 0100 00000000 0100 4e84 0100" + VALUES, "asked for BABA"),
        (BARS_HEAD + "0300" + "4e84 0100" + VALUES * 3, "3 bars of BABA"),
        (BARS_HEAD + "0100" + "4e84 0100" + VALUES + "00", "1 bars of BABA"),
        (BARS_HEAD + "0200" + "4e84 0100" + VALUES, "2 bars of BABA"),
        ("4a 4241", "asked for BABA"),
    ],
)
def test_bars_of_anything_else_are_refused(answer: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        wire.bars(8, 74, "BABA", 0, 2).parse(body(answer))


def test_a_list_of_instruments() -> None:
    row = "0d 4a 000000 424142410000000000" + "b0a2c0efb0cdb0cd".ljust(34, "0") + "00" * 33
    rows = wire.instruments(0).parse(body("00000000 0100" + row))
    assert rows == [wire.Instrument(74, "BABA", "阿里巴巴")]
    with pytest.raises(ProtocolError, match="not 500"):
        wire.instruments(500).parse(body("00000000 0100" + row))


def test_a_quote() -> None:
    prices = "00009643 00009643 00009743 00c09543 00809643"
    counts = "00000000 00000000 e8030000 05000000 00000000 01000000 02000000 00000000 07000000"
    bids = "00809643" + "00" * 16 + "03000000" + "00" * 16
    asks = "00809643" + "00" * 16 + "04000000" + "00" * 16
    request = wire.quote(74, "BABA")
    quote = request.parse(body(BABA + "00000000" + prices + counts + bids + asks))
    assert quote == wire.Quote(301.0, 300.0, 301.0, 301.0, 3.0, 4.0, 1000.0, 7.0)
    assert request.parse(body(BABA)) is None


def test_the_hosts_clock_is_beijings() -> None:
    told = bytes(53) + body("e407 0b 03 02 0f 00 03")
    assert wire.setup().parse(told) == at("2020-11-03 15:02:03", "Asia/Shanghai")
    assert wire.setup().parse(bytes(299)) == wire.setup().parse(b"") == 0


def test_prices_are_as_they_were_written() -> None:
    written = np.array([0.0001, 305.1234, 1023.9999, 1024.125, 9876.54, 48990.0, 131071.25])
    received = written.astype(np.float32).astype(np.float64)
    expected = [*written[:-1].tolist(), 131071.25]
    assert wire.as_written(received)[:-1].tolist() == expected[:-1]


# --------------------------------------------------------------------------- codes


@pytest.mark.parametrize(
    ("symbol", "code"),
    [
        ("US.BABA", Code(74, "BABA")),
        ("US.BRK.B", Code(74, "BRK.B")),
        ("HK.00700", Code(31, "00700")),
        ("HK.08001", Code(48, "08001")),
        ("SHFE.rb2605", Code(30, "RB2605")),
        ("INE.sc2605", Code(30, "SC2605")),
        ("DCE.m2005", Code(29, "M2005")),
        ("CZCE.SR605", Code(28, "SR2605")),
        ("CFFEX.IF2605", Code(47, "IF2605")),
        ("GFEX.si2605", Code(66, "SI2605")),
        ("SHFE.rbL8", Code(30, "RBL8")),
    ],
)
def test_symbols_and_codes(symbol: str, code: Code) -> None:
    assert venue_code(symbol, 2026) == code
    assert symbol_of(code.market, code.code) == symbol
    assert usual_contract(symbol).symbol == symbol


def test_zhengzhous_decade_is_the_nearest() -> None:
    assert venue_code("CZCE.RM705", 2017).code == "RM1705"
    assert venue_code("CZCE.SR001", 2029).code == "SR3001"


@pytest.mark.parametrize(
    "symbol", ["US.TENLETTERS", "US.ÄPFEL", "HK.700", "SHFE.copper", "LSE.VOD", "US"]
)
def test_what_tdx_cannot_have(symbol: str) -> None:
    with pytest.raises(UnknownSymbol, match=symbol.partition(".")[0]):
        venue_code(symbol, 2026)


def test_other_instruments_have_no_symbol() -> None:
    assert symbol_of(1, "000001") is None
    assert symbol_of(30, "SOMETHING") is None


# --------------------------------------------------------------------------- labels


def opens(market: str, day: int, *clocks: str, **settings: str) -> list[int]:
    trading_days = TradingDays()
    trading_days.learn(exchange_days())
    labels = Labels(market, LabelSettings(**settings), trading_days)  # type: ignore[arg-type]
    minutes = [int(clock[:2]) * 60 + int(clock[3:]) for clock in clocks]
    days = np.full(len(minutes), day, np.int64)
    return labels.opens(days, np.array(minutes, np.int64)).tolist()


def new_york(*moments: str) -> list[int]:
    return [at(moment, "America/New_York") for moment in moments]


def shanghai(*moments: str) -> list[int]:
    return [at(moment, "Asia/Shanghai") for moment in moments]


def test_us_labels_before_and_after_daylight_saving_ends() -> None:
    # Friday in summer time, then Monday in winter time: the same label means another hour.
    assert opens("US", 20201030, "21:31", "23:59", "00:00", "04:00") == new_york(
        "2020-10-30 09:30", "2020-10-30 11:58", "2020-10-30 11:59", "2020-10-30 15:59"
    )
    assert opens("US", 20201102, "22:31", "00:00", "05:00") == new_york(
        "2020-11-02 09:30", "2020-11-02 10:59", "2020-11-02 15:59"
    )


def test_other_us_conventions() -> None:
    assert opens("US", 20201103, "00:01", us_labels="beijing") == new_york("2020-11-02 11:00")
    assert opens("US", 20201102, "09:31", us_labels="new-york") == new_york("2020-11-02 09:30")
    assert opens("US", 20201102, "22:30", stamp="start") == new_york("2020-11-02 09:30")


def test_fridays_night_belongs_to_monday() -> None:
    assert opens("SHFE", 20191216, "21:01", "00:00", "00:01", "02:30", "09:01", "15:00") == (
        shanghai(
            "2019-12-13 21:00",
            "2019-12-13 23:59",
            "2019-12-14 00:00",
            "2019-12-14 02:29",
            "2019-12-16 09:00",
            "2019-12-16 14:59",
        )
    )


def test_a_night_is_reckoned_from_the_trading_day_before() -> None:
    # 2019-12-31 had no night session: 2020-01-02 is the first day after a holiday, and the
    # night of 2020-01-03 began on the evening of the second.
    assert opens("SHFE", 20200103, "21:01", "01:00") == shanghai(
        "2020-01-02 21:00", "2020-01-03 00:59"
    )
    # Whatever is labelled as the night of a day after a holiday can only be that before it.
    assert opens("SHFE", 20191008, "21:01") == shanghai("2019-09-30 21:00")


def test_labels_read_the_calendar_that_is_learnt_later() -> None:
    trading_days = TradingDays()
    labels = Labels("SHFE", LabelSettings(), trading_days)
    evening = np.array([20191008], np.int64), np.array([21 * 60 + 1], np.int64)
    assert labels.opens(*evening).tolist() == shanghai("2019-10-07 21:00")
    trading_days.learn(exchange_days())
    assert labels.opens(*evening).tolist() == shanghai("2019-09-30 21:00")


def test_a_day_beyond_the_calendar_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert opens("SHFE", 20400103, "21:01") == shanghai("2040-01-02 21:00")
    assert "exchange_calendars" in caplog.text


def test_a_label_that_is_no_date() -> None:
    with pytest.raises(ProtocolError, match="does not exist"):
        opens("US", 20201350, "09:31")


def doubt(day: int, *clocks: str, now: str = "2020-11-04 12:00") -> str:
    labels = Labels("US", LabelSettings(), TradingDays())
    minutes = np.array([int(clock[:2]) * 60 + int(clock[3:]) for clock in clocks], np.int64)
    days = np.full(len(minutes), day, np.int64)
    read = labels.opens(days, minutes)
    return labels.doubt(read, days, minutes, US_SESSIONS, at(now, "America/New_York"))


def test_the_setting_is_doubted_where_bars_cannot_be() -> None:
    assert doubt(20201103, "22:31", "00:00", "05:00") == ""
    # New York's own clock: 09:31 … read as Beijing's is the night.
    told = doubt(20201103, "09:31", "09:32", "10:00")
    assert "when it does not trade" in told
    assert "us_labels = 'trading-date'" in told
    assert "us_labels = 'new-york' would" in told
    # Beijing's own date: after midnight it is already the next day's.
    assert "not come yet" in doubt(20201104, "00:01", now="2020-11-03 11:01")
    assert "follow one another" in doubt(20201104, "00:01", "22:31")


# --------------------------------------------------------------------------- imports


def test_the_module_loads_without_pytdx_and_its_calendar() -> None:
    code = (
        "import sys, livetrader_core.market.tdx\n"
        "print([m for m in ('pytdx', 'pandas', 'exchange_calendars') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
