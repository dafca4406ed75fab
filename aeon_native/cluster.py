"""Compiled kernels that part the rows of a page. Contracts stand in `reference_pages`."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any, disable-error-code="call-arg,var-annotated"
# Numba types the functions it compiles.
from __future__ import annotations

import numpy as np
from numba import types

from ._check import Array
from ._jit import array, helper, kernel
from ._simd import address, divide_row, dot_f32_one, measure_row
from ._simd_sketch import add_16, store_f32, subtract_16
from .sketch import _require, _same

_ROUNDS = 6  # of 2-means; it has settled on nearly all pages
_GAP = np.float32(1e-6)  # projections closer than this are those of equal rows


@helper
def _zero(x, width):
    for j in range(width):
        store_f32(x + np.uintp(4 * j), np.float32(0))


@helper
def _add(x, out, width):
    for j in range(0, width, 16):
        add_16(x + np.uintp(4 * j), out + np.uintp(4 * j))


@helper
def _means(rows, n, width, side, centroids):
    """Normalised sums of both sides; False if one has no direction."""
    _zero(centroids, width)
    _zero(centroids + np.uintp(4 * width), width)
    for i in range(n):
        _add(rows + np.uintp(4 * width * i), centroids + np.uintp(4 * width * np.int64(side[i])), width)
    for half in range(2):
        centroid = centroids + np.uintp(4 * width * half)
        _, total = measure_row(centroid, width)
        if not total > 0:
            return False
        divide_row(centroid, width, centroid, width, np.sqrt(total))
    return True


@helper
def _least(rows, n, width, query):
    """Index of the row with the smallest dot product."""
    least, at = np.float32(np.inf), 0
    for i in range(n):
        value = dot_f32_one(rows + np.uintp(4 * width * i), query, width)
        if value < least:
            least, at = value, i
    return at


@kernel(
    types.int64(
        array(types.float32, 2),
        array(types.float32, 2, True),
        array(types.float32, 1, True),
        array(types.uint8, 1, True),
    )
)
def _split_rows(vectors, centroids, projections, side):
    n, width = vectors.shape
    rows, both, axis = address(vectors), address(centroids), address(centroids) + np.uintp(8 * width)
    if n < 2:
        return 0
    _zero(axis, width)
    for i in range(n):
        _add(rows + np.uintp(4 * width * i), axis, width)
    one = rows + np.uintp(4 * width * _least(rows, n, width, axis))
    other = rows + np.uintp(4 * width * _least(rows, n, width, one))
    for j in range(0, width, 16):
        at = np.uintp(4 * j)
        subtract_16(other + at, one + at, axis + at)
    for _ in range(_ROUNDS):
        ones = 0
        for i in range(n):
            projections[i] = dot_f32_one(rows + np.uintp(4 * width * i), axis, width)
            side[i] = 1 if projections[i] > 0 else 0
            ones += np.int64(side[i])
        if ones == 0 or ones == n or not _means(rows, n, width, side, both):
            break
        for j in range(0, width, 16):
            at = np.uintp(4 * j)
            subtract_16(both + np.uintp(4 * width) + at, both + at, axis + at)
    for i in range(n):
        projections[i] = dot_f32_one(rows + np.uintp(4 * width * i), axis, width)
    ordered = np.sort(projections)
    natural = 0
    while natural < n and ordered[natural] <= 0:
        natural += 1
    wanted = min(max(natural, n // 4, 1), n - max(n // 4, 1))
    for distance in range(n):
        for cut in (wanted - distance, wanted + distance):
            if 0 < cut < n and ordered[cut] - ordered[cut - 1] > _GAP:
                ones = 0
                for i in range(n):
                    side[i] = 1 if projections[i] >= ordered[cut] else 0
                    ones += np.int64(side[i])
                return ones if _means(rows, n, width, side, both) else 0
    return 0


def split_rows(vectors: Array, centroids: Array, projections: Array, side: Array) -> int:
    _require(vectors, np.float32, 2)
    for value, dtype, ndim in ((centroids, np.float32, 2), (projections, np.float32, 1), (side, np.uint8, 1)):
        _require(value, dtype, ndim, writable=True)
    _same((centroids.shape, vectors.shape[1] % 64), ((3, vectors.shape[1]), 0))
    _same((len(projections), len(side)), (len(vectors), len(vectors)))
    ones: int = _split_rows(vectors, centroids, projections, side)
    return ones


@kernel(types.int64(array(types.float32, 2), array(types.float32, 2), array(types.float32, 2, True)))
def _dot_table(x, y, out):
    n, width = x.shape
    for i in range(n):
        row = address(x) + np.uintp(4 * width * i)
        for j in range(y.shape[0]):
            out[i, j] = dot_f32_one(row, address(y) + np.uintp(4 * width * j), width)
    return 0


def dot_table(x: Array, y: Array, out: Array) -> None:
    _require(x, np.float32, 2)
    _require(y, np.float32, 2)
    _require(out, np.float32, 2, writable=True)
    _same((y.shape[1], x.shape[1] % 64, out.shape), (x.shape[1], 0, (len(x), len(y))))
    _dot_table(x, y, out)
