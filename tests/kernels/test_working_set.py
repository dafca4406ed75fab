"""The SLB's kernels: twin and compiled code agree, and what a working set proves is true."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from aeon_native import compiled, reference
from aeon_native.page_layout import FIELD, FIELDS, padded_dim, scratch_bytes
from aeon_native.reference_slb import ENTRY_FIELDS

BOTH: tuple[Any, ...] = (reference, compiled)
DIMS = (1, 15, 16, 17, 33, 64, 97, 384, 768)


@pytest.mark.parametrize("dim", DIMS)
def test_likeness(dim: int) -> None:
    rng = np.random.default_rng(dim)
    for _ in range(20):
        x, y = rng.standard_normal((2, dim)).astype(np.float32)
        found = [kernels.likeness(x, y) for kernels in BOTH]
        assert found[0] == found[1]
        assert abs(found[0] - x @ y / np.linalg.norm(x) / np.linalg.norm(y)) < 1e-5
    for kernels in BOTH:
        assert kernels.likeness(x, np.zeros_like(x)) == 0
        assert abs(kernels.likeness(x, x) - 1) < 1e-6
        with pytest.raises(ValueError):
            kernels.likeness(x, np.zeros(dim + 1, np.float32))
        with pytest.raises(TypeError):
            kernels.likeness(x, x.astype(np.float64))


@pytest.mark.parametrize("dim", DIMS)
def test_nearest(dim: int) -> None:
    rng = np.random.default_rng(dim)
    stride = -(-dim // 16) * 16
    for count in (0, 1, 7, 8, 9, 64):
        ring = np.zeros((64, stride), np.float32)
        vectors = rng.standard_normal((64, dim)).astype(np.float32)
        ring[:, :dim] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        ring[5] = ring[3]
        for query in (rng.standard_normal(dim).astype(np.float32), vectors[3] * 7, vectors[60]):
            found = [kernels.nearest(ring, query, count) for kernels in BOTH]
            assert found[0] == found[1]
            slot, cosine = found[0]
            cosines = ring[:count, :dim] @ query / np.linalg.norm(query)
            if count:
                assert abs(cosine - cosines.max()) < 1e-5 and cosines[slot] > cosines.max() - 1e-5

            else:
                assert (slot, cosine) == (-1, 0)
    for kernels in BOTH:
        assert kernels.nearest(ring, np.zeros(dim, np.float32), 64) == (-1, 0)
        for wrong in ((ring, np.ones(stride + 1, np.float32), 64), (ring, query, 65), (ring, query, -1)):
            with pytest.raises(ValueError):
                kernels.nearest(*wrong)


class Rows:
    """Rows in a base and in chunks of 64, some dead, equal ones among them; and an entry made by exact search."""

    def __init__(self, dim: int, *, int8: bool, count: int = 300, seed: int = 0) -> None:
        rng = np.random.default_rng(seed + dim)
        base = count // 2
        vectors = rng.standard_normal((count, dim)).astype(np.float32)
        vectors[1::7] = vectors[0] + 0.1 * vectors[1::7]
        vectors[10::20] = vectors[2]
        stride = -(-dim // 64) * 64 if int8 else -(-dim // 16) * 16
        self.codes = np.zeros((count, stride), np.int8 if int8 else np.float32)
        self.scales = np.ones(count, np.float32)
        if int8:
            reference.quantize(vectors, self.codes, self.scales)
        else:
            reference.normalize(vectors, self.codes)
        self.died = np.zeros(count, np.uint64)
        self.died[rng.choice(count, count // 10, replace=False)] = 3
        self.vectors, self.dim, self.int8, self.count, self.width = vectors, dim, int8, count, padded_dim(dim)
        records = np.zeros((count, 16), np.uint8)
        records[:, :8] = (1000 + np.arange(count)).view(np.uint8).reshape(-1, 8)
        records[:, 8:12] = self.scales.view(np.uint8).reshape(-1, 4)
        self.keep: list[Any] = []
        fields = dict.fromkeys(FIELDS, 0)
        fields.update(
            dim=self.width, row_bytes=self.codes.strides[0], row_int8=int(int8), base_count=base, chunk_shift=6
        )
        for name, array in (("row", self.codes), ("death", self.died), ("record", records)):
            chunks = [np.zeros((64, *array.shape[1:]), array.dtype) for _ in range(-(-(count - base) // 64))]
            for at, chunk in enumerate(chunks):
                part = array[base + 64 * at : base + 64 * at + 64]
                chunk[: len(part)] = part
            first = array[:base].copy()
            table = np.array([chunk.ctypes.data for chunk in chunks], np.uint64)
            fields[f"{name}_base"], fields[f"{name}_chunks"] = first.ctypes.data, table.ctypes.data
            self.keep += [chunks, first, table]
        fields["reach"] = count
        self.ctx = np.array([fields[name] for name in FIELDS], np.int64)
        self.scratch = np.empty(scratch_bytes(self.width), np.uint8)

    def prepared(self, query: Any) -> tuple[Any, float]:
        if self.int8:
            codes = np.zeros(self.width, np.int16)
            return codes, reference.prepare_query(query, codes)
        unit = np.zeros((1, self.width), np.float32)
        reference.normalize(query[None], unit)
        return unit[0], 1.0

    def scores(self, query: Any) -> Any:
        prepared, scale = self.prepared(query)
        if self.int8:
            return reference._scores_int8(self.codes, self.scales, prepared, scale)
        return reference._dots_f32(self.codes, prepared[: self.codes.shape[1]])

    def exact(self, query: Any, k: int, stop: int, lsn: int) -> list[tuple[float, int]]:
        found = self.scores(query)
        alive = [row for row in range(stop) if not self.died[row] or self.died[row] > lsn]
        return sorted(((float(found[row]), row) for row in alive), key=lambda pair: (-pair[0], pair[1]))[:k]

    def entry(self, query: Any, m: int, stop: int, lsn: int = 0) -> tuple[Any, Any]:
        best = self.exact(query, m, stop, lsn)
        candidates, old = np.array([row for _, row in best], np.int64), np.array([s for s, _ in best], np.float32)
        scales = self.scales[candidates]
        center, scale = self.prepared(query)
        lengths = np.linalg.norm(self.codes[:stop].astype(np.float64) * self.scales[:stop, None], axis=1)
        outside = -np.inf if len(best) < m else float(old[-1])
        values = {
            "center": center.ctypes.data, "candidates": candidates.ctypes.data, "old_scores": old.ctypes.data,
            "scales": scales.ctypes.data, "count": len(best), "rows": stop,
        }  # fmt: skip
        packed = np.array([values.get(name, 0) for name in ENTRY_FIELDS], np.int64)
        for name, value in (("center_scale", scale), ("longest", lengths.max()), ("outside", outside), ("slack", 3e-6)):
            packed.view(np.float64)[ENTRY_FIELDS.index(name)] = value
        return packed, (center, candidates, old, scales)

    def rescore(
        self, kernels: Any, entry: Any, query: Any, k: int, lsn: int, tau: float, depth: int, prove: bool
    ) -> Any:
        scores, rows, out = np.zeros(k, np.float32), np.zeros(k, np.int64), np.zeros(3)
        arguments = (self.ctx, entry, query, self.count, lsn, tau, depth, prove, self.scratch, scores, rows, out)
        count = kernels.rescore(*arguments)
        named = rows.copy()
        kernels.rescore(*arguments[:-2], named, out, True)
        assert (named[:count] == 1000 + rows[:count]).all()
        return list(zip(scores[:count].tolist(), rows[:count].tolist(), strict=True)), out.tolist()


@pytest.mark.parametrize("int8", (True, False))
@pytest.mark.parametrize("dim", (1, 17, 64, 97, 384))
def test_what_is_proven_is_the_answer_of_all_rows(dim: int, int8: bool) -> None:
    rng = np.random.default_rng(7)
    rows = Rows(dim, int8=int8)
    proven = tried = 0
    for n in range(30):
        old = rows.vectors[n] + (n % 3) * rng.standard_normal(dim).astype(np.float32)
        query = (old + 10.0 ** rng.uniform(-3, 0) * rng.standard_normal(dim)).astype(np.float32)
        for m, k, stop, prove, lsn in ((200, 5, 290, False, 3), (40, 3, 300, True, 0), (400, 10, 280, True, 5)):
            entry, _keep = rows.entry(old, m, stop)
            both = [rows.rescore(kernels, entry, query, k, lsn, -1.0, 1000, prove) for kernels in BOTH]
            assert both[0] == both[1]
            found, (cosine, certain, scored) = both[0]
            size = np.linalg.norm(old) * np.linalg.norm(query)
            assert abs(cosine - float(old.astype(np.float64) @ query / size)) < 1e-3
            assert scored <= m
            truth = rows.exact(query, k, 300, lsn)
            tried += 1
            if certain:
                proven += 1
                assert found == truth
            else:
                scores = rows.scores(query)
                assert all(score == scores[row] for score, row in found)
    assert tried / 4 < proven, "of so many near ones some are proven"
    assert proven < tried or dim == 1


def test_a_set_that_is_not_complete_proves_nothing_and_a_far_query_is_not_answered() -> None:
    rows = Rows(64, int8=True)
    query = rows.vectors[4] + 0.01 * rows.vectors[9]
    entry, _keep = rows.entry(rows.vectors[4], 100, 300)
    assert rows.rescore(compiled, entry, query, 5, 0, 0.9, 1000, True)[1][1] == 1
    for kernels in BOTH:
        found, (cosine, certain, scored) = rows.rescore(kernels, entry, rows.vectors[9], 5, 0, 0.9, 1000, False)
        assert cosine < 0.9 and (certain, scored, found) == (0, 0, [])
        _, (_, certain, scored) = rows.rescore(kernels, entry, rows.vectors[9], 5, 0, -1.0, 64, False)
        assert (certain, scored) == (0, 64)
    entry.view(np.float64)[ENTRY_FIELDS.index("outside")] = np.inf
    for kernels in BOTH:
        found, (_, certain, _) = rows.rescore(kernels, entry, query, 5, 0, 0.9, 1000, True)
        assert certain == 0 and found == rows.exact(query, 5, 300, 0)


def test_a_query_without_direction_and_malformed_arguments() -> None:
    rows = Rows(64, int8=True)
    entry, _keep = rows.entry(rows.vectors[4], 20, 300)
    for kernels in BOTH:
        scores, found, out = np.zeros(3, np.float32), np.zeros(3, np.int64), np.zeros(3)
        for bad in (np.zeros(64, np.float32), np.full(64, np.nan, np.float32)):
            assert kernels.rescore(rows.ctx, entry, bad, 300, 0, -1.0, 9, True, rows.scratch, scores, found, out) == -1
    good = rows.vectors[0]
    for change in ({"entry": entry[:-1].copy()}, {"query": np.ones(65, np.float32)}, {"out": np.zeros(2)}):
        values = {
            "ctx": rows.ctx,
            "entry": entry,
            "query": good,
            "limit": 300,
            "lsn": 0,
            "tau": -1.0,
            "depth": 9,
            "prove": True,
        }
        values.update(scratch=rows.scratch, scores=scores, rows=found, out=out)
        with pytest.raises(ValueError):
            compiled.rescore(**{**values, **change})
    with pytest.raises(TypeError):
        compiled.rescore(
            rows.ctx, entry, good.astype(np.float64), 300, 0, -1.0, 9, True, rows.scratch, scores, found, out
        )
    beyond = rows.ctx.copy()
    beyond[FIELD["reach"]] = 3
    with pytest.raises(ValueError):
        compiled.rescore(beyond, entry, good, 300, 0, -1.0, 9, True, rows.scratch, scores, found, out)


@pytest.mark.parametrize("int8", (True, False))
@pytest.mark.parametrize("dim", (1, 17, 64, 97, 384))
def test_listed_rows_are_scored_as_a_scan_scores_them(dim: int, int8: bool) -> None:
    """Both sets, any list, from any state; a scan of all rows is the oracle."""
    rows = Rows(dim, int8=int8)
    rng = np.random.default_rng(dim)
    shuffled = rng.permutation(300)
    for n, listed in enumerate((shuffled, shuffled[:0], shuffled[:1], shuffled[:9], np.sort(shuffled[:40]))):
        query = rows.vectors[n] + 0.3 * rng.standard_normal(dim).astype(np.float32)
        for k in (0, 1, 10, 350):
            for lsn in (0, 3, 2**64 - 1):
                truth = [pair for pair in rows.exact(query, 300, 300, lsn) if pair[1] in set(listed.tolist())][:k]
                for first, second in itertools.product(BOTH, BOTH):
                    scores, found = np.full(k, np.nan, np.float32), np.full(k, -7, np.int64)
                    half = len(listed) // 2
                    count = first.search_rows(rows.ctx, query, listed[:half], lsn, scores, found, 0)
                    count = second.search_rows(rows.ctx, query, listed[half:], lsn, scores, found, count)
                    first.finish_topk(scores, found, count)
                    assert list(zip(scores[:count].tolist(), found[:count].tolist(), strict=True)) == truth
                    assert (found[count:] == -7).all()
                    count = second.search_rows(rows.ctx, query, listed, lsn, scores, found, 0, True)
                    assert list(zip(scores[:count].tolist(), (found[:count] - 1000).tolist(), strict=True)) == truth


def test_rows_are_named() -> None:
    rows = Rows(64, int8=True)
    rng = np.random.default_rng(3)
    for n, m, k in ((1, 10, 10), (3, 7, 12), (2, 5, 5), (1, 0, 4), (0, 4, 4)):
        found, counts = rng.integers(0, 300, (n, m)), np.minimum(rng.integers(0, m + 1, n), k)
        results = []
        for kernels in BOTH:
            scores, ids = np.full((n, k), 0.5, np.float32), np.full((n, k), 7, np.uint64)
            kernels.name_rows(rows.ctx, found, counts, scores, ids)
            results.append((scores.tolist(), ids.tolist()))
        assert results[0] == results[1]
        for at in range(n):
            count = counts[at]
            assert results[0][1][at] == [*(found[at, :count] + 1000).tolist(), *[0] * (k - count)]
            assert results[0][0][at] == [0.5] * count + [-np.inf] * (k - count)
    for kernels in BOTH:
        scores, ids = np.zeros((1, 3), np.float32), np.zeros((1, 3), np.uint64)
        for bad, count in (([0, 1, 300], 3), ([-1, 0, 0], 1), ([0, 1, 2], 4), ([0, 1, 2], -1)):
            with pytest.raises(ValueError):
                kernels.name_rows(rows.ctx, np.array([bad]), np.array([count]), scores, ids)
    with pytest.raises(TypeError):
        compiled.name_rows(rows.ctx, np.zeros((1, 3), np.int32), np.array([1]), scores, ids)
    with pytest.raises(ValueError):
        compiled.name_rows(rows.ctx, np.zeros((2, 3), np.int64), np.array([1]), scores, ids)


def test_listed_rows_that_are_not_there_and_malformed_arguments() -> None:
    rows = Rows(64, int8=True)
    good, listed = rows.vectors[0], np.arange(5)
    scores, found = np.zeros(3, np.float32), np.zeros(3, np.int64)
    for kernels in BOTH:
        for bad in (np.zeros(64, np.float32), np.full(64, np.nan, np.float32), np.full(64, np.inf, np.float32)):
            assert kernels.search_rows(rows.ctx, bad, listed, 0, scores, found, 0) == -1
        for outside in ([0, -1], [0, int(rows.ctx[FIELD["reach"]])], [2**62]):
            with pytest.raises(ValueError):
                kernels.search_rows(rows.ctx, good, np.array(outside), 0, scores, found, 0)
    for change in (
        {"ctx": rows.ctx[:-1].copy()}, {"query": np.ones(65, np.float32)}, {"listed": np.arange(10)[::2]},
        {"rows": found[:2]}, {"count": 4}, {"count": -1}, {"scores": np.zeros(6, np.float32)[::2]},
    ):  # fmt: skip
        values = {
            "ctx": rows.ctx,
            "query": good,
            "listed": listed,
            "lsn": 0,
            "scores": scores,
            "rows": found,
            "count": 0,
        }
        with pytest.raises(ValueError):
            compiled.search_rows(**{**values, **change})
    for change in ({"query": good.astype(np.float64)}, {"listed": np.arange(3, dtype=np.int32)}):
        with pytest.raises(TypeError):
            compiled.search_rows(**{**values, **change})
