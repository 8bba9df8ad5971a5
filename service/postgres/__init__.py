"""The database: its connections, migrations and roles, and the embedded server."""
