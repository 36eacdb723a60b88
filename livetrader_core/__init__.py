"""Market data and trading for every market a program can trade, without any framework."""
