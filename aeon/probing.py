"""How many pages a search has to look at for a recall: measured against exact search, not guessed.

A search looks at the pages whose centroids are not much farther than the nearest one: few where that one stands out, many where
a query lies between topics. By how much farther is the `spread`, and the pages that makes on average are the probes.

A `Curve` holds the recall found at growing numbers of probes, for few and for many results. A recall target is turned
into probes, and these into a spread, by reading the curve backwards. Recall counts a result as right if its exact score reaches
the k-th exact one, so equal rows do not count against it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALL_TARGET = 0.95
TARGET_MIN, TARGET_MAX = 0.80, 0.999
_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_COUNTS = (10, 100)  # results for which curves are measured; others lie between
EPS0_ALL = 9.0  # no row or page is passed over
_EPS0, _EPS0_HIGH, _HIGH = 1.5, 2.6, 0.98  # 95 % of rows keep within 1.5 errors; high targets need the rest
_MARGIN, _DEVIATION = (
    0.004,
    0.2,
)  # of recall, at least; of one query's: half of what a sample's mean may be off by comes on top
_FLAT = 0.002  # gained by half as many pages again: what is missing was looked at, and passed over

_ROWS_ARE_EASIER = 0.45  # of what may be missed: dialogue queries miss that much more than rows asked as queries
_SAME = 0.999  # cosine of a row with itself or a repetition, rounding taken off
_REPETITIONS = 400

_GAPS_MAX = 1 << 24  # distances of pages that are held at once, to find what spread makes how many of them

Search = Callable[[NDArray[np.float32], int, int, float, float], NDArray[np.float32]]
Exact = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
Near = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Curve:
    """Recall by probes.

    Parameters
    ----------
    probes : float[m], increasing: pages looked at, on average. spreads : float[m], not decreasing: the cosine by which their
    centroids may score less than the nearest one; inf = as many pages as probes, for every query.
    recalls : by number of results, recall at each: not decreasing.
    rows : of the index when it was measured. queries : how many were asked, and whether they were real ones.
    """

    probes: tuple[float, ...]
    spreads: tuple[float, ...]
    recalls: dict[int, tuple[float, ...]]
    rows: int
    queries: int
    real: bool

    def probes_for(self, target: float, k: int) -> float:
        """How many pages to look at for `k` results at a recall of `target`."""
        few, many = (self._one(target, count) for count in _COUNTS)
        if k <= _COUNTS[0]:
            return few
        if k >= _COUNTS[1]:
            return many * k / _COUNTS[1]
        share = math.log(k / _COUNTS[0]) / math.log(_COUNTS[1] / _COUNTS[0])
        return few ** (1 - share) * max(many, few) ** share

    def spread_for(self, probes: float) -> float:
        """The spread that makes so many pages on average; inf if that was not measured."""
        at = bisect.bisect_left(self.probes, probes)
        if at == len(self.probes):
            return math.inf
        if at == 0 or self.probes[at] == probes or self.spreads[at] == math.inf:
            return self.spreads[at]
        share = math.log(probes / self.probes[at - 1]) / math.log(self.probes[at] / self.probes[at - 1])
        return self.spreads[at - 1] + share * (self.spreads[at] - self.spreads[at - 1])

    def _one(self, target: float, count: int) -> float:
        unsure = max(_MARGIN, 0.5 * _DEVIATION / math.sqrt(max(1, self.queries)))
        margin = min(unsure, (1 - target) / 3) if self.real else _ROWS_ARE_EASIER * (1 - target)
        wanted = min(target + margin, 0.9995)
        recalls = self.recalls[count]
        for at, recall in enumerate(recalls):
            if recall >= wanted:
                if at == 0:
                    return self.probes[0]
                low, high = self.probes[at - 1], self.probes[at]
                share = (wanted - recalls[at - 1]) / (recall - recalls[at - 1])
                return low * (high / low) ** share
        return 2 * self.probes[-1]


# Before anything is measured: twice what conversations need at 60,000 rows.
UNMEASURED = Curve(
    (4, 8, 16, 32, 64, 128, 256, 512, 1024),
    (math.inf,) * 9,
    {
        10: (0.72, 0.82, 0.90, 0.94, 0.965, 0.98, 0.99, 0.995, 0.9995),
        100: (0.3, 0.5, 0.68, 0.80, 0.89, 0.95, 0.975, 0.99, 0.9995),
    },
    0, 0, False,
)  # fmt: skip


def eps0_for(target: float) -> float:
    """How many errors an estimate may be off before a row is passed over."""
    return _EPS0 if target < _HIGH else _EPS0_HIGH


def measure(
    queries: NDArray[np.float32], search: Search, exact: Exact, near: Near, rows: int, pages: int, *, real: bool,
    stopping: Callable[[], bool],
) -> Curve | None:  # fmt: skip
    """Measure a curve; None if `stopping` said so meanwhile.

    queries : float32[n, dim]. If not `real`, each is a row of the store: it finds itself and its repetitions at once, as a
        query that was never asked before does not, so these are left out.
    search(query, k, probes, spread, eps0), exact(query, k) : scores, best first. near(query) : those of all pages' centroids.
    """
    probes = [p for p in _PROBES if p < pages] + [pages]
    recalls: dict[int, tuple[float, ...]] = {}
    truths, skips = [], []
    nearest: list[NDArray[np.float32]] = []
    for query in queries:
        if stopping():
            return None
        if len(nearest) < max(32, _GAPS_MAX // pages):
            nearest.append(near(query))
        truth = exact(query, _COUNTS[1] + (0 if real else _REPETITIONS))
        skips.append(0 if real else int(np.count_nonzero(truth > _SAME)))
        truths.append(truth[skips[-1] :])
    spreads = _spreads(nearest, probes)
    for count in _COUNTS:
        found: list[float] = []
        eps0 = _EPS0  # each part of the curve with what the targets that read it use
        for p, spread in zip(probes, spreads, strict=True):
            hits = total = 0
            for query, truth, skip in zip(queries, truths, skips, strict=True):
                if stopping():
                    return None
                best = truth[:count]
                if len(best):
                    scores = search(query, count + skip, p, spread, eps0)
                    hits += int(np.count_nonzero((scores >= best[-1]) & ((scores <= _SAME) | (skip == 0))))
                    total += len(best)
            recall = hits / total if total else 1.0
            if recall >= _HIGH or (found and recall - found[-1] < _FLAT):
                eps0 = _EPS0_HIGH
            found.append(max(recall, found[-1] if found else 0.0))
            if recall >= 0.9995:
                break
        recalls[count] = (*found, *[found[-1]] * (len(probes) - len(found)))
    return Curve(tuple(float(p) for p in probes), tuple(spreads), recalls, rows, len(queries), real)


def _spreads(near: list[NDArray[np.float32]], probes: list[int]) -> list[float]:
    """For each number of probes the spread that makes so many pages of a query's, on average; inf for all of them."""
    gaps = np.sort(np.concatenate([scores[:1] - scores for scores in near]))
    return [float(gaps[p * len(near) - 1]) if p * len(near) < len(gaps) else math.inf for p in probes]
