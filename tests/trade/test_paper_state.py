"""A paper account that outlives its server: whatever was told is what the next one has."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest

from livetrader_core.errors import OrderRejected, OutcomeUnknown, StorageError
from livetrader_core.models import Margin, OrderStatus, OrderType
from livetrader_core.service import MarketService
from livetrader_core.trade import PaperTrade, TradeService
from livetrader_core.trade.paper.state import StateFile
from tests.rpc.wiring import until
from tests.support.scripted_market import START, ScriptedMarket, bar, contract
from tests.trade.test_paper import BUY, MINUTE, SELL, order

LIMIT, STOP = OrderType.LIMIT, OrderType.STOP
CONTRACTS = (contract(), contract("FOREX.A", multiplier=10.0, margin=Margin(per_unit=100.0)))


async def venue(path: Path, minute: int = 0, **settings: Any) -> tuple[ScriptedMarket, PaperTrade]:
    market = ScriptedMarket(CONTRACTS)
    market.time = START + minute * MINUTE
    paper = PaperTrade(market, state=path, **settings)
    await paper.connect()
    return market, paper


async def snapshot(paper: PaperTrade) -> tuple[Any, ...]:
    return (
        await paper.fetch_balance(),
        await paper.fetch_positions(),
        await paper.fetch_open_orders(),
        await paper.fetch_fills(),
        dict(paper._orders),
    )


def copy_of(path: Path) -> Path:
    """What a crash would leave of the file at this moment."""
    copy = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
    for suffix in ("", "-wal"):
        if (source := Path(f"{path}{suffix}")).exists():
            Path(f"{copy}{suffix}").write_bytes(source.read_bytes())
    return copy


def test_every_moment_can_be_the_last(tmp_path: Path) -> None:
    """After each step the file, opened by another, holds what this venue would say."""

    async def main() -> None:
        path = tmp_path / "paper.sqlite"
        market, paper = await venue(path, volume_limit=0.5)
        assert paper.keeps_books

        async def step(what: Any) -> None:
            await what
            copy = copy_of(path)
            other = PaperTrade(ScriptedMarket(CONTRACTS), state=copy)
            await other.connect()
            balances, *rest = await snapshot(paper)
            found, *others = await snapshot(other)
            assert others == rest
            assert [(b.cash, b.margin) for b in found] == [(b.cash, b.margin) for b in balances]
            assert [vars(w) for w in other._book.working] == [vars(w) for w in paper._book.working]
            assert other._book.links == paper._book.links
            await other.disconnect()

        await step(paper.create_order(order(1, quantity=100.0)))
        await step(paper.create_order(order(2, SELL, STOP, stop_price=95.0, parent="o-1")))
        await step(paper.create_order(order(3, SELL, LIMIT, price=105.0, parent="o-1", oco="o-2")))
        wish = {"price": 94.0, "stop_price": 102.0}
        await step(paper.create_order(order(4, BUY, OrderType.STOP_LIMIT, **wish)))
        await step(paper.create_order(order(5, BUY, OrderType.CLOSE, symbol="FOREX.A")))
        trail = {"stop_price": 90.0, "trail_amount": 10.0}
        await step(paper.create_order(order(6, SELL, OrderType.TRAILING_STOP, **trail)))
        for minute in range(4):
            bars = (
                bar(minute, 100.0, 103.0, 99.0, 100.5 + minute, volume=100.0),
                bar(minute, 50.0, 51.0, 49.0, 50.5, symbol="FOREX.A"),
            )
            await step(market.moment(*bars))
        await step(paper.modify_order("o-3", price=110.0))
        await step(paper.cancel_order("o-4"))
        statuses = {o.client_order_id: o.status for o in paper._orders.values()}
        assert statuses["o-1"] is OrderStatus.FILLED
        assert statuses["o-4"] is OrderStatus.CANCELED
        await paper.disconnect()

    asyncio.run(main())


def test_a_restarted_venue_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "paper.sqlite"
        market, paper = await venue(path, cash=5_000.0)
        await paper.create_order(order(1))
        await paper.create_order(order(2, SELL, STOP, stop_price=95.0, parent="o-1"))
        await market.moment(bar(0, 100.0, 101.0, 99.0, 100.0))
        await paper.disconnect()
        # Other money in the settings is of no account: the account has its own.
        market, paper = await venue(path, minute=5, cash=1.0)
        await until(lambda: paper.service._watches)
        known = await paper.create_order(order(1))
        assert known.status is OrderStatus.FILLED
        await market.moment(bar(5, 97.0, 98.0, 94.0, 96.0))
        fills = await paper.fetch_fills()
        assert [(f.client_order_id, f.price) for f in fills] == [("o-1", 100.0), ("o-2", 95.0)]
        assert len({fill.trade_id for fill in fills}) == 2
        (balance,) = await paper.fetch_balance()
        assert balance.cash == 5_000.0 - 50.0
        await paper.disconnect()

    asyncio.run(main())


def test_books_agree_after_a_restart_of_the_whole_server(tmp_path: Path) -> None:
    async def main() -> None:
        for run, minute in enumerate((0, 10)):
            market = ScriptedMarket(CONTRACTS)
            market.time = START + minute * MINUTE
            service = MarketService(market)
            paper = PaperTrade(service, state=tmp_path / "paper.sqlite")
            trade = TradeService(paper, tmp_path / "journal.sqlite", market=service)
            await service.connect()
            await trade.connect()
            assert (await trade.reconcile()).differences == ()
            done = await trade.create_order(order(run))
            assert done.status is OrderStatus.ACCEPTED
            await market.moment(bar(minute, 100.0, 101.0, 99.0, 100.0))
            await until(lambda: len(trade.journal.fills()) == run + 1)  # noqa: B023
            (position,) = await trade.fetch_positions()
            assert position.quantity == 10.0 * (run + 1)
            await trade.stop()
            await service.stop()

    asyncio.run(main())


def test_a_margin_call_is_an_event_like_others(tmp_path: Path) -> None:
    async def main() -> None:
        market = ScriptedMarket(CONTRACTS)
        service = MarketService(market)
        paper = PaperTrade(service, cash=600.0, margin_call=0.5)
        trade = TradeService(paper, market=service)
        await service.connect()
        await trade.connect()
        await trade.create_order(order(1, symbol="FOREX.A", quantity=5.0))
        for minute, price in enumerate((100.0, 92.0, 91.0)):
            await market.moment(bar(minute, price, price, price, price, symbol="FOREX.A"))
        await until(lambda: len(trade.journal.fills()) == 2)
        _, call = trade.journal.orders()
        assert (call.reason, call.status) == ("", OrderStatus.FILLED)
        assert call.client_order_id.startswith("call-")
        assert (await trade.reconcile()).differences == ()
        await trade.stop()
        await service.stop()

    asyncio.run(main())


def test_nobody_hears_of_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        market, paper = await venue(tmp_path / "paper.sqlite")
        await paper.create_order(order(1))
        heard: list[Any] = []

        async def listen() -> None:
            async for event in paper.watch_events():
                heard.append(event)

        listening = asyncio.get_running_loop().create_task(listen())
        await asyncio.sleep(0)

        def full(*_: object) -> None:
            raise StorageError("the disk is full")

        await paper.create_order(order(3, kind=LIMIT, price=50.0))
        with monkeypatch.context() as patch:
            patch.setattr(StateFile, "write", full)
            with pytest.raises(OutcomeUnknown, match="o-3: what it is now is not written"):
                await paper.modify_order("o-3", price=51.0)
            with pytest.raises(OrderRejected, match="disk is full"):
                await paper.create_order(order(2))
            await market.moment(bar(0, 100.0, 101.0, 99.0, 100.0))
            assert heard == []
            for ask in (
                paper.fetch_positions(),
                paper.fetch_balance(),
                paper.fetch_fills(),
                paper.fetch_open_orders(),
                paper.fetch_order("o-1"),
            ):
                with pytest.raises(StorageError, match="disk is full"):
                    await ask
            with pytest.raises(OutcomeUnknown, match="o-1: what it is now is not written"):
                await paper.create_order(order(1))
        (position,) = await paper.fetch_positions()  # there is room again: it is written first
        assert position.quantity == 10.0
        await until(lambda: len(heard) == 2)
        assert [event.order.client_order_id for event in heard] == ["o-3", "o-1"]
        assert await paper.fetch_order("o-2") is None
        await paper.disconnect()
        await listening
        _, paper = await venue(tmp_path / "paper.sqlite", minute=5)
        assert [fill.client_order_id for fill in await paper.fetch_fills()] == ["o-1"]
        await paper.disconnect()

    asyncio.run(main())


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "paper.sqlite"

    async def open_it() -> None:
        paper = PaperTrade(ScriptedMarket(CONTRACTS), state=path)
        try:
            await paper.connect()
        finally:
            await paper.disconnect()

    async def main() -> None:
        _, paper = await venue(path)
        await paper.create_order(order(1))
        with pytest.raises(StorageError, match="another process has it open"):
            await open_it()
        await paper.disconnect()
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("UPDATE parts SET body='{' WHERE name='account'")
        connection.close()
        with pytest.raises(StorageError, match=r"paper.sqlite: cannot be read .* damaged"):
            await open_it()
        path.write_text("a text that is no database " * 100)
        with pytest.raises(StorageError, match=r"paper\.sqlite: cannot read it"):
            await open_it()

    asyncio.run(main())
