"""Webhooks: events of a tenant, sent to addresses that the tenant names."""
