"""The Atlas against other vector indexes: recall and time per query, called from Python, one thread, same process.

    python -m bench compare [--rows N] [--dim 384|768] [--queries N] [--rounds N] [--peers NAME...]

Without --rows: the real conversations (bench/data.py). With it: so many generated vectors that follow them
(bench/generated.py). Peers that are not installed are left out (pip install 'aeon-memory[bench]'); nothing else of
the project imports them. Every engine is tried with many settings; per recall, the fastest setting that reaches it
counts. All engines answer in turns, round by round, and the median counts. A result is right if its exact score
reaches the k-th exact score, so that equal texts do not count against anybody.
"""

from __future__ import annotations

import argparse
import json
import os
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
OWN_TARGETS = (
    0.9,
    0.925,
    0.93,
    0.935,
    0.94,
    0.945,
    0.95,
    0.96,
    0.97,
    0.98,
    0.983,
    0.985,
    0.988,
    0.99,
    0.992,
    0.995,
    0.999,
)
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
        self.build_threads = 1
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
        some = self._some(name)
        for query, kth in zip(some, self.kth, strict=False):
            rows = np.asarray(search(query)).reshape(-1)[:K].astype(np.int64)
            rows = rows[rows >= 0]
            hits += int((self.base[rows] @ query >= kth - 1e-5).sum())
        return hits / (K * len(some))

    def _some(self, name: str) -> NDArray[np.float32]:
        """All queries, or a tenth of them for an engine that scans everything."""
        return self.queries[: len(self.queries) // 10] if name.startswith("sqlite") else self.queries

    def times(self, names: list[str]) -> dict[str, float]:
        """Median microseconds a query, all settings in turns."""
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(self.rounds):
            for name in names:
                prepare, search = self.settings[name]
                prepare()
                some = self._some(name)
                for query in some[:50]:
                    search(query)
                begin = time.perf_counter()
                for query in some:
                    search(query)
                found[name].append((time.perf_counter() - begin) / len(some) * 1e6)
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
    for at in range(0, len(contest.others), 1000):  # what it calibrates itself with
        for query in contest.others[at : at + 1000]:
            store.atlas.search(query)
        atlas._background.wait()
    atlas._measure_at = 1 << 60  # what a target takes stays the same from here on
    view = store._view()
    options: dict[str, Any] = {"rows": view.rows, "lsn": view.lsn}
    for target in OWN_TARGETS:
        contest.add(
            f"aeon inner, target {target}",
            lambda query, t=target: (
                atlas.search_ids(query[None], K, recall_target=t, **options)[0][0].astype(np.int64) - 1
            ),
        )
        contest.add(
            f"aeon store.atlas.search, target {target}",
            lambda query, t=target: store.atlas.search(query, K, recall_target=t)[0][0].astype(np.int64) - 1,
        )
    contest.keep = (store, folder)  # type: ignore[attr-defined]


def add_hnswlib(contest: Contest) -> None:
    """hnswlib, inner product."""
    import hnswlib

    for links in (16, 32) if len(contest.base) <= 200_000 else (16,):
        begin = time.perf_counter()
        index = hnswlib.Index("ip", contest.base.shape[1])
        index.init_index(len(contest.base), M=links, ef_construction=200)
        index.add_items(contest.base, num_threads=contest.build_threads)
        index.set_num_threads(1)
        contest.build_seconds[f"hnswlib M={links}"] = time.perf_counter() - begin
        for ef in (16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512):
            contest.add(
                f"hnswlib M={links} ef={ef}",
                lambda query, i=index: i.knn_query(query, K)[0],
                lambda i=index, e=ef: i.set_ef(e),
            )


def add_faiss(contest: Contest) -> None:
    """faiss: IVF with 4-bit PQ and refinement, IVF with scalar quantisation, HNSW."""
    import faiss

    faiss.omp_set_num_threads(contest.build_threads)
    dim = contest.base.shape[1]
    many = len(contest.base) > 200_000
    lists = int((2 if many else 4) * np.sqrt(len(contest.base)))
    sample = contest.base[:: max(1, len(contest.base) // (64 * lists))] if many else contest.base
    forms = (f"IVF{lists},PQ{dim // 2}x4fs,RFlat", f"IVF{lists},PQ{dim // 4}x4fs,RFlat", f"IVF{lists},SQ8")
    for form in (forms[0], forms[2]) if many else forms:
        begin = time.perf_counter()
        index = faiss.index_factory(dim, form, faiss.METRIC_INNER_PRODUCT)
        index.train(sample)
        index.add(contest.base)
        contest.build_seconds[f"faiss {form}"] = time.perf_counter() - begin
        refined = form.endswith("RFlat")
        inner = faiss.downcast_index(index.base_index) if refined else index
        for probes in (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128):
            for factor in (2, 4, 10) if refined else (1,):

                def prepare(inner: Any = inner, index: Any = index, p: int = probes, f: int = factor) -> None:
                    inner.nprobe = p
                    if hasattr(index, "k_factor"):
                        index.k_factor = f

                name = f"faiss {form} nprobe={probes}" + (f" k_factor={factor}" if refined else "")
                contest.add(name, lambda query, i=index: i.search(query[None], K)[1], prepare)
    if many:
        faiss.omp_set_num_threads(1)
        return  # its graph of 1M rows takes as long to build as all the others, and hnswlib's is faster at 100,000
    begin = time.perf_counter()
    index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(contest.base)
    contest.build_seconds["faiss HNSW32"] = time.perf_counter() - begin
    faiss.omp_set_num_threads(1)
    for ef in (16, 32, 48, 64, 96, 128, 192, 256):
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
        index.add(np.arange(len(contest.base)), contest.base, threads=contest.build_threads)
        contest.build_seconds[f"usearch {kind}"] = time.perf_counter() - begin
        for expansion in (16, 32, 64, 96, 128, 192, 256, 384):
            contest.add(
                f"usearch {kind} ef={expansion}", lambda query, i=index: i.search(query, K, threads=1).keys,
                lambda i=index, e=expansion: setattr(i, "expansion_search", e),
            )  # fmt: skip


def add_sqlite_vec(contest: Contest) -> None:
    """sqlite-vec: scans float32 rows, or int8 rows; it has no other settings."""
    import sqlite_vec

    dim = contest.base.shape[1]
    scales = {"float": 1, "int8": 127 / np.abs(contest.base).max()}
    for kind, scale in scales.items():
        begin = time.perf_counter()
        base = _sqlite()
        base.enable_load_extension(True)
        base.load_extension(sqlite_vec.loadable_path())
        base.execute(f"create virtual table v using vec0(x {kind}[{dim}] distance_metric=cosine)")
        wrap = "vec_int8(?)" if kind == "int8" else "?"

        def pack(vector: NDArray[np.float32], kind: str = kind, scale: float = scale) -> bytes:
            return np.rint(vector * scale).astype(np.int8).tobytes() if kind == "int8" else vector.tobytes()

        base.executemany(
            f"insert into v(rowid, x) values (?, {wrap})", ((n + 1, pack(row)) for n, row in enumerate(contest.base))
        )
        contest.build_seconds[f"sqlite-vec {kind}"] = time.perf_counter() - begin
        text = f"select rowid from v where x match {wrap} and k = {K}"
        contest.add(
            f"sqlite-vec {kind}",
            lambda query, b=base, t=text, p=pack: np.array(b.execute(t, (p(query),)).fetchall()).reshape(-1) - 1,
        )


def _sqlite() -> Any:
    """A database in memory that may load extensions; some builds of Python have none, then apsw's is taken."""
    import sqlite3

    if hasattr(sqlite3.Connection, "enable_load_extension"):
        return sqlite3.connect(":memory:")
    import apsw

    return apsw.Connection(":memory:")


def vectors(rows: int | None, dim: int, queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(base, queries and those for calibration): real ones, or generated ones."""
    from bench import data
    from bench.generated import Generated

    base = unit(np.load(data.FOLDER / "dialogue" / "base.npy"))
    if rows is None:
        return base, unit(np.load(data.FOLDER / "dialogue" / "queries.npy"))
    generated = Generated(base, dim)
    found = np.empty((rows, dim), np.float32)
    at = 0
    for block in generated.blocks(rows):
        found[at : at + len(block)] = block
        at += len(block)
    return found, generated.block(5, queries + 4000)


def main(argv: list[str] | None = None) -> None:
    """Build, find the best setting of each engine for each recall, time those in turns, print and append a record."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("--rows", type=int, help="generated vectors; without it the real ones")
    parser.add_argument("--dim", type=int, default=768, help="of generated vectors: 384 or 768")
    parser.add_argument("--build-threads", type=int, default=1, help="of peers: what is searched does not depend on it")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peers", nargs="*", default=["hnswlib", "faiss", "usearch", "sqlite-vec"])
    arguments = parser.parse_args(argv)
    base, queries = vectors(arguments.rows, arguments.dim, arguments.queries)
    contest = Contest(base, queries[: arguments.queries], arguments.rounds)
    contest.build_threads = arguments.build_threads
    contest.others = queries[arguments.queries :][:4000]
    engines = {"aeon": add_aeon, "hnswlib": add_hnswlib, "faiss": add_faiss, "usearch": add_usearch}
    for name, add in {**engines, "sqlite-vec": add_sqlite_vec}.items():
        if name != "aeon" and name not in arguments.peers:
            continue
        try:
            add(contest)
        except ImportError as error:
            print(f"{name}: left out ({error})", file=sys.stderr)
        print(f"{name} is built", file=sys.stderr, flush=True)
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
    kind = "real conversations" if arguments.rows is None else "generated"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{size}, {kind}, {arguments.queries} queries, k = {K}, one thread, {rounds}; load of the machine {load}")
    for target, best in chosen.items():
        print(f"\nrecall@{K} >= {target}\n\n| setting | recall | us |\n|---|---|---|")
        for name in sorted(best.values(), key=times.__getitem__):
            print(f"| {name} | {recalls[name]:.4f} | {times[name]:.1f} |")
        peers = [times[name] for name in best.values() if not name.startswith("aeon")]
        for call in ("aeon store.atlas.search", "aeon inner"):
            own = [times[name] for name in best.values() if name.startswith(call)]
            if peers and own:
                print(f"\n{call} takes 1/{min(peers) / min(own):.2f} of the best peer's time")
    own_settings = [name for name in recalls if name.startswith("aeon inner")]
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
