"""Simulated venues: they speak the venue's own protocol to the venue's own client library.

Nothing here imports ``livetrader_core.market`` or ``livetrader_core.trade``: a simulator converts
times and builds frames by itself, or one mistake would cancel another.
"""
