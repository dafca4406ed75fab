"""What a page index is made of: runs of memory for pages, the centroids of a level, what a reader holds of them.

Memory is given out in runs of blocks and taken back; who takes it back says when nobody reads it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.files import zeros
from aeon_native.page_layout import FIELD, block_bytes

_LARGER = 8  # what a level is short of room for is copied at once: seldom, since room that is not used takes no memory
_SLAB_BYTES = 1 << 20  # memory is asked for in pieces of this size, from the system: what is given back is gone


class Frames:
    """Memory for pages, in runs of blocks of a few sizes; given back to the system when the index goes."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._bytes = block_bytes(dim)
        self._free: dict[int, list[int]] = {}
        self._slabs: list[NDArray[np.uint8]] = []
        self._nothing = np.zeros(1, np.uint64)  # has an address, which pages without room have in common

    def take(self, blocks: int) -> int:
        """Address of a run of `blocks`; its bytes are undefined."""
        if not blocks:
            return self._nothing.ctypes.data
        free = self._free.setdefault(blocks, [])
        if not free:
            size = blocks * self._bytes
            count = max(1, _SLAB_BYTES // size)
            slab = zeros((count * size + 64,), np.dtype(np.uint8))
            self._slabs.append(slab)
            start = -(-slab.ctypes.data // 64) * 64
            free.extend(start + size * at for at in reversed(range(count)))
        return free.pop()

    def give(self, address: int, blocks: int) -> None:
        """Take a run back."""
        if blocks:
            self._free.setdefault(blocks, []).append(address)

    def adopt(self, blocks: NDArray[Any]) -> None:
        """Keep memory that pages lie in and that was not made here."""
        self._slabs.append(blocks.view(np.uint8))

    @property
    def bytes(self) -> int:
        """All memory held."""
        return sum(slab.nbytes for slab in self._slabs)


class Level:
    """Centroids of one level and where their pages lie. The writer's own; a snapshot copies `pages` and `blocks`."""

    def __init__(self, dim: int) -> None:
        self.count = 0  # slots ever used
        self.free: list[int] = []
        self.live = 0
        self._grow(64, dim)

    def _grow(self, size: int, dim: int) -> None:
        def larger(old: NDArray[Any] | None, dtype: Any, *shape: int) -> NDArray[Any]:
            new = zeros((size, *shape), np.dtype(dtype))
            if old is not None:
                new[: len(old)] = old
            return new

        first = self.count == 0
        self.codes: NDArray[np.int8] = larger(None if first else self.codes, np.int8, dim)
        self.scales: NDArray[np.float32] = larger(None if first else self.scales, np.float32)
        self.lengths: NDArray[np.float32] = larger(None if first else self.lengths, np.float32)
        self.pages: NDArray[np.uint64] = larger(None if first else self.pages, np.uint64)
        self.counts: NDArray[np.uint32] = larger(None if first else self.counts, np.uint32)
        self.capacities: NDArray[np.uint32] = larger(None if first else self.capacities, np.uint32)
        self.parents: NDArray[np.int64] = larger(None if first else self.parents, np.int64)
        # Number of the first snapshot that shows the slot, and the one that shows the page it has now.
        self.since: NDArray[np.int64] = larger(None if first else self.since, np.int64)
        self.page_since: NDArray[np.int64] = larger(None if first else self.page_since, np.int64)

    def reserve(self, count: int, dim: int) -> None:
        """Make room for `count` slots."""
        size = len(self.scales)
        while size < count:
            size *= _LARGER
        if size > len(self.scales):
            self._grow(size, dim)

    def take(self, dim: int) -> int:
        """A slot that no snapshot shows."""
        self.live += 1
        if self.free:
            return self.free.pop()
        if self.count == len(self.scales):
            self._grow(_LARGER * self.count, dim)
        self.count += 1
        return self.count - 1

    def centroid(self, slot: int) -> NDArray[np.float32]:
        """The unit centroid as float32[dim]."""
        return self.codes[slot].astype(np.float32) * self.scales[slot]

    def centroids(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """The same for many."""
        return self.codes[slots].astype(np.float32) * self.scales[slots, None]

    def used(self) -> NDArray[np.int64]:
        """Slots that hold a page."""
        return np.flatnonzero(self.pages[: self.count])


@dataclass(frozen=True)
class StoredLevel:
    """One level of an index as arrays over its pages, from a pages file; their blocks lie one behind the other there.

    slots : int64[n]. scales, lengths : float32[n]. counts, blocks : uint32[n]. codes : int8[n, dim].
    """

    slots: NDArray[np.int64]
    scales: NDArray[np.float32]
    lengths: NDArray[np.float32]
    counts: NDArray[np.uint32]
    blocks: NDArray[np.uint32]
    codes: NDArray[np.int8]


class Snapshot:
    """What one search reads: the context of the kernels, and the arrays behind its addresses."""

    __slots__ = ("__weakref__", "_keep", "ctx", "groups", "levels", "pages", "reach", "rows")

    def __init__(
        self, ctx: NDArray[np.int64], keep: tuple[Any, ...], pages: int, groups: int,
        levels: dict[str, dict[str, NDArray[Any]]],
    ) -> None:  # fmt: skip
        self.ctx = ctx
        self.levels = levels  # "top" and "slot": codes, scales, lengths, pages, blocks by slot
        self._keep = keep
        self.rows, self.reach = int(ctx[FIELD["rows"]]), int(ctx[FIELD["reach"]])
        self.pages = pages
        self.groups = groups
