"""What a Cerebro with feeds of ours does besides: its end ends every wait, and leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livetrader_bt.store import LiveTraderStore

_NAME = "_livetrader_run"


class Run:
    """Stands before ``run`` and ``runstop`` of one Cerebro. Can be pickled with it."""

    def __init__(self, cerebro: Any) -> None:
        self.cerebro = cerebro
        self.stores: list[LiveTraderStore] = []

    def run(self, **kwargs: Any) -> Any:
        """``Cerebro.run``; where it raises, backtrader stops nothing, so this does."""
        for store in self.stores:
            store.begin_run()
        try:
            return type(self.cerebro).run(self.cerebro, **kwargs)
        except BaseException:
            for store in self.stores:
                store.abort_run()
            raise

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
