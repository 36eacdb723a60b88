"""Loading tqsdk leaves Python's logging to the user."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import logging
logging.basicConfig(format="%(name)s %(message)s")
before = logging.getLogger("before")
from livetrader_core.market.tq.library import load
load()
assert logging.getLogger() is logging.root is logging.Logger.root
assert type(logging.getLogger("after")) is logging.Logger
before.warning("one")
logging.getLogger("after").warning("two")
vendor = logging.getLogger("TqApi")
vendor.getChild("TqConnect").warning("three", url="somewhere")
logging.getLogger("TqApi.TqAuth").getChild("deeper").error("four", error="no")
"""


def test_what_anybody_logs_still_reaches_the_handlers() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines() == [
        "before one",
        "after two",
        "TqApi.TqConnect three",
        "TqApi.TqAuth.deeper four",
    ]
