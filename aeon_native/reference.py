"""The NumPy twin of every kernel: same names, same signatures, same bits.

The executable specification, the oracle of the tests, and what answers until compiled code is ready. Fast enough for
some thousand rows; needs NumPy only.

Conventions of all kernels
--------------------------
Padded rows are a multiple of 64 bytes long, zeros behind `dim`. A sum of floats has a fixed order, so that every
processor and the twin give the same bits: lane j of 16 sums the elements j, j + 16, j + 32, ... with a separate
multiplication and addition, then the lanes fold 16 -> 8 -> 4 -> 2 -> 1, each time adding the upper half to the lower.

The state of a search is (scores, rows, count): `count` results in the first slots, a min-heap with the worst first (an
order nobody should rely on), slots behind them undefined. It passes from run to run, between kernels and twins, and
`finish_topk` sorts it. The order of results is total: higher score first, equal scores by lower row. A row whose score
is NaN is never a result.
"""

# mypy: no-warn-return-any
from __future__ import annotations

from typing import Any

import numpy as np

from . import _check
from ._check import Array
from .reference_pages import (
    clear_lanes,
    closer_rows,
    copy_lanes,
    dot_table,
    encode_lanes,
    insert_rows,
    name_rows,
    nearest_pages,
    rotate_rows,
    search_one,
    search_pages,
    search_rows,
    split_rows,
)
from .reference_slb import likeness, nearest, rescore

__all__ = [
    "clear_lanes",
    "closer_rows",
    "copy_lanes",
    "crc32c",
    "dot_f32",
    "dot_int8",
    "dot_int8_int8",
    "dot_rows_f32",
    "dot_rows_int8",
    "dot_table",
    "encode_lanes",
    "finish_topk",
    "insert_rows",
    "likeness",
    "name_rows",
    "nearest",
    "nearest_pages",
    "normalize",
    "prepare_query",
    "quantize",
    "records_checksum",
    "rescore",
    "rotate_rows",
    "rows_checksum",
    "rows_verify",
    "scan_f32",
    "scan_int8",
    "search_one",
    "search_pages",
    "search_rows",
    "split_rows",
]

CODE_MAX = 127
QUERY_MAX = 16_256  # 128 * 127: splits into 128 * high + low with both parts int8

_BLOCK_BYTES = 1 << 18  # rows handled at a time: the temporaries stay in the L2 cache

# --- float rows ----------------------------------------------------------------------------------------------------

_INF_BITS = np.uint32(0x7F800000)
_BOOST = np.float32(2.0**100)
_TINY = np.float32(2.0**-100)  # below it 127 / m could overflow


def _fold(lanes: Array) -> Array:
    """The last axis, 16 lanes, in the order of the contract."""
    for width in (8, 4, 2, 1):
        lanes = lanes[..., :width] + lanes[..., width:]
    return lanes[..., 0]


def _lanes(products: Array) -> Array:
    """Sum of the blocks of 16 along the last axis, first to last."""
    blocks = products.reshape(*products.shape[:-1], -1, 16)
    if blocks.shape[-2] == 0:
        return np.zeros((*blocks.shape[:-2], 16), blocks.dtype)
    return np.add.reduce(blocks, axis=-2)


def _measure(vectors: Array) -> tuple[Array, Array, int]:
    """(max |v|, L2 norm in float64, index of the first row that cannot be normalised or -1)."""
    largest = np.abs(vectors).max(axis=1)
    usable = (largest > 0) & (largest < np.inf)  # False for NaN, which max hands on
    bad = -1 if usable.all() else int(np.argmin(usable))
    padded = np.zeros((vectors.shape[0], -(-vectors.shape[1] // 16) * 16))
    with np.errstate(invalid="ignore"):
        padded[:, : vectors.shape[1]] = vectors
        padded *= padded
        norms = np.sqrt(_fold(_lanes(padded)))
    return largest, norms, bad


def _round(vectors: Array, largest: Array, limit: int) -> Array:
    """rint(v * (limit / max |v|)) in float32, half to even, clamped; tiny rows are first scaled by a power of two."""
    boost = np.where(largest < _TINY, _BOOST, np.float32(1))
    multiplier = np.float32(limit) / (largest * boost)
    rounded = np.rint((vectors * boost[:, None]) * multiplier[:, None])
    return np.minimum(np.maximum(rounded, np.float32(-limit)), np.float32(limit))


def quantize(vectors: Array, codes: Array, scales: Array) -> int:
    """Quantise rows to symmetric INT8 so that scale * code approximates the L2-normalised vector.

    vectors : float32[n, dim], C, read-only
    codes   : int8[n, stride], C, written; stride a multiple of 64, zeros behind dim
    scales  : float32[n], any stride, written; max |v| / (127 * norm)

    Returns -1, or the index of the first row that holds NaN or Inf or is all zero; what was written is then void.
    code = clamp(rint(v * (127 / max |v|))) in float32, half to even: exact. The norm is summed in float64.
    """
    _check.quantize(vectors, codes, scales)
    dim = vectors.shape[1]
    step = max(1, _BLOCK_BYTES // (8 * dim))
    for first in range(0, vectors.shape[0], step):
        block = vectors[first : first + step]
        largest, norms, bad = _measure(block)
        if bad >= 0:
            return first + bad
        codes[first : first + step, :dim] = _round(block, largest, CODE_MAX)
        scales[first : first + step] = largest.astype(np.float64) / (CODE_MAX * norms)
    codes[:, dim:] = 0
    return -1


def normalize(vectors: Array, rows: Array) -> int:
    """L2-normalise into padded rows: float32(float64(v) / norm).

    vectors : float32[n, dim], C, read-only
    rows    : float32[n, stride], C, written; stride a multiple of 16, zeros behind dim

    Returns -1, or the index of the first row that holds NaN or Inf or is all zero; what was written is then void.
    """
    _check.normalize(vectors, rows)
    dim = vectors.shape[1]
    step = max(1, _BLOCK_BYTES // (8 * dim))
    for first in range(0, vectors.shape[0], step):
        block = vectors[first : first + step]
        _, norms, bad = _measure(block)
        if bad >= 0:
            return first + bad
        rows[first : first + step, :dim] = block / norms[:, None]
    rows[:, dim:] = 0
    return -1


def prepare_query(vector: Array, query: Array) -> float:
    """Quantise a query to 15 bits: rint(v * (16256 / max |v|)).

    vector : float32[dim], C, read-only
    query  : int16[stride], C, written; stride a multiple of 64, values in [-16256, 16256], zeros behind dim

    Returns the float32 q_scale with which q_scale * query approximates the L2-normalised vector, or 0.0 if the vector
    holds NaN or Inf or is all zero.
    """
    _check.prepare_query(vector, query)
    block = vector[None, :]
    largest, norms, bad = _measure(block)
    if bad >= 0:
        return 0.0
    query[: vector.shape[0]] = _round(block, largest, QUERY_MAX)[0]
    query[vector.shape[0] :] = 0
    return float(np.float32(largest[0].astype(np.float64) / (QUERY_MAX * norms[0])))


# --- dot products --------------------------------------------------------------------------------------------------


def _dots_int8(codes: Array, query: Array) -> Array:
    """Exact int64 dots of int8 rows with an int16 query.

    By BLAS in float32, whose sums are exact in any order while they stay within 2^24: 128 * 128 * 1,024 dims. The query
    goes in as 128 * high + low.
    """
    high = (query.astype(np.int32) + 64) >> 7
    low = query.astype(np.int32) - (high << 7)
    halves = np.stack([high, low], axis=1).astype(np.float32)
    total = np.zeros(codes.shape[0], np.int64)
    step = max(1, _BLOCK_BYTES // 4 // max(1, min(codes.shape[1], 1024)))
    for row in range(0, codes.shape[0], step):
        for start in range(0, codes.shape[1], 1024):
            block = codes[row : row + step, start : start + 1024].astype(np.float32)
            part = (block @ halves[start : start + 1024]).astype(np.int64)
            total[row : row + step] += (part[:, 0] << 7) + part[:, 1]
    return total


def _dots_f32(rows: Array, query: Array) -> Array:
    out = np.empty(rows.shape[0], np.float32)
    step = max(1, _BLOCK_BYTES // 4 // max(1, rows.shape[1]))
    for first in range(0, rows.shape[0], step):
        out[first : first + step] = _fold(_lanes(rows[first : first + step] * query))
    return out


def dot_int8(row: Array, query: Array) -> int:
    """Exact dot product of a row with a prepared query.

    row   : int8[stride], C, read-only
    query : int16[stride], C, read-only
    """
    _check.dot(row, query, np.int8, np.int16)
    return int(row.astype(np.int64) @ query.astype(np.int64))


def dot_int8_int8(row: Array, query: Array) -> int:
    """Exact dot product of two rows.

    row   : int8[stride], C, read-only
    query : int8[stride], C, read-only
    """
    _check.dot(row, query, np.int8, np.int8)
    return int(row.astype(np.int64) @ query.astype(np.int64))


def dot_f32(row: Array, query: Array) -> float:
    """Float32 dot product in the order of the contract.

    row   : float32[stride], C, read-only
    query : float32[stride], C, read-only
    """
    _check.dot(row, query, np.float32, np.float32)
    return float(_dots_f32(row[None, :], query)[0])


def dot_rows_int8(rows: Array, query: Array, out: Array) -> None:
    """Exact int8 x int8 dot products of many rows with one.

    rows  : int8[n, stride], C, read-only
    query : int8[stride], C, read-only
    out   : int32[n], C, written
    """
    _check.dot_rows(rows, query, out, np.int8, np.int32)
    out[:] = _dots_int8(rows, query.astype(np.int16))


def dot_rows_f32(rows: Array, query: Array, out: Array) -> None:
    """Float32 dot products of many rows with one, each in the order of the contract.

    rows  : float32[n, stride], C, read-only
    query : float32[stride], C, read-only
    out   : float32[n], C, written
    """
    _check.dot_rows(rows, query, out, np.float32, np.float32)
    out[:] = _dots_f32(rows, query)


# --- bounded top-k -------------------------------------------------------------------------------------------------


def _live(died: Array, lsn: int) -> Array:
    return (died == 0) | (died > np.uint64(lsn))


def _offer(new_scores: Array, new_rows: Array, scores: Array, rows: Array, count: int) -> int:
    k = scores.shape[0]
    if k == 0:
        return 0
    keep = new_scores >= scores[:count].min() if count == k else ~np.isnan(new_scores)
    all_scores = np.concatenate([scores[:count], new_scores[keep]])
    all_rows = np.concatenate([rows[:count], new_rows[keep]])
    if all_scores.shape[0] > k:
        worst = np.partition(all_scores, -k)[-k]
        keep = all_scores >= worst
        all_scores, all_rows = all_scores[keep], all_rows[keep]
    # Worst first: sorted this way the state is a valid heap for the compiled kernels.
    order = np.lexsort((-all_rows, all_scores))[-k:]
    count = order.shape[0]
    scores[:count], rows[:count] = all_scores[order], all_rows[order]
    return count


def _scores_int8(codes: Array, scales: Array, query: Array, q_scale: float) -> Array:
    return _dots_int8(codes, query).astype(np.float32) * (scales * np.float32(q_scale))


def _selected(died: Array, lsn: int, allowed: Array) -> Array:
    mask = _live(died, lsn)
    if allowed.shape[0]:
        mask &= np.unpackbits(allowed, count=died.shape[0], bitorder="little").view(bool)
    return np.flatnonzero(mask)


def scan_int8(
    codes: Array,
    scales: Array,
    died: Array,
    lsn: int,
    query: Array,
    q_scale: float,
    allowed: Array,
    first_row: int,
    scores: Array,
    rows: Array,
    count: int,
) -> int:
    """Offer a run of INT8 rows to the top k: score = float32(dot) * float32(scale * q_scale).

    codes   : int8[n, stride], C, read-only
    scales  : float32[n], any stride, read-only
    died    : uint64[n], C, read-only; a row counts if died == 0 or died > lsn
    query   : int16[stride], C, read-only; from `prepare_query`
    allowed : uint8[ceil(n / 8)], C, read-only, bit i % 8 of byte i // 8 is row i; or length 0: all are allowed
    scores  : float32[k], C, state
    rows    : int64[k], C, state; first_row + position within the run

    Returns the new count. The results are exactly those of sorting all rows offered so far.
    """
    _check.scan_int8(codes, scales, died, query, allowed, scores, rows, count)
    chosen = _selected(died, lsn, allowed)
    if chosen.shape[0] < died.shape[0]:
        codes, scales = codes[chosen], scales[chosen]
    return _offer(_scores_int8(codes, scales, query, q_scale), chosen + first_row, scores, rows, count)


def scan_f32(
    vectors: Array,
    died: Array,
    lsn: int,
    query: Array,
    allowed: Array,
    first_row: int,
    scores: Array,
    rows: Array,
    count: int,
) -> int:
    """Offer a run of float32 rows to the top k: score = `dot_f32`.

    vectors : float32[n, stride], C, read-only; normalised
    died    : uint64[n], C, read-only; a row counts if died == 0 or died > lsn
    query   : float32[stride], C, read-only; normalised
    allowed : uint8[ceil(n / 8)], C, read-only, bit i % 8 of byte i // 8 is row i; or length 0: all are allowed
    scores  : float32[k], C, state
    rows    : int64[k], C, state; first_row + position within the run

    Returns the new count. The results are exactly those of sorting all rows offered so far.
    """
    _check.scan_f32(vectors, died, query, allowed, scores, rows, count)
    chosen = _selected(died, lsn, allowed)
    if chosen.shape[0] < died.shape[0]:
        vectors = vectors[chosen]
    return _offer(_dots_f32(vectors, query), chosen + first_row, scores, rows, count)


def finish_topk(scores: Array, rows: Array, count: int) -> None:
    """Sort the first `count` results in place, best first; the state takes no further rows after that.

    scores : float32[k], C, state
    rows   : int64[k], C, state
    """
    _check.topk(scores, rows, count)
    order = np.lexsort((rows[:count], -scores[:count]))
    scores[:count], rows[:count] = scores[:count][order], rows[:count][order]


# --- CRC-32C -------------------------------------------------------------------------------------------------------
# A CRC without its initial and final inversion is linear: that of a message is the exclusive or of what each byte
# contributes alone, and following it by zeros is a linear map of its 32 bits.

POLYNOMIAL = 0x82F63B78  # reflected 0x1EDC6F41 (RFC 3720)
_CRC_BLOCK = 256  # bytes; a table of 256 positions x 256 values stays in the L2 cache
_CHUNK_BLOCKS = 256  # 64 KiB at a time keeps the gathered words in the L2 cache


def _byte_table() -> Array:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(POLYNOMIAL), table >> np.uint32(1))
    return table


class _Tables:
    """Built at first use, in about two milliseconds."""

    def __init__(self) -> None:
        byte = _byte_table()
        self.byte: list[int] = byte.tolist()
        position = np.empty((_CRC_BLOCK, 256), np.uint32)  # what a byte contributes at each place of a block
        position[-1] = byte
        for p in range(_CRC_BLOCK - 2, -1, -1):
            position[p] = (position[p + 1] >> np.uint32(8)) ^ byte[position[p + 1] & np.uint32(255)]
        self.position = position.ravel()
        self.offset = np.arange(_CRC_BLOCK) * 256
        self.shift: list[Array] = []  # shift[j]: uint32[4, 256], the map of 256 * 2^j zeros, byte by byte
        self.shift_lists: list[list[list[int]]] = []
        # Following by 256 zeros moves a 32-bit state out of the block: its bytes are then the first four of a block.
        first = position[:4].copy()
        self._add_shift(first)

    def _add_shift(self, table: Array) -> None:
        self.shift.append(table)
        self.shift_lists.append(table.tolist())

    def shifted(self, crcs: Array, j: int) -> Array:
        """Many states, each followed by 256 * 2^j zeros."""
        while len(self.shift) <= j:
            last = len(self.shift) - 1
            self._add_shift(self._apply(self.shift[last], self.shift[last].ravel()).reshape(4, 256))
        return self._apply(self.shift[j], crcs)

    @staticmethod
    def _apply(table: Array, crcs: Array) -> Array:
        pieces = crcs.astype("<u4").view(np.uint8).reshape(-1, 4)
        mapped = table[0].take(pieces[:, 0])
        for place in (1, 2, 3):
            mapped ^= table[place].take(pieces[:, place])
        return mapped.reshape(crcs.shape)

    def shifted_once(self, crc: int) -> int:
        """One state, followed by 256 zeros."""
        a, b, c, d = self.shift_lists[0]
        return a[crc & 255] ^ b[crc >> 8 & 255] ^ c[crc >> 16 & 255] ^ d[crc >> 24]

    def combined(self, crcs: Array) -> Array:
        """uint32[..., blocks] of consecutive blocks -> uint32[...], halving the number of blocks at each step."""
        j = 0
        while crcs.shape[-1] > 1:
            if crcs.shape[-1] % 2:  # a block of zeros in front contributes nothing
                crcs = np.concatenate([np.zeros_like(crcs[..., :1]), crcs], axis=-1)
            crcs = self.shifted(crcs[..., ::2], j) ^ crcs[..., 1::2]
            j += 1
        return crcs[..., 0]


_tables: _Tables | None = None


def _crc_tables() -> _Tables:
    global _tables
    if _tables is None:
        _tables = _Tables()
    return _tables


def _bytes_of(data: Any) -> memoryview:
    view = memoryview(data)
    if view.nbytes == 0:
        return memoryview(b"")
    return view if view.ndim == 1 and view.format == "B" and view.c_contiguous else view.cast("B")


def crc32c(data: Any, crc: int = 0) -> int:
    """CRC-32C (Castagnoli) of a buffer; `crc` is the value of what came before, as with `zlib.crc32`.

    data : bytes-like, any C-contiguous buffer, read-only
    """
    view = _bytes_of(data)
    tables = _crc_tables()
    state = (crc & 0xFFFFFFFF) ^ 0xFFFFFFFF
    length = len(view)
    if length < 48:  # below it the loop is faster than the calls of NumPy
        byte = tables.byte
        for value in view:
            state = (state >> 8) ^ byte[(state ^ value) & 255]
        return state ^ 0xFFFFFFFF
    values = np.frombuffer(view, np.uint8)
    head = length % _CRC_BLOCK
    if 0 < head < 4:  # the state enters through four bytes of the first piece
        byte = tables.byte
        for value in view[:head]:
            state = (state >> 8) ^ byte[(state ^ value) & 255]
    elif head:
        state = _crc_short(values[:head], state, tables)
    chunk = _CHUNK_BLOCKS * _CRC_BLOCK
    for start in range(head, length, chunk):
        blocks = values[start : start + chunk].reshape(-1, _CRC_BLOCK)
        crcs = np.bitwise_xor.reduce(tables.position.take(tables.offset + blocks), axis=1)
        if blocks.shape[0] <= 16:  # few states: plain integers are faster
            for crc_of_block in crcs.tolist():
                state = tables.shifted_once(state) ^ crc_of_block
        else:
            # The state goes in front as a block of its own: shifting does the rest.
            joined = np.concatenate([np.array([state], np.uint32), crcs])
            state = int(tables.combined(joined))
    return state ^ 0xFFFFFFFF


def _crc_short(values: Array, state: int, tables: _Tables) -> int:
    """State after 4 to 255 bytes: the old state enters as if it were added to the first four."""
    first = values.copy()
    first[:4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    return int(np.bitwise_xor.reduce(tables.position.take(tables.offset[-first.shape[0] :] + first)))


def _row_crcs(codes: Array, ids: Array, scales: Array) -> Array:
    tables = _crc_tables()
    length = 12 + codes.shape[1]
    blocks = -(-length // _CRC_BLOCK)
    pad = blocks * _CRC_BLOCK - length
    out = np.empty(codes.shape[0], np.uint32)
    step = max(1, _CHUNK_BLOCKS // blocks)
    for first in range(0, codes.shape[0], step):
        part = slice(first, first + step)
        here = codes[part]
        message = np.zeros((here.shape[0], blocks * _CRC_BLOCK), np.uint8)  # zeros in front contribute nothing
        message[:, pad : pad + 8] = np.ascontiguousarray(ids[part], "<u8").view(np.uint8).reshape(-1, 8)
        message[:, pad + 8 : pad + 12] = np.ascontiguousarray(scales[part], "<f4").view(np.uint8).reshape(-1, 4)
        message[:, pad + 12 :] = here.view(np.uint8)
        message[:, pad : pad + 4] ^= np.uint8(255)
        message = message.reshape(-1, blocks, _CRC_BLOCK)
        crcs = np.bitwise_xor.reduce(tables.position.take(tables.offset + message), axis=2)
        out[part] = ~tables.combined(crcs)
    return out


def records_checksum(records: Array, at: int, out: Array) -> None:
    """CRC-32C of each record without the four bytes at `at`, where its own checksum stands.

    records : uint8[n, size], C, read-only; at + 4 <= size
    out     : uint32[n], any stride, written
    """
    _check.records_checksum(records, at, out)
    tables = _crc_tables()
    blocks = -(-(records.shape[1] - 4) // _CRC_BLOCK)
    pad = blocks * _CRC_BLOCK - (records.shape[1] - 4)
    step = max(1, _CHUNK_BLOCKS // max(1, blocks))
    for first in range(0, len(records), step):
        part = records[first : first + step]
        message = np.zeros((len(part), blocks * _CRC_BLOCK), np.uint8)  # zeros in front contribute nothing
        message[:, pad : pad + at] = part[:, :at]
        message[:, pad + at :] = part[:, at + 4 :]
        message[:, pad : pad + 4] ^= np.uint8(255)
        message = message.reshape(-1, blocks, _CRC_BLOCK)
        crcs = np.bitwise_xor.reduce(tables.position.take(tables.offset + message), axis=2)
        out[first : first + step] = ~tables.combined(crcs)


def rows_checksum(codes: Array, ids: Array, scales: Array, out: Array) -> None:
    """CRC-32C per row over 8 little-endian bytes of the id, 4 of the scale, and the row's code bytes.

    codes  : int8 or uint8[n, stride], C, read-only; stride a multiple of 8
    ids    : uint64[n], any stride, read-only
    scales : float32[n], any stride, read-only
    out    : uint32[n], any stride, written
    """
    _check.rows_checksum(codes, ids, scales, out)
    out[:] = _row_crcs(codes, ids, scales)


def rows_verify(codes: Array, meta: Array) -> int:
    """Compare each row's checksum with the stored one.

    codes : int8 or uint8[n, stride], C, read-only; stride a multiple of 8
    meta  : {id: u64, scale: f32, crc: u32}[n], packed to 16 bytes, C, read-only

    Returns the index of the first row that differs, or -1.
    """
    _check.rows_verify(codes, meta)
    wrong = _row_crcs(codes, meta["id"], meta["scale"]) != meta["crc"]
    return int(np.argmax(wrong)) if wrong.any() else -1
