"""Where `livetrader journal` reads: the file, or the server that has it open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livetrader_core.cli.context import Settings
from livetrader_core.errors import JournalInUse
from livetrader_core.models import Fill, Order, TradeEvent

if TYPE_CHECKING:
    from livetrader_core.rpc import Client
    from livetrader_core.trade.audit import Audit
    from livetrader_core.trade.journal_copy import JournalCopy


class JournalSource(ABC):
    """What a journal holds; ``where`` says which one it is."""

    where: str

    @abstractmethod
    def events(self) -> Iterator[TradeEvent]:
        """All events, in order."""

    @abstractmethod
    def events_of(self, names: Sequence[str]) -> Iterator[TradeEvent]:
        """The events of the named orders, in order."""

    @abstractmethod
    def latest(self, limit: int) -> Iterable[TradeEvent]:
        """The last ``limit`` events, in order."""

    @abstractmethod
    def orders(self) -> Iterable[Order]:
        """All orders as they stand, in the order of their arrival."""

    @abstractmethod
    def fills(self) -> Iterable[Fill]:
        """All fills, oldest first."""

    @abstractmethod
    def count(self, table: str) -> int | None:
        """How many events, orders or fills there are; None: not known beforehand."""

    @abstractmethod
    def audit(self, settings: Settings) -> Audit:
        """Whether it holds together."""


class FileSource(JournalSource):
    """The file of a server that does not run."""

    def __init__(self, copy: JournalCopy) -> None:
        self._copy = copy
        self.where = str(copy.path)

    def events(self) -> Iterator[TradeEvent]:
        return self._copy.events()

    def events_of(self, names: Sequence[str]) -> Iterator[TradeEvent]:
        return self._copy.events(names)

    def latest(self, limit: int) -> Iterable[TradeEvent]:
        return self._copy.events(latest=limit)

    def orders(self) -> Iterable[Order]:
        return self._copy.records("orders", "number", Order.from_dict)

    def fills(self) -> Iterable[Fill]:
        return self._copy.records("fills", "seq", Fill.from_dict)

    def count(self, table: str) -> int | None:
        return self._copy.count(table)

    def audit(self, settings: Settings) -> Audit:
        from livetrader_core.trade.audit import audit_file

        def watch(events: Iterator[TradeEvent]) -> Iterable[TradeEvent]:
            return settings.watched(events, self.where, self._copy.count())

        return audit_file(self._copy, watch)


class ServerSource(JournalSource):
    """A server that has its journal open."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.where = (
            "the running server's journal (its events; stop it to have the file checked too)"
        )

    def events(self) -> Iterator[TradeEvent]:
        return self._after(0)

    def events_of(self, names: Sequence[str]) -> Iterator[TradeEvent]:
        return (event for event in self._after(0) if event.order.client_order_id in names)

    def latest(self, limit: int) -> Iterable[TradeEvent]:
        last = self._client.status()["trade_seq"]
        return deque(self._after(max(0, last - limit)), maxlen=limit)

    def orders(self) -> Iterable[Order]:
        return self._client.fetch_orders()

    def fills(self) -> Iterable[Fill]:
        return self._client.fetch_fills()

    def count(self, table: str) -> int | None:
        return int(self._client.status()["trade_seq"]) if table == "events" else None

    def audit(self, settings: Settings) -> Audit:
        from livetrader_core.trade.audit import audit_events

        return audit_events(settings.watched(self.events(), self.where, self.count("events")))

    def _after(self, seq: int) -> Iterator[TradeEvent]:
        while page := self._client.fetch_events(seq):
            yield from page
            seq = page[-1].seq


@contextmanager
def open_source(
    settings: Settings, file: Path | None, endpoint: str | None
) -> Iterator[JournalSource]:
    """The file, or, if a server has it open or was named, that server.

    Raises StorageError, NotConnected.
    """

    if endpoint is not None and file is not None:
        raise click.UsageError("--file and --endpoint are one or the other")
    copy = None if endpoint else _copy_unless_served(settings, file)
    if copy is not None:
        with copy:
            yield FileSource(copy)
        return
    with settings.connected(endpoint) as client:
        yield ServerSource(client)


def _copy_unless_served(settings: Settings, file: Path | None) -> JournalCopy | None:
    """A copy of the journal's file; None if the configured server has it open."""
    from livetrader_core.trade.journal_copy import JournalCopy

    try:
        return JournalCopy(file or settings.config.journal.path)
    except JournalInUse:
        if file is not None or settings.endpoint(None) is None:
            raise
        return None
