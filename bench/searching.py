"""Workloads that search: real dialogue turns, filters of all widths, growth from 10,000 rows to a million."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import data, generated
from bench.common import Bench, Result, latencies, learn, right, summary, tenth_scores
from bench.slb import near_turns

K = 10


def _corpus(bench: Bench) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], str]:
    """(texts, base, queries, exact tenth score of each, what they are): real turns where they are."""
    real = data.dialogue()
    count = bench.size(60_012, 10_000)
    if real is not None:
        texts, base, queries, tenth = real
        if count < len(base):
            base, texts = base[:count], texts[:count]
            tenth = tenth_scores(base, queries[:300])
        return texts, base, queries[:300], tenth[:300], "real turns"
    base = data.imitation(count + 300, 384)
    return ["x"] * count, base[:count], base[count:], tenth_scores(base[:count], base[count:]), "imitation"


def _others(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Queries to learn from that are not asked when times are taken, where there are any."""
    path = data.FOLDER / "dialogue" / "queries.npy"
    return data.unit(np.load(path).astype(np.float32)[2000:6000]) if path.exists() else queries


def _timed(call: Callable[[Any], Any], queries: NDArray[np.float32]) -> tuple[list[float], list[Any]]:
    """(microseconds, answer) of each query."""
    times, answers = [], []
    for query in queries:
        start = time.perf_counter()
        answer = call(query)
        times.append((time.perf_counter() - start) * 1e6)
        answers.append(answer)
    return times, answers


def recall_dialogue(bench: Bench) -> Iterator[Result]:
    """Search over 60,012 real dialogue turns x 384, k = 10, one thread, from Python, against exact float32 search."""
    texts, base, queries, tenth, note = _corpus(bench)
    for rows in ("int8", "float32"):
        with bench.store(durability="off", rows=rows) as store:
            for at in range(0, len(base), 4096):
                store.remember_many(texts[at : at + 4096], base[at : at + 4096])
            store.atlas.settle()
            learn(store, _others(queries))
            conditions = {"unit": "us", "rows": len(base), "dim": 384, "kept_as": rows, "k": K, "note": note}
            for exact in (False, True):
                times, answers = _timed(
                    lambda query, e=exact, s=store: s.atlas.search(query, K, exact=e)[0][0], queries
                )
                yield {
                    "metric": "search", **conditions, "exact": exact, **_recall(base, answers, queries, tenth),
                    **latencies(times),
                }  # fmt: skip
            times, answers = _timed(lambda query, s=store: [hit.id for hit in s.recall(query, K)], queries)
            yield {"metric": "recall_call", **conditions, **_recall(base, answers, queries, tenth), **latencies(times)}


def _recall(base: Any, answers: list[Any], queries: Any, tenth: Any) -> Result:
    """recall@10; ids count from 1, in the order of rows."""
    found = sum(
        right(base, np.asarray(ids, np.int64) - 1, query, least)
        for ids, query, least in zip(answers, queries, tenth, strict=True)
    )
    return {"recall@10": found / (K * len(queries))}


def recall_filtered(bench: Bench) -> Iterator[Result]:
    """`recall` among 0.1 %, 1 %, 10 % and 100 % of the rows, by session and by metadata, against the exact answer."""
    texts, base, queries, _, note = _corpus(bench)
    permille = np.random.default_rng(3).permutation(len(base)) % 1000
    with bench.store(durability="off") as store:
        for at in range(0, len(base), 4096):
            some = permille[at : at + 4096].tolist()
            store.remember_many(
                texts[at : at + 4096], base[at : at + 4096], metadata=[{"permille": value} for value in some],
                session=[f"p{value}" for value in some],
            )  # fmt: skip
        store.atlas.settle()
        learn(store, _others(queries))
        for share in (1, 10, 100, 1000):
            allowed = np.flatnonzero(permille < share)
            filters: dict[str, Any] = {
                "session": {"session": [f"p{value}" for value in range(share)]},
                "metadata": {"where": {"permille": {"$lt": share}}},
            }
            count = bench.size(300, 100)
            asked, tenth = queries[:count], tenth_scores(base[allowed], queries[:count])
            for kind, given in filters.items():
                start = time.perf_counter()
                store.recall(asked[0], K, **given)
                first = (time.perf_counter() - start) * 1e3
                times, answers = _timed(lambda query, g=given: [hit.id for hit in store.recall(query, K, **g)], asked)
                assert all(len(ids) == min(K, len(allowed)) for ids in answers), "a filter finds k where k exist"
                assert all(permille[id_ - 1] < share for ids in answers for id_ in ids)
                yield {
                    "metric": "filtered", "unit": "us", "rows": len(base), "dim": 384, "k": K, "by": kind,
                    "passes_percent": share / 10, "note": note, "first_ms": first,
                    **_recall(base, answers, asked, tenth), **latencies(times),
                }  # fmt: skip


def growth(bench: Bench) -> Iterator[Result]:
    """Search and a checkpoint at 10,000, 100,000 and 1,000,000 rows x 384, generated after real turns; the last compacted."""
    sizes = (9_000, 20_000) if bench.quick else (10_000, 100_000, 1_000_000)
    source = generated.fitted(384, every=bench.size(1, 8), duplicates=0.2, drift=1.0)
    queries, others = source.block(5, 300), source.block(7, 1100)
    for count in sizes:
        base = np.concatenate(list(source.blocks(count)))
        tenth = tenth_scores(base, queries)
        yield from _grown(bench, base, queries, others, tenth, "int8")
        if count == sizes[1]:  # the size of the paper's traversal, which it compares with its own float32
            yield from _grown(bench, base, queries, others, tenth, "float32")


def _grown(bench: Bench, base: Any, queries: Any, others: Any, tenth: Any, kept_as: Any) -> Iterator[Result]:
    count = len(base)
    with bench.store(durability="off", rows=kept_as, checkpoint_log_bytes=0, compact_share=0) as store:
        start = time.perf_counter()
        for at in range(0, count, 5000):
            store.remember_many([""] * len(base[at : at + 5000]), base[at : at + 5000])
        store.atlas.settle()
        filled = time.perf_counter() - start
        learn(store, others)
        times, answers = _timed(lambda query: store.atlas.search(query, K)[0][0], queries)
        yield {
            "metric": "growth", "unit": "us", "rows": count, "dim": 384, "k": K, "kept_as": kept_as, "fill_s": filled,
            **_recall(base, answers, queries, tenth), **latencies(times),
        }  # fmt: skip
        if kept_as == "int8":
            start = time.perf_counter()
            store.checkpoint()
            yield {
                "metric": "checkpoint", "unit": "ms", "durability": "off", "dim": 384, "rows": count, "new": count,
                "note": "the first, without texts", **summary([(time.perf_counter() - start) * 1e3]),
            }  # fmt: skip
            store.atlas.settle()
            yield from near_turns(store, queries)
        if kept_as == "int8" and count >= 1_000_000:  # it takes a minute to fill one: so this is done here
            store.forget(list(range(1, count + 1, 5)))
            report = store.compact()
            yield {
                "metric": "compaction", "unit": "ms", "durability": "off", "events": count, "left": report.memories,
                "note": "384 dims, without texts", **summary([report.seconds * 1e3]),
            }  # fmt: skip
