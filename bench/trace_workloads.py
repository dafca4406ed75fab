"""Workloads of the Trace: what an event costs, how fast the episode graph is walked, and the Trace Block Index."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import aeon
from aeon.trace import Trace
from bench import data
from bench.common import REPEATS, Bench, Result, latencies, summary

_EVENTS = 1_000_000
_SEEDS = 100  # three hops around so many reach 1,000 events
_SESSIONS = 10_000


def _timed(call: Any, count: int, unit: float = 1e6) -> Any:
    times = []
    for n in range(count):
        start = time.perf_counter()
        call(n)
        times.append((time.perf_counter() - start) * unit)
    return latencies(times)


def trace_append(bench: Bench) -> Iterator[Result]:
    """What the Trace adds to a commit: time inside `Trace.append`, at `normal`, one memory a commit."""
    real, spent = Trace.append, [0.0]
    count = bench.size(5000, 1000)

    def timed(self: Trace, *given: Any, **named: Any) -> int:
        start = time.perf_counter()
        result = real(self, *given, **named)
        spent[0] += time.perf_counter() - start
        return result

    times = []
    Trace.append = timed  # type: ignore[method-assign]
    try:
        for _ in range(REPEATS):
            with bench.store(durability="normal") as store:
                for n in range(500):
                    store.remember("warm", session=f"s{n % 50}")
                spent[0] = 0.0
                for n in range(count):
                    store.remember("And if the train is late again?", session=f"s{n % 50}")
                times.append(spent[0] / count * 1e6)
    finally:
        Trace.append = real  # type: ignore[method-assign]
    yield {"metric": "trace_append", "unit": "us", "durability": "normal", **summary(times)}


def trace_graph(bench: Bench) -> Iterator[Result]:
    """A store of events without vectors, with parents and links, checkpointed: open, history, three hops."""
    count = bench.size(_EVENTS, 50_000)
    path, random = bench.path(), np.random.default_rng(1)
    with aeon.open(path, dim=8, durability="off", checkpoint_log_bytes=0) as store:
        for at in range(0, count, 5000):
            store.remember_many(
                ["And then?"] * 5000, [None] * 5000, session=[f"s{n % _SESSIONS}" for n in range(at, at + 5000)],
                parents=[None if n < 5000 else n - 4999 for n in range(at, at + 5000)],
            )  # fmt: skip
        for src in random.integers(1, count, bench.size(20_000, 5000)).tolist():
            near = [src + step for step in random.integers(1, 500, 5).tolist() if src + step <= count]
            if near:
                store.link(src, near, "leads to")
        store.checkpoint()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        store = aeon.open(path, read_only=True)
        times.append((time.perf_counter() - start) * 1e3)
        store.close()
    yield {"metric": "trace_open", "unit": "ms", "events": count, **summary(times)}
    with aeon.open(path, read_only=True) as store:
        store.history("s1", 100)
        yield {
            "metric": "history", "unit": "us", "events": count, "limit": 100,
            **_timed(lambda n: store.history(f"s{n}", 100), 2000),
        }  # fmt: skip
        seeds = random.integers(count // 4, count // 2, 200).tolist()
        part = store.trace.subgraph(seeds[0], 3)
        wide = store.trace.subgraph(seeds[:_SEEDS], 3, limit=1000)
        yield {
            "metric": "three_hops", "unit": "us", "events": count, "seeds": _SEEDS, "nodes": len(wide.ids),
            "edges": len(wide.src), "one_seed_nodes": len(part.ids),
            **_timed(lambda n: store.trace.subgraph(seeds[n : n + _SEEDS], 3, limit=1000), 100),
        }  # fmt: skip
    shutil.rmtree(path)


def trace_memory(bench: Bench) -> Iterator[Result]:
    """Memory of 20,000 sessions of ten events, not yet checkpointed; the operations, which hold the texts, aside."""
    sessions = bench.size(20_000, 2000)
    import resource
    import tracemalloc

    with bench.store(8, durability="off", checkpoint_log_bytes=0) as store:
        gc.collect()
        tracemalloc.start()
        for at in range(0, sessions, 500):
            store.remember_many([""] * 5000, [None] * 5000, session=[f"session {at + n // 10}" for n in range(5000)])
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        operations = sum(len(operation) for operation in store._engine.blobs.tail)
    per = (used - operations) / sessions
    yield {
        "metric": "session_memory", "unit": "bytes/session", "sessions": sessions, "events": 10 * sessions,
        "value": per, "least": per, "most": per, "repeats": 1, "operations": operations / sessions,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def time_blocks(bench: Bench) -> Iterator[Result]:
    """The Trace Block Index against a scan of all events: recall on the dialogue turns in time order, speed at 100K and 1M."""
    real = data.dialogue()
    if real is not None and not bench.quick:
        _, base, queries, tenth = real
        yield _blocks(bench, base, queries[:300], tenth[:300], "real turns in time order")
    for count in (10_000,) if bench.quick else (100_000, _EVENTS):
        rows = bench.rows
        random = np.random.default_rng(2)
        picked = (rows[(np.arange(n, min(n + 20_000, count)) * 7) % len(rows)] for n in range(0, count, 20_000))
        base = np.concatenate([
            part + 0.02 * random.standard_normal(part.shape).astype(np.float32) for part in picked
        ])  # fmt: skip
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        yield _blocks(bench, base, rows[:100], None, "imitation")


def _blocks(bench: Bench, base: Any, queries: Any, tenth: Any, note: str) -> Result:
    path = bench.path()
    with aeon.open(path, dim=384, durability="off", checkpoint_log_bytes=0) as store:
        for at in range(0, len(base), 5000):
            part = base[at : at + 5000]
            store.remember_many([""] * len(part), part, timestamps=list(range(at, at + len(part))))
        store.checkpoint()
        store.atlas.settle()
        start = time.perf_counter()
        store.trace.search(queries[0], 10, probes=1)
        made = (time.perf_counter() - start) * 1e3
        blocks = store._engine.time_blocks.upto(store._engine.atlas, store._engine.trace, len(base))
        store.atlas.search(queries[0], 10, exact=True)
        month = len(base) // 20  # in the middle of the store
        times: dict[str, list[float]] = {"own": [], "blocks": [], "month": [], "scan": []}
        right = {"own": 0, "blocks": 0}
        for n, query in enumerate(queries):  # by turns, so that all meet the same machine
            found = {}
            for name, options in (
                ("own", {}), ("blocks", {"probes": blocks.probes}),
                ("month", {"since": len(base) // 2 + n, "until": len(base) // 2 + month + n}),
            ):  # fmt: skip
                start = time.perf_counter()
                found[name] = store.trace.search(query, 10, **options)
                times[name].append((time.perf_counter() - start) * 1e6)
            start = time.perf_counter()
            _, exact = store.atlas.search(query, 10, exact=True)
            times["scan"].append((time.perf_counter() - start) * 1e6)
            least = exact[0, -1] - 1e-6 if tenth is None else tenth[n] - 1e-5
            for name in right:
                hits = found[name]
                right[name] += sum(
                    bool((hit.score if tenth is None else base[hit.id - 1] @ query) >= least) for hit in hits
                )
    shutil.rmtree(path)
    median = {name: float(np.median(one)) for name, one in times.items()}
    return {
        "metric": "time_blocks", "unit": "us", "rows": len(base), "dim": 384, "k": 10, "note": note,
        "recall@10": right["own"] / (10 * len(queries)), "scan_us": median["scan"],
        "over_scan": median["scan"] / median["own"], "blocks_us": median["blocks"],
        "blocks_recall@10": right["blocks"] / (10 * len(queries)), "blocks_over_scan": median["scan"] / median["blocks"],
        "twentieth_us": median["month"], "first_ms": made, **latencies(times["own"]),
    }  # fmt: skip
