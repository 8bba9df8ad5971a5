"""The web client: its files, and how they are served."""
