"""Programs beside the service: measurements, proofs, and generators of files."""
