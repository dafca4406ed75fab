"""The Trace Block Index: blocks of 1,024 vectors in the order they were remembered, for "when was this talked about?".

A block keeps 16 centroids of what was said in its stretch of time, and which of its rows belong to each. A search scores the
centroids of all blocks, then the rows of the best of them. One centroid a block is not enough: 1,024 turns hold many topics
(docs/decisions/0009). The newest rows, fewer than a block, are in none and are always scored.

Derived: blocks are made when the index is first asked for, then one by one as they fill, and are written with a checkpoint.
A block never changes once it is made, and the counts that show it are raised last: a reader needs no lock.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon.errors import CorruptionError
from aeon.format import TIME_BLOCKS_HEADER, padded, row_stride
from aeon_native import dispatch

if TYPE_CHECKING:
    from aeon.atlas import Atlas
    from aeon.generation_files import MappedFile
    from aeon.trace import Trace

BLOCK_ROWS = 1024
CENTROIDS = (
    16  # of a block; with PROBES_MIN recall@10 is 0.97 on the dialogue turns in time order (docs/decisions/0009)
)
PROBES_MIN = 96  # centroids whose rows are scored, at least; they grow with the square root of the centroids
_TIMES_TOGETHER = 64  # blocks whose timestamps are read at once: half a megabyte
_ROUNDS = 3  # of k-means within a block
_ALL = np.empty(0, np.uint8)


class Blocks(NamedTuple):
    """The blocks there are, as columns; what lies behind `made` is being made.

    Attributes
    ----------
    since, until : int64[n], least and greatest timestamp. scales : float32[n, 16]. codes : int8[n, 16, stride].
    starts : uint16[n, 17]. order : uint16[n, 1024].
    """

    made: int
    since: NDArray[np.int64]
    until: NDArray[np.int64]
    scales: NDArray[np.float32]
    starts: NDArray[np.uint16]
    order: NDArray[np.uint16]
    codes: NDArray[np.int8]

    @property
    def rows(self) -> int:
        """Rows below it are in blocks."""
        return self.made * BLOCK_ROWS

    @property
    def probes(self) -> int:
        """How many centroids a search looks into if it does not say: what matches is scattered over more of them."""
        return max(PROBES_MIN, math.ceil(3 * math.sqrt(self.made * CENTROIDS)))


def _columns(count: int, stride: int) -> list[tuple[str, tuple[int, ...]]]:
    return [
        ("<i8", (count,)), ("<i8", (count,)), ("<f4", (count, CENTROIDS)), ("<u2", (count, CENTROIDS + 1)),
        ("<u2", (count, BLOCK_ROWS)), ("i1", (count, CENTROIDS, stride)),
    ]  # fmt: skip


def _arrays(blocks: Blocks) -> list[NDArray[Any]]:
    return [blocks.since, blocks.until, blocks.scales, blocks.starts, blocks.order, blocks.codes]


class TimeBlocks:
    """The blocks of one generation and of what came since.

    Parameters
    ----------
    dim : length of the vectors. file : the generation's table, or None.

    Attributes
    ----------
    error : why the generation's table was not used, if it was not: its blocks are made anew from the rows.
    """

    def __init__(self, dim: int, file: MappedFile | None) -> None:
        self._stride = row_stride(dim, "int8")
        self._dim = dim
        self._file = file
        self._lock = threading.RLock()
        self._blocks: Blocks | None = None
        self._times = np.empty((0, 2), np.int64)
        self.error = ""

    @property
    def wanted(self) -> bool:
        """Whether there is anything to write with a checkpoint."""
        return self._file is not None or self._blocks is not None

    def upto(self, atlas: Atlas, trace: Trace, rows: int) -> Blocks:
        """The blocks of the rows below `rows` that are in whole blocks; those that are missing are made first.

        Cost: some 3 ms for each block that is made.
        """
        blocks = self._blocks
        want = rows // BLOCK_ROWS
        if blocks is None or blocks.made < want:
            with self._lock:
                blocks = self._blocks or self._stored(atlas)
                for number in range(blocks.made, want):
                    blocks = self._add(blocks, number, atlas, trace)
                self._blocks = blocks
        return blocks if blocks.made == want else blocks._replace(made=want)

    def times(self, atlas: Atlas, trace: Trace, rows: int) -> NDArray[np.int64]:
        """The least and the greatest timestamp of each whole block of the rows below `rows`: int64[n, 2].

        Asks for no centroids. Cost: some 50 us for each block that was never asked for before.
        """
        want = rows // BLOCK_ROWS
        if len(self._times) < want:
            with self._lock:
                for first in range(len(self._times), want, _TIMES_TOGETHER):
                    some = np.arange(first * BLOCK_ROWS, min(first + _TIMES_TOGETHER, want) * BLOCK_ROWS)
                    taken = _timestamps(atlas, trace, some).reshape(-1, BLOCK_ROWS)
                    more = np.stack([taken.min(axis=1), taken.max(axis=1)], axis=1)
                    self._times = np.concatenate([self._times, more])
        return self._times[:want]

    def rows_between(
        self, atlas: Atlas, trace: Trace, rows: int, since: int | None, until: int | None
    ) -> NDArray[np.int64]:
        """Rows below `rows` of memories with since <= timestamp < until, increasing: int64[n]; None = no bound.

        Of a block that lies within or without, no timestamp is looked at.
        """
        first, last = self.times(atlas, trace, rows).T
        low = np.iinfo(np.int64).min if since is None else since
        high = np.iinfo(np.int64).max if until is None else until
        within, reaches = (first >= low) & (last < high), (last >= low) & (first < high)
        whole = len(within) * BLOCK_ROWS
        keep = np.zeros(rows, bool)
        keep[:whole] = np.repeat(within, BLOCK_ROWS)
        partly = np.add.outer(np.flatnonzero(reaches & ~within) * BLOCK_ROWS, np.arange(BLOCK_ROWS)).ravel()
        unsure = np.concatenate([partly, np.arange(whole, rows)])
        keep[unsure] = are_between(atlas, trace, unsure, since, until)
        return np.flatnonzero(keep)

    def _stored(self, atlas: Atlas) -> Blocks:
        try:
            return self._load(atlas)
        except CorruptionError as error:
            self.error = str(error)
            return self._none()

    def _none(self) -> Blocks:
        return Blocks(0, *(np.zeros(shape, dtype) for dtype, shape in _columns(0, self._stride)))

    def _load(self, atlas: Atlas) -> Blocks:
        """The blocks in the file; none if there is no file, or if it is of other rows than there are."""
        if self._file is None:
            return self._none()
        data = self._file.content()
        head = TIME_BLOCKS_HEADER.unpack_from(data.data) if len(data) >= TIME_BLOCKS_HEADER.size else (0,) * 6
        count, last_id, rows, centroids, stride = head[:5]
        if (rows, centroids, stride) != (BLOCK_ROWS, CENTROIDS, self._stride):
            return self._none()
        at, found = TIME_BLOCKS_HEADER.size, []
        for dtype, shape in _columns(count, stride):
            at = padded(at, 64)
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            if at + size > len(data):
                raise CorruptionError(
                    self._file.path, 64 + at, expected=f"{size} bytes of blocks", found=len(data) - at
                )
            found.append(data[at : at + size].view(dtype).reshape(shape).copy())
            at += size
        if count and (
            count * BLOCK_ROWS > atlas.rows.count or int(atlas.ids(np.array([count * BLOCK_ROWS - 1]))[0]) != last_id
        ):
            return self._none()
        blocks = Blocks(count, *found)
        starts = blocks.starts.astype(np.int64)
        if count and (
            starts[:, 0].any() or (np.diff(starts) < 0).any() or (starts[:, -1] != BLOCK_ROWS).any()
            or int(blocks.order.max()) >= BLOCK_ROWS
        ):  # fmt: skip
            raise CorruptionError(self._file.path, 64, expected="groups that follow each other", found="others")
        return blocks

    def check(self, atlas: Atlas, trace: Trace) -> list[str]:
        """What is wrong with the blocks in the file: their rows, and their times."""
        blocks, wrong = self._load(atlas), []
        times = self.times(atlas, trace, blocks.rows)
        for number in range(blocks.made):
            if sorted(blocks.order[number].tolist()) != list(range(BLOCK_ROWS)):
                wrong.append(f"block {number} does not hold each of its rows once")
            if [blocks.since[number], blocks.until[number]] != times[number].tolist():
                wrong.append(f"block {number} was at another time")
        return wrong

    def _add(self, blocks: Blocks, number: int, atlas: Atlas, trace: Trace) -> Blocks:
        if number == len(blocks.since):
            size = max(4, 2 * number)
            grown = [np.zeros(shape, dtype) for dtype, shape in _columns(size, self._stride)]
            for new, old in zip(grown, _arrays(blocks), strict=True):
                new[:number] = old[:number]
            blocks = Blocks(number, *grown)
        rows = np.arange(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS)
        blocks.since[number], blocks.until[number] = self.times(atlas, trace, (number + 1) * BLOCK_ROWS)[number]
        scales, codes, starts, order = group(*_codes(atlas, rows), self._dim)
        blocks.scales[number], blocks.codes[number], blocks.starts[number], blocks.order[number] = (
            scales, codes, starts, order,
        )  # fmt: skip
        return blocks._replace(made=number + 1)

    def encode(self, atlas: Atlas, moved: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """The content of the table, for a checkpoint; None if the index was never asked for.

        moved : int64[m], the new numbers of the rows that are written; -1 = left out. A block that one of them is left out
        of, and those behind it, are made anew when they are asked for.
        """
        if not self.wanted:
            return None
        with self._lock:
            blocks = self._blocks or self._stored(atlas)
        gone = np.flatnonzero(moved < 0)
        count = min(blocks.made, (int(gone[0]) if len(gone) else len(moved)) // BLOCK_ROWS)
        last_id = int(atlas.ids(np.array([count * BLOCK_ROWS - 1]))[0]) if count else 0
        parts = [
            np.frombuffer(TIME_BLOCKS_HEADER.pack(count, last_id, BLOCK_ROWS, CENTROIDS, self._stride, b""), np.uint8)
        ]
        at = TIME_BLOCKS_HEADER.size
        for column, (dtype, _) in zip(_arrays(blocks), _columns(0, 0), strict=True):
            data = np.ascontiguousarray(column[:count]).astype(dtype, copy=False).view(np.uint8).reshape(-1)
            parts += [np.zeros(padded(at, 64) - at, np.uint8), data]
            at = padded(at, 64) + len(data)
        return np.concatenate(parts)


def _timestamps(atlas: Atlas, trace: Trace, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """When the rows' memories were said: int64[n]. CorruptionError if a row names another memory than the one it is of."""
    indexes = trace.indexes_of(atlas.ids(rows))
    wrong = np.flatnonzero((indexes < 0) | (trace.take(indexes, "row") != rows.astype(np.uint64) + np.uint64(1)))
    if len(wrong):
        raise atlas.damaged(int(rows[wrong[0]]))
    return trace.take(indexes, "timestamp")


def are_between(
    atlas: Atlas, trace: Trace, rows: NDArray[np.int64], since: int | None, until: int | None
) -> NDArray[np.bool_]:
    """Which of these rows' memories have since <= timestamp < until: bool[n]; None = no bound."""
    times = _timestamps(atlas, trace, rows)
    keep = np.ones(len(rows), bool)
    if since is not None:
        keep &= times >= since
    if until is not None:
        keep &= times < until
    return keep


def group(
    rows: NDArray[np.int8], scales: NDArray[np.float32], dim: int
) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.uint16], NDArray[np.uint16]]:
    """Group the rows of one block around 16 centroids by k-means: (scales, codes, starts, order) of the block.

    rows : int8[1024, stride]. scales : float32[1024]. By kernels, not by BLAS, whose threads wait for each other on a busy
    machine; the same on every machine.
    """
    count, stride = rows.shape
    seeds = np.arange(CENTROIDS) * count // CENTROIDS
    codes, unit = np.ascontiguousarray(rows[seeds]), scales[seeds].astype(np.float32)
    dots, scores = np.empty(count, np.int32), np.empty((CENTROIDS, count), np.float32)
    for turn in range(_ROUNDS + 1):
        for n in range(CENTROIDS):
            dispatch.kernels.dot_rows_int8(rows, codes[n], dots)
            np.multiply(dots, unit[n], out=scores[n])
        owner = np.argmax(scores, axis=0)
        order = np.argsort(owner, kind="stable")
        starts = np.zeros(CENTROIDS + 1, np.uint16)
        starts[1:] = np.cumsum(np.bincount(owner, minlength=CENTROIDS))
        if turn == _ROUNDS:
            return unit, codes, starts, order.astype(np.uint16)
        there = np.flatnonzero(np.diff(starts.astype(np.int64)))
        vectors = rows[order, :dim].astype(np.float32) * scales[order, None]
        sums = np.add.reduceat(vectors, starts[there].astype(np.int64), axis=0)
        sound = np.linalg.norm(sums, axis=1) > 1e-6  # they may cancel out: then it stays where it was
        new, new_scales = np.zeros((int(sound.sum()), stride), np.int8), np.empty(int(sound.sum()), np.float32)
        dispatch.kernels.quantize(np.ascontiguousarray(sums[sound]), new, new_scales)
        codes[there[sound]], unit[there[sound]] = new, new_scales
    raise AssertionError("the loop returns")


def _codes(atlas: Atlas, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    codes = atlas.codes.take(rows)
    if atlas.quantised:
        return codes.view(np.int8), atlas.rows.take(rows, "scale").astype(np.float32)
    vectors = np.ascontiguousarray(codes.view(np.float32)[:, : atlas.dim])
    quantised, scales = np.zeros((len(rows), row_stride(atlas.dim, "int8")), np.int8), np.empty(len(rows), np.float32)
    dispatch.kernels.quantize(vectors, quantised, scales)
    return quantised, scales


def best_groups(
    blocks: Blocks, query: NDArray[np.float32], probes: int, allowed: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Numbers of the groups (block * 16 + centroid) whose centroids are nearest to the query, best first.

    allowed : bool[blocks], which blocks count; None = all.
    """
    count = blocks.made * CENTROIDS
    stride = blocks.codes.shape[2]
    prepared = np.zeros(stride, np.int16)
    scale = dispatch.kernels.prepare_query(query, prepared)
    k = min(probes, count)
    scores, found = np.empty(k, np.float32), np.empty(k, np.int64)
    bitmap = _ALL if allowed is None else np.packbits(np.repeat(allowed, CENTROIDS), bitorder="little")
    if not k:
        return found
    n = dispatch.kernels.scan_int8(
        blocks.codes[: blocks.made].reshape(count, stride), blocks.scales[: blocks.made].reshape(count),
        np.zeros(count, np.uint64), 0, prepared, scale, bitmap, 0, scores, found, 0,
    )  # fmt: skip
    dispatch.kernels.finish_topk(scores, found, n)
    return found[:n]


def rows_of(blocks: Blocks, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of these groups, increasing."""
    block, centroid = np.divmod(groups, CENTROIDS)
    low = blocks.starts[block, centroid].astype(np.int64)
    counts = blocks.starts[block, centroid + 1].astype(np.int64) - low
    first = np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    owner = np.repeat(block, counts)
    rows = owner * BLOCK_ROWS + blocks.order[owner, first]
    rows.sort()
    return rows
