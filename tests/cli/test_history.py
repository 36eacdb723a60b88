"""``history``: fetch by pages, go on after an interruption, list and export."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from livetrader_core.errors import InvalidRequest, Unavailable
from livetrader_core.fetching import Fetcher, Tell
from livetrader_core.local import LocalSession
from livetrader_core.market import cached
from livetrader_core.models import Klines
from livetrader_core.service import MarketService
from livetrader_core.store import KlineStore
from tests.cli.conftest import Run, served
from tests.support.archive_market import ArchiveMarket, random_walk
from tests.support.scripted_market import START, contract

MINUTE = 60_000
WALK = random_walk("US.A", START, 1000)


class Failing(ArchiveMarket):
    """History that ends on an error after some requests; it notes what was asked."""

    def __init__(self, after: int | None = None, klines: Klines = WALK) -> None:
        super().__init__([contract("US.A")], [klines])
        self.left = after
        self.asked: list[tuple[int | None, int | None, int | None]] = []

    async def get_kline_histories(
        self,
        symbol: str,
        from_ts: int | None = None,
        limit: int | None = None,
        to_ts: int | None = None,
        timeframe: str = "1m",
        forming: bool = False,
    ) -> Klines:
        if self.left == 0:
            raise Unavailable("the line is cut")
        if self.left is not None:
            self.left -= 1
        self.asked.append((from_ts, limit, to_ts))
        return await super().get_kline_histories(symbol, from_ts, limit, to_ts, timeframe)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "PAGE", 100)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KlineStore]:
    with KlineStore(tmp_path / "k.duckdb") as store:
        yield store


def fetch(
    store: KlineStore,
    market: ArchiveMarket,
    from_ts: int | None = None,
    to_ts: int | None = None,
    again: bool = False,
    tell: Tell = lambda ts, count, share: None,
) -> int:
    async def run() -> int:
        session = LocalSession(MarketService(market))
        await session.open(lambda event: None)
        try:
            fetcher = Fetcher(session, store)
            done = await fetcher.fetch("US.A", "1m", from_ts, to_ts, again, tell)
            return done.fetched
        finally:
            await session.close()

    return asyncio.run(run())


def stored(store: KlineStore) -> list[int]:
    return [int(ts) for ts in store.read("US.A").datetime]


def minutes(first: int, last: int) -> list[int]:
    return [START + minute * MINUTE for minute in range(first, last)]


def test_everything_by_pages(store: KlineStore) -> None:
    market = Failing()
    assert fetch(store, market) == 1000
    assert stored(store) == minutes(0, 1000)
    assert np.array_equal(store.read("US.A").close, WALK.close)
    assert all(limit is not None and limit <= 100 for _, limit, _ in market.asked)


def test_a_part_and_then_what_is_around_it(store: KlineStore) -> None:
    assert fetch(store, Failing(), START + 300 * MINUTE, START + 500 * MINUTE) == 200
    assert stored(store) == minutes(300, 500)
    assert fetch(store, Failing(), START + 200 * MINUTE, START + 800 * MINUTE) == 400
    assert stored(store) == minutes(200, 800)
    assert fetch(store, Failing()) == 400
    assert stored(store) == minutes(0, 1000)


def test_a_part_away_from_what_is_stored_leaves_no_hole(store: KlineStore) -> None:
    fetch(store, Failing(), START + 400 * MINUTE, START + 500 * MINUTE)
    fetch(store, Failing(), START + 700 * MINUTE, START + 800 * MINUTE)
    assert stored(store) == minutes(400, 800)
    fetch(store, Failing(), START + 100 * MINUTE, START + 200 * MINUTE)
    assert stored(store) == minutes(100, 800)


def test_nothing_is_fetched_twice_unless_asked(store: KlineStore) -> None:
    fetch(store, Failing())
    assert fetch(store, Failing()) == 0
    assert fetch(store, Failing(), again=True) == 1000


@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_it_goes_on_where_it_was_interrupted(store: KlineStore, after: int) -> None:
    fetch(store, Failing(), START + 400 * MINUTE, START + 450 * MINUTE)
    with pytest.raises(Unavailable):
        fetch(store, Failing(after))
    kept = stored(store)
    assert len(kept) >= 50
    market = Failing()
    assert fetch(store, market) == 1000 - len(kept)
    asked = [span for span in market.asked if span[1] != 1]
    assert not any(from_ts in kept for from_ts, _, _ in asked)
    assert stored(store) == minutes(0, 1000)


def test_progress_is_told_as_a_share_where_the_beginning_is_known(store: KlineStore) -> None:
    told: list[tuple[int, int, float | None]] = []
    fetch(store, Failing(), START, tell=lambda *reached: told.append(reached))
    moments, counts, shares = zip(*told, strict=True)
    assert list(moments) == sorted(moments, reverse=True)
    assert list(counts) == list(range(100, 1001, 100))
    assert list(shares) == sorted(shares)
    assert shares[-1] == 1.0
    told.clear()
    fetch(store, Failing(), again=True, tell=lambda *reached: told.append(reached))
    assert {share for _, _, share in told} == {None}


def test_it_goes_on_where_it_was_cancelled(store: KlineStore) -> None:
    async def main() -> int:
        session = LocalSession(MarketService(Failing()))
        await session.open(lambda event: None)
        counts: list[int] = []

        def tell(ts: int, count: int, share: float | None) -> None:
            counts.append(count)
            if count == 400:
                fetching.cancel()

        fetching = asyncio.ensure_future(
            Fetcher(session, store).fetch("US.A", "1m", None, None, False, tell)
        )
        await asyncio.wait([fetching])
        assert fetching.cancelled()
        await session.close()
        return counts[-1]

    assert asyncio.run(main()) == 400
    assert len(stored(store)) >= 400
    kept = len(stored(store))
    assert fetch(store, Failing()) == 1000 - kept
    assert stored(store) == minutes(0, 1000)


def test_a_market_that_keeps_its_klines_itself_fetches_them(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "own.duckdb"
        service = MarketService(cached.CachedMarket(Failing(), path))
        await service.connect()
        with KlineStore(path) as store:
            fetcher = Fetcher(service, store)
            done = await fetcher.fetch("US.A", "1m", None, None, False, lambda *reached: None)
        assert (done.stored, done.first, done.last) == (1000, START, START + 999 * MINUTE)
        await service.stop()

    asyncio.run(main())


def test_a_long_gap_in_the_market_is_crossed(store: KlineStore) -> None:
    late = random_walk("US.A", START + 5000 * MINUTE, 50)
    gapped = Klines.concat([WALK, late])
    fetch(store, Failing(klines=WALK))
    assert fetch(store, Failing(klines=gapped)) == 50
    assert stored(store) == minutes(0, 1000) + minutes(5000, 5050)


def test_no_klines_is_an_error(store: KlineStore) -> None:
    with pytest.raises(InvalidRequest, match=r"US\.A 1m: the market has no klines"):
        fetch(store, Failing(), START - 100 * MINUTE, START)


# --------------------------------------------------------------------------- the commands


def test_fetch_list_export(cli: Run, workplace: Path) -> None:
    assert "nothing is stored" in cli("history", "list").stdout
    fetched = cli("history", "fetch", "US.BABA", "FOREX.EURUSD", "--json")
    assert fetched.exit_code == 0, fetched.stderr
    told = {each["symbol"]: each for each in json.loads(fetched.stdout)}
    assert set(told) == {"US.BABA", "FOREX.EURUSD"}
    assert told["US.BABA"]["fetched"] == told["US.BABA"]["stored"] > 500
    rows = json.loads(cli("history", "list", "--json").stdout)
    assert {row["symbol"]: row["count"] for row in rows} == {
        symbol: each["stored"] for symbol, each in told.items()
    }
    assert "US.BABA" in cli("history", "list").stdout
    assert cli("history", "export", "US.BABA", "x.csv").exit_code == 0
    with (workplace / "x.csv").open() as file:
        assert len(list(csv.DictReader(file))) == told["US.BABA"]["stored"]
    assert cli("history", "export", "US.BABA", "x.parquet").exit_code == 0
    assert (workplace / "x.parquet").read_bytes().startswith(b"PAR1")


def test_fetch_from_a_server(cli: Run, workplace: Path) -> None:
    with served(workplace):
        fetched = cli("history", "fetch", "US.BABA", "--timeframe", "5m", "--from", "2025-11-04")
    assert fetched.exit_code == 0, fetched.stderr
    assert "US.BABA 5m: " in fetched.stdout
    assert "from 2025-11-04 " in fetched.stdout


def test_fetch_by_a_server_that_keeps_its_klines_itself(cli: Run, workplace: Path) -> None:
    file = workplace / "livetrader.toml"
    file.write_text(file.read_text().replace("[trades", "cache = true\n[trades"))
    with served(workplace):
        fetched = cli("history", "fetch", "US.BABA", "--json")
        again = cli("history", "fetch", "US.BABA", "--again")
    assert fetched.exit_code == 0, fetched.stderr
    assert again.exit_code == 1
    assert "stop it to fetch again" in again.stderr
    (told,) = json.loads(fetched.stdout)
    (row,) = json.loads(cli("history", "list", "--json").stdout)
    assert row["count"] == told["fetched"] > 500
    without_server = json.loads(cli("history", "fetch", "US.BABA", "--json").stdout)
    assert without_server[0]["stored"] == row["count"]
    assert without_server[0]["fetched"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fetch",), 2, "SYMBOL"),
        (("fetch", "US.NONE"), 1, "US.NONE"),
        (("fetch", "US.BABA", "--from", "2025-11-05", "--to", "2025-11-04"), 2, "before --to"),
        (("fetch", "US.BABA", "--from", "2030-01-01"), 1, "US.BABA 1m: the market has no klines"),
        (("export", "US.BABA", "x.csv"), 1, "US.BABA 1m: nothing is stored"),
        (("export", "US.BABA", "x.txt"), 1, "x.txt"),
    ],
)
def test_what_is_wrong_is_named(
    cli: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = cli("history", *arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_store_that_another_process_has_open(cli: Run, workplace: Path) -> None:
    code = (
        "import duckdb, sys; held = duckdb.connect('klines.duckdb'); "
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=workplace,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        result = cli("history", "list")
        other.communicate("")
    assert result.exit_code == 1
    assert "klines.duckdb is open in another process" in result.stderr
