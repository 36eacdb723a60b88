"""The simulated futures venue: its frames, and what an unmodified TqApi makes of them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
import numpy as np
import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.errors import InvalidRequest
from livetrader_core.market.tq.library import load
from livetrader_core.models import Contract, Klines, Margin
from livetrader_core.sessions import Sessions
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.tq_server import TqServer
from livetrader_core.sim.venue import Fault, FaultKind
from tests.market.samples import at
from tests.support.futures import future, future_symbols

BEIJING = "Asia/Shanghai"
FIVE_MINUTES_NS = "300000000000"
MINUTE_NS = "60000000000"


def small() -> Recording:
    """Three minutes of a morning of rebar, and one before a weekend's night session."""
    sessions = Sessions(BEIJING, ((540, 615), (630, 690), (810, 900)), ((1260, 1380),))
    contract = Contract(
        "SHFE.rb2002", 1.0, 1.0, 1.0, 10.0, "CNY", sessions, Margin(per_unit=2762.4), name="rb2002"
    )
    times = [at(f"2019-11-04 {clock}", BEIJING) for clock in ("09:00", "09:01", "09:03")]
    klines = Klines(
        contract.symbol,
        "1m",
        np.array(times, np.int64),
        np.array([3400.0, 3402.0, 3401.0]),
        np.array([3404.0, 3403.0, 3401.0]),
        np.array([3399.0, 3400.0, 3398.0]),
        np.array([3402.0, 3401.0, 3399.0]),
        np.array([100.0, 40.0, 8.0]),
        np.array([5000.0, 5010.0, 5008.0]),
    )
    return Recording(contract, klines)


@asynccontextmanager
async def served(clock: SteppedClock, **settings: Any) -> AsyncIterator[TqServer]:
    server = TqServer([small()], clock, **settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def wire(server: TqServer) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.md_url) as socket:
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """The diffs that a peek brings."""
    await socket.send_json({"aid": "peek_message"})
    frame = json.loads(await socket.receive_str(timeout=5))
    assert frame["aid"] == "rtn_data"
    return list(frame["data"])


# --------------------------------------------------------------------------- frames


def test_the_first_answer_says_that_there_is_no_more_history() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:02", BEIJING))
        async with served(clock) as server, wire(server) as socket:
            assert await heard(socket) == [{"mdhis_more_data": False, "ins_list": ""}]

    asyncio.run(main())


def test_a_quote_is_sent_whole_and_then_what_has_changed() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        async with served(clock) as server, wire(server) as socket:
            await heard(socket)
            await socket.send_json({"aid": "subscribe_quote", "ins_list": "SHFE.rb2002"})
            assert await heard(socket) == [
                {"quotes": {}, "ins_list": "SHFE.rb2002"},
                {
                    "quotes": {
                        "SHFE.rb2002": {
                            "instrument_id": "SHFE.rb2002",
                            "datetime": "2019-11-04 09:01:00.000000",
                            "pre_settlement": 3400.0,
                            "lower_limit": 3060.0,
                            "upper_limit": 3740.0,
                            "last_price": 3402.0,
                            "bid_price1": 3402.0,
                            "bid_volume1": 1,
                            "ask_price1": 3403.0,
                            "ask_volume1": 1,
                            "open": 3400.0,
                            "highest": 3404.0,
                            "lowest": 3399.0,
                            "volume": 110,
                            "open_interest": 5010,
                        }
                    }
                },
            ]
            clock.advance(at("2019-11-04 09:02", BEIJING))
            assert await heard(socket) == [
                {
                    "quotes": {
                        "SHFE.rb2002": {
                            "datetime": "2019-11-04 09:02:00.000000",
                            "last_price": 3401.0,
                            "bid_price1": 3401.0,
                            "ask_price1": 3402.0,
                            "volume": 140,
                        }
                    }
                }
            ]

    asyncio.run(main())


def test_a_chart_is_answered_with_its_bars_and_then_with_what_is_new() -> None:
    request = {
        "aid": "set_chart",
        "chart_id": "mine",
        "ins_list": "SHFE.rb2002",
        "duration": 60_000_000_000,
        "view_width": 2,
    }

    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        async with served(clock) as server, wire(server) as socket:
            await heard(socket)
            await socket.send_json(request)
            assert await heard(socket) == [
                {
                    "charts": {
                        "mine": {
                            "left_id": 0,
                            "right_id": 1,
                            "more_data": False,
                            "ready": True,
                            "state": request,
                        }
                    }
                },
                {
                    "klines": {
                        "SHFE.rb2002": {
                            MINUTE_NS: {
                                "last_id": 1,
                                "data": {
                                    "0": {
                                        "datetime": 1572829200000000000,
                                        "open": 3400.0,
                                        "high": 3404.0,
                                        "low": 3399.0,
                                        "close": 3402.0,
                                        "volume": 100,
                                        "open_oi": 5000,
                                        "close_oi": 5000,
                                    },
                                    "1": {
                                        "datetime": 1572829260000000000,
                                        "open": 3402.0,
                                        "high": 3402.0,
                                        "low": 3402.0,
                                        "close": 3402.0,
                                        "volume": 10,
                                        "open_oi": 5000,
                                        "close_oi": 5010,
                                    },
                                },
                            }
                        }
                    }
                },
            ]
            clock.advance(at("2019-11-04 09:03", BEIJING))
            charts, klines = await heard(socket)
            assert charts == {"charts": {"mine": {"left_id": 1, "right_id": 2}}}
            new = klines["klines"]["SHFE.rb2002"][MINUTE_NS]
            assert new["last_id"] == 2
            assert sorted(new["data"]) == ["1", "2"]
            assert new["data"]["1"]["volume"] == 40

    asyncio.run(main())


def test_nothing_is_sent_before_a_peek() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        async with served(clock) as server, wire(server) as socket:
            await socket.send_json({"aid": "subscribe_quote", "ins_list": "SHFE.rb2002"})
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive(timeout=0.1)
            assert len(await heard(socket)) == 3

    asyncio.run(main())


def test_contracts_are_asked_for_and_forgotten() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        query = (
            "query($i:[String]){multi_symbol_info(instrument_id:$i){...on basic{instrument_id "
            "trading_time{day night}}...on future{margin expire_datetime}}}"
        )
        async with served(clock) as server, wire(server) as socket:
            await heard(socket)
            variables = {"i": ["SHFE.rb2002"]}
            asked = {"aid": "ins_query", "query_id": "q", "query": query, "variables": variables}
            await socket.send_json(asked)
            [answer] = await heard(socket)
            assert answer["symbols"]["q"]["result"] == {
                "multi_symbol_info": [
                    {
                        "instrument_id": "SHFE.rb2002",
                        "trading_time": {
                            "day": [
                                ["09:00:00", "10:15:00"],
                                ["10:30:00", "11:30:00"],
                                ["13:30:00", "15:00:00"],
                            ],
                            "night": [["21:00:00", "23:00:00"]],
                        },
                        "margin": 2762.4,
                        "expire_datetime": 1581750000000000000,
                    }
                ]
            }
            await socket.send_json({"aid": "ins_query", "query_id": "q", "query": ""})
            assert await heard(socket) == [{"symbols": {"q": None}}]
            await socket.send_json({**asked, "query": "{ nonsense"})
            [refused] = await heard(socket)
            assert "Syntax Error" in refused["symbols"]["q"]["error"]

    asyncio.run(main())


def test_a_closing_quote_comes_at_the_end_of_a_session_and_none_after_it() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 10:15", BEIJING))
        async with served(clock) as server, wire(server) as socket:
            await socket.send_json({"aid": "subscribe_quote", "ins_list": "SHFE.rb2002"})
            quote = (await heard(socket))[-1]["quotes"]["SHFE.rb2002"]
            assert quote["datetime"] == "2019-11-04 10:15:00.000000"
            clock.advance(at("2019-11-04 10:29", BEIJING))
            await socket.send_json({"aid": "subscribe_quote", "ins_list": "SHFE.rb2002"})
            assert await heard(socket) == [{"quotes": {}, "ins_list": "SHFE.rb2002"}]

    asyncio.run(main())


def test_rubbish_is_ignored() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        async with served(clock) as server, wire(server) as socket:
            await socket.send_str("{not json")
            await socket.send_str("[1, 2]")
            await socket.send_bytes(b"\x00")
            await socket.send_json({"aid": "set_chart", "chart_id": "x", "ins_list": "SHFE.no1"})
            await socket.send_json({"aid": "something else"})
            diffs = await heard(socket)
            assert diffs[0] == {"mdhis_more_data": False, "ins_list": ""}
            assert diffs[1]["charts"]["x"]["right_id"] == -1

    asyncio.run(main())


# --------------------------------------------------------------------------- auth and documents


def test_a_token_is_given_to_whoever_is_known() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        path = "/auth/realms/shinnytech/protocol/openid-connect/token"
        async with served(clock, users={"me": "secret"}) as server:
            url = server.auth_url + path
            form = {"grant_type": "password", "username": "me", "password": "secret"}
            async with aiohttp.ClientSession() as session:
                async with session.post(url, data=form) as answer:
                    token = (await answer.json())["access_token"]
                async with session.post(url, data={**form, "password": "wrong"}) as answer:
                    assert answer.status == 401
                    assert (await answer.json())["error"] == "invalid_grant"
            claims = jwt.decode(token, options={"verify_signature": False})
            assert claims["sub"] == "me"
            assert claims["grants"] == {"features": ["futr"], "accounts": []}

    asyncio.run(main())


def test_the_calendar_documents_are_served() -> None:
    async def main() -> None:
        clock = SteppedClock(at("2019-11-04 09:01", BEIJING))
        async with served(clock) as server, aiohttp.ClientSession() as session:
            where = server.environment()
            async with session.get(where["TQ_CHINESE_HOLIDAY_URL"]) as answer:
                assert await answer.json() == ["2019-01-01"]
            async with session.get(where["TQ_CONT_TABLE_URL"]) as answer:
                assert await answer.json() == {"SHFE.rb": [["20191104", "SHFE.rb2002"]]}

    asyncio.run(main())


def test_a_fault_that_no_websocket_has_is_refused() -> None:
    server = TqServer([small()], SteppedClock(0))
    with pytest.raises(InvalidRequest, match="TqServer has no fault fragment"):
        server.inject(Fault(FaultKind.FRAGMENT))


# --------------------------------------------------------------------------- the vendor's client


def read_by_tqsdk(server: TqServer, read: Callable[[Any], None]) -> Any:
    """Run ``read`` with an unmodified TqApi in a thread; a task for its end."""

    def run() -> None:
        tqsdk = load()
        loop = asyncio.SelectorEventLoop()
        auth = tqsdk.TqAuth("anybody", "anything")
        api = tqsdk.TqApi(auth=auth, loop=loop, debug=False, disable_print=True)
        try:
            read(api)
        except BaseException as error:
            failures.append(error)
        finally:
            api.close()

    async def wait() -> None:
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():  # noqa: ASYNC110 - a thread has no event to wait for
            await asyncio.sleep(0.01)
        thread.join()
        if failures:
            raise failures[0]

    failures: list[BaseException] = []
    return wait()


def test_an_unmodified_tqapi_reads_bars_quotes_ticks_and_contracts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    symbol = future_symbols()[0]
    recording = future(symbol)
    product = f"KQ.m@{symbol[:-4]}"
    count = min(len(recording.klines), 9000)
    last = recording.klines[count - 1]
    clock = SteppedClock(last.datetime + 45_000)

    def read(api: Any) -> None:
        quote = api.get_quote(symbol)
        assert quote.price_tick == recording.contract.price_tick
        assert quote.volume_multiple == recording.contract.multiplier
        assert quote.last_price == last.close
        assert quote.expired is False
        bars = api.get_kline_serial(symbol, 60, 10_000)
        bars = bars[bars.datetime > 0]
        expected = recording.klines[:count]
        assert np.array_equal(bars.datetime.to_numpy() / 1e6, expected.datetime)
        for ours, theirs in (("open", "open"), ("close", "close"), ("open_interest", "close_oi")):
            assert np.array_equal(bars[theirs].to_numpy(), getattr(expected, ours)), ours
        assert bars.volume.sum() == expected.volume.sum()
        day = api.get_kline_serial(symbol, 86_400, 3)
        assert time.strftime("%H%M", time.gmtime(day.datetime.iloc[-1] / 1e9)) == "1600"
        ticks = api.get_tick_serial(symbol, 4)
        assert ticks.last_price.iloc[-1] == last.close
        assert api.query_quotes(ins_class="FUTURE", exchange_id="SHFE", expired=False) == [symbol]
        assert api.query_cont_quotes(exchange_id="SHFE") == [symbol]
        assert api.get_quote(product).underlying_symbol == symbol
        clock.advance(last.datetime + 60_000)
        api.wait_update(deadline=time.time() + 5)
        assert quote.datetime

    async def main() -> None:
        server = TqServer([recording], clock)
        await server.start()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        try:
            await read_by_tqsdk(server, read)
        finally:
            await server.stop()

    asyncio.run(main())


def test_the_vendors_notices_are_not_fetched() -> None:
    load()
    assert isinstance(sys.modules["tqsdk.changelog_notification"], types.ModuleType)
    assert not hasattr(sys.modules["tqsdk.changelog_notification"], "requests")
