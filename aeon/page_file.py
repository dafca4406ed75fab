"""The pages file: a page index as a table of a generation. FORMAT: PAGES_HEADER.

Written whole at a checkpoint; mapped privately, so that the index may go on filling its pages while the file stays.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aeon.format import CURVE_POINT, PAGE, PAGES_HEADER, padded
from aeon.pages import PageIndex, StoredLevel
from aeon.probing import Curve
from aeon_native.page_layout import LANES, NO_ROW, block_dtype

_FEW, _MANY = 10, 100


def encode_pages(index: PageIndex, curve: Curve, base_count: int, moved: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the content of a pages file: uint8[n].

    moved : int64[m], the new numbers of the rows from `base_count` on; -1 = the row is left out, and out of its page.
    """
    gone = np.flatnonzero(moved < 0) + base_count
    if len(gone):
        index.drop(gone)
    dim = index.dim
    groups, pages = index.stored_levels()
    rows = base_count + int((moved[: index.rows - base_count] >= 0).sum()) if index.rows > base_count else index.rows
    new_slots = np.zeros(int(pages.slots.max(initial=-1)) + 1, np.int64)
    new_slots[pages.slots] = np.arange(len(pages.slots))
    points = len(curve.probes) if curve.rows else 0
    start = padded(PAGES_HEADER.size + points * CURVE_POINT.size, 64)
    records_at = start
    codes_at = padded(records_at + (len(groups.slots) + len(pages.slots)) * PAGE.size, 64)
    blocks_at = codes_at + (len(groups.slots) + len(pages.slots)) * dim
    dtype = block_dtype(dim)
    total = int(groups.blocks.sum() + pages.blocks.sum())
    out = np.zeros(blocks_at + total * dtype.itemsize, np.uint8)
    out[: PAGES_HEADER.size] = np.frombuffer(
        PAGES_HEADER.pack(
            rows,
            dim,
            len(groups.slots),
            len(pages.slots),
            points,
            total,
            curve.rows,
            curve.queries,
            int(curve.real),
            b"",
        ),
        np.uint8,
    )
    if points:
        table = out[PAGES_HEADER.size : PAGES_HEADER.size + points * CURVE_POINT.size].view(CURVE_POINT.dtype)
        table["probes"], table["recall_10"], table["recall_100"] = (
            curve.probes, curve.recalls[_FEW], curve.recalls[_MANY]
        )  # fmt: skip
    blocks = out[blocks_at:].view(dtype)
    first = 0
    for level in (groups, pages):
        records = out[records_at : records_at + len(level.slots) * PAGE.size].view(PAGE.dtype)
        records_at += len(level.slots) * PAGE.size
        records["scale"], records["length"] = level.scales, level.lengths
        records["count"], records["blocks"] = level.counts, level.blocks
        out[codes_at : codes_at + level.codes.size].reshape(level.codes.shape)[:] = level.codes.view(np.uint8)
        codes_at += level.codes.size
        here = blocks[first : first + int(level.blocks.sum())]
        first += len(here)
        _copy_blocks(level, here)
        numbers = here["rows"].astype(np.int64)
        listed = numbers != NO_ROW
        if level is groups:
            numbers[listed] = new_slots[numbers[listed]]
        else:
            listed &= numbers >= base_count
            numbers[listed] = moved[numbers[listed] - base_count]
        here["rows"] = numbers
    return out


def _copy_blocks(level: StoredLevel, out: NDArray[np.void]) -> None:
    first = 0
    for address, count in zip(level.addresses.tolist(), level.blocks.tolist(), strict=True):
        if count:
            ctypes.memmove(out[first:].ctypes.data, address, count * out.itemsize)
        first += count


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
        return StoredLevel(np.arange(len(part)), *columns, np.empty(0, np.uint64))

    curve = None
    if points:
        table = content[PAGES_HEADER.size : PAGES_HEADER.size + points * CURVE_POINT.size].view(CURVE_POINT.dtype)
        recalls = {_FEW: tuple(table["recall_10"].tolist()), _MANY: tuple(table["recall_100"].tolist())}
        curve = Curve(tuple(table["probes"].tolist()), recalls, curve_rows, queries, bool(real))
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
