"""Browsing the palace: every living memory is on exactly one page, with and without an index; beam and hub correction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import aeon
from aeon import atlas as atlas_module
from aeon.store import Store

DIM = 24


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch, compiled_kernels: None) -> None:
    """An index from a thousand rows on."""
    monkeypatch.setattr(atlas_module, "INDEX_FROM_ROWS", 1000)


def clustered(count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    vectors = np.random.default_rng(99).standard_normal((30, DIM))[rng.integers(0, 30, count)]
    vectors = vectors + 0.4 * rng.standard_normal((count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", (1, 40, 3030))
def test_every_living_memory_is_on_one_page(open_store: Callable[..., Store], count: int) -> None:
    store = open_store(DIM)
    vectors = clustered(count)
    ids = store.remember_many([f"text {n}" for n in range(count)], vectors)
    store.atlas.settle(60)
    gone = set(ids[::3]) if count > 1 else set()
    store.forget(sorted(gone)) if gone else None
    pages, groups = store.atlas.pages(), store.atlas.groups()
    assert sorted(np.concatenate([page.ids for page in pages]).tolist()) == sorted(set(ids) - gone)
    assert sum(map(len, groups)) == len(ids) - len(gone) == sum(map(len, pages))
    for page in pages:
        assert len(page) == len(page.memories()) == len(page.vectors) and page.centroid.shape == (DIM,)
        if len(page):
            assert abs(np.linalg.norm(page.centroid) - 1) < 0.02
            best = page.ids[(page.vectors @ page.centroid).argmax()]
            assert page.medoid is not None and page.medoid.id == best and page.medoid.text == f"text {best - 1}"
    alive = [page for page in pages if len(page) > 5]
    inside = np.mean([(page.vectors @ page.centroid).mean() for page in alive]) if alive else 1
    assert count < 1000 or inside > 0.5  # memories of a page lie near to each other


def test_a_page_stays_what_it_was(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    store.remember_many(["x"] * 2000, clustered(2000))
    assert store.atlas.settle(60)
    pages = store.atlas.pages()
    before = [page.ids.tolist() for page in pages]
    store.remember_many(["y"] * 2000, clustered(2000, 1))
    store.forget(before[0])
    store.checkpoint()
    assert [page.ids.tolist() for page in pages] == before and pages[0].medoid is not None


def test_an_empty_store_has_no_pages(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    store.remember("no vector")
    assert store.atlas.pages() == [] and store.atlas.groups() == []


def test_a_narrow_beam_finds_less_and_a_wide_one_no_less(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    rng = np.random.default_rng(5)
    store.remember_many([""] * 40_000, rng.standard_normal((40_000, DIM)).astype(np.float32))
    assert store.atlas.settle(60)
    queries = rng.standard_normal((200, DIM)).astype(np.float32)
    exact = store.atlas.search(queries, exact=True)[1]

    def recall(beam: int | None) -> float:
        return float((store.atlas.search(queries, beam=beam)[1] >= exact[:, -1:]).mean())

    assert recall(1) < recall(3) < recall(None) + 0.01 and recall(1) < recall(None) - 0.05
    assert recall(1000) >= recall(None)
    for beam in (0, -1, 2.5, "wide"):
        with pytest.raises(aeon.InvalidInputError):
            store.atlas.search(queries[0], beam=beam)  # type: ignore[arg-type]


def test_hub_correction_is_the_formula(open_store: Callable[..., Store]) -> None:
    store = open_store(DIM)
    vectors = clustered(400)
    store.remember_many([""] * 400, vectors, session="a")
    kept = np.stack([store.get(id_).vector for id_ in range(1, 401)])
    queries = clustered(20, 3)
    ids, scores = store.atlas.search(queries, 5, hub_correction=True, exact=True)
    near = np.sort(kept @ kept.T - 2 * np.eye(400), axis=1)[:, -10:].mean(1)
    expected = 2 * queries @ kept.T - near
    for n in range(20):
        candidates = np.argsort(-(queries[n] @ kept.T))[:50]
        best = candidates[np.argsort(-expected[n, candidates])][:5]
        assert np.allclose(scores[n], expected[n, best], atol=5e-3)
        assert len(set(ids[n].tolist()) & set((best + 1).tolist())) >= 4
    assert store.atlas.search(queries[0], hub_correction=True, session="b")[0].tolist() == [[0] * 10]


def test_hub_correction_shows_hubs_less_often(open_store: Callable[..., Store]) -> None:
    """A few memories in the midst of everything are near to every query: with the correction they come less often."""
    store = open_store(DIM)
    rng = np.random.default_rng(8)
    mean = rng.standard_normal(DIM)
    spread = mean / np.linalg.norm(mean) * 2.0 + rng.standard_normal((3000, DIM)) * 0.6
    hubs = mean / np.linalg.norm(mean) + 0.02 * rng.standard_normal((20, DIM))
    store.remember_many([""] * 3020, np.concatenate([hubs, spread]).astype(np.float32))
    queries = (mean / np.linalg.norm(mean) * 2.0 + rng.standard_normal((200, DIM)) * 0.6).astype(np.float32)
    plain = (store.atlas.search(queries, exact=True)[0] <= 20).mean()
    corrected = (store.atlas.search(queries, exact=True, hub_correction=True)[0] <= 20).mean()
    assert corrected < plain / 2 and plain > 0.01, (plain, corrected)
