"""Workloads of compaction, pins and many readers."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import aeon
from bench import data
from bench.common import Bench, Result, latencies, learn, summary

TEXT = "And if the train is late again, I would rather take the bus and be there by nine: note "
CALM: dict[str, Any] = {"checkpoint_log_bytes": 0, "compact_share": 0}


def _fill(store: aeon.Store, rows: Any, count: int) -> None:
    for at in range(0, count, 1000):
        vectors = [None] * 1000 if rows is None else rows[at % len(rows) : at % len(rows) + 1000]
        store.remember_many([f"{TEXT}{n}" for n in range(at, at + 1000)], vectors, session=f"s{at // 1000 % 50}")


def compaction(bench: Bench) -> Iterator[Result]:
    """Compaction with every sync: 100,000 events down to 50,000. A million rows: see `growth`."""
    count = bench.size(100_000, 10_000)
    for kind, rows in (("texts only", None), ("384 dims", bench.rows)):
        times, pauses = [], []
        for _ in range(bench.size(3, 1)):
            with bench.store(durability="normal", **CALM) as store:
                _fill(store, rows, count)
                store.atlas.settle()
                store.checkpoint()
                store.forget(list(range(1, count + 1, 2)))
                report = store.compact()
                assert report.memories == count // 2
                times.append(report.seconds * 1e3)
                pauses.append(1e6 * max(report.pauses))
        yield {
            "metric": "compaction", "unit": "ms", "durability": "normal", "events": count, "left": count // 2, "note": kind,
            **summary(times),
        }  # fmt: skip


def pauses(bench: Bench) -> Iterator[Result]:
    """How long freeze and swap hold up a writer that commits all the while; 24 compactions of 20,000 rows."""
    freezes, swaps = [], []
    with bench.store(durability="normal", keep_versions=False, **CALM) as store:
        _fill(store, bench.rows, 20_000)
        store.atlas.settle()
        # Upserts, so that the store stays as large as it is, however fast the writer.
        with _busy(lambda n: store.remember(TEXT, bench.rows[n % 20_000], session="writer", key=str(n % 1000))):
            for _ in range(bench.size(24, 5)):
                report = store.compact()
                freezes.append(report.pauses[0] * 1e6)
                swaps.append(report.pauses[1] * 1e6)
    for name, found in (("freeze", freezes), ("swap", swaps)):
        yield {"metric": "pause", "unit": "us", "durability": "normal", "note": name, "dim": 384, **summary(found)}


class _busy:
    """Call `work(n)` again and again on a thread of its own."""

    def __init__(self, work: Callable[[int], object]) -> None:
        self._work, self._stop, self.count = work, threading.Event(), 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._work(self.count)
            self.count += 1

    def __enter__(self) -> _busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def readers(bench: Bench) -> Iterator[Result]:
    """Searches of 100,000 rows x 384: while compactions run, beside a busy writer, and on two threads; interleaved."""
    count, calls = bench.size(100_000, 20_000), bench.size(4000, 500)
    with bench.store(durability="normal", **CALM) as store:
        _fill(store, bench.rows, count)
        store.atlas.settle()
        learn(store, bench.rows)
        conditions = {"rows": count, "dim": 384, "recall@10": _recall(store, bench.rows)}
        _search_times(store, bench.rows, calls)
        quiet: list[float] = []
        during: list[float] = []
        for _ in range(5):
            quiet += _search_times(store, bench.rows, calls)
            with _busy(lambda _: store.compact()):
                during += _search_times(store, bench.rows, calls)
        tail = {name: float(np.percentile(times, 99.9)) for name, times in (("quiet", quiet), ("during", during))}
        yield {
            "metric": "search_tail", "unit": "us", **conditions, **latencies(during), "value": tail["during"],
            "quiet": tail["quiet"], "ratio": tail["during"] / tail["quiet"], "median": float(np.median(during)),
            "median_quiet": float(np.median(quiet)), "repeats": 5,
        }  # fmt: skip
        ones, twos, besides = [], [], []
        for _ in range(bench.size(7, 3)):
            ones.append(_rate(store, bench.rows, 1))
            twos.append(_rate(store, bench.rows, 2))
            with _busy(lambda n: (store.remember(TEXT, bench.rows[n % 20_000]), time.sleep(0.001))):
                besides.append(_rate(store, bench.rows, 1))
        one = float(np.median(ones))
        yield {
            "metric": "two_readers", "unit": "searches/s", "threads": 2, **conditions,
            "over_one": float(np.median(twos)) / one, **summary(twos),
        }  # fmt: skip
        yield {
            "metric": "beside_writer", "unit": "searches/s", **conditions, "over_quiet": float(np.median(besides)) / one,
            **summary(besides),
        }  # fmt: skip


def _recall(store: aeon.Store, rows: Any) -> float:
    """recall@10 against the exact scan of the same rows."""
    found = 0
    for query in rows[:1400:7]:
        least = store.atlas.search(query, 10, exact=True)[1][0, -1]
        found += int((store.atlas.search(query, 10)[1][0] >= least - 1e-6).sum())
    return found / 2000


def _search_times(store: aeon.Store, rows: Any, count: int) -> list[float]:
    times = []
    for n in range(count):
        query = rows[n * 7 % 20_000]
        start = time.perf_counter()
        store.atlas.search(query, 10)
        times.append((time.perf_counter() - start) * 1e6)
    return times


def _rate(store: aeon.Store, rows: Any, threads: int) -> float:
    queries, batch = 4000, 16

    def work() -> None:
        for n in range(0, queries, batch):
            store.atlas.search(rows[n : n + batch], 10)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * queries / (time.perf_counter() - start)


def pin(bench: Bench) -> Iterator[Result]:
    """Pin and unpin on each of 15 threads while a writer commits and compacts; every pin's newest memory is checked."""
    with bench.store(16, durability="off", **CALM) as store:
        rows = data.imitation(1000, 16)
        store.remember_many(["0"] * 1000, rows)
        times: list[list[float]] = [[] for _ in range(15)]
        torn = checked = 0
        rounds = bench.size(20_000, 2000)
        lock = threading.Lock()

        def read(mine: list[float]) -> None:
            nonlocal torn, checked
            clock, bad = time.perf_counter_ns, 0
            for round_ in range(rounds):
                start = clock()
                held = store.pin()
                held.close()
                mine.append(clock() - start)
                if round_ % 100 == 0:
                    with store.pin() as held:
                        bad += any(memory.text != "x" for memory in held.history("writer", 3))
            with lock:
                torn += bad
                checked += rounds // 100

        def write(n: int) -> None:
            store.remember("x", rows[n % 1000], session="writer")
            if n % 50 == 49:
                store.compact()

        readers_ = [threading.Thread(target=read, args=(mine,)) for mine in times]
        with _busy(write):
            for reader in readers_:
                reader.start()
            for reader in readers_:
                reader.join()
        found = np.concatenate(times)
        yield {
            "metric": "pin", "unit": "ns", "value": float(np.percentile(found, 99)), "median": float(np.median(found)),
            "threads": 15, "torn": torn, "checked": checked, "least": float(found.min()), "most": float(found.max()),
            "repeats": len(found),
        }  # fmt: skip


def zero_copy(bench: Bench) -> Iterator[Result]:
    """Hand 10 MB of rows to NumPy: where they lie, by pickle, by JSON."""
    count = 10 * (1 << 20) // 384
    with bench.store(durability="off", **CALM) as store:
        _fill(store, bench.rows, 28_000)
        store.compact()
        held = store.pin()
        view: list[float] = []
        for _ in range(2000):
            start = time.perf_counter_ns()
            block = held.rows()[0].codes
            view.append(time.perf_counter_ns() - start)
        part = np.ascontiguousarray(block[:count])
        pickled, spelt = pickle.dumps(part), json.dumps(part.tolist())
        ways: dict[str, tuple[list[float], Callable[[], object]]] = {
            "pickle": ([], lambda: pickle.loads(pickled)),  # noqa: S301
            "JSON": ([], lambda: np.array(json.loads(spelt), np.int8)),
        }
        for times, work in ways.values():
            for _ in range(bench.size(3, 1)):
                start = time.perf_counter_ns()
                work()
                times.append(time.perf_counter_ns() - start)
        yield {
            "metric": "zero_copy",
            "unit": "ns",
            "note": "a view of the mapping",
            "bytes": block.nbytes,
            **summary(view),
        }
        for name, (times, _) in ways.items():
            yield {"metric": "zero_copy", "unit": "ns", "note": name, "bytes": part.nbytes, **summary(times)}
