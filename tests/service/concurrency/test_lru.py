"""A cache of the entries that were used last."""

from service.concurrency.lru import LRU, SizedLRU


def test_the_entry_that_was_used_longest_ago_makes_room() -> None:
    cache: LRU[str, int] = LRU(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_the_cache_is_bounded_by_bytes() -> None:
    cache: SizedLRU[str, str] = SizedLRU(10, most_bytes=5, size=len)
    cache.put("a", "xxx")
    cache.put("b", "xxx")
    assert (len(cache), cache.total_bytes, cache.get("a")) == (1, 3, None)


def test_a_value_larger_than_the_cache_is_not_kept() -> None:
    cache: SizedLRU[str, str] = SizedLRU(10, most_bytes=5, size=len)
    cache.put("a", "xxxxxx")
    assert (len(cache), cache.total_bytes) == (0, 0)


def test_a_value_that_is_replaced_or_forgotten_counts_no_more() -> None:
    cache: SizedLRU[str, str] = SizedLRU(10, most_bytes=50, size=len)
    cache.put("a", "xxx")
    cache.put("a", "x")
    assert cache.total_bytes == 1
    assert cache.pop("a") == "x"
    assert cache.pop("a") is None
    assert (len(cache), cache.total_bytes, "a" in cache) == (0, 0, False)
