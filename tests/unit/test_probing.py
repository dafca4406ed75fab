"""The curve of recall: measured with what the searches that read it will use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aeon import probing

RANKED = np.arange(100, 0, -1, dtype=np.float32) / 200  # scores of the exact search, best first
QUERIES = np.eye(50, dtype=np.float32)
CENTROIDS = np.linspace(1, 0.5, 500, dtype=np.float32)


def measured(passed_over: float) -> tuple[probing.Curve, Any]:
    """A curve for a search that misses 1/2 of the rows at one probe, 1/4 at two, ... and more if its bound is narrow."""

    def search(query: NDArray[np.float32], k: int, probes: int, spread: float, eps0: float) -> NDArray[np.float32]:
        missing = 0.5 / probes + (passed_over if eps0 == probing.eps0_for(0.9) else 0.0)
        there = np.random.default_rng([probes, int(query.argmax())]).random(100) >= missing
        return RANKED[there][:k]

    curve = probing.measure(
        QUERIES,
        search,
        lambda query, k: RANKED[:k],
        lambda query: CENTROIDS,
        10_000,
        500,
        real=True,
        stopping=lambda: False,
    )
    assert curve is not None
    return curve, search


def recall_at(search: Any, target: float, probes: float) -> float:
    """Recall@10 of a search as a target makes it, over queries that were not measured."""
    hits = [
        np.count_nonzero(search(query, 10, round(probes), math.inf, probing.eps0_for(target)) >= RANKED[9])
        for query in np.roll(np.eye(100, 200, dtype=np.float32), 77, axis=1)
    ]
    return float(np.mean(hits)) / 10


@pytest.mark.parametrize("target", [0.9, 0.95, 0.97])
@pytest.mark.parametrize("passed_over", [0.0, 0.01, 0.02])
def test_a_target_holds_with_the_bound_it_searches_with(target: float, passed_over: float) -> None:
    curve, search = measured(passed_over)
    assert recall_at(search, target, curve.probes_for(target, 10)) >= target - 0.012


def test_high_targets_are_reached_though_a_narrow_bound_never_gets_there() -> None:
    curve, search = measured(0.05)
    for target in (0.98, 0.99):
        probes = curve.probes_for(target, 10)
        assert probes <= 500, "there is a number of pages that is enough"
        assert recall_at(search, target, probes) >= target - 0.012


def test_the_spread_of_so_many_probes_makes_so_many_pages_on_average() -> None:
    near = np.sort(np.random.default_rng(1).random((50, 300)).astype(np.float32) ** 2, axis=1)[:, ::-1]

    def search(query: NDArray[np.float32], k: int, probes: int, spread: float, eps0: float) -> NDArray[np.float32]:
        return RANKED[:k] if probes == 300 else RANKED[: k // 2]

    curve = probing.measure(
        QUERIES, search, lambda query, k: RANKED[:k], lambda query: near[query.argmax()], 10_000, 300, real=True,
        stopping=lambda: False,
    )  # fmt: skip
    assert curve is not None and curve.probes[-1] == 300 and curve.spreads[-1] == math.inf
    for probes, spread in zip(curve.probes[:-1], curve.spreads[:-1], strict=True):
        assert np.count_nonzero(near >= near[:, :1] - np.float32(spread)) / 50 == pytest.approx(probes, abs=0.03)
        assert curve.spread_for(probes) == spread
    assert curve.spreads[2] < curve.spread_for(3.5) < curve.spreads[3]
    assert curve.spread_for(10_000) == curve.spread_for(299) == math.inf and curve.spread_for(0.5) == curve.spreads[0]
    assert probing.UNMEASURED.spread_for(20) == math.inf


def test_no_number_of_probes_has_a_spread_that_is_none() -> None:
    """One page on average is a spread of 0: between it and the next there is one, too."""
    spreads = (0.0, 0.05, 0.1, math.inf)
    curve = probing.Curve(
        (1.0, 2.0, 3.0, 9.0), spreads, {10: (0.5, 0.7, 0.9, 1.0), 100: (0.5, 0.7, 0.9, 1.0)}, 100, 9, True
    )
    found = [curve.spread_for(probes) for probes in np.linspace(0.5, 12, 200)]
    assert not any(math.isnan(spread) for spread in found) and found == sorted(found)
    assert 0 < curve.spread_for(1.5) < 0.05
