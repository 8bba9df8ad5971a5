"""Several processes that serve the same sockets, and the parent that keeps them running."""
