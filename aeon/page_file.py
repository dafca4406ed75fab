"""The pages file: a page index as a table of a generation. FORMAT: PAGES_HEADER.

Written whole at a checkpoint; mapped privately, so that the index may go on filling its pages while the file stays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
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


def encode_pages(
    snapshot: Snapshot,
    dim: int,
    curve: Curve,
    rows: int,
    moved: NDArray[np.int64],
    pause: Callable[[], None] = lambda: None,
) -> list[NDArray[np.uint8]]:
    """Return the content of a pages file in parts, uint8[n] each. The index may go on changing meanwhile.

    dim : of the sketches. rows : new number of the first row that is in no page.
    moved : int64[m], the new numbers of the rows below `snapshot.rows`, increasing; -1 = the row is left out, and out of its
    page; a page or group that is left empty is, too. pause : called before every page.
    """
    shown = moved[: snapshot.rows]
    pages = _pack_level(snapshot.levels["slot"], shown, dim, pause)
    slots = np.full(len(snapshot.levels["slot"]["pages"]), -1, np.int64)
    slots[pages.slots] = np.arange(len(pages.slots))
    groups = _pack_level(snapshot.levels["top"], slots, dim, pause)
    points = len(curve.probes) if curve.rows else 0
    header = PAGES_HEADER.pack(
        rows, dim, len(groups.slots), len(pages.slots), points, len(groups.content) + len(pages.content),
        curve.rows, curve.queries, int(curve.real), b"",
    )  # fmt: skip
    table = np.zeros(points, CURVE_POINT.dtype)
    if points:
        table["probes"], table["spread"] = curve.probes, curve.spreads
        table["recall_10"], table["recall_100"] = curve.recalls[_FEW], curve.recalls[_MANY]
    records = np.concatenate([groups.records, pages.records])
    parts = [
        np.frombuffer(header, np.uint8), table.view(np.uint8), _padding(len(header) + table.nbytes),
        records.view(np.uint8), _padding(records.nbytes), groups.codes.view(np.uint8), pages.codes.view(np.uint8),
        groups.content.view(np.uint8), pages.content.view(np.uint8),
    ]  # fmt: skip
    return [part.reshape(-1) for part in parts]


def _padding(end: int) -> NDArray[np.uint8]:
    return np.zeros(-end % 64, np.uint8)


@dataclass(frozen=True)
class _Packed:
    """A level as it goes into the file: PAGE[n] of the slots that are kept, their codes int8[n, dim], their blocks."""

    slots: NDArray[np.int64]
    records: NDArray[Any]
    codes: NDArray[np.int8]
    content: NDArray[Any]


def _pack_level(
    level: dict[str, NDArray[Any]], moved: NDArray[np.int64], dim: int, pause: Callable[[], None]
) -> _Packed:
    """Copy pages lane by lane where some are left out, whole where none is, and give the lanes their new numbers.

    A page may hold lanes that the snapshot does not show, which are being written: their numbers are beyond `moved`.
    """
    dtype = block_dtype(dim)
    used = np.flatnonzero(level["pages"])
    blocks = level["blocks"][used].astype(np.int64)
    content = np.zeros(int(blocks.sum()), dtype)
    records = np.zeros(len(used), PAGE.dtype)
    first = kept = 0
    slots = []
    for slot, count in zip(used.tolist(), blocks.tolist(), strict=True):
        pause()
        source = np.empty(count, dtype)
        ctypes.memmove(source.ctypes.data, int(level["pages"][slot]), source.nbytes)
        numbers = source["rows"].reshape(-1).astype(np.int64)
        lanes = np.flatnonzero(numbers < len(moved))
        lanes = lanes[moved[numbers[lanes]] >= 0]
        if not len(lanes):
            continue
        target = content[first : first + -(-len(lanes) // LANES)]
        if lanes[-1] == len(lanes) - 1:
            target[:] = source[: len(target)]
        else:
            dispatch.kernels.copy_lanes(source.ctypes.data, lanes, target.ctypes.data, 0, dim)
        dispatch.kernels.clear_lanes(target.ctypes.data, len(lanes), LANES * len(target), dim)
        rows = np.full(LANES * len(target), NO_ROW, np.int64)
        rows[: len(lanes)] = moved[numbers[lanes]]
        target["rows"] = rows.reshape(len(target), LANES)
        records[kept] = level["scales"][slot], level["lengths"][slot], len(lanes), len(target)
        slots.append(slot)
        first += len(target)
        kept += 1
    chosen = np.array(slots, np.int64)
    return _Packed(chosen, records[:kept], level["codes"][chosen], content[:first])


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
