"""``serve`` and ``status``, as processes of their own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Run, process, served


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_when_it_is_ready_and_leaves_nothing_behind(
    workplace: Path, number: signal.Signals
) -> None:
    before = {path.name for path in workplace.iterdir()}
    with process("serve", cwd=workplace) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(3)]
        assert f"ipc://{workplace}/server" in lines[0]
        assert "livetrader.toml" in lines[0]
        assert lines[1].split() == ["markets", "FOREX,", "US"]
        assert lines[2].split() == ["trading", "paper:", "FOREX,", "US"]
        server.send_signal(number)
        _, told = server.communicate(timeout=10)
    assert server.returncode == 0
    assert told == ""
    assert {path.name for path in workplace.iterdir()} - before == {"journal.sqlite"}


def test_a_second_server_is_refused(workplace: Path) -> None:
    with served(workplace):
        with process("serve", "--config-less", cwd=workplace) as wrong:
            assert wrong.wait(20) == 2
        (workplace / "second.toml").write_text(
            (workplace / "livetrader.toml").read_text().replace("journal.sqlite", "second.sqlite")
        )
        with process("--config", "second.toml", "serve", cwd=workplace) as second:
            _, told = second.communicate(timeout=20)
        assert second.returncode == 1
        assert f"ipc://{workplace}/server: another server is already there" in told


def test_an_endpoint_that_others_could_reach_is_refused(cli: Run) -> None:
    result = cli("serve", "--endpoint", "tcp://0.0.0.0:7000")
    assert result.exit_code == 1
    assert "tcp://0.0.0.0:7000: this server has no keys" in result.stderr


def test_a_configuration_without_markets_cannot_be_served(cli: Run, workplace: Path) -> None:
    (workplace / "livetrader.toml").write_text("[server]\nheartbeat = 1")
    result = cli("serve")
    assert result.exit_code == 1
    assert "livetrader.toml: markets: nothing to serve" in result.stderr


def test_status_of_a_server(workplace: Path, cli: Run) -> None:
    with served(workplace):
        table = cli("status")
        told = json.loads(cli("status", "--json").stdout)
        elsewhere = cli("status", "--endpoint", f"ipc://{workplace}/nobody")
    assert table.exit_code == 0
    for word in ("Server", "Markets", "Streams", f"ipc://{workplace}/server", "FOREX", "paper"):
        assert word in table.stdout
    assert told["endpoint"] == f"ipc://{workplace}/server"
    assert told["markets"]["US"]["trade"] == "paper"
    assert told["markets"]["US"]["paced"] is True
    assert elsewhere.exit_code == 1
    assert "nobody" in elsewhere.stderr
