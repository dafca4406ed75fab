"""An agent's day in ten minutes: four recalls to one remember, at a fixed pace, while checkpoints run by themselves.

Calls begin when the clock says so, not when the call before has returned: a call that has to wait for a slow one counts
its waiting. The clock stands still while recall is measured, at the end of each slice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.common import TEXT, Bench, Result, latencies, right, tenth_scores

CALLS_PER_SECOND = 500  # a disk that takes 4 ms to sync is busy 40 % of the time
REMEMBER_SHARE = 0.2
SLICES = 100
CHECKS = 5  # queries a slice whose answers are held against an exact search


def mixed(bench: Bench) -> Iterator[Result]:
    """80 % `recall`, 20 % durable `remember`, 500 calls a second for ten minutes; the latency of each over time."""
    seconds, start_rows = bench.mixed_seconds, bench.size(50_000, 10_000)
    slices = SLICES if seconds >= 100 else 20
    calls = int(seconds * CALLS_PER_SECOND / slices)
    random = np.random.default_rng(9)
    pool = bench.rows
    base = np.empty((start_rows + int(seconds * CALLS_PER_SECOND * REMEMBER_SHARE * 1.2) + 100, 384), np.float32)
    with bench.store(durability="full") as store:
        for at in range(0, start_rows, 5000):
            base[at : at + 5000] = pool[at % len(pool) : at % len(pool) + 5000]
            store.remember_many([TEXT] * 5000, base[at : at + 5000])
        store.atlas.settle()
        count, found, checked = start_rows, 0, 0
        times: dict[str, list[float]] = {"recall": [], "remember": []}
        series: list[dict[str, float]] = []
        for n in range(slices):
            mine: dict[str, list[float]] = {"recall": [], "remember": []}
            writes = random.random(calls) < REMEMBER_SHARE
            vectors = _near(pool, calls, random)
            count = _slice(store, base, count, vectors, writes, mine)
            queries = _near(pool, CHECKS, random)
            for query, least in zip(queries, tenth_scores(base[:count], queries), strict=True):
                found += right(base, [hit.id - 1 for hit in store.recall(query, 10)], query, least)
                checked += 10
            row = {"second": (n + 1) * seconds / slices}
            for name, values in mine.items():
                p50, p99 = np.percentile(values, (50, 99))
                row |= {f"{name}_p50": float(p50), f"{name}_p99": float(p99), f"{name}_most": max(values)}
                times[name] += values
            series.append(row)
        generations = store.stats().generation
    conditions = {
        "unit": "us", "durability": "full", "dim": 384, "rows": start_rows, "rows_at_the_end": count,
        "recall@10": found / checked, "seconds": seconds, "calls_per_second": CALLS_PER_SECOND,
        "generations": generations,
    }  # fmt: skip
    yield {"metric": "mixed_recall", **conditions, **latencies(times["recall"]), "series": series}
    yield {"metric": "mixed_remember", **conditions, **latencies(times["remember"])}


def _near(pool: Any, count: int, random: np.random.Generator) -> Any:
    """Vectors near those of the pool: none is the same twice."""
    picked = pool[random.integers(0, len(pool), count)]
    rows = picked + 0.02 * random.standard_normal(picked.shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _slice(store: Any, base: Any, count: int, vectors: Any, writes: Any, times: dict[str, list[float]]) -> int:
    """Make the calls of a slice at their times; return how many rows there are now."""
    begin = time.perf_counter()
    for n, (vector, write) in enumerate(zip(vectors, writes, strict=True)):
        due = begin + n / CALLS_PER_SECOND
        while (left := due - time.perf_counter()) > 0:
            if left > 0.0003:  # sleep short of it: the system wakes late
                time.sleep(left - 0.0002)
        if write:
            store.remember(TEXT, vector, session="mixed")
            times["remember"].append((time.perf_counter() - due) * 1e6)
            base[count] = vector
            count += 1
        else:
            store.recall(vector, 10)
            times["recall"].append((time.perf_counter() - due) * 1e6)
    return count
