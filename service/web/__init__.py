"""The web client: its files, which are served as they are."""
