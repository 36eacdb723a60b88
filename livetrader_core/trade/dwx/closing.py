"""What a close brought: its price and its costs, of which the expert advisor tells little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livetrader_core.models import Contract

if TYPE_CHECKING:
    from livetrader_core.trade.dwx.memory import Step

_CENT = 0.005


def executed(
    step: Step, lots: float, asked: float, gained: float, contract: Contract, currency: str
) -> tuple[float, float]:
    """The price of closing ``lots`` and the commission, in the contract's currency.

    ``asked`` is the price that the advisor asked for (0: its answer was lost), ``gained`` what the
    balance grew by. The broker's price may be a few points away: it is the one that explains the
    balance to the cent. What remains is commission and swap.
    """
    base, quote = _pair(contract)
    if currency not in (base, quote):
        return asked or step.price, 0.0
    size = lots * contract.multiplier

    def profit(price: float) -> float:
        return gain_of(step.price, step.sign, lots, price, contract, currency)

    if asked and abs(profit(asked) - gained) < _CENT:
        return asked, 0.0
    change = gained * step.sign / size
    exact = step.price + change if currency == quote else step.price / (1 - change)
    price = contract.round_price(exact)
    if not asked or _near(price, asked, contract):
        rate = 1.0 if currency == quote else price
        return price, round((profit(price) - gained) * rate, 2)
    rate = 1.0 if currency == quote else asked
    return asked, round((profit(asked) - gained) * rate, 2)


def gain_of(
    opened: float, sign: int, lots: float, price: float, contract: Contract, currency: str
) -> float:
    """What closing ``lots`` at ``price`` brings, to the cent, in the account's ``currency``.

    In the contract's own currency if the account's is neither of the pair's.
    """
    base, quote = _pair(contract)
    gain = (price - opened) * sign * lots * contract.multiplier
    return round(gain / price if currency == base and currency != quote else gain, 2)


def _near(price: float, asked: float, contract: Contract) -> bool:
    # The advisor's own limit of slippage is three points.
    return abs(price - asked) < 3.5 * contract.price_tick


def _pair(contract: Contract) -> tuple[str, str]:
    code = contract.symbol.partition(".")[2]
    return code[:3], code[3:6]
