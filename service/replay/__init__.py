"""The log read again: exports, imports, replays to other systems, and the search for faults."""
