"""The log read again: exports, imports, replays, a relay, and the search for faults."""
