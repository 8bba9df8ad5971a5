"""Caches that keep the entries used last. A cache has a largest number of entries, or of bytes.

Owned by one thread, or guarded by a lock.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(Generic[K, V]):
    """Keeps at most `most` entries. A new entry replaces the entry that was used longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        """Whether the key is in; this is no use of it."""
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value, which now counts as used last; None where there is none."""
        entries = self._entries
        value = entries.get(key)
        if value is not None:
            entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value, and mark it as used last."""
        entries = self._entries
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) > self._most:
            entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Forget a key; returns its value, None where there was none."""
        return self._entries.pop(key, None)


class SizedLRU(Generic[K, V]):
    """Keeps `most` entries, and values of `most_bytes` in sum: the oldest entries make room.

    A value's size is given when the value is put in. `total_bytes` is always the sum of the sizes
    of the entries that are in.
    """

    def __init__(self, most: int, *, most_bytes: int, size: Callable[[V], int]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.total_bytes = 0

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        """Whether the key is in; this is no use of it."""
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value, which now counts as used last; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V) -> None:
        """Keep a value; the oldest entries make room. A value larger than the whole is not kept."""
        entries, size = self._entries, self._size(value)
        if (former := entries.pop(key, None)) is not None:
            self.total_bytes -= former[1]
        entries[key] = (value, size)
        self.total_bytes += size
        while self.total_bytes > self._most_bytes or len(entries) > self._most:
            _, (_, gone) = entries.popitem(last=False)
            self.total_bytes -= gone

    def pop(self, key: K) -> V | None:
        """Forget a key; returns its value, None where there was none."""
        value, size = self._entries.pop(key, (None, 0))
        self.total_bytes -= size
        return value
