"""The pages file: a page index as a table of a generation. FORMAT: PAGES_HEADER.

Written whole at a checkpoint; mapped privately, so that the index may go on filling its pages while the file stays.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.format import CURVE_POINT, PAGE, PAGES_HEADER, padded
from aeon.page_memory import Snapshot, StoredLevel
from aeon.probing import Curve
from aeon_native import dispatch
from aeon_native.page_layout import LANES, NO_ROW, block_dtype

_FEW, _MANY = 10, 100
_PIECE_BYTES = 1 << 20  # written together: each write lets go of the interpreter, and a busy writer keeps it for 5 ms


def encode_pages(
    snapshot: Snapshot,
    dim: int,
    curve: Curve,
    rows: int,
    moved: NDArray[np.int64],
    pause: Callable[[], None] = lambda: None,
) -> tuple[int, Iterator[NDArray[np.uint8]]]:
    """Return a pages file's content: its length, and its parts uint8[n], made as they are asked for.

    The index may go on changing meanwhile. No more than some pages are copied at a time.

    dim : of the sketches. rows : new number of the first row that is in no page.
    moved : int64[m], the new numbers of the rows below `snapshot.rows`, increasing; -1 = the row is left out, and out of its
    page; a page or group that is left empty is, too. pause : called before every page.
    """
    pages = _Level(snapshot.levels["slot"], moved[: snapshot.rows], dim, pause)
    slots = np.full(len(snapshot.levels["slot"]["pages"]), -1, np.int64)
    slots[pages.slots] = np.arange(len(pages.slots))
    groups = _Level(snapshot.levels["top"], slots, dim, pause)
    points = len(curve.probes) if curve.rows else 0
    blocks = int(groups.records["blocks"].sum(dtype=np.int64) + pages.records["blocks"].sum(dtype=np.int64))
    header = PAGES_HEADER.pack(
        rows, dim, len(groups.slots), len(pages.slots), points, blocks, curve.rows, curve.queries, int(curve.real), b""
    )
    table = np.zeros(points, CURVE_POINT.dtype)
    if points:
        table["probes"], table["spread"] = curve.probes, curve.spreads
        table["recall_10"], table["recall_100"] = curve.recalls[_FEW], curve.recalls[_MANY]
    records = np.concatenate([groups.records, pages.records])
    first = [
        np.frombuffer(header, np.uint8), table.view(np.uint8), _padding(len(header) + table.nbytes),
        records.view(np.uint8), _padding(records.nbytes), groups.codes().view(np.uint8), pages.codes().view(np.uint8),
    ]  # fmt: skip
    size = sum(part.nbytes for part in first) + blocks * block_dtype(dim).itemsize
    return size, itertools.chain((part.reshape(-1) for part in first), groups.content(), pages.content())


def _padding(end: int) -> NDArray[np.uint8]:
    return np.zeros(-end % 64, np.uint8)


class _Level:
    """A level as it goes into the file. A page may hold lanes that the snapshot does not show, which are being written:
    their numbers are beyond `moved`, so that two looks at a page find the same.

    slots : int64[n] of those that are kept. records : PAGE[n].
    """

    def __init__(
        self, level: dict[str, NDArray[Any]], moved: NDArray[np.int64], dim: int, pause: Callable[[], None]
    ) -> None:
        self._level, self._moved, self._dim, self._pause = level, moved, dim, pause
        self._dtype = block_dtype(dim)
        used = np.flatnonzero(level["pages"])
        counts = np.array([len(self._look(slot)[1]) for slot in used.tolist()], np.int64)
        self.slots, counts = used[counts > 0], counts[counts > 0]
        self.records = np.zeros(len(self.slots), PAGE.dtype)
        self.records["scale"], self.records["length"] = level["scales"][self.slots], level["lengths"][self.slots]
        self.records["count"], self.records["blocks"] = counts, -(-counts // LANES)

    def _look(self, slot: int) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """(a copy of a page's blocks, the lanes of it that are kept, their new numbers)."""
        self._pause()
        page = np.empty(int(self._level["blocks"][slot]), self._dtype)
        ctypes.memmove(page.ctypes.data, int(self._level["pages"][slot]), page.nbytes)
        numbers = page["rows"].reshape(-1).astype(np.int64)
        lanes = np.flatnonzero(numbers < len(self._moved))
        rows = self._moved[numbers[lanes]]
        return page, lanes[rows >= 0], rows[rows >= 0]

    def codes(self) -> NDArray[np.int8]:
        """The centroids: int8[n, dim]."""
        return self._level["codes"][self.slots]  # type: ignore[no-any-return]

    def content(self) -> Iterator[NDArray[np.uint8]]:
        """The blocks of some pages at a time: copied lane by lane where some are left out, whole where none is."""
        pieces: list[NDArray[np.uint8]] = []
        size = 0
        for slot in self.slots.tolist():
            page, lanes, numbers = self._look(slot)
            count = len(lanes)
            if lanes[-1] == count - 1:
                kept = page[: -(-count // LANES)]
            else:
                kept = np.zeros(-(-count // LANES), self._dtype)
                dispatch.kernels.copy_lanes(page.ctypes.data, lanes, kept.ctypes.data, 0, self._dim)
            dispatch.kernels.clear_lanes(kept.ctypes.data, count, LANES * len(kept), self._dim)
            rows = np.full(LANES * len(kept), NO_ROW, np.int64)
            rows[:count] = numbers
            kept["rows"] = rows.reshape(len(kept), LANES)
            pieces.append(kept.view(np.uint8))
            size += kept.nbytes
            if size >= _PIECE_BYTES:
                yield np.concatenate(pieces)
                pieces, size = [], 0
        if pieces:
            yield np.concatenate(pieces)


@dataclass(frozen=True)
class StoredPages:
    """A pages file, decoded; arrays are views of the mapping."""

    rows: int
    dim: int
    groups: StoredLevel
    pages: StoredLevel
    blocks: NDArray[np.void]
    curve: Curve | None


def decode_pages(content: NDArray[np.uint8]) -> StoredPages:
    """Read the content of a pages file, verified before; ValueError if it is none."""
    if len(content) < PAGES_HEADER.size:
        raise ValueError(f"{len(content)} bytes of pages")
    rows, dim, groups, pages, points, total, curve_rows, queries, real, _ = PAGES_HEADER.unpack_from(content)  # type: ignore[arg-type]
    start = padded(PAGES_HEADER.size + points * CURVE_POINT.size, 64)
    codes_at = padded(start + (groups + pages) * PAGE.size, 64)
    blocks_at = codes_at + (groups + pages) * dim
    if dim % 64 or not dim or len(content) != blocks_at + total * block_dtype(dim).itemsize:
        raise ValueError(f"{len(content)} bytes for {pages} pages of {dim} dims in {total} blocks")
    records = content[start : start + (groups + pages) * PAGE.size].view(PAGE.dtype)
    codes = content[codes_at:blocks_at].view(np.int8).reshape(groups + pages, dim)
    if (
        int(records["blocks"].sum(dtype=np.int64)) != total
        or (records["count"] > records["blocks"] * np.uint32(LANES)).any()
    ):
        raise ValueError("pages and blocks do not add up")
    blocks = content[blocks_at:].view(block_dtype(dim))
    first = int(records["blocks"][:groups].sum(dtype=np.int64))
    _require_numbers(records[:groups], blocks[:first], pages)
    _require_numbers(records[groups:], blocks[first:], rows)

    def level(first: int, stop: int) -> StoredLevel:
        part = records[first:stop]
        columns = (part["scale"], part["length"], part["count"], part["blocks"], codes[first:stop])
        return StoredLevel(np.arange(len(part)), *columns)

    curve = None
    if points:
        table = content[PAGES_HEADER.size : PAGES_HEADER.size + points * CURVE_POINT.size].view(CURVE_POINT.dtype)
        recalls = {_FEW: tuple(table["recall_10"].tolist()), _MANY: tuple(table["recall_100"].tolist())}
        spreads = table["spread"]
        if not ((spreads >= 0).all() and spreads.any()):  # written before there were spreads
            spreads = np.full(points, np.inf)
        curve = Curve(
            tuple(table["probes"].tolist()), tuple(spreads.tolist()), recalls, curve_rows, queries, bool(real)
        )
    found = level(0, groups), level(groups, groups + pages)
    return StoredPages(rows, dim, *found, blocks, curve)


def _require_numbers(records: NDArray[np.void], blocks: NDArray[np.void], limit: int) -> None:
    """Raise ValueError unless what the blocks list is below `limit`: kernels make addresses of it."""
    numbers = blocks["rows"]
    if ((numbers >= limit) & (numbers != NO_ROW)).any():
        raise ValueError(f"a page lists {numbers[numbers != NO_ROW].max()} of {limit}")
    sizes = records["blocks"].astype(np.int64)
    lanes = (np.arange(len(blocks)) - np.repeat(np.cumsum(sizes) - sizes, sizes)) * LANES
    listed = lanes[:, None] + np.arange(LANES) < np.repeat(records["count"], sizes)[:, None]
    if (numbers[listed] == NO_ROW).any():
        raise ValueError("a page counts lanes that are empty")
