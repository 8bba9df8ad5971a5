"""What the log costs, as ratios within one run on one embedded server: `make bench`."""
