"""The journal on a real disk: killed, full, damaged, shared."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from livetrader_core.errors import StorageError
from livetrader_core.models import OrderStatus
from livetrader_core.trade import Journal
from tests.trade.scripted_venue import NOW, ScriptedVenue, order

REPO = Path(__file__).resolve().parents[2]


def script(body: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPO,
    )


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    journal = Journal(path)
    venue = ScriptedVenue()
    venue.take(order("a-1"))
    fill = venue.fill("a-1", 0.1 + 0.2, "t-1")
    written = [
        journal.append(NOW, order("a-1")),
        journal.append(NOW, order("a-2")),
        journal.append(NOW, venue.orders["a-1"].but(status=OrderStatus.FILLED), fill),
    ]
    start_id = journal.start_id
    journal.close()

    journal = Journal(path)
    assert journal.start_id == start_id
    assert journal.seq == 3
    assert journal.events_after(0) == written
    assert [o.client_order_id for o in journal.orders()] == ["a-1", "a-2"]
    assert journal.open_orders() == [order("a-2")]
    assert journal.fills() == [fill]
    assert journal.fills(NOW + 1) == []
    assert journal.has_fill(fill)
    assert journal.filled("a-1") == fill.quantity
    assert journal.order("a-3") is None
    journal.close()


def test_order_survives_a_killed_process(tmp_path: Path) -> None:
    body = """
        import asyncio, sys
        from livetrader_core.trade import TradeService
        from tests.trade.scripted_venue import ScriptedVenue, order

        async def main():
            service = TradeService(ScriptedVenue(), sys.argv[1])
            await service.connect()
            for n in range(1000):
                await service.create_order(order(f"a-{n}"))
                print(n, flush=True)
                if n == 20:
                    await asyncio.Event().wait()
        asyncio.run(main())
    """
    path = tmp_path / "journal.db"
    process = script(body, str(path))
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(21)]
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()
    assert lines == [str(n) for n in range(21)]

    journal = Journal(path)
    assert [o.client_order_id for o in journal.orders()] == [f"a-{n}" for n in range(21)]
    assert {o.status for o in journal.orders()} == {OrderStatus.ACCEPTED}
    assert [e.seq for e in journal.events_after(0)] == list(range(1, 43))
    journal.close()


FULL_DISK = """
    import asyncio, logging, resource, signal, sys
    from livetrader_core.errors import StorageError
    from livetrader_core.trade import TradeService
    from tests.trade.scripted_venue import ScriptedVenue, order, until

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    logging.disable()
    path = sys.argv[1]

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def refused(service, venue, name):
        try:
            await service.create_order(order(name))
        except StorageError as error:
            assert path in str(error), error
            assert f"{name} was not sent" in str(error), error
            assert "disk full" in str(error), error
        else:
            raise AssertionError("the order was taken")
        assert name not in venue.arrived

    async def main(size):
        venue = ScriptedVenue()
        service = TradeService(venue, path, ask_every=0.01)
        await service.connect()
        heard = []
        service.add_listener(lambda event: heard.append(event.seq))
        await service.create_order(order("before"))
        limit(size)
        await refused(service, venue, "during-1")
        assert await service.fetch_order("before") is not None
        for n in range(3):
            venue.fill("before", 2.0, f"t-{n}")
        await venue.told()
        assert len(await service.fetch_fills()) == 3
        await refused(service, venue, "during-2")
        limit(resource.RLIM_INFINITY)
        await until(lambda: len(heard) >= 5)
        assert (await service.fetch_order("before")).filled == 6.0
        await service.create_order(order("after"))
        assert venue.arrived == ["before", "after"], venue.arrived
        assert heard == list(range(1, 8)), heard
        assert [e.seq for e in service.events_after(0)] == heard
        assert [o.client_order_id for o in await service.fetch_orders()] == ["before", "after"]
        await service.stop()
        print("fine")

    asyncio.run(main(int(sys.argv[2])))
"""


@pytest.mark.parametrize("size", [0, 100, 5000, 20_000])
def test_full_disk_loses_nothing_and_sends_nothing(tmp_path: Path, size: int) -> None:
    process = script(FULL_DISK, str(tmp_path / "journal.db"), str(size))
    output, _ = process.communicate(timeout=60)
    assert output == "fine\n"
    journal = Journal(tmp_path / "journal.db")
    assert journal.seq == 7
    assert journal.filled("before") == 6.0
    journal.close()


def test_repeated_write_of_a_commit_that_had_reached_the_disk_is_found(tmp_path: Path) -> None:
    class Late(Journal):
        fail = False

        def _connect(self) -> sqlite3.Connection:
            journal = self

            class Connection(sqlite3.Connection):
                def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
                    cursor = super().execute(sql, *values)
                    if journal.fail and sql == "COMMIT":
                        journal.fail = False
                        raise sqlite3.OperationalError("disk I/O error")
                    return cursor

            original = sqlite3.connect
            sqlite3.connect = lambda *a, **k: original(*a, factory=Connection, **k)  # type: ignore[assignment]
            try:
                return super()._connect()
            finally:
                sqlite3.connect = original

    journal = Late(tmp_path / "journal.db")
    journal.append(NOW, order("a-1"))
    journal.fail = True
    with pytest.raises(StorageError, match="disk full"):
        journal.append(NOW, order("a-2"))
    assert journal.append(NOW, order("a-2")).seq == 2
    assert journal.append(NOW, order("a-3")).seq == 3
    assert [e.seq for e in journal.events_after(0)] == [1, 2, 3]
    journal.close()


def test_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = Journal(path)
    with pytest.raises(StorageError, match="another process has it open") as caught:
        Journal(path)
    assert str(path) in str(caught.value)
    first.close()
    Journal(path).close()


def test_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StorageError, match="version 99, this livetrader knows version 1"):
        Journal(path)


def test_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(StorageError, match="damaged or not a journal") as caught:
        Journal(path)
    assert str(path) in str(caught.value)


def test_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/journal\.db"):
        Journal(tmp_path / "file" / "journal.db")


def test_open_and_close_may_be_repeated(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    journal.append(NOW, order())
    journal.close()
    journal.close()
    assert journal.seq == 1
    assert len(journal.orders()) == 1  # reading opens it again
    journal.close()
    assert not os.path.exists(tmp_path / "journal.db-wal")
