"""The running service: each package is a room, and a room imports only rooms below it."""
