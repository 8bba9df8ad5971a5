"""The demo: what a first run begins with, and a year that fills an empty database."""
