"""What orders at every MetaTrader 4 terminal have in common, whichever expert advisor is on it."""
