"""Every speed claim, measured side by side with what a user would otherwise have."""
