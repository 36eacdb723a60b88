"""Klines on disk."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest

from livetrader_core.errors import DataError, InvalidRequest, StorageError, UnknownTimeframe
from livetrader_core.market.aggregate import aggregate
from livetrader_core.market.recorded import read_klines
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from livetrader_core.store import KlineStore
from tests.market.samples import at, rising

US = default_contract("US.BABA").sessions
START = at("2020-11-02 15:00")


def minutes(count: int = 100, symbol: str = "US.BABA", price: float = 100.0) -> Klines:
    return rising(symbol, START, count, price)


def same(one: Klines, other: Klines) -> bool:
    pairs = zip((one.datetime, *one.columns()), (other.datetime, *other.columns()), strict=True)
    return all(a.tolist() == b.tolist() for a, b in pairs)


def test_what_is_written_is_read_also_after_reopening(tmp_path: Path) -> None:
    klines = minutes()
    klines.open_interest[:] = np.arange(100)
    with KlineStore(tmp_path / "klines.duckdb") as store:
        assert store.write(klines) == 100
        assert same(store.read("US.BABA"), klines)
    with KlineStore(str(tmp_path / "klines.duckdb")) as store:
        again = store.read("US.BABA")
    assert same(again, klines)
    assert again.datetime.dtype == np.int64
    assert again.trading_day is None


def test_ranges_of_time_and_count(tmp_path: Path) -> None:
    klines = minutes()
    ts = klines.datetime.tolist()
    with KlineStore(tmp_path / "k.duckdb") as store:
        store.write(klines)
        assert store.read("US.BABA", from_ts=ts[10], to_ts=ts[20]).datetime.tolist() == ts[10:20]
        assert store.read("US.BABA", limit=7).datetime.tolist() == ts[-7:]
        assert store.read("US.BABA", to_ts=ts[50], limit=5).datetime.tolist() == ts[45:50]
        assert store.read("US.BABA", from_ts=ts[97], limit=5).datetime.tolist() == ts[97:]
        assert len(store.read("US.BABA", "5m")) == 0
        assert len(store.read("US.AAPL")) == 0
        with pytest.raises(UnknownTimeframe, match="7m"):
            store.read("US.BABA", "7m")


def test_writing_a_moment_again_replaces_it(tmp_path: Path) -> None:
    with KlineStore(tmp_path / "k.duckdb") as store:
        store.write(minutes()[:60])
        store.write(minutes(price=500.0)[40:])
        expected = Klines.concat([minutes()[:40], minutes(price=500.0)[40:]])
        assert same(store.read("US.BABA"), expected)


def test_pieces_written_out_of_order_are_read_in_order(tmp_path: Path) -> None:
    klines = minutes()
    with KlineStore(tmp_path / "k.duckdb") as store:
        for piece in (klines[50:], klines[:20], klines[20:50]):
            store.write(piece)
        assert same(store.read("US.BABA"), klines)


def test_a_forming_kline_is_not_stored(tmp_path: Path) -> None:
    klines = minutes(3)
    klines.forming = True
    with KlineStore(tmp_path / "k.duckdb") as store:
        assert store.write(klines) == 2
        assert store.write(klines[2:]) == 0
        assert store.read("US.BABA").datetime.tolist() == klines.datetime[:2].tolist()


def test_klines_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    with KlineStore(tmp_path / "k.duckdb") as store:
        with pytest.raises(DataError, match=r"US\.BABA 1m"):
            store.write(Klines.concat([minutes(5), minutes(5)]))
        assert store.ranges() == []


def test_symbols_and_timeframes_are_apart(tmp_path: Path) -> None:
    hours = aggregate(minutes(), "1h", US)
    with KlineStore(tmp_path / "k.duckdb") as store:
        for klines in (minutes(), hours, minutes(10, "US.AAPL")):
            store.write(klines)
        assert same(store.read("US.BABA", "1h"), hours)
        ranges = [(r.symbol, r.timeframe, r.first, r.last, r.count) for r in store.ranges()]
    assert ranges == [
        ("US.AAPL", "1m", START, START + 9 * 60_000, 10),
        ("US.BABA", "1h", START, START + 3_600_000, 2),
        ("US.BABA", "1m", START, START + 99 * 60_000, 100),
    ]


def test_trading_days_are_kept(tmp_path: Path) -> None:
    days = aggregate(minutes(3000), "1d", US)
    with KlineStore(tmp_path / "k.duckdb") as store:
        store.write(days)
        again = store.read("US.BABA", "1d")
    assert again.trading_day is not None
    assert days.trading_day is not None
    assert again.trading_day.tolist() == days.trading_day.tolist()
    assert len(days) > 1


def test_threads_may_share_it(tmp_path: Path) -> None:
    with KlineStore(tmp_path / "k.duckdb") as store:
        symbols = [f"US.S{n}" for n in range(4)]
        threads = [
            threading.Thread(target=lambda s=symbol: [store.write(minutes(50, s)), store.read(s)])
            for symbol in symbols * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(r.symbol, r.count) for r in store.ranges()] == [(s, 50) for s in symbols]


def test_a_second_process_is_told_to_read_through_the_server(tmp_path: Path) -> None:
    path = tmp_path / "k.duckdb"
    code = (
        "import sys\n"
        "from livetrader_core.errors import StorageError\n"
        "from livetrader_core.store import KlineStore\n"
        "try:\n    KlineStore(sys.argv[1])\n"
        "except StorageError as error:\n    print(error)\n"
    )
    with KlineStore(path) as store:
        store.write(minutes())
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
        )
    assert done.stderr == ""
    assert f"{path} is open in another process" in done.stdout
    assert "server" in done.stdout


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "k.duckdb"
    path.write_text("something else, and long enough to be read as a header" * 100)
    with pytest.raises(StorageError, match=r"k\.duckdb cannot be opened"):
        KlineStore(path)
    with pytest.raises(StorageError, match="nowhere"):
        KlineStore(tmp_path / "nowhere" / "k.duckdb")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = KlineStore(tmp_path / "k.duckdb")
    store.close()
    store.close()
    with pytest.raises(StorageError, match=r"k\.duckdb"):
        store.read("US.BABA")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_exports_are_recordings(tmp_path: Path, suffix: str) -> None:
    days = aggregate(minutes(3000), "1d", US)
    with KlineStore(tmp_path / "k.duckdb") as store:
        for klines in (minutes(), days):
            store.write(klines)
            path = tmp_path / f"US.BABA-{klines.timeframe}{suffix}"
            assert store.export("US.BABA", klines.timeframe, path) == len(klines)
            assert same(read_klines(path, "US.BABA", klines.timeframe, US), klines)
    if suffix == ".csv.gz":
        assert gzip.decompress(path.read_bytes()).startswith(b"datetime_utc_ms,open,")


def test_parquet_exports_are_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a 'quoted' name.parquet"
    with KlineStore(tmp_path / "k.duckdb") as store:
        store.write(minutes())
        assert store.export("US.BABA", "1m", path) == 100
    columns = duckdb.read_parquet(str(path)).fetchnumpy()
    assert columns["datetime_utc_ms"].tolist() == minutes().datetime.tolist()
    assert columns["close"].tolist() == minutes().close.tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "k.duckdb"])


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    with KlineStore(tmp_path / "k.duckdb") as store:
        with pytest.raises(InvalidRequest, match=r"US\.BABA 1m: nothing is stored"):
            store.export("US.BABA", "1m", target)
        store.write(minutes())
        with pytest.raises(InvalidRequest, match=r"must end in \.csv"):
            store.export("US.BABA", "1m", tmp_path / "out.xlsx")
        with pytest.raises(StorageError, match="cannot be written"):
            store.export("US.BABA", "1m", tmp_path / "nowhere" / "out.csv")
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(StorageError, match=r"folder\.csv cannot be written"):
            store.export("US.BABA", "1m", tmp_path / "folder.csv")
    assert target.read_text() == "old"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out.csv", "folder.csv", "k.duckdb"}
