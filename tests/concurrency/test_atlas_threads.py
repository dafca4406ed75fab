"""One writer and many readers of the page index: what was acknowledged is found, nothing twice, nothing that is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aeon import atlas as atlas_module
from aeon.store import Store

DIM = 24


@pytest.fixture(autouse=True)
def small_index(monkeypatch: pytest.MonkeyPatch, compiled_kernels: None) -> None:
    """Splits, merges and reuse of memory within some thousand rows."""
    monkeypatch.setattr(atlas_module, "INDEX_FROM_ROWS", 1000)


def direction(number: int) -> Any:
    vector = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    centre = np.random.default_rng(number % 31 + 10_000_000).standard_normal(DIM).astype(np.float32)
    vector = centre + np.float32(0.7) * vector
    return vector / np.linalg.norm(vector)


def test_readers_find_what_was_acknowledged_while_pages_change(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM, checkpoint_log_bytes=0)
    store.remember_many(["old"] * 2000, np.stack([direction(n) for n in range(2000)]))
    assert store._engine.atlas.settle(60)
    done, gone, buried = [2000], [0], [0]  # remembered; not expected any more; forgotten
    stop = threading.Event()
    failures: list[str] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set() and not failures:
            lost_before, acknowledged = buried[0], done[0]
            number = int(rng.integers(gone[0], acknowledged))
            hits = store.recall(direction(number), 10, recall_target=0.999)
            ids = [hit.id for hit in hits]
            if len(hits) != 10 or len(set(ids)) != 10:
                failures.append(f"{len(hits)} hits, {len(set(ids))} different, for {number}")
            if ids[0] != number + 1 and gone[0] <= number:
                failures.append(f"memory {number} was not found: {ids[:3]}, scores {[hit.score for hit in hits[:3]]}")
            if any(id_ <= lost_before for id_ in ids):
                failures.append(f"a forgotten memory was found: {ids}")

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    try:
        for at in range(2000, 8000, 40):
            store.remember_many(["new"] * 40, np.stack([direction(n) for n in range(at, at + 40)]))
            done[0] = at + 40
            if at % 400 == 0:
                first = gone[0]
                gone[0] = first + 200  # readers stop expecting them before they go
                store.forget(list(range(first + 1, first + 201)))
                buried[0] = first + 200
            if at % 2000 == 0:
                store.checkpoint()
            if failures:
                break
    finally:
        stop.set()
        for reader in readers:
            reader.join(60)
    assert failures == []
    atlas = store._engine.atlas
    assert atlas.settle(60) and atlas.index is not None and atlas.index.verify() == [] and not atlas.index_error
