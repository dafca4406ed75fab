"""How a page of sketches lies in memory, and the block of integers that describes an index to a kernel. No numba here.

A page is a run of blocks, a block holds 32 rows:

    codes    uint8[dim / 8, 32]   sign bits of the rotated residuals. The 32 bytes of one step hold 8 dims: first 16
                                  bytes for dims 0-3, then 16 for dims 4-7; byte j has row j in its low nibble and row
                                  16 + j in its high one
    factors  float32[32]          f, and
    errors   float32[32]          e, of the estimate  <x, q> ~ base + f * (2 S - Q), off by eps0 * e at most
    scales   float32[32]          the row's own scale, so that rescoring reads its codes and nothing else
    rows     uint32[32]           which row it is; NO_ROW in an empty lane, whose e is -inf so that it never survives

`dim` is padded to a multiple of 64, as INT8 rows are: the padding is zero and takes part in the rotation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LANES = 32
NO_ROW = 0xFFFF_FFFF
COLUMN_BYTES = 4 * LANES
DIM_STEP = 64

# Fields of the context: int64 each, addresses as two's complement.
FIELDS = (
    "dim",  # of the sketches and of the centroids' codes; a multiple of 64
    "signs",  # float32[4, dim]
    "top_count",  # groups of pages, unused slots included
    "top_codes",  # int8[top_count, dim]: centroids
    "top_scales",  # float32[top_count]
    "top_lengths",  # float32[top_count]: residuals are taken from length * centroid
    "top_pages",  # uint64[top_count]: where the group's page lies; 0 = no group
    "top_blocks",  # uint32[top_count]
    "slot_count",  # pages, unused slots included
    "slot_codes",
    "slot_scales",
    "slot_lengths",
    "slot_pages",
    "slot_blocks",
    "rows",  # rows below it are in pages; above it a page may already hold some that no reader may see
    "row_bytes",  # from one row of codes to the next
    "row_int8",  # 1 = int8 rows, 0 = float32
    "base_count",  # rows that lie one behind the other at row_base; the others in chunks
    "row_base",
    "row_chunks",  # uint64[chunks]: where each chunk of rows lies
    "death_base",  # uint64[base_count]: 0, or the LSN that ended the row
    "death_chunks",  # uint64[chunks]
    "chunk_shift",  # a chunk holds 1 << chunk_shift rows
    "reach",  # rows below it lie where this context says; those from "rows" on are in no page
    "record_base",  # RECORD[base_count]: whose row it is, and its scale
    "record_chunks",  # uint64[chunks]: where each chunk of records lies
)
FIELD = {name: index for index, name in enumerate(FIELDS)}
ROTATIONS = 4
SCRATCH_FIXED = 2176  # bytes of a search's working memory that do not grow with dims
RECORD_BYTES, RECORD_SCALE = 16, 8  # a record begins with the id, uint64; where its scale lies, float32
assert len(FIELD) == len(FIELDS)


def block_bytes(dim: int) -> int:
    """Bytes of 32 rows."""
    return 4 * dim + 4 * COLUMN_BYTES


def padded_dim(dim: int) -> int:
    """`dim` rounded up to what sketches and centroids have."""
    return -(-dim // DIM_STEP) * DIM_STEP


def block_dtype(dim: int) -> np.dtype[Any]:
    """One block as a record."""
    return np.dtype(
        [
            ("codes", np.uint8, (dim // 8, 32)),
            ("factors", np.float32, (LANES,)),
            ("errors", np.float32, (LANES,)),
            ("scales", np.float32, (LANES,)),
            ("rows", np.uint32, (LANES,)),
        ]
    )


def scratch_bytes(dim: int) -> int:
    """Bytes of working memory a search needs."""
    return 16 * dim + SCRATCH_FIXED
