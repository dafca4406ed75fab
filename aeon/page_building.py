"""Building a whole page index at once: k-means in two stages, each row to its nearest page, pages to the mean of their rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aeon.background import in_two
from aeon_native import dispatch
from aeon_native.page_layout import LANES, scratch_bytes

if TYPE_CHECKING:
    from aeon.pages import PageIndex

PAGE_BLOCKS = 4  # 128 rows: small pages are few rows to look at for a recall, large ones few centroids (bench/growth)
PAGE_ROWS = PAGE_BLOCKS * LANES
GROUP_ROWS = 128
BUILD_ROWS = 72  # rows a page when a whole index is built: room for some inserts before the first splits
_REFINEMENTS = 1  # rounds of k-means over all rows: a fifth fewer rows to scan at 0.95; more, a percent (decision 11)
PAGE_BLOCKS_MAX = 2048  # a page that cannot be split grows up to here: 65,536 equal rows; then a second one begins

Rows = NDArray[np.int64]


def build(index: PageIndex, rows: int, stop: Callable[[], bool]) -> bool:
    """Make pages for the rows below `rows` of an empty index; False if `stop` said so meanwhile.

    Centroids come from k-means on a sample, in two stages; each row then goes to its nearest page, on two threads, and the
    centroids to the mean of their rows, in a few rounds.
    """
    live = np.concatenate([
        first + np.flatnonzero(~index._source.dead(np.arange(first, min(first + 65536, rows))))
        for first in range(0, rows, 65536)
    ] or [np.empty(0, np.int64)])  # fmt: skip
    if not len(live):
        index.rows = rows
        return True
    rng = np.random.default_rng(rows)
    pages = max(1, len(live) // BUILD_ROWS)
    sample = live if len(live) <= 32 * pages else np.sort(rng.choice(live, 32 * pages, replace=False))
    centroids, members = _two_stages(index, sample, pages, rng, stop)
    if stop():
        return False
    _seed(index, centroids, members)
    for _ in range(_REFINEMENTS):
        sums = np.zeros((index._slots.count, index.dim), np.float32)
        if _assign(index, live, stop, sums) is None:
            return False
        _move(index, sums)
    owners = _assign(index, live, stop)
    return owners is not None and _settle(index, live, owners, rows, stop)


def _two_stages(
    index: PageIndex, sample: Rows, pages: int, rng: np.random.Generator, stop: Callable[[], bool]
) -> tuple[NDArray[np.float32], list[NDArray[np.int64]]]:
    """(unit centroids of pages float32[p, dim], which of them belong to each group)."""
    groups = max(1, pages // (GROUP_ROWS * 5 // 8))
    top_sample = sample if len(sample) <= 256 * groups else np.sort(rng.choice(sample, 256 * groups, replace=False))
    top = kmeans(index._source.unit_rows(top_sample)[0], groups, rng)
    owner = np.concatenate([
        nearest_centroids(index._source.unit_rows(sample[at : at + 8192])[0], top)
        for at in range(0, len(sample), 8192)
    ])  # fmt: skip
    found, members, count = [], [], 0
    for group in range(len(top)):
        rows = sample[owner == group]
        if not len(rows) or stop():
            continue
        wanted = max(1, round(pages * len(rows) / len(sample)))
        part = kmeans(index._source.unit_rows(rows)[0], wanted, rng)
        found.append(part)
        members.append(np.arange(count, count + len(part)))
        count += len(part)
    return np.concatenate(found) if found else np.empty((0, index.dim), np.float32), members


def _seed(index: PageIndex, centroids: NDArray[np.float32], members: list[NDArray[np.int64]]) -> None:
    """Empty pages around the centroids, in groups."""
    slots = index._slots
    none, nothing = np.empty((0, index.dim), np.float32), np.empty(0, np.int64)
    new = np.array([index._new_slot(slots, c, none, np.empty(0, np.float32), nothing) for c in centroids], np.int64)
    for member in members:
        _new_group(index, new[member])
    index.publish()


def _new_group(index: PageIndex, members: NDArray[np.int64]) -> None:
    vectors = index._slots.centroids(members)
    mean = vectors.sum(0)
    centroid = mean / np.linalg.norm(mean) if mean.any() else vectors[0]
    group = index._new_slot(index._groups, centroid, vectors, index._slots.scales[members], members, GROUP_ROWS)
    index._slots.parents[members] = group
    if index._groups.counts[group] > GROUP_ROWS:
        index._split_group(group)


def _move(index: PageIndex, sums: NDArray[np.float32]) -> None:
    """Move the empty pages' centroids to the mean of rows whose sums are float32[pages, dim]; group them again."""
    slots, groups = index._slots, index._groups
    norms = np.linalg.norm(sums, axis=1)
    moved = np.flatnonzero(norms > 1e-6)
    codes, scales = np.empty((len(moved), index.dim), np.int8), np.empty(len(moved), np.float32)
    dispatch.kernels.quantize(sums[moved], codes, scales)
    slots.codes[moved], slots.scales[moved] = codes, scales
    for group in groups.used().tolist():
        members = index._numbers(groups, group)
        index._retire_slot(groups, group)
        _new_group(index, members)
    index.publish()


def _assign(
    index: PageIndex, live: Rows, stop: Callable[[], bool], sums: NDArray[np.float32] | None = None
) -> NDArray[np.int64] | None:
    """The page nearest to each row: int64[n]; None if `stop` said so meanwhile.

    sums : float32[pages, dim]; the rows of each page are added.
    """
    block = 2048
    owners = np.empty(len(live), np.int64)
    snapshot, adding = index.snapshot, threading.Lock()
    starts = iter(range(0, len(live), block))  # shared by both threads; `next` is one step under the GIL

    def run() -> None:
        scratch = np.empty(scratch_bytes(index.dim), np.uint8)
        for first in starts:
            if stop():
                return
            rows = live[first : first + block]
            scores, slots = np.empty((len(rows), 1), np.float32), np.empty((len(rows), 1), np.int64)
            vectors = index._source.unit_rows(rows)[0]
            dispatch.kernels.nearest_pages(
                snapshot.ctx, vectors, 8, 2.5, scratch, scores, slots, np.empty(len(rows), np.int64)
            )
            owners[first : first + block] = slots[:, 0]
            if sums is not None:
                order = np.argsort(slots[:, 0], kind="stable")
                pages = slots[order, 0]
                begins = np.flatnonzero(np.diff(pages, prepend=-1))
                part = np.add.reduceat(vectors[order], begins, axis=0)
                with adding:
                    sums[pages[begins]] += part

    in_two(run)
    return None if stop() else owners


def _settle(index: PageIndex, live: Rows, owners: NDArray[np.int64], rows: int, stop: Callable[[], bool]) -> bool:
    """Write the pages: centroids move to the mean of their rows, then groups are sketched anew."""
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(index._slots.count + 1))
    slots, groups = index._slots, index._groups
    members = [index._numbers(groups, int(group)) for group in groups.used()]
    for group in groups.used().tolist():
        index._retire_slot(groups, group)
    for family in members:
        new = []
        for slot in family.tolist():
            numbers = live[order[bounds[slot] : bounds[slot + 1]]]
            index._retire_slot(slots, slot)
            if len(numbers):
                vectors, scales = index._source.unit_rows(numbers)
                new += _pages_of(index, vectors, scales, numbers)
            if stop():
                return False
        if new:
            _new_group(index, np.array(new, np.int64))
    index.rows = rows
    index.publish()
    return True


def _pages_of(index: PageIndex, vectors: NDArray[np.float32], scales: NDArray[np.float32], numbers: Rows) -> list[int]:
    """New pages for rows that belong together; more than one if they are too many and not all equal."""
    if len(numbers) > PAGE_ROWS * 7 // 8:
        _, side, ones = index._halve(vectors)
        if ones:
            return [
                slot for half in (0, 1)
                for slot in _pages_of(index, vectors[side == half], scales[side == half], numbers[side == half])
            ]  # fmt: skip
        if len(numbers) > PAGE_BLOCKS_MAX * LANES // 2:
            at = len(numbers) // 2
            return [
                *_pages_of(index, vectors[:at], scales[:at], numbers[:at]),
                *_pages_of(index, vectors[at:], scales[at:], numbers[at:]),
            ]
    mean = vectors.sum(0)
    norm = float(np.linalg.norm(mean))
    centroid = mean / np.float32(norm) if norm > 1e-6 else vectors[0]
    return [index._new_slot(index._slots, centroid, vectors, scales, numbers, room=len(numbers) + 4)]


def nearest_centroids(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the centroid with the largest dot product: int64[n]."""
    found: NDArray[np.int64] = (vectors @ centroids.T).argmax(1)
    return found


def kmeans(vectors: NDArray[np.float32], count: int, rng: np.random.Generator, rounds: int = 6) -> NDArray[np.float32]:
    """Spherical k-means: unit centroids float32[m, dim], m <= count; centroids without rows are given up."""
    if count >= len(vectors):
        return vectors
    centroids = vectors[rng.choice(len(vectors), count, replace=False)]
    for _ in range(rounds):
        near = np.concatenate([
            nearest_centroids(vectors[at : at + 8192], centroids) for at in range(0, len(vectors), 8192)
        ])  # fmt: skip
        order = np.argsort(near, kind="stable")
        starts = np.flatnonzero(np.diff(near[order], prepend=-1))
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), vectors[order[starts]])
    return np.ascontiguousarray(centroids, np.float32)
