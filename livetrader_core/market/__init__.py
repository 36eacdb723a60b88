"""Market adapters: one file per venue."""
