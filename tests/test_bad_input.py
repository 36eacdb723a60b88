"""Wrong requests get an error that names what is wrong, within their time, and harm nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_core.errors import (
    DataError,
    EndpointInUse,
    InvalidRequest,
    LiveTraderError,
    UnknownSymbol,
    UnknownTimeframe,
)
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.rpc import Client, Server
from tests.support.serving import serving

HEADER = "datetime_utc_ms,open,high,low,close,volume\n"
GOOD = "1604361600000,10,11,9,10.5,100\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("klines")
    (folder / "US.GOOD-1m.csv").write_text(HEADER + GOOD)
    (folder / "US.BAD-1m.csv").write_text(HEADER + GOOD + "1604361660000,10,eleven,9,10.5,100\n")
    return folder


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    with serving(lambda: (MarketService(ReplayMarket(folder)),)) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda c: c.get_kline_histories("US.NONE"), UnknownSymbol, "US.NONE"),
        (lambda c: c.get_kline_histories("NONE"), UnknownSymbol, "MARKET.CODE"),
        (lambda c: c.get_kline_histories("US.GOOD", limit=0), InvalidRequest, "limit.*not 0"),
        (lambda c: c.get_kline_histories("US.GOOD", limit=-3), InvalidRequest, "limit.*not -3"),
        (
            lambda c: c.get_kline_histories("US.GOOD", limit=1_000_000),
            InvalidRequest,
            "limit.*500000.*1000000",
        ),
        (lambda c: c.get_kline_histories("US.GOOD", 9, None, 3), InvalidRequest, "from_ts 9"),
        (
            lambda c: c.get_kline_histories("US.GOOD", timeframe="7m"),
            UnknownTimeframe,
            "'7m'.*1m, 3m",
        ),
        (lambda c: c.get_kline_histories("US.BAD"), DataError, r"US\.BAD-1m\.csv.*3"),
        (lambda c: c.get_contract("MOON.ROCK"), UnknownSymbol, "MOON"),
        (lambda c: c.fetch_balance(), LiveTraderError, "does not trade"),
    ],
)
def test_a_wrong_request_is_named_and_the_next_one_answered(
    endpoint: str, ask: Callable[[Client], Any], error: type[Exception], message: str
) -> None:
    with Client(timeout=10.0) as client:
        client.connect(endpoint)
        with pytest.raises(error, match=message):
            ask(client)
        assert len(client.get_kline_histories("US.GOOD", None, 100)) == 1


@pytest.mark.parametrize("endpoint", ["ipc:///tmp/no-such-livetrader", "tcp://127.0.0.1:1"])
def test_a_dead_endpoint_is_told_within_the_timeout(endpoint: str) -> None:
    def connect_client() -> None:
        with Client(timeout=0.5) as client:
            client.connect(endpoint)

    def connect_store() -> None:
        store = LiveTraderStore(endpoint, timeout=0.5)
        store.setup(bt.Cerebro(), ["US.GOOD"])

    for connect in (connect_client, connect_store):
        before = time.monotonic()
        with pytest.raises(LiveTraderError, match=endpoint):
            connect()
        assert time.monotonic() - before < 5.0


def test_a_second_server_on_an_endpoint_is_refused_and_the_first_goes_on(
    endpoint: str, folder: Path
) -> None:
    with pytest.raises(EndpointInUse, match=endpoint):
        Server(MarketService(ReplayMarket(folder))).bind(endpoint)
    with Client() as client:
        client.connect(endpoint)
        assert client.list_symbols() == ["US.BAD", "US.GOOD"]


def test_a_store_names_a_bad_file_and_ends_clean(folder: Path) -> None:
    store = LiveTraderStore(service=MarketService(ReplayMarket(folder)))
    cerebro = bt.Cerebro()
    store.setup(cerebro, ["US.BAD"], cash=1000.0)
    try:
        with pytest.raises(DataError, match=r"US\.BAD-1m\.csv"):
            cerebro.run()
    finally:
        store.close()
