"""What a unit of each symbol is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livetrader_core.errors import DataError, UnknownSymbol
from livetrader_core.market.specs import contracts_from_file, default_contract
from livetrader_core.models import Contract
from tests.support.data import recorded_data

LISTED = {
    "volume_multiple": 5,
    "price_tick": 10,
    "expire_datetime": 1581922800.0,
    "margin": 16219.0,
    "commission": 11.585,
    "trading_time": {
        "day": [["09:00:00", "10:15:00"], ["10:30:00", "11:30:00"]],
        "night": [["21:00:00", "25:00:00"]],
    },
}


@pytest.mark.parametrize(
    ("symbol", "tick", "step", "multiplier", "currency", "margined"),
    [
        ("US.BABA", 0.01, 1.0, 1.0, "USD", False),
        ("FOREX.EURUSD", 0.00001, 0.01, 100_000.0, "USD", True),
        ("FOREX.USDJPY", 0.001, 0.01, 100_000.0, "JPY", True),
        ("FOREX.XAUUSD", 0.01, 0.01, 100.0, "USD", True),
        ("SHFE.cu2605", 10.0, 1.0, 5.0, "CNY", True),
        ("DCE.m2605", 1.0, 1.0, 10.0, "CNY", True),
        ("CZCE.RM705", 1.0, 1.0, 10.0, "CNY", True),
        ("CFFEX.IF2603", 0.2, 1.0, 300.0, "CNY", True),
        ("INE.sc2606", 0.1, 1.0, 1000.0, "CNY", True),
        ("GFEX.si2606", 5.0, 1.0, 5.0, "CNY", True),
        ("BINANCE.BTCUSDT", 0.01, 0.00001, 1.0, "USDT", False),
    ],
)
def test_usual_contracts(
    symbol: str, tick: float, step: float, multiplier: float, currency: str, margined: bool
) -> None:
    contract = default_contract(symbol)
    assert (contract.price_tick, contract.quantity_step) == (tick, step)
    assert (contract.multiplier, contract.currency) == (multiplier, currency)
    assert contract.margined is margined
    assert Contract.from_dict(contract.to_dict()) == contract


@pytest.mark.parametrize(
    "symbol",
    ["LSE.VOD", "BABA", "FOREX.EUR", "FOREX.eurusd", "SHFE.zz2605", "SHFE.cu", "BINANCE.USDT"],
)
def test_what_is_not_known_is_named(symbol: str) -> None:
    with pytest.raises(UnknownSymbol, match=symbol):
        default_contract(symbol)


def test_contracts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "contracts.json"
    path.write_text(json.dumps({"SHFE.cu2002": LISTED}))
    contract = contracts_from_file(path)["SHFE.cu2002"]
    assert (contract.margin.per_unit, contract.margin.rate) == (16219.0, 0.0)
    assert contract.commission_of(2, 47_000) == pytest.approx(23.17)
    assert contract.sessions.day == ((540, 615), (630, 690))
    assert contract.sessions.night == ((1260, 1500),)
    assert contract.expires_at == 1_581_922_800_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"price_tick": None}, "SHFE.cu2002"),
        ({"price_tick": 0}, "price_tick must be positive"),
        ({"margin": "much"}, "much"),
        ({"trading_time": {"day": [["nine", "ten"]]}}, "SHFE.cu2002"),
        ({"trading_time": {}}, "day is missing"),
    ],
)
def test_a_bad_contract_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "contracts.json"
    path.write_text(json.dumps({"SHFE.cu2002": {**LISTED, **change}}))
    with pytest.raises(DataError, match=said) as caught:
        contracts_from_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", "\xff"])
def test_a_file_that_holds_no_contracts(tmp_path: Path, text: str) -> None:
    path = tmp_path / "contracts.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"contracts\.json"):
        contracts_from_file(path)
    with pytest.raises(DataError, match="absent"):
        contracts_from_file(tmp_path / "absent.json")


def test_listed_contracts_agree_with_the_usual_ones_on_what_a_lot_is() -> None:
    folder = recorded_data()
    if folder is None:
        listed = {"SHFE.cu2002": default_contract("SHFE.cu2002")}
    else:
        listed = contracts_from_file(folder / "contracts.json")
    for symbol, contract in listed.items():
        usual = default_contract(symbol)
        assert contract.multiplier == usual.multiplier
        assert contract.sessions.night == usual.sessions.night
