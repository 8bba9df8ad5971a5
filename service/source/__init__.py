"""A project's source code, read-only and inside one folder."""
