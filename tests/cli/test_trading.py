"""Orders, positions, balance, cancel, kill, reconcile: against a server in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.errors import OrderRejected
from livetrader_core.models import Order, OrderType, Side, TimeInForce
from livetrader_core.rpc import Client, MarketSubscriber
from tests.cli.conftest import Run, served, wait_until

LIMIT = {"type": OrderType.LIMIT, "price": 10.0}


def place(client: Client, name: str, symbol: str = "US.BABA", **wish: Any) -> Order:
    fields: dict[str, Any] = {"side": Side.BUY, "quantity": 1.0, **LIMIT, **wish}
    return client.create_order(Order(name, symbol, **fields))


def test_what_works_is_listed_canceled_and_then_history(workplace: Path, cli: Run) -> None:
    with served(workplace), Client(5.0) as client:
        client.connect(f"ipc://{workplace}/server")
        assert "none" in cli("orders").stdout
        place(client, "a-1", time_in_force=TimeInForce.DAY)
        place(client, "a-2", "FOREX.EURUSD", price=1.01, quantity=0.25)
        place(client, "a-3", price=11.25)
        table = cli("orders").stdout
        for word in ("a-1", "a-2", "buy limit", "1.01", "0.25", "11.25", "accepted", "day"):
            assert word in table
        assert "a-2" not in cli("orders", "--symbol", "US.BABA").stdout
        told = json.loads(cli("orders", "--json").stdout)
        assert [order["client_order_id"] for order in told] == ["a-1", "a-2", "a-3"]
        assert cli("orders", "--since", "2099-01-01").stdout.strip() == "none"
        assert cli("orders", "--all", "--fills").exit_code == 2

        unattended = cli("cancel", "--all")
        assert unattended.exit_code == 2
        assert "say --yes" in unattended.stderr
        assert cli("cancel").exit_code == 2
        assert cli("cancel", "a-1", "--all").exit_code == 2
        one = cli("cancel", "a-1", "a-9")
        assert one.exit_code == 1
        assert "a-1: canceled" in one.stdout
        assert "a-9: not canceled: there is no order a-9" in one.stdout
        some = cli("cancel", "--all", "--symbol", "US.BABA", "--yes")
        assert (some.exit_code, some.stdout) == (0, "a-3: canceled\n")
        again = cli("cancel", "a-3")
        assert again.exit_code == 1
        assert "is canceled already" in again.stdout
        assert "a-2: canceled" in cli("cancel", "--all", "--yes").stdout
        assert "nothing to cancel" in cli("cancel", "--all", "--yes").stdout
        assert cli("orders").stdout.strip() == "none"
        assert cli("orders", "--all").stdout.count("canceled") == 3


def test_positions_fills_and_balance(workplace: Path, cli: Run) -> None:
    with served(workplace), Client(5.0) as client:
        client.connect(f"ipc://{workplace}/server")
        assert "none" in cli("positions").stdout
        reader = MarketSubscriber(["US.BABA", "FOREX.EURUSD"])
        reader.connect(f"ipc://{workplace}/server")
        client.begin_replay(1_762_182_000_000)  # 2025-11-03T15:00Z
        place(client, "b-1", type=OrderType.MARKET, price=0.0, quantity=100.0)
        reader.run()
        wait_until(lambda: bool(client.fetch_positions()))
        reader.close()
        (fill,) = client.fetch_fills()
        table = cli("positions").stdout
        assert "US.BABA" in table
        assert "100" in table
        (position,) = json.loads(cli("positions", "--json").stdout)
        assert position == {"symbol": "US.BABA", "quantity": 100.0, "average_price": fill.price}
        assert fill.trade_id in cli("orders", "--fills", "--symbol", "US.BABA").stdout
        assert json.loads(cli("orders", "--fills", "--json").stdout) == [fill.to_dict()]
        (balance,) = json.loads(cli("balance", "--json").stdout)
        assert f"{balance['cash']:,.2f}" in cli("balance").stdout
        status = cli("status").stdout
        for word in ("Positions", "US.BABA", "Balance", "USD"):
            assert word in status
        told = json.loads(cli("status", "--json").stdout)
        assert told["positions"] == [position]
        assert told["kill"]["on"] is False


def test_the_kill_switch_from_the_command_line(workplace: Path, cli: Run) -> None:
    with served(workplace), Client(5.0) as client:
        client.connect(f"ipc://{workplace}/server")
        place(client, "c-1")
        assert "is off" in cli("kill", "--status").stdout
        assert cli("kill").exit_code == 2
        assert cli("kill", "--status", "--lift").exit_code == 2
        killed = cli("kill", "--yes", "--reason", "wrong [parameters]")
        assert killed.exit_code == 0
        assert "wrong [parameters]" in killed.stdout
        assert cli("orders").stdout.strip() == "none"
        with pytest.raises(OrderRejected, match="livetrader kill --lift"):
            place(client, "c-2")
        assert "kill switch is on: wrong [parameters]" in cli("status").stdout
        assert json.loads(cli("kill", "--status", "--json").stdout)["on"] is True
        assert "is off" in cli("kill", "--lift", "--yes").stdout
        place(client, "c-3")


def test_books_that_agree(workplace: Path, cli: Run) -> None:
    with served(workplace):
        result = cli("reconcile")
        assert (result.exit_code, result.stdout) == (0, "the books agree\n")
        assert json.loads(cli("reconcile", "--json").stdout)["differences"] == []
        assert cli("orders", "--venue").stdout.strip() == "none"
