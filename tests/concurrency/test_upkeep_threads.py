"""Readers and a writer while generations are written and swapped: no read is torn, nothing is lost."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import upkeep
from aeon.format import EdgeKind
from aeon.graph import Graph
from tests import reads

DIM = 16
ROUNDS = int(os.environ.get("AEON_CHECKED_READS", "150"))


def vector(n: int) -> Any:
    return np.random.default_rng(n % 97).standard_normal(DIM).astype(np.float32)


@pytest.mark.parametrize("work_s", [0.0, upkeep._WORK_S])
def test_no_read_is_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work_s: float) -> None:
    """Each commit replaces a pair: a reader that sees one of a pair without the other has seen half a commit."""
    monkeypatch.setattr(upkeep, "_WORK_S", work_s)
    failures: list[BaseException] = []
    done = threading.Event()
    rules: dict[str, Any] = {"checkpoint_log_bytes": 0, "compact_share": 0, "keep_versions": False}
    with aeon.open(tmp_path / "a.aeon", DIM, durability="normal", **rules) as store:
        store.remember_many(["0", "0"], [vector(0)] * 2, keys=["a", "b"], session="s")
        store.remember_many([f"kept {n}" for n in range(200)], [vector(n) for n in range(200)], session="kept")

        def guarded(work: Any) -> Any:
            def run() -> None:
                try:
                    work()
                except BaseException as error:  # noqa: BLE001 - raised below
                    failures.append(error)
                    done.set()

            return run

        def write() -> None:
            n = 0
            while not done.is_set():
                n += 1
                time.sleep(0.001)
                store.remember_many([f"{n}"] * 2, [vector(n)] * 2, keys=["a", "b"], session="s")
                if n % 5 == 0:
                    store.forget([memory.id for memory in store.memories(session="gone")])
                    store.remember("gone soon", vector(n), session="gone")

        def compact() -> None:
            while not done.is_set():
                store.compact()
                store.checkpoint()

        def read() -> None:
            low = 0
            for _ in range(ROUNDS):
                with store.pin() as pin:
                    pair = pin.history("s", None)
                    assert len(pair) == 2 and pair[0].text == pair[1].text, pair
                    assert int(pair[0].text) >= low, "time goes forward"
                    low = int(pair[0].text)
                    ids, _ = pin.atlas.search(vector(low), 2, session="s")
                    assert sorted(ids[0].tolist()) == sorted(memory.id for memory in pair)
                if done.is_set():
                    return

        def count() -> None:
            while not done.is_set():
                assert sum(1 for _ in store.memories(session="kept")) == 200

        readers = [threading.Thread(target=guarded(read)) for _ in range(2)]
        others = [threading.Thread(target=guarded(work)) for work in (write, compact, count)]
        for thread in (*readers, *others):
            thread.start()
        for thread in readers:
            thread.join()
        while store._engine.manifest.generation < 2 and not failures:  # a busy machine compacts late
            time.sleep(0.001)
        done.set()
        for thread in others:
            thread.join()
        if failures:
            raise failures[0]
        assert store._engine.manifest.generation >= 2 and store.check().ok
        expected = [(memory.id, memory.text) for memory in store.memories()]
    with aeon.open(tmp_path / "a.aeon") as again:
        assert [(memory.id, memory.text) for memory in again.memories()] == expected


def test_no_read_through_a_pin_is_torn_while_generations_are_swapped(tmp_path: Path, switch_often: None) -> None:
    assert reads.run(str(tmp_path), 20_000, 15) == ""


def test_the_index_goes_along(tmp_path: Path) -> None:
    """After a swap pages serve at once: those of the frozen index with new numbers, and what came since."""
    from aeon_native import dispatch

    dispatch.start()
    if not dispatch.wait(120):
        pytest.skip("no compiled kernels here")
    rows = np.random.default_rng(0).standard_normal((12_000, DIM)).astype(np.float32)
    with aeon.open(tmp_path / "a.aeon", DIM, durability="off", checkpoint_log_bytes=0, compact_share=0) as store:
        ids = store.remember_many([""] * 12_000, rows)
        assert store.atlas.settle(60)
        store.forget(ids[::4])
        store.remember_many([""] * 500, rows[:500])
        for generation in (store.compact, store.checkpoint, store.compact):
            store.remember_many([""] * 100, rows[500:600])
            generation()
            index = store._engine.atlas.index
            assert index is not None and index.verify() == [] and store._engine.atlas.pages_error == ""
            found, _ = store.atlas.search(rows[1::500], 10)
            exact, _ = store.atlas.search(rows[1::500], 10, exact=True)
            same = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True))
            assert same > 0.8 * exact.size
        assert store.check().ok


class Garbage:
    """Something for the collector to find, with a finalizer that lets other threads run."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        time.sleep(1e-5)


def test_tables_of_the_graph_are_copied_while_it_grows() -> None:
    """A copy that makes objects may be interrupted: by the collector, and by the writer while that is at work."""
    graph = Graph({}, lambda: (np.empty(0, np.uint64), np.empty(0, np.uint64)))
    done, count = threading.Event(), 0

    def grow() -> None:
        nonlocal count
        while not done.is_set() and count < 20_000:
            count += 1
            graph.add_born(count, count + 1, EdgeKind.REF)
            graph.link(count, count + 2, EdgeKind.REF, count)
            graph.archive(count, 0, count)

    threshold = gc.get_threshold()
    writer = threading.Thread(target=grow)
    gc.set_threshold(100)
    try:
        writer.start()
        for _ in range(25):
            for table in (graph.all_edges, graph.all_links, graph.all_reverse, graph.all_archived):
                for _ in range(5):
                    Garbage()
                table(1 << 40)
    finally:
        gc.set_threshold(*threshold)
        done.set()
        writer.join()
    assert len(graph.all_edges()) == len(graph.all_links()) == len(graph.all_archived()) == count
    assert len(graph.all_reverse()) == 2 * count
