"""Workloads that write: one memory a commit, batches, threads, what the log costs, checkpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

import aeon
from aeon.files import OsFile
from aeon.wal import Wal
from bench import machine
from bench.common import REPEATS, TEXT, Bench, Result, latencies, summary


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
    levels = (("full", bench.size(1000, 100)), ("normal", bench.size(5000, 1000)), ("off", bench.size(5000, 1000)))
    times: dict[str, list[float]] = {name: [] for name, _ in levels}
    single: dict[str, list[float]] = {name: [] for name, _ in levels}
    for _ in range(REPEATS):
        for durability, count in levels:
            with bench.store(durability=durability) as store:
                _loop(bench, store, bench.size(500, 50))
                times[durability].append(_loop(bench, store, count))
                for n in range(count // 2):
                    start = time.perf_counter()
                    store.remember(TEXT, bench.rows[n], session="bench")
                    single[durability].append((time.perf_counter() - start) * 1e6)
    for durability, _ in levels:
        tail = latencies(single[durability])
        yield {
            "metric": "remember", "unit": "us", "durability": durability, "dim": 384, "p50": tail["p50"], "p99": tail["p99"],
            "p99.9": tail["p99.9"], **summary(times[durability]),
        }  # fmt: skip


def log_share(bench: Bench) -> Iterator[Result]:
    """The part of an insert that is spent in the log (encode, checksum, write), with the log really written."""
    spent = [0.0]
    real = Wal.append

    def timed(self: Wal, body: bytes, ids: int) -> tuple[int, int]:
        start = time.perf_counter()
        result = real(self, body, ids)
        spent[0] += time.perf_counter() - start
        return result

    # Batches: six of them, so that no index is built meanwhile (it would hold the interpreter's lock).
    for batch in (1, 1000):
        shares = []
        Wal.append = timed  # type: ignore[method-assign]
        try:
            for _ in range(REPEATS if batch == 1 else bench.size(5 * REPEATS, REPEATS)):
                with bench.store(durability="normal") as store:
                    _loop(bench, store, 500)
                    spent[0] = 0.0
                    start = time.perf_counter()
                    if batch == 1:
                        _loop(bench, store, bench.size(5000, 1000))
                    else:
                        for at in range(0, 6000, batch):
                            store.remember_many([TEXT] * batch, bench.rows[at : at + batch])
                    shares.append(spent[0] / (time.perf_counter() - start) * 100)
        finally:
            Wal.append = real  # type: ignore[method-assign]
        yield {
            "metric": "log_share", "unit": "%", "durability": "normal", "dim": 384, "batch": batch, **summary(shares),
        }  # fmt: skip


def remember_many(bench: Bench) -> Iterator[Result]:
    """1,000 memories a commit with texts, 384 dims."""
    count = bench.size(20_000, 5000)
    for durability in ("full", "normal", "off"):
        rates = []
        for _ in range(REPEATS):
            with bench.store(durability=durability) as store:
                store.remember_many([TEXT] * 1000, bench.rows[:1000])
                start = time.perf_counter()
                for at in range(0, count, 1000):
                    store.remember_many([TEXT] * 1000, bench.rows[at : at + 1000])
                rates.append(count / (time.perf_counter() - start))
        yield {
            "metric": "remember_many", "unit": "rows/s", "durability": durability, "dim": 384, "batch": 1000,
            **summary(rates),
        }  # fmt: skip


def remember_threads(bench: Bench) -> Iterator[Result]:
    """One memory a commit from 1 to 16 threads, at each durability."""
    counts = (1, 16) if bench.quick else (1, 2, 4, 8, 16)
    levels = (("full", bench.size(1600, 400)), ("normal", bench.size(4800, 800)), ("off", bench.size(4800, 800)))
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(3):
        for durability, total in levels:
            for threads in counts:
                rates.setdefault((durability, threads), []).append(_commit_from(bench, threads, total, durability))
    for (durability, threads), found in rates.items():
        over = float(np.median(found)) / float(np.median(rates[durability, 1]))
        yield {
            "metric": "remember_threads", "unit": "commits/s", "durability": durability, "threads": threads, "dim": 384,
            "over_one_thread": over, **summary(found),
        }  # fmt: skip


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
                total = bench.size(400 if delay_ms else 2000, 100) * (1 if threads == 1 else 2)
                rates = [_commit_from(bench, threads, total, "full") for _ in range(3)]
                rate = float(np.median(rates))
                alone = alone or rate
                yield {
                    "metric": "group_commit", "unit": "commits/s", "durability": "full",
                    "threads": threads, "added_sync_ms": delay_ms,
                    "over_one_thread": rate / alone, **summary(rates),
                }  # fmt: skip
        finally:
            OsFile.fdatasync = real  # type: ignore[method-assign]


def _commit_from(bench: Bench, threads: int, total: int, durability: str) -> float:
    """Commits a second."""
    with bench.store(durability=durability) as store:

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


def checkpoint(bench: Bench) -> Iterator[Result]:
    """A checkpoint of everything, and one of 10,000 memories more, at durability full: every file is synced."""
    for count in (10_000,) if bench.quick else (10_000, 100_000):
        first, second = [], []
        for _ in range(bench.size(3, 1)):
            with bench.store(durability="full", checkpoint_log_bytes=0, compact_share=0) as store:
                for target, into in ((count, first), (10_000, second)):
                    for at in range(0, target, 5000):
                        store.remember_many([TEXT] * 5000, bench.rows[at % 20_000 : at % 20_000 + 5000])
                    store.atlas.settle()
                    start = time.perf_counter()
                    store.checkpoint()
                    into.append((time.perf_counter() - start) * 1e3)
        for note, new, times in (("the first", count, first), ("a later one", 10_000, second)):
            yield {
                "metric": "checkpoint", "unit": "ms", "durability": "full", "dim": 384, "rows": count, "new": new,
                "note": note, **summary(times),
            }  # fmt: skip
