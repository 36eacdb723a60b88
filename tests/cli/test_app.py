"""The root command: help, version, errors and exit codes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import Run, process


def test_help_names_every_command(cli: Run) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    for name in ("serve", "run", "history", "status", "demo", "--config", "--verbose"):
        assert name in result.output
    for line in result.output.split("Commands:")[1].splitlines()[1:6]:
        assert len(line.split(maxsplit=1)) == 2, f"no help: {line}"


@pytest.mark.parametrize("command", ["serve", "run", "history", "status", "demo"])
def test_every_command_has_help(cli: Run, command: str) -> None:
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert len(result.output) > 200


def test_version(cli: Run) -> None:
    assert cli("--version").output == f"livetrader {version('livetrader')}\n"


def test_wrong_usage_ends_with_2(cli: Run) -> None:
    assert cli("sevre").exit_code == 2
    assert cli("run").exit_code == 2
    assert cli("status", "--jsn").exit_code == 2


def test_an_error_is_one_clear_line(cli: Run, workplace: Path) -> None:
    (workplace / "livetrader.toml").write_text("[server]\nheartbeat = 'fast'")
    result = cli("status")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("livetrader: livetrader.toml: server.heartbeat: expected")
    assert len(result.stderr.splitlines()) == 1


def test_verbose_tells_where_an_error_came_from(cli: Run, workplace: Path) -> None:
    (workplace / "livetrader.toml").write_text("[server]\nheartbeat = 'fast'")
    result = cli("-v", "status")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "livetrader: livetrader.toml: server.heartbeat" in result.stderr


def test_the_configuration_can_be_named(cli: Run, workplace: Path) -> None:
    (workplace / "other.toml").write_text("[server]\nheartbeat = 'slow'")
    assert "other.toml: server.heartbeat" in cli("--config", "other.toml", "status").stderr
    assert "gone.toml: cannot be read" in cli("--config", "gone.toml", "status").stderr


def test_the_core_and_its_help_need_no_backtrader(workplace: Path) -> None:
    code = (
        "import sys; sys.modules['backtrader'] = None\n"
        "import livetrader_core.config, livetrader_core.registry, livetrader_core.rpc\n"
        "from livetrader_core.cli.app import livetrader\n"
        "livetrader(['run', '--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_server_is_an_error_within_its_time(cli: Run, workplace: Path) -> None:
    with process("status", cwd=workplace) as status:
        out, told = status.communicate(timeout=20)
    assert status.returncode == 1
    assert out == ""
    assert f"livetrader: ipc://{workplace}/server: no server there" in told
    assert "Traceback" not in told
