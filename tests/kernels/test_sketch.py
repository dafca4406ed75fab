"""Kernels on pages against their twins: rotation, sketches, tables, searches, splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aeon_native import compiled, reference
from aeon_native.page_layout import (
    FIELD,
    FIELDS,
    LANES,
    NO_ROW,
    RECORD_BYTES,
    RECORD_SCALE,
    block_bytes,
    block_dtype,
    padded_dim,
    scratch_bytes,
)

DIMS = (1, 7, 64, 100, 384, 513, 768, 1536, 4096)
BOTH = (compiled, reference)
RECORD = np.dtype([("id", "<u8"), ("scale", "<f4"), ("crc", "<u4")])
assert (RECORD.itemsize, RECORD.fields["scale"][1]) == (RECORD_BYTES, RECORD_SCALE)  # type: ignore[index]


def aligned(size: int) -> NDArray[np.uint8]:
    memory = np.zeros(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size]


def signs_of(dim: int) -> NDArray[np.float32]:
    return np.random.default_rng(dim).choice(np.array([-1, 1], np.float32), (4, dim))


class Setting:
    """Rows, one group of two pages that hold them all, and the context that says so."""

    def __init__(self, dim: int, n: int = 150, int8: bool = True, base: int = 90) -> None:
        rng = np.random.default_rng(dim + n)
        self.dim, self.n = padded_dim(dim), n
        vectors = rng.standard_normal((n, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.codes, self.scales = np.zeros((n, self.dim), np.int8), np.zeros(n, np.float32)
        reference.quantize(vectors, self.codes, self.scales)
        self.vectors = self.codes.astype(np.float32) * self.scales[:, None]
        self.rows: NDArray[Any] = self.codes
        if not int8:
            self.rows, self.scales = np.zeros((n, -(-dim // 16) * 16), np.float32), np.ones(n, np.float32)
            reference.normalize(vectors, self.rows)
            self.vectors[:, : self.rows.shape[1]] = self.rows
        self.signs = signs_of(self.dim)
        self.died = np.zeros(n, np.uint64)
        self.queries = rng.standard_normal((5, dim)).astype(np.float32)
        self.centroids, self.centroid_scales = np.zeros((2, self.dim), np.int8), np.zeros(2, np.float32)
        reference.quantize(vectors[:2].copy(), self.centroids, self.centroid_scales)
        self.lengths = np.array([0.5, 0.9], np.float32)
        self.scratch = np.empty(3 * scratch_bytes(self.dim), np.uint8)
        self.halves = (np.arange(0, n, 2), np.arange(1, n, 2))
        blocks = max(1, -(-len(self.halves[0]) // LANES)) + 1
        size = blocks * block_bytes(self.dim)
        self.memory = [aligned(size), aligned(size), aligned(block_bytes(self.dim))]
        for memory in self.memory:
            reference.clear_lanes(memory.ctypes.data, 0, len(memory) // block_bytes(self.dim) * LANES, self.dim)
        for half, rows in enumerate(self.halves):
            self.encode(reference, half, rows)
        reference.encode_lanes(
            self.centroids * self.centroid_scales[:, None], self.centroid_scales, np.arange(2, dtype=np.uint32),
            self.centroids[0], float(self.centroid_scales[0]), self.signs, self.memory[2].ctypes.data, 0, self.scratch,
        )  # fmt: skip
        self.pages = np.array([memory.ctypes.data for memory in self.memory], np.uint64)
        self.blocks = np.array([-(-len(rows) // LANES) for rows in self.halves] + [1], np.uint32)
        # Rows from `base` on lie in chunks of 32 of their own.
        self.base = min(base, n)
        shift, tail = 5, np.arange(self.base, n)
        self.chunks = [np.zeros((32, self.rows.shape[1]), self.rows.dtype) for _ in range(-(-len(tail) // 32) or 1)]
        self.ends = [np.zeros(32, np.uint64) for _ in self.chunks]
        for row in tail - self.base:
            self.chunks[row // 32][row % 32] = self.rows[self.base + row]
        self.records = np.zeros(n, RECORD)
        self.records["id"], self.records["scale"] = 1000 + 3 * np.arange(n), self.scales
        self.later = [np.zeros(32, RECORD) for _ in self.chunks]
        for row in tail - self.base:
            self.later[row // 32][row % 32] = self.records[self.base + row]
        self.records = self.records[: self.base].copy()
        self.tables = [
            np.array([a.ctypes.data for a in arrays], np.uint64) for arrays in (self.chunks, self.ends, self.later)
        ]
        stored = np.ascontiguousarray(self.rows[: self.base])
        self.keep = stored
        top = {"codes": self.centroids, "scales": self.centroid_scales, "lengths": np.ones(1, np.float32)}
        self.keep_top = top["lengths"]
        values = {
            "dim": self.dim, "signs": self.signs.ctypes.data, "top_count": 1, "slot_count": 2,
            "top_pages": self.pages[2:].ctypes.data, "top_blocks": self.blocks[2:].ctypes.data,
            "slot_pages": self.pages.ctypes.data, "slot_blocks": self.blocks.ctypes.data,
            "slot_codes": self.centroids.ctypes.data, "slot_scales": self.centroid_scales.ctypes.data,
            "slot_lengths": self.lengths.ctypes.data, "rows": n, "row_bytes": self.rows.strides[0],
            "row_int8": int(int8), "base_count": self.base, "row_base": stored.ctypes.data,
            "row_chunks": self.tables[0].ctypes.data, "death_base": self.died.ctypes.data,
            "death_chunks": self.tables[1].ctypes.data, "chunk_shift": shift,
            "reach": n, "record_base": self.records.ctypes.data, "record_chunks": self.tables[2].ctypes.data,
            **{f"top_{name}": array.ctypes.data for name, array in top.items()},
        }  # fmt: skip
        self.ctx = np.array([values[name] for name in FIELDS], np.uint64).view(np.int64)

    def encode(self, kernels: Any, half: int, rows: NDArray[np.int64]) -> None:
        kernels.encode_lanes(
            self.vectors[rows], self.scales[rows], rows.astype(np.uint32), self.centroids[half],
            float(self.lengths[half] * self.centroid_scales[half]), self.signs, self.memory[half].ctypes.data, 0,
            self.scratch,
        )  # fmt: skip

    def end(self, row: int, lsn: int) -> None:
        if row < self.base:
            self.died[row] = lsn
        else:
            self.ends[(row - self.base) // 32][(row - self.base) % 32] = lsn

    def search(
        self, kernels: Any, k: int, *, limit: int = 1 << 40, lsn: int = 0, probes: int = 2, eps0: float = 1.9,
        spread: float = np.inf, allowed: NDArray[np.uint8] | None = None,
    ) -> list[list[tuple[float, int]]]:  # fmt: skip
        n = len(self.queries)
        scores, rows = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
        counts, stats = np.zeros(n, np.int64), np.zeros(3, np.int64)
        allowed = np.empty(0, np.uint8) if allowed is None else allowed
        limit = min(limit, self.n)
        bad = kernels.search_pages(
            self.ctx,
            self.queries,
            limit,
            lsn,
            probes,
            2,
            eps0,
            spread,
            allowed,
            self.scratch,
            scores,
            rows,
            counts,
            stats,
        )
        assert bad == -1
        return [
            list(zip(s[:c].tolist(), r[:c].tolist(), strict=True)) for s, r, c in zip(scores, rows, counts, strict=True)
        ]

    def flat(self, k: int, lsn: int = 0, allowed: NDArray[np.uint8] | None = None) -> list[list[tuple[float, int]]]:
        died = np.concatenate([self.died[: self.base], *self.ends])[: self.n]
        results = []
        for query in self.queries:
            scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
            prepared = np.zeros(self.dim, np.int16)
            scale = reference.prepare_query(query, prepared)
            none = np.empty(0, np.uint8) if allowed is None else allowed
            count = reference.scan_int8(self.codes, self.scales, died, lsn, prepared, scale, none, 0, scores, rows, 0)
            reference.finish_topk(scores, rows, count)
            results.append(list(zip(scores[:count].tolist(), rows[:count].tolist(), strict=True)))
        return results


@pytest.mark.parametrize("dim", DIMS)
def test_rotation_is_the_same_and_keeps_lengths(dim: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((7, padded_dim(dim))).astype(np.float32)
    results = []
    for kernels in BOTH:
        rotated = vectors.copy()
        kernels.rotate_rows(rotated, signs_of(padded_dim(dim)))
        results.append(rotated)
    assert np.array_equal(*results)
    assert np.allclose(np.linalg.norm(results[0], axis=1), np.linalg.norm(vectors, axis=1), rtol=1e-4)
    assert np.allclose(results[0] @ results[0].T, vectors @ vectors.T, atol=1e-2)


@pytest.mark.parametrize("dim", DIMS)
def test_sketches_are_the_same(dim: int) -> None:
    pages = []
    for kernels in BOTH:
        setting = Setting(dim)
        for half, rows in enumerate(setting.halves):
            setting.encode(kernels, half, rows)
        pages.append(setting.memory[0].view(block_dtype(setting.dim)))
    for name in ("codes", "scales", "rows"):
        assert np.array_equal(pages[0][name], pages[1][name])
    used = pages[0]["rows"] != NO_ROW
    assert used.sum() == 75
    for name in ("factors", "errors"):
        assert np.allclose(pages[0][name][used], pages[1][name][used], rtol=1e-3, atol=1e-4)
    assert np.isneginf(pages[0]["errors"][~used]).all()


def test_a_row_equal_to_its_centroid_has_no_error() -> None:
    for kernels in BOTH:
        setting = Setting(64)
        vector = setting.centroids[:1] * setting.centroid_scales[0]
        page = aligned(block_bytes(64))
        kernels.clear_lanes(page.ctypes.data, 0, LANES, 64)
        kernels.encode_lanes(
            vector.astype(np.float32), setting.centroid_scales[:1].copy(), np.zeros(1, np.uint32), setting.centroids[0],
            float(setting.centroid_scales[0]), setting.signs, page.ctypes.data, 5, setting.scratch,
        )  # fmt: skip
        block = page.view(block_dtype(64))[0]
        assert abs(block["factors"][5]) < 1e-6 and abs(block["errors"][5]) < 1e-6 and block["rows"][5] == 0


def test_writing_a_lane_leaves_the_one_that_shares_its_bytes() -> None:
    for kernels in BOTH:
        setting = Setting(100)
        before = setting.memory[0].view(block_dtype(setting.dim))["codes"].copy()
        setting.encode(kernels, 0, setting.halves[0][:16])
        assert np.array_equal(setting.memory[0].view(block_dtype(setting.dim))["codes"], before)


@pytest.mark.parametrize("dim", (7, 384))
def test_lanes_move_unchanged(dim: int) -> None:
    lanes = np.array([0, 3, 17, 31, 33, 50, 74])
    results = []
    for kernels in BOTH:
        setting = Setting(dim)
        target = aligned(2 * block_bytes(setting.dim))
        kernels.clear_lanes(target.ctypes.data, 0, 2 * LANES, setting.dim)
        kernels.copy_lanes(setting.memory[0].ctypes.data, lanes, target.ctypes.data, 14, setting.dim)
        page = target.view(block_dtype(setting.dim))
        assert page["rows"].reshape(-1)[14:21].tolist() == setting.halves[0][lanes].tolist()
        assert (page["rows"].reshape(-1)[21:] == NO_ROW).all()
        results.append(target.copy())
    assert np.array_equal(*results)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("int8", (True, False))
def test_searches_are_the_same(dim: int, int8: bool) -> None:
    setting = Setting(dim, int8=int8)
    setting.end(3, 5)
    setting.end(120, 5)
    allowed = np.packbits(np.random.default_rng(1).random(150) < 0.4, bitorder="little")
    for k in (1, 10, 150):
        for options in (
            {},
            {"probes": 1},
            {"limit": 101},
            {"lsn": 5},
            {"allowed": allowed},
            {"spread": 0.0},
            {"spread": 0.1},
        ):
            # Which rows an estimate spares depends on the order they come in: here it spares none.
            assert setting.search(compiled, k, eps0=1e6, **options) == setting.search(reference, k, eps0=1e6, **options)


@pytest.mark.parametrize("dim", DIMS)
def test_estimates_are_the_same(dim: int) -> None:
    """Against a k-th score that no row reaches, the number of rows worth a look is a matter of the estimates alone."""
    setting = Setting(dim)
    for eps0 in (0.0, 1.0, 1.9, 4.0, 9.0, 20.0):
        for threshold in (-0.5, 0.0, 0.1, 0.3, 1.5):
            looked_at = []
            for kernels in BOTH:
                scores, rows, counts = (
                    np.full((1, 1), threshold, np.float32),
                    np.zeros((1, 1), np.int64),
                    np.ones(1, np.int64),
                )
                setting.died[:] = 1
                for ends in setting.ends:
                    ends[:] = 1
                stats = np.zeros(3, np.int64)
                kernels.search_pages(
                    setting.ctx, setting.queries[:1], 150, 1, 2, 2, eps0, np.inf, np.empty(0, np.uint8), setting.scratch,
                    scores, rows, counts, stats,
                )  # fmt: skip
                looked_at.append(int(stats[2]))
            assert abs(looked_at[0] - looked_at[1]) <= 1  # an estimate that meets the threshold within a rounding
            assert eps0 < 4 or dim == 1 or threshold > 0.1 or looked_at[0] > 0


@pytest.mark.parametrize("dim", (64, 100, 384, 1536))
def test_estimates_keep_within_their_error(dim: int) -> None:
    setting = Setting(dim)
    exact = setting.flat(10)
    found = setting.search(compiled, 10)
    assert sum(len(set(x) & set(y)) for x, y in zip(exact, found, strict=True)) >= 0.9 * 50


@pytest.mark.parametrize("dim", DIMS)
def test_all_pages_without_pruning_are_the_flat_scan(dim: int) -> None:
    setting = Setting(dim)
    setting.end(3, 5)
    setting.end(120, 6)
    allowed = np.packbits(np.random.default_rng(1).random(150) < 0.4, bitorder="little")
    for kernels in BOTH:
        for lsn in (4, 5, 6):
            assert setting.search(kernels, 20, lsn=lsn, eps0=1000.0) == setting.flat(20, lsn)
        assert setting.search(kernels, 150, allowed=allowed) == setting.flat(150, allowed=allowed)


def test_a_spread_leaves_out_pages_that_are_much_farther_than_the_nearest() -> None:
    setting = Setting(384)
    for kernels in BOTH:
        scores, slots, counts = np.zeros((5, 2), np.float32), np.zeros((5, 2), np.int64), np.zeros(5, np.int64)
        kernels.nearest_pages(setting.ctx, setting.queries, 1, 9.0, setting.scratch, scores, slots, counts)
        gaps = scores[:, 0] - scores[:, 1]
        for spread, pages in (
            (float(gaps.min()) / 2, 5),
            (float(np.sort(gaps)[2]) * 1.001, 8),
            (float(gaps.max()) * 1.001, 10),
        ):
            found, rows, stats = np.empty((5, 4), np.float32), np.empty((5, 4), np.int64), np.zeros(3, np.int64)
            kernels.search_pages(
                setting.ctx, setting.queries, 150, 0, 2, 2, 1.9, spread, np.empty(0, np.uint8), setting.scratch, found, rows,
                np.zeros(5, np.int64), stats,
            )  # fmt: skip
            assert stats[0] == pages, "one of each query, and the second where it is near enough"


def test_a_search_goes_on_from_what_was_found_before() -> None:
    for kernels in BOTH:
        setting = Setting(64)
        scores, rows = np.full((5, 4), 2.0, np.float32), np.full((5, 4), 999, np.int64)
        counts, stats = np.ones(5, np.int64), np.zeros(3, np.int64)
        kernels.search_pages(
            setting.ctx, setting.queries, 150, 0, 2, 2, 1.9, np.inf, np.empty(0, np.uint8), setting.scratch, scores, rows,
            counts, stats,
        )  # fmt: skip
        assert (rows[:, 0] == 999).all() and (counts == 4).all() and (rows[:, 1:] < 150).all()
        assert stats[0] == 10 and stats[1] == 30


@pytest.mark.parametrize("int8", (True, False))
def test_rows_that_are_in_no_page_yet_are_scanned(int8: bool) -> None:
    """With `rows` lowered, the rows behind it come from where rows lie, and what pages say of them is passed over."""
    setting = Setting(100, int8=int8)
    expected = setting.search(reference, 150, eps0=1e6)
    few = np.packbits(np.arange(150) % 3 == 0, bitorder="little")
    some = setting.search(reference, 150, eps0=1e6, allowed=few, limit=140)
    for rows in (0, 1, 77, 120, 149):
        setting.ctx[FIELD["rows"]] = rows
        for kernels in BOTH:
            assert setting.search(kernels, 150, eps0=1e6) == expected
            assert setting.search(kernels, 150, eps0=1e6, allowed=few, limit=140) == some


@pytest.mark.parametrize("dim", (1, 64, 100, 4096))
@pytest.mark.parametrize("rows", (0, 77, 150))
def test_one_query_is_answered_with_ids(dim: int, rows: int) -> None:
    setting = Setting(dim)
    setting.end(5, 1)
    setting.ctx[FIELD["rows"]] = rows
    for k, limit in ((5, 150), (30, 20), (1, 0)):
        results = []
        for kernels in BOTH:
            for n, query in enumerate(setting.queries):
                count, scores, ids = kernels.search_one(setting.ctx, query, limit, 1, 2, 2, 1e6, np.inf, k)
                plain = setting.search(kernels, k, lsn=1, eps0=1e6, limit=limit)[n]
                assert count == len(plain) == min(k, max(0, limit - 1))
                found = zip(scores[0, :count].tolist(), ids[0, :count].tolist(), strict=True)
                assert [(score, (id_ - 1000) // 3) for score, id_ in found] == plain
                assert (ids[0, count:] == 0).all() and np.isneginf(scores[0, count:]).all()
                results.append((scores.tolist(), ids.tolist()))
        assert results[:5] == results[5:]


def test_a_query_without_direction_is_named() -> None:
    for kernels in BOTH:
        setting = Setting(64)
        setting.queries[3] = 0
        scores, rows, counts = np.empty((5, 4), np.float32), np.empty((5, 4), np.int64), np.zeros(5, np.int64)
        none, stats = np.empty(0, np.uint8), np.zeros(3, np.int64)
        arguments = (
            setting.ctx,
            setting.queries,
            150,
            0,
            2,
            2,
            1.9,
            np.inf,
            none,
            setting.scratch,
            scores,
            rows,
            counts,
            stats,
        )
        assert kernels.search_pages(*arguments) == 3
        assert kernels.search_one(setting.ctx, setting.queries[3], 150, 0, 2, 2, 1.9, np.inf, 4)[0] == -1


def test_malformed_arguments_are_refused() -> None:
    setting = Setting(64)
    scores, rows, counts = np.empty((5, 4), np.float32), np.empty((5, 4), np.int64), np.zeros(5, np.int64)
    none, stats = np.empty(0, np.uint8), np.zeros(3, np.int64)
    good = [setting.ctx, setting.queries, 150, 0, 2, 2, 1.9, np.inf, none, setting.scratch, scores, rows, counts, stats]
    compiled.search_pages(*good)
    for position, bad in (
        (0, setting.ctx[:-1]), (1, setting.queries.astype(np.float64)), (4, 0), (5, 0), (8, np.zeros(2, np.uint8)),
        (9, setting.scratch[:64]), (10, scores[:, :2]), (12, np.full(5, 9)), (12, counts[:3]),
    ):  # fmt: skip
        arguments = list(good)
        counts[:] = 0
        arguments[position] = bad
        with pytest.raises((ValueError, TypeError)):
            compiled.search_pages(*arguments)
    alone = [setting.ctx, setting.queries[0], 150, 0, 2, 2, 1.9, np.inf, 4]
    assert compiled.search_one(*alone)[0] == 4
    for position, bad in (
        (0, setting.ctx[:-1]), (1, setting.queries[0].astype(np.float64)), (1, np.ones(128, np.float32)[::2]),
        (1, np.ones(65, np.float32)), (4, 0), (5, 0), (8, 0), (8, -1),
    ):  # fmt: skip
        arguments = list(alone)
        arguments[position] = bad
        with pytest.raises((ValueError, TypeError)):
            compiled.search_one(*arguments)
    with pytest.raises(ValueError):
        compiled.rotate_rows(np.zeros((1, 64), np.float32), np.zeros((3, 64), np.float32))
    with pytest.raises(TypeError):
        compiled.dot_table(np.zeros((1, 64)), np.zeros((1, 64)), np.zeros((1, 1)))


def test_nearest_pages_are_the_same() -> None:
    setting = Setting(384)
    results = []
    for kernels in BOTH:
        scores, slots, counts = np.zeros((5, 3), np.float32), np.zeros((5, 3), np.int64), np.zeros(5, np.int64)
        assert kernels.nearest_pages(setting.ctx, setting.queries, 1, 1.9, setting.scratch, scores, slots, counts) == -1
        assert (counts == 2).all() and (scores[:, 0] >= scores[:, 1]).all()
        results.append((scores.tobytes(), slots.tobytes()))
    assert results[0] == results[1]


def test_rows_go_to_their_page_until_it_is_full() -> None:
    results = []
    for kernels in BOTH:
        setting = Setting(100)
        counts, out = np.array([75, 75], np.uint32), np.zeros(1, np.int64)
        capacities = np.array([128, 96], np.uint32)
        done = kernels.insert_rows(
            setting.ctx, setting.vectors, setting.scales, 1000, counts, capacities, setting.scratch, out
        )
        assert 21 <= done < 150 and counts.sum() == 150 + done and counts[out[0]] == capacities[out[0]]
        page = setting.memory[0].view(block_dtype(setting.dim))["rows"].reshape(-1)[75 : counts[0]]
        assert (page >= 1000).all()
        results.append((done, counts.tolist(), page.tolist(), int(out[0])))
    assert results[0] == results[1]


@pytest.mark.parametrize("int8", (True, False))
def test_rows_that_are_nearer_elsewhere_are_found(int8: bool) -> None:
    results = []
    for kernels in BOTH:
        setting = Setting(100, int8=int8)
        candidates = np.ascontiguousarray(
            setting.vectors[10:12] / np.linalg.norm(setting.vectors[10:12], axis=1)[:, None]
        )
        out = np.zeros((150, 3), np.int64)
        found = kernels.closer_rows(
            setting.ctx, np.array([0, 1]), np.array([75, 75], np.uint32), candidates, 1e-3, setting.scratch, out
        )
        assert 0 < found < 150
        results.append(out[:found].tolist())
        few = np.zeros((3, 3), np.int64)
        assert kernels.closer_rows(
            setting.ctx, np.array([0, 1]), np.array([75, 75], np.uint32), candidates, 1e-3, setting.scratch, few
        ) == 3  # fmt: skip
    assert results[0] == results[1]


@pytest.mark.parametrize("dim", DIMS)
def test_splits_are_the_same_and_balanced(dim: int) -> None:
    vectors = Setting(dim, 130).vectors
    results = []
    for kernels in BOTH:
        centroids, projections = np.zeros((3, vectors.shape[1]), np.float32), np.zeros(130, np.float32)
        side = np.zeros(130, np.uint8)
        ones = kernels.split_rows(vectors, centroids, projections, side)
        results.append((ones, side.tolist()))
        if dim > 1:
            assert 32 <= ones <= 98
        assert np.allclose(np.linalg.norm(centroids[:2], axis=1), 1, atol=1e-5)
    assert results[0] == results[1]


def test_equal_rows_are_not_split() -> None:
    for kernels in BOTH:
        for count in (0, 1, 2, 40):
            vectors = np.repeat(Setting(64).vectors[:1], count, axis=0)
            centroids, projections, side = (
                np.zeros((3, 64), np.float32),
                np.zeros(count, np.float32),
                np.zeros(count, np.uint8),
            )
            assert kernels.split_rows(vectors, centroids, projections, side) == 0
        vectors = np.concatenate([np.repeat(Setting(64).vectors[:1], 39, axis=0), Setting(64).vectors[1:2]])
        centroids, projections, side = np.zeros((3, 64), np.float32), np.zeros(40, np.float32), np.zeros(40, np.uint8)
        assert kernels.split_rows(vectors, centroids, projections, side) in (1, 39)


def test_tables_of_dots_are_the_same() -> None:
    vectors = Setting(384).vectors
    results = []
    for kernels in BOTH:
        out = np.zeros((20, 7), np.float32)
        kernels.dot_table(vectors[:20], vectors[20:27], out)
        results.append(out)
    assert np.array_equal(*results)
    assert np.allclose(results[0], vectors[:20] @ vectors[20:27].T, atol=1e-5)
