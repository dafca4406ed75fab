"""The NumPy twins of the SLB's kernels: the specification of `working_set`, and the oracle of its tests.

A working set is what an earlier query, the entry's, left behind: the rows that scored best with it, best first, and a
bound of what all others scored. From it a new query is answered by scoring those rows anew, and often with a proof.

The proof. The score of a row x is <x, q> with both as they are kept: scale * code for the row, q_scale * code for the
query (unit float32 vectors where rows are float32); only its rounding to float32 comes on top, and `slack` covers it.
Let p be the entry's query, q the new one, along = <q, p> / |p| and across = |q - along * p / |p||. A row that scored s
with p lies s / |p| along p, so with |x| <= longest its score with q is at most

    along * s / |p| + across * sqrt(longest^2 - (s / |p|)^2)

which grows with s up to s / |p| = longest * along / |q|, where it is longest * |q|. If the k-th score found is above the
bound of every row that was not scored, no such row belongs to the answer: it is that of a search of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._check import Array
from .page_layout import FIELD
from .reference_pages import Prepared, _at, offer_rows, put_ids

__all__ = ["likeness", "nearest", "rescore"]

# An entry as the kernel reads it: int64 each; the last four are the bits of a float64.
ENTRY_FIELDS = (
    "center",  # the entry's query as rows are scored with it: int16[dim] of INT8 rows, float32[dim] of float32 rows
    "candidates",  # int64[count]: rows, best first
    "old_scores",  # float32[count]: their scores with the entry's query
    "scales",  # float32[count]: their scales, as in their records
    "count",
    "rows",  # rows from it on came later, and are scored too
    "center_scale",  # the entry's query is center_scale * center
    "longest",  # no row below `rows` has a larger norm
    "outside",  # no row below `rows` that is no candidate scored more; +inf = unknown, -inf = there is none
    "slack",  # what rounding may add to a score
)
OUT = ("cosine", "proven", "scored")
BLOCK = 32  # candidates that are scored between two looks at the bound
HOPELESS_AFTER, HOPELESS = 128, 0.02  # after so many candidates the k-th score hardly rises by that much


def likeness(x: Array, y: Array) -> float:
    """Cosine of two vectors that need not be normalised; 0.0 if one is zero.

    x, y : float32[dim], C, read-only. Sums of the first floor(dim / 16) * 16 elements as `dot_f32`, then one by one.
    """
    from . import reference

    if x.dtype != np.float32 or y.dtype != np.float32:
        raise TypeError("likeness: an array of another type")
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError("likeness: two vectors of one length, C, are needed")
    whole = len(x) - len(x) % 16

    def dot(a: Array, b: Array) -> np.float32:
        total = np.float32(reference._dots_f32(a[None, :whole], b[:whole])[0])
        for j in range(whole, len(a)):
            total += a[j] * b[j]
        return total

    size = np.sqrt(np.float64(dot(x, x)) * np.float64(dot(y, y)))
    return float(np.float64(dot(x, y)) / size) if size > 0 else 0.0


def nearest(ring: Array, query: Array, count: int) -> tuple[int, float]:
    """Which of the first `count` unit rows of `ring` is nearest to a query: (its index, the cosine).

    ring  : float32[n, stride], C, read-only; stride a multiple of 16, zeros behind dim
    query : float32[dim], C, read-only; any length but zero

    (-1, 0.0) if there is none or the query has no direction; of equal ones the first. Dots as `dot_f32`.
    """
    from . import reference

    stride, dim = ring.shape[1], query.shape[0]
    if ring.dtype != np.float32 or query.dtype != np.float32:
        raise TypeError("nearest: an array of another type")
    if not 0 <= count <= len(ring) or stride % 16 or not stride - 16 < dim <= stride:
        raise ValueError("nearest: malformed arguments")
    padded = np.zeros(stride, np.float32)
    padded[:dim] = query
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(reference._dots_f32(padded[None], padded)[0])
        dots = reference._dots_f32(ring[:count], padded)
    if not total > 0 or not count or not (dots > -np.inf).any():
        return -1, 0.0
    best = int(np.argmax(np.where(np.isnan(dots), -np.inf, dots)))
    return best, float(np.float64(dots[best]) / np.sqrt(total))


def rescore(
    ctx: Array, entry: Array, query: Array, limit: int, lsn: int, tau: float, depth: int, prove: bool, scratch: Array,
    scores: Array, rows: Array, out: Array, ids: bool = False,
) -> int:  # fmt: skip
    """Answer a query from a working set and from the rows that came since.

    ctx    : int64[...], C, read-only; `page_layout.FIELDS`, of which only where rows lie is read
    entry  : int64[10], C, read-only; `ENTRY_FIELDS`
    query  : float32[d], C, read-only; d <= ctx's dim
    limit  : rows from it on are not seen; lsn: a row counts if it died after it, or not
    tau    : answer nothing if the cosine of both queries is below
    depth  : how many candidates are scored at most; fewer if none of those left can belong to the answer
    prove  : give up early where a proof will hardly succeed
    scratch: uint8[scratch_bytes(dim)], C, working memory of this call
    scores, rows : float32[k], int64[k], C, written, best first
    out    : float64[3], C, written: cosine of both queries, 1.0 if the answer is proven to be that of all rows, and how
             many candidates were scored
    ids    : put ids in the place of row numbers

    Returns how many results there are, or -1 if the query has no direction. Scores are those of `scan_int8` or `scan_f32`.
    """
    from . import reference

    query_ = Prepared(ctx, query)
    if not query_.scale:
        return -1
    fields = dict(zip(ENTRY_FIELDS, entry.tolist(), strict=True))
    floats = dict(zip(ENTRY_FIELDS, entry.view(np.float64).tolist(), strict=True))
    width, int8, m = int(ctx[FIELD["dim"]]), bool(ctx[FIELD["row_int8"]]), fields["count"]
    center = _at(fields["center"], np.int16 if int8 else np.float32, width)
    candidates, old = _at(fields["candidates"], np.int64, m), _at(fields["old_scores"], np.float32, m)
    mine = query_.codes if int8 else query_.unit[0]
    scale = query_.scale if int8 else 1.0
    xy, xx, yy = (_sum(a, b, int8) for a, b in ((center, mine), (center, center), (mine, mine)))
    center_norm, query_norm = np.sqrt(xx) * floats["center_scale"], np.sqrt(yy) * scale
    along = xy / np.sqrt(xx) * scale
    across = np.sqrt(max(0.0, yy - xy * xy / xx)) * scale

    out[:] = along / query_norm, 0, 0
    if out[0] < tau:
        return 0

    def bound(score: float) -> float:
        if score == -np.inf:
            return -np.inf
        sigma, longest = score / center_norm, floats["longest"]
        if along <= 0 or sigma * query_norm >= along * longest:
            return longest * query_norm + floats["slack"]
        return along * sigma + across * np.sqrt(max(longest * longest - sigma * sigma, 0.0)) + floats["slack"]

    k, at, proven = len(scores), 0, False
    later = np.arange(fields["rows"], min(limit, int(ctx[FIELD["reach"]])))
    count = offer_rows(ctx, query_, later, lsn, scores, rows, 0)
    beyond = bound(floats["outside"])
    stop = min(m, depth)
    while at < stop:
        end = min(stop, at + BLOCK)
        count = offer_rows(ctx, query_, candidates[at:end], lsn, scores, rows, count)
        at = end
        if count == k:
            worst = float(scores.min())
            if at < m and worst > bound(float(old[at])):
                proven = worst > beyond
                break
            if prove and at >= HOPELESS_AFTER and worst + HOPELESS < beyond:
                break
    if at == m:
        proven = floats["outside"] == -np.inf or (count == k and float(scores.min()) > beyond)
    reference.finish_topk(scores, rows, count)
    if ids:
        put_ids(ctx, rows, count)
    out[:] = along / query_norm, proven, at
    return count


def _sum(x: Array, y: Array, exact: bool) -> Any:
    if exact:
        return float(x.astype(np.int64) @ y.astype(np.int64))
    return np.cumsum(x.astype(np.float64) * y.astype(np.float64))[-1]  # in order, as the kernel adds
