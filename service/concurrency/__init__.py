"""Building blocks for concurrent work, each with a bound: a batcher, a ring, a cache, workers."""
