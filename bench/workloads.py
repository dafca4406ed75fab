"""The workloads. Each yields results: a dict with `metric`, `value`, `unit`, what it ran on, and how often."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import aeon
from aeon.files import OsFile
from aeon.wal import Wal
from aeon_native import dispatch
from bench import data, machine, trace_workloads, upkeep
from bench.slb import slb

Result = dict[str, Any]
REPEATS = 5  # of each timed loop; the median is reported, with the spread

TEXT = "And if the train is late again, I would rather take the bus and be there by nine."


class Bench:
    """A folder for stores, and rows to put into them."""

    def __init__(self, folder: str, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.rows = data.imitation(20_000, 384)
        self._made = 0

    def path(self) -> str:
        """A new store's path."""
        self._made += 1
        return os.path.join(self.folder, f"store-{self._made}")

    def store(self, dim: int = 384, **options: Any) -> aeon.Store:
        """A new store for the caller's vectors."""
        return aeon.open(self.path(), dim=dim, **options)


def _summary(times: list[float]) -> Result:
    return {"value": float(np.median(times)), "least": min(times), "most": max(times), "repeats": len(times)}


def _loop(bench: Bench, store: aeon.Store, count: int) -> float:
    """Microseconds of one remember, over `count` of them."""
    rows = bench.rows
    start = time.perf_counter()
    for n in range(count):
        store.remember(TEXT, rows[n % len(rows)], session="bench", timestamp=n + 1)
    return (time.perf_counter() - start) / count * 1e6


def remember_single(bench: Bench) -> Iterator[Result]:
    """One memory a commit, one thread, 384 dims, at each durability."""
    sync = machine.fdatasync_us(bench.folder)
    yield {"metric": "fdatasync", "value": sync, "unit": "us", "note": "pwrite + fdatasync of 600 bytes, median of 200"}
    for durability, count in (("full", 1000), ("normal", 5000), ("off", 5000)):
        times = []
        for _ in range(REPEATS):
            with bench.store(durability=durability) as store:
                _loop(bench, store, 500)
                times.append(_loop(bench, store, count))
        yield {"metric": "remember", "unit": "us", "durability": durability, "dim": 384, **_summary(times)}


def log_share(bench: Bench) -> Iterator[Result]:
    """The part of an insert that is spent in the log (encode, checksum, write), with the log really written."""
    spent = [0.0]
    real = Wal.append

    def timed(self: Wal, body: bytes, ids: int) -> tuple[int, int]:
        start = time.perf_counter()
        result = real(self, body, ids)
        spent[0] += time.perf_counter() - start
        return result

    for batch in (
        1,
        1000,
    ):  # batches: six of them, so that no index is built meanwhile (it would hold the interpreter's lock)
        shares = []
        Wal.append = timed  # type: ignore[method-assign]
        try:
            for _ in range(REPEATS if batch == 1 else 5 * REPEATS):
                with bench.store(durability="normal") as store:
                    _loop(bench, store, 500)
                    spent[0] = 0.0
                    start = time.perf_counter()
                    if batch == 1:
                        _loop(bench, store, 5000)
                    else:
                        for at in range(0, 6000, batch):
                            store.remember_many([TEXT] * batch, bench.rows[at : at + batch])
                    shares.append(spent[0] / (time.perf_counter() - start) * 100)
        finally:
            Wal.append = real  # type: ignore[method-assign]
        yield {
            "metric": "log_share",
            "unit": "%",
            "durability": "normal",
            "dim": 384,
            "batch": batch,
            **_summary(shares),
        }


def remember_many(bench: Bench) -> Iterator[Result]:
    """1,000 memories a commit with texts, 384 dims."""
    for durability in ("full", "normal"):
        rates = []
        for _ in range(REPEATS):
            with bench.store(durability=durability) as store:
                store.remember_many([TEXT] * 1000, bench.rows[:1000])
                start = time.perf_counter()
                for at in range(0, 20_000, 1000):
                    store.remember_many([TEXT] * 1000, bench.rows[at : at + 1000])
                rates.append(20_000 / (time.perf_counter() - start))
        yield {
            "metric": "remember_many",
            "unit": "rows/s",
            "durability": durability,
            "dim": 384,
            "batch": 1000,
            **_summary(rates),
        }


def group_commit(bench: Bench) -> Iterator[Result]:
    """Durable commits from several threads: on this disk, and with the sync slowed to what other disks take."""
    real = OsFile.fdatasync
    for delay_ms in (0, 4):

        def slowed(self: OsFile, delay: float = delay_ms / 1e3) -> None:
            real(self)
            if delay:
                time.sleep(delay)

        OsFile.fdatasync = slowed  # type: ignore[method-assign]
        try:
            alone = 0.0
            for threads in (1, 8):
                total = (400 if delay_ms else 2000) * (1 if threads == 1 else 2)
                rates = [_commit_from(bench, threads, total) for _ in range(3)]
                rate = float(np.median(rates))
                alone = alone or rate
                yield {
                    "metric": "group_commit", "unit": "commits/s", "durability": "full",
                    "threads": threads, "added_sync_ms": delay_ms,
                    "over_one_thread": rate / alone, **_summary(rates),
                }  # fmt: skip
        finally:
            OsFile.fdatasync = real  # type: ignore[method-assign]


def _commit_from(bench: Bench, threads: int, total: int) -> float:
    with bench.store(durability="full") as store:

        def work() -> None:
            for n in range(total // threads):
                store.remember(TEXT, bench.rows[n], session="bench")

        workers = [threading.Thread(target=work) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return total / (time.perf_counter() - start)


def recall_dialogue(bench: Bench) -> Iterator[Result]:
    """Search over 60,012 real dialogue turns x 384, k = 10, one thread, from Python, against exact float32 search."""
    real = data.dialogue()
    if real is None:
        return
    texts, base, queries, tenth = real
    queries, tenth = queries[:300], tenth[:300]
    for rows in ("int8", "float32"):
        with bench.store(durability="off", rows=rows) as store:
            for at in range(0, len(base), 4096):
                store.remember_many(texts[at : at + 4096], base[at : at + 4096])
            store.atlas.settle()
            for exact in (False, True):
                yield _search(store, base, queries, tenth, exact=exact, rows=rows)
            times = []
            for query in queries:
                start = time.perf_counter()
                store.recall(query, 10)
                times.append((time.perf_counter() - start) * 1e6)
            yield {
                "metric": "recall_call",
                "unit": "us",
                "rows": len(base),
                "dim": 384,
                "kept_as": rows,
                **_summary(times),
            }


def _search(store: aeon.Store, base: Any, queries: Any, tenth: Any, *, exact: bool, rows: str) -> Result:
    times, right = [], 0
    for query, score in zip(queries, tenth, strict=True):
        start = time.perf_counter()
        ids, _ = store.atlas.search(query, 10, exact=exact)
        times.append((time.perf_counter() - start) * 1e6)
        right += int((base[ids[0].astype(np.int64) - 1] @ query >= score - 1e-5).sum())
    return {
        "metric": "search", "unit": "us", "rows": len(base), "dim": 384, "kept_as": rows, "exact": exact, "k": 10,
        "recall@10": right / (10 * len(queries)), "p99": float(np.percentile(times, 99)), **_summary(times),
    }  # fmt: skip


def reopen(bench: Bench) -> Iterator[Result]:
    """Open a checkpointed store, and one whose log has to be replayed; each in a process of its own."""
    for count in (10_000, 100_000) if bench.quick else (10_000, 100_000, 1_000_000):
        path = bench.path()
        with aeon.open(path, dim=384, durability="off", checkpoint_log_bytes=0) as store:
            for at in range(0, count, 5000):
                rows = bench.rows[at % 20_000 : at % 20_000 + 5000]
                store.remember_many([f"{TEXT} {n}" for n in range(at, at + len(rows))], rows)
            store.checkpoint()
        yield {
            "metric": "open",
            "unit": "ms",
            "rows": count,
            "dim": 384,
            "note": "checkpointed",
            **_open_elsewhere(path),
        }
        shutil.rmtree(path)
    path = bench.path()
    with aeon.open(path, dim=384, durability="off", checkpoint_log_bytes=0) as store:
        for n in range(100_000):
            store.remember(TEXT, bench.rows[n % 20_000], session="bench")
    yield {"metric": "replay", "unit": "ms", "commits": 100_000, "dim": 384, **_open_elsewhere(path, 3)}


def _open_elsewhere(path: str, repeats: int = REPEATS) -> Result:
    code = (
        "import sys, time, numpy, aeon\nstart = time.perf_counter()\nstore = aeon.open(sys.argv[1])\n"
        "print((time.perf_counter() - start) * 1e3)\nstore.close()"
    )
    return _summary([float(_python(code, path)) for _ in range(repeats)])


_BYTECODE = os.path.join(tempfile.gettempdir(), f"aeon-bench-{os.getuid() if hasattr(os, 'getuid') else 0}")


def _python(code: str, *arguments: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        # As it is installed: with its bytecode beside it, whatever this shell says about writing some.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": _BYTECODE, **environment},
    )
    return run.stdout.strip().splitlines()[-1]


def start_up(bench: Bench) -> Iterator[Result]:
    """What a short-lived process pays: the import beyond numpy's own, and the first recall without compiled kernels."""
    code = "import time, numpy\nstart = time.perf_counter()\nimport aeon\nprint((time.perf_counter() - start) * 1e3)"
    _python(code)  # the first one compiles to bytecode, as an installation does
    yield {"metric": "import", "unit": "ms", **_summary([float(_python(code)) for _ in range(REPEATS)])}
    path = bench.path()
    with aeon.open(path) as store:
        store.remember_many([f"{TEXT} {n}" for n in range(1000)])
    code = (
        "import sys, time, numpy, aeon\nstore = aeon.open(sys.argv[1])\nstart = time.perf_counter()\n"
        "store.recall('which bus at nine?')\nprint((time.perf_counter() - start) * 1e3)"
    )
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as cache:
            times.append(float(_python(code, path, AEON_CACHE_DIR=cache)))
    yield {
        "metric": "first_recall",
        "unit": "ms",
        "rows": 1000,
        "note": "text query, no compiled cache",
        **_summary(times),
    }


def disk(bench: Bench) -> Iterator[Result]:
    """Bytes a row on disk for vectors (text aside) at 768 dims, after a checkpoint."""
    count, dim = 20_000, 768
    rows = data.imitation(count, dim)
    with bench.store(dim, durability="off") as store:
        for at in range(0, count, 1000):
            store.remember_many([""] * 1000, rows[at : at + 1000])
        store.atlas.settle()
        store.checkpoint()
        files = {path.rpartition("/")[2]: size for path, size in store.stats().files.items()}
    vectors = sum(files.get(name, 0) for name in ("codes.arena", "rows.arena", "row-deaths.tbl", "pages.tbl")) / count
    yield {
        "metric": "vector_bytes", "unit": "bytes/row", "value": vectors, "dim": dim, "rows": count, "float32": 4 * dim,
        "ratio": 4 * dim / vectors, "least": vectors, "most": vectors, "repeats": 1,
    }  # fmt: skip


WORKLOADS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "remember_single": remember_single,
    "log_share": log_share,
    "remember_many": remember_many,
    "group_commit": group_commit,
    "recall_dialogue": recall_dialogue,
    "slb": slb,
    "reopen": reopen,
    "start_up": start_up,
    "disk": disk,
    "trace_append": trace_workloads.trace_append,
    "trace_graph": trace_workloads.trace_graph,
    "trace_memory": trace_workloads.trace_memory,
    "time_blocks": trace_workloads.time_blocks,
    "compaction": upkeep.compaction,
    "pauses": upkeep.pauses,
    "readers": upkeep.readers,
    "pin": upkeep.pin,
    "zero_copy": upkeep.zero_copy,
}


def run(names: list[str], *, quick: bool, folder: str | None = None) -> Iterator[Result]:
    """Run workloads one after the other; stores live in a temporary folder (on `folder`'s disk if given)."""
    dispatch.start()
    dispatch.wait()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        bench = Bench(scratch, quick)
        for name in names:
            for result in WORKLOADS[name](bench):
                yield {"workload": name, **result, "kernels": dispatch.status()["mode"]}
