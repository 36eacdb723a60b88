"""Asking the venues of a server, of which some may be down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from livetrader_core.cli.context import Settings
from livetrader_core.errors import LiveTraderError, NotAllowed, UnknownMethod

if TYPE_CHECKING:
    from livetrader_core.rpc import Client

Item = TypeVar("Item")


def ask_venues(
    client: Client, fetch: Callable[[str | None], list[Item]]
) -> tuple[list[Item], dict[str, str]]:
    """What ``fetch`` gives of every venue; and, by their markets, why others could not be asked.

    Raises what is against it if no venue can be asked.
    """
    try:
        return fetch(None), {}
    except (NotAllowed, UnknownMethod):
        raise
    except LiveTraderError as error:
        venues = client.status()["venues"]  # raises if it is the server that is gone
        why = error
    found: list[Item] = []
    unknown: dict[str, str] = {}
    for markets in venues:
        try:
            found += fetch(markets[0])
        except LiveTraderError as error:
            unknown[", ".join(markets)] = str(error)
    if len(unknown) == len(venues):
        raise why
    return found, unknown


def tell_unknown(settings: Settings, unknown: dict[str, str]) -> None:
    """Say which venues could not be asked; then this ends the command with code 1."""
    for markets, reason in unknown.items():
        settings.note(f"{markets}: not known: {reason}")
    if unknown:
        raise click.exceptions.Exit(1)
