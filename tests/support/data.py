"""Where tests find recorded klines, if this checkout lies beside them."""

from __future__ import annotations

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def recorded_data() -> Path | None:
    """The folder of recorded klines, or None: then the same test runs on generated ones."""
    folder = Path(os.environ.get("LIVETRADER_DATA", _BESIDE))
    return folder if folder.is_dir() else None


def proving() -> bool:
    """Whether full counts are asked for (`make prove`)."""
    return os.environ.get("LIVETRADER_PROVE") == "1"
