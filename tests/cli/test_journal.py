"""``livetrader journal``: shown, verified and exported, whether a server runs or not."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from livetrader_core.errors import JournalInUse
from livetrader_core.models import Fill, Order, OrderStatus, OrderType, Side, TradeEvent
from livetrader_core.rpc import Client
from livetrader_core.trade.journal import Journal
from livetrader_core.trade.journal_copy import JournalCopy
from tests.cli.conftest import Run, served


@pytest.fixture
def journal(workplace: Path) -> Path:
    """A journal of one filled, one canceled and one open order."""
    path = workplace / "journal.sqlite"
    kept = Journal(path)
    for name, end in (("a", "filled"), ("b", "canceled"), ("c", "accepted")):
        order = Order(name, "US.BABA", Side.BUY, OrderType.MARKET, 10.0)
        kept.append(1000, order.but(status=OrderStatus.SUBMITTED, created_at=1000))
        kept.append(2000, order.but(status=OrderStatus.ACCEPTED, created_at=1000))
        if end == "filled":
            for number in (1, 2):
                fill = Fill(f"t{number}", name, "US.BABA", Side.BUY, 5.0, 100.0 + number, 0.5, 3000)
                status = OrderStatus.FILLED if number == 2 else OrderStatus.PARTIALLY_FILLED
                filled = order.but(status=status, filled=5.0 * number, average_price=101.5)
                kept.append(3000, filled, fill)
        elif end == "canceled":
            kept.append(4000, order.but(status=OrderStatus.CANCELED, reason="asked to"))
    kept.close()
    return path


def test_it_is_shown(journal: Path, cli: Run) -> None:
    table = cli("journal", "show").stdout
    for word in ("filled 5 at 101", "asked to", "submitted", "1970-01-01 00:00:04"):
        assert word in table
    assert "asked to" not in cli("journal", "show", "a", "c").stdout
    assert "submitted" not in cli("journal", "show", "--limit", "1").stdout
    assert cli("journal", "show", "--limit", "0").exit_code == 2
    assert cli("journal", "show", "nobody").stdout.strip() == "none"
    missing = cli("journal", "show", "--file", "elsewhere.sqlite")
    assert missing.exit_code == 1
    assert "elsewhere.sqlite: there is no such file" in missing.stderr


def test_a_sound_journal_is_said_to_be_sound_and_not_changed(journal: Path, cli: Run) -> None:
    before = journal.read_bytes()
    result = cli("journal", "verify")
    assert result.exit_code == 0, result.stdout
    assert "9 events, 3 orders, 2 fills" in result.stdout.replace("\n", " ")
    assert "holds together" in result.stdout
    assert journal.read_bytes() == before


def body(connection: sqlite3.Connection, seq: int, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    (text,) = connection.execute("SELECT body FROM events WHERE seq=?", (seq,)).fetchone()
    event = json.loads(text)
    change(event)
    connection.execute("UPDATE events SET body=? WHERE seq=?", (json.dumps(event), seq))


DAMAGE: list[tuple[Callable[[sqlite3.Connection], object], str]] = [
    (lambda c: c.execute("DELETE FROM events WHERE seq=2"), "follows event 1"),
    (lambda c: c.execute("DELETE FROM fills WHERE trade_id='t1'"), "not booked"),
    (lambda c: c.execute("DELETE FROM orders WHERE client_order_id='c'"), "not among the orders"),
    (lambda c: c.execute("UPDATE events SET body='{' WHERE seq=3"), "event 3 cannot be read"),
    (lambda c: c.execute("UPDATE orders SET body='[]' WHERE number=1"), "cannot be read"),
    (
        lambda c: c.execute("UPDATE orders SET body=replace(body, 'accepted', 'expired')"),
        "differs from its last event",
    ),
    (
        lambda c: c.execute("UPDATE fills SET body=replace(body, '101', '99')"),
        "differs from its event",
    ),
    (lambda c: body(c, 4, lambda e: e["order"].update(filled=8.0)), "8 of 10 only"),
    (lambda c: body(c, 4, lambda e: e["order"].update(filled=12.0)), "12 filled of 10"),
    (lambda c: body(c, 4, lambda e: e["order"].update(filled=2.0)), "falls from 5 to 2"),
    (lambda c: body(c, 4, lambda e: e["fill"].update(trade_id="t1")), "was booked before"),
    (lambda c: body(c, 3, lambda e: e["fill"].update(quantity=4.0)), "add up to 9"),
    (lambda c: body(c, 3, lambda e: e["fill"].update(quantity=-5.0)), "its fill is of -5"),
    (lambda c: body(c, 3, lambda e: e["fill"].update(side="sell")), "its fill is a sell"),
    (lambda c: body(c, 3, lambda e: e["fill"].update(client_order_id="b")), "belongs to order b"),
    (lambda c: body(c, 2, lambda e: e["order"].update(status="canceled")), "goes from canceled"),
    (lambda c: body(c, 2, lambda e: e["order"].update(symbol="US.X")), "was a buy of US.X"),
    (lambda c: body(c, 2, lambda e: e.update(seq=9)), "calls itself 9"),
    (lambda c: body(c, 3, lambda e: e["order"].update(status="submitted")), "goes back from"),
    (lambda c: body(c, 3, lambda e: e["order"].update(filled="much")), "event 3 makes no sense"),
    (lambda c: body(c, 3, lambda e: e["fill"].update(symbol="BABA")), "event 3 makes no sense"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGE, ids=[told for _, told in DAMAGE])
def test_every_damage_is_told(
    journal: Path, cli: Run, damage: Callable[[sqlite3.Connection], object], told: str
) -> None:
    connection = sqlite3.connect(journal)
    with connection:
        damage(connection)
    connection.close()
    result = cli("journal", "verify")
    assert result.exit_code == 1
    assert told in " ".join(result.stdout.split())
    assert "docs/journal.md" in result.stderr


def test_fills_that_a_crash_kept_from_the_journal_are_no_damage(journal: Path, cli: Run) -> None:
    kept = Journal(journal)
    order = Order("d", "US.BABA", Side.BUY, OrderType.MARKET, 10.0)
    kept.append(5000, order.but(status=OrderStatus.SUBMITTED))
    kept.append(6000, order.but(status=OrderStatus.FILLED, filled=10.0, average_price=100.0))
    kept.close()
    result = cli("journal", "verify")
    assert result.exit_code == 1
    assert "missing order d: 10 filled, but its fills add up to 0" in " ".join(
        result.stdout.split()
    )
    assert "fault" not in result.stdout
    assert "when it starts" in " ".join(result.stderr.split())
    assert "keep the file as it is" not in result.stderr
    kept = Journal(journal)
    fill = Fill("t9", "d", "US.BABA", Side.BUY, 10.0, 100.0, 0.5, 6000)
    kept.append(7000, order.but(status=OrderStatus.FILLED, filled=10.0, average_price=100.0), fill)
    kept.close()
    assert cli("journal", "verify").exit_code == 0


def test_bytes_that_were_overwritten_are_told(journal: Path, cli: Run) -> None:
    content = bytearray(journal.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xff" * 4096
    journal.write_bytes(content)
    result = cli("journal", "verify")
    assert result.exit_code == 1
    assert "damaged" in result.stdout + result.stderr
    journal.write_text("no database at all, but a text that is long enough to be one" * 20)
    broken = cli("journal", "verify")
    assert broken.exit_code == 1
    assert "damaged or not a journal" in broken.stderr


def test_it_is_exported(journal: Path, cli: Run, workplace: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("journal", "export", "orders").stdout)))
    assert [(row["client_order_id"], row["status"]) for row in rows] == [
        ("a", "filled"),
        ("b", "canceled"),
        ("c", "accepted"),
    ]
    lines = cli("journal", "export", "fills", "--format", "jsonl").stdout.splitlines()
    assert [Fill.from_dict(json.loads(line)).trade_id for line in lines] == ["t1", "t2"]
    done = cli("journal", "export", "events", "--output", str(workplace / "events.csv"))
    assert "events.csv: 9 events" in " ".join(done.stderr.split())
    events = list(csv.DictReader(io.StringIO((workplace / "events.csv").read_text())))
    whole = cli("journal", "export", "events", "--format", "jsonl").stdout.splitlines()
    kept = Journal(journal)
    assert [TradeEvent.from_dict(json.loads(line)) for line in whole] == kept.events_after(0)
    kept.close()
    assert [int(row["seq"]) for row in events] == list(range(1, 10))
    assert [row["fill_trade_id"] for row in events if row["fill_trade_id"]] == ["t1", "t2"]


def test_an_export_that_fails_leaves_what_was_there(
    journal: Path, cli: Run, workplace: Path
) -> None:
    target = workplace / "events.csv"
    target.write_text("of yesterday")
    with sqlite3.connect(journal) as connection:
        connection.execute("UPDATE events SET body='[]' WHERE seq=5")
    connection.close()
    before = sorted(workplace.iterdir())
    result = cli("journal", "export", "events", "--output", str(target))
    assert result.exit_code == 1
    assert "row 5 of events cannot be read" in result.stderr
    assert target.read_text() == "of yesterday"
    assert sorted(workplace.iterdir()) == before
    nowhere = cli("journal", "export", "fills", "--output", "no/such/folder.csv")
    assert nowhere.exit_code == 1
    assert "no/such/folder.csv: cannot be written: No such file" in nowhere.stderr


def test_an_empty_export_has_its_columns(workplace: Path, cli: Run) -> None:
    Journal(workplace / "journal.sqlite").close()
    assert cli("journal", "export", "fills").stdout.startswith("trade_id,client_order_id,symbol")
    assert cli("journal", "export", "events").stdout.startswith("seq,clock,client_order_id")
    assert cli("journal", "export", "orders", "--format", "jsonl").stdout == ""


def test_what_a_killed_server_left_is_read_without_a_trace(workplace: Path, cli: Run) -> None:
    with served(workplace) as server, Client(5.0) as client:
        client.connect(f"ipc://{workplace}/server")
        for number in range(5):
            client.create_order(
                Order(f"k-{number}", "US.BABA", Side.BUY, OrderType.LIMIT, 1.0, price=10.0)
            )
        server.kill()
        server.wait(10.0)
    assert (workplace / "journal.sqlite-wal").stat().st_size > 0
    before = {path: path.read_bytes() for path in workplace.glob("journal*")}
    verified = cli("journal", "verify")
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert "10 events, 5 orders" in " ".join(verified.stdout.split())
    assert "k-4" in cli("journal", "show", "--limit", "2").stdout
    assert {path: path.read_bytes() for path in workplace.glob("journal*")} == before


def test_who_reads_it_keeps_no_server_from_starting(journal: Path) -> None:
    with JournalCopy(journal) as copy:
        events = copy.events()
        assert next(events).seq == 1
        server = Journal(journal)
        order = Order("z", "US.BABA", Side.BUY, OrderType.MARKET, 1.0)
        server.append(5000, order.but(status=OrderStatus.SUBMITTED))
        with pytest.raises(JournalInUse, match="another process has it open"):
            JournalCopy(journal)
        rival = sqlite3.connect(journal, timeout=0.1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            rival.execute("SELECT * FROM events").fetchall()
        rival.close()
        assert [event.seq for event in events] == list(range(2, 10))
        server.close()
    with JournalCopy(journal) as copy:
        assert copy.count() == 10


def test_that_of_a_running_server_is_read_by_the_server(workplace: Path, cli: Run) -> None:
    with served(workplace), Client(5.0) as client:
        client.connect(f"ipc://{workplace}/server")
        for number in range(60):
            client.create_order(
                Order(f"n-{number}", "US.BABA", Side.BUY, OrderType.LIMIT, 1.0, price=10.0)
            )
        verified = cli("journal", "verify")
        assert verified.exit_code == 0, verified.stdout + verified.stderr
        assert "120 events, 60 orders" in " ".join(verified.stdout.split())
        assert "running server's journal" in verified.stdout
        assert "n-59" in cli("journal", "show").stdout
        named = cli("journal", "show", "n-3", "--endpoint", f"ipc://{workplace}/server")
        assert "n-3" in named.stdout
        locked = cli("journal", "show", "--file", "journal.sqlite")
        assert locked.exit_code == 1
        assert "another process has it open" in locked.stderr
    after = cli("journal", "verify")
    assert after.exit_code == 0
    assert "running server" not in after.stdout
