"""Operations of the advisor, and the events that tell of orders."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livetrader_core.sim.mt4_trading import NOT_ENOUGH_MONEY, OrderKind
from tests.ea.client import NOON, EaClient, Refused, attached, connected, until
from tests.ea.terminal import EaTerminal

MINUTE = 60_000


def kinds(client: EaClient) -> list[tuple[str, str]]:
    return [(event["kind"], event["reason"]) for event in client.events()]


async def came(client: EaClient, count: int) -> list[dict[str, Any]]:
    await until(lambda: len(client.events()) >= count)
    return client.events()


def advance(terminal: EaTerminal, minutes: int) -> None:
    clock: Any = terminal.clock
    clock.advance(clock.now() + minutes * MINUTE)


def test_an_order_is_executed_once_however_often_it_is_asked_for() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            first = await client.order("a-1", lots=0.3)
            again = await client.order("a-1", lots=0.3)
            assert not first["repeated"]
            assert again == {**first, "repeated": True}
            (ticket,) = terminal.trading.tickets.values()
            assert (first["ticket"], first["price"]) == (ticket.number, ticket.open_price)
            assert (ticket.lots, ticket.comment, ticket.magic) == (0.3, "a-1", 77201)
            (event,) = await came(client, 1)
            assert (event["kind"], event["by"], event["order"]["op"]) == ("opened", "a-1", "a-1")

    asyncio.run(main())


def test_a_position_keeps_its_root_and_its_operation_over_parts() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            root = (await client.order("a", lots=1.0))["ticket"]
            first = await client.ask("close", "c1", root, "0.30", 3)
            second = await client.ask("close", "c2", first["rest"], "0.30", 3)
            last = await client.ask("close", "c3", second["rest"], "0.40", 3)
            assert (first["ticket"], last["rest"]) == (root, 0)
            events = await came(client, 4)
            told = [(e["kind"], e["by"], e["rest"], e["order"]["lots"]) for e in events]
            assert told == [
                ("opened", "a", 0, 1.0),
                ("parted", "c1", first["rest"], 0.3),
                ("parted", "c2", second["rest"], 0.3),
                ("closed", "c3", 0, 0.4),
            ]
            assert all(e["order"]["root"] == root and e["order"]["op"] == "a" for e in events)
            assert not terminal.trading.tickets
            profits = [e["order"]["profit"] for e in events[1:]]
            assert round(sum(profits), 2) == round(terminal.trading.balance - 100_000.0, 2)

    asyncio.run(main())


def test_a_stop_loss_that_closes_is_told_with_its_price() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            bid, ask = terminal.model.quote("EURUSD") or (0.0, 0.0)
            done = await client.order("a", lots=0.5, sl=bid - 0.00030, tp=ask + 0.00030)
            for _ in range(600):
                if not terminal.trading.tickets:
                    break
                advance(terminal, 1)
                terminal.trading.advance()
            events = await came(client, 2)
            (closed,) = terminal.trading.history
            last = events[-1]
            assert (last["kind"], last["by"]) == ("closed", "")
            assert last["reason"] == closed.comment[-3:-1]
            assert last["reason"] in ("sl", "tp")
            assert last["order"]["ticket"] == done["ticket"]
            assert last["order"]["close_price"] == closed.close_price
            assert last["order"]["profit"] == closed.profit

    asyncio.run(main())


def test_what_others_do_in_the_terminal_is_told_and_not_taken_for_ours() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            trading = terminal.trading
            _, ask = terminal.model.quote("EURUSD") or (0.0, 0.0)
            mine = trading.send("EURUSD", OrderKind.BUY, 0.2, ask, comment="by hand")
            limit = trading.send("EURUSD", OrderKind.BUY_LIMIT, 0.1, round(ask - 0.01, 5))
            await came(client, 2)
            trading.modify(limit.number, round(ask - 0.02, 5), 0.0, 0.0)
            trading.close(mine.number, 0.2)
            await came(client, 4)
            trading.delete(limit.number)
            await came(client, 5)
            told = [(e["kind"], e["reason"], e["order"]["op"], e["by"]) for e in client.events()]
            assert told[:2] == [("opened", "", "", ""), ("placed", "", "", "")]
            assert sorted(told[2:4]) == [("closed", "terminal", "", ""), ("modified", "", "", "")]
            assert told[4] == ("deleted", "terminal", "", "")

    asyncio.run(main())


def test_pending_orders_work_are_changed_filled_deleted_and_expire() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            bid, ask = terminal.model.quote("EURUSD") or (0.0, 0.0)
            far = await client.order("far", "buy_limit", 0.1, ask - 0.02)
            changed = await client.ask("modify", "m", far["ticket"], f"{ask - 0.03:.5f}", 0, 0, 0)
            assert changed["ticket"] == far["ticket"]
            await client.ask("delete", "d", far["ticket"])
            server = terminal.model.server_time() // 1000
            await client.order("late", "buy_limit", 0.1, ask - 0.02, expiration=server + 120)
            near = await client.order("near", "sell_limit", 0.1, bid + 0.00002)
            for _ in range(200):
                if all(not ticket.kind.pending for ticket in terminal.trading.tickets.values()):
                    break
                advance(terminal, 1)
                terminal.trading.advance()
            await until(lambda: ("filled", "") in kinds(client))
            await until(lambda: ("deleted", "expiration") in kinds(client))
            assert kinds(client)[:3] == [
                ("placed", "client"),
                ("modified", "client"),
                ("deleted", "client"),
            ]
            filled = next(e for e in client.events() if e["kind"] == "filled")
            assert (filled["order"]["ticket"], filled["order"]["op"]) == (near["ticket"], "near")

    asyncio.run(main())


def test_an_order_that_came_and_went_between_two_looks_is_told_twice() -> None:
    async def main() -> None:
        async with attached(timer=0.05) as terminal, connected(terminal) as client:
            await asyncio.sleep(0.06)
            _, ask = terminal.model.quote("EURUSD") or (0.0, 0.0)
            ticket = terminal.trading.send("EURUSD", OrderKind.BUY, 0.2, ask)
            terminal.trading.close(ticket.number, 0.2)
            events = await came(client, 2)
            assert [e["kind"] for e in events] == ["opened", "closed"]
            assert events[1]["order"]["profit"] == terminal.trading.history[0].profit

    asyncio.run(main())


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (("", "EURUSD", "buy", "0.1", 0, 0, 0, 3, 0), "bad_request"),
        (("o;1", "EURUSD", "buy", "0.1", 0, 0, 0, 3, 0), "bad_request"),
        (("x" * 32, "EURUSD", "buy", "0.1", 0, 0, 0, 3, 0), "bad_request"),
        (("o", "NOPE", "buy", "0.1", 0, 0, 0, 3, 0), "not_found"),
        (("o", "EURUSD", "hold", "0.1", 0, 0, 0, 3, 0), "bad_request"),
        (("o", "EURUSD", "buy", "-1", 0, 0, 0, 3, 0), "bad_request"),
        (("o", "EURUSD", "buy", "1e3", 0, 0, 0, 3, 0), "bad_request"),
        (("o", "EURUSD", "buy", "0.015", 0, 0, 0, 3, 0), "refused"),
        (("o", "EURUSD", "buy", "0", 0, 0, 0, 3, 0), "refused"),
        (("o", "EURUSD", "buy", "200", 0, 0, 0, 3, 0), "limit"),
        (("o", "EURUSD", "buy_limit", "0.1", 0, 0, 0, 3, 0), "bad_request"),
        (("o", "EURUSD", "buy_limit", "0.1", "9.9", 0, 0, 3, 0), "refused"),
        (("o", "EURUSD", "buy", "0.1", 0, "nan", 0, 3, 0), "bad_request"),
        (("o", "EURUSD", "buy", "0.1", 0, 0, 0, "3.5", 0), "bad_request"),
        (("o", "EURUSD", "buy", "0.1", 0, 0, 0, 3, "soon"), "bad_request"),
        (("o", "EURUSD", "buy", "0.1", 0, 0, 0, 3), "bad_request"),
    ],
)
def test_a_wrong_order_is_refused_and_nothing_happens(wrong: tuple[Any, ...], code: str) -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            with pytest.raises(Refused) as told:
                await client.ask("order", *wrong)
            assert told.value.code == code
            assert not terminal.trading.tickets

    asyncio.run(main())


def test_what_may_not_be_traded_is_refused_by_its_own_code() -> None:
    async def refused(client: EaClient, name: str) -> str:
        with pytest.raises(Refused) as told:
            await client.order(name)
        return str(told.value.code)

    async def main() -> None:
        async with attached(MaximumOrders=1) as terminal, connected(terminal) as client:
            terminal.switches.connected = False
            assert await refused(client, "a") == "no_connection"
            terminal.switches.connected, terminal.switches.trade_allowed = True, False
            assert await refused(client, "a") == "not_allowed"
            terminal.switches.trade_allowed, terminal.switches.context_busy = True, True
            assert await refused(client, "a") == "retry"
            terminal.switches.context_busy = False
            await client.order("a")
            assert await refused(client, "b") == "limit"
        async with attached(ReadOnly=True) as terminal, connected(terminal) as client:
            assert await refused(client, "a") == "read_only"
            assert not terminal.trading.tickets

    asyncio.run(main())


def test_a_refusal_stands_and_a_doubt_is_cleared_by_what_is_seen() -> None:
    async def main() -> None:
        async with attached() as terminal, connected(terminal) as client:
            terminal.trading.refusals.append(NOT_ENOUGH_MONEY)
            for _ in range(2):
                with pytest.raises(Refused) as told:
                    await client.order("poor")
                assert (told.value.code, told.value.number) == ("refused", NOT_ENOUGH_MONEY)
            assert (await client.ask("result", "poor"))["state"] == "refused"
            assert not terminal.trading.tickets
            # The broker does it, and the terminal says that it timed out.
            terminal.switches.lies = 1
            with pytest.raises(Refused) as told:
                await client.order("silent", lots=0.2)
            assert told.value.code == "doubt"
            (event,) = await came(client, 1)
            assert (event["by"], event["kind"]) == ("silent", "opened")
            done = await client.ask("result", "silent")
            assert (done["state"], done["ticket"]) == ("done", event["order"]["ticket"])
            # The same of a close.
            terminal.switches.lies = 1
            with pytest.raises(Refused):
                await client.ask("close", "shut", done["ticket"], "0.20", 3)
            await came(client, 2)
            assert (await client.ask("result", "shut"))["price"] == terminal.trading.history[
                0
            ].close_price
            with pytest.raises(Refused) as told:
                await client.ask("result", "never")
            assert told.value.code == "not_found"

    asyncio.run(main())


def test_orders_and_history_come_in_chunks() -> None:
    async def main() -> None:
        async with attached(balance=10_000_000.0) as terminal, connected(terminal) as client:
            _, ask = terminal.model.quote("EURUSD") or (0.0, 0.0)
            tickets = [
                terminal.trading.send("EURUSD", OrderKind.BUY, 0.01, ask) for _ in range(120)
            ]
            found: list[int] = []
            start = 0
            while True:
                part = await client.ask("orders", start)
                found += [order["ticket"] for order in part["orders"]]
                start = part["next"]
                if not start:
                    break
            assert found == [ticket.number for ticket in tickets]
            await came(client, 120)
            for ticket in tickets:
                terminal.trading.close(ticket.number, 0.01)
            await came(client, 240)
            closed: list[int] = []
            position = 0
            while True:
                part = await client.ask("history", 0, 2_000_000_000, position)
                closed += [order["ticket"] for order in part["orders"]]
                position = part["next"]
                if not position:
                    break
            assert closed == found
            assert (await client.ask("history", 0, NOON // 1000 - 86_400, 0))["orders"] == []
            single = await client.ask("ticket", found[7])
            assert single["order"]["close_time"] > 0
            told = await client.ask("events", 0)
            assert [e["number"] for e in told["events"]] == list(range(1, 51))
            assert (told["oldest"], told["last"]) == (1, 240)

    asyncio.run(main())
