"""Sizers that know what one unit of a contract costs."""

from __future__ import annotations

from typing import Any

import backtrader as bt


class PercentSizer(bt.Sizer):
    """As many whole steps as ``percents`` (20) of the cash pay for, by margin where there is one.

    backtrader's own of that name divides the cash by the price: of a currency pair that would be
    thousands of lots.
    """

    params = (("percents", 20),)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        return float(comminfo.getsize(data.close[0], cash * self.p.percents / 100))
