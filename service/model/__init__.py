"""The language model: a client of the provider, and a model that works offline."""
