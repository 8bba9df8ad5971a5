"""The three promises, proved under load and faults on one machine: `make prove`."""
