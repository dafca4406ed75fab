"""Workloads of space: bytes a row on disk and in memory."""

from __future__ import annotations

from collections.abc import Iterator

import aeon
from bench import data
from bench.common import TEXT, Bench, Result, python

_VECTORS = ("codes.arena", "rows.arena", "row-deaths.tbl", "pages.tbl")
_MEMORY = """
import sys, numpy, aeon
from aeon_native import dispatch
dispatch.start(); dispatch.wait()

def status(field):
    with open("/proc/self/status") as lines:
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)

numpy.ones((64, 64), numpy.float32) @ numpy.ones((64, 64), numpy.float32)
before = status("RssAnon"), status("RssFile")
store = aeon.open(sys.argv[1], read_only=True)
queries = numpy.random.default_rng(1).standard_normal((200, 384)).astype(numpy.float32)
for query in queries:
    store.recall(query, 10)
print(status("RssAnon") - before[0], status("RssFile") - before[1])
"""


def _files(store: aeon.Store) -> dict[str, int]:
    return {path.rpartition("/")[2]: size for path, size in store.stats().files.items()}


def disk(bench: Bench) -> Iterator[Result]:
    """Bytes a row on disk for vectors (text aside) at 768 dims, after a checkpoint."""
    count, dim = bench.size(20_000, 10_000), 768
    rows = data.imitation(count, dim)
    with bench.store(dim, durability="off") as store:
        for at in range(0, count, 1000):
            store.remember_many([""] * 1000, rows[at : at + 1000])
        store.atlas.settle()
        store.checkpoint()
        files = _files(store)
    vectors = sum(files.get(name, 0) for name in _VECTORS) / count
    yield {
        "metric": "vector_bytes", "unit": "bytes/row", "value": vectors, "dim": dim, "rows": count, "float32": 4 * dim,
        "ratio": 4 * dim / vectors, "least": vectors, "most": vectors, "repeats": 1,
    }  # fmt: skip


def space(bench: Bench) -> Iterator[Result]:
    """Bytes a memory takes with its text, event and vector of 384 dims: on disk, and in a process that reads it."""
    count, path = bench.size(100_000, 20_000), bench.path()
    with aeon.open(path, dim=384, durability="off", checkpoint_log_bytes=0) as store:
        for at in range(0, count, 5000):
            rows = bench.rows[at % 20_000 : at % 20_000 + 5000]
            store.remember_many([TEXT] * 5000, rows, session=f"s{at}")
        store.atlas.settle()
        store.checkpoint()
        files = _files(store)
    vectors = sum(files.get(name, 0) for name in _VECTORS)
    total = sum(size for name, size in files.items() if not name.endswith(".wal"))
    conditions = {"unit": "bytes/row", "rows": count, "dim": 384, "repeats": 1}
    yield {
        "metric": "disk_bytes", **conditions, "value": total / count, "vectors": vectors / count,
        "log": sum(size for name, size in files.items() if name.endswith(".wal")), "text": len(TEXT),
    }  # fmt: skip
    own, mapped = (int(value) for value in python(_MEMORY, path).split())
    yield {"metric": "memory_bytes", **conditions, "value": own / count, "mapped": mapped / count}
