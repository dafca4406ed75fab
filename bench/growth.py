"""Growth: time per query at fixed recall, build time, memory and insert pauses, from 10,000 rows to a million.

    python -m bench growth [--dim 384|768] [--rows N...] [--queries N] [--rounds N] [--plot FILE]

Vectors are generated from the real conversations (bench/generated.py). Recall is against the exact scan of the same
INT8 rows; an insert is a row's share of a batch of 64, splits included, of the index alone. The exponent is that of a
power law through the first and the last size.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aeon.pages import PageIndex
from aeon_native import dispatch
from aeon_native.page_layout import padded_dim, scratch_bytes
from bench import data
from bench.generated import Generated, unit

K = 10
NONE = np.empty(0, np.uint8)
PROBES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class Rows:
    """INT8 rows in memory, as the index wants them."""

    def __init__(self, blocks: Iterable[NDArray[np.float32]], dim: int, count: int) -> None:
        self.codes, self.scales = np.zeros((count, padded_dim(dim)), np.int8), np.zeros(count, np.float32)
        at = 0
        for block in blocks:
            dispatch.kernels.quantize(block, self.codes[at : at + len(block)], self.scales[at : at + len(block)])
            at += len(block)
        self.died = np.zeros(count, np.uint64)

    def row_fields(self) -> tuple[dict[str, int], tuple[Any, ...]]:
        """See `aeon.pages.RowSource`."""
        nothing = np.zeros(1, np.uint64)
        return {
            "row_bytes": self.codes.shape[1], "row_int8": 1, "base_count": len(self.codes),
            "row_base": self.codes.ctypes.data, "row_chunks": nothing.ctypes.data,
            "death_base": self.died.ctypes.data, "death_chunks": nothing.ctypes.data, "chunk_shift": 12,
            "reach": len(self.codes), "record_base": self.died.ctypes.data, "record_chunks": nothing.ctypes.data,
        }, (nothing,)  # fmt: skip

    def unit_rows(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `aeon.pages.RowSource`."""
        scales = self.scales[rows]
        return self.codes[rows].astype(np.float32) * scales[:, None], scales

    def dead(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `aeon.pages.RowSource`."""
        return self.died[rows] != 0

    def kth(self, query: NDArray[np.float32]) -> float:
        """The exact k-th score."""
        prepared = np.zeros(self.codes.shape[1], np.int16)
        scale = dispatch.kernels.prepare_query(query, prepared)
        scores, rows = np.empty(K, np.float32), np.empty(K, np.int64)
        dispatch.kernels.scan_int8(self.codes, self.scales, self.died, 0, prepared, scale, NONE, 0, scores, rows, 0)
        return float(scores.min())


class Searcher:
    """Searches with everything allocated before."""

    def __init__(self, index: PageIndex) -> None:
        self.snapshot = index.snapshot
        self.scratch = np.empty(scratch_bytes(index.dim), np.uint8)
        self.scores, self.rows = np.empty((1, K), np.float32), np.empty((1, K), np.int64)
        self.counts, self.stats = np.zeros(1, np.int64), np.zeros(3, np.int64)

    def search(self, query: NDArray[np.float32], probes: int) -> NDArray[np.float32]:
        """Scores, best first."""
        self.counts[0] = 0
        dispatch.kernels.search_pages(
            self.snapshot.ctx, query, self.snapshot.rows, 0, probes, 4 + probes // 8, 1.5 if probes < 64 else 2.6, np.inf,
            NONE, self.scratch, self.scores, self.rows, self.counts, self.stats,
        )  # fmt: skip
        return self.scores[0]

    def time(self, queries: list[NDArray[np.float32]], probes: int, rounds: int) -> float:
        """Median microseconds a query."""
        found = []
        for _ in range(rounds):
            begin = time.perf_counter()
            for query in queries:
                self.search(query, probes)
            found.append((time.perf_counter() - begin) / len(queries) * 1e6)
        return statistics.median(found)


def pauses(index: PageIndex, first: int, stop: int) -> list[float]:
    """Milliseconds of this thread for each batch of 64 inserts, splits included."""
    found = []
    for at in range(first, stop, 64):
        begin = time.thread_time()
        index.insert(at, min(at + 64, stop))
        found.append((time.thread_time() - begin) * 1e3)
    return found


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench growth", description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw it into an SVG or PNG (matplotlib)")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    dispatch.start()
    dispatch.wait()
    real = np.load(data.FOLDER / "dialogue" / "base.npy").astype(np.float32)
    generated = Generated(unit(real), arguments.dim)
    queries = [query[None] for query in generated.block(5, arguments.queries)]
    print("| rows | us at 0.95 | us at 0.99 | build s | MB of pages / rows | us an insert | longest batch ms |")
    print("|---|---|---|---|---|---|---|", flush=True)
    spent: list[tuple[int, float]] = []
    measured: list[dict[str, float]] = []
    for count in arguments.rows:
        extra = min(6400, count // 4)
        rows = Rows(generated.blocks(count + extra), arguments.dim, count + extra)
        index = PageIndex(rows, arguments.dim, b"aeon-growth-test")
        begin = time.perf_counter()
        index.build(count)
        built = time.perf_counter() - begin
        inserts = pauses(index, count, count + extra)
        kth = [rows.kth(query[0]) for query in queries]
        searcher = Searcher(index)
        cells = []
        for target in (0.95, 0.99):
            for probes in PROBES:
                hits = sum((searcher.search(q, probes) >= k).sum() for q, k in zip(queries, kth, strict=True))
                recall = hits / (K * len(queries))
                if recall >= target:
                    cells.append((searcher.time(queries, probes, arguments.rounds), probes, recall))
                    break
            else:
                cells.append((math.nan, 0, 0.0))
        spent.append((count, cells[0][0]))
        measured.append({
            "rows": count + extra, "us at 0.95": cells[0][0], "us at 0.99": cells[1][0],
            "us an insert": sum(inserts) / extra * 1e3, "longest batch of 64 inserts, ms": max(inserts),
            "bytes of pages a row": index.bytes / (count + extra),
        })  # fmt: skip
        shown = " | ".join(f"{us:.1f} ({probes} probes, {recall:.4f})" for us, probes, recall in cells)
        print(
            f"| {count + extra} | {shown} | {built:.1f} | {index.bytes / 1e6:.0f} / {rows.codes.nbytes / 1e6:.0f} "
            f"| {sum(inserts) / extra * 1e3:.1f} | {max(inserts):.1f} |",
            flush=True,
        )
    (small, fast), (large, slow) = spent[0], spent[-1]
    if large > small:
        print(f"\ntime grows as rows^{math.log(slow / fast) / math.log(large / small):.2f} at 0.95")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{arguments.dim} dims, {arguments.queries} queries, load of the machine {load}")
    if arguments.plot:
        _plot(measured, arguments.plot, arguments.dim)


def _plot(measured: list[dict[str, float]], path: Path, dim: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = (
        ("time per query, us", ("us at 0.95", "us at 0.99")),
        ("inserts", ("us an insert", "longest batch of 64 inserts, ms")),
        ("memory", ("bytes of pages a row",)),
    )
    for axes, (title, names) in zip(figure.subplots(1, 3), panels, strict=True):
        for name in names:
            axes.plot([m["rows"] for m in measured], [m[name] for m in measured], "o-", label=name)
        axes.set(title=title, xlabel=f"rows of {dim} dims", xscale="log")
        axes.set_yscale("log") if title != "memory" else axes.set_ylim(0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
