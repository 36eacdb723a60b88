"""Reading and writing CSV files, and what is said of bad ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from livetrader_core.errors import DataError
from livetrader_core.market.recorded import (
    read_klines,
    read_ticks,
    recorded_file,
    write_klines,
)
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from tests.market.samples import at, rising

US = default_contract("US.BABA").sessions
HEADER = "datetime_utc_ms,open,high,low,close,volume"
GOOD = "1600000000000,10,11,9,10.5,100"


def write(folder: Path, *lines: str, name: str = "US.BABA-1m.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path, timeframe: str = "1m") -> Klines:
    return read_klines(path, "US.BABA", timeframe, US)


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe"),
    [
        ("US.BABA-1m_2020-10_2021-01.csv.gz", "US.BABA", "1m"),
        ("SHFE.cu2002-1m.csv", "SHFE.cu2002", "1m"),
        ("US.BABA-1d.csv.gz", "US.BABA", "1d"),
        ("FOREX.EURUSD-tick_2014-05-05.csv.gz", "FOREX.EURUSD", "tick"),
        ("HK.00700-W-15m.csv", "HK.00700-W", "15m"),
    ],
)
def test_names(name: str, symbol: str, timeframe: str) -> None:
    file = recorded_file(Path(name))
    assert file is not None
    assert (file.symbol, file.timeframe) == (symbol, timeframe)


@pytest.mark.parametrize("name", ["BABA-1m.csv", "US.BABA-7m.csv", "US.BABA.csv", "US.BABA-1m.txt"])
def test_other_names_are_no_recordings(name: str) -> None:
    assert recorded_file(Path(name)) is None


def test_open_interest_is_optional_and_other_columns_are_ignored(tmp_path: Path) -> None:
    plain = read(write(tmp_path, HEADER, GOOD))
    assert plain[0].open_interest == 0.0
    rich = write(tmp_path, f"{HEADER},remark,open_interest", f"{GOOD},what,7", name="a.csv")
    assert read(rich)[0].open_interest == 7.0


def test_windows_line_ends_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "US.BABA-1m.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n\r\n{GOOD}\r\n\r\n".encode())
    assert read(path)[0].close == 10.5


def test_a_file_without_rows(tmp_path: Path) -> None:
    for lines in ([HEADER], [HEADER, "", ""]):
        assert len(read(write(tmp_path, *lines))) == 0


BAD_ROWS = {
    "open is 'x', not a number": "1600000060000,x,11,9,10,1",
    "open is '', not a number": "1600000060000,,11,9,10,1",
    "5 columns, but the header names 6": "1600000060000,10,11,9,10",
    "7 columns, but the header names 6": "1600000060000,10,11,9,10,1,1",
    "not a finite number": "1600000060000,10,nan,9,10,1",
    "is not a finite number": "1600000060000,10,inf,9,10,1",
    "not a whole number of milliseconds": "1600000060000.5,10,11,9,10,1",
    "is not a whole number of": "-1,10,11,9,10,1",
    "is that of the row above": GOOD,
    "lies before that of the row above": "1599999940000,10,11,9,10,1",
    "a price is not above 0": "1600000060000,10,11,0,10,1",
    "high lies below low": "1600000060000,10,8,9,10,1",
    "high lies below open or close": "1600000060000,12,11,9,10,1",
    "low lies above open or close": "1600000060000,10,11,9,8,1",
    "volume is negative": "1600000060000,10,11,9,10,-1",
}


@pytest.mark.parametrize("said", BAD_ROWS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, said: str, packed: bool) -> None:
    path = write(tmp_path, HEADER, "", GOOD, BAD_ROWS[said], "1600000120000,10,11,9,10,1")
    if packed:
        path = path.with_suffix(".csv.gz")
        path.write_bytes(gzip.compress((tmp_path / "US.BABA-1m.csv").read_bytes()))
    with pytest.raises(DataError, match=said) as caught:
        read(path)
    assert f"{path}, line 4" in str(caught.value)


def test_the_first_of_several_bad_rows_is_named(tmp_path: Path) -> None:
    rows = [BAD_ROWS["volume is negative"], "1600000030000,10,11,-9,10,1"]
    with pytest.raises(DataError, match="line 3: volume"):
        read(write(tmp_path, HEADER, GOOD, *rows))


def test_negative_open_interest(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},open_interest", f"{GOOD},-1")
    with pytest.raises(DataError, match="line 2: open_interest is negative"):
        read(path)


@pytest.mark.parametrize("header", ["", "time,open,high,low,close,volume", GOOD])
def test_a_wrong_header(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match="line 1: the columns must begin with datetime_utc_ms"):
        read(write(tmp_path, header, GOOD))


def test_a_file_that_is_cut_off_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "US.BABA-1m.csv.gz"
    packed = gzip.compress("\n".join([HEADER, GOOD] * 50).encode())
    for data in (packed[:-12], packed[:5] + b"\0" * 30, b"no gzip"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"US\.BABA-1m\.csv\.gz"):
            read(path)
    binary = tmp_path / "US.BABA-1m.csv"
    binary.write_bytes(b"\xff\xfe\0\0")
    with pytest.raises(DataError, match="is not text"):
        read(binary)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "absent.csv")


def test_daily_labels_become_the_open_of_their_session(tmp_path: Path) -> None:
    label = at("2020-11-02")
    klines = read(write(tmp_path, HEADER, f"{label},10,11,9,10,1"), "1d")
    assert klines.datetime.tolist() == [at("2020-11-02 04:00", "America/New_York")]
    assert klines[0].trading_day == 20201102


@pytest.mark.parametrize(
    ("label", "said"), [(at("2020-11-02 09:00"), "00:00 UTC"), (at("2020-11-01"), "no trading day")]
)
def test_bad_daily_labels(tmp_path: Path, label: int, said: str) -> None:
    with pytest.raises(DataError, match=f"line 3: .*{said}"):
        read(
            write(
                tmp_path,
                HEADER,
                GOOD.replace("1600000000000", str(at("2020-10-30"))),
                f"{label},10,11,9,10,1",
            ),
            "1d",
        )


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(1)
    klines = rising("US.BABA", at("2020-11-02 15:00"), 500)
    for column in (klines.open, klines.high, klines.low, klines.close):
        column *= 1 + random.random() / 7
    klines.high[:] = klines.high + random.random(500)
    klines.open_interest[:] = random.integers(0, 9, 500)
    path = tmp_path / f"US.BABA-1m{suffix}"
    write_klines(path, klines)
    first = path.read_bytes()
    again = read(path)
    assert again.datetime.tolist() == klines.datetime.tolist()
    for written, column in zip(klines.columns(), again.columns(), strict=True):
        assert written.tolist() == column.tolist()
    write_klines(path, again)
    assert path.read_bytes() == first


def test_daily_klines_are_written_as_labels(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, f"{at('2020-11-02')},10,11,9,10,1", name="US.BABA-1d.csv")
    klines = read(path, "1d")
    copy = tmp_path / "copy.csv"
    write_klines(copy, klines)
    assert read(copy, "1d").datetime.tolist() == klines.datetime.tolist()
    assert copy.read_text().splitlines()[1] == f"{at('2020-11-02')},10,11,9,10,1,0"


def test_ticks(tmp_path: Path) -> None:
    path = write(tmp_path, "datetime_utc_ms,bid,ask,ask_size", "5,1.5,1.6,3", "5,1.5,1.7,2")
    ticks = read_ticks(path, "FOREX.EURUSD")
    first, second = ticks.rows(0, 10)
    assert (first.datetime, first.bid, first.ask, first.ask_size) == (5, 1.5, 1.6, 3.0)
    assert (first.last, first.bid_size) == (0.0, 0.0)
    assert second.ask == 1.7


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("5,1.5,1.6", "4,1.5,1.6"), "line 3: its time lies before"),
        (("5,1.5,-1",), "line 2: a value is negative"),
        (("5,1.5,nan",), "line 2: a value is not a finite"),
        (("5,1.5,a",), "line 2: ask is 'a'"),
    ],
)
def test_bad_ticks(tmp_path: Path, rows: tuple[str, ...], said: str) -> None:
    path = write(tmp_path, "datetime_utc_ms,bid,ask", *rows)
    with pytest.raises(DataError, match=said):
        read_ticks(path, "FOREX.EURUSD")
    with pytest.raises(DataError, match="line 1"):
        read_ticks(write(tmp_path, "datetime_utc_ms,price", "1,2"), "FOREX.EURUSD")
