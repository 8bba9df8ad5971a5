"""A reply as a stream: its events are stored, then sent, and can be joined at any time."""
