"""The Atlas with its index, through a store: the index comes by itself, follows every commit, and outlives checkpoints."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import aeon
from aeon import atlas as atlas_module
from aeon import probing
from aeon.background import Background
from aeon.format import FileKind
from aeon.pages import PageIndex
from aeon.probing import UNMEASURED
from aeon.store import Store
from aeon_native import dispatch

DIM = 24
BEHIND = 256  # rows that may be in no page yet: 64 that go there together, and what was left for splits


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch, compiled_kernels: None) -> None:
    """An index from a thousand rows on, and fewer rows that are scored one by one."""
    monkeypatch.setattr(atlas_module, "INDEX_FROM_ROWS", 1000)
    monkeypatch.setattr(atlas_module, "_GATHER_ROWS", 100)


def clustered(count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    vectors = np.random.default_rng(99).standard_normal((60, DIM))[rng.integers(0, 60, count)]
    vectors = vectors + 0.5 * rng.standard_normal((count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fill(store: Store, vectors: NDArray[np.float32], step: int = 250, **options: Any) -> list[int]:
    ids: list[int] = []
    for at in range(0, len(vectors), step):
        part = vectors[at : at + step]
        ids += store.remember_many([f"memory {at + n}" for n in range(len(part))], part, **options)
    return ids


def settled(store: Store) -> Any:
    atlas = store._engine.atlas
    assert atlas.settle(60), (atlas._maker.error, atlas.index_error)
    return atlas


def recall_of(store: Store, queries: NDArray[np.float32], k: int = 10, **options: Any) -> float:
    """Share of the exact results that are found, equal scores counting as equal."""
    found, exact = (
        store.atlas.search(queries, k, **options)[1],
        store.atlas.search(queries, k, exact=True, **options)[1],
    )
    return float((found >= exact[:, -1:]).mean())


@pytest.fixture
def filled(open_store: Callable[..., Store]) -> Store:
    store = open_store(DIM)
    fill(store, clustered(4000))
    settled(store)
    return store


def test_the_index_comes_by_itself_and_small_stores_have_none(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    fill(store, clustered(900))
    assert not store._engine.atlas.settle(60) and store._engine.atlas.index is None
    fill(store, clustered(2000, 1))
    atlas = settled(store)
    assert atlas.curve.rows and atlas.index.verify() == [] and atlas.index.rows > 2800
    assert recall_of(store, clustered(100, 7)) >= 0.93


def test_an_index_that_grew_by_splits_is_made_anew_while_it_is_asked(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    fill(store, clustered(1500))
    atlas = settled(store)
    grown = atlas.index
    fill(store, clustered(2500, 1))
    assert atlas.settle(60) and atlas.index is grown and grown.rows > 2 * grown.built
    for n, query in enumerate(clustered(2000, 4)):
        store.atlas.search(query)
        if n % 100 == 0:
            id_ = store.remember(f"meanwhile {n}", query)
            assert store.atlas.search(query, 1)[0].item() == id_
        atlas._maker.wait(60)
    assert atlas.index is not grown and atlas.index.built >= 4000 and not atlas._maker.error
    assert atlas.index.verify() == [] and atlas.codes.count - atlas.index.rows < BEHIND
    assert recall_of(store, clustered(300, 11)) >= 0.93


def test_what_a_filtered_search_costs_falls_with_the_rows_allowed(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: rows whose sketch or code is looked at. Few allowed rows are scored one by one; of many, pages."""
    atlas, view = filled._engine.atlas, filled._view()
    order = np.random.default_rng(5).permutation(view.rows)
    listed: list[int] = []
    kernels = dispatch.kernels

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(kernels, name)

        def search_rows(self, *arguments: Any) -> int:
            listed.append(len(arguments[2]))
            return kernels.search_rows(*arguments)

    monkeypatch.setattr(dispatch, "kernels", Counting())
    queries, costs = clustered(20, 6), {}
    for count in (view.rows, 2000, 1000, 400, 240, 100, 30, 10, 1):
        among = np.sort(order[:count])
        listed.clear()
        atlas.search_many(clustered(1), 10, rows=view.rows, lsn=view.lsn)  # this thread's counters are there
        before = atlas._local.stats.copy()
        for query in queries:
            atlas.search(query, 10, rows=view.rows, lsn=view.lsn, among=among)
        _, blocks, scored = (atlas._local.stats - before).tolist()
        costs[count] = (32 * blocks + scored + sum(listed)) / len(queries)
    assert [costs[count] for count in (100, 30, 10, 1)] == [100, 30, 10, 1]
    assert costs[240] == 240  # less than a sixteenth: nearly every page would be looked at
    assert max(costs.values()) <= 1.5 * view.rows  # every sketch, padding included, and few rows behind them


def test_rows_allowed_are_made_a_bitmap_once(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    bitmap = atlas_module._bitmap
    monkeypatch.setattr(atlas_module, "_bitmap", lambda rows, stop: made.append(stop) or bitmap(rows, stop))
    since = filled.get(2001).timestamp
    for query in clustered(10, 6):
        found, _ = filled.atlas.search(query, since=since)
        exact, _ = filled.atlas.search(query, since=since, exact=True)
        assert (found > 2000).all() and len(set(found[0]) & set(exact[0])) >= 7
    assert made == [4000]
    new = filled.remember("new", clustered(1, 6)[0])
    assert filled.atlas.search(clustered(1, 6)[0], 1, since=since)[0].item() == new and made == [4000, 4001]


def test_each_memory_is_found_at_once_after_its_commit(filled: Store) -> None:
    for n, vector in enumerate(clustered(700, 3)):
        id_ = filled.remember(f"new {n}", vector)
        assert filled.recall(vector, 1)[0].id == id_
    atlas = filled._engine.atlas
    assert atlas.index is not None and atlas.index.verify() == [] and atlas.codes.count - atlas.index.rows < BEHIND


def test_one_commit_waits_for_two_splits_at_most(filled: Store) -> None:
    """Of a batch that fills many pages at once the rest goes into pages later, and is found meanwhile."""
    atlas = filled._engine.atlas
    splits, left = [], 0
    for vector in clustered(6000, 12):
        before = atlas.index.counters.splits
        id_ = filled.remember("", vector)
        splits.append(atlas.index.counters.splits - before)
        if splits[-1] == 2:
            left = max(left, atlas.codes.count - atlas.index.rows)
            assert filled.recall(vector, 1)[0].id == id_
    assert max(splits) == 2 and 0 < left < BEHIND and atlas.index.verify() == []


def test_exact_is_a_scan_of_everything(filled: Store) -> None:
    queries = clustered(50, 5)
    ids, scores = filled.atlas.search(queries, 10, exact=True)
    vectors = np.stack([filled.get(id_).vector for id_ in range(1, 4001)])
    expected = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :10]
    assert np.allclose(scores, expected, atol=1e-3)
    assert [hit.id for hit in filled.recall(queries[0], 10, exact=True)] == ids[0].tolist()


def test_results_are_in_the_order_of_a_scan(filled: Store) -> None:
    ids, scores = filled.atlas.search(clustered(50, 5), 30)
    assert (np.diff(scores, axis=1) <= 0).all()
    ties = np.diff(scores, axis=1) == 0
    assert (np.diff(ids.astype(np.int64), axis=1)[ties] > 0).all()


@pytest.mark.parametrize("target", (0.8, 0.9, 0.95, 0.99, 0.999))
def test_recall_targets_hold(filled: Store, target: float) -> None:
    assert recall_of(filled, clustered(300, 11), recall_target=target) >= target - 0.02


def test_recall_targets_that_are_none(filled: Store) -> None:
    for target in (0.5, 1.0, "high", True, float("nan")):
        with pytest.raises(aeon.InvalidInputError):
            filled.recall(clustered(1)[0], recall_target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", (1, 10, 100, 999, 3000, 9999))
def test_never_fewer_than_there_are(filled: Store, k: int) -> None:
    for query in clustered(5, 13):
        for target in (0.8, 0.95):
            assert len(filled.recall(query, k, recall_target=target)) == min(k, 4000)


@pytest.mark.parametrize("share", (1 / 4000, 0.02, 0.1, 0.5, 1.0))
def test_filters_of_any_share(open_store: Callable[..., Store], share: float) -> None:
    store = open_store(DIM)
    vectors = clustered(4000)
    chosen = np.random.default_rng(5).random(4000) < share
    chosen[17] = True
    for at in range(0, 4000, 500):
        part = range(at, at + 500)
        sessions = ["yes" if chosen[n] else "no" for n in part]
        store.remember_many([f"m{n}" for n in part], vectors[at : at + 500], session=sessions)
    settled(store)
    assert recall_of(store, clustered(100, 7), session="yes") >= 0.9 or chosen.sum() < 10
    for query in clustered(10, 8):
        hits = store.recall(query, 10, session="yes")
        assert len(hits) == min(10, chosen.sum()) and {hit.session for hit in hits} == {"yes"}


def test_a_filter_on_metadata_gets_its_k(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    vectors = clustered(3000)
    store.remember_many([f"m{n}" for n in range(3000)], vectors, metadata=[{"n": n} for n in range(3000)])
    settled(store)
    for query in clustered(5, 8):
        hits = store.recall(query, 10, where={"n": {"$gte": 2985}})
        assert len(hits) == 10 and all(hit.metadata["n"] >= 2985 for hit in hits)


def test_deletes_and_upserts_leave_search_at_once(filled: Store) -> None:
    vectors = clustered(4000)
    rng = np.random.default_rng(1)
    gone = rng.permutation(4000)[:2000] + 1
    for at in range(0, 2000, 100):
        filled.forget(gone[at : at + 100].tolist())
    new = fill(filled, clustered(1200, 21), step=100, keys=[f"k{n}" for n in range(100)])
    found = {hit.id for query in vectors[::40] for hit in filled.recall(query, 20)}
    assert not found & set(gone.tolist()) and not found & set(new[:-100])
    assert len(filled.recall(vectors[0], 5000)) == 2100
    atlas = filled._engine.atlas
    assert atlas.index is not None and atlas.index.verify() == [] and not atlas.index_error
    assert recall_of(filled, clustered(200, 7)) >= 0.92


def test_old_views_see_what_they_saw(filled: Store) -> None:
    view = filled._view()
    query = clustered(1, 3)[0]
    before = view.engine.atlas.search(query, 10, rows=view.rows, lsn=view.lsn, recall_target=0.999)[0].tolist()
    fill(filled, np.repeat(query[None], 300, axis=0))
    assert view.engine.atlas.search(query, 10, rows=view.rows, lsn=view.lsn, recall_target=0.999)[0].tolist() == before


def test_a_checkpoint_keeps_the_index(filled: Store, open_store: Callable[..., Store]) -> None:
    filled.forget(list(range(3000, 3500)))
    fill(filled, clustered(500, 2), step=50)
    pages, curve = filled._engine.atlas.index.snapshot.pages, filled._engine.atlas.curve
    filled.checkpoint()
    assert FileKind.PAGES in filled._engine.manifest.files
    atlas = settled(filled)
    assert atlas.check_pages() == [] and atlas.index.verify() == []
    assert abs(atlas.index.snapshot.pages - pages) <= 40 and atlas.curve.rows == curve.rows
    assert atlas.curve.spreads == pytest.approx(curve.spreads) and min(curve.spreads) == 0.0
    assert recall_of(filled, clustered(100, 7)) >= 0.93
    more = fill(filled, clustered(600, 4), step=30)
    assert filled.recall(clustered(600, 4)[77], 1)[0].id == more[77]
    assert atlas.index.verify() == []
    filled.close()
    again = open_store(DIM)
    atlas = settled(again)
    assert atlas.index.verify() == [] and not atlas.pages_error
    assert again.recall(clustered(600, 4)[77], 1)[0].id == more[77]
    again.checkpoint()
    assert settled(again).check_pages() == []


def test_a_checkpoint_hands_the_index_over_unless_rows_were_renumbered(filled: Store) -> None:
    """Decision 16. Rows that were forgotten before any generation held them are left out, and the others move up."""
    queries = clustered(100, 7)
    for forgotten in (False, True):
        new = fill(filled, clustered(700, 5 + forgotten), step=70)
        if forgotten:
            filled.forget(new[100:400])
        view, frames = filled._view(), filled._engine.atlas.index._frames
        before = [hit.id for query in queries for hit in filled.recall(query, 10, recall_target=0.999)]
        filled.checkpoint()
        atlas = filled._engine.atlas
        assert atlas.index is not None and (atlas.index._frames is frames) == (not forgotten)
        assert atlas.curve.rows and atlas.index.verify() == [] and atlas.check_pages() == []
        assert atlas.index.rows <= atlas.codes.count < atlas.index.rows + BEHIND
        found = [hit.id for query in queries for hit in filled.recall(query, 10, recall_target=0.999)]
        assert len(set(found) & set(before)) >= 0.99 * len(set(before))
        later = fill(filled, clustered(2000, 9), step=200)  # the pages go on being split
        old = view.engine.atlas
        assert old.index is not None and old.index is not atlas.index
        for n, query in enumerate(queries[:20]):  # who holds the view before finds what it held, by its own index
            ids, _ = old.search_ids(query[None], 10, rows=view.rows, lsn=view.lsn, recall_target=0.999)
            assert len(set(ids[0].tolist()) & set(before[10 * n : 10 * n + 10])) >= 9
            assert not set(ids[0].tolist()) & set(later)
        assert atlas.index.verify() == []


@pytest.mark.parametrize("renumbered", [False, True])
def test_an_index_that_is_being_made_goes_along_to_the_next_generation(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, renumbered: bool
) -> None:
    """Or a store that is filled as fast as it takes rows would have its first index when the last row has come."""
    store = open_store(DIM)
    ids = fill(store, clustered(1700), step=1700)
    build, begun, go_on, made = PageIndex.build, threading.Event(), threading.Event(), []

    def build_slowly(index: PageIndex, rows: int, **options: Any) -> bool:
        begun.set()
        assert go_on.wait(60)
        made.append(rows)
        return build(index, rows, **options)

    monkeypatch.setattr(PageIndex, "build", build_slowly)
    store._engine.atlas.start_index()
    assert begun.wait(60)
    if renumbered:
        store.forget(ids[:500])
    for part in (1, 2):
        before = weakref.ref(store._engine)
        fill(store, clustered(500, part), step=100)
        store.checkpoint()
        # What is being made does not keep the rows of a generation that is gone, unless it cannot go on with others.
        assert before() is None or (renumbered and part == 1)
    go_on.set()
    atlas = settled(store)
    assert len(made) == 1 + renumbered  # not once for each generation
    assert atlas.codes.count == 2700 - 500 * renumbered and atlas.codes.count - atlas.index.rows < BEHIND
    assert atlas.index.verify() == [] and atlas.curve.rows and not atlas._maker.error
    assert recall_of(store, clustered(50, 7)) >= 0.93


def test_an_index_that_is_no_longer_wanted_is_given_up_quietly(filled: Store, open_store: Callable[..., Store]) -> None:
    """A store that is closed while a compaction takes up its pages: an error there would poison the log."""
    filled.checkpoint()
    filled.close()
    atlas = open_store(DIM)._engine.atlas
    atlas.serve(lambda: True)
    assert atlas.index is None
    atlas.serve(lambda: False)
    assert atlas.index is not None and atlas.index.verify() == []


def test_what_failed_is_tried_again_in_the_next_generation(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(DIM)
    fill(store, clustered(1700), step=1700)
    with monkeypatch.context() as patch:
        patch.setattr(PageIndex, "build", lambda *_, **__: 1 / 0)
        assert not store._engine.atlas.settle(60) and "ZeroDivisionError" in store._engine.atlas._maker.error
    assert not store._engine.atlas.settle(60), "not again and again"
    store.checkpoint()
    assert settled(store).index.verify() == []


def test_a_measurement_goes_along_to_the_next_generation(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, begun, go_on = probing.measure, threading.Event(), threading.Event()

    def measure_slowly(queries: Any, search: Any, exact: Any, *others: Any, **options: Any) -> Any:
        def wait_once(query: Any, k: int) -> Any:
            found = exact(query, k)
            begun.set()
            assert go_on.wait(60)
            return found

        return measure(queries, search, wait_once, *others, **options)

    monkeypatch.setattr(probing, "measure", measure_slowly)
    atlas, curve = filled._engine.atlas, filled._engine.atlas.curve
    atlas._maker.start(atlas._maker.measure, "aeon-index")
    assert begun.wait(60)
    del atlas
    before = weakref.ref(filled._engine)
    fill(filled, clustered(500, 3), step=100)
    filled.checkpoint()
    assert before() is None and filled._engine.atlas.curve is curve
    go_on.set()
    assert filled._engine.atlas._maker.wait(60)
    assert filled._engine.atlas.curve is not curve and not filled._engine.atlas._maker.error


def test_an_index_serves_while_a_store_is_filled_faster_than_it_follows(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is let in while it is behind, and brought nearer though nobody writes any more."""
    store = open_store(DIM)
    fill(store, clustered(1700), step=1700)
    atlas = store._engine.atlas
    insert, build = PageIndex.insert, PageIndex.build
    behind: list[int] = []

    def insert_slowly(index: PageIndex, first: int, stop: int, splits: float = math.inf) -> None:
        if atlas.index is None:
            fill(store, clustered(512, first), step=512)  # twice as many come meanwhile
        else:
            behind.append(atlas.codes.count - atlas.index.rows)
        insert(index, first, stop, splits)

    def build_few(index: PageIndex, rows: int, **options: Any) -> bool:
        return build(index, 1100, **options)

    monkeypatch.setattr(PageIndex, "insert", insert_slowly)
    monkeypatch.setattr(PageIndex, "build", build_few)
    atlas.start_index()
    assert atlas._maker.wait(60)
    assert behind[0] > 1000 and behind[-1] < BEHIND + 64 and atlas.codes.count - atlas.index.rows < BEHIND
    assert recall_of(store, clustered(50, 7)) >= 0.93 and atlas.index.verify() == []


def test_an_index_that_falls_behind_is_brought_nearer(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By commits, none of which waits for more than four splits, and by the thread that makes indexes when they have ended."""
    atlas, insert, limits = filled._engine.atlas, PageIndex.insert, []

    def noted(index: PageIndex, first: int, stop: int, splits: float = math.inf) -> None:
        limits.append(splits)
        insert(index, first, stop, splits)

    with monkeypatch.context() as patch:
        patch.setattr(atlas, "_fill", lambda *_: None)
        fill(filled, clustered(1500, 8), step=100)
        assert atlas.codes.count - atlas.index.rows > 1000
    monkeypatch.setattr(PageIndex, "insert", noted)
    fill(filled, clustered(64, 9), step=1)
    assert atlas._maker.wait(60)
    assert atlas.codes.count - atlas.index.rows < BEHIND and atlas.index.verify() == [] and max(limits) <= 4


def test_a_view_of_an_older_generation_has_nothing_made(open_store: Callable[..., Store]) -> None:
    """Each search of it would begin a thread, or measure the index of the generation that serves again and again."""
    store = open_store(DIM)
    fill(store, clustered(990), step=990)
    view = store._view()
    fill(store, clustered(800, 1), step=100)
    store.checkpoint()
    settled(store)
    old, begun = view.engine.atlas, []
    old._maker.start = lambda *_: begun.append(1)  # type: ignore[method-assign]
    for query in clustered(300, 7):
        old.search(query, 10, rows=view.rows, lsn=view.lsn)
    old.start_index()
    assert old._maker is store._engine.atlas._maker and begun == []


def test_a_curve_is_measured_anew_while_a_store_grows_though_nobody_asks(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    for part in range(9):
        fill(store, clustered(1000, part))
        store._engine.atlas._maker.wait(60)
    curve = store._engine.atlas.curve
    assert not curve.real and curve.rows > 8100


def test_a_store_whose_memories_are_replaced_is_not_measured_again_and_again(filled: Store) -> None:
    """Beside a writer and a compaction a measurement takes as long as both, and made a compaction take twice as long."""
    atlas, measured = filled._engine.atlas, filled._engine.atlas.curve
    vectors = clustered(4000, 3)
    for at in range(0, 4000, 250):
        with filled.transaction():
            for n in range(at, at + 250):
                filled.remember("again", vectors[n], key=str(n % 100))
    assert atlas.codes.count > 1.5 * measured.rows
    atlas.start_index()
    assert atlas.settle(60) and atlas.curve is measured


def test_damaged_or_missing_pages_are_made_anew(filled: Store, open_store: Callable[..., Store], path: Any) -> None:
    filled.checkpoint()
    entry = filled._engine.manifest.files[FileKind.PAGES]
    filled.close()
    file = path / entry.path
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    store = aeon.open(path, DIM)
    atlas = settled(store)
    assert "checksum" in atlas.pages_error and atlas.check_pages() == [atlas.pages_error]
    assert atlas.index.verify() == [] and recall_of(store, clustered(50, 7)) >= 0.9
    store.close()


def test_a_damaged_row_is_never_a_result(filled: Store, path: Any) -> None:
    filled.checkpoint()
    manifest, vectors = filled._engine.manifest, clustered(4000)
    filled.close()
    file = path / manifest.files[FileKind.CODES].path
    raw = bytearray(file.read_bytes())
    raw[4096 + 123 * 64 + 5] ^= 0x01
    file.write_bytes(raw)
    store = aeon.open(path, DIM)
    atlas = store._engine.atlas
    index = atlas.load_index()
    assert index is not None
    atlas._index = index
    with pytest.raises(aeon.CorruptionError, match="row 123"):
        store.recall(vectors[123], 1)
    store.close()


def test_float32_rows_have_an_index_too(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM, rows="float32")
    fill(store, clustered(3000))
    assert settled(store).index.verify() == []
    assert recall_of(store, clustered(100, 7)) >= 0.93
    found = store.recall(clustered(3000)[5], 1)[0]
    assert found.id == 6 and abs(found.score - 1) < 1e-6


def test_many_queries_are_shared_between_threads(filled: Store) -> None:
    queries = clustered(200, 9)
    ids, scores = filled.atlas.search(queries, 10)
    for n in (0, 1, 57, 199):
        one_ids, one_scores = filled.atlas.search(queries[n], 10)
        assert np.array_equal(one_ids[0], ids[n]) and np.array_equal(one_scores[0], scores[n])


def test_a_query_without_direction_is_refused(filled: Store) -> None:
    for bad in (np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, np.inf)):
        with pytest.raises(aeon.InvalidInputError):
            filled.recall(bad.astype(np.float32))


def test_an_index_that_fails_is_given_up_and_scans_serve(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = filled._engine.atlas
    monkeypatch.setattr(atlas.index, "insert", lambda *_: 1 / 0)
    fill(filled, clustered(200, 3))
    assert atlas.index is None and "ZeroDivisionError" in atlas.index_error
    assert filled.recall(clustered(200, 3)[150], 1)[0].id == 4151


def test_real_queries_take_over_the_calibration(filled: Store) -> None:
    atlas = filled._engine.atlas
    assert not atlas.curve.real
    for query in clustered(1100, 17):
        filled.recall(query, 10)
    atlas._maker.wait(60)
    assert atlas.curve.real and atlas.curve is not UNMEASURED


def test_background_work_one_at_a_time_and_errors_are_kept() -> None:
    background = Background()
    assert background.start(lambda stopping: 1 / 0, "failing")  # type: ignore[arg-type, return-value]
    assert background.wait(10) and "ZeroDivisionError" in background.error

    def until_stopped(stopping: Callable[[], bool]) -> None:
        while not stopping():
            pass

    assert background.start(until_stopped, "waiting") and background.busy
    assert not background.start(until_stopped, "second")
    background.stop()
    assert background.wait(10) and background.error == "" and not background.start(until_stopped, "late")


def test_threads_that_ask_first_share_the_deaths(open_store: Callable[..., Store]) -> None:
    """Each with a table of its own, a row that one thread added would have no place in the other's."""
    store = open_store(DIM)
    fill(store, clustered(2000))
    store.checkpoint()
    atlas = store._engine.atlas
    file, seen = atlas._files[FileKind.ROW_DEATHS], []
    content, ready = file.content, threading.Barrier(4)

    class Slow:
        def content(self) -> Any:
            time.sleep(0.02)
            return content()

    fresh = atlas_module.Atlas({**atlas._files, FileKind.ROW_DEATHS: Slow()}, DIM, "int8")  # type: ignore[dict-item]

    def ask() -> None:
        ready.wait()
        seen.append(fresh.deaths)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(column) for column in seen}) == 1


def test_a_reopened_store_ends_up_verified(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    fill(store, clustered(6000))
    settled(store)
    store.checkpoint()
    store.close()
    store = open_store(DIM)
    atlas = settled(store)
    assert not atlas._all_verified
    query = clustered(1, 3)
    first = store.atlas.search(query)
    for _ in range(16 * 3):
        store.atlas.search(query)
    assert atlas._all_verified
    assert all(np.array_equal(x, y) for x, y in zip(first, store.atlas.search(query), strict=True))
