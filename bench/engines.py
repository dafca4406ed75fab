"""Vector indexes to compare: each adds its settings to a contest. Nobody else imports the libraries.

Every engine gets the same rows and queries of length 1, and is swept over the setting that trades recall for time. The
others are what its own documentation advises for so many rows. One query a call, k = 10, from Python, one thread.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.common import learn

if TYPE_CHECKING:
    from bench.compare import Contest

K = 10
OWN_TARGETS = (0.9, 0.925, 0.935, 0.945, 0.95, 0.955, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999)
GRAPH = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # beams of a graph search


def add_aeon(contest: Contest) -> None:
    """The store's Atlas; targets are given to it, and it finds the effort by itself. INT8 rows, and float32 ones."""
    from aeon_native import dispatch

    dispatch.start()
    dispatch.wait()
    for kept_as, name in (("int8", "aeon"), ("float32", "aeon, float32 rows")):
        _add_aeon(contest, kept_as, name)


def _add_aeon(contest: Contest, kept_as: Any, name: str) -> None:
    import aeon

    folder = tempfile.TemporaryDirectory()
    path, dim = Path(folder.name) / "store", contest.base.shape[1]
    store = aeon.open(path, dim, rows=kept_as, durability="off", checkpoint_log_bytes=0)
    contest.keep += [store.close, folder.cleanup]
    with contest.building(name):
        for at in range(0, len(contest.base), 2000):
            part = contest.base[at : at + 2000]
            store.remember_many([""] * len(part), part)
        atlas = store._engine.atlas
        atlas.settle()
    learn(store, contest.others)
    view = store._view()
    options: dict[str, Any] = {"rows": view.rows, "lsn": view.lsn}
    for target in OWN_TARGETS:
        contest.add(
            name, f"recall_target={target}",
            lambda query, t=target: store.atlas.search(query, K, recall_target=t)[0][0].astype(np.int64) - 1,
        )  # fmt: skip
        if contest.inner:
            contest.add(
                f"{name}, inner call", f"recall_target={target}",
                lambda query, t=target: (
                    atlas.search_ids(query[None], K, recall_target=t, **options)[0][0].astype(np.int64) - 1
                ),
            )  # fmt: skip


def add_hnswlib(contest: Contest) -> None:
    """hnswlib, inner product."""
    import hnswlib

    for links in (16, 32) if len(contest.base) <= 200_000 else (16,):
        with contest.building(f"hnswlib M={links}"):
            index = hnswlib.Index("ip", contest.base.shape[1])
            index.init_index(len(contest.base), M=links, ef_construction=200)
            index.add_items(contest.base, num_threads=contest.build_threads)
        index.set_num_threads(1)
        for ef in GRAPH:
            contest.add(
                "hnswlib", f"M={links} ef={ef}", lambda query, i=index: i.knn_query(query, K)[0],
                lambda i=index, e=ef: i.set_ef(e),
            )  # fmt: skip


def add_faiss(contest: Contest) -> None:
    """faiss: IVF with 4-bit PQ and refinement, IVF with scalar quantisation, HNSW."""
    import faiss

    faiss.omp_set_num_threads(contest.build_threads)
    count, dim = contest.base.shape
    many = count > 200_000
    lists = int((2 if many else 4) * np.sqrt(count))
    sample = contest.base[:: max(1, count // (64 * lists))] if many else contest.base
    for form in (f"IVF{lists},PQ{dim // 2}x4fs,RFlat", f"IVF{lists},SQ8"):
        with contest.building(f"faiss {form}"):
            index = faiss.index_factory(dim, form, faiss.METRIC_INNER_PRODUCT)
            index.train(sample)
            index.add(contest.base)
        refined = form.endswith("RFlat")
        inner = faiss.downcast_index(index.base_index) if refined else index
        for probes in (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128):
            for factor in (2, 4, 10) if refined else (1,):

                def prepare(inner: Any = inner, index: Any = index, p: int = probes, f: int = factor) -> None:
                    inner.nprobe = p
                    if hasattr(index, "k_factor"):
                        index.k_factor = f

                setting = f"{form} nprobe={probes}" + (f" k_factor={factor}" if refined else "")
                engine = "faiss IVF-PQ" if refined else "faiss IVF-SQ8"
                contest.add(engine, setting, lambda query, i=index: i.search(query[None], K)[1], prepare)
    if not many:  # its graph of 1M rows takes as long to build as all the others together
        with contest.building("faiss HNSW32"):
            index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 100
            index.add(contest.base)
        for ef in GRAPH[:-2]:
            contest.add(
                "faiss HNSW", f"M=32 ef={ef}", lambda query, i=index: i.search(query[None], K)[1],
                lambda i=index, e=ef: setattr(i.hnsw, "efSearch", e),
            )  # fmt: skip
    faiss.omp_set_num_threads(1)


def add_usearch(contest: Contest) -> None:
    """usearch with float32 and int8 rows."""
    from usearch.index import Index

    for kind in ("f32", "i8"):
        with contest.building(f"usearch {kind}"):
            index = Index(
                ndim=contest.base.shape[1], metric="ip" if kind == "f32" else "cos", dtype=kind, connectivity=16
            )
            index.add(np.arange(len(contest.base)), contest.base, threads=contest.build_threads)
        for expansion in GRAPH[:-1]:
            contest.add(
                f"usearch {kind}", f"M=16 ef={expansion}", lambda query, i=index: i.search(query, K, threads=1).keys,
                lambda i=index, e=expansion: setattr(i, "expansion_search", e),
            )  # fmt: skip


def add_sqlite_vec(contest: Contest) -> None:
    """sqlite-vec: scans float32 rows, or int8 rows; it has no other settings."""
    dim = contest.base.shape[1]
    scales = {"float": 1, "int8": 127 / np.abs(contest.base).max()}
    for kind, scale in scales.items():
        wrap = "vec_int8(?)" if kind == "int8" else "?"

        def pack(vector: NDArray[np.float32], kind: str = kind, scale: float = scale) -> bytes:
            return np.rint(vector * scale).astype(np.int8).tobytes() if kind == "int8" else vector.tobytes()

        with contest.building(f"sqlite-vec {kind}"):
            base = sqlite_with_vectors(":memory:")
            base.execute(f"create virtual table v using vec0(x {kind}[{dim}] distance_metric=cosine)")
            base.executemany(
                f"insert into v(rowid, x) values (?, {wrap})",
                ((n + 1, pack(row)) for n, row in enumerate(contest.base)),
            )
        text = f"select rowid from v where x match {wrap} and k = {K}"
        contest.add(
            f"sqlite-vec {kind}", "scan",
            lambda query, b=base, t=text, p=pack: np.array(b.execute(t, (p(query),)).fetchall()).reshape(-1) - 1,
        )  # fmt: skip


def sqlite_with_vectors(path: str) -> Any:
    """A database with sqlite-vec in it, in autocommit; where Python's sqlite3 loads no extensions, by way of apsw."""
    import sqlite_vec

    base: Any
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        base = sqlite3.connect(path, isolation_level=None)
    else:
        import apsw

        base = apsw.Connection(path)
    base.enable_load_extension(True)
    base.load_extension(sqlite_vec.loadable_path())
    return base


def add_lancedb(contest: Contest) -> None:
    """lancedb: IVF with RaBitQ codes and refinement, and HNSW over scalar-quantised rows; in a folder, as it works."""
    import lancedb
    import pyarrow

    folder = tempfile.TemporaryDirectory()
    contest.keep.append(folder.cleanup)
    database = lancedb.connect(folder.name)
    count, dim = contest.base.shape
    rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(contest.base.ravel()), dim)
    for kind in ("IVF_RQ", "IVF_HNSW_SQ"):
        table = database.create_table(kind, pyarrow.table({"id": pyarrow.array(range(count)), "vector": rows}))
        with contest.building(f"lancedb {kind}"):
            table.create_index(metric="cosine", vector_column_name="vector", index_type=kind)
        sweep: tuple[tuple[str, dict[str, int]], ...]
        if kind == "IVF_RQ":
            sweep = tuple(
                (f"nprobes={p} refine_factor={r}", {"nprobes": p, "refine_factor": r}) for p, r in
                ((2, 3), (4, 3), (8, 3), (16, 3), (16, 10), (32, 10), (64, 10))
            )  # fmt: skip
        else:
            sweep = tuple((f"ef={ef}", {"ef": ef, "refine_factor": 3}) for ef in (32, 64, 128, 256))
        for setting, options in sweep:

            def search(query: Any, table: Any = table, options: dict[str, int] = options) -> Any:
                asked = table.search(query).distance_type("cosine").limit(K).select(["id", "_distance"])
                for name, value in options.items():
                    asked = getattr(asked, name)(value)
                return asked.to_arrow()["id"].to_numpy()

            contest.add(f"lancedb {kind}", setting, search)


def add_chroma(contest: Contest) -> None:
    """chroma, in memory: its HNSW, with the beam changed between turns."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.EphemeralClient(settings=Settings(anonymized_telemetry=False))
    settings = {"space": "cosine", "ef_construction": 200, "max_neighbors": 16, "ef_search": 100}
    kept: Any = client.create_collection("contest", embedding_function=None, configuration={"hnsw": settings})
    contest.keep.append(lambda: client.delete_collection("contest"))
    with contest.building("chroma"):
        for at in range(0, len(contest.base), 5000):
            part = contest.base[at : at + 5000]
            kept.add(ids=[str(n) for n in range(at, at + len(part))], embeddings=part)
    for ef in (10, 16, 32, 64, 128, 256):
        contest.add(
            "chroma", f"M=16 ef={ef}",
            lambda query: np.array(kept.query(query_embeddings=query[None], n_results=K, include=[])["ids"][0], np.int64),
            lambda e=ef: kept.modify(configuration={"hnsw": {"ef_search": e}}),
        )  # fmt: skip


def add_qdrant(contest: Contest) -> None:
    """qdrant-client without a server: it scans with NumPy, and has no settings."""
    import warnings

    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    contest.keep.append(client.close)
    shape = models.VectorParams(size=contest.base.shape[1], distance=models.Distance.COSINE)
    client.create_collection("contest", vectors_config=shape)
    with contest.building("qdrant-client local"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a server would suit so many rows better
        client.upload_collection("contest", vectors=contest.base, ids=range(len(contest.base)))
    contest.add(
        "qdrant-client local", "scan",
        lambda query: np.array([
            point.id for point in client.query_points("contest", query=query, limit=K, with_payload=False).points
        ]),
    )  # fmt: skip


ENGINES: dict[str, Callable[[Contest], None]] = {
    "aeon": add_aeon,
    "hnswlib": add_hnswlib,
    "faiss": add_faiss,
    "usearch": add_usearch,
    "sqlite-vec": add_sqlite_vec,
    "lancedb": add_lancedb,
    "chroma": add_chroma,
    "qdrant": add_qdrant,
}
MODULES = {"sqlite-vec": "sqlite_vec", "chroma": "chromadb", "qdrant": "qdrant_client"}  # where it is not the name


def build(contest: Contest, names: list[str]) -> dict[str, str]:
    """Add the engines named; return those that were left out, with the reason."""
    missing = {}
    for name in names:
        start = time.perf_counter()
        try:
            ENGINES[name](contest)
        except ImportError as error:
            missing[name] = f"not installed ({error.name or error})"
        else:
            contest.tell(f"{name} is built: {time.perf_counter() - start:.1f} s")
    return missing
