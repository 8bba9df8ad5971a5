"""What the business says: events, decisions, contracts. Pure: no I/O, clock, chance or ids."""
