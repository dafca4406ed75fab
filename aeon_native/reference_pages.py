"""The NumPy twins of the kernels on pages: the specification of `sketch` and `cluster`, and the oracle of their tests.

Layouts stand in `page_layout`. Addresses in a context are read as they are: whoever passes them answers for them.
Rotation, sketch bits and tables are the same bits as the compiled kernels'; the factors f and e agree within 1e-5.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ._check import Array
from .page_layout import FIELD, LANES, NO_ROW, RECORD_BYTES, RECORD_SCALE, ROTATIONS, block_bytes, block_dtype

__all__ = [
    "clear_lanes",
    "closer_rows",
    "copy_lanes",
    "dot_table",
    "encode_lanes",
    "insert_rows",
    "name_rows",
    "nearest_pages",
    "rotate_rows",
    "search_one",
    "search_pages",
    "search_rows",
    "split_rows",
]

_LOWEST = np.float32(-3.4e38)
_EPS_ASSIGN, _BEAM_ASSIGN = 2.5, 8
_ROUNDS, _GAP = 6, np.float32(1e-6)
LUT_DIMS, LUT_MAX, LUT_MAX_LONG = 4096, 63, 31


def _at(address: int, dtype: Any, *shape: int) -> Array:
    """The array at an address, borrowed."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not size:
        return np.empty(shape, dtype)
    raw = (ctypes.c_uint8 * size).from_address(int(address) & (1 << 64) - 1)
    return np.frombuffer(raw, dtype).reshape(shape)


def rotate_rows(vectors: Array, signs: Array) -> None:
    """Rotate rows in place: four rounds of sign flips and an orthonormal Hadamard transform.

    vectors : float32[n, dim], C, changed; dim a multiple of 64
    signs   : float32[4, dim], C, read-only; +1 or -1

    The transform covers the first 2^floor(log2 dim) dims in even rounds, the last in odd ones. Exact: same bits.
    """
    dim = vectors.shape[1]
    n = 1 << dim.bit_length() - 1
    factor = np.float32(1.0 / np.sqrt(float(n)))
    for turn in range(ROTATIONS):
        vectors *= signs[turn]
        part = vectors[:, :n] if turn % 2 == 0 else vectors[:, dim - n :]
        h = 1
        while h < n:
            pairs = part.reshape(len(part), n // (2 * h), 2, h) if part.flags.c_contiguous else None
            if pairs is None:
                copy = np.ascontiguousarray(part).reshape(len(part), n // (2 * h), 2, h)
                part[...] = np.stack([copy[:, :, 0] + copy[:, :, 1], copy[:, :, 0] - copy[:, :, 1]], 2).reshape(
                    part.shape
                )
            else:
                part[...] = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2).reshape(
                    part.shape
                )
            h *= 2
        part *= factor


class Prepared:
    """A query as rows are scored with it; `scale` is 0 if it has no direction."""

    def __init__(self, ctx: Array, vector: Array) -> None:
        from . import reference

        self.dim = int(ctx[FIELD["dim"]])
        self.codes, self.unit = np.zeros(self.dim, np.int16), np.zeros((1, self.dim), np.float32)
        self.scale = reference.prepare_query(vector, self.codes)
        if self.scale:
            reference.normalize(vector[None], self.unit)


class _Query(Prepared):
    """A query ready for estimates and for exact scores."""

    def __init__(self, ctx: Array, vector: Array) -> None:
        super().__init__(ctx, vector)
        if not self.scale:
            return
        rotated = self.unit.copy()
        rotate_rows(rotated, _at(ctx[FIELD["signs"]], np.float32, ROTATIONS, self.dim))
        groups = rotated.reshape(-1, 4)
        magnitudes = np.abs(groups)
        widest = ((magnitudes[:, 0] + magnitudes[:, 1]) + (magnitudes[:, 2] + magnitudes[:, 3])).max()
        limit = np.float32(LUT_MAX if self.dim <= LUT_DIMS else LUT_MAX_LONG)
        values = groups * (limit / widest)
        least = np.zeros(len(groups), np.float32)
        for j in range(4):
            least += np.minimum(values[:, j], np.float32(0))
        sums = [np.float32(0.5) - least]
        for c in range(1, 16):
            bit = c.bit_length() - 1
            sums.append(sums[c - (1 << bit)] + values[:, bit])
        self.lut = np.stack(sums, axis=1).astype(np.uint8)
        self.a, self.minus = np.float32(2) * (widest / limit), np.float32(magnitudes.sum())

    def surviving(self, page: Array, base: np.float32, threshold: np.float32, eps0: float) -> Array:
        """Mask of the lanes of a page whose estimate may reach the threshold."""
        halves = page["codes"].reshape(len(page), -1, 16)
        nibbles = np.concatenate([halves & 15, halves >> 4], axis=2)  # [block, group, lane]
        sums = self.lut[np.arange(len(self.lut))[None, :, None], nibbles].sum(axis=1, dtype=np.int64)
        with np.errstate(invalid="ignore"):  # an empty lane's -inf, times 0: NaN is as far below
            margin = page["errors"] * np.float32(eps0)
        bound = page["factors"] * (sums.astype(np.float32) * self.a - self.minus) + margin
        return (bound >= (threshold - base if threshold > _LOWEST else _LOWEST)).reshape(-1)

    def centroid_scores(self, codes: Array, scales: Array) -> Array:
        from . import reference

        return reference._scores_int8(codes, scales, self.codes, self.scale)


def _page(ctx: Array, level: str, slot: int) -> Array:
    pages = _at(ctx[FIELD[f"{level}_pages"]], np.uint64, slot + 1)
    blocks = _at(ctx[FIELD[f"{level}_blocks"]], np.uint32, slot + 1)
    return _at(int(pages[slot]), block_dtype(int(ctx[FIELD["dim"]])), int(blocks[slot]))


def _level(ctx: Array, level: str) -> tuple[Array, Array, Array, Array]:
    """(codes, scales, lengths, pages) of all slots."""
    count, dim = int(ctx[FIELD[f"{level}_count"]]), int(ctx[FIELD["dim"]])
    return (
        _at(ctx[FIELD[f"{level}_codes"]], np.int8, count, dim),
        _at(ctx[FIELD[f"{level}_scales"]], np.float32, count),
        _at(ctx[FIELD[f"{level}_lengths"]], np.float32, count),
        _at(ctx[FIELD[f"{level}_pages"]], np.uint64, count),
    )


def _best(scores: Array, numbers: Array, count: int) -> tuple[Array, Array]:
    order = np.lexsort((numbers, -scores))[:count]
    return scores[order], numbers[order]


def _near(ctx: Array, query: _Query, beam: int, count: int, eps0: float, spread: float = np.inf) -> tuple[Array, Array]:
    """(scores, slots) of the nearest centroids of the nearest groups, best first."""
    codes, scales, lengths, pages = _level(ctx, "top")
    groups = np.flatnonzero(pages)
    group_scores, groups = _best(query.centroid_scores(codes[groups], scales[groups]), groups, beam)
    slot_codes, slot_scales, _, _ = _level(ctx, "slot")
    best, slots = np.empty(0, np.float32), np.empty(0, np.int64)
    for score, group in zip(group_scores, groups, strict=True):
        page = _page(ctx, "top", int(group))
        threshold = best[-1] if len(best) == count else _LOWEST
        chosen = (
            page["rows"].reshape(-1)[query.surviving(page, lengths[group] * score, threshold, eps0)].astype(np.int64)
        )
        found = query.centroid_scores(slot_codes[chosen], slot_scales[chosen])
        best, slots = _best(np.concatenate([best, found]), np.concatenate([slots, chosen]), count)
    near = best >= best[:1] - np.float32(spread)
    return best[near], slots[near]


def _chunked(ctx: Array, rows: Array, base: str, chunks: str, width: int, dtype: Any) -> Array:
    """Records of `rows`, from the base or from chunks."""
    count, shift = int(ctx[FIELD["base_count"]]), int(ctx[FIELD["chunk_shift"]])
    out = np.empty((len(rows), width), dtype)
    inside = rows < count
    if inside.any():
        out[inside] = _at(ctx[FIELD[base]], dtype, count, width)[rows[inside]]
    ahead = rows - count
    for chunk in np.unique(ahead[~inside] >> shift).tolist():
        here = ~inside & (ahead >> shift == chunk)
        where = int(_at(ctx[FIELD[chunks]], np.uint64, chunk + 1)[chunk])
        out[here] = _at(where, dtype, 1 << shift, width)[ahead[here] & (1 << shift) - 1]
    return out


def _row_scores(ctx: Array, query: Prepared, rows: Array, scales: Array) -> Array:
    from . import reference

    size = int(ctx[FIELD["row_bytes"]])
    codes = _chunked(ctx, rows, "row_base", "row_chunks", size, np.int8)
    if ctx[FIELD["row_int8"]]:
        return reference._scores_int8(codes, scales, query.codes, query.scale)
    return reference._dots_f32(codes.view(np.float32), query.unit[0, : size // 4])


def search_pages(
    ctx: Array, queries: Array, limit: int, lsn: int, probes: int, beam: int, eps0: float, spread: float, allowed: Array,
    scratch: Array, scores: Array, rows: Array, counts: Array, stats: Array,
) -> int:  # fmt: skip
    """Offer the rows of the nearest pages, and those that are in none yet, to the top k of each query, and sort it.

    ctx     : int64[...], C, read-only; `page_layout.FIELDS`
    queries : float32[n, d], C, read-only; d <= dim
    limit   : rows from it on are not seen, nor those beyond ctx's reach; lsn: a row counts if it died after it, or not
    probes, beam : how many pages to scan, out of how many groups
    eps0    : a row is scored if estimate + eps0 * error reaches the k-th score
    spread  : of those, only pages whose centroid's score is less than the nearest one's by no more; inf = all of them
    allowed : uint8[ceil(limit / 8)], C, read-only, bit i % 8 of byte i // 8 is row i; or length 0: all are allowed
    scratch : uint8[scratch_bytes(dim)], C, working memory of this call
    scores, rows, counts : float32[n, k], int64[n, k], int64[n], C, state: what `scan_int8` left, or counts of 0;
              then best first, and not to be offered more
    stats   : int64[3], C; pages, blocks and rows scored are added

    Returns -1, or the index of a query that has no direction. Scores are those of `scan_int8` or `scan_f32`.
    """
    from . import reference

    limit, in_pages = min(limit, int(ctx[FIELD["reach"]])), int(ctx[FIELD["rows"]])
    tail = np.arange(in_pages, limit)
    if allowed.shape[0]:
        tail = tail[allowed[tail >> 3] >> (tail & 7) & 1 != 0]
    for n in range(len(queries)):
        query = _Query(ctx, queries[n])
        if not query.scale:
            return n
        lengths = _level(ctx, "slot")[2]
        count = int(counts[n])
        count = offer_rows(ctx, query, tail, lsn, scores[n], rows[n], count)
        for base, slot in zip(*_near(ctx, query, beam, probes, eps0, spread), strict=True):
            page = _page(ctx, "slot", int(slot))
            threshold = scores[n, :count].min() if count == scores.shape[1] else _LOWEST
            mask = query.surviving(page, lengths[slot] * base, threshold, eps0)
            numbers = page["rows"].reshape(-1).astype(np.int64)
            mask &= numbers < min(limit, in_pages)
            if allowed.shape[0]:
                mask[mask] = allowed[numbers[mask] >> 3] >> (numbers[mask] & 7) & 1
            chosen = numbers[mask]
            count = _offer_living(ctx, query, chosen, page["scales"].reshape(-1)[mask], lsn, scores[n], rows[n], count)
            stats[:3] += (1, len(page), len(chosen))
        reference.finish_topk(scores[n], rows[n], count)
        counts[n] = count
    return -1


def search_one(
    ctx: Array, query: Array, limit: int, lsn: int, probes: int, beam: int, eps0: float, spread: float, k: int
) -> tuple[int, Array, Array]:
    """`search_pages` for one query among all rows, with ids in the place of row numbers.

    ctx, limit, lsn, probes, beam, eps0, spread : as there
    query : float32[d], C, read-only; d <= dim. k : at least 1

    Returns (how many were found, scores float32[1, k], ids uint64[1, k]): best first, then score -inf and id 0; -1 if the
    query has no direction, and then the arrays mean nothing.
    """
    scores, ids = np.empty((1, k), np.float32), np.empty((1, k), np.uint64)
    rows, counts = np.empty((1, k), np.int64), np.zeros(1, np.int64)
    none, stats = np.empty(0, np.uint8), np.zeros(3, np.int64)
    bad = search_pages(
        ctx, query[None], limit, lsn, probes, beam, eps0, spread, none, none, scores, rows, counts, stats
    )
    if bad >= 0:
        return -1, scores, ids
    count = int(counts[0])
    ids[0, :count] = _records(ctx, rows[0, :count])[:, :8].copy().view(np.uint64)[:, 0]
    scores[0, count:], ids[0, count:] = -np.inf, 0
    return count, scores, ids


def search_rows(
    ctx: Array, query: Array, listed: Array, lsn: int, scores: Array, rows: Array, count: int, ids: bool = False
) -> int:
    """Offer the listed rows to the top k of a query.

    ctx    : int64[...], C, read-only; `page_layout.FIELDS`, of which only where rows lie is read
    query  : float32[d], C, read-only; d <= ctx's dim
    listed : int64[m], C, read-only; each below ctx's reach, ValueError otherwise; one listed twice is offered twice
    lsn    : a row counts if it died after it, or not
    scores, rows : float32[k], int64[k], C, state
    ids    : sort the results, best first, and put ids in the place of row numbers; no state any more

    Returns the new count, -1 if the query has no direction. Scores are those of `scan_int8` or `scan_f32`.
    """
    from . import reference

    prepared = Prepared(ctx, query)
    if not prepared.scale:
        return -1
    if len(listed) and not 0 <= listed.min() <= listed.max() < ctx[FIELD["reach"]]:
        raise ValueError("search_rows: malformed arguments")
    count = offer_rows(ctx, prepared, listed, lsn, scores, rows, count)
    if ids:
        reference.finish_topk(scores, rows, count)
        put_ids(ctx, rows, count)
    return count


def name_rows(ctx: Array, rows: Array, counts: Array, scores: Array, ids: Array) -> None:
    """Put ids beside the rows of searches, and score -inf and id 0 behind what each has found.

    ctx    : int64[...], C, read-only; `page_layout.FIELDS`, of which only where rows lie is read
    rows   : int64[n, m], read-only; each below ctx's reach, ValueError otherwise
    counts : int64[n], C, read-only; how many of each are results
    scores, ids : float32[n, k], uint64[n, k], C, written; the first count scores stay
    """
    reach, width = int(ctx[FIELD["reach"]]), min(scores.shape[1], rows.shape[1])
    for n, count in enumerate(counts.tolist()):
        if not 0 <= count <= width or not all(0 <= row < reach for row in rows[n, :count].tolist()):
            raise ValueError("name_rows: malformed arguments")
        ids[n, :count] = _records(ctx, rows[n, :count])[:, :8].copy().view(np.uint64)[:, 0]
        scores[n, count:], ids[n, count:] = -np.inf, 0


def _records(ctx: Array, rows: Array) -> Array:
    return _chunked(ctx, rows, "record_base", "record_chunks", RECORD_BYTES, np.uint8)


def offer_rows(ctx: Array, query: Prepared, chosen: Array, lsn: int, scores: Array, rows: Array, count: int) -> int:
    """Offer the living among `chosen` to a top k."""
    scales = _records(ctx, chosen)[:, RECORD_SCALE:].copy().view(np.float32)[:, 0]
    return _offer_living(ctx, query, chosen, scales, lsn, scores, rows, count)


def put_ids(ctx: Array, rows: Array, count: int) -> None:
    """Put ids in the place of the first `count` row numbers."""
    rows[:count] = _records(ctx, rows[:count])[:, :8].copy().view(np.int64)[:, 0]


def _offer_living(
    ctx: Array, query: Prepared, chosen: Array, scales: Array, lsn: int, scores: Array, rows: Array, count: int
) -> int:
    from . import reference

    found = _row_scores(ctx, query, chosen, scales)
    died = _chunked(ctx, chosen, "death_base", "death_chunks", 1, np.uint64)[:, 0]
    live = reference._live(died, lsn)
    return reference._offer(found[live], chosen[live], scores, rows, count)


def nearest_pages(
    ctx: Array, queries: Array, beam: int, eps0: float, scratch: Array, scores: Array, slots: Array, counts: Array
) -> int:
    """The pages whose centroids are nearest to each query, best first.

    ctx, queries, beam, eps0, scratch : as in `search_pages`
    scores, slots : float32[n, m], int64[n, m], C, written
    counts        : int64[n], C, written; how many were found

    Returns -1, or the index of a query that has no direction.
    """
    for n in range(len(queries)):
        query = _Query(ctx, queries[n])
        if not query.scale:
            return n
        best, found = _near(ctx, query, beam, scores.shape[1], eps0)
        counts[n] = len(found)
        scores[n, : len(found)], slots[n, : len(found)] = best, found
    return -1


def encode_lanes(
    vectors: Array, scales: Array, rows: Array, centroid: Array, factor: float, signs: Array, page: int, start: int,
    scratch: Array,
) -> None:  # fmt: skip
    """Write sketches of vectors relative to factor * centroid into the lanes of a page from `start` on.

    vectors  : float32[n, dim], C, read-only
    scales   : float32[n], C, read-only; rows: uint32[n], C, read-only: what the lanes are to say
    centroid : int8[dim], C, read-only
    signs    : float32[4, dim], C, read-only
    page     : address of a page with room
    scratch  : as in `search_pages`
    """
    residuals = vectors - np.float32(factor) * centroid.astype(np.float32)
    rotate_rows(residuals, signs)
    n, dim = vectors.shape
    total = np.square(residuals, dtype=np.float64).sum(1)
    magnitude = np.abs(residuals).sum(1, dtype=np.float64)
    usable = (magnitude > 0) & (total > 0)
    safe = np.where(usable, magnitude, 1)
    x0 = np.where(usable, safe / np.sqrt(np.where(usable, total, 1) * dim), 1)
    f = np.where(usable, total / safe, 0)
    e = np.where(usable, np.sqrt(total) * np.sqrt(np.maximum(0, 1 - x0 * x0)) / (x0 * np.sqrt(dim - 1)), 0)
    nibbles = np.packbits((residuals > 0).reshape(n, dim // 4, 4), axis=2, bitorder="little")[:, :, 0]
    blocks = _at(page, block_dtype(dim), (start + n + LANES - 1) // LANES)
    for i in range(n):
        block, lane = divmod(start + i, LANES)
        column = blocks[block]["codes"].reshape(-1, 16)[:, lane % 16]
        shift = 4 if lane >= 16 else 0
        column[:] = column & (15 if shift else 240) | nibbles[i] << shift
        for name, value in (("factors", f[i]), ("scales", scales[i]), ("rows", rows[i]), ("errors", e[i])):
            blocks[block][name][lane] = value


def copy_lanes(source: int, lanes: Array, target: int, start: int, dim: int) -> None:
    """Copy lanes of one page to the lanes of another from `start` on.

    source, target : addresses of pages
    lanes : int64[n], C, read-only
    """
    if not len(lanes):
        return
    x = _at(source, block_dtype(dim), int(lanes.max()) // LANES + 1)
    y = _at(target, block_dtype(dim), (start + len(lanes) + LANES - 1) // LANES)
    for to, lane in enumerate(lanes.tolist(), start):
        u, v = x[lane // LANES], y[to // LANES]
        i, j = lane % LANES, to % LANES
        nibbles = u["codes"].reshape(-1, 16)[:, i % 16] >> (4 if i >= 16 else 0) & 15
        column = v["codes"].reshape(-1, 16)[:, j % 16]
        column[:] = column & (15 if j >= 16 else 240) | nibbles << (4 if j >= 16 else 0)
        for name in ("factors", "scales", "rows", "errors"):
            v[name][j] = u[name][i]


def clear_lanes(page: int, start: int, stop: int, dim: int) -> None:
    """Make lanes of a page empty: no search sees them; their codes stay what they are."""
    assert block_dtype(dim).itemsize == block_bytes(dim)
    blocks = _at(page, block_dtype(dim), (stop + LANES - 1) // LANES)
    for name, value in (("errors", -np.inf), ("rows", NO_ROW), ("factors", 0), ("scales", 0)):
        for block in range(start // LANES, len(blocks)):
            blocks[block][name][max(0, start - block * LANES) : stop - block * LANES] = value


def insert_rows(
    ctx: Array, vectors: Array, scales: Array, first_row: int, counts: Array, capacities: Array, scratch: Array,
    out: Array,
) -> int:  # fmt: skip
    """Append the sketches of rows to the pages nearest to them, until a page is full.

    vectors    : float32[n, dim], C, read-only; the rows from `first_row` on. scales: float32[n], C, read-only
    counts     : uint32[slots], C, raised. capacities: uint32[slots], C, read-only
    out        : int64[1], C; the full page, -1 if no page was found

    Returns how many were inserted.
    """
    codes, centroid_scales, lengths, _ = _level(ctx, "slot")
    for i in range(len(vectors)):
        query = _Query(ctx, vectors[i])
        slots = _near(ctx, query, _BEAM_ASSIGN, 1, _EPS_ASSIGN)[1] if query.scale else np.empty(0, np.int64)
        slot = int(slots[0]) if len(slots) else -1
        if slot < 0 or counts[slot] >= capacities[slot]:
            out[0] = slot
            return i
        encode_lanes(
            vectors[i : i + 1], scales[i : i + 1], np.array([first_row + i], np.uint32), codes[slot],
            float(lengths[slot] * centroid_scales[slot]),
            _at(ctx[FIELD["signs"]], np.float32, ROTATIONS, query.dim),
            int(_at(ctx[FIELD["slot_pages"]], np.uint64, slot + 1)[slot]), int(counts[slot]), scratch,
        )  # fmt: skip
        counts[slot] += 1
    return len(vectors)


def closer_rows(
    ctx: Array, slots: Array, counts: Array, candidates: Array, margin: float, scratch: Array, out: Array
) -> int:
    """Find rows of pages that are nearer to one of two other centroids than to their own, by more than `margin`.

    slots      : int64[n], counts: uint32[n], C, read-only; pages, and how many rows each has
    candidates : float32[2, dim], C, read-only; unit vectors
    scratch    : uint8[3 * scratch_bytes(dim)], C, working memory of this call
    out        : int64[m, 3], C, written: slot, lane, which candidate; stops when full

    Returns how many were found.
    """
    codes, scales, _, _ = _level(ctx, "slot")
    first, second = _Query(ctx, candidates[0]), _Query(ctx, candidates[1])
    found = 0
    for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
        pages = _at(ctx[FIELD["slot_pages"]], np.uint64, slot + 1)
        page = _at(int(pages[slot]), block_dtype(first.dim), -(-count // LANES))
        rows, row_scales = page["rows"].reshape(-1)[:count].astype(np.int64), page["scales"].reshape(-1)[:count]
        own = _Query.__new__(_Query)
        own.codes, own.scale = codes[slot].astype(np.int16), float(scales[slot])
        own.unit = codes[slot][None].astype(np.float32) * scales[slot]
        x, y, z = (_row_scores(ctx, query, rows, row_scales) for query in (first, second, own))
        for lane in np.flatnonzero(np.maximum(x, y) > z + np.float32(margin)).tolist():
            if found == len(out):
                return found
            out[found] = slot, lane, 0 if x[lane] >= y[lane] else 1
            found += 1
    return found


def _means(vectors: Array, side: Array, centroids: Array) -> bool:
    for half in (0, 1):
        total = np.zeros(vectors.shape[1], np.float32)
        for vector in vectors[side == half]:
            total += vector
        norm = np.sqrt(np.square(total, dtype=np.float64).sum())
        if not norm > 0:
            return False
        centroids[half] = total / norm
    return True


def split_rows(vectors: Array, centroids: Array, projections: Array, side: Array) -> int:
    """Part vectors in two by spherical 2-means, a quarter at least on each side where they can be told apart.

    vectors     : float32[n, dim], C, read-only; dim a multiple of 64
    centroids   : float32[3, dim], C; the first two are written: normalised sums
    projections : float32[n], side: uint8[n], C, written

    Returns how many are on side 1, or 0 if all are equal. Rows whose projections differ by less than 1e-6 stay together.
    """
    from . import reference

    n = len(vectors)
    if n < 2:
        return 0
    axis = np.zeros(vectors.shape[1], np.float32)
    for vector in vectors:
        axis += vector
    one = vectors[reference._dots_f32(vectors, axis).argmin()]
    other = vectors[reference._dots_f32(vectors, one).argmin()]
    axis = other - one
    for _ in range(_ROUNDS):
        side[:] = reference._dots_f32(vectors, axis) > 0
        if side.all() or not side.any() or not _means(vectors, side, centroids):
            break
        axis = centroids[1] - centroids[0]
    projections[:] = reference._dots_f32(vectors, axis)
    ordered = np.sort(projections)
    natural = int(np.searchsorted(ordered, 0, side="right"))
    quarter = max(n // 4, 1)
    wanted = min(max(natural, quarter), n - quarter)
    for distance in range(n):
        for cut in (wanted - distance, wanted + distance):
            if 0 < cut < n and ordered[cut] - ordered[cut - 1] > _GAP:
                side[:] = projections >= ordered[cut]
                return int(side.sum()) if _means(vectors, side, centroids) else 0
    return 0


def dot_table(x: Array, y: Array, out: Array) -> None:
    """Dot products of all pairs, each as `dot_f32` sums it.

    x : float32[n, dim], y : float32[m, dim], C, read-only; dim a multiple of 64
    out : float32[n, m], C, written
    """
    from . import reference

    for j in range(len(y)):
        out[:, j] = reference._dots_f32(x, y[j])
