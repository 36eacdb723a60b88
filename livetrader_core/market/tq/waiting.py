"""Waiting with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from livetrader_core.errors import RequestTimeout


async def first_of(work: Coroutine[Any, Any, Any], timeout: float) -> None:
    """Wait for ``work``, at most ``timeout`` seconds."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=timeout)
    finally:
        task.cancel()


async def within(work: Coroutine[Any, Any, Any], timeout: float, host: str) -> Any:
    """The outcome of ``work``. Raises RequestTimeout after ``timeout`` seconds, naming ``host``."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise RequestTimeout(f"timeout: {host} has not answered within {timeout:g} s")
    return task.result()
