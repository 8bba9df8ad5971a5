"""The texts that the service itself sends, in each language."""
