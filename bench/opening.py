"""Workloads of processes that begin: opening, replay, the first recall."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import numpy as np

import aeon
from bench.common import REPEATS, TEXT, Bench, Result, evict, python, summary

_OPEN = (
    "import sys, time, numpy, aeon\nstart = time.perf_counter()\nstore = aeon.open(sys.argv[1])\n"
    "print((time.perf_counter() - start) * 1e3)\nstore.close()"
)


def reopen(bench: Bench) -> Iterator[Result]:
    """Open a checkpointed store, and one whose log has to be replayed; each in a process of its own, warm and cold."""
    for count in (5_000, 20_000) if bench.quick else (10_000, 100_000, 1_000_000):
        path = bench.path()
        with aeon.open(path, dim=384, durability="off", checkpoint_log_bytes=0) as store:
            for at in range(0, count, 5000):
                rows = bench.rows[at % 20_000 : at % 20_000 + 5000]
                store.remember_many([f"{TEXT} {n}" for n in range(at, at + len(rows))], rows)
            store.checkpoint()
        for cache in ("warm", "cold"):
            yield {
                "metric": "open", "unit": "ms", "rows": count, "dim": 384, "note": "checkpointed", "cache": cache,
                **_opened(path, bench.size(REPEATS, 2), cold=cache == "cold"),
            }  # fmt: skip
        shutil.rmtree(path)
    commits = bench.size(100_000, 5000)
    path = bench.path()
    with aeon.open(path, dim=384, durability="off", checkpoint_log_bytes=0) as store:
        for n in range(commits):
            store.remember(TEXT, bench.rows[n % 20_000], session="bench")
    yield {"metric": "replay", "unit": "ms", "commits": commits, "dim": 384, **_opened(path, bench.size(3, 1))}


def _opened(path: str, repeats: int, *, cold: bool = False) -> Result:
    times = []
    for _ in range(repeats):
        if cold:
            evict(path)
        times.append(float(python(_OPEN, path)))
    return summary(times)


def start_up(bench: Bench) -> Iterator[Result]:
    """What a short-lived process pays: the import beyond numpy's own, and the first recall without compiled kernels."""
    code = "import time, numpy\nstart = time.perf_counter()\nimport aeon\nprint((time.perf_counter() - start) * 1e3)"
    python(code)  # the first one compiles to bytecode, as an installation does
    yield {"metric": "import", "unit": "ms", **summary([float(python(code)) for _ in range(REPEATS)])}
    path = bench.path()
    with aeon.open(path) as store:
        store.remember_many([f"{TEXT} {n}" for n in range(1000)])
        truth = {hit.id for hit in store.recall("which bus at nine?", exact=True)}
        least = store.recall("which bus at nine?", exact=True)[-1].score
    code = (
        "import sys, time, numpy, aeon\nstore = aeon.open(sys.argv[1])\nstart = time.perf_counter()\n"
        "hits = store.recall('which bus at nine?')\nspent = (time.perf_counter() - start) * 1e3\n"
        "print(spent, sum(hit.score >= float(sys.argv[2]) - 1e-6 for hit in hits))"
    )
    times, found = [], []
    for _ in range(bench.size(REPEATS, 2)):
        with tempfile.TemporaryDirectory() as cache:
            spent, right = python(code, path, repr(least), AEON_CACHE_DIR=cache).split()
        times.append(float(spent))
        found.append(int(right) / len(truth))
    yield {
        "metric": "first_recall", "unit": "ms", "rows": 1000, "note": "text query, no compiled cache", "cache": "cold",
        "recall@10": float(np.mean(found)), **summary(times),
    }  # fmt: skip
