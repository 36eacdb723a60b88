"""Settings: what is read from where, and errors that name file and key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from livetrader_core import config as config_module
from livetrader_core.config import (
    Config,
    build_adapter,
    build_services,
    describe_type,
    load_config,
)
from livetrader_core.errors import ConfigError, LiveTraderError
from livetrader_core.market import CachedMarket, Mt4Market, ReplayMarket
from livetrader_core.market.mt4.address import Address
from livetrader_core.rpc.keys import KeyPair
from livetrader_core.store import KlineStore
from livetrader_core.trade import PaperTrade
from tests.support.archive_market import ArchiveMarket
from tests.support.scripted_market import contract

EXAMPLE = Path(__file__).resolve().parents[1] / "livetrader.example.toml"

REPLAY = """
[markets.us]
adapter = "replay"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a livetrader.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, **environment: str) -> Config:
    Path("livetrader.toml").write_text(text)
    return load_config(environment=environment)


def error_of(text: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build_services(load(text, **environment))
    return str(caught.value)


# --------------------------------------------------------------------------- where from


def test_without_a_file_a_generated_market_and_paper_money() -> None:
    config = load_config(environment={})
    market, trade = build_services(config)
    assert config.source == "defaults"
    assert isinstance(market.markets[0], ReplayMarket)
    assert trade is not None
    assert isinstance(trade.adapters[0], PaperTrade)
    assert trade.adapters[0].service is market
    assert trade.journal.path == str(config.journal.path)
    assert config.journal.path.parent.is_dir()


def test_a_rate_is_a_number_or_a_symbol(tmp_path: Path) -> None:
    path = tmp_path / "livetrader.toml"
    path.write_text(REPLAY + "[rates]\nCNY = 0.14\nJPY = '1/FOREX.USDJPY'\nEUR = 'FOREX.EURUSD'\n")
    rates = load_config(path, {"LIVETRADER_RATES__CHF": "1.1"}).rates
    assert rates.values == {"CNY": 0.14, "CHF": 1.1}
    assert rates.symbols == {"JPY": "1/FOREX.USDJPY", "EUR": "FOREX.EURUSD"}


def test_the_example_is_a_valid_configuration() -> None:
    config = load_config(EXAMPLE, {})
    market, trade = build_services(config)
    assert set(market.markets[0].markets) == {"US", "FOREX", "SHFE"}
    assert trade is not None
    assert config.rates.values == {"CNY": 0.14}


def test_the_working_folder_goes_before_the_users_own(folder: Path) -> None:
    own = config_module.user_config_file()
    own.parent.mkdir(parents=True)
    own.write_text("[server]\nheartbeat = 3")
    assert load_config(environment={}).server.heartbeat == 3
    assert load_config(environment={}).source == str(own)
    (folder / "livetrader.toml").write_text("[server]\nheartbeat = 4")
    assert load_config(environment={}).server.heartbeat == 4
    assert load_config(environment={}).source == "livetrader.toml"
    (folder / "other.toml").write_text("[server]\nheartbeat = 5")
    assert load_config("other.toml", {}).server.heartbeat == 5


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_config("nowhere.toml", {})


def test_the_environment_goes_above_the_file() -> None:
    config = load(
        "[server]\nheartbeat = 3\nendpoint = 'ipc:///tmp/x'\n[rates]\nCNY = 0.1",
        LIVETRADER_SERVER__HEARTBEAT="2.5",
        LIVETRADER_RATES__CNY="0.14",
        LIVETRADER_RATES__jpy="0.01",
        LIVETRADER_DATA="not a setting: it has no section",
    )
    assert config.server.heartbeat == 2.5
    assert config.server.endpoint == "ipc:///tmp/x"
    assert config.rates.values == {"CNY": 0.14, "JPY": 0.01}


def test_the_environment_is_the_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVETRADER_SERVER__HEARTBEAT", "7")
    assert load_config().server.heartbeat == 7


def test_the_environment_finds_tables_however_they_are_spelled() -> None:
    config = load(
        "[markets.US]\nadapter = 'replay'",
        LIVETRADER_MARKETS__US__SYMBOLS='["US.AAPL"]',
        LIVETRADER_MARKETS__US__SEED="3",
        LIVETRADER_MARKETS__US__START="2025-11-03",
        LIVETRADER_MARKETS__US__SPEED="60",
    )
    market, _ = build_services(config)
    assert list(config.markets) == ["US"]
    assert market.markets[0].markets == ("US",)
    assert not market.markets[0].paced  # 60 was taken for a number


def test_the_environment_changes_the_defaults_or_takes_their_place() -> None:
    changed = load_config(environment={"LIVETRADER_MARKETS__REPLAY__SEED": "9"})
    assert changed.markets["replay"].options == {"source": "generated", "seed": "9"}
    replaced = load_config(
        environment={
            "LIVETRADER_MARKETS__MINE__ADAPTER": "replay",
            "LIVETRADER_MARKETS__MINE__SEED": "9",
        }
    )
    assert list(replaced.markets) == ["mine"]
    assert list(replaced.trades) == ["paper"]


def test_journal_and_store_are_relative_to_the_file(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "lt.toml").write_text(
        "[journal]\npath = 'j/journal.sqlite'\n[store]\npath = '~/k.duckdb'"
    )
    config = load_config("sub/lt.toml", {})
    assert config.journal.path == folder / "sub" / "j" / "journal.sqlite"
    assert config.store.path == Path("~/k.duckdb").expanduser()


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nheartbeat = 'fast'", "livetrader.toml: server.heartbeat: expected a valid"),
        ("[server]\nheartbeat = 0", "server.heartbeat: expected greater than 0, not 0"),
        ("[server]\nendpoint = 'http://x'", "server.endpoint: expected ipc:///path, tcp://"),
        ("[server]\nendpiont = 'x'", "livetrader.toml: server.endpiont: .*mean 'endpoint'"),
        ("[sever]\n", "livetrader.toml: sever: .*mean 'server'.*Known: server, journal"),
        ("server = 5", r"livetrader.toml: server: expected a table, \[server\]"),
        ("[markets]\nus = 5", r"markets.us: expected a table, \[markets.us\]"),
        ("[markets.us]\nspeed = 1", "livetrader.toml: markets.us.adapter: is missing"),
        ("[markets.us]\nadapter = 5", "markets.us.adapter: expected a valid string, not 5"),
        ("[markets.us]\nadapter = 'repaly'", "markets.us.adapter: .*'repaly'.*mean 'replay'"),
        ("[markets.us]\nadapter = 'tdx2'", "markets.us.adapter: there is no market adapter"),
        (REPLAY + "speeed = 1", "livetrader.toml: markets.us.speeed: .*mean 'speed'.*source,"),
        (REPLAY + "speed = [1]", r"markets.us.speed: expected a number or text, not \[1\]"),
        (REPLAY + "speed = -1", "livetrader.toml: markets.us.speed: must be"),
        (REPLAY + "seed = 'seven'", "markets.us.seed: expected a whole number, not 'seven'"),
        (REPLAY + "symbols = 5", "markets.us.symbols: expected a list of text, not 5"),
        (REPLAY + "symbols = ['NONE.X']", "livetrader.toml: markets.us.*NONE"),
        (REPLAY + REPLAY.replace(".us", ".b"), "livetrader.toml: markets: two adapters serve"),
        (REPLAY + "[trades.p]\nadapter='paper'\nfill_on='tick'", "trades.p.fill_on: 'tick'"),
        (REPLAY + "[trades.p]\nadapter='paper'\ncash={USD='x'}", "trades.p.cash: expected a num"),
        (REPLAY + "[trades.p]\nadapter='paper'\nmarket='us'", "trades.p.market: .*no setting"),
        (REPLAY + "[rates]\ncny = 1", "livetrader.toml: rates: 'cny' is not a currency"),
        (REPLAY + "[rates]\njpy = '1/FOREX.USDJPY'", "'jpy' is not a currency"),
        (REPLAY + "[rates]\nCNY = 0", "livetrader.toml: rates: the rate of CNY must be above 0"),
        (REPLAY + "[rates]\nCNY = 'much'", "livetrader.toml: rates.CNY: expected a valid number"),
        ("[server]\nheartbeat = 1", "livetrader.toml: markets: nothing to serve"),
        ("[server]\nheartbeat = one", "livetrader.toml: not valid TOML: .*line 2"),
        ("[server]\nheartbeat = 1\n\n[server]\n", "livetrader.toml: not valid TOML: .*line 4"),
    ],
)
def test_errors_name_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_services(load(text))


def test_all_wrong_keys_are_told_at_once() -> None:
    told = error_of("[server]\nheartbeat = 'fast'\nport = 5")
    assert "server.heartbeat" in told
    assert "server.port" in told


def test_an_error_of_the_environment_names_the_variable() -> None:
    told = error_of(REPLAY, LIVETRADER_SERVER__HEARTBEAT="fast")
    assert told.startswith("environment: LIVETRADER_SERVER__HEARTBEAT: expected")
    told = error_of(REPLAY, LIVETRADER_MARKETS__US__SEED="many")
    assert told.startswith("environment: LIVETRADER_MARKETS__US__SEED: expected a whole number")
    told = error_of(REPLAY, LIVETRADER_SEVER__X="1")
    assert told.startswith("environment: LIVETRADER_SEVER__X: ")
    assert "'server'" in told
    assert "SECTION__KEY" in error_of(REPLAY, LIVETRADER_SERVER__="1")
    told = error_of(REPLAY, LIVETRADER_MARKETS__US="x", LIVETRADER_MARKETS__US__SEED="1")
    assert "LIVETRADER_MARKETS__US__SEED" in told


def test_a_file_that_is_no_text(folder: Path) -> None:
    (folder / "livetrader.toml").write_bytes(b"[server]\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"livetrader\.toml: is not UTF-8 \(byte 9\)"):
        load_config(environment={})


def test_a_journal_where_no_folder_can_be(folder: Path) -> None:
    (folder / "file").write_text("")
    told = error_of(REPLAY + "[trades.p]\nadapter='paper'\n[journal]\npath='file/x/j.sqlite'")
    assert told.startswith("livetrader.toml: journal.path: ")


# --------------------------------------------------------------------------- adapters


class Venue(ArchiveMarket):
    """An adapter whose constructor takes all kinds of values."""

    def __init__(
        self,
        user: str,
        password: str,
        host: str | Sequence[str] = "localhost",
        since: datetime | str = "",
        mode: Literal["slow", "fast"] = "slow",
        weights: Mapping[str, int] | None = None,
        flag: bool = False,
        pin: SecretStr | None = None,
        login: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__([contract("US.A")], [])
        if host == "refused":
            raise ConfigError("host: refused is not a host")
        if host == "broken":
            raise ValueError("cannot work with this")
        self.given = (user, password, host, since, mode, weights, flag, pin, login)


class Anything(ArchiveMarket):
    """An adapter that takes every setting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__([contract("US.A")], [])
        self.settings = settings


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters: dict[str, Any] = {"venue": Venue, "anything": Anything, "replay": ReplayMarket}
    monkeypatch.setattr(config_module, "load_market", adapters.__getitem__)


VENUE = "[markets.v]\nadapter = 'venue'\nuser = 'me'\n"
PASSWORD = {"LIVETRADER_MARKETS__V__PASSWORD": "hunter2"}


@pytest.mark.usefixtures("venue")
def test_settings_reach_the_constructor_as_its_types() -> None:
    text = VENUE + "host = ['a', 'b']\nsince = 2024-05-01T10:00:00\nweights = {A = 1}\nflag = true"
    config = load(text, **PASSWORD, LIVETRADER_MARKETS__V__PIN="0042")
    built = build_services(config)[0].markets[0]
    assert isinstance(built, Venue)
    user, password, host, since, mode, weights, flag, pin, _ = built.given
    assert (user, password, host) == ("me", "hunter2", ["a", "b"])
    assert since == datetime(2024, 5, 1, 10)
    assert (mode, weights, flag) == ("slow", {"A": 1}, True)
    assert pin is not None
    assert pin.get_secret_value() == "0042"


@pytest.mark.usefixtures("venue")
def test_a_text_of_the_environment_stays_text_where_text_is_wanted() -> None:
    config = load(VENUE, LIVETRADER_MARKETS__V__USER="123", LIVETRADER_MARKETS__V__PASSWORD="456")
    built = build_services(config)[0].markets[0]
    assert isinstance(built, Venue)
    assert built.given[:2] == ("123", "456")


@pytest.mark.usefixtures("venue")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VENUE.replace("user", "mode"), "livetrader.toml: markets.v.mode: expected one of 'slow'"),
        (VENUE.replace("user = 'me'", ""), "livetrader.toml: markets.v.user: Venue needs it"),
        (VENUE + "host = 'refused'", "livetrader.toml: markets.v.host: refused is not a host"),
        (VENUE + "host = 'broken'", "livetrader.toml: markets.v: Venue: cannot work with this"),
        (VENUE + "weights = {A = 'x'}", "markets.v.weights: expected a table of a whole number"),
        (VENUE + "flag = 'maybe'", "markets.v.flag: expected true or false, not 'maybe'"),
    ],
)
def test_a_wrong_setting_of_an_adapter(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_services(load(text, **PASSWORD))


@pytest.mark.usefixtures("venue")
def test_an_adapter_that_takes_everything_gets_everything() -> None:
    built = build_services(load("[markets.v]\nadapter = 'anything'\nx = 1\ny = 'z'"))[0].markets[0]
    assert isinstance(built, Anything)
    assert built.settings == {"x": 1, "y": "z"}


def test_a_variable_of_a_table_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError) as told:
        load("", LIVETRADER_MARKETS__TQ__PASSWORD="x")
    assert str(told.value).startswith("environment: LIVETRADER_MARKETS__TQ__PASSWORD: ")
    assert "[markets.tq]" in str(told.value)


@pytest.mark.parametrize("moment", ["2025-11-03T14:30:00Z", "'2025-11-03T14:30'", "1762180200000"])
def test_a_moment_is_a_time_of_toml_a_text_or_milliseconds(moment: str) -> None:
    text = f"[markets.r]\nadapter = 'replay'\nsource = 'generated'\nstart = {moment}\n"
    replay = build_services(load(text))[0].markets[0]
    assert isinstance(replay, ReplayMarket)
    assert replay._start == 1_762_180_200_000


# --------------------------------------------------------------------------- secrets


@pytest.mark.usefixtures("venue")
@pytest.mark.parametrize("name", ["password", "api_key", "pin", "auth_token", "secret"])
def test_a_secret_in_a_file_is_refused_and_not_repeated(name: str) -> None:
    told = error_of(f"{VENUE}{name} = 'hunter2'")
    assert told.startswith(f"livetrader.toml: markets.v.{name}: ")
    assert f"LIVETRADER_MARKETS__V__{name.upper()}" in told
    assert "hunter2" not in told


@pytest.mark.usefixtures("venue")
def test_a_missing_secret_names_its_variable() -> None:
    assert "set LIVETRADER_MARKETS__V__PASSWORD" in error_of(VENUE)


@pytest.mark.usefixtures("venue")
def test_secrets_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    environment = {
        **PASSWORD,
        "LIVETRADER_MARKETS__V__LOGIN__TOKEN": "hunter3",
        "LIVETRADER_MARKETS__V__PIN": "hunter4",
    }
    config = load(VENUE, **environment)
    shown = f"{config!r} {config} {config.model_dump()} {config.model_dump_json()} {caplog.text}"
    assert "hunter" not in shown
    built = build_services(config)[0].markets[0]
    assert isinstance(built, Venue)
    assert built.given[8] == {"token": "hunter3"}
    told = error_of(VENUE.replace("venue", "replay"), **environment)
    assert "hunter" not in told


@pytest.mark.usefixtures("venue")
def test_a_secret_of_a_wrong_type_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbered(ArchiveMarket):
        def __init__(self, password: int) -> None:
            super().__init__([contract("US.A")], [])

    monkeypatch.setattr(config_module, "load_market", {"venue": Numbered}.__getitem__)
    told = error_of("[markets.v]\nadapter = 'venue'", **PASSWORD)
    assert told == "environment: LIVETRADER_MARKETS__V__PASSWORD: expected a whole number"


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number"),
        (str | Path, "text or a path"),
        (Literal[1, "max"], "one of 1, 'max'"),
        (list[str] | None, "a list of text"),
        (Mapping[str, float], "a table of a number"),
        (tuple, "a list"),
    ],
)
def test_types_in_a_users_words(wanted: Any, words: str) -> None:
    assert describe_type(wanted) == words


def test_config_errors_are_ours() -> None:
    assert issubclass(ConfigError, LiveTraderError)


# --------------------------------------------------------------------------- the cache


def test_a_market_is_cached_if_that_is_asked_for(folder: Path) -> None:
    cached, trade = build_services(load(REPLAY + "cache = true\nseed = 3\n"))
    assert trade is None
    assert isinstance(cached.markets[0], CachedMarket)
    assert isinstance(build_services(load(REPLAY))[0].markets[0], ReplayMarket)
    environment = {"LIVETRADER_MARKETS__US__CACHE": "true"}
    assert isinstance(build_services(load(REPLAY, **environment))[0].markets[0], CachedMarket)
    assert "livetrader.toml: markets.us.cache: expected" in error_of(REPLAY + 'cache = "often"\n')


def test_two_cached_markets_share_the_store(folder: Path) -> None:
    text = '[store]\npath = "deep/k.duckdb"\n'
    for name, symbol in (("us", "US.BABA"), ("fx", "FOREX.EURUSD")):
        text += f'[markets.{name}]\nadapter = "replay"\ncache = true\nsymbols = ["{symbol}"]\n'

    async def main() -> None:
        service, _ = build_services(load(text))
        await service.connect()
        for symbol in ("US.BABA", "FOREX.EURUSD"):
            assert len(await service.get_kline_histories(symbol, limit=10)) == 10
        await service.stop()

    asyncio.run(main())
    with KlineStore(folder / "deep" / "k.duckdb") as store:
        assert [row.symbol for row in store.ranges()] == ["FOREX.EURUSD", "US.BABA"]


def test_a_table_of_our_own_advisor(folder: Path) -> None:
    ours, advisors = KeyPair.create(folder, "me"), KeyPair.create(folder, "ea")
    (folder / "livetrader.toml").write_text(
        f"""
[markets.forex]
adapter = "mt4"
endpoint = "tcp://10.0.0.2:28282"
keys = "me.key_secret"
server_key = "{advisors.public}"
"""
    )
    config = load_config(environment={"LIVETRADER_MARKETS__FOREX__TOKEN": "s3cret"})
    market = build_adapter(config, "forex")
    assert isinstance(market, Mt4Market)
    assert market._address == Address.of(
        "tcp://10.0.0.2:28282", token="s3cret", keys=ours, server_key=advisors.public
    )
    assert "s3cret" not in repr(market._address) + repr(config)
    assert ours.secret not in repr(market._address)
    text = (folder / "livetrader.toml").read_text()
    (folder / "livetrader.toml").write_text(text + 'token = "s3cret"')
    with pytest.raises(ConfigError, match="LIVETRADER_MARKETS__FOREX__TOKEN in the environment"):
        load_config(environment={})
    (folder / "livetrader.toml").write_text(text.replace("tcp://10.0.0.2:28282", "10.0.0.2"))
    with pytest.raises(ConfigError, match=r"markets\.forex.*endpoint"):
        build_adapter(load_config(environment={}), "forex")
