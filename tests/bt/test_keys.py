"""A store whose server asks for keys."""

from __future__ import annotations

import pickle

import backtrader as bt
import pytest

from livetrader_bt import LiveTraderStore
from livetrader_core.errors import NotAllowed, NotConnected
from livetrader_core.market import MarketService, ReplayMarket
from livetrader_core.rpc import Allowed, Guard, KeyPair, Keys, Role
from livetrader_core.trade import TradeService
from livetrader_core.trade.paper import PaperTrade
from tests.support.serving import serving

SERVER, CLIENT = KeyPair.new(), KeyPair.new()


def services() -> tuple[MarketService, TradeService]:
    market = MarketService(ReplayMarket("generated"))
    return market, TradeService(PaperTrade(market))


def guard(role: Role) -> Guard:
    return Guard(SERVER, {CLIENT.public: Allowed("strategy", role)})


def run(store: LiveTraderStore, mode: str) -> int:
    cerebro = bt.Cerebro()
    window = {"fromdate": "2025-11-03", "todate": "2025-11-04T15:00"}
    if mode == "paper":
        window["live_from"] = "2025-11-04"
    store.setup(cerebro, ["US.BABA"], mode=mode, cash=10_000.0, **window)  # type: ignore[arg-type]
    cerebro.addstrategy(bt.Strategy)
    (strategy,) = cerebro.run()
    return len(strategy.data)


def test_a_strategy_runs_over_tcp_with_keys_and_not_without() -> None:
    keys = Keys(CLIENT, SERVER.public)
    tcp = "tcp://127.0.0.1:*"
    with serving(services, endpoint=tcp, guard=guard(Role.TRADE)) as endpoint:
        assert run(LiveTraderStore(endpoint, keys=keys), "backtest") > 300
        copy = pickle.loads(pickle.dumps(LiveTraderStore(endpoint, keys=keys)))
        assert run(copy, "paper") > 300
        with pytest.raises(NotConnected, match="asks for keys"):
            run(LiveTraderStore(endpoint, timeout=1.0), "backtest")


def test_who_may_only_read_can_backtest_but_not_trade() -> None:
    keys = Keys(CLIENT, SERVER.public)
    tcp = "tcp://127.0.0.1:*"
    with serving(services, endpoint=tcp, guard=guard(Role.MARKET)) as endpoint:
        assert run(LiveTraderStore(endpoint, keys=keys), "backtest") > 300
        with pytest.raises(NotAllowed, match="strategy has market"):
            run(LiveTraderStore(endpoint, keys=keys), "paper")
