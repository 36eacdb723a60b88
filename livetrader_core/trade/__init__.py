"""Trade adapters: one file per venue."""
