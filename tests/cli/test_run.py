"""``run``: a strategy file in each mode, against a server or none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from livetrader_core.cli.run import parse_cash, parse_params, typed
from tests.cli.conftest import STRATEGIES, SYMBOLS, Run, served

SMA = str(STRATEGIES / "sma_cross.py")
DAYS = ("--from", "2025-11-03", "--to", "2025-11-04T18:00", "--live-from", "2025-11-04T12:00")
USUAL = (SMA, "--symbols", ",".join(SYMBOLS), *DAYS, "--param", "fast=10", "--param", "slow=30")


def fills(told: str) -> list[dict[str, Any]]:
    run: dict[str, Any] = json.loads(told)
    found: list[dict[str, Any]] = run["fills"]
    return found


def test_backtest_and_paper_fill_alike_with_a_server_and_without(cli: Run, workplace: Path) -> None:
    alone = cli("run", *USUAL, "--json", "--cash", "100000")
    assert alone.exit_code == 0, alone.stderr
    assert "no server at" in alone.stderr
    assert len(fills(alone.stdout)) >= 10
    alone_on_paper = cli("run", *USUAL, "--json", "--mode", "paper")
    assert alone_on_paper.exit_code == 0, alone_on_paper.stderr
    assert fills(alone_on_paper.stdout) == fills(alone.stdout)
    with served(workplace):
        on_server = cli("run", *USUAL, "--json", "--mode", "paper")
    assert on_server.exit_code == 0, on_server.stderr
    assert on_server.stderr == ""
    assert fills(on_server.stdout) == fills(alone.stdout)


def test_a_run_is_told_as_a_table_and_drawn(cli: Run, workplace: Path) -> None:
    result = cli("run", *USUAL, "--cash", "100000", "--picture", "run.png")
    assert result.exit_code == 0, result.stderr
    for word in ("backtest", "US.BABA", "FOREX.EURUSD", "account (USD)", "drawdown"):
        assert word in result.stdout
    assert (workplace / "run.png").read_bytes().startswith(b"\x89PNG")


def test_live_without_a_server_is_refused(cli: Run, workplace: Path) -> None:
    result = cli("run", SMA, "--symbols", "US.BABA", "--mode", "live")
    assert result.exit_code == 1
    assert f"ipc://{workplace}/server: no server there" in result.stderr
    assert "livetrader serve" in result.stderr


def test_an_endpoint_that_is_named_must_answer(cli: Run) -> None:
    result = cli("run", *USUAL, "--endpoint", "tcp://127.0.0.1:9")
    assert result.exit_code == 1
    assert "tcp://127.0.0.1:9" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone.py", "--symbols", "US.BABA"), 1, "gone.py: there is no such strategy file"),
        ((SMA, "--symbols", "US.NONE"), 1, "US.NONE"),
        ((SMA, "--symbols", ","), 2, "names nothing"),
        ((SMA, "--symbols", "US.BABA", "--mode", "dream"), 2, "dream"),
        ((SMA, "--symbols", "US.BABA", "--timeframe", "7m"), 2, "7m"),
        ((SMA, "--symbols", "US.BABA", "--from", "monday"), 2, "'monday' is not a time"),
        ((SMA, "--symbols", "US.BABA", "--cash", "lots"), 2, "'lots' is neither"),
        (
            (SMA, "--symbols", "US.BABA", "--from", "2025-11-03", "--to", "2025-11-01"),
            2,
            "must be later than --from",
        ),
        ((SMA, "--symbols", "US.BABA", "--from", "2030-11-03"), 0, "no bars"),
        ((SMA, "--symbols", "US.BABA", "--param", "fats=3"), 2, "fats.*fast, slow"),
        ((SMA, "--symbols", "US.BABA", "--param", "fast=x"), 2, "fast: expected a number"),
        ((SMA, "--symbols", "US.BABA", "--param", "fast"), 2, "not NAME=VALUE"),
        ((SMA, "--symbols", "US.BABA", "--strategy", "Other"), 1, "no strategy Other.*SmaCross"),
    ],
)
def test_what_is_wrong_is_named(
    cli: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = cli("run", *arguments)
    assert result.exit_code == code
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("5", 3, 5),
        ("0.5", 3, 0.5),
        ("5", 3.0, 5.0),
        ("1e-3", 0.1, 0.001),
        ("true", False, True),
        ("0", True, False),
        ("5", "x", "5"),
        ("5", None, 5),
        ("None", None, None),
        ("true", None, True),
        ("US.BABA", None, "US.BABA"),
        ("(1, 2)", (3, 4), (1, 2)),
    ],
)
def test_parameters_take_the_kind_of_their_default(text: str, default: Any, value: Any) -> None:
    found = typed(text, default)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("text", "default"), [("x", 1), ("True", 1), ("maybe", True), ("5", (1,))])
def test_parameters_of_another_kind_are_refused(text: str, default: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        typed(text, default)


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_params(("name=a=b",), {"name": ""}) == {"name": "a=b"}


def test_cash_in_one_currency_or_several() -> None:
    assert parse_cash("1e5") == 100_000.0
    assert parse_cash("USD=1, CNY=2.5") == {"USD": 1.0, "CNY": 2.5}
    with pytest.raises(click.BadParameter):
        parse_cash("USD=many")
