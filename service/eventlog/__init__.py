"""The event log: append, read, follow live, and decide on streams."""
