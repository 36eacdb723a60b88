"""What a Cerebro with feeds of ours does besides: its end ends every wait, and leaves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from livetrader_core.errors import ConfigError

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore

_NAME = "_livetrader_run"
#: Parameters that decide whether the processes of an optimization get the bars from the first.
_SHARING = ("maxcpus", "optdatas", "preload", "runonce", "exactbars")


class Run:
    """Stands before ``run`` and ``runstop`` of one Cerebro. Can be pickled with it."""

    def __init__(self, cerebro: Any) -> None:
        self.cerebro = cerebro
        self.stores: list[LiveTraderStore] = []

    def run(self, **kwargs: Any) -> Any:
        """``Cerebro.run``; where it raises, backtrader stops nothing, so this does."""
        if self.cerebro._dooptimize:
            self._check_optimization(kwargs)
        for store in self.stores:
            store.begin_run()
        try:
            return type(self.cerebro).run(self.cerebro, **kwargs)
        except BaseException:
            for store in self.stores:
                store.abort_run()
            raise

    def _check_optimization(self, kwargs: Mapping[str, Any]) -> None:
        cerebro = self.cerebro
        if any(data.islive() for data in cerebro.datas):
            raise ConfigError(
                "optstrategy() runs a strategy many times over one history: use mode='backtest', "
                "or feeds with historical=True"
            )
        wanted = {name: kwargs.get(name, getattr(cerebro.p, name)) for name in _SHARING}
        shared = wanted["optdatas"] and wanted["preload"] and wanted["runonce"]
        if wanted["maxcpus"] != 1 and (cerebro._doreplay or wanted["exactbars"] or not shared):
            for store in self.stores:
                store.check_copies()

    def runstop(self) -> None:
        """``Cerebro.runstop``, and an end to every wait."""
        type(self.cerebro).runstop(self.cerebro)
        for store in self.stores:
            store.hub.stop()


def run_of(cerebro: Any) -> Run:
    """What stands before ``cerebro``; put there at the first call."""
    run: Run | None = vars(cerebro).get(_NAME)
    if run is None:
        run = Run(cerebro)
        setattr(cerebro, _NAME, run)
        cerebro.run, cerebro.runstop = run.run, run.runstop
    return run
