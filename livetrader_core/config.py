"""Settings: livetrader.toml, and the environment above it.

``LIVETRADER_SERVER__HEARTBEAT=2`` sets ``heartbeat`` under ``[server]``; upper and lower case are
the same. Secrets (passwords, tokens, keys) are taken from the environment only, and are hidden
wherever settings are shown.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    PydanticSchemaGenerationError,
    PydanticUserError,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from livetrader_core.errors import ConfigError, InvalidRequest, LiveTraderError
from livetrader_core.market.base import MarketBase
from livetrader_core.registry import load_market, load_trade
from livetrader_core.service import MarketService
from livetrader_core.trade import TradeService
from livetrader_core.trade.base import TradeBase
from livetrader_core.trade.risk import RiskLimits

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "livetrader.toml"
PREFIX = "LIVETRADER_"

_SECRET = re.compile(
    r"(.*_)?(password|passwd|passphrase|secret|token|pin)|.*(api|secret|private)_?key|auth_code",
    re.IGNORECASE,
)

Adapter = TypeVar("Adapter", MarketBase, TradeBase)


def is_secret(name: str) -> bool:
    """Whether a setting of this name is a secret."""
    return _SECRET.fullmatch(name) is not None


# --------------------------------------------------------------------------- folders


def runtime_folder() -> Path:
    """Where sockets lie: the user's own runtime folder, or one in the temporary folder."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / "livetrader"
    owner = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"livetrader-{owner}"


def user_folder(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "livetrader"


def user_config_file() -> Path:
    """Where a user's own livetrader.toml lies."""
    return user_folder("XDG_CONFIG_HOME", ".config") / FILE_NAME


def _default_endpoint() -> str:
    return f"ipc://{runtime_folder() / 'server'}"


def _default_journal() -> Path:
    return user_folder("XDG_STATE_HOME", ".local/state") / "journal.sqlite"


def _default_store() -> Path:
    return user_folder("XDG_DATA_HOME", ".local/share") / "klines.duckdb"


# --------------------------------------------------------------------------- sections


class Section(BaseModel):
    """A table of the file; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_endpoint(endpoint: str) -> str:
    if not re.match(r"(ipc|tcp|inproc)://.", endpoint):
        raise ValueError("expected ipc:///path, tcp://host:port or inproc://name")
    return endpoint


EndpointText = Annotated[str, AfterValidator(_is_endpoint)]


class AllowedConfig(Section):
    """``[server.clients.NAME]``: the public ``key`` of a client, and its ``role``."""

    key: str
    role: Literal["market", "trade", "admin"]


class ServerConfig(Section):
    """``[server]``: where it is served, and how often it says that it lives (seconds).

    ``keys`` is a file with the server's secret key; ``clients`` are those it lets in over tcp.
    """

    endpoint: EndpointText = Field(default_factory=_default_endpoint)
    heartbeat: float = Field(default=1.0, gt=0, le=3600)
    keys: Path | None = None
    clients: dict[str, AllowedConfig] = {}


class ClientConfig(Section):
    """``[client]``: where commands and strategies find a server, if it is not ``[server]``'s.

    ``keys`` is a file with our secret key, ``server_key`` the server's public one.
    """

    endpoint: EndpointText | None = None
    keys: Path | None = None
    server_key: str = ""


class JournalConfig(Section):
    """``[journal]``: the file of the order journal."""

    path: Path = Field(default_factory=_default_journal)


class StoreConfig(Section):
    """``[store]``: the file of the kline store."""

    path: Path = Field(default_factory=_default_store)


class AdapterConfig(Section):
    """``[markets.NAME]`` or ``[trades.NAME]``: an adapter, and what its constructor takes."""

    adapter: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        ours = set(cls.model_fields) - {"options"}
        options = {k: _hidden(k, value) for k, value in table.items() if k not in ours}
        return {**{k: v for k, v in table.items() if k in ours}, "options": options}


class MarketConfig(AdapterConfig):
    """``[markets.NAME]``: ``cache`` keeps its klines in the kline store."""

    cache: bool = False


AnyAdapter = TypeVar("AnyAdapter", bound=AdapterConfig)


def _hidden(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hidden(key, inner) for key, inner in value.items()}
    return SecretStr(str(value)) if is_secret(name) else value


def _revealed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _revealed(inner) for key, inner in value.items()}
    return value.get_secret_value() if isinstance(value, SecretStr) else value


class RatesConfig(Section):
    """``[rates]``: ``base``, and what one unit of each other currency is worth in it.

    ``values`` are numbers; ``symbols`` are those whose price the rate is, as ``FOREX.EURUSD``, or
    its inverse, as ``1/FOREX.USDJPY``.
    """

    base: str = "USD"
    values: dict[str, float] = {}
    symbols: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_values(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        rates = {key: value for key, value in table.items() if key != "base"}
        symbols = {key: value for key, value in rates.items() if _is_symbol(value)}
        values = {key: value for key, value in rates.items() if key not in symbols}
        base = {key: value for key, value in table.items() if key == "base"}
        return {**base, "values": values, "symbols": symbols}

    @field_validator("base")
    @classmethod
    def _check_base(cls, base: str) -> str:
        return _currency(base)

    @field_validator("values")
    @classmethod
    def _check_values(cls, values: dict[str, float]) -> dict[str, float]:
        for currency, value in values.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"the rate of {_currency(currency)} must be above 0")
        return {_currency(currency): value for currency, value in values.items()}

    @field_validator("symbols")
    @classmethod
    def _check_symbols(cls, symbols: dict[str, str]) -> dict[str, str]:
        return {_currency(currency): symbol for currency, symbol in symbols.items()}


def _is_symbol(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(1/)?[A-Z]+\.\S+", value) is not None


def _currency(name: str) -> str:
    if not re.fullmatch("[A-Z]{3,5}", name):
        raise ValueError(f"{name!r} is not a currency: expected capitals, such as CNY")
    return name


class RiskConfig(Section):
    """``[risk]``: limits that every order must keep; see
    :class:`~livetrader_core.trade.risk.RiskLimits`.
    """

    symbols: tuple[str, ...] = ()
    max_quantity: float = Field(default=0.0, ge=0)
    max_notional: dict[str, float] = {}
    max_position: float = Field(default=0.0, ge=0)
    price_collar: float = Field(default=0.0, ge=0)
    orders_per_minute: int = Field(default=0, ge=0)
    max_daily_loss: dict[str, float] = {}

    @field_validator("max_notional", "max_daily_loss")
    @classmethod
    def _check_amounts(cls, amounts: dict[str, float]) -> dict[str, float]:
        for currency, amount in amounts.items():
            if not 0 < amount < float("inf"):
                raise ValueError(f"{_currency(currency)} must be above 0")
        return {_currency(currency): amount for currency, amount in amounts.items()}


class TradingConfig(Section):
    """``[trading]``: ``require_reconciled`` refuses new orders while the books disagree at the
    start; every ``reconcile_every`` seconds they are compared with the venues'.
    """

    require_reconciled: bool = True
    reconcile_every: float = Field(default=60.0, gt=0, le=86_400)


class Config(Section):
    """All settings, validated; see ``livetrader.example.toml`` for what each means."""

    server: ServerConfig = Field(default_factory=ServerConfig)
    journal: JournalConfig = Field(default_factory=JournalConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    client: ClientConfig = Field(default_factory=ClientConfig)
    markets: dict[str, MarketConfig] = {}
    trades: dict[str, AdapterConfig] = {}
    rates: RatesConfig = Field(default_factory=RatesConfig)
    risk: RiskConfig = Field(default_factory=RiskConfig)
    trading: TradingConfig = Field(default_factory=TradingConfig)
    _source: str = PrivateAttr(default="defaults")
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def source(self) -> str:
        """What errors call the file: its path, or "defaults"."""
        return self._source

    def where(self, key: str) -> str:
        """Where the dotted ``key`` is set, for messages."""
        return _where(self._source, self._origins, key)


#: What is served where nobody has configured anything: made-up klines and paper money.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "markets": {"replay": {"adapter": "replay", "source": "generated"}},
    "trades": {"paper": {"adapter": "paper"}},
}


def _where(source: str, origins: Mapping[str, str], key: str) -> str:
    if key in origins:
        return f"environment: {origins[key]}"
    return f"{source}: {key}" if key else source


# --------------------------------------------------------------------------- reading


def load_config(
    path: str | Path | None = None, environment: Mapping[str, str] | None = None
) -> Config:
    """The settings in ``path``, else ./livetrader.toml, else the user's own, else defaults.

    ``environment`` (by default the process's) goes above the file. Relative paths under
    ``[journal]``, ``[store]`` and those of keys are relative to the file's folder. Raises
    ConfigError, naming the file and the key.
    """
    file = _find(path)
    source = str(file) if file else "defaults"
    settings = _read(file) if file else {}
    _refuse_secrets(settings, source)
    given: dict[str, Any] = {}
    origins = _merge_environment(
        given, settings, os.environ if environment is None else environment
    )
    if file is None:
        for section, defaults in _DEFAULTS.items():
            others = given.get(section, {})
            if not any("adapter" in table for table in others.values()):
                settings[section] = {k: dict(v) for k, v in defaults.items()}
    _put_above(settings, given)
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, origins)) from None
    config._source, config._origins = source, origins
    return _anchored(config, file.resolve().parent if file else Path.cwd())


def _find(path: str | Path | None) -> Path | None:
    if path is not None:
        return Path(path)
    return next((p for p in (Path(FILE_NAME), user_config_file()) if p.is_file()), None)


def _read(file: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    return settings


def _refuse_secrets(settings: Mapping[str, Any], source: str, above: tuple[str, ...] = ()) -> None:
    for name, value in settings.items():
        path = (*above, name)
        if isinstance(value, Mapping):
            _refuse_secrets(value, source, path)
        elif len(path) > 1 and is_secret(name):
            raise ConfigError(
                f"{source}: {'.'.join(path)}: secrets are not kept in files; remove it here and "
                f"set {_variable(path)} in the environment"
            )


def _variable(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(path).upper()


def _merge_environment(
    given: dict[str, Any], settings: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, str]:
    """Put what the environment sets into ``given``; returns dotted key: variable.

    Names are spelled as the file spells them, if it has them.
    """
    origins = {}
    for variable, value in sorted(environment.items()):
        path = variable[len(PREFIX) :].split("__")
        if not variable.upper().startswith(PREFIX) or len(path) < 2:
            continue
        if not all(path):
            raise ConfigError(f"environment: {variable}: expected {PREFIX}SECTION__KEY")
        if path[0].lower() not in _SECTIONS:
            raise ConfigError(f"environment: {variable}: {_no_such(path[0].lower(), _SECTIONS)}")
        spelled: list[str] = []
        table: Any = {**_DEFAULTS, **settings}
        for part in path:
            known = table if isinstance(table, Mapping) else {}
            fallback = part.upper() if spelled == ["rates"] and part.lower() != "base" else None
            name = next((k for k in known if k.lower() == part.lower()), None)
            spelled.append(name or fallback or part.lower())
            table = known.get(spelled[-1])
        origins[".".join(spelled)] = variable
        _put(given, spelled, value)
    return origins


def _put(tables: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        tables = tables.setdefault(name, {})
        if not isinstance(tables, dict):
            raise ConfigError(f"environment: {_variable(tuple(path))}: {name} is set as a value")
    tables[path[-1]] = value


def _put_above(settings: dict[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        below = settings.get(name)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _put_above(below, value)
        else:
            settings[name] = value


_SECTIONS = tuple(Config.model_fields)


def _anchored(config: Config, folder: Path) -> Config:
    journal = folder / config.journal.path.expanduser()
    store = folder / config.store.path.expanduser()
    server, client = (
        part.model_copy(update={"keys": part.keys and folder / part.keys.expanduser()})
        for part in (config.server, config.client)
    )
    return config.model_copy(
        update={
            "journal": JournalConfig(path=journal),
            "store": StoreConfig(path=store),
            "server": server,
            "client": client,
            "markets": _with_keys(config.markets, folder),
            "trades": _with_keys(config.trades, folder),
        }
    )


def _with_keys(tables: Mapping[str, AnyAdapter], folder: Path) -> dict[str, AnyAdapter]:
    """``tables``, the key files that adapters are given in ``folder``."""
    found = {}
    for name, table in tables.items():
        keys = table.options.get("keys")
        if isinstance(keys, str):
            anchored = {**table.options, "keys": str(folder / Path(keys).expanduser())}
            table = table.model_copy(update={"options": anchored})
        found[name] = table
    return found


# --------------------------------------------------------------------------- explaining


def _explain(error: ValidationError, source: str, origins: Mapping[str, str]) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"] if part not in ("values", "options")]
        kind = fault["type"]
        if kind == "extra_forbidden":
            told = _no_such(path[-1], _known_beside(path))
        elif kind == "missing":
            table = ".".join(path[:-1])
            if stray := [name for key, name in origins.items() if key.startswith(f"{table}.")]:
                lines.append(
                    f"environment: {stray[0]}: there is no [{table}] with {path[-1]} in {source}: "
                    "unset it, or give the settings with --config"
                )
                continue
            told = "is missing"
        elif kind in ("model_type", "dict_type", "model_attributes_type"):
            told = f"expected a table, [{'.'.join(path)}]"
        elif kind == "value_error":
            told = str(fault["ctx"]["error"])
        else:
            told = _expected(fault, path)
        lines.append(f"{_where(source, origins, '.'.join(path))}: {told}")
    return "\n".join(lines)


def _expected(fault: Any, path: list[str]) -> str:
    told = str(fault["msg"]).replace("Input should be", "expected")
    return told if path and is_secret(path[-1]) else f"{told}, not {fault['input']!r}"


def _known_beside(path: list[str]) -> tuple[str, ...]:
    if len(path) == 1:
        return _SECTIONS
    section = Config.model_fields[path[0]].annotation
    fields = getattr(section, "model_fields", {})
    return tuple(fields)


def _no_such(name: str, known: Iterable[str]) -> str:
    names = list(known)
    return f"there is no setting {name!r}{_hint(name, names)} Known: {', '.join(names)}"


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


# --------------------------------------------------------------------------- building


def build_services(config: Config) -> tuple[MarketService, TradeService | None]:
    """The services that ``config`` describes, not connected yet.

    A trade adapter whose constructor has a parameter ``market`` gets the MarketService. Raises
    ConfigError, naming the key.
    """
    market = build_market(config)
    trades = [
        _build(config, "trades", name, load_trade, {"market": market}) for name in config.trades
    ]
    if not trades:
        return market, None
    make_folder(config, "journal.path", config.journal.path)
    with _naming(config.where("trades")):
        return market, TradeService(
            trades,
            config.journal.path,
            market=market,
            risk=_limits(config.risk),
            require_reconciled=config.trading.require_reconciled,
            reconcile_every=config.trading.reconcile_every,
        )


def _limits(risk: RiskConfig) -> RiskLimits | None:
    """The limits, if there are any."""
    return RiskLimits(**risk.model_dump()) if risk.model_fields_set else None


def make_folder(config: Config, key: str, file: Path) -> None:
    """Make the folder that ``file``, set by ``key``, lies in. Raises ConfigError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{config.where(key)}: {file.parent}: {error.strerror}") from None


def build_market(config: Config) -> MarketService:
    """The MarketService alone. Raises ConfigError, naming the key."""
    if not config.markets:
        raise ConfigError(f"{config.source}: markets: nothing to serve; add a [markets.NAME] table")
    markets = [_build(config, "markets", name, load_market, {}) for name in config.markets]
    with _naming(config.where("markets")):
        return MarketService(_cached(config, markets))


def _cached(config: Config, markets: list[MarketBase]) -> list[MarketBase]:
    """``markets``, those with ``cache = true`` before the one kline store."""
    wanted = [table.cache for table in config.markets.values()]
    if not any(wanted):
        return markets
    from livetrader_core.market.cached import CachedMarket
    from livetrader_core.store import SharedStore

    make_folder(config, "store.path", config.store.path)
    store = SharedStore(config.store.path)
    return [
        CachedMarket(market, store) if cache else market
        for market, cache in zip(markets, wanted, strict=True)
    ]


def build_adapter(config: Config, name: str) -> MarketBase:
    """The market adapter of ``[markets.NAME]`` alone. Raises ConfigError, naming the key."""
    return _build(config, "markets", name, load_market, {})


def build_account(config: Config, name: str, state: Path) -> TradeBase:
    """The trade adapter of ``[trades.NAME]`` alone, with a ``state`` file of its own if it has one.

    Raises ConfigError, naming the key.
    """
    table = config.trades[name]
    with _naming(config.where(f"trades.{name}.adapter")):
        parameters = inspect.signature(load_trade(table.adapter)).parameters
    if "market" in parameters:
        raise ConfigError(
            f"{config.where(f'trades.{name}')}: {table.adapter} has no account at a venue"
        )
    options = {**table.options, "state": str(state)} if "state" in parameters else table.options
    alone = config.model_copy(
        update={"trades": {name: table.model_copy(update={"options": options})}}
    )
    return _build(alone, "trades", name, load_trade, {})


def _build(
    config: Config,
    section: str,
    name: str,
    load: Callable[[str], type[Adapter]],
    injected: Mapping[str, Any],
) -> Adapter:
    key = f"{section}.{name}"
    table: AdapterConfig = getattr(config, section)[name]
    with _naming(config.where(f"{key}.adapter")):
        adapter = load(table.adapter)
    arguments = _Arguments(config, key, adapter, injected).check(table.options)
    try:
        return adapter(**arguments)
    except (ConfigError, InvalidRequest) as error:
        raise ConfigError(_name_option(config, key, table.options, str(error))) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.where(key)}: {adapter.__name__}: {error}") from error


def _name_option(config: Config, key: str, options: Mapping[str, Any], told: str) -> str:
    # Adapters begin such a message with the setting at fault.
    option, colon, rest = told.partition(": ")
    if colon and option in options:
        return f"{config.where(f'{key}.{option}')}: {rest}"
    return f"{config.where(key)}: {told}"


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except LiveTraderError as error:
        raise ConfigError(f"{where}: {error}") from error


class _Arguments:
    """What an adapter's constructor takes, to check settings against."""

    def __init__(
        self, config: Config, key: str, adapter: type[Any], injected: Mapping[str, Any]
    ) -> None:
        self._config = config
        self._key = key
        self._adapter = adapter
        parameters = inspect.signature(adapter).parameters
        self._injected = {k: v for k, v in injected.items() if k in parameters}
        self._open = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._parameters = {
            p.name: p
            for p in parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in self._injected
        }

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments for ``options``. Raises ConfigError naming the key."""
        checked = {name: self._value(name, value) for name, value in options.items()}
        for name, parameter in self._parameters.items():
            if name not in checked and parameter.default is parameter.empty:
                raise ConfigError(self._missing(name))
        return {**checked, **self._injected}

    def _missing(self, name: str) -> str:
        path = f"{self._key}.{name}"
        told = f"{self._config.where(path)}: {self._adapter.__name__} needs it"
        if is_secret(name):
            return f"{told}; set {_variable(tuple(path.split('.')))} in the environment"
        return told

    def _value(self, name: str, value: Any) -> Any:
        path = f"{self._key}.{name}"
        if name not in self._parameters and not self._open:
            known = ", ".join(self._parameters) or "none"
            raise ConfigError(
                f"{self._config.where(path)}: {self._adapter.__name__} has no setting {name!r}"
                f"{_hint(name, self._parameters)} It has: {known}"
            )
        wanted = self._annotation(name)
        from_environment = path in self._config._origins and not isinstance(value, SecretStr)
        plain = value if wanted is SecretStr else _revealed(value)
        try:
            return _fitted(wanted, plain, from_environment)
        except ValidationError:
            shown = "" if isinstance(value, SecretStr) else f", not {value!r}"
            raise ConfigError(
                f"{self._config.where(path)}: expected {describe_type(wanted)}{shown}"
            ) from None

    def _annotation(self, name: str) -> Any:
        parameter = self._parameters.get(name)
        if parameter is None or parameter.annotation is parameter.empty:
            return Any
        if not isinstance(parameter.annotation, str):
            return parameter.annotation
        module = sys.modules[self._adapter.__module__]
        try:
            return eval(parameter.annotation, vars(module))
        except Exception:
            # A name that only type checkers import; the adapter checks the value itself.
            return Any


def _fitted(wanted: Any, value: Any, from_environment: bool) -> Any:
    """``value`` as ``wanted``. Raises pydantic's ValidationError."""
    try:
        fits = TypeAdapter(wanted, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, PydanticSchemaGenerationError):
        return value
    if from_environment and wanted is not Any:
        # A variable is text: try what it would be in TOML before the text itself.
        try:
            return fits.validate_python(json.loads(value))
        except (json.JSONDecodeError, ValidationError):
            return fits.validate_python(value)
    if any(type(value) is kind for kind in get_args(wanted)):
        return value  # of a union, what it already is, before what it could be turned into
    return fits.validate_python(value)


_TYPE_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    SecretStr: "text",
    date: "a date",
    datetime: "a date and time",
}


def describe_type(wanted: Any) -> str:
    """A type in the words of somebody who writes a TOML file."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        kinds = [describe_type(part) for part in arguments if part is not NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is Annotated:
        return describe_type(arguments[0])
    plain = origin or wanted
    if inspect.isclass(plain) and plain not in _TYPE_NAMES:
        inner = f" of {describe_type(arguments[-1])}" if arguments else ""
        if issubclass(plain, Mapping):
            return f"a table{inner}"
        if issubclass(plain, Iterable):
            return f"a list{inner}"
    return _TYPE_NAMES.get(plain, getattr(plain, "__name__", str(plain)))
