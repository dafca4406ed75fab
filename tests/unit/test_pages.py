"""The page index alone, over rows in memory: inserts, splits, deaths, duplicates, building, the pages file."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aeon import page_building as building_module
from aeon import pages as pages_module
from aeon.format import CURVE_POINT, PAGES_HEADER
from aeon.page_building import GROUP_ROWS, PAGE_ROWS, kmeans
from aeon.page_file import decode_pages, encode_pages
from aeon.pages import PageIndex, rotation_signs
from aeon.probing import UNMEASURED, Curve
from aeon_native import dispatch
from aeon_native.page_layout import padded_dim, scratch_bytes

SEED = b"0123456789abcdef"


@pytest.fixture(autouse=True)
def compiled(compiled_kernels: None) -> None:
    """Pages are only ever made by compiled kernels; their twins would take minutes here."""


class RowsInMemory:
    """What `PageIndex` asks of the Atlas."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        n, dim = vectors.shape
        self.codes, self.scales = np.zeros((n, padded_dim(dim)), np.int8), np.zeros(n, np.float32)
        assert dispatch.kernels.quantize(np.ascontiguousarray(vectors, np.float32), self.codes, self.scales) == -1
        self.died = np.zeros(n, np.uint64)
        self.nothing = np.zeros(1, np.uint64)

    def row_fields(self) -> tuple[dict[str, int], tuple[Any, ...]]:
        nothing = self.nothing.ctypes.data
        return {
            "row_bytes": self.codes.shape[1], "row_int8": 1, "base_count": len(self.codes),
            "row_base": self.codes.ctypes.data, "row_chunks": nothing, "death_base": self.died.ctypes.data,
            "death_chunks": nothing, "chunk_shift": 12, "reach": len(self.codes), "record_base": 0, "record_chunks": 0,
        }, (self.codes, self.died, self.nothing)  # fmt: skip

    def unit_rows(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scales = self.scales[rows]
        return self.codes[rows].astype(np.float32) * scales[:, None], scales

    def dead(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.died[rows] != 0


def directions(count: int, dim: int, seed: int = 0, clusters: int = 40) -> NDArray[np.float32]:
    """Clustered vectors, float32[count, dim]."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dim))
    vectors = centres[rng.integers(0, clusters, count)] + 0.6 * rng.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make(vectors: NDArray[np.float32], rows: int | None = None, step: int = 50) -> tuple[PageIndex, RowsInMemory]:
    source = RowsInMemory(vectors)
    index = PageIndex(source, vectors.shape[1], SEED)
    stop = len(vectors) if rows is None else rows
    for first in range(0, stop, step):
        index.insert(first, min(first + step, stop))
    return index, source


def find(
    index: PageIndex, query: NDArray[np.float32], k: int, probes: int = 1 << 20, snapshot: Any = None
) -> list[int]:
    snapshot = snapshot or index.snapshot
    scores, rows, counts = np.empty((1, k), np.float32), np.empty((1, k), np.int64), np.zeros(1, np.int64)
    none, scratch, stats = np.empty(0, np.uint8), np.empty(scratch_bytes(index.dim), np.uint8), np.zeros(3, np.int64)
    probes, beam = min(probes, max(1, snapshot.pages)), max(1, snapshot.groups)
    dispatch.kernels.search_pages(
        snapshot.ctx,
        query[None],
        snapshot.rows,
        (1 << 63) - 1,
        probes,
        beam,
        9.0,
        np.inf,
        none,
        scratch,
        scores,
        rows,
        counts,
        stats,
    )
    return rows[0, : counts[0]].tolist()


@pytest.mark.parametrize("dim", (1, 2, 30, 64, 384, 1000))
def test_every_row_is_in_one_page_at_once_and_finds_itself(dim: int) -> None:
    vectors = directions(1500, dim)
    index, _ = make(vectors)
    assert index.verify() == []
    assert sorted(find(index, vectors[0], 2000)) == list(range(1500))
    if dim > 2:
        for row in range(0, 1500, 97):
            assert find(index, vectors[row], 1, probes=8) == [row]


def test_one_row_and_none() -> None:
    index, _ = make(directions(1, 16))
    assert index.verify() == [] and find(index, directions(1, 16)[0], 3) == [0]
    index, _ = make(directions(5, 16), rows=0)
    assert index.snapshot.pages == 0 and find(index, directions(1, 16)[0], 3) == []


@pytest.mark.parametrize("build", (False, True))
def test_thousands_of_equal_rows_stay_findable(build: bool) -> None:
    vectors = directions(6000, 48)
    vectors[500:5500] = vectors[500]
    index, source = make(vectors, 0 if build else None)
    if build:
        assert index.build(6000)
    assert index.verify() == []
    assert sorted(find(index, vectors[500], 5000)) == list(range(500, 5500))
    assert index.sizes().max() >= 4000  # a page that cannot be split grows
    for row in (0, 250, 5999):
        assert find(index, vectors[row], 1, probes=6) == [row]
    assert source is not None


def test_a_page_of_equal_rows_ends_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pages_module, building_module):
        monkeypatch.setattr(module, "PAGE_BLOCKS_MAX", 8)
    vectors = np.repeat(directions(1, 32), 2000, axis=0)
    for build in (False, True):
        index, _ = make(vectors, 0 if build else None)
        if build:
            assert index.build(2000)
        assert index.verify() == [] and index.sizes().max() <= 256
        assert sorted(find(index, vectors[0], 2000)) == list(range(2000))


def test_pages_and_groups_split_and_keep_their_bounds() -> None:
    vectors = directions(30_000, 24, clusters=300)
    index, _ = make(vectors, step=200)
    assert index.verify() == []
    assert index.counters.splits > 150 and index.counters.group_splits > 1 and index.counters.moved_rows > 0
    sizes = index.sizes()  # half a page may take in as many rows of its neighbours: it is split when it is full
    assert sizes.max() <= 2 * PAGE_ROWS and np.mean(sizes <= PAGE_ROWS) > 0.98 and index.snapshot.groups > 1
    assert index._groups.counts.max() <= GROUP_ROWS


def test_a_drifting_store_needs_no_rebuild() -> None:
    """First half one topic, second half another: recall on both holds."""
    first, second = directions(4000, 64, seed=1, clusters=20), directions(4000, 64, seed=2, clusters=20)
    vectors = np.concatenate([first, second])
    index, source = make(vectors, step=64)
    assert index.verify() == []
    hits = 0
    queries = directions(60, 64, seed=1, clusters=20)[:30], directions(60, 64, seed=2, clusters=20)[:30]
    stored = source.unit_rows(np.arange(8000))[0]
    for query in np.concatenate(queries):
        padded = np.pad(query, (0, stored.shape[1] - 64))
        best = set(np.argsort(-(stored @ padded))[:10].tolist())
        hits += len(best & set(find(index, query, 10, probes=24)))
    assert hits >= 0.9 * 600


def test_deaths_empty_pages_and_keep_the_rest() -> None:
    vectors = directions(6000, 32)
    index, source = make(vectors)
    before = index.snapshot.pages
    rng = np.random.default_rng(0)
    for row in rng.permutation(6000)[:5400].tolist():
        source.died[row] = 7
        index.note_death()
    alive = np.flatnonzero(source.died == 0)
    assert index.verify() == []
    assert sorted(find(index, vectors[0], 6000)) == alive.tolist()
    assert index.snapshot.pages < before / 2
    assert index.counters.dissolved and index.counters.rewritten
    for row in np.flatnonzero(source.died == 0).tolist():
        source.died[row] = 9
        index.note_death()
    assert find(index, vectors[0], 10) == [] and index.verify() == []


def test_a_snapshot_is_not_changed_by_what_comes_later() -> None:
    vectors = directions(9000, 40)
    index, source = make(vectors, 3000)
    held = index.snapshot
    expected = find(index, vectors[5], 3000, snapshot=held)
    for first in range(3000, 9000, 64):
        index.insert(first, min(first + 64, 9000))
    for row in range(0, 3000, 2):
        source.died[row] = 3
        index.note_death()
    source.died[:] = 0
    assert find(index, vectors[5], 3000, snapshot=held) == expected
    assert index._shown[0].retired
    del held
    index.publish()
    assert not index._shown  # its memory is given out again


def test_a_snapshot_that_is_held_does_not_keep_the_memory_of_later_pages() -> None:
    """Results hold what they were found in for as long as an agent keeps them; the store goes on splitting meanwhile."""
    vectors = directions(9000, 40)
    index, _ = make(vectors, 3000)
    held = index.snapshot
    expected = find(index, vectors[5], 3000, snapshot=held)
    waiting = []
    for first in range(3000, 9000, 64):
        index.insert(first, min(first + 64, 9000))
        waiting.append(sum(len(shown.retired) for shown in index._shown))
    pages, groups = held.levels["slot"], held.levels["top"]
    assert 0 < max(waiting) <= 2 * (np.count_nonzero(pages["pages"]) + np.count_nonzero(groups["pages"]))
    assert index.verify() == [] and find(index, vectors[5], 3000, snapshot=held) == expected


def test_an_index_that_is_handed_on_leaves_the_one_before_as_it_was() -> None:
    vectors = directions(6000, 40)
    index, source = make(vectors, 3000)
    again = RowsInMemory(vectors)
    later = index.handed_to(again)
    expected = [find(index, vectors[row], 10) for row in range(0, 3000, 100)]
    del source  # the rows of the one before go; its snapshot holds what searches of it read
    for first in range(3000, 6000, 64):
        later.insert(first, min(first + 64, 6000))
    assert later.verify() == [] and sorted(find(later, vectors[0], 6000)) == list(range(6000))
    assert [find(index, vectors[row], 10) for row in range(0, 3000, 100)] == expected
    assert index.rows == 3000 and later.rows == 6000
    before = weakref.ref(index.snapshot)
    del index
    later.publish()
    assert before() is None and not later._shown


def test_memory_is_used_again() -> None:
    vectors = directions(4000, 64)
    index, source = make(vectors)
    before = index._frames.bytes
    for _ in range(20):
        for slot in index._slots.used().tolist():
            index._rewrite(
                index._slots, slot, np.arange(int(index._slots.counts[slot])), int(index._slots.counts[slot])
            )
            index.publish()
    assert index._frames.bytes <= before + (1 << 20) and index.verify() == []
    assert source is not None


@pytest.mark.parametrize("count", (1, 50, 3000, 12_000))
def test_building_at_once(count: int) -> None:
    vectors = directions(count, 40)
    source = RowsInMemory(vectors)
    source.died[::10] = 4
    index = PageIndex(source, 40, SEED)
    assert index.build(count)
    assert index.verify() == []
    alive = np.flatnonzero(source.died == 0)
    assert sorted(find(index, vectors[0], count)) == alive.tolist()
    assert index.rows == count


def test_building_can_be_given_up() -> None:
    source = RowsInMemory(directions(3000, 40))
    calls = iter(range(1000))
    index = PageIndex(source, 40, SEED)
    assert not index.build(3000, stop=lambda: next(calls) > 3)


def test_rotations_differ_by_store_and_never_change() -> None:
    signs = rotation_signs(SEED, 64)
    assert set(np.unique(signs).tolist()) == {-1.0, 1.0} and signs.shape == (4, 64)
    assert not np.array_equal(signs, rotation_signs(b"fedcba9876543210", 64))
    assert np.packbits(signs[0] > 0).tobytes().hex() == np.packbits(rotation_signs(SEED, 64)[0] > 0).tobytes().hex()


def test_kmeans_gives_unit_centroids() -> None:
    vectors = directions(500, 16, clusters=5)
    centroids = kmeans(vectors, 5, np.random.default_rng(0))
    assert centroids.shape == (5, 16) and np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-4)
    assert np.array_equal(kmeans(vectors[:3], 5, np.random.default_rng(0)), vectors[:3])


# --- the pages file ------------------------------------------------------------------------------------------------


CURVE = Curve((1.0, 2.0, 8.0), (0.0, 0.125, 0.25), {10: (0.5, 0.75, 0.9375), 100: (0.25, 0.5, 0.75)}, 3000, 192, True)


def encoded(content: tuple[int, Iterator[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    size, parts = content
    found = np.concatenate(list(parts))
    assert len(found) == size
    return found


def reloaded(index: PageIndex, source: RowsInMemory, content: NDArray[np.uint8]) -> PageIndex:
    stored = decode_pages(content)
    again = PageIndex(source, 40, SEED)
    again.load(stored.groups, stored.pages, stored.blocks, stored.rows)
    return again


def test_pages_come_back_as_they_were_and_go_on_growing() -> None:
    vectors = directions(6000, 40)
    index, source = make(vectors, 3000)
    content = encoded(encode_pages(index.snapshot, index.dim, CURVE, 3000, np.arange(3000)))
    assert decode_pages(content).curve == CURVE and decode_pages(content).rows == 3000
    again = reloaded(index, source, content)
    assert again.verify() == [] and again.snapshot.pages == index.snapshot.pages
    for row in range(0, 3000, 101):
        assert find(again, vectors[row], 10, 8) == find(index, vectors[row], 10, 8)
    for first in range(3000, 6000, 64):
        again.insert(first, min(first + 64, 6000))
    assert again.verify() == [] and sorted(find(again, vectors[0], 6000)) == list(range(6000))


def test_a_curve_without_spreads_looks_at_as_many_pages_for_every_query() -> None:
    """As files have it that were written before there were spreads, and whatever else is no spread."""
    index, _ = make(directions(300, 40))
    for nonsense in (0.0, -1.0, np.nan):
        content = encoded(encode_pages(index.snapshot, index.dim, CURVE, 300, np.arange(300)))
        points = content[PAGES_HEADER.size : PAGES_HEADER.size + 3 * CURVE_POINT.size].view(CURVE_POINT.dtype)
        points["spread"] = nonsense
        found = decode_pages(content).curve
        assert found is not None and found.spreads == (np.inf,) * 3 and found.spread_for(1.5) == np.inf


def test_rows_that_are_left_out_leave_and_the_others_are_renumbered() -> None:
    vectors = directions(3000, 40)
    index, source = make(vectors)
    kept = np.ones(1000, bool)
    kept[::3] = False
    source.died[2000:][~kept] = 5
    moved = np.concatenate([np.arange(2000), np.where(kept, 2000 + np.cumsum(kept) - 1, -1)])
    content = encoded(encode_pages(index.snapshot, index.dim, UNMEASURED, int((moved >= 0).sum()), moved))
    assert decode_pages(content).curve is None
    order = np.concatenate([np.arange(2000), 2000 + np.flatnonzero(kept)])
    fewer = RowsInMemory(vectors[order])
    again = reloaded(index, fewer, content)
    assert again.rows == len(order) and again.verify() == []
    assert sorted(find(again, vectors[0], 3000)) == list(range(len(order)))


def test_an_empty_index_has_a_file() -> None:
    index, source = make(directions(10, 40), 0)
    again = reloaded(
        index, source, encoded(encode_pages(index.snapshot, index.dim, UNMEASURED, 0, np.empty(0, np.int64)))
    )
    assert again.snapshot.pages == 0 and again.verify() == []


def test_what_is_no_pages_file_is_refused() -> None:
    index, _ = make(directions(200, 40))
    content = encoded(encode_pages(index.snapshot, index.dim, CURVE, 200, np.arange(200)))
    for damaged in (content[:10], content[:-1], np.concatenate([content, content[:1]])):
        with pytest.raises(ValueError):
            decode_pages(damaged)
    for offset, value in ((8, 1), (12, 9), (16, 9)):
        damaged = content.copy()
        damaged[offset] = value
        with pytest.raises(ValueError):
            decode_pages(damaged)


def test_verify_sees_what_is_wrong() -> None:
    index, source = make(directions(600, 40))
    slot = int(index._slots.used()[0])
    page = index._page(index._slots, slot)
    page["codes"][0, 0, 0] ^= 1
    assert any("sketch" in problem for problem in index.verify())
    page["codes"][0, 0, 0] ^= 1
    assert index.verify() == []
    row = int(page["rows"][0, 0])
    page["rows"][0, 0] = page["rows"][0, 1]
    problems = index.verify()
    assert any(f"row {row} is in 0 pages" in problem for problem in problems)
    assert any("is in 2 pages" in problem for problem in problems)
    assert source is not None
