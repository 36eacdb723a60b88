"""The service files name what is there."""

from __future__ import annotations

import re
import shlex
from configparser import ConfigParser
from pathlib import Path

from click.testing import CliRunner

from livetrader_core.cli.app import livetrader

DEPLOY = Path(__file__).resolve().parents[1] / "extra" / "deploy"


def command_is_known(words: list[str]) -> bool:
    """Whether the command line, asked for help, knows these options and this command."""
    return CliRunner().invoke(livetrader, [*words, "--help"]).exit_code == 0


def test_the_unit_starts_a_command_that_exists() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "livetrader.service")
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bin/livetrader")
    assert command_is_known(words)


def test_the_image_starts_a_command_that_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    found = dict(re.findall(r"^(ENTRYPOINT|CMD) \[(.*)\]$", text, re.MULTILINE))
    words = [
        word.strip('" ') for part in (found["ENTRYPOINT"], found["CMD"]) for word in part.split(",")
    ]
    assert words[0] == "livetrader"
    assert command_is_known(words[1:])
    compose = (DEPLOY / "compose.yaml").read_text()
    assert (DEPLOY.parents[1] / re.findall(r"dockerfile: (.*)", compose)[0]).is_file()
