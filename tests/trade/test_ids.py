"""client_order_ids never meet."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from livetrader_core.ids import OrderIds, default_path
from livetrader_core.trade.request import check_id


def test_ids_of_many_runs_differ_and_fit_every_venue(tmp_path: Path) -> None:
    made = []
    for _ in range(40):
        ids = OrderIds(tmp_path / "ids.db")
        made += [ids.next() for _ in range(40)]
    for made_id in made:
        check_id(made_id)
    assert len(set(made)) == 1600


def test_long_lives_fit_too(tmp_path: Path) -> None:
    ids = OrderIds(tmp_path / "ids.db")
    assert len(ids.run) + 1 + len("zzzzzz") <= 20


def test_runs_that_begin_at_once_differ(tmp_path: Path) -> None:
    runs: list[str] = []
    threads = [
        threading.Thread(target=lambda: runs.append(OrderIds(tmp_path / "ids.db").run))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(runs)) == 8


def test_copied_file_does_not_continue_the_original(tmp_path: Path) -> None:
    first = OrderIds(tmp_path / "ids.db")
    shutil.copy(tmp_path / "ids.db", tmp_path / "copy.db")
    assert OrderIds(tmp_path / "copy.db").run.split(".")[0] != first.run.split(".")[0]


def test_earlier_ids_are_those_of_runs_that_are_over(tmp_path: Path) -> None:
    path = tmp_path / "ids.db"
    first, second = OrderIds(path), OrderIds(path)
    first.hold()
    second.hold()
    name = first.next()
    assert not second.is_earlier(name)
    first.release()
    first.release()
    assert second.is_earlier(name)
    assert not second.is_earlier(second.next())
    assert not second.is_earlier(OrderIds(tmp_path / "other.db").next())
    assert not second.is_earlier("manual-1")
    second.release()
    assert {file.name for file in tmp_path.iterdir()} == {"ids.db", "other.db"}


def test_ids_of_a_run_that_was_killed_are_earlier(tmp_path: Path) -> None:
    path = tmp_path / "ids.db"
    dying = (
        "import os, sys; from livetrader_core.ids import OrderIds; ids = OrderIds(sys.argv[1]); "
        "ids.hold(); print(ids.next(), flush=True); sys.stdin.read(); os._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", dying, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        ids = OrderIds(path)
        assert not ids.is_earlier(name)
        process.kill()
    assert ids.is_earlier(name)
    assert [file.name for file in tmp_path.iterdir()] == ["ids.db"]


@pytest.mark.parametrize("damage", ["folder", "garbage"])
def test_file_that_cannot_be_used_gives_random_ids_and_says_so(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ids.db"
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"no database " * 1000)
    with caplog.at_level(logging.WARNING):
        ids = [OrderIds(path) for _ in range(2)]
    assert ids[0].run != ids[1].run
    check_id(ids[0].next())
    assert str(path) in caplog.text


def test_default_file_lies_in_the_users_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ids = OrderIds()
    assert default_path() == ids.path
    assert ids.path.is_file()
    assert tmp_path in ids.path.parents
