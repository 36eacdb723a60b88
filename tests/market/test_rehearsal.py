"""A rehearsal gives what the recording holds, through the venues' own protocols."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from livetrader_core.errors import ConfigError, InvalidRequest, UnknownSymbol
from livetrader_core.market.rehearsal import RehearsalMarket
from livetrader_core.market.replay import ReplayMarket
from livetrader_core.models import Kline, Klines
from livetrader_core.timeframe import DAY_MS, MINUTE_MS

#: Tuesday 2025-11-04 14:00 UTC: US stocks, forex and copper in the night all trade.
START = 1_762_264_800_000
END = START + 90 * MINUTE_MS
SYMBOLS = ["US.BABA", "FOREX.EURUSD", "SHFE.cu2605"]
SETTINGS = {"source": "generated", "seed": 3, "symbols": SYMBOLS, "end": END + DAY_MS}


def assert_same(got: Klines, recorded: Klines) -> None:
    assert got.datetime.tolist() == recorded.datetime.tolist()
    for column, expected in zip(got.columns(), recorded.columns(), strict=True):
        # TDX carries prices as float32.
        assert np.allclose(column, expected, rtol=0, atol=5e-5)


def test_before_it_begins_all_is_history() -> None:
    async def main() -> None:
        market, replay = RehearsalMarket(**SETTINGS), ReplayMarket(**SETTINGS)
        await market.connect()
        try:
            assert not market.begun
            assert await market.list_symbols() == sorted(SYMBOLS)
            for symbol in SYMBOLS:
                span = (symbol, START - DAY_MS, None, END)
                got = await market.get_kline_histories(*span)
                assert len(got) > 500
                assert_same(got, await replay.get_kline_histories(*span))
                assert await market.get_contract(symbol) == await replay.get_contract(symbol)
        finally:
            await market.disconnect()

    asyncio.run(main())


def test_it_goes_from_close_to_close_and_gives_each_kline_once() -> None:
    async def main() -> None:
        market, replay = RehearsalMarket(**SETTINGS), ReplayMarket(**SETTINGS)
        await market.connect()
        given: dict[str, list[Kline]] = {symbol: [] for symbol in SYMBOLS}

        async def read(symbol: str) -> None:
            async for kline in market.watch_klines(symbol):
                given[symbol].append(kline)

        readers = [asyncio.ensure_future(read(symbol)) for symbol in SYMBOLS]
        try:
            market.begin(START, END)
            assert market.begun
            moments = []
            async for moment in market.watch_clock():
                moments.append(moment)
                assert market.now() == moment
                for klines in given.values():
                    assert all(k.datetime + MINUTE_MS <= moment for k in klines)
                known = await market.get_kline_histories(SYMBOLS[0], limit=1)
                assert known.datetime[0] + MINUTE_MS <= moment
            assert moments[0] == START
            assert moments == sorted(set(moments))
            for symbol in SYMBOLS:
                recorded = await replay.get_kline_histories(symbol, START, None, END)
                assert_same(Klines.of(symbol, "1m", given[symbol]), recorded)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await market.disconnect()

    asyncio.run(main())


def test_it_begins_once_and_again_after_it_was_reconnected() -> None:
    async def main() -> None:
        market = RehearsalMarket(**SETTINGS, start=START)
        for _ in range(2):
            await market.connect()
            assert market.begun
            assert market.now() == START
            with pytest.raises(InvalidRequest, match="begun already"):
                market.begin(START)
            await market.disconnect()
            await market.disconnect()
            assert not market.begun

    asyncio.run(main())


def test_what_cannot_be_rehearsed_is_named() -> None:
    with pytest.raises(ConfigError, match=r"symbols: there is no simulated venue of BINANCE"):
        RehearsalMarket("generated", symbols=["BINANCE.BTCUSDT"])
    with pytest.raises(ConfigError, match="end"):
        RehearsalMarket("generated", symbols=SYMBOLS, start=END, end=START)

    async def main() -> None:
        market = RehearsalMarket(**SETTINGS)
        await market.connect()
        try:
            with pytest.raises(UnknownSymbol, match=r"US\.NONE is not recorded"):
                await market.get_kline_histories("US.NONE")
            with pytest.raises(InvalidRequest, match="before its start"):
                market.begin(END, START)
        finally:
            await market.disconnect()

    asyncio.run(main())
