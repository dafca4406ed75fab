"""Filling a store: throughput against hnswlib, bulk load, peak memory, pauses. Each part runs in a process of its own.

    python -m bench load [--rows N] [--dim 384|768] [--insert-rows N]

Vectors are generated (bench/generated.py) and wait in a file, so that neither their making nor their memory counts.
Throughput: `remember_many` of 1,000 rows a commit, durability "normal", log and index included, against hnswlib's
`add_items` with one thread, in turns, over the same rows. Bulk load: durability "off", a checkpoint at the end, until the
index serves. Peak memory is what the process holds at most, beyond what it held with kernels loaded and no store,
pages of mapped files included, against the bytes of the store's codes, rows and pages on disk. Pauses: 20,000 single
inserts behind the bulk load, each timed by the wall and by the thread's own clock (which other programs do not stretch). At
last 256 queries, by which pages that came of splits are made anew: how long that takes, and what it holds at most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.generated import Generated, unit

SINGLE = 20_000


def status(field: str) -> int:
    """Bytes, from /proc/self/status."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _write(path: Path, rows: int, dim: int) -> None:
    real = np.load(data.FOLDER / "dialogue" / "base.npy").astype(np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
    at = 0
    for block in Generated(unit(real), dim).blocks(rows):
        out[at : at + len(block)] = block
        at += len(block)


def bulk(path: Path, folder: Path) -> dict[str, Any]:
    """Load all rows but the last `SINGLE`, then insert those one by one."""
    import aeon
    from aeon_native import dispatch

    dispatch.start()
    dispatch.wait()
    rows, dim = np.load(path, mmap_mode="r").shape
    count = rows - SINGLE
    vectors = path.open("rb")  # read, not mapped: it is not the store's memory
    vectors.seek(-4 * rows * dim, os.SEEK_END)

    def following(n: int) -> Any:
        if vectors.tell() + 4 * n * dim > path.stat().st_size:
            vectors.seek(-4 * n * dim, os.SEEK_END)
        return np.frombuffer(vectors.read(4 * n * dim), np.float32).reshape(n, dim)

    before = status("VmRSS")
    begin = time.perf_counter()
    store = aeon.open(folder / "bulk.aeon", dim, durability="off")
    for at in range(0, count, 1000):
        block = following(min(1000, count - at))
        store.remember_many([""] * len(block), block)
    written, peak_written = time.perf_counter() - begin, status("VmHWM") - before
    assert store.atlas.settle()
    indexed, peak_indexed = time.perf_counter() - begin, status("VmHWM") - before
    store.checkpoint()
    assert store.atlas.settle()
    done = time.perf_counter() - begin
    peak = status("VmHWM") - before
    names = ("codes.arena", "rows.arena", "pages.tbl")
    disk = sum(size for name, size in store.stats().files.items() if name.rpartition("/")[2] in names)
    wall, own = [], []
    for row in following(SINGLE):
        start, used = time.perf_counter(), time.thread_time()
        store.remember("", row)
        own.append(time.thread_time() - used)
        wall.append(time.perf_counter() - start)
    # Pages that came of splits are made anew when some queries were asked.
    assert store.atlas.settle()
    settled = status("VmRSS") - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    begin = time.perf_counter()
    for row in following(SINGLE)[:256]:
        store.atlas.search(row)
    assert store.atlas.settle()
    anew, peak_anew = time.perf_counter() - begin, status("VmHWM") - before
    store.close()
    return {
        "rows": count, "dim": dim, "s to write": written, "s until the index serves": indexed,
        "s with checkpoint": done, "peak MB": peak / 1e6,
        "peak MB when written": peak_written / 1e6, "when indexed": peak_indexed / 1e6,
        "MB on disk": disk / 1e6, "peak / disk": peak / disk,
        "single insert us, median": float(np.median(wall)) * 1e6, "P99.9 ms": float(np.quantile(wall, 0.999)) * 1e3,
        "longest ms": max(wall) * 1e3, "longest ms of its thread": max(own) * 1e3,
        "MB at rest": settled / 1e6, "s for pages anew": anew, "their peak MB": peak_anew / 1e6,
    }  # fmt: skip


def insert(path: Path, folder: Path) -> dict[str, Any]:
    """Rows per second of both, in turns of 1,000 rows."""
    import aeon
    from aeon_native import dispatch

    try:
        import hnswlib
    except ImportError:
        return {"hnswlib": "not installed"}
    dispatch.start()
    dispatch.wait()
    vectors = np.array(np.load(path, mmap_mode="r"))
    half = len(vectors) // 2
    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=200)
    index.add_items(vectors[:half], num_threads=-1)
    store = aeon.open(folder / "insert.aeon", vectors.shape[1], durability="normal")
    for at in range(0, half, 1000):
        store.remember_many([""] * 1000, vectors[at : at + 1000])
    assert store.atlas.settle()
    spent = [0.0, 0.0]
    for at in range(half, len(vectors), 1000):
        part = vectors[at : at + 1000]
        begin = time.perf_counter()
        store.remember_many([""] * len(part), part)
        middle = time.perf_counter()
        index.add_items(part, num_threads=1)
        spent[0] += middle - begin
        spent[1] += time.perf_counter() - middle
    store.close()
    rates = [(len(vectors) - half) / seconds for seconds in spent]
    return {"rows before": half, "aeon rows/s": rates[0], "hnswlib rows/s": rates[1], "times": rates[0] / rates[1]}


def main(argv: list[str] | None = None) -> None:
    """Run the parts and print what they found."""
    parser = argparse.ArgumentParser(prog="python -m bench load", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--insert-rows", type=int, default=60_000, help="half of them are there before it is measured")
    parser.add_argument("--part", choices=("bulk", "insert"), help=argparse.SUPPRESS)
    parser.add_argument("--vectors", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.part:
        part = {"bulk": bulk, "insert": insert}[arguments.part]
        print(json.dumps(part(arguments.vectors, arguments.vectors.parent)))
        return
    for name, rows in (("insert", arguments.insert_rows), ("bulk", arguments.rows + SINGLE)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.npy"
            _write(path, rows, arguments.dim)
            command = [sys.executable, "-m", "bench", "load", "--part", name, "--vectors", str(path)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                raise SystemExit(run.stderr)
            found = json.loads(run.stdout.splitlines()[-1])
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            figures = (
                f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
            )
            shown = ", ".join(figures)
            print(f"{name}: {shown}; load of the machine {load}", flush=True)
