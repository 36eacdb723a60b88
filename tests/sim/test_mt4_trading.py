"""The simulated terminal's trading, through the published connector's commands.

The expected frames are written by hand from what the expert advisor was seen to send.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from livetrader_core.clock import SteppedClock
from livetrader_core.market.specs import default_contract
from livetrader_core.models import Kline, Klines
from livetrader_core.sim.dwx_trading import ExpertInputs
from livetrader_core.sim.mt4_model import Mt4Model
from livetrader_core.sim.mt4_terminal import Mt4Terminal
from livetrader_core.sim.mt4_trading import Mt4Trading, OrderKind, TradeError
from livetrader_core.sim.recording import Recording
from livetrader_core.sim.venue import Fault, FaultKind
from tests.market.samples import at
from tests.support.dwx_client import PublishedConnector
from tests.support.dwx_venue import EURUSD, eventually

START = at("2020-11-02 14:30")  # 16:30 at the server
WIDE = ExpertInputs(maximum_orders=100, maximum_lots=10.0)
Script = Callable[[PublishedConnector, Mt4Terminal, SteppedClock], None]


def recording() -> Recording:
    """Bid 1.10000; then a minute from 1.10000 over 1.09900 and 1.10200 to 1.10100."""
    rows = [
        Kline(EURUSD, "1m", START, 1.1, 1.1, 1.1, 1.1, 8),
        Kline(EURUSD, "1m", START + 60_000, 1.1, 1.102, 1.099, 1.101, 8),
    ]
    return Recording(default_contract(EURUSD), Klines.of(EURUSD, "1m", rows))


def talk(script: Script, **settings: Any) -> None:
    async def main() -> None:
        clock = SteppedClock(START + 30_000)
        terminal = Mt4Terminal([recording()], clock, **{"inputs": WIDE, **settings})
        await terminal.start()

        def run() -> None:
            ports = (terminal.push_port, terminal.pull_port, terminal.sub_port)
            with PublishedConnector("127.0.0.1", *ports) as client:
                script(client, terminal, clock)

        try:
            await asyncio.to_thread(run)
        finally:
            await terminal.stop()

    asyncio.run(main())


def order(
    action: str, kind: int = 0, price: float = 0.0, lots: float = 0.1, ticket: int = 0, **more: Any
) -> str:
    loss, profit, comment = more.get("loss", 0), more.get("profit", 0), more.get("comment", "me")
    return f"TRADE;{action};{kind};EURUSD;{price};{loss};{profit};{comment};{lots};9;{ticket}"


OPENED = (
    "{'_action': 'EXECUTION', '_symbol': 'EURUSD', '_magic': 9, '_ticket': 100001, "
    "'_open_time': '2020.11.02 16:30:30', '_open_price': 1.10001000}"
)
TRADES = (
    "{'_action': 'OPEN_TRADES', '_trades': {100001: {'_magic': 9, '_symbol': 'EURUSD', "
    "'_lots': 0.10000000, '_type': 0, '_open_price': 1.10001000, "
    "'_open_time': '2020.11.02 16:30:30', '_SL': 0.00000000, '_TP': 0.00000000, "
    "'_pnl': -0.10000000, '_comment': 'me'}}}"
)
CLOSED = (
    "{'_action': 'CLOSE', '_ticket': 100001, '_close_price': 1.10000000, "
    "'_close_lots': 0.10000000, '_response': 'CLOSE_MARKET', '_response_value': 'SUCCESS'}"
)


def test_an_order_is_opened_listed_and_closed() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask(order("OPEN")) == [OPENED, ""]
        assert client.ask(order("GET_OPEN_TRADES")) == [TRADES, ""]
        assert client.ask(order("CLOSE", ticket=100001)) == [CLOSED, ""]
        empty = "{'_action': 'OPEN_TRADES', '_trades': {}}"
        assert client.ask(order("GET_OPEN_TRADES")) == [empty, ""]
        gone = "{'_action': 'CLOSE', '_ticket': 100001, '_response': 'NOT_FOUND'}"
        assert client.ask(order("CLOSE", ticket=100001)) == [gone, ""]
        assert terminal.trading.balance == 9999.90

    talk(script)


def test_earlier_builds_do_not_name_the_symbol() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask(order("OPEN")) == [OPENED.replace("'_symbol': 'EURUSD', ", ""), ""]

    talk(script, build="patched")


def test_the_rest_of_a_partial_close_has_a_new_ticket_and_comment() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.ask(order("OPEN"))
        expected = (
            "{'_action': 'CLOSE', '_ticket': 100001, '_response': 'CLOSE_PARTIAL', "
            "'_close_price': 1.10000000, '_close_lots': 0.03000000}"
        )
        assert client.ask(order("CLOSE_PARTIAL", lots=0.03, ticket=100001)) == [expected, ""]
        rest = terminal.trading.tickets[100002]
        assert (rest.lots, rest.comment, rest.magic) == (0.07, "from #100001", 9)
        assert terminal.trading.history[0].comment == "to #100002"

    talk(script)


def test_a_partial_close_does_nothing_while_a_pending_order_is_selected() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.ask(order("OPEN"))
        client.ask(order("OPEN", kind=2, price=1.05))
        assert client.ask(order("CLOSE_PARTIAL", lots=0.03, ticket=100001)) == ["{}", ""]
        client.ask(order("GET_OPEN_TRADES"))  # which ends at the oldest
        assert "CLOSE_PARTIAL" in client.ask(order("CLOSE_PARTIAL", lots=0.03, ticket=100001))[0]

    talk(script)


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (order("OPEN", lots=11), "'LOT_SIZE_ERROR', 'response_value': 'MAX_LOT_SIZE_EXCEEDED'"),
        (order("OPEN", lots=0.005), "'131', 'response_value': 'invalid trade volume'"),
        (order("OPEN", lots=10), "'134', 'response_value': 'not enough money'"),
        (order("OPEN", kind=2, price=1.2), "'130', 'response_value': 'invalid stops'"),
        (order("OPEN").replace("EURUSD", "XXXYYY"), "'4106', 'response_value': 'unknown symbol'"),
    ],
)
def test_refusals(command: str, refusal: str) -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert client.ask(command) == [f"{{'_action': 'EXECUTION', '_response': {refusal}}}", ""]
        assert not terminal.trading.tickets

    talk(script)


def test_as_it_is_installed_it_takes_one_order_of_a_hundredth() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert "LOT_SIZE_ERROR" in client.ask(order("OPEN"))[0]
        client.ask(order("OPEN", lots=0.01))
        assert "NUM_ORDERS_ERROR" in client.ask(order("OPEN", lots=0.01))[0]

    talk(script, inputs=ExpertInputs())


def test_a_close_that_failed_says_success() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.ask(order("OPEN"))
        terminal.trading.refusals.extend([132] * 3)
        failed = "'_response': '132', '_response_value': 'market is closed', "
        forgotten = "'_response': '0', '_response_value': 'no error', "
        expected = (
            "{'_action': 'CLOSE', '_ticket': 100001, "
            + (failed + forgotten) * 3
            + "'_response': 'CLOSE_MARKET', '_response_value': 'SUCCESS'}"
        )
        assert client.ask(order("CLOSE", ticket=100001)) == [expected, ""]
        assert ast.literal_eval(expected)["_response_value"] == "SUCCESS"
        assert 100001 in terminal.trading.tickets

    talk(script)


def test_a_requote_is_tried_again_by_close_and_not_by_open() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        terminal.trading.refusals.append(138)
        assert "'138', 'response_value': 'requote'" in client.ask(order("OPEN"))[0]
        client.ask(order("OPEN"))
        terminal.trading.refusals.append(138)
        assert "'_close_price'" in client.ask(order("CLOSE", ticket=100001))[0]
        assert not terminal.trading.tickets

    talk(script)


def test_stops_that_are_refused_close_the_order() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        terminal.trading.stop_level = 50
        reply = client.ask(order("OPEN", loss=10, profit=100))[0]
        assert reply.count("'_response': '130'") == 3
        assert ast.literal_eval(reply)["_response"] == "ERROR_SETTING_SL_TP"
        assert not terminal.trading.tickets

    talk(script)


def test_stops_are_points_from_the_open_price() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        reply = client.ask(order("OPEN", loss=500, profit=600))[0]
        assert reply.endswith("'_open_price': 1.10001000, '_sl': 1.09501000, '_tp': 1.10601000}")
        expected = "{'_action': 'MODIFY', '_sl': 1.09801000, '_tp': 1.10201000}"
        change = order("MODIFY", loss=200, profit=200, ticket=100001)
        assert client.ask(change) == [expected, ""]
        without = client.ask(order("MODIFY", ticket=100001))[0]  # no stops are not no stops
        assert "'_response': '130'" in without
        assert "'_sl_attempted': 1.10001, '_tp_attempted': 1.10001" in without
        none = "{'_action': 'MODIFY', '_response': 'NOT_FOUND'}"
        assert client.ask(order("MODIFY", ticket=7)) == [none, ""]

    talk(script)


def test_without_dma_a_reply_has_a_brace_too_many_and_needs_stops() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        assert "'130'" in client.ask(order("OPEN"))[0]
        assert client.ask(order("OPEN", loss=500, profit=500))[0].endswith("}}")

    talk(script, inputs=ExpertInputs(100, 10.0, dma=False))


def test_closing_all_or_those_of_a_magic_number() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.ask(order("OPEN"))
        client.ask(order("OPEN", kind=2, price=1.05))
        expected = (
            "{'_action': 'CLOSE_ALL_MAGIC', '_magic': 9, '_responses': {"
            "100002: {'_symbol':'EURUSD', '_response': 'CLOSE_PENDING'}, "
            "100001: {'_symbol':'EURUSD', '_close_price': 1.10000000, "
            "'_close_lots': 0.10000000, '_response': 'CLOSE_MARKET'}}, "
            "'_response_value': 'SUCCESS'}"
        )
        assert client.ask(order("CLOSE_MAGIC")) == [expected, ""]
        nothing = "{'_action': 'CLOSE_ALL', '_responses': {}, '_response': 'NOT_FOUND'}"
        assert client.ask(order("CLOSE_ALL")) == [nothing, ""]
        client.ask(order("OPEN"))
        assert "100003: {'_symbol':'EURUSD', '_magic': 9" in client.ask(order("CLOSE_ALL"))[0]

    talk(script)


def test_money() -> None:
    def script(client: PublishedConnector, terminal: Mt4Terminal, clock: SteppedClock) -> None:
        client.ask(order("OPEN"))
        row = client.trade("GET_ACCOUNT_INFO")["_data"][0]
        assert (row["account_balance"], row["account_equity"]) == (10_000.0, 9_999.9)
        assert (row["account_profit"], row["account_free_margin"]) == (-0.1, 9_889.9)
        client.ask(order("OPEN", kind=1))
        # Of two hedged positions only the larger one reserves margin.
        row = client.trade("GET_ACCOUNT_INFO")["_data"][0]
        assert row["account_free_margin"] == 9_889.8

    talk(script)


def trading(stop_level: int = 0) -> tuple[Mt4Trading, SteppedClock]:
    clock = SteppedClock(START + 30_000)
    model = Mt4Model({EURUSD: recording()}, clock, "EET-US")
    return Mt4Trading(model, stop_level=stop_level), clock


@pytest.mark.parametrize(
    ("kind", "price", "filled"),
    [
        (OrderKind.BUY_LIMIT, 1.0995, 1.0995),
        (OrderKind.SELL_LIMIT, 1.1015, 1.1015),
        (OrderKind.BUY_STOP, 1.1015, 1.10201),
        (OrderKind.SELL_STOP, 1.0995, 1.099),
        (OrderKind.BUY_LIMIT, 1.0985, None),
    ],
)
def test_pending_orders_fill_when_a_quote_reaches_them(
    kind: OrderKind, price: float, filled: float | None
) -> None:
    account, clock = trading()
    ticket = account.send("EURUSD", kind, 0.1, price)
    clock.advance(START + 120_000)
    account.advance()
    after = account.tickets[ticket.number]
    if filled is None:
        assert after.kind is kind
    else:
        assert (int(after.kind), after.open_price) == (int(kind) % 2, filled)


@pytest.mark.parametrize(
    ("loss", "profit", "price", "gained"),
    [(1.0995, 0.0, 1.099, -10.1), (0.0, 1.1015, 1.1015, 14.9), (1.05, 1.2, 0.0, 0.0)],
)
def test_stop_loss_and_take_profit(loss: float, profit: float, price: float, gained: float) -> None:
    account, clock = trading()
    account.send("EURUSD", OrderKind.BUY, 0.1, 1.10001, loss, profit)
    clock.advance(START + 120_000)
    account.advance()
    assert [ticket.close_price for ticket in account.history] == ([price] if price else [])
    assert account.balance == round(10_000 + gained, 2)


def test_the_stop_level_keeps_orders_away_from_the_market() -> None:
    account, _ = trading(stop_level=100)
    with pytest.raises(TradeError, match="130"):
        account.send("EURUSD", OrderKind.BUY_LIMIT, 0.1, 1.0995)
    account.send("EURUSD", OrderKind.BUY_LIMIT, 0.1, 1.099)


def test_a_slip_is_worse_than_what_is_told() -> None:
    account, _ = trading()
    account.slips.extend([2, 2])
    bought = account.send("EURUSD", OrderKind.BUY, 0.1, 1.10001)
    assert bought.open_price == 1.10003
    assert account.close(bought.number, 0.1).close_price == 1.09998


def test_a_position_that_the_account_cannot_carry_is_closed() -> None:
    account, clock = trading()
    account.balance = 120.0
    account.send("EURUSD", OrderKind.BUY, 0.1, 1.10001)  # margin 110
    account.balance = 60.0
    clock.advance(START + 120_000)
    account.advance()
    assert account.tickets  # 60 and 9.9 of profit are more than half of the margin
    account.balance = 40.0
    clock.advance(START + 180_000)
    account.advance()
    assert not account.tickets


def test_the_account_outlives_the_expert_advisor() -> None:
    async def main() -> None:
        terminal = Mt4Terminal([recording()], SteppedClock(START + 30_000), inputs=WIDE)
        await terminal.start()
        terminal.trading.send("EURUSD", OrderKind.BUY, 0.1, 1.10001, comment="x" * 40)
        before = terminal.expert
        terminal.inject(Fault(FaultKind.RESTART))
        await eventually(lambda: terminal.expert is not before)
        assert terminal.expert.trading is terminal.trading
        assert terminal.trading.tickets[100001].comment == "x" * 31
        await terminal.stop()

    asyncio.run(main())
