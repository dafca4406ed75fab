"""The Atlas against other vector indexes: recall and time per query, called from Python, one thread, same process.

    python bench/atlas_compare.py FOLDER [--rows N] [--queries N] [--rounds N] [--peers NAME...]

FOLDER holds base.npy, queries.npy (float16 or float32, one row a vector). Peers that are not installed are left out;
nothing else of the project imports them. All engines answer in turns, round by round, and the median counts. A result
is right if its exact score reaches the k-th exact score, so that equal texts do not count against anybody.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 10
TARGETS = (0.95, 0.99)
Search = Callable[[NDArray[np.float32]], Any]


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of norm 1."""
    wide = vectors.astype(np.float32)
    return np.ascontiguousarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


class Contest:
    """Settings of all engines over one data set."""

    def __init__(self, base: NDArray[np.float32], queries: NDArray[np.float32], rounds: int) -> None:
        self.base, self.queries, self.rounds = base, queries, rounds
        self.others = queries[:0]  # queries that are not measured
        scores = np.concatenate([queries[at : at + 256] @ base.T for at in range(0, len(queries), 256)])
        self.kth = np.partition(scores, -K, axis=1)[:, -K]
        self.settings: dict[str, tuple[Callable[[], None], Search]] = {}
        self.build_seconds: dict[str, float] = {}

    def add(self, name: str, search: Search, prepare: Callable[[], None] = lambda: None) -> None:
        """`search(query)` gives row numbers; `prepare` is called before each turn, untimed."""
        self.settings[name] = (prepare, search)

    def recall(self, name: str) -> float:
        """recall@10 of a setting."""
        prepare, search = self.settings[name]
        prepare()
        hits = 0
        for query, kth in zip(self.queries, self.kth, strict=True):
            rows = np.asarray(search(query)).reshape(-1)[:K].astype(np.int64)
            rows = rows[rows >= 0]
            hits += int((self.base[rows] @ query >= kth - 1e-5).sum())
        return hits / (K * len(self.queries))

    def times(self, names: list[str]) -> dict[str, float]:
        """Median microseconds a query, all settings in turns."""
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(self.rounds):
            for name in names:
                prepare, search = self.settings[name]
                prepare()
                for query in self.queries[:50]:
                    search(query)
                begin = time.perf_counter()
                for query in self.queries:
                    search(query)
                found[name].append((time.perf_counter() - begin) / len(self.queries) * 1e6)
        return {name: statistics.median(values) for name, values in found.items()}


def add_aeon(contest: Contest) -> None:
    """The store's Atlas; targets are given to it, and it finds the effort by itself."""
    import aeon
    from aeon_native import dispatch

    dispatch.start()
    dispatch.wait()
    folder = tempfile.TemporaryDirectory()
    store = aeon.open(Path(folder.name) / "store", contest.base.shape[1], durability="off", checkpoint_log_bytes=0)
    begin = time.perf_counter()
    for at in range(0, len(contest.base), 2000):
        part = contest.base[at : at + 2000]
        store.remember_many([""] * len(part), part)
    filled = time.perf_counter()
    atlas = store._engine.atlas
    assert atlas.settle()
    contest.build_seconds["aeon, commits"] = filled - begin
    contest.build_seconds["aeon, pages and calibration"] = time.perf_counter() - filled
    for query in contest.others:  # what it calibrates itself with
        store.atlas.search(query)
    atlas._background.wait()
    view = store._view()
    options: dict[str, Any] = {"rows": view.rows, "lsn": view.lsn}
    for target in (0.9, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.992, 0.995, 0.997, 0.999):
        contest.add(
            f"aeon Atlas.search, target {target}",
            lambda query, t=target: atlas.search(query, K, recall_target=t, **options)[0],
        )
        contest.add(
            f"aeon store.atlas.search, target {target}",
            lambda query, t=target: store.atlas.search(query, K, recall_target=t)[0][0].astype(np.int64) - 1,
        )
    contest.keep = (store, folder)  # type: ignore[attr-defined]


def add_hnswlib(contest: Contest) -> None:
    """hnswlib, inner product."""
    import hnswlib

    for links in (16, 32):
        begin = time.perf_counter()
        index = hnswlib.Index("ip", contest.base.shape[1])
        index.init_index(len(contest.base), M=links, ef_construction=200)
        index.add_items(contest.base, num_threads=1)
        index.set_num_threads(1)
        contest.build_seconds[f"hnswlib M={links}"] = time.perf_counter() - begin
        for ef in (32, 48, 64, 96, 128, 192, 256, 384):
            contest.add(
                f"hnswlib M={links} ef={ef}",
                lambda query, i=index: i.knn_query(query, K)[0],
                lambda i=index, e=ef: i.set_ef(e),
            )


def add_faiss(contest: Contest) -> None:
    """faiss: IVF with 4-bit PQ and refinement, IVF with scalar quantisation, HNSW."""
    import faiss

    faiss.omp_set_num_threads(1)
    dim = contest.base.shape[1]
    lists = int(4 * np.sqrt(len(contest.base)))
    for form in (f"IVF{lists},PQ{dim // 2}x4fs,RFlat", f"IVF{lists},PQ{dim // 4}x4fs,RFlat", f"IVF{lists},SQ8"):
        begin = time.perf_counter()
        index = faiss.index_factory(dim, form, faiss.METRIC_INNER_PRODUCT)
        index.train(contest.base)
        index.add(contest.base)
        contest.build_seconds[f"faiss {form}"] = time.perf_counter() - begin
        refined = form.endswith("RFlat")
        inner = faiss.downcast_index(index.base_index) if refined else index
        for probes in (4, 8, 16, 32, 64, 128):
            for factor in (4, 10) if refined else (1,):

                def prepare(inner: Any = inner, index: Any = index, p: int = probes, f: int = factor) -> None:
                    inner.nprobe = p
                    if hasattr(index, "k_factor"):
                        index.k_factor = f

                name = f"faiss {form} nprobe={probes}" + (f" k_factor={factor}" if refined else "")
                contest.add(name, lambda query, i=index: i.search(query[None], K)[1], prepare)
    begin = time.perf_counter()
    index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(contest.base)
    contest.build_seconds["faiss HNSW32"] = time.perf_counter() - begin
    for ef in (32, 64, 128, 256):
        contest.add(
            f"faiss HNSW32 ef={ef}", lambda query, i=index: i.search(query[None], K)[1],
            lambda i=index, e=ef: setattr(i.hnsw, "efSearch", e),
        )  # fmt: skip


def add_usearch(contest: Contest) -> None:
    """usearch with float32 and int8 rows."""
    from usearch.index import Index

    for kind in ("f32", "i8"):
        begin = time.perf_counter()
        index = Index(ndim=contest.base.shape[1], metric="ip" if kind == "f32" else "cos", dtype=kind, connectivity=16)
        index.add(np.arange(len(contest.base)), contest.base, threads=1)
        contest.build_seconds[f"usearch {kind}"] = time.perf_counter() - begin
        for expansion in (64, 128, 256):
            contest.add(
                f"usearch {kind} ef={expansion}", lambda query, i=index: i.search(query, K, threads=1).keys,
                lambda i=index, e=expansion: setattr(i, "expansion_search", e),
            )  # fmt: skip


def main() -> None:
    """Build, find the best setting of each engine for each recall, time those in turns, print and append a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1 << 40)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peers", nargs="*", default=["hnswlib", "faiss", "usearch"])
    arguments = parser.parse_args()
    base = unit(np.load(arguments.folder / "base.npy")[: arguments.rows])
    queries = unit(np.load(arguments.folder / "queries.npy"))
    contest = Contest(base, queries[: arguments.queries], arguments.rounds)
    contest.others = queries[arguments.queries :][:4000]
    for name, add in (("aeon", add_aeon), ("hnswlib", add_hnswlib), ("faiss", add_faiss), ("usearch", add_usearch)):
        if name != "aeon" and name not in arguments.peers:
            continue
        try:
            add(contest)
        except ImportError as error:
            print(f"{name}: left out ({error})", file=sys.stderr)
    recalls = {name: contest.recall(name) for name in contest.settings}
    enough = [name for name, recall in recalls.items() if recall >= TARGETS[0] - 0.002]
    contest.rounds = 1
    rough = contest.times(enough)
    chosen: dict[float, dict[str, str]] = {}
    for target in TARGETS:
        best: dict[str, str] = {}
        for name in enough:
            engine = " ".join(name.split(" ")[:2]).rstrip(",")
            if recalls[name] >= target and (engine not in best or rough[name] < rough[best[engine]]):
                best[engine] = name
        chosen[target] = best
    contest.rounds = arguments.rounds
    times = contest.times(sorted({name for best in chosen.values() for name in best.values()}))
    size, rounds = f"{len(base)} x {base.shape[1]}", f"median of {arguments.rounds} rounds"
    print(f"{size}, {arguments.queries} queries, k = {K}, one thread, {rounds}")
    for target, best in chosen.items():
        print(f"\nrecall@{K} >= {target}\n\n| setting | recall | us |\n|---|---|---|")
        for name in sorted(best.values(), key=times.__getitem__):
            print(f"| {name} | {recalls[name]:.4f} | {times[name]:.1f} |")
        peers = [times[name] for name in best.values() if not name.startswith("aeon")]
        own = [times[name] for name in best.values() if name.startswith("aeon Atlas")]
        if peers and own:
            print(f"\nAtlas.search takes 1/{min(peers) / min(own):.1f} of the best peer's time")
    own_settings = [name for name in recalls if name.startswith("aeon Atlas")]
    print("\n" + ", ".join(f"{name}: {recalls[name]:.4f}" for name in own_settings))
    print(
        "\nseconds to build: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in contest.build_seconds.items())
    )
    if arguments.out:
        record = {
            "rows": len(base),
            "dim": base.shape[1],
            "recalls": recalls,
            "times": times,
            "build": contest.build_seconds,
        }
        with arguments.out.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
