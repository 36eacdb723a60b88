"""The simulated TDX server read by an unmodified pytdx, and held to frames written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from pytdx.exhq import TdxExHq_API

from livetrader_core.clock import SteppedClock
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Klines
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tdx_server import TdxServer
from tests.market.samples import at, rising

BABA = rising("US.BABA", at("2020-11-02 23:58", "Asia/Shanghai"), 5, price=300.0)
COPPER = rising("SHFE.cu2002", at("2019-12-13 21:00", "Asia/Shanghai"), 3, price=49000.0)


def recording(klines: Klines) -> Recording:
    return Recording(default_contract(klines.symbol), klines)


def ask(server: TdxServer, question: Callable[[TdxExHq_API], Any]) -> Any:
    """What an unmodified pytdx, in a thread of its own, makes of the server."""

    def blocking() -> Any:
        api = TdxExHq_API(raise_exception=True)
        assert api.connect(server.host, server.port)
        with closing(api):
            return question(api)

    async def main() -> Any:
        await server.start()
        try:
            return await asyncio.get_running_loop().run_in_executor(None, blocking)
        finally:
            await server.stop()

    return asyncio.run(main())


def exchange(server: TdxServer, request: bytes, size: int) -> bytes:
    """The first ``size`` bytes of the raw answer to ``request``."""

    async def main() -> bytes:
        await server.start()
        try:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(request)
            answer = await reader.readexactly(size)
            writer.close()
            await writer.wait_closed()
            return answer
        finally:
            await server.stop()

    return asyncio.run(main())


def server_at(moment: str, *klines: Klines, **settings: Any) -> TdxServer:
    clock = SteppedClock(at(moment, "Asia/Shanghai"))
    return TdxServer([recording(k) for k in klines], clock, **settings)


def test_pytdx_reads_markets_count_and_instruments() -> None:
    def question(api: TdxExHq_API) -> Any:
        return api.get_markets(), api.get_instrument_count(), api.get_instrument_info(0, 100)

    markets, count, instruments = ask(server_at("2020-11-03 01:00", BABA, COPPER), question)
    assert {m["market"]: m["name"] for m in markets}[74] == "美国股票"
    assert count == 2
    assert [(i["market"], i["code"]) for i in instruments] == [(74, "BABA"), (30, "CU2002")]


def test_pytdx_reads_bars_with_the_trading_date_and_the_beijing_clock() -> None:
    bars = ask(
        server_at("2020-11-03 00:10", BABA), lambda api: api.get_instrument_bars(8, 74, "BABA")
    )
    assert [bar["datetime"] for bar in bars] == [
        "2020-11-02 23:59",
        "2020-11-02 00:00",
        "2020-11-02 00:01",
        "2020-11-02 00:02",
        "2020-11-02 00:03",
    ]
    assert [bar["close"] for bar in bars] == [300.0, 300.25, 300.5, 300.75, 301.0]
    assert [bar["trade"] for bar in bars] == BABA.volume.tolist()


def test_a_futures_night_carries_the_next_trading_day() -> None:
    bars = ask(
        server_at("2019-12-14 00:10", COPPER), lambda api: api.get_instrument_bars(8, 30, "CU2002")
    )
    assert [bar["datetime"] for bar in bars] == [
        "2019-12-16 21:01",
        "2019-12-16 21:02",
        "2019-12-16 21:03",
    ]


def test_the_newest_bar_forms_and_pages_count_from_it() -> None:
    server = server_at("2020-11-03 00:00:20", BABA)
    newest, second = ask(
        server,
        lambda api: (
            api.get_instrument_bars(8, 74, "BABA", 0, 2),
            api.get_instrument_bars(8, 74, "BABA", 1, 700),
        ),
    )
    assert [bar["datetime"] for bar in newest] == ["2020-11-02 00:00", "2020-11-02 00:01"]
    assert newest[1]["trade"] < BABA.volume[2]
    assert [bar["datetime"] for bar in second] == ["2020-11-02 23:59", "2020-11-02 00:00"]


def test_quotes_come_late() -> None:
    quote = ask(
        server_at("2020-11-03 00:16", BABA, delay_ms=15 * 60_000),
        lambda api: api.get_instrument_quote(74, "BABA"),
    )[0]
    assert quote["code"] == "BABA"
    assert quote["open"] == BABA.open[0]
    assert quote["zongliang"] == int(BABA.volume[:3].sum()) + int(BABA.volume[3] // 4)


def test_daily_bars_are_in_lots_of_a_hundred_shares() -> None:
    bars = ask(
        server_at("2020-11-03 00:10", BABA), lambda api: api.get_instrument_bars(4, 74, "BABA")
    )
    assert [(b["year"], b["month"], b["day"]) for b in bars] == [(2020, 11, 2)]
    assert bars[0]["trade"] == int(BABA.volume.sum()) // 100


def test_no_bars_and_no_quote_of_what_it_does_not_have() -> None:
    def question(api: TdxExHq_API) -> Any:
        return api.get_instrument_bars(8, 74, "NONE"), api.get_instrument_quote(74, "NONE")

    assert ask(server_at("2020-11-03 01:00", BABA), question) == ([], [])


def test_the_frames_of_an_empty_page() -> None:
    request = bytes.fromhex(
        "01 05000000 01 1600 1600 ff23 4a 4e4f4e450000000000 0800 0100 00000000 bc02"
    )
    answer = exchange(server_at("2020-11-03 01:00", BABA), request, 16 + 52)
    assert answer == bytes.fromhex(
        "b1cb7400 01 05000000 00 ff23 3400 3400"
        "4a 4e4f4e450000000000 0800 0100 00000000 0000" + "00" * 32
    )


def test_the_frame_of_one_bar() -> None:
    request = bytes.fromhex(
        "01 01086a01 01 1600 1600 ff23 4a 424142410000000000 0800 0100 00000000 0100"
    )
    klines = Klines.from_columns(
        "US.BABA",
        "1m",
        np.array([at("2020-11-03 00:00", "Asia/Shanghai")], np.int64),
        [np.array([v]) for v in (300.0, 302.0, 299.5, 301.0, 1000.0, 0.0)],
    )
    answer = exchange(server_at("2020-11-03 01:00", klines), request, 16 + 52)
    # 2020-11-02 is (16 << 11) + 1102 = 0x844e; the minute 00:01 is 1; 301,000 is 4892f900.
    assert answer == bytes.fromhex(
        "b1cb7400 01 01086a01 00 ff23 3400 3400"
        "4a 424142410000000000 0800 0100 00000000 0100"
        "4e84 0100 00009643 00009743 00c09543 00809643 00f99248 e8030000 00000000"
    )


def test_the_greeting_shows_the_hosts_clock() -> None:
    request = bytes.fromhex(
        "01 01486500 01 5200 5200 5424"
        + "1f32c6e5d53dfb41" * 8
        + "cce16dffd5ba3fb8cbc57a054f7748ea"
    )
    header = exchange(server_at("2020-11-03 01:02:03", BABA), request, 16)
    assert header[:14] == bytes.fromhex("b1cb7400 11 01486500 00 5424") + header[12:14]
    assert int.from_bytes(header[14:16], "little") == 299
