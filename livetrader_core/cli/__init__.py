"""The command ``livetrader``; one module for each group of commands."""

from livetrader_core.cli.app import main

__all__ = ["main"]
