"""The tests mirror the packages that they test."""

import gc

# What is imported is no garbage. conftest.py starts the collector when all tests are imported.
gc.disable()
