"""The palace: what lies near to each other, for looking at. Pages of the index, with centroids, members and medoids."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.engine import View
from aeon.page_memory import Snapshot
from aeon.pages import PageIndex
from aeon.results import Memory
from aeon_native import dispatch
from aeon_native.page_layout import FIELD, block_dtype


@dataclass(frozen=True, eq=False)
class Page:
    """Memories that lie near to each other.

    Attributes
    ----------
    number : of the page; another one after a split. centroid : float32[dim], norm 1 within the rounding.
    """

    number: int
    centroid: NDArray[np.float32]
    _rows: NDArray[np.int64] = field(repr=False)
    _view: View = field(repr=False)

    def __len__(self) -> int:
        """How many living memories there are in it."""
        return len(self._rows)

    @property
    def ids(self) -> NDArray[np.uint64]:
        """Ids of its memories: uint64[n]."""
        return self._view.engine.atlas.ids(self._rows)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The rows of its memories: float32[n, dim], a copy."""
        atlas = self._view.engine.atlas
        return atlas.unit_rows(self._rows)[0][:, : atlas.dim]

    @cached_property
    def medoid(self) -> Memory | None:
        """The memory nearest to the centroid; None if all have ended."""
        if not len(self._rows):
            return None
        id_ = int(self.ids[(self.vectors @ self.centroid).argmax()])
        return self._memory(id_)

    def memories(self) -> list[Memory]:
        """All of its memories."""
        return [self._memory(id_) for id_ in self.ids.tolist()]

    def _memory(self, id_: int) -> Memory:
        engine = self._view.engine
        return Memory(engine, engine.trace.index_of(id_), id_)


@dataclass(frozen=True, eq=False)
class Group:
    """Pages that lie near to each other. centroid : float32[dim]. children : the pages."""

    number: int
    centroid: NDArray[np.float32]
    children: list[Page] = field(repr=False)

    def __len__(self) -> int:
        """How many living memories there are in its pages."""
        return sum(len(page) for page in self.children)


def browse(view: View) -> list[Group]:
    """Groups and pages as they are; those of an index made for this call if none serves."""
    atlas = view.engine.atlas
    index = atlas.index
    if index is None:
        dispatch.start()
        dispatch.wait()
        index = PageIndex(atlas, atlas.dim, bytes(16))
        index.build(view.rows)
    snapshot = index.snapshot
    groups = []
    for number, centroid, slots in _level(snapshot, "top", atlas.dim):
        pages = [Page(slot, *_page(snapshot, slot, view)) for slot in slots.tolist()]
        groups.append(Group(number, centroid, pages))
    waiting = np.arange(min(snapshot.rows, view.rows), view.rows)
    waiting = waiting[~_ended(view, waiting)]
    if len(waiting):  # the newest, which are in no page yet
        vectors = atlas.unit_rows(waiting)[0][:, : atlas.dim]
        mean = vectors.sum(0)
        centroid = mean / max(float(np.linalg.norm(mean)), 1e-6)
        groups.append(Group(-1, centroid, [Page(-1, centroid, waiting, view)]))
    return groups


def _array(snapshot: Snapshot, name: str, dtype: Any, count: int) -> NDArray[Any]:
    address = int(snapshot.ctx[FIELD[name]]) & (1 << 64) - 1
    if not count:
        return np.empty(0, dtype)
    raw = (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(raw, dtype)


def _listed(snapshot: Snapshot, level: str, slot: int) -> NDArray[np.int64]:
    """Numbers a page lists, those of empty lanes included: a copy, taken while the snapshot holds the memory."""
    dtype = block_dtype(int(snapshot.ctx[FIELD["dim"]]))
    address = int(_array(snapshot, f"{level}_pages", np.uint64, slot + 1)[slot])
    blocks = int(_array(snapshot, f"{level}_blocks", np.uint32, slot + 1)[slot])
    if not blocks:
        return np.empty(0, np.int64)
    raw = (ctypes.c_uint8 * (blocks * dtype.itemsize)).from_address(address)
    return np.frombuffer(memoryview(raw), dtype)["rows"].reshape(-1).astype(np.int64)


def _centroid(snapshot: Snapshot, level: str, slot: int, dim: int) -> NDArray[np.float32]:
    width = int(snapshot.ctx[FIELD["dim"]])
    codes = _array(snapshot, f"{level}_codes", np.int8, width * (slot + 1))[-width:][:dim]
    return codes.astype(np.float32) * _array(snapshot, f"{level}_scales", np.float32, slot + 1)[slot]


def _level(snapshot: Snapshot, level: str, dim: int) -> list[tuple[int, NDArray[np.float32], NDArray[np.int64]]]:
    """(number, centroid, what it lists) of each group."""
    count = int(snapshot.ctx[FIELD[f"{level}_count"]])
    used = np.flatnonzero(_array(snapshot, f"{level}_pages", np.uint64, count))
    slots = int(snapshot.ctx[FIELD["slot_count"]])
    found = []
    for number in used.tolist():
        listed = _listed(snapshot, level, number)
        found.append((number, _centroid(snapshot, level, number, dim), listed[listed < slots]))
    return found


def _page(snapshot: Snapshot, slot: int, view: View) -> tuple[NDArray[np.float32], NDArray[np.int64], View]:
    rows = _listed(snapshot, "slot", slot)
    rows = rows[rows < min(snapshot.rows, view.rows)]
    return _centroid(snapshot, "slot", slot, view.engine.atlas.dim), rows[~_ended(view, rows)], view


def _ended(view: View, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    died = view.engine.atlas.deaths.take(rows, "lsn")
    ended: NDArray[np.bool_] = (died != 0) & (died <= view.lsn)
    return ended
