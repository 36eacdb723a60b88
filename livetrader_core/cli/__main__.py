"""``python -m livetrader_core.cli``."""

from livetrader_core.cli.app import main

main()
