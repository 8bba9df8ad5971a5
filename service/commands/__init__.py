"""Commands: load the streams, decide, append."""
