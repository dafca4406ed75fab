"""Columns: records of one size, appended only; a mapped base that never changes length, then chunks in memory.

Safety in one sentence: a record's bytes are written before the count that shows it is raised, and chunks never move, so
a reader that took the count may read everything below it without a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.files import zeros

CHUNK_RECORDS = 4096  # a chunk of 384-dim codes is 1.5 MB: few runs to scan, little memory for a small store


class Column:
    """An append-only array of fixed-size records.

    Parameters
    ----------
    base : ndarray [n, ...], the records that are on disk; borrowed, kept alive.
    """

    __slots__ = ("_chunks", "_shape", "base", "base_count", "count")

    def __init__(self, base: NDArray[Any]) -> None:
        self.base = base
        self.base_count = len(base)
        self.count = self.base_count
        self._chunks: list[NDArray[Any]] = []
        self._shape = (CHUNK_RECORDS, *base.shape[1:])

    def slot(self) -> tuple[NDArray[Any], int]:
        """Return (chunk, index in it) of the next record, zeroed; `commit` shows it.

        A chunk is begun when the one before it is half full, so that `addresses` reach some thousand records ahead.
        """
        chunk, index = divmod(self.count - self.base_count, CHUNK_RECORDS)
        while chunk + (index >= CHUNK_RECORDS // 2) >= len(self._chunks):
            self._chunks.append(zeros(self._shape, self.base.dtype))
        return self._chunks[chunk], index

    def commit(self) -> int:
        """Show the record written to `slot`; return its index."""
        self.count += 1
        return self.count - 1

    def locate(self, index: int) -> tuple[NDArray[Any], int]:
        """Return (array, position in it) of record `index`, without a copy."""
        if index < self.base_count:
            return self.base, index
        chunk, position = divmod(index - self.base_count, CHUNK_RECORDS)
        return self._chunks[chunk], position

    def __getitem__(self, index: int) -> Any:
        array, position = self.locate(index)
        return array[position]

    def runs(self, stop: int, start: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Iterate over (index of the first record, contiguous view) of records `start` to `stop`."""
        if start < self.base_count:
            end = min(stop, self.base_count)
            if end > start:
                yield start, self.base[start:end]
            start = self.base_count
        while start < stop:
            chunk, position = divmod(start - self.base_count, CHUNK_RECORDS)
            count = min(stop - start, CHUNK_RECORDS - position)
            yield start, self._chunks[chunk][position : position + count]
            start += count

    def field(self, name: str, stop: int) -> NDArray[Any]:
        """Copy one field of the records below `stop`: [stop]."""
        out = zeros((stop,), self.base.dtype[name])
        for first, run in self.runs(stop):
            out[first : first + len(run)] = run[name]
        return out

    def take(self, indexes: NDArray[np.int64], field: str | None = None) -> NDArray[Any]:
        """Copy the records at `indexes` (int64[m], any order), or one field of them."""
        base = self.base if field is None else self.base[field]
        if not self._chunks:
            return base[indexes]
        out = zeros((len(indexes), *base.shape[1:]), base.dtype)
        in_base = indexes < self.base_count
        out[in_base] = base[indexes[in_base]]
        rest = np.flatnonzero(~in_base)
        chunk_of, position = np.divmod(indexes[rest] - self.base_count, CHUNK_RECORDS)
        for chunk in np.unique(chunk_of):
            here = chunk_of == chunk
            records = self._chunks[chunk] if field is None else self._chunks[chunk][field]
            out[rest[here]] = records[position[here]]
        return out

    def addresses(self) -> tuple[int, NDArray[np.uint64], list[Any]]:
        """Return (where the base begins, where each chunk begins: uint64[chunks], what has to live for as long)."""
        chunks = list(self._chunks)
        table = np.array([chunk.ctypes.data for chunk in chunks], np.uint64)
        return self.base.ctypes.data, table, [self.base, *chunks, table]

    def tail(self, stop: int | None = None) -> NDArray[Any]:
        """Copy of the records that are not in the base."""
        runs = [run for _, run in self.runs(self.count if stop is None else stop, self.base_count)]
        return np.concatenate(runs) if runs else np.empty((0, *self._shape[1:]), self.base.dtype)
