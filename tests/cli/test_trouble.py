"""Commands at a venue that is slow, down, or holds what nobody here ordered."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from livetrader_core.cli import context, status
from livetrader_core.cli.app import livetrader
from livetrader_core.errors import NotConnected, OrderRejected, OutcomeUnknown
from livetrader_core.models import Fill, Order, OrderStatus, Position, Side
from livetrader_core.rpc import Client
from livetrader_core.service import MarketService
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.service import TradeService
from tests.cli.conftest import Run
from tests.support.scripted_market import ScriptedMarket, contract
from tests.support.serving import serving
from tests.trade.scripted_venue import NOW, ScriptedVenue, order


class TroubledVenue(ScriptedVenue):
    """Its positions cannot be had while it is ``down``; ``cancels`` says how it cancels."""

    keeps_books = True

    def __init__(self, market: str = "US") -> None:
        super().__init__(market)
        self.down = False
        self.cancels = "at once"

    @property
    def lost(self) -> str:
        return "the cable is out" if self.down else ""

    async def fetch_positions(self) -> list[Position]:
        if self.down:
            raise NotConnected("the line to the venue is down")
        return await super().fetch_positions()

    async def cancel_order(self, client_order_id: str) -> None:
        if self.cancels == "never":
            return
        if self.cancels == "fills":
            before = self.orders[client_order_id]
            self.orders[client_order_id] = done = before.but(
                status=OrderStatus.FILLED, filled=before.quantity, average_price=100.0
            )
            self.tell(done)
            return
        await super().cancel_order(client_order_id)
        if self.cancels == "without an answer":
            raise OutcomeUnknown(f"order {client_order_id}: the cancel was not answered")


class Desk:
    """A served venue and what one asks the command line about it."""

    def __init__(self, venue: TroubledVenue, endpoint: str, client: Client) -> None:
        self.venue = venue
        self.endpoint = endpoint
        self.client = client

    def cli(self, *arguments: str) -> Result:
        result = CliRunner(env={"COLUMNS": "160"}).invoke(
            livetrader, [*arguments, "--endpoint", self.endpoint]
        )
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result


@contextmanager
def at_a_desk(
    journal: Path | None = None,
    prepare: Callable[[TroubledVenue], object] = bool,
    others: Sequence[TroubledVenue] = (),
) -> Iterator[Desk]:
    venue = TroubledVenue()
    prepare(venue)

    def make() -> tuple[Any, ...]:
        market = MarketService(ScriptedMarket([contract()], clocked=False))
        return market, TradeService([venue, *others], journal, market=market, ask_every=0.1)

    with serving(make) as endpoint, Client(5.0) as client:
        client.connect(endpoint)
        yield Desk(venue, endpoint, client)


@pytest.fixture
def desk(workplace: Path) -> Iterator[Desk]:
    with at_a_desk() as made:
        yield made


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lt"))
    yield folder
    shutil.rmtree(folder)


def hold(venue: TroubledVenue) -> None:
    """The venue holds five that no order here explains."""
    venue.fills.append(Fill("x-1", "", "US.A", Side.BUY, 5.0, 100.0, 0.0, NOW))


def test_ids_and_reasons_are_shown_as_they_are(desk: Desk) -> None:
    for name in ("[/a]", "[red]b"):
        desk.client.create_order(order(name))

    async def refuse(wish: Order) -> None:
        raise OrderRejected("no [/such] lot")

    desk.venue.on_create = refuse
    with pytest.raises(OrderRejected):
        desk.client.create_order(order("c"))
    for arguments in (("orders", "--all"), ("journal", "show"), ("status",)):
        shown = desk.cli(*arguments).stdout
        assert "[/a]" in shown
        assert "[red]b" in shown
    assert "no [/such] lot" in " ".join(desk.cli("journal", "show", "c").stdout.split())


def test_a_cancel_that_the_venue_does_not_do(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.client.create_order(order(name))
    desk.venue.cancels = "never"
    left = desk.cli("cancel", "a", "a", "--wait", "0.1")
    assert left.exit_code == 1
    assert left.stdout.count("a: not canceled yet, it is accepted") == 1
    desk.venue.cancels = "fills"
    filled = desk.cli("cancel", "b")
    assert (filled.exit_code, filled.stdout) == (1, "b: not canceled, it is filled\n")
    desk.venue.cancels = "without an answer"
    heard = desk.cli("cancel", "a")
    assert (heard.exit_code, heard.stdout) == (0, "a: canceled\n")


def test_a_kill_tells_what_is_left_and_that_the_switch_is_on(desk: Desk) -> None:
    desk.client.create_order(order("a"))
    desk.venue.cancels = "never"
    slow = desk.cli("kill", "--yes", "--wait", "0.1")
    assert slow.exit_code == 1
    assert "the kill switch is on" in slow.stdout
    assert "still open: order a (accepted)" in slow.stderr
    desk.venue.cancels = "at once"
    hold(desk.venue)
    desk.venue.down = True
    blind = desk.cli("kill", "--flatten", "--yes", "--wait", "0.1")
    assert blind.exit_code == 1
    assert "the kill switch is on" in blind.stdout
    assert "the line to the venue is down" in blind.stderr
    desk.venue.down = False
    held = desk.cli("kill", "--flatten", "--yes", "--wait", "0.1")
    assert held.exit_code == 1
    assert "still held: 5 US.A" in held.stderr


def test_books_that_disagree_at_the_start_stop_orders_until_they_are_accepted(
    short_folder: Path, workplace: Path
) -> None:
    journal = short_folder / "journal.sqlite"
    with at_a_desk(journal) as before:
        assert before.cli("reconcile").exit_code == 0
    with at_a_desk(journal, hold) as desk:
        desk.venue.take(order("elsewhere"))
        with pytest.raises(OrderRejected, match="`livetrader reconcile --accept`"):
            desk.client.create_order(order("a"))
        told = desk.cli("reconcile")
        assert told.exit_code == 1
        shown = " ".join(told.stdout.split())
        assert "US.A: the venue holds 5, by the journal it should be 0" in shown
        assert "new orders are refused" in shown
        assert "elsewhere" in shown
        assert "reconcile --accept" in told.stderr
        assert "elsewhere" in desk.cli("orders", "--venue").stdout
        assert "elsewhere" not in desk.cli("orders").stdout
        unattended = desk.cli("reconcile", "--accept")
        assert unattended.exit_code == 2
        assert "say --yes" in unattended.stderr
        assert desk.cli("reconcile").exit_code == 1
        accepted = desk.cli("reconcile", "--accept", "--yes")
        assert accepted.exit_code == 0, accepted.stdout
        assert "the books agree" in accepted.stdout
        desk.client.create_order(order("b"))
    kept = Journal(journal)
    assert [o.client_order_id for o in kept.orders()] == ["a", "b"]
    kept.close()


def test_one_venue_that_is_down_hides_nothing_else(desk: Desk) -> None:
    desk.client.create_order(order("a"))
    desk.venue.down = True
    desk.cli("reconcile")
    shown = " ".join(desk.cli("status").stdout.split())
    assert "Positions not known: the line to the venue is down" in shown
    assert "lost: the cable is out" in shown
    assert "The books differ: TroubledVenue could not be asked" in shown
    assert "buy market" in shown
    told = json.loads(desk.cli("status", "--json").stdout)
    assert told["positions"] is None
    assert told["lost"] == {"US": "the cable is out"}
    assert told["unknown"] == {"positions": "the line to the venue is down"}
    assert told["balances"] == []
    assert [o["client_order_id"] for o in told["open_orders"]] == ["a"]
    desk.venue.down = False
    assert json.loads(desk.cli("status", "--json").stdout)["positions"] == []


def test_of_several_venues_those_that_can_be_asked_are_shown(workplace: Path) -> None:
    other = TroubledVenue("FOREX")
    held = Fill("f-1", "", "FOREX.EURUSD", Side.BUY, 2.0, 1.1, 0.0, NOW)
    other.fills.append(held)
    with at_a_desk(others=[other]) as desk:
        assert desk.cli("positions").exit_code == 0
        desk.venue.down = True
        for arguments in (("positions",), ("positions", "--json")):
            shown = desk.cli(*arguments)
            assert shown.exit_code == 1
            assert "FOREX.EURUSD" in shown.stdout
            assert "US: not known: the line to the venue is down" in shown.stderr
        told = json.loads(desk.cli("status", "--json").stdout)
        assert [p["symbol"] for p in told["positions"]] == ["FOREX.EURUSD"]
        assert told["away"] == {"US": "the line to the venue is down"}
        shown = desk.cli("status")
        words = " ".join(shown.stdout.split())
        assert "US: positions and balance are not known: the line to the venue is down" in words
        assert "FOREX.EURUSD" in words
        other.down = True
        both = desk.cli("positions")
        assert (both.exit_code, both.stdout) == (1, "")
        assert "the line to the venue is down" in both.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(("orders",), ("positions",), ("balance",), ("cancel",), ("kill",), ("reconcile",)),
        *(("status",), ("journal", "show"), ("journal", "verify"), ("journal", "export")),
    ],
    ids=" ".join,
)
def test_help_has_an_example(cli: Run, words: tuple[str, ...]) -> None:
    assert f"\n  livetrader {' '.join(words)}" in cli(*words, "--help").stdout


@pytest.mark.parametrize(
    "words",
    [
        *(("orders",), ("positions",), ("balance",), ("cancel", "a"), ("kill", "--yes")),
        *(("reconcile",), ("status",)),
    ],
    ids=" ".join,
)
def test_a_missing_server_is_told_in_a_line_that_says_what_to_do(
    cli: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PROBE_TIMEOUT", 0.1)
    monkeypatch.setattr(status, "PROBE_TIMEOUT", 0.1)
    result = cli(*words, "--endpoint", "ipc:///tmp/lt-nobody")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "ipc:///tmp/lt-nobody: no server there" in line
    assert "`livetrader serve` starts one" in line
