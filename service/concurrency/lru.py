"""A cache of the entries that were used last, bounded by their number and by their size."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(Generic[K, V]):
    """Forgets the entry that was used longest ago. Owned by one thread, or guarded by a lock.

    `size` gives the bytes of a value; it is asked once, when the value is put in. `total_bytes` is
    always the sum of the sizes of the entries that are in.
    """

    def __init__(
        self, most: int, *, most_bytes: int | None = None, size: Callable[[V], int] | None = None
    ) -> None:
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
        self.pop(key)
        size = self._size(value) if self._size else 0
        self._entries[key] = (value, size)
        self.total_bytes += size
        while self._is_over():
            _, (_, gone) = self._entries.popitem(last=False)
            self.total_bytes -= gone

    def pop(self, key: K) -> V | None:
        """Forget a key; returns its value, None where there was none."""
        value, size = self._entries.pop(key, (None, 0))
        self.total_bytes -= size
        return value

    def _is_over(self) -> bool:
        if len(self._entries) > self._most:
            return True
        return self._most_bytes is not None and self.total_bytes > self._most_bytes
