"""What every market of a MetaTrader 4 terminal needs, whichever expert advisor it talks to."""
