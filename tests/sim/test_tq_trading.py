"""Trading at the simulated futures venue: its frames, and an unmodified TqApi that trades there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.market.tq.library import load
from livetrader_core.sim.tq_server import TqServer
from livetrader_core.sim.venue import Fault, FaultKind
from tests.market.samples import at
from tests.sim.test_tq_server import BEIJING, heard, small

SYMBOL = "SHFE.rb2002"
MORNING = at("2019-11-04 09:01", BEIJING)


@asynccontextmanager
async def trading(clock: SteppedClock, **settings: Any) -> AsyncIterator[TqServer]:
    server = TqServer([small()], clock, **settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def wire(server: TqServer) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.td_url) as socket:
        yield socket


async def log_in(socket: aiohttp.ClientWebSocketResponse, broker: str = "快期模拟") -> Any:
    login = {"aid": "req_login", "bid": broker, "user_name": "me", "password": "me"}
    await socket.send_json(login)
    return await heard(socket)


def order(order_id: str, direction: str, offset: str, volume: int, price: float) -> dict[str, Any]:
    return {
        "aid": "insert_order",
        "user_id": "me",
        "order_id": order_id,
        "exchange_id": "SHFE",
        "instrument_id": "rb2002",
        "direction": direction,
        "offset": offset,
        "volume": volume,
        "price_type": "LIMIT",
        "limit_price": price,
        "time_condition": "GFD",
        "volume_condition": "ANY",
    }


def told(diffs: list[Any], branch: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for diff in diffs:
        found |= diff.get("trade", {}).get("me", {}).get(branch, {})
    return found


# --------------------------------------------------------------------------- frames


def test_a_login_brings_the_whole_account() -> None:
    async def main() -> None:
        async with trading(SteppedClock(MORNING), cash=50_000.0) as server, wire(server) as socket:
            await socket.send_json(order("early", "BUY", "OPEN", 1, 3403))  # ignored
            notice, snapshot = await log_in(socket)
            [message] = notice["notify"].values()
            assert message["content"] == "登录成功"
            tree = snapshot["trade"]["me"]
            assert tree["trade_more_data"] is False
            assert tree["accounts"]["CNY"]["balance"] == 50_000.0
            assert "orders" not in tree

    asyncio.run(main())


def test_a_wrong_login_is_told_and_brings_nothing() -> None:
    async def main() -> None:
        clock = SteppedClock(MORNING)
        async with trading(clock, accounts={"me": "right"}) as server, wire(server) as socket:
            [refusal] = await log_in(socket, "a broker")
            [message] = refusal["notify"].values()
            assert message["content"] == "CTP:不合法的登录"

    asyncio.run(main())


def test_an_order_trades_and_the_account_follows() -> None:
    async def main() -> None:
        async with trading(SteppedClock(MORNING)) as server, wire(server) as socket:
            await log_in(socket)
            await socket.send_json(order("a", "BUY", "OPEN", 2, 3410))
            news = await heard(socket)
            [done] = told(news, "orders").values()
            assert (done["status"], done["volume_left"], done["last_msg"]) == (
                "FINISHED",
                0,
                "全部成交",
            )
            [trade] = told(news, "trades").values()
            assert (trade["price"], trade["volume"], trade["trade_id"]) == (3403.0, 2, "a|1")
            assert told(news, "positions")[SYMBOL]["pos_long_today"] == 2
            account = told(news, "accounts")["CNY"]
            # Bought at the ask, a tick of 10 yuan above the last price.
            assert account["float_profit"] == -20.0
            assert account["balance"] == 1_000_000.0 - 20.0
            assert account["margin"] == 2 * 2762.4
            assert account["available"] == account["balance"] - account["margin"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limit_price": 3403.5}, "CTP:价格非最小单位倍数"),
        ({"limit_price": 3741.0}, "CTP:价格超出涨停板"),
        ({"limit_price": 3059.0}, "CTP:价格跌破跌停板"),
        ({"volume": 1000}, "CTP:资金不足"),
        ({"offset": "CLOSE"}, "CTP:平昨仓位不足"),
        ({"offset": "CLOSETODAY"}, "CTP:平今仓位不足"),
        ({"instrument_id": "rb9999"}, "CTP:找不到合约"),
        ({"price_type": "ANY", "limit_price": None}, "CTP:交易所不支持的价格类型"),
    ],
)
def test_what_the_venue_refuses(changes: dict[str, Any], reason: str) -> None:
    async def main() -> None:
        async with trading(SteppedClock(MORNING)) as server, wire(server) as socket:
            await log_in(socket)
            await socket.send_json(order("a", "BUY", "OPEN", 1, 3403) | changes)
            [refused] = told(await heard(socket), "orders").values()
            assert refused["status"] == "FINISHED"
            assert refused["volume_left"] == refused["volume_orign"]
            assert refused["exchange_order_id"] == ""
            assert refused["last_msg"] == reason

    asyncio.run(main())


def test_a_brokers_account_needs_its_statement_confirmed() -> None:
    async def main() -> None:
        async with trading(SteppedClock(MORNING)) as server, wire(server) as socket:
            await log_in(socket, "a broker")
            await socket.send_json(order("a", "BUY", "OPEN", 1, 3403))
            [refused] = told(await heard(socket), "orders").values()
            assert refused["last_msg"] == "CTP:结算结果未确认"
            await socket.send_json({"aid": "confirm_settlement"})
            await socket.send_json(order("b", "BUY", "OPEN", 1, 3403))
            [done] = told(await heard(socket), "orders").values()
            assert done["last_msg"] == "全部成交"

    asyncio.run(main())


def test_the_same_order_id_is_taken_once() -> None:
    async def main() -> None:
        async with trading(SteppedClock(MORNING)) as server, wire(server) as socket:
            await log_in(socket)
            for _ in range(2):
                await socket.send_json(order("a", "BUY", "OPEN", 1, 3403))
            await heard(socket)
            desk = server.trading.desk("me")
            assert len(desk.orders) == len(desk.trades) == 1

    asyncio.run(main())


def test_today_becomes_yesterday_and_orders_of_the_day_end() -> None:
    async def main() -> None:
        clock = SteppedClock(MORNING)
        async with trading(clock) as server, wire(server) as socket:
            await log_in(socket)
            await socket.send_json(order("a", "BUY", "OPEN", 2, 3403))
            await socket.send_json(order("b", "BUY", "OPEN", 1, 3100))
            await heard(socket)
            clock.advance(at("2019-11-04 21:00", BEIJING))
            server.trading.advance(clock.now())
            desk = server.trading.desk("me")
            assert desk.orders["b"].tree["last_msg"].startswith("交易日结束")
            tree = desk.account.positions(desk.price)[SYMBOL]
            assert (tree["pos_long_today"], tree["pos_long_his"]) == (0, 2)
            # Settled at 3399: what was lost since 3403 is part of the balance.
            assert desk.account.static == 1_000_000.0 - 80.0
            assert tree["float_profit"] == -80.0
            assert tree["position_profit"] == 0.0
            assert not desk.todays()

    asyncio.run(main())


def test_what_rests_trades_at_its_own_price_in_parts() -> None:
    async def main() -> None:
        clock = SteppedClock(MORNING)
        async with trading(clock) as server, wire(server) as socket:
            server.trading.depth = 1
            await log_in(socket)
            await socket.send_json(order("a", "SELL", "OPEN", 2, 3403))
            await heard(socket)
            clock.advance(MORNING + 45_000)  # its high is 3403
            server.trading.advance(clock.now())
            desk = server.trading.desk("me")
            assert desk.orders["a"].left == 1
            assert [trade["price"] for trade in desk.trades.values()] == [3403.0]
            assert desk.cancel("a") is None
            assert desk.orders["a"].tree["last_msg"] == "已撤单"
            assert desk.cancel("a") == "撤单失败, 找不到可撤的委托单: a"

    asyncio.run(main())


# --------------------------------------------------------------------------- the vendor's client


def traded_by_tqsdk(
    server: TqServer, monkeypatch: pytest.MonkeyPatch, account: str, trade: Callable[[Any], None]
) -> Any:
    """Run ``trade`` with an unmodified TqApi in a thread; a task for its end."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    failures: list[BaseException] = []

    def run() -> None:
        tqsdk = load()
        who = tqsdk.TqKq() if account == "kq" else tqsdk.TqAccount("a broker", "me", "secret")
        auth = tqsdk.TqAuth("anybody", "anything")
        loop = asyncio.SelectorEventLoop()
        api = tqsdk.TqApi(who, auth=auth, loop=loop, debug=False, disable_print=True)
        try:
            trade(api)
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

    return wait()


def until(api: Any, condition: Callable[[], bool]) -> None:
    deadline = time.time() + 10
    while not condition():
        assert api.wait_update(deadline=deadline), "it did not come"


@pytest.mark.parametrize("account", ["kq", "account"])
def test_an_unmodified_tqapi_trades(monkeypatch: pytest.MonkeyPatch, account: str) -> None:
    clock = SteppedClock(MORNING)

    def trade(api: Any, server: TqServer) -> None:
        server.trading.trades_late = True
        bought = api.insert_order(SYMBOL, "BUY", "OPEN", 3, 3403)
        until(api, lambda: bought.status == "FINISHED")
        assert not bought.trade_records  # they come after the order
        until(api, lambda: len(bought.trade_records) == 1)
        assert (bought.volume_left, bought.trade_price, bought.is_error) == (0, 3403.0, False)
        assert api.get_position(SYMBOL).pos == 3
        refused = api.insert_order(SYMBOL, "SELL", "CLOSE", 1, 3400, order_id="mine")
        until(api, lambda: refused.status == "FINISHED")
        assert (refused.volume_left, refused.is_error) == (1, True)
        assert refused.last_msg == "CTP:平昨仓位不足"
        sold = api.insert_order(SYMBOL, "SELL", "CLOSETODAY", 1, 3400)
        until(api, lambda: len(sold.trade_records) == 1)
        assert api.get_position(SYMBOL).pos_long_today == 2
        assert api.get_account().close_profit == -10.0
        resting = api.insert_order(SYMBOL, "SELL", "CLOSETODAY", 2, 3500)
        until(api, lambda: bool(resting.exchange_order_id))
        api.cancel_order(resting)
        until(api, lambda: resting.status == "FINISHED")
        assert resting.last_msg == "已撤单"
        with pytest.raises(Exception, match="不支持市价单"):
            api.insert_order(SYMBOL, "BUY", "OPEN", 1)

    async def main() -> None:
        async with trading(clock, accounts={"me": "secret"}) as server:
            await traded_by_tqsdk(server, monkeypatch, account, lambda api: trade(api, server))
            # Its books outlive a restart.
            server.inject(Fault(FaultKind.RESTART))
            await asyncio.sleep(0)
            while not server.running:  # noqa: ASYNC110 - it comes back by itself
                await asyncio.sleep(0.01)
            await traded_by_tqsdk(server, monkeypatch, account, lambda api: again(api))

    def again(api: Any) -> None:
        assert api.get_position(SYMBOL).pos == 2
        assert sorted(order.status for order in api.get_order().values()) == ["FINISHED"] * 4
        assert len(api.get_trade()) == 2

    asyncio.run(main())
