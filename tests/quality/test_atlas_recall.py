"""The index on real conversations: recall targets hold on queries it was not calibrated with, through all that happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import aeon
from aeon.store import Store

pytestmark = pytest.mark.data

TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
ALLOWED = 0.01  # what a target may be missed by


@pytest.fixture(autouse=True)
def compiled(compiled_kernels: None) -> None:
    """Without compiled kernels there is no index."""


def unit(path: Path) -> NDArray[np.float32]:
    vectors = np.load(path).astype(np.float32)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def fill(store: Store, vectors: NDArray[np.float32]) -> list[int]:
    ids: list[int] = []
    for at in range(0, len(vectors), 2000):
        part = vectors[at : at + 2000]
        ids += store.remember_many([""] * len(part), part)
    return ids


def ask(store: Store, queries: NDArray[np.float32]) -> None:
    """Let the store see real queries, and calibrate itself with them."""
    atlas = store._engine.atlas
    for _ in range(2):  # a curve is not measured while another one is: the first time most queries come meanwhile
        for query in queries:
            store.atlas.search(query)
        assert atlas._maker.wait(60)


def recall_of(store: Store, queries: NDArray[np.float32], target: float) -> float:
    """Against the exact search of the same rows; equal scores count as right."""
    found = store.atlas.search(queries, 10, recall_target=target)[1]
    exact = store.atlas.search(queries, 10, exact=True)[1]
    return float((found >= exact[:, -1:]).mean())


def test_targets_hold_on_dialogues(data_folder: Path, tmp_path: Path) -> None:
    base, queries = unit(data_folder / "dialogue" / "base.npy"), unit(data_folder / "dialogue" / "queries.npy")
    with aeon.open(tmp_path / "store", base.shape[1], durability="off") as store:
        fill(store, base)
        assert store._engine.atlas.settle(120)
        ask(store, queries[4000:5200])
        for target in TARGETS:
            assert recall_of(store, queries[:1000], target) >= target - ALLOWED, target
        assert store._engine.atlas.index is not None and store._engine.atlas.index.verify() == []


def test_targets_hold_while_the_store_grows_and_shrinks(data_folder: Path, tmp_path: Path) -> None:
    base, queries = unit(data_folder / "dialogue" / "base.npy"), unit(data_folder / "dialogue" / "queries.npy")
    with aeon.open(tmp_path / "store", base.shape[1], durability="off", checkpoint_log_bytes=0) as store:
        ids = fill(store, base[:15_000])
        assert store._engine.atlas.settle(120)
        ask(store, queries[4000:5200])
        ids += fill(store, base[15_000:40_000])  # by inserts and splits alone
        ask(store, queries[4000:5200])
        assert recall_of(store, queries[:500], 0.95) >= 0.95 - ALLOWED
        gone = np.random.default_rng(0).permutation(ids)[:20_000]
        for at in range(0, len(gone), 1000):
            store.forget(gone[at : at + 1000].tolist())
        ask(store, queries[4000:5200])
        assert recall_of(store, queries[:500], 0.95) >= 0.95 - ALLOWED
        index = store._engine.atlas.index
        assert index is not None and index.verify() == [] and index.counters.dissolved + index.counters.rewritten > 0
        store.checkpoint()
        assert store._engine.atlas.settle(60)
        assert recall_of(store, queries[:500], 0.95) >= 0.95 - ALLOWED


def test_filters_keep_the_recall(data_folder: Path, tmp_path: Path) -> None:
    base, queries = unit(data_folder / "dialogue" / "base.npy"), unit(data_folder / "dialogue" / "queries.npy")
    with aeon.open(tmp_path / "store", base.shape[1], durability="off") as store:
        for at in range(0, len(base), 2000):
            part = base[at : at + 2000]
            sessions = [f"s{(at + n) // 600}" for n in range(len(part))]
            store.remember_many([""] * len(part), part, session=sessions)
        assert store._engine.atlas.settle(120)
        ask(store, queries[4000:5200])
        for count in (1, 5, 12, 30, 80):
            names = [f"s{n}" for n in range(count)]
            found = np.concatenate([store.atlas.search(q, 10, session=names)[1] for q in queries[:100]])
            exact = np.concatenate([store.atlas.search(q, 10, session=names, exact=True)[1] for q in queries[:100]])
            assert (found >= exact[:, -1:]).mean() >= 0.95 - 2 * ALLOWED, count  # 1,000 results: their own spread


def test_targets_hold_on_long_chats(data_folder: Path, tmp_path: Path) -> None:
    """LoCoMo is small: five conversations, repeated with noise until there is an index."""
    turns, questions = unit(data_folder / "locomo" / "turns.npy"), unit(data_folder / "locomo" / "questions.npy")
    rng = np.random.default_rng(3)
    noisy = np.concatenate([turns + np.float32(0.02) * rng.standard_normal(turns.shape, np.float32) for _ in range(4)])
    recalls: dict[float, list[float]] = {0.9: [], 0.95: [], 0.99: []}
    for n in range(4):  # pages are made at random, and what 500 questions find through them varies by 0.01
        with aeon.open(tmp_path / f"store {n}", turns.shape[1], durability="off") as store:
            fill(store, noisy)
            assert store._engine.atlas.settle(120)
            ask(store, np.concatenate([questions[500:], questions[500:], questions[500:]])[:1200])
            for target, found in recalls.items():
                found.append(recall_of(store, questions[:500], target))
    for target, found in recalls.items():
        assert np.mean(found) >= target - ALLOWED, (target, found)
