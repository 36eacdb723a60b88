"""livetrader for backtrader: store, feed and broker."""
