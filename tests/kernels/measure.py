# ruff: noqa: B023
"""Speed of the compiled kernels, and recall of INT8 on real vectors if a folder is given. Not a test.

python tests/kernels/measure.py [folder with base.npy, queries.npy, neighbour_scores.npy]

Every figure is the median of interleaved rounds of the best of a few repeats. Cycles assume the clock given by
`AEON_GHZ` (default 4.0) and serve comparison only.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aeon_native import compiled, reference

GHZ = float(os.environ.get("AEON_GHZ", "4.0"))
ROUNDS = 7
rng = np.random.default_rng(7)


def once(call: Callable[[], Any], seconds: float = 0.02) -> float:
    """Nanoseconds per call, the best of three."""
    call()
    begin = time.perf_counter()
    call()
    number = max(1, int(seconds / 3 / max(1e-8, time.perf_counter() - begin)))
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, (time.perf_counter() - begin) / number)
    return best * 1e9


def measure(calls: dict[str, Callable[[], Any]], seconds: float = 0.02) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(once(call, seconds))
    return {name: statistics.median(values) for name, values in found.items()}


def int8_rows(n: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    codes = rng.integers(-127, 128, (n, dim), dtype=np.int8)
    return codes, np.full(n, 1e-3, np.float32)


def calls() -> None:
    print("\nOne call from Python, ns")
    data = {n: rng.bytes(n) for n in (16, 256, 1024, 4096, 65536, 1 << 20)}
    vector = rng.standard_normal((1, 384)).astype(np.float32)
    codes, scales, query = np.empty((1, 384), np.int8), np.empty(1, np.float32), np.empty(384, np.int16)
    floats, ids, crcs = np.empty((1, 384), np.float32), np.ones(1, np.uint64), np.empty(1, np.uint32)
    view = memoryview(bytearray(1024))
    for kernels in (compiled, reference):
        table: dict[str, Callable[[], Any]] = {
            f"crc32c {n:,} B": (lambda d=d, k=kernels: k.crc32c(d)) for n, d in data.items()
        }
        table["crc32c memoryview 1 KB"] = lambda k=kernels: k.crc32c(view)
        table["quantize 1 x 384"] = lambda k=kernels: k.quantize(vector, codes, scales)
        table["normalize 1 x 384"] = lambda k=kernels: k.normalize(vector, floats)
        table["prepare_query 384"] = lambda k=kernels: k.prepare_query(vector[0], query)
        table["rows_checksum 1 x 384"] = lambda k=kernels: k.rows_checksum(codes, ids, scales, crcs)
        table["dot_int8 384"] = lambda k=kernels: k.dot_int8(codes[0], query)
        table["empty lambda"] = lambda k=kernels: None
        for name, value in measure(table, 0.005).items():
            print(f"  {kernels.__name__.rpartition('.')[2]:10s} {name:24s} {value:12,.0f}")


def dots() -> None:
    print("\nDot products at 768 dims, ns a row (several rows a call)")
    for rows, where in ((32, "L1"), (256, "L2"), (60_000, "L3 / memory")):
        codes, _ = int8_rows(rows, 768)
        floats = rng.standard_normal((rows, 768)).astype(np.float32)
        out32, outf = np.empty(rows, np.int32), np.empty(rows, np.float32)
        found = measure(
            {
                "int8 x int8": lambda: compiled.dot_rows_int8(codes, codes[0], out32),
                "float32": lambda: compiled.dot_rows_f32(floats, floats[0], outf),
            }
        )
        i, f = (v / rows for v in found.values())
        print(f"  {rows:6d} rows  int8 {i:7.2f}  float32 {f:7.2f}  ratio {f / i:5.2f}   ({where})")


def scans() -> None:
    print("\nScans, k = 10")
    for n, dim in ((60_012, 384), (5_000, 384), (512, 384), (30_000, 768), (256, 1536)):
        codes, scales = int8_rows(n, dim)
        floats = rng.standard_normal((n, dim)).astype(np.float32)
        died, none = np.zeros(n, np.uint64), np.empty(0, np.uint8)
        tenth = np.packbits(rng.random(n) < 0.1, bitorder="little")
        query = np.empty(dim, np.int16)
        q_scale = compiled.prepare_query(floats[0], query)
        scores, rows = np.empty(10, np.float32), np.empty(10, np.int64)
        arguments = (died, 0, query, q_scale)
        found = measure(
            {
                "scan_int8": lambda: compiled.scan_int8(codes, scales, *arguments, none, 0, scores, rows, 0),
                "scan_int8, 10 % allowed": lambda: compiled.scan_int8(
                    codes, scales, *arguments, tenth, 0, scores, rows, 0
                ),
                "scan_f32": lambda: compiled.scan_f32(floats, died, 0, floats[0], none, 0, scores, rows, 0),
                "read only (sum of u64)": lambda: codes.view(np.uint64).sum(),
            }
        )
        for name, value in found.items():
            width = dim * 4 if "f32" in name else dim
            print(
                f"  {n:6d} x {dim:4d} {name:24s} {value / 1e3:9.1f} us {value / n:8.2f} ns/row "
                f"{n * width / (value * GHZ):6.1f} bytes/cycle"
            )


def bulk() -> None:
    print("\nBulk, ns a row of 384")
    n = 4096
    vectors = rng.standard_normal((n, 384)).astype(np.float32)
    codes, scales = int8_rows(n, 384)
    ids, crcs, floats = np.arange(n, dtype=np.uint64), np.empty(n, np.uint32), np.empty((n, 384), np.float32)
    for kernels in (compiled, reference):
        found = measure(
            {
                "quantize": lambda k=kernels: k.quantize(vectors, codes, scales),
                "normalize": lambda k=kernels: k.normalize(vectors, floats),
                "rows_checksum": lambda k=kernels: k.rows_checksum(codes, ids, scales, crcs),
            }
        )
        for name, value in found.items():
            print(f"  {kernels.__name__.rpartition('.')[2]:10s} {name:16s} {value / n:8.1f}")
    query, none, died = np.empty(384, np.int16), np.empty(0, np.uint8), np.zeros(n, np.uint64)
    q_scale = compiled.prepare_query(vectors[0], query)
    scores, rows = np.empty(10, np.float32), np.empty(10, np.int64)
    twin = once(lambda: reference.scan_int8(codes, scales, died, 0, query, q_scale, none, 0, scores, rows, 0))
    print(f"  reference  scan_int8        {twin / n:8.1f}")


def recall(folder: Path) -> None:
    base = np.load(folder / "base.npy").astype(np.float32)
    queries = np.load(folder / "queries.npy").astype(np.float32)[:500]
    tenth = np.load(folder / "neighbour_scores.npy")[:500, 9]
    n, dim = base.shape
    stride = -(-dim // 64) * 64
    codes, scales = np.empty((n, stride), np.int8), np.empty(n, np.float32)
    assert compiled.quantize(base, codes, scales) == -1
    unit = np.empty((n, stride), np.float32)
    assert compiled.normalize(base, unit) == -1
    died, none = np.zeros(n, np.uint64), np.empty(0, np.uint8)
    scores, rows = np.empty(10, np.float32), np.empty(10, np.int64)
    query = np.empty(stride, np.int16)
    unit_query = np.empty((1, stride), np.float32)
    hits = 0.0
    begin = time.perf_counter()
    for vector, kth in zip(queries, tenth, strict=True):
        q_scale = compiled.prepare_query(vector, query)
        count = compiled.scan_int8(codes, scales, died, 0, query, q_scale, none, 0, scores, rows, 0)
        compiled.normalize(vector[None], unit_query)
        hits += float((unit[rows[:count]] @ unit_query[0] >= kth - 1e-5).mean())
    seconds = time.perf_counter() - begin
    each = seconds / len(queries) * 1e6
    print(f"\nrecall@10 of INT8 on {n} x {dim}: {hits / len(queries):.4f}  ({each:.0f} us a query)")


if __name__ == "__main__":
    calls()
    dots()
    scans()
    bulk()
    if len(sys.argv) > 1:
        recall(Path(sys.argv[1]))
