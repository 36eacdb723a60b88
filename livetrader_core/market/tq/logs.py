"""Keeps tqsdk's logging to tqsdk.

Its library puts a root, a manager and a class of loggers of its own in the place of Python's, so
that whatever is logged afterwards, by anybody, reaches no handler that the user has set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The loggers that tqsdk asks for by name; all others are children of these.
_THEIRS = ("TqApi", "TqApi.TqAuth", "TqApi.TqAccount")


@contextmanager
def own_logging() -> Iterator[None]:
    """Import tqsdk in here: Python's logging is as before afterwards, and tqsdk's fits into it."""
    root, manager, get_logger = logging.Logger.root, logging.Logger.manager, logging.getLogger
    kind = logging.getLoggerClass()
    try:
        yield
    finally:
        changed = logging.getLoggerClass()
        logging.Logger.root, logging.Logger.manager = root, manager
        logging.getLogger = get_logger
        logging.setLoggerClass(kind)
        if changed is not kind:
            _adopt(changed)


def _adopt(base: Any) -> None:
    """Make tqsdk's loggers of its class, which takes fields by keyword as Python's does not."""

    class VendorLogger(base):  # type: ignore[misc]
        def getChild(self, suffix: str) -> logging.Logger:
            return make(f"{self.name}.{suffix}")

    def make(name: str) -> logging.Logger:
        manager = logging.Logger.manager
        before = manager.loggerClass
        manager.loggerClass = VendorLogger
        try:
            return manager.getLogger(name)
        finally:
            manager.loggerClass = before

    for name in _THEIRS:
        make(name)
