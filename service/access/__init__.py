"""Authentication of callers, access to streams, and the audit of requests."""
