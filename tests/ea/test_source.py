"""The advisor's source: only what MQL4 has, and it compiles; both say so of mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.ea.build import ADVISOR, CompileError, library
from tests.ea.lint import problems

MISTAKES = [
    ("TimeLocal()", "TimeLocale()", "MQL4 has no TimeLocale"),
    ("OrdersTotal()", "OrdersTotal(1)", "OrdersTotal does not take 1 arguments"),
    ("MODE_HISTORY)", "MODE_PAST)", "MQL4 has no MODE_PAST"),
    ("setLinger(0)", "setLingering(0)", "mql-zmq has no setLingering"),
    ("RefreshRates();", "Sleep(100);", "Sleep has no place here"),
    ("LookAfter(number);", "LookAfter();", "LookAfter takes 1 arguments, not 0"),
    ("#property strict", "", "no #property strict"),
    ("the account", "the acc\u00f6unt", "only ASCII"),
]


def test_it_uses_only_what_mql4_has() -> None:
    assert problems(ADVISOR) == []


@pytest.mark.parametrize(("right", "wrong", "told"), MISTAKES)
def test_a_mistake_is_found(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    advisor = _copy(tmp_path)
    for path in [advisor, *(tmp_path / "LiveTrader").iterdir()]:
        path.write_text(path.read_text().replace(right, wrong, 1))
    assert any(told in problem for problem in problems(advisor)), problems(advisor)


def test_it_compiles_and_a_wrong_type_does_not(tmp_path: Path) -> None:
    assert library().exists()
    advisor = _copy(tmp_path)
    path = tmp_path / "LiveTrader" / "Text.mqh"
    path.write_text(path.read_text().replace("int points = 0;", 'int points = "0";'))
    with pytest.raises(CompileError, match=r"Text\.mqh"):
        library(advisor)


def _copy(folder: Path) -> Path:
    shutil.copytree(ADVISOR.parent / "LiveTrader", folder / "LiveTrader")
    return Path(shutil.copy(ADVISOR, folder))
