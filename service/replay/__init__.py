"""The log read again: exports, imports, replays and a relay to other systems, and the search for faults."""
