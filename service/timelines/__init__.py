"""A project's timeline as JSON, page by page and live."""
