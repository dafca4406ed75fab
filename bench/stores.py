"""Durable stores side by side: insert, search, reopen, disk; with what each one may lose.

A store keeps a text and a vector of 384 dims under an id. What a peer may lose is its documentation's word, held
against the syncs that strace counts in it. Single inserts take turns in small
groups, so that all stores meet the same disk at the same time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench import data, engines, machine
from bench.common import TEXT, Bench, Result, latencies, python, right, summary, tenth_scores

DIM, K, BATCH = 384, 10, 1000
Vectors = NDArray[np.float32]


class Store(Protocol):
    """What is compared, the same for all. Ids are 1, 2, 3, ... in the order of inserting."""

    def insert(self, first: int, texts: Sequence[str], vectors: Vectors) -> None:
        """One commit."""

    def search(self, vector: Vectors) -> Any:
        """Ten ids, best first."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class Kind:
    """A store to compare, and what it promises for a commit that was acknowledged."""

    name: str
    durability: str
    kill: str
    power: str
    open: Callable[[str], Store]


class _Aeon:
    def __init__(self, path: str, durability: Any) -> None:
        import aeon
        from aeon_native import dispatch

        dispatch.start()
        dispatch.wait()
        self.store = aeon.open(path, DIM, durability=durability)

    def insert(self, first: int, texts: Sequence[str], vectors: Vectors) -> None:
        if len(texts) == 1:
            self.store.remember(texts[0], vectors[0])
        else:
            self.store.remember_many(texts, vectors)

    def search(self, vector: Vectors) -> Any:
        return [hit.id for hit in self.store.recall(vector, K)]

    def close(self) -> None:
        self.store.close()


class _Sqlite:
    def __init__(self, path: str, synchronous: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.base = engines.sqlite_with_vectors(f"{path}/store.db")
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}"):
            self.base.execute(f"pragma {pragma}").fetchall()
        self.base.execute("create table if not exists texts(id integer primary key, text text)")
        self.base.execute(
            f"create virtual table if not exists vectors using vec0(v float[{DIM}] distance_metric=cosine)"
        )

    def insert(self, first: int, texts: Sequence[str], vectors: Vectors) -> None:
        ids = range(first, first + len(texts))
        self.base.execute("begin")
        self.base.executemany("insert into texts values (?, ?)", zip(ids, texts, strict=True))
        packed = ((id_, vector.tobytes()) for id_, vector in zip(ids, vectors, strict=True))
        self.base.executemany("insert into vectors(rowid, v) values (?, ?)", packed)
        self.base.execute("commit")

    def search(self, vector: Vectors) -> Any:
        found = self.base.execute(
            f"select n.rowid, texts.text from (select rowid, distance from vectors where v match ? and k = {K}) n "
            "join texts on texts.id = n.rowid order by n.distance", (vector.tobytes(),),
        )  # fmt: skip
        return [row[0] for row in found.fetchall()]

    def close(self) -> None:
        self.base.close()


class _Lance:
    def __init__(self, path: str) -> None:
        import lancedb
        import pyarrow

        self.arrow = pyarrow
        shape = [("id", pyarrow.int64()), ("text", pyarrow.string()), ("vector", pyarrow.list_(pyarrow.float32(), DIM))]
        self.table = lancedb.connect(path).create_table("memories", schema=pyarrow.schema(shape), exist_ok=True)

    def insert(self, first: int, texts: Sequence[str], vectors: Vectors) -> None:
        rows = self.arrow.FixedSizeListArray.from_arrays(self.arrow.array(vectors.ravel()), DIM)
        columns = {"id": list(range(first, first + len(texts))), "text": list(texts), "vector": rows}
        self.table.add(self.arrow.table(columns))

    def search(self, vector: Vectors) -> Any:
        asked = self.table.search(vector).distance_type("cosine").limit(K).select(["id", "text", "_distance"])
        return asked.to_arrow()["id"].to_numpy()

    def close(self) -> None:
        self.table = None


class _Chroma:
    def __init__(self, path: str) -> None:
        import chromadb
        from chromadb.config import Settings

        self.client = chromadb.PersistentClient(path, settings=Settings(anonymized_telemetry=False))
        settings: Any = {"hnsw": {"space": "cosine"}}
        self.kept: Any = self.client.get_or_create_collection(
            "memories", embedding_function=None, configuration=settings
        )

    def insert(self, first: int, texts: Sequence[str], vectors: Vectors) -> None:
        ids = [str(id_) for id_ in range(first, first + len(texts))]
        self.kept.add(ids=ids, embeddings=vectors, documents=list(texts))

    def search(self, vector: Vectors) -> Any:
        found = self.kept.query(query_embeddings=vector[None], n_results=K, include=["documents"])
        return [int(id_) for id_ in found["ids"][0]]

    def close(self) -> None:
        del self.kept, self.client


KINDS = (
    Kind("aeon, full", "full", "nothing", "nothing", lambda path: _Aeon(path, "full")),
    Kind("aeon, normal", "normal", "nothing", "the newest commits", lambda path: _Aeon(path, "normal")),
    Kind(
        "sqlite-vec, WAL, FULL", "full", "nothing", "nothing: the log is synced at each commit",
        lambda path: _Sqlite(path, "FULL"),
    ),
    Kind(
        "sqlite-vec, WAL, NORMAL", "normal", "nothing", "the newest commits: the log is synced before a checkpoint only",
        lambda path: _Sqlite(path, "NORMAL"),
    ),
    Kind(
        "lancedb", "normal", "nothing", "any commit the system had not yet written back, its newest version file included: "
        "it syncs no file", lambda path: _Lance(path),
    ),
    Kind(
        "chroma", "full", "nothing: a row is in its SQLite queue first", "nothing from the queue (rollback journal, synced "
        "at each commit); its graph is written anew from it", lambda path: _Chroma(path),
    ),
)  # fmt: skip

_REOPEN = """
import sys, time, numpy
from bench import stores
kind = next(kind for kind in stores.KINDS if kind.name == sys.argv[2])
vector = numpy.load(sys.argv[3])
kind.open(sys.argv[1] + "-other").close()  # imports and first calls are not what is measured
start = time.perf_counter()
store = kind.open(sys.argv[1])
ids = store.search(vector)
print((time.perf_counter() - start) * 1e3, len(ids), flush=True)
"""


def disk_bytes(path: str) -> int:
    """Bytes of blocks that all files below a folder take."""
    every = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return sum(os.stat(name).st_blocks * 512 for name in every)


def compare_stores(bench: Bench) -> Iterator[Result]:
    """aeon, sqlite-vec (WAL, FULL and NORMAL), lancedb and chroma as durable stores: insert, search, reopen, disk."""
    count, singles = bench.size(10_000, 2000), bench.size(300, 30)
    real = data.dialogue()
    rows = real[1][: count + singles] if real else data.imitation(count + singles, DIM)
    texts = real[0][: count + singles] if real else [TEXT] * (count + singles)
    queries = real[2][: bench.size(200, 30)] if real else data.imitation(200, DIM, seed=5)
    opened: dict[str, Store] = {}
    missing: dict[str, str] = {}
    for kind in KINDS:
        try:
            opened[kind.name] = kind.open(bench.path())
        except ImportError as error:
            missing[kind.name] = f"not installed ({error.name or error})"
    kinds = {kind.name: kind for kind in KINDS if kind.name in opened}
    paths = dict(zip([kind.name for kind in KINDS], (f"{bench.folder}/store-{n}" for n in range(1, 99)), strict=False))
    batches = _batches(opened, texts, rows, count)
    single = _singles(opened, texts, rows, count, singles)
    base, at = rows[: count + singles], {"rows": count + singles, "dim": DIM}
    tenth = tenth_scores(base, queries, K)
    searches = _searches(opened, base, queries, tenth)
    for name, store in opened.items():
        kind = kinds[name]
        common = {"engine": name, "durability": kind.durability, "kill -9": kind.kill, "power cut": kind.power, **at}
        store.close()
        yield {"metric": "store_insert", "unit": "us", **common, **latencies(single[name])}
        yield {"metric": "store_batch", "unit": "rows/s", "batch": BATCH, **common, **summary(batches[name])}
        times, recall = searches[name]
        yield {"metric": "store_search", "unit": "us", "k": K, "recall@10": recall, **common, **latencies(times)}
    opened.clear()
    probe = os.path.join(bench.folder, "query.npy")
    np.save(probe, queries[0])
    root = str(Path(__file__).resolve().parents[1])
    for name, kind in kinds.items():
        times = [float(python(_REOPEN, paths[name], name, probe, PYTHONPATH=root).split()[0]) for _ in range(3)]
        common = {"engine": name, "durability": kind.durability, **at}
        yield {"metric": "store_reopen", "unit": "ms", **common, **summary(times)}
        size = disk_bytes(paths[name])
        yield {"metric": "store_disk", "unit": "bytes/row", **common, "value": size / at["rows"], "bytes": size}
    counted = {} if bench.quick else {kind.name: syncs_per_insert(kind) for kind in kinds.values()}
    yield {"metric": "stores", "unit": "", "value": len(kinds), "missing": missing, "syncs_per_insert": counted}


def _batches(opened: dict[str, Store], texts: Any, rows: Vectors, count: int) -> dict[str, list[float]]:
    """Rows a second of each batch, stores in turns."""
    found: dict[str, list[float]] = {name: [] for name in opened}
    for at in range(0, count, BATCH):
        for name, store in opened.items():
            start = time.perf_counter()
            store.insert(at + 1, texts[at : at + BATCH], rows[at : at + BATCH])
            found[name].append(BATCH / (time.perf_counter() - start))
    return found


def _singles(opened: dict[str, Store], texts: Any, rows: Vectors, count: int, singles: int) -> dict[str, list[float]]:
    """Microseconds of each single insert, stores in turns of ten."""
    found: dict[str, list[float]] = {name: [] for name in opened}
    for group in range(count, count + singles, 10):
        for name, store in opened.items():
            for n in range(group, group + 10):
                start = time.perf_counter()
                store.insert(n + 1, texts[n : n + 1], rows[n : n + 1])
                found[name].append((time.perf_counter() - start) * 1e6)
    return found


def _searches(
    opened: dict[str, Store], base: Vectors, queries: Vectors, tenth: Any
) -> dict[str, tuple[list[float], float]]:
    """(microseconds of each search, recall@10), stores in turns of ten queries."""
    times: dict[str, list[float]] = {name: [] for name in opened}
    hits = dict.fromkeys(opened, 0)
    for store in opened.values():
        store.search(queries[0])
    with machine.pinned():
        for at in range(0, len(queries), 10):
            for name, store in opened.items():
                for query, least in zip(queries[at : at + 10], tenth[at : at + 10], strict=True):
                    start = time.perf_counter()
                    ids = store.search(query)
                    times[name].append((time.perf_counter() - start) * 1e6)
                    hits[name] += right(base, np.asarray(ids, np.int64) - 1, query, least)
    return {name: (times[name], hits[name] / (K * len(queries))) for name in opened}


_COMMITS = 20
_SYNCS = """
import os, sys, numpy
from bench import stores
kind = next(kind for kind in stores.KINDS if kind.name == sys.argv[1])
store = kind.open(sys.argv[2])
rows = numpy.eye(stores.DIM, dtype=numpy.float32)
for n in range(40 + stores._COMMITS):
    if n == 40:
        os.path.exists("/aeon-bench-mark")
    store.insert(n + 1, ["x"], rows[n : n + 1])
os._exit(0)
"""


def syncs_per_insert(kind: Kind) -> float | None:
    """fsync and fdatasync calls of a single insert, counted by strace; None where it is not installed."""
    if not shutil.which("strace"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        traced = ("strace", "-f", "-o", trace, "-e", "trace=fsync,fdatasync,stat,newfstatat")
        command = [*traced, sys.executable, "-c", _SYNCS, kind.name, os.path.join(folder, "store")]
        subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[1])
        lines = Path(trace).read_text(encoding="utf-8").splitlines()
    begin = next(n for n, line in enumerate(lines) if "aeon-bench-mark" in line)
    return sum("fsync(" in line or "fdatasync(" in line for line in lines[begin:]) / _COMMITS
