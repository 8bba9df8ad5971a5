"""Time travel: `throughline show` and `throughline diff`."""
