"""Compiled kernels on pages of sketches. Contracts stand in `reference_pages`, the layout in `page_layout`.

A search is one call: the query is rotated and its tables are built once; the groups' centroids are scored, the best
groups' pages list the pages whose centroids may be among the nearest, and these pages, nearest first, list the rows
whose estimate reaches the k-th score. Rows and centroids are then scored exactly, eight at a time.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any, disable-error-code="call-arg,var-annotated"
# Numba types the functions it compiles.
from __future__ import annotations

import numpy as np
from numba import types

from ._check import Array
from ._jit import array, helper, kernel, packed_1d, packed_2d
from ._simd import (
    AVX512,
    address,
    divide_row,
    float_of_bits,
    load_f32,
    load_i64,
    load_u8,
    load_u32,
    load_u64,
    lowest_bit,
    measure_row,
    prefetch,
    round_row_int16,
    split_query,
    store_i64,
)
from ._simd_sketch import (
    LUT_DIMS,
    LUT_MAX,
    LUT_MAX_LONG,
    absolute_sums,
    bounds_range,
    count_reaching,
    hadamard_64,
    hadamard_stage,
    hadamard_stages,
    lane_bounds,
    lanes_between,
    lut_64,
    multiply_16,
    score_f32_at,
    score_int8_at,
    store_f32,
    surviving_lanes,
)
from .page_layout import FIELD, FIELDS, LANES, RECORD_BYTES, RECORD_SCALE, ROTATIONS, SCRATCH_FIXED, scratch_bytes
from .scan import _offer, _sift_down

_DIM, _SIGNS = FIELD["dim"], FIELD["signs"]
_TOP_COUNT, _TOP_CODES, _TOP_SCALES = FIELD["top_count"], FIELD["top_codes"], FIELD["top_scales"]
_TOP_LENGTHS, _TOP_PAGES, _TOP_BLOCKS = FIELD["top_lengths"], FIELD["top_pages"], FIELD["top_blocks"]
_SLOT_CODES, _SLOT_SCALES, _SLOT_LENGTHS = FIELD["slot_codes"], FIELD["slot_scales"], FIELD["slot_lengths"]
_SLOT_PAGES, _SLOT_BLOCKS = FIELD["slot_pages"], FIELD["slot_blocks"]
_ROWS, _ROW_BYTES, _ROW_INT8 = FIELD["rows"], FIELD["row_bytes"], FIELD["row_int8"]
_BASE_COUNT, _ROW_BASE, _ROW_CHUNKS = FIELD["base_count"], FIELD["row_base"], FIELD["row_chunks"]
_DEATH_BASE, _DEATH_CHUNKS, _CHUNK_SHIFT = FIELD["death_base"], FIELD["death_chunks"], FIELD["chunk_shift"]
_REACH, _RECORD_BASE, _RECORD_CHUNKS = FIELD["reach"], FIELD["record_base"], FIELD["record_chunks"]
_CTX_SHAPE = (len(FIELDS),)
_INT64, _U64, _F32, _U8 = (np.dtype(t) for t in (np.int64, np.uint64, np.float32, np.uint8))  # NumPy has one of each

_INF, _INF_BITS = np.float32(np.inf), np.uint32(0x7F800000)
_ONE, _BOOST, _TINY = np.float32(1), np.float32(2.0**100), np.float32(2.0**-100)
_QUERY_MAX = np.float32(16256)
_UNBOUNDED = _INF  # a spread that leaves no page out
_LOWEST = np.float32(-3.4e38)  # a threshold every estimate of a row passes, and no empty lane
_EPS_ASSIGN = np.float32(2.5)  # the nearest page of a row is missed once in some hundred rows at most
_BEAM_ASSIGN = 8

# Scratch memory of a search, in bytes from a 64-byte boundary on: the first five times dim, then constants.
_UNIT, _QUERY, _PLANES, _ROTATED, _LUT, _PENDING = 0, 4, 6, 8, 12, 16
_ADDRESSES, _NUMBERS, _SCALES, _OUT = 0, 128, 256, 320  # 16 uintp, 16 int64, 16 float32, 8 float32
_HELD = 12  # blocks whose lanes are scored best first, so that the others meet a threshold that counts
_BLOCKS, _BOUNDS = 384, 384 + 8 * _HELD  # uintp[_HELD], float32[_HELD, 32]
assert 63 + _BOUNDS + 4 * LANES * _HELD <= SCRATCH_FIXED  # from the next boundary on
_RECORDS_AHEAD = 16  # rows whose records are fetched early where rows are listed
_FETCHED = 4  # blocks of the nearest page that are fetched as soon as it is known


@helper
def _aligned(scratch):
    return (address(scratch) + np.uintp(63)) & ~np.uintp(63)


# --- rotation ------------------------------------------------------------------------------------------------------


@helper
def _rotate(source, x, dim, signs):
    """x = four rounds of sign flips and a Hadamard transform of the first / last 2^floor(log2 dim) floats of `source`."""
    n = 1
    while 2 * n <= dim:
        n *= 2
    factor = np.float32(1.0 / np.sqrt(np.float64(n)))
    for turn in range(ROTATIONS):
        origin, flips = source if turn == 0 else x, signs + np.uintp(4 * dim * turn)
        first = 0 if turn % 2 == 0 else dim - n
        for j in range(0, dim, 16):
            if j < first or j >= first + n:
                at = np.uintp(4 * j)
                multiply_16(origin + at, flips + at, x + at)
        for j in range(first, first + n, 64):
            at = np.uintp(4 * j)
            hadamard_64(origin + at, flips + at, x + at, factor if n == 64 else _ONE)
        start = x + np.uintp(4 * first)
        h = 64
        while 4 * h <= n:
            for i in range(0, n, 4 * h):
                for j in range(i, i + h, 16):
                    hadamard_stages(start + np.uintp(4 * j), h, factor if 4 * h == n else _ONE)
            h *= 4
        if 2 * h == n:
            for j in range(0, h, 16):
                hadamard_stage(start + np.uintp(4 * j), h, factor)


@kernel(types.int64(array(types.float32, 2, True), array(types.float32, 2)))
def _rotate_rows(vectors, signs):
    n, dim = vectors.shape
    for i in range(n):
        row = address(vectors) + np.uintp(4 * dim * i)
        _rotate(row, row, dim, address(signs))
    return 0


def rotate_rows(vectors: Array, signs: Array) -> None:
    _require(vectors, np.float32, 2, writable=True)
    _require(signs, np.float32, 2)
    _same(signs.shape, (ROTATIONS, vectors.shape[1]))
    _same(vectors.shape[1] % 64, 0)
    _rotate_rows(vectors, signs)


# --- one query -----------------------------------------------------------------------------------------------------


@helper
def _prepare_scores(vector, dim, width, s):
    """Fill the scratch memory at `s` with what rows are scored with; (q_scale, correction), q_scale 0 without a direction."""
    bits, total = measure_row(vector, dim)
    if bits == 0 or bits >= _INF_BITS:
        return np.float32(0), np.int64(0)
    largest = float_of_bits(bits)
    divide_row(vector, dim, s + np.uintp(_UNIT * width), width, np.sqrt(total))
    boost = _BOOST if largest < _TINY else _ONE
    query, planes = s + np.uintp(_QUERY * width), s + np.uintp(_PLANES * width)
    round_row_int16(vector, dim, query, width, boost, _QUERY_MAX / (largest * boost))
    correction = split_query(query, width, planes) if AVX512 else 0
    return np.float32(np.float64(largest) / (16256.0 * np.sqrt(total))), correction


@helper
def _prepare(ctx, vector, dim, s):
    """The same, and what sketches are estimated with; (q_scale, correction, a, minus)."""
    width = ctx[_DIM]
    q_scale, correction = _prepare_scores(vector, dim, width, s)
    if q_scale == np.float32(0):
        return q_scale, correction, np.float32(0), np.float32(0)
    rotated, lut = s + np.uintp(_ROTATED * width), s + np.uintp(_LUT * width)
    _rotate(s + np.uintp(_UNIT * width), rotated, width, np.uintp(ctx[_SIGNS]))
    magnitude, widest = absolute_sums(rotated, width)
    limit = np.float32(LUT_MAX if width <= LUT_DIMS else LUT_MAX_LONG)
    multiplier = limit / widest
    for at in range(0, 4 * width, 256):
        lut_64(rotated + np.uintp(at), lut + np.uintp(at), multiplier)
    return q_scale, correction, np.float32(2) * (widest / limit), magnitude


@helper
def _push(pending, waiting, where, number, scale):
    store_i64(pending + np.uintp(_ADDRESSES + 8 * waiting), np.int64(where))
    store_i64(pending + np.uintp(_NUMBERS + 8 * waiting), number)
    store_f32(pending + np.uintp(_SCALES + 4 * waiting), scale)


@helper
def _score(s, width, waiting, int8, row_bytes, q_scale, correction):
    """Score the first eight pending rows; with fewer, the others repeat the first."""
    pending = s + np.uintp(_PENDING * width)
    for j in range(waiting, 8):
        store_i64(pending + np.uintp(_ADDRESSES + 8 * j), load_i64(pending + np.uintp(_ADDRESSES)))
    out = pending + np.uintp(_OUT)
    if int8:
        query, planes = s + np.uintp(_QUERY * width), s + np.uintp(_PLANES * width)
        scales = pending + np.uintp(_SCALES)
        score_int8_at(pending, scales, query, planes, correction, row_bytes, q_scale, out)
    else:
        score_f32_at(pending, s + np.uintp(_UNIT * width), row_bytes >> 2, out)


@helper
def _shift(pending, waiting):
    for j in range(8, waiting):
        _push(
            pending,
            j - 8,
            np.uintp(load_u64(pending + np.uintp(_ADDRESSES + 8 * j))),
            load_i64(pending + np.uintp(_NUMBERS + 8 * j)),
            load_f32(pending + np.uintp(_SCALES + 4 * j)),
        )
    return waiting - 8


@helper
def _fetch(where, size):
    for line in range(0, size, 64):
        prefetch(where + np.uintp(line))


@helper
def _take_centroids(s, width, waiting, q_scale, correction, scores, slots, count):
    used = min(waiting, 8)
    _score(s, width, used, True, width, q_scale, correction)
    pending = s + np.uintp(_PENDING * width)
    for j in range(used):
        score = load_f32(pending + np.uintp(_OUT + 4 * j))
        if count < scores.shape[0] or score >= scores[0]:
            count = _offer(scores, slots, count, score, load_i64(pending + np.uintp(_NUMBERS + 8 * j)))
    return count


@helper
def _sort(scores, rows, count):
    """Best first; the arrays were a heap."""
    for size in range(count - 1, 0, -1):
        score, row = scores[size], rows[size]
        scores[size], rows[size] = scores[0], rows[0]
        _sift_down(scores, rows, size, score, row)


# The best pages are kept as keys that order as their scores do: the bits of the score above, the slot below.


@helper
def _key(bits, slot):
    """Larger is better; of equal scores the smaller slot."""
    ordered = np.int64(bits)
    if ordered >= 1 << 31:
        ordered = -(ordered & 0x7FFFFFFF)
    return (ordered << 32) | (0xFFFFFFFF - slot)


@helper
def _key_score(key):
    ordered = key >> 32
    return float_of_bits(np.uint32(ordered if ordered >= 0 else -ordered | 0x80000000))


@helper
def _best_first(keys, count, wanted):
    """Move the `wanted` largest of keys[:count] to the front, in any order; the least of them comes last."""
    low, high = 0, count - 1
    nth = wanted - 1
    while low < high:
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if nth <= j:
            high = j
        elif nth >= i:
            low = i
        else:
            break


@helper
def _order(keys, count):
    """Sort keys[:count], largest first (Shell's sort: numba's own counts references)."""
    gap = 1
    while 9 * gap < 4 * count:
        gap = 9 * gap // 4 + 1
    while gap > 0:
        for n in range(gap, count):
            key = keys[n]
            while n >= gap and keys[n - gap] < key:
                keys[n] = keys[n - gap]
                n -= gap
            keys[n] = key
        gap = 4 * gap // 9


@helper
def _enough(bounds, count, wanted):
    """A threshold that `wanted` of the float32[count] at `bounds` reach, if there are so many, and few more."""
    low, high = bounds_range(bounds, count, _LOWEST)
    if count_reaching(bounds, count, low) <= wanted + 8:
        return low
    for _ in range(16):
        middle = np.float32(0.5) * (low + high)
        found = count_reaching(bounds, count, middle)
        if found < wanted:
            high = middle
        else:
            low = middle
            if found <= wanted + 8:
                break
    return low


@helper
def _key_number(key):
    return 0xFFFFFFFF - (key & 0xFFFFFFFF)


@helper
def _take_pages(s, width, waiting, q_scale, correction, keys, count, wanted, worst, spread):
    """Score pending centroids and keep the keys of the best; (how many are kept, the score that is to be beaten)."""
    used = min(waiting, 8)
    _score(s, width, used, True, width, q_scale, correction)
    pending = s + np.uintp(_PENDING * width)
    for j in range(used):
        score = load_f32(pending + np.uintp(_OUT + 4 * j))
        if score >= worst:
            worst = max(worst, score - spread)
            bits = load_u32(pending + np.uintp(_OUT + 4 * j))
            keys[count] = _key(bits, load_i64(pending + np.uintp(_NUMBERS + 8 * j)))
            count += 1
            if count == keys.shape[0]:
                _best_first(keys, count, wanted)
                count, worst = wanted, max(worst, _key_score(keys[wanted - 1]))
    return count, worst


@helper
def _push_centroid(pending, waiting, codes, scales, slot, width):
    where = codes + np.uintp(width * slot)
    _fetch(where, width)
    _push(pending, waiting, where, slot, load_f32(scales + np.uintp(4 * slot)))


@helper
def _near_groups(ctx, s, q_scale, correction, scores, slots):
    width = ctx[_DIM]
    pending = s + np.uintp(_PENDING * width)
    pages, codes, scales = np.uintp(ctx[_TOP_PAGES]), np.uintp(ctx[_TOP_CODES]), np.uintp(ctx[_TOP_SCALES])
    waiting = count = 0
    for slot in range(ctx[_TOP_COUNT]):
        if load_u64(pages + np.uintp(8 * slot)) == np.uint64(0):
            continue
        _push(pending, waiting, codes + np.uintp(width * slot), slot, load_f32(scales + np.uintp(4 * slot)))
        waiting += 1
        if waiting == 8:
            count = _take_centroids(s, width, 8, q_scale, correction, scores, slots, count)
            waiting = 0
    if waiting > 0:
        count = _take_centroids(s, width, waiting, q_scale, correction, scores, slots, count)
    _sort(scores, slots, count)
    return count


@helper
def _take_slots(ctx, s, prepared, mask, block, waiting, keys, count, wanted, worst, spread):
    """Let the centroids of a block's lanes wait, and score them whenever there are 16; (how many wait, are kept, `worst`)."""
    q_scale, correction, _, _ = prepared
    width = ctx[_DIM]
    pending, numbers = s + np.uintp(_PENDING * width), block + np.uintp(4 * width + 12 * LANES)
    codes, scales = np.uintp(ctx[_SLOT_CODES]), np.uintp(ctx[_SLOT_SCALES])
    while mask != np.uint32(0):
        lane = lowest_bit(np.uint64(mask))
        mask &= mask - np.uint32(1)
        _push_centroid(pending, waiting, codes, scales, np.int64(load_u32(numbers + np.uintp(4 * lane))), width)
        waiting += 1
        if waiting == 16:
            count, worst = _take_pages(s, width, 8, q_scale, correction, keys, count, wanted, worst, spread)
            waiting = _shift(pending, waiting)
    return waiting, count, worst


@helper
def _finish_slots(ctx, s, prepared, waiting, keys, count, wanted, worst, spread):
    """Score all that wait, and keep no more than `wanted`."""
    q_scale, correction, _, _ = prepared
    width = ctx[_DIM]
    while waiting > 0:
        count, worst = _take_pages(s, width, waiting, q_scale, correction, keys, count, wanted, worst, spread)
        waiting = _shift(s + np.uintp(_PENDING * width), waiting)
    if count >= wanted:
        _best_first(keys, count, wanted)
        count, worst = wanted, max(worst, _key_score(keys[wanted - 1]))
    return count, worst


@helper
def _fetch_nearest(ctx, keys, count):
    """The first blocks of the nearest page so far: most likely it stays the nearest."""
    best = keys[0]
    for n in range(1, count):
        best = max(best, keys[n])
    slot = _key_number(best)
    blocks = np.int64(load_u32(np.uintp(ctx[_SLOT_BLOCKS]) + np.uintp(4 * slot)))
    page = np.uintp(load_u64(np.uintp(ctx[_SLOT_PAGES]) + np.uintp(8 * slot)))
    _fetch(page, min(blocks, _FETCHED) * (4 * ctx[_DIM] + 16 * LANES))


@helper
def _take_held_slots(ctx, s, prepared, held, spread, keys, wanted):
    """Score the centroids of the blocks held, those of the best bounds first; (how many wait, are kept, the score to beat)."""
    pending = s + np.uintp(_PENDING * ctx[_DIM])
    threshold = _enough(pending + np.uintp(_BOUNDS), LANES * held, 8 if spread < _UNBOUNDED else (wanted + 7) & ~7)
    waiting = count = 0
    worst = _LOWEST
    for turn in range(2):
        for n in range(held):
            block = np.uintp(load_u64(pending + np.uintp(_BLOCKS + 8 * n)))
            bounds = pending + np.uintp(_BOUNDS + 4 * LANES * n)
            mask = lanes_between(bounds, worst if turn else threshold, threshold if turn else _INF)
            if mask != np.uint32(0):  # seldom: a call costs as much as a block
                waiting, count, worst = _take_slots(
                    ctx, s, prepared, mask, block, waiting, keys, count, wanted, worst, spread
                )
        if turn == 0:
            count, worst = _finish_slots(ctx, s, prepared, waiting, keys, count, wanted, worst, spread)
            waiting = 0
            if count > 0:
                _fetch_nearest(ctx, keys, count)
    return waiting, count, worst


@helper
def _near_pages(ctx, s, prepared, eps0, spread, groups, group_scores, group_slots, keys, scores, slots):
    """The slots with the best centroids out of the nearest groups, no worse than the best by more than `spread`, best first."""
    _, _, a, minus = prepared
    width = ctx[_DIM]
    pending, lut = s + np.uintp(_PENDING * width), s + np.uintp(_LUT * width)
    waiting = count = held = 0
    wanted, worst = scores.shape[0], _LOWEST
    for g in range(groups):
        group = group_slots[g]
        base = load_f32(np.uintp(ctx[_TOP_LENGTHS]) + np.uintp(4 * group)) * group_scores[g]
        block = np.uintp(load_u64(np.uintp(ctx[_TOP_PAGES]) + np.uintp(8 * group)))
        for _ in range(np.int64(load_u32(np.uintp(ctx[_TOP_BLOCKS]) + np.uintp(4 * group)))):
            if held < _HELD:
                lane_bounds(block, lut, width, a, minus, eps0, base, pending + np.uintp(_BOUNDS + 4 * LANES * held))
                store_i64(pending + np.uintp(_BLOCKS + 8 * held), np.int64(block))
                held += 1
                if held == _HELD:
                    waiting, count, worst = _take_held_slots(ctx, s, prepared, held, spread, keys, wanted)
            else:
                threshold = worst - base if worst > _LOWEST else _LOWEST
                mask = surviving_lanes(block, lut, width, a, minus, threshold, eps0)
                if mask != np.uint32(0):  # seldom: a call costs as much as a block
                    waiting, count, worst = _take_slots(
                        ctx, s, prepared, mask, block, waiting, keys, count, wanted, worst, spread
                    )
            block += np.uintp(4 * width + 16 * LANES)
    if held < _HELD:
        waiting, count, worst = _take_held_slots(ctx, s, prepared, held, spread, keys, wanted)
    count, worst = _finish_slots(ctx, s, prepared, waiting, keys, count, wanted, worst, spread)
    _order(keys, count)
    for n in range(count):
        scores[n], slots[n] = _key_score(keys[n]), _key_number(keys[n])
        if scores[n] < worst:  # it was kept before the best was known
            return n
    return count


@helper
def _row_at(ctx, row):
    ahead = row - ctx[_BASE_COUNT]
    if ahead < 0:
        return np.uintp(ctx[_ROW_BASE]) + np.uintp(row * ctx[_ROW_BYTES])
    chunk = load_u64(np.uintp(ctx[_ROW_CHUNKS]) + np.uintp(8 * (ahead >> ctx[_CHUNK_SHIFT])))
    return np.uintp(chunk) + np.uintp((ahead & ((1 << ctx[_CHUNK_SHIFT]) - 1)) * ctx[_ROW_BYTES])


@helper
def _record_at(ctx, row):
    ahead = row - ctx[_BASE_COUNT]
    if ahead < 0:
        return np.uintp(ctx[_RECORD_BASE]) + np.uintp(RECORD_BYTES * row)
    chunk = load_u64(np.uintp(ctx[_RECORD_CHUNKS]) + np.uintp(8 * (ahead >> ctx[_CHUNK_SHIFT])))
    return np.uintp(chunk) + np.uintp(RECORD_BYTES * (ahead & ((1 << ctx[_CHUNK_SHIFT]) - 1)))


@helper
def _is_live(ctx, row, lsn):
    ahead = row - ctx[_BASE_COUNT]
    if ahead < 0:
        died = load_u64(np.uintp(ctx[_DEATH_BASE]) + np.uintp(8 * row))
    else:
        chunk = load_u64(np.uintp(ctx[_DEATH_CHUNKS]) + np.uintp(8 * (ahead >> ctx[_CHUNK_SHIFT])))
        died = load_u64(np.uintp(chunk) + np.uintp(8 * (ahead & ((1 << ctx[_CHUNK_SHIFT]) - 1))))
    return died - np.uint64(1) >= lsn


@helper
def _take_rows(ctx, s, waiting, q_scale, correction, lsn, scores, rows, count):
    width, used = ctx[_DIM], min(waiting, 8)
    _score(s, width, used, ctx[_ROW_INT8] != 0, ctx[_ROW_BYTES], q_scale, correction)
    pending = s + np.uintp(_PENDING * width)
    for j in range(used):
        score = load_f32(pending + np.uintp(_OUT + 4 * j))
        if count < scores.shape[0] or score >= scores[0]:
            row = load_i64(pending + np.uintp(_NUMBERS + 8 * j))
            if _is_live(ctx, row, lsn):
                count = _offer(scores, rows, count, score, row)
    return count


@helper
def _push_row(ctx, pending, waiting, row, scale):
    where = _row_at(ctx, row)
    _fetch(where, ctx[_ROW_BYTES])
    _push(pending, waiting, where, row, scale)


@helper
def _is_allowed(allowed, row):
    return (load_u8(allowed + np.uintp(row >> 3)) >> np.uint8(row & 7)) & np.uint8(1) != np.uint8(0)


@helper
def _allowed_lanes(numbers, limit, allowed):
    mask = np.uint32(0)
    for lane in range(LANES):
        row = np.int64(load_u32(numbers + np.uintp(4 * lane)))
        if row < limit and _is_allowed(allowed, row):
            mask |= np.uint32(1) << np.uint32(lane)
    return mask


@helper
def _finish_rows(ctx, s, waiting, q_scale, correction, lsn, scores, rows, count):
    """Offer all that wait; how many are in the top k."""
    while waiting > 0:
        count = _take_rows(ctx, s, waiting, q_scale, correction, lsn, scores, rows, count)
        waiting = _shift(s + np.uintp(_PENDING * ctx[_DIM]), waiting)
    return count


@helper
def _take_lanes(ctx, s, prepared, mask, block, limit, lsn, waiting, scores, rows, count):
    """Let the rows of a block's lanes wait, and offer them whenever there are 16; (how many wait, are held, were new)."""
    q_scale, correction, _, _ = prepared
    width = ctx[_DIM]
    pending, columns = s + np.uintp(_PENDING * width), block + np.uintp(4 * width)
    new = 0
    while mask != np.uint32(0):
        lane = lowest_bit(np.uint64(mask))
        mask &= mask - np.uint32(1)
        row = np.int64(load_u32(columns + np.uintp(12 * LANES + 4 * lane)))
        if row >= limit:
            continue
        _push_row(ctx, pending, waiting, row, load_f32(columns + np.uintp(8 * LANES + 4 * lane)))
        waiting += 1
        new += 1
        if waiting == 16:
            count = _take_rows(ctx, s, 8, q_scale, correction, lsn, scores, rows, count)
            waiting = _shift(pending, waiting)
    return waiting, count, new


@helper
def _scan_tail(ctx, s, q_scale, correction, limit, lsn, allowed, filtered, scores, rows, count):
    """Rows that are in no page yet."""
    pending = s + np.uintp(_PENDING * ctx[_DIM])
    waiting = 0
    for row in range(ctx[_ROWS], limit):
        if filtered and not _is_allowed(allowed, row):
            continue
        scale = load_f32(_record_at(ctx, row) + np.uintp(RECORD_SCALE))
        _push(pending, waiting, _row_at(ctx, row), row, scale)
        waiting += 1
        if waiting == 8:
            count = _take_rows(ctx, s, 8, q_scale, correction, lsn, scores, rows, count)
            waiting = 0
    if waiting > 0:
        count = _take_rows(ctx, s, waiting, q_scale, correction, lsn, scores, rows, count)
    return count


@helper
def _leave_out(bounds, permitted):
    for lane in range(LANES):
        if (permitted >> np.uint32(lane)) & np.uint32(1) == np.uint32(0):
            store_f32(bounds + np.uintp(4 * lane), -_INF)


@helper
def _take_held_rows(ctx, s, prepared, held, limit, lsn, scores, rows, count):
    """Offer the rows of the blocks held, those of the best bounds first; (how many wait, are in the top k, were scored)."""
    k, pending = scores.shape[0], s + np.uintp(_PENDING * ctx[_DIM])
    threshold = _enough(pending + np.uintp(_BOUNDS), LANES * held, (k + 7) & ~7)
    waiting = scored = 0
    for turn in range(2):
        for n in range(held):
            block = np.uintp(load_u64(pending + np.uintp(_BLOCKS + 8 * n)))
            bounds = pending + np.uintp(_BOUNDS + 4 * LANES * n)
            worst = scores[0] if count == k else _LOWEST
            mask = lanes_between(bounds, worst if turn else max(threshold, worst), threshold if turn else _INF)
            if mask != np.uint32(0):  # seldom: a call costs as much as a block
                waiting, count, new = _take_lanes(
                    ctx, s, prepared, mask, block, limit, lsn, waiting, scores, rows, count
                )
                scored += new
        if turn == 0:
            count = _finish_rows(ctx, s, waiting, prepared[0], prepared[1], lsn, scores, rows, count)
            waiting = 0
    return waiting, count, scored


@helper
def _scan_pages(
    ctx, s, prepared, eps0, near, near_scores, near_slots, limit, lsn, allowed, filtered, scores, rows, count, stats
):
    _, _, a, minus = prepared
    width = ctx[_DIM]
    pending, lut = s + np.uintp(_PENDING * width), s + np.uintp(_LUT * width)
    step = np.uintp(4 * width + 16 * LANES)
    waiting = blocks = rescored = held = 0
    for p in range(near):
        slot = near_slots[p]
        base = load_f32(np.uintp(ctx[_SLOT_LENGTHS]) + np.uintp(4 * slot)) * near_scores[p]
        block = np.uintp(load_u64(np.uintp(ctx[_SLOT_PAGES]) + np.uintp(8 * slot)))
        size = np.int64(load_u32(np.uintp(ctx[_SLOT_BLOCKS]) + np.uintp(4 * slot)))
        blocks += size
        ahead = np.uintp(load_u64(np.uintp(ctx[_SLOT_PAGES]) + np.uintp(8 * near_slots[min(p + 1, near - 1)])))
        for _ in range(size):
            _fetch(ahead, step)
            ahead += step
            permitted = np.uint32(0xFFFFFFFF)
            if filtered:
                permitted = _allowed_lanes(block + np.uintp(4 * width + 12 * LANES), limit, allowed)
            if permitted != np.uint32(0):
                new = 0
                if held < _HELD:
                    bounds = pending + np.uintp(_BOUNDS + 4 * LANES * held)
                    lane_bounds(block, lut, width, a, minus, eps0, base, bounds)
                    if filtered:
                        _leave_out(bounds, permitted)
                    store_i64(pending + np.uintp(_BLOCKS + 8 * held), np.int64(block))
                    held += 1
                    if held == _HELD:
                        waiting, count, new = _take_held_rows(ctx, s, prepared, held, limit, lsn, scores, rows, count)
                else:
                    threshold = scores[0] - base if count == scores.shape[0] else _LOWEST
                    mask = surviving_lanes(block, lut, width, a, minus, threshold, eps0) & permitted
                    if mask != np.uint32(0):  # seldom: a call costs as much as a block
                        waiting, count, new = _take_lanes(
                            ctx, s, prepared, mask, block, limit, lsn, waiting, scores, rows, count
                        )
                rescored += new
            block += step
    if held < _HELD:
        waiting, count, new = _take_held_rows(ctx, s, prepared, held, limit, lsn, scores, rows, count)
        rescored += new
    count = _finish_rows(ctx, s, waiting, prepared[0], prepared[1], lsn, scores, rows, count)
    _sort(scores, rows, count)
    stats[0] += near
    stats[1] += blocks
    stats[2] += rescored
    return count


_CTX, _VECTORS, _SCRATCH = array(types.int64, 1), array(types.float32, 2), array(types.uint8, 1, True)


@helper
def _search_query(
    ctx, vector, dim, s, limit, lsn, probes, beam, eps0, spread, allowed, filtered, integers, floats, scores, rows, count,
    stats,
):  # fmt: skip
    """Offer what one query finds to its top k and sort it; how many it holds, -1 if the query has no direction."""
    group_scores, near_scores = floats[:beam], floats[beam : beam + probes]
    group_slots, near_slots, keys = integers[:beam], integers[beam : beam + probes], integers[beam + probes :]
    prepared = _prepare(ctx, vector, dim, s)
    if prepared[0] == np.float32(0):
        return -1
    if ctx[_ROWS] < limit:
        count = _scan_tail(ctx, s, prepared[0], prepared[1], limit, lsn, allowed, filtered, scores, rows, count)
    groups = _near_groups(ctx, s, prepared[0], prepared[1], group_scores, group_slots)
    near = _near_pages(ctx, s, prepared, eps0, spread, groups, group_scores, group_slots, keys, near_scores, near_slots)
    return _scan_pages(
        ctx, s, prepared, eps0, near, near_scores, near_slots, min(limit, ctx[_ROWS]), lsn, allowed, filtered, scores, rows,
        count, stats,
    )  # fmt: skip


@kernel(
    types.int64(
        _CTX, _VECTORS, types.int64, types.uint64, types.int64, types.int64, types.float32, types.float32,
        array(types.uint8, 1), _SCRATCH, array(types.float32, 2, True), array(types.int64, 2, True),
        array(types.int64, 1, True), array(types.int64, 1, True),
    )
)  # fmt: skip
def _search_pages(ctx, queries, limit, lsn, probes, beam, eps0, spread, allowed, scratch, scores, rows, counts, stats):
    n, dim = queries.shape
    k = scores.shape[1]
    if (
        ctx.shape[0] != _CTX_SHAPE[0]
        or not (packed_1d(ctx, 8) and packed_1d(allowed, 1) and packed_1d(scratch, 1) and packed_2d(queries, 4))
        or not (packed_2d(scores, 4) and packed_2d(rows, 8) and packed_1d(counts, 8) and packed_1d(stats, 8))
        or not (rows.shape[0] == scores.shape[0] == counts.shape[0] == n)
        or not (rows.shape[1] == k and stats.shape[0] == 3 and 0 < dim <= ctx[_DIM])
        or not (probes > 0 and beam > 0 and scratch.shape[0] >= 16 * ctx[_DIM] + SCRATCH_FIXED)
        or (allowed.shape[0] > 0 and 8 * allowed.shape[0] < min(limit, ctx[_REACH]))
    ):
        return -2
    integers, floats = np.empty(beam + 3 * probes + 8, np.int64), np.empty(beam + probes, np.float32)
    for i in range(n):
        if not 0 <= counts[i] <= k:
            return -2
        count = _search_query(
            ctx, address(queries) + np.uintp(4 * dim * i), dim, _aligned(scratch), min(limit, ctx[_REACH]), lsn, probes,
            beam, eps0, spread, address(allowed), allowed.shape[0] > 0, integers, floats, scores[i], rows[i], counts[i], stats,
        )  # fmt: skip
        if count < 0:
            return i
        counts[i] = count
    return -1


def search_pages(
    ctx: Array, queries: Array, limit: int, lsn: int, probes: int, beam: int, eps0: float, spread: float, allowed: Array,
    scratch: Array, scores: Array, rows: Array, counts: Array, stats: Array,
) -> int:  # fmt: skip
    if not (
        ctx.dtype is _INT64
        and queries.dtype is _F32
        and allowed.dtype is _U8
        and scores.dtype is _F32
        and rows.dtype is _INT64
        and counts.dtype is _INT64
        and stats.dtype is _INT64
        and scratch.dtype is _U8
    ):
        raise TypeError("search_pages: an array of another type")
    found: int = _search_pages(
        ctx, queries, limit, lsn, probes, beam, eps0, spread, allowed, scratch, scores, rows, counts, stats
    )
    if found < -1:
        raise ValueError("search_pages: malformed arguments")
    return found


# Working memory is the kernel's own here: an argument more costs 40 ns, and `malloc` gives the same warm piece each time.


@kernel(
    types.int64(
        _CTX, array(types.float32, 1), types.int64, types.uint64, types.int64, types.int64, types.float32, types.float32,
        array(types.float32, 2, True), array(types.uint64, 2, True),
    )
)  # fmt: skip
def _search_one(ctx, query, limit, lsn, probes, beam, eps0, spread, scores, ids):
    k = scores.shape[1]
    if (
        ctx.shape[0] != _CTX_SHAPE[0]
        or not (packed_1d(ctx, 8) and packed_1d(query, 4) and packed_2d(scores, 4) and packed_2d(ids, 8))
        or not (scores.shape[0] == ids.shape[0] == 1 and ids.shape[1] == k and 0 < query.shape[0] <= ctx[_DIM])
        or not (probes > 0 and beam > 0 and k > 0)
    ):
        return -2
    lists = beam + 3 * probes + 8
    integers = np.empty(lists + 3 + k + 2 * ctx[_DIM] + SCRATCH_FIXED // 8, np.int64)
    stats, rows, scratch = integers[lists : lists + 3], integers[lists + 3 : lists + 3 + k], integers[lists + 3 + k :]
    count = _search_query(
        ctx, address(query), query.shape[0], _aligned(scratch), min(limit, ctx[_REACH]), lsn, probes, beam, eps0, spread,
        np.uintp(0), False, integers[:lists], np.empty(beam + probes, np.float32), scores[0], rows, 0, stats,
    )  # fmt: skip
    for j in range(count):
        ids[0, j] = load_u64(_record_at(ctx, rows[j]))
    for j in range(max(0, count), k):
        scores[0, j], ids[0, j] = np.float32(-np.inf), np.uint64(0)
    return count


def search_one(
    ctx: Array, query: Array, limit: int, lsn: int, probes: int, beam: int, eps0: float, spread: float, k: int
) -> tuple[int, Array, Array]:
    if not (ctx.dtype is _INT64 and query.dtype is _F32):
        raise TypeError("search_one: an array of another type")
    shape = (1, k)
    scores, ids = np.empty(shape, _F32), np.empty(shape, _U64)
    found: int = _search_one(ctx, query, limit, lsn, probes, beam, eps0, spread, scores, ids)
    if found < -1:
        raise ValueError("search_one: malformed arguments")
    return found, scores, ids


@helper
def _take_listed(ctx, s, listed, scales, m, q_scale, correction, lsn, scores, rows, count):
    """Offer the m rows whose numbers lie at `listed`; -2 if there is no such row.

    scales : address of theirs, float32[m]; 0 = they are read from the records.
    """
    pending = s + np.uintp(_PENDING * ctx[_DIM])
    waiting = 0
    for j in range(m):
        row = load_i64(listed + np.uintp(8 * j))
        if not 0 <= row < ctx[_REACH]:
            return -2
        if scales != np.uintp(0):
            scale = load_f32(scales + np.uintp(4 * j))
        elif ctx[_ROW_INT8] != 0:
            if j + _RECORDS_AHEAD < m:
                later = load_i64(listed + np.uintp(8 * (j + _RECORDS_AHEAD)))
                if 0 <= later < ctx[_REACH]:
                    prefetch(_record_at(ctx, later))
            scale = load_f32(_record_at(ctx, row) + np.uintp(RECORD_SCALE))
        else:
            scale = _ONE  # a float32 row is scored without
        _push_row(ctx, pending, waiting, row, scale)
        waiting += 1
        if waiting == 16:
            count = _take_rows(ctx, s, 8, q_scale, correction, lsn, scores, rows, count)
            waiting = _shift(pending, waiting)
    return _finish_rows(ctx, s, waiting, q_scale, correction, lsn, scores, rows, count)


@kernel(
    types.int64(
        _CTX, array(types.float32, 1), array(types.int64, 1), types.uint64, array(types.float32, 1, True),
        array(types.int64, 1, True), types.int64, types.boolean,
    )
)  # fmt: skip
def _search_rows(ctx, query, listed, lsn, scores, rows, count, ids):
    dim, k = query.shape[0], scores.shape[0]
    if (
        ctx.shape[0] != _CTX_SHAPE[0]
        or not (packed_1d(ctx, 8) and packed_1d(query, 4) and packed_1d(listed, 8))
        or not (packed_1d(scores, 4) and packed_1d(rows, 8))
        or not (rows.shape[0] == k and 0 <= count <= k and 0 < dim <= ctx[_DIM])
    ):
        return -2
    scratch = np.empty(16 * ctx[_DIM] + SCRATCH_FIXED, np.uint8)
    s = _aligned(scratch)
    q_scale, correction = _prepare_scores(address(query), dim, ctx[_DIM], s)
    if q_scale == np.float32(0):
        return -1
    if k > 0:
        count = _take_listed(
            ctx, s, address(listed), np.uintp(0), listed.shape[0], q_scale, correction, lsn, scores, rows, count
        )
    if ids:
        _sort(scores, rows, count)
        for j in range(count):
            rows[j] = load_i64(_record_at(ctx, rows[j]))
    return count if scratch.shape[0] > 0 else -2  # always: `scratch` has to live until here


def search_rows(
    ctx: Array, query: Array, listed: Array, lsn: int, scores: Array, rows: Array, count: int, ids: bool = False
) -> int:
    if not (
        ctx.dtype is _INT64
        and query.dtype is _F32
        and listed.dtype is _INT64
        and scores.dtype is _F32
        and rows.dtype is _INT64
    ):
        raise TypeError("search_rows: an array of another type")
    found: int = _search_rows(ctx, query, listed, lsn, scores, rows, count, ids)
    if found < -1:
        raise ValueError("search_rows: malformed arguments")
    return found


@kernel(
    types.int64(
        _CTX, array(types.int64, 2), array(types.int64, 1), array(types.float32, 2, True), array(types.uint64, 2, True)
    ),
    nogil=False,
)
def _name_rows(ctx, rows, counts, scores, ids):
    n, k = scores.shape
    if (
        ctx.shape[0] != _CTX_SHAPE[0]
        or not (packed_1d(ctx, 8) and packed_1d(counts, 8) and packed_2d(scores, 4) and packed_2d(ids, 8))
        or not (rows.shape[0] == counts.shape[0] == ids.shape[0] == n and ids.shape[1] == k)
    ):
        return -2
    for i in range(n):
        if not 0 <= counts[i] <= min(k, rows.shape[1]):
            return -2
        for j in range(counts[i]):
            if not 0 <= rows[i, j] < ctx[_REACH]:
                return -2
            ids[i, j] = load_u64(_record_at(ctx, rows[i, j]))
        for j in range(counts[i], k):
            scores[i, j], ids[i, j] = np.float32(-np.inf), np.uint64(0)
    return 0


def name_rows(ctx: Array, rows: Array, counts: Array, scores: Array, ids: Array) -> None:
    if not (
        ctx.dtype is _INT64
        and rows.dtype is _INT64
        and counts.dtype is _INT64
        and scores.dtype is _F32
        and ids.dtype is _U64
    ):
        raise TypeError("name_rows: an array of another type")
    if _name_rows(ctx, rows, counts, scores, ids) < 0:
        raise ValueError("name_rows: malformed arguments")


@kernel(
    types.int64(
        _CTX, _VECTORS, types.int64, types.float32, _SCRATCH, array(types.float32, 2, True), array(types.int64, 2, True),
        array(types.int64, 1, True),
    )
)  # fmt: skip
def _nearest_pages(ctx, queries, beam, eps0, scratch, scores, slots, counts):
    n, dim = queries.shape
    s = _aligned(scratch)
    group_scores, group_slots = np.empty(beam, np.float32), np.empty(beam, np.int64)
    keys = np.empty(2 * scores.shape[1] + 8, np.int64)
    for i in range(n):
        prepared = _prepare(ctx, address(queries) + np.uintp(4 * dim * i), dim, s)
        if prepared[0] == np.float32(0):
            return i
        groups = _near_groups(ctx, s, prepared[0], prepared[1], group_scores, group_slots)
        counts[i] = _near_pages(
            ctx, s, prepared, eps0, _UNBOUNDED, groups, group_scores, group_slots, keys, scores[i], slots[i]
        )
    return -1


def nearest_pages(
    ctx: Array, queries: Array, beam: int, eps0: float, scratch: Array, scores: Array, slots: Array, counts: Array
) -> int:
    for value, dtype, ndim in ((ctx, np.int64, 1), (queries, np.float32, 2)):
        _require(value, dtype, ndim)
    for value, dtype, ndim in ((scores, np.float32, 2), (slots, np.int64, 2), (counts, np.int64, 1)):
        _require(value, dtype, ndim, writable=True)
    _same(scores.shape, slots.shape)
    _same((len(scores), len(counts)), (len(queries), len(queries)))
    _scratch(scratch, int(ctx[_DIM]))
    found: int = _nearest_pages(ctx, queries, beam, eps0, scratch, scores, slots, counts)
    return found


# --- guards --------------------------------------------------------------------------------------------------------


def _require(value: Array, dtype: object, ndim: int, *, writable: bool = False) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != ndim:
        raise TypeError(f"expected a {ndim}-dimensional array of {np.dtype(dtype)}")  # type: ignore[call-overload]
    if not value.flags.c_contiguous or (writable and not value.flags.writeable):
        raise ValueError("expected a C-contiguous array" + (", writable" if writable else ""))


def _same(found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"arguments do not fit each other: expected {expected}, found {found}")


def _scratch(scratch: Array, dim: int, queries: int = 1) -> None:
    _require(scratch, np.uint8, 1, writable=True)
    if scratch.shape[0] < queries * scratch_bytes(dim):
        raise ValueError(f"scratch: expected {queries * scratch_bytes(dim)} bytes, found {scratch.shape[0]}")
