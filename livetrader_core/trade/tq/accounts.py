"""The kinds of accounts that tqsdk trades with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import SecretStr

from livetrader_core.errors import ConfigError
from livetrader_core.market.tq import settings

#: Makes an account out of the module tqsdk.
Make = Callable[[Any], Any]


class Kind(NamedTuple):
    """``paper``: no real money moves; ``lasting``: the account outlives a connection."""

    paper: bool
    lasting: bool


KINDS = {"kq": Kind(True, True), "account": Kind(False, True), "sim": Kind(True, False)}


def account_of(
    kind: str,
    broker: str,
    account: str,
    account_password: SecretStr | str,
    cash: float,
    td_url: str,
) -> tuple[Make, str]:
    """What makes the account, and the broker's name for it ("" if it has none).

    Raises ConfigError.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind: must be one of {', '.join(sorted(KINDS))}, not {kind!r}")
    if kind == "kq":
        return (lambda tqsdk: tqsdk.TqKq(td_url=td_url or None)), ""
    if kind == "sim":
        amount = settings.positive("cash", cash)
        return (lambda tqsdk: tqsdk.TqSim(init_balance=amount)), ""
    for name, value in (("broker", broker), ("account", account)):
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{name}: must be given for kind = 'account', not {value!r}")
    hidden = settings.secret("account_password", account_password)

    def make(tqsdk: Any) -> Any:
        password = hidden.get_secret_value()
        return tqsdk.TqAccount(broker.strip(), account.strip(), password, td_url=td_url or None)

    return make, account.strip()
