"""The endpoints: one module a noun, with its JSON schemas beside it."""
