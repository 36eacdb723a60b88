"""Where a replay's klines come from: files, a kline store, a generator."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livetrader_core.errors import ConfigError, DataError
from livetrader_core.market.generated import GeneratedSource
from livetrader_core.market.recorded import (
    TICK,
    RecordedFile,
    Ticks,
    read_klines,
    read_ticks,
    recorded_file,
)
from livetrader_core.market.specs import contracts_from_file, default_contract
from livetrader_core.models import Contract, Klines

if TYPE_CHECKING:
    from livetrader_core.store import KlineStore

log = logging.getLogger(__name__)

CONTRACTS_FILE = "contracts.json"
STORE_SUFFIXES = (".duckdb", ".db")
_NAMING = "SYMBOL-TIMEFRAME[_anything].csv[.gz], such as US.BABA-1m.csv.gz"


class Source(ABC):
    """Recorded klines and ticks by symbol; what is returned is not changed afterwards."""

    @abstractmethod
    def symbols(self) -> list[str]:
        """The symbols it has, sorted."""

    @abstractmethod
    def timeframes(self, symbol: str) -> set[str]:
        """The timeframes recorded of ``symbol``."""

    @abstractmethod
    def klines(self, symbol: str, timeframe: str, contract: Contract) -> Klines:
        """All recorded klines. Raises DataError, StorageError."""

    def ticks(self, symbol: str) -> Ticks | None:
        """All recorded ticks; None if there are none. Raises DataError."""
        return None

    def contract(self, symbol: str) -> Contract:
        """The contract of ``symbol``. Raises UnknownSymbol."""
        return default_contract(symbol)

    def close(self) -> None:
        """Leave nothing open; it may be read again afterwards."""
        return


class FileSource(Source):
    """A CSV file, or all those in a folder; several of one symbol and timeframe are joined.

    ``contracts`` is a file of contracts; by default ``contracts.json`` beside the klines, if it
    is there. Raises ConfigError if there is nothing to read.
    """

    def __init__(self, path: Path, contracts: Path | None = None) -> None:
        if not path.exists():
            raise ConfigError(f"source: {path} does not exist")
        self._files: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for file in _recordings(path):
            self._files[file.symbol, file.timeframe].append(file.path)
        folder = path if path.is_dir() else path.parent
        self._contracts = _contracts(folder / CONTRACTS_FILE, contracts)

    def symbols(self) -> list[str]:
        return sorted({symbol for symbol, _ in self._files})

    def timeframes(self, symbol: str) -> set[str]:
        return {timeframe for name, timeframe in self._files if name == symbol} - {TICK}

    def klines(self, symbol: str, timeframe: str, contract: Contract) -> Klines:
        parts = {
            path: read_klines(path, symbol, timeframe, contract.sessions)
            for path in self._files[symbol, timeframe]
        }
        ordered = sorted(
            ((path, part) for path, part in parts.items() if len(part)),
            key=lambda item: int(item[1].datetime[0]),
        )
        for (path, part), (other, later) in pairwise(ordered):
            if later.datetime[0] <= part.datetime[-1]:
                raise DataError(f"{path} and {other} overlap: both hold klines of {symbol}")
        if not ordered:
            return Klines.empty(symbol, timeframe)
        return Klines.concat([part for _, part in ordered])

    def ticks(self, symbol: str) -> Ticks | None:
        paths = self._files.get((symbol, TICK))
        if not paths:
            return None
        parts = sorted(
            (part for part in (read_ticks(path, symbol) for path in paths) if len(part)),
            key=lambda part: int(part.datetime[0]),
        )
        return _join_ticks(symbol, parts)

    def contract(self, symbol: str) -> Contract:
        return self._contracts.get(symbol) or default_contract(symbol)


def _recordings(path: Path) -> list[RecordedFile]:
    if path.is_file():
        file = recorded_file(path)
        if file is None:
            raise ConfigError(f"source: {path} is not named {_NAMING}")
        return [file]
    files = []
    for entry in sorted(path.iterdir()):
        file = recorded_file(entry)
        if file is not None:
            files.append(file)
        elif entry.name.endswith((".csv", ".csv.gz")):
            log.warning("%s is left out: it is not named %s", entry, _NAMING)
    if not files:
        raise ConfigError(f"source: {path} holds no file named {_NAMING}")
    return files


def _contracts(beside: Path, given: Path | None) -> dict[str, Contract]:
    if given is not None:
        return contracts_from_file(given)
    return contracts_from_file(beside) if beside.is_file() else {}


def _join_ticks(symbol: str, parts: Sequence[Ticks]) -> Ticks:
    for part, later in pairwise(parts):
        if later.datetime[0] < part.datetime[-1]:
            raise DataError(f"two files of ticks of {symbol} overlap")
    if not parts:
        return Ticks(symbol, np.empty(0, np.int64), {})
    names = dict.fromkeys(name for part in parts for name in part.fields)
    return Ticks(
        symbol,
        np.concatenate([part.datetime for part in parts]),
        {
            name: np.concatenate([part.fields.get(name, np.zeros(len(part))) for part in parts])
            for name in names
        },
    )


class StoreSource(Source):
    """A kline store, or the path of one, which is then opened and, with :meth:`close`, closed."""

    def __init__(self, store: KlineStore | Path, contracts: Path | None = None) -> None:
        self._path = store if isinstance(store, Path) else None
        if self._path is not None and not self._path.is_file():
            raise ConfigError(f"source: {self._path} does not exist")
        self._store = None if isinstance(store, Path) else store
        self._contracts = {} if contracts is None else contracts_from_file(contracts)
        self._known: dict[str, set[str]] = defaultdict(set)
        for row in self._opened().ranges():
            self._known[row.symbol].add(row.timeframe)

    def _opened(self) -> KlineStore:
        if self._store is None:
            from livetrader_core.store import KlineStore

            assert self._path is not None
            self._store = KlineStore(self._path)
        return self._store

    def symbols(self) -> list[str]:
        return sorted(self._known)

    def timeframes(self, symbol: str) -> set[str]:
        return self._known.get(symbol, set())

    def klines(self, symbol: str, timeframe: str, contract: Contract) -> Klines:
        return self._opened().read(symbol, timeframe)

    def contract(self, symbol: str) -> Contract:
        return self._contracts.get(symbol) or default_contract(symbol)

    def close(self) -> None:
        if self._path is not None and self._store is not None:
            self._store.close()
            self._store = None


class MadeUpSource(Source):
    """The klines of a generator."""

    def __init__(self, generated: GeneratedSource, contracts: Path | None = None) -> None:
        self._generated = generated
        self._contracts = {} if contracts is None else contracts_from_file(contracts)

    def symbols(self) -> list[str]:
        return self._generated.symbols()

    def timeframes(self, symbol: str) -> set[str]:
        return {"1m"}

    def klines(self, symbol: str, timeframe: str, contract: Contract) -> Klines:
        return self._generated.klines(symbol)

    def contract(self, symbol: str) -> Contract:
        return self._contracts.get(symbol) or self._generated.contract(symbol)
