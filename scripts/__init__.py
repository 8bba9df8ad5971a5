"""Programs beside the service: measurements, and what is generated."""
