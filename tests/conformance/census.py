"""What a process has at a moment: tasks, threads and open files."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Census:
    """What runs and what is open in this process."""

    tasks: frozenset[asyncio.Task[object]]
    threads: frozenset[threading.Thread]
    files: Counter[str]

    @classmethod
    def take(cls) -> Census:
        """The census now."""
        gc.collect()
        # The event loop's own pool keeps its threads; how many it has is not the adapter's doing.
        threads = (t for t in threading.enumerate() if not t.name.startswith("asyncio_"))
        return cls(frozenset(asyncio.all_tasks()), frozenset(threads), _open_files())

    def left_of(self, before: Census) -> list[str]:
        """What there is now and was not ``before``."""
        tasks = [str(task) for task in self.tasks - before.tasks]
        threads = [str(thread) for thread in self.threads - before.threads]
        return [*tasks, *threads, *(self.files - before.files).elements()]


def _open_files() -> Counter[str]:
    """Open files by kind: a number of the system's is given again, so none is compared."""
    kinds: Counter[str] = Counter()
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            kinds[os.readlink(entry).partition(":")[0]] += 1
        except OSError:
            continue  # the listing itself, closed again
    return kinds
