"""The advisor is compiled with g++; where there is none, that is said."""

from __future__ import annotations

import pytest

from tests.ea.build import compiler


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if compiler() is None:
        pytest.skip("g++ is needed to compile the expert advisor; install it (package g++)")
