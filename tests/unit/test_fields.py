"""Columns of metadata: filters that leave few memories find all of them, and read no memory to do so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import fields as fields_module
from aeon.engine import Engine
from aeon.errors import CorruptionError
from aeon.store import Store
from aeon.where import compile_where

COUNT = 2000
FEW = {"n": {"$in": [3, 700, 1401, 1999]}}


@pytest.fixture
def filled(open_store: Callable[..., Store], vectors: Any) -> Store:
    store = open_store(unknown_fields="ignore")
    metadata = [{"n": n, "tens": n // 10, "tags": [f"t{n % 100}", n % 3], "id": f"id-{n}"} for n in range(COUNT)]
    store.remember_many([str(n) for n in range(COUNT)], vectors(COUNT), metadata=metadata)
    return store


def numbers(hits: list[aeon.Hit]) -> list[int]:
    return sorted(int(hit.text) for hit in hits)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indexes of the memories whose metadata is decoded."""
    found: list[int] = []
    extra, metadata_of = Engine.extra, Engine.metadata_of
    monkeypatch.setattr(Engine, "extra", lambda self, index: found.append(index) or extra(self, index))
    monkeypatch.setattr(
        Engine, "metadata_of", lambda self, indexes: found.extend(indexes.tolist()) or metadata_of(self, indexes)
    )
    return found


@pytest.mark.parametrize(
    "where",
    [
        FEW,
        {"tags": "t5"},
        {"tags": {"$in": ["t5", 7]}},
        {"n": {"$lt": 7}},
        {"tens": 33},
        {"id": "id-1234"},
        {"id": "none"},
        {"n": {"$gte": 5}, "$or": [{"n": {"$lt": 9}}, {"tens": {"$gt": 198}}]},
        {"$not": {"n": {"$lt": 1990}}},
        {"missing": {"$exists": False}, "tens": {"$nin": list(range(199))}},
    ],
)
def test_few_are_found_without_reading_memories(filled: Store, vectors: Any, reads: list[int], where: Any) -> None:
    expected = sorted(int(memory.text) for memory in filled.memories(where=where))
    assert numbers(filled.recall(vectors(1)[0], 50, where=where)) == expected
    assert len(filled.recall(vectors(1)[0], 2, where=where)) == min(2, len(expected))
    reads.clear()
    for query in vectors(3):
        assert numbers(filled.recall(query, 50, where=where)) == expected
    assert reads == []


def test_the_query_that_makes_the_columns_returns_the_best_k(filled: Store, vectors: Any) -> None:
    exact = [hit.id for hit in filled.recall(vectors(1)[0], COUNT) if int(hit.text) in (3, 700, 1401, 1999)]
    hits = filled.recall(vectors(1)[0], 3, where=FEW)
    assert filled._engine.fields.covers(compile_where(FEW)), "this one had to make them"
    assert [hit.id for hit in hits] == exact[:3]


def test_what_changes_afterwards_is_seen(filled: Store, vectors: Any, reads: list[int]) -> None:
    query = vectors(1)[0]
    ids = {int(hit.text): hit.id for hit in filled.recall(query, 50, where=FEW)}
    view = filled.pin()
    filled.forget(ids[700])
    filled.remember("2000", vectors(1)[0], metadata={"n": 3})
    filled.remember("2001", vectors(1)[0])
    filled.remember("2002", vectors(1)[0], key="k", metadata={"n": 1401})
    filled.remember("2003", vectors(1)[0], key="k", metadata={"n": 1402})
    reads.clear()
    assert numbers(filled.recall(query, 50, where=FEW)) == [3, 1401, 1999, 2000]
    assert len(reads) == 3, "those that came, and have metadata"
    assert numbers(view.recall(query, 50, where=FEW)) == [3, 700, 1401, 1999]
    view.close()


@pytest.mark.parametrize("compacting", [False, True])
def test_columns_go_along_to_the_next_generation(
    filled: Store, vectors: Any, reads: list[int], compacting: bool
) -> None:
    query = vectors(1)[0]
    assert numbers(filled.recall(query, 50, where=FEW)) == [3, 700, 1401, 1999]
    filled.forget(where={"n": {"$in": [0, 1, 2, 700]}})
    filled.remember("2000", query, metadata={"n": 3})
    before = filled._engine
    if compacting:
        filled.compact()
    else:
        filled.checkpoint()
    assert filled._engine is not before
    reads.clear()
    assert numbers(filled.recall(query, 50, where=FEW)) == [3, 1401, 1999, 2000]
    assert len(reads) == 1, "the one that came since"


def test_a_field_of_long_texts_gets_no_column(filled: Store, vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields_module, "_COLUMN_BYTES_MAX", (20_000, 10))
    query = vectors(1)[0]
    for _ in range(2):
        assert numbers(filled.recall(query, 5, where={"id": "id-1234"})) == [1234]
        assert numbers(filled.recall(query, 50, where={"id": {"$in": ["id-3", "id-4"]}, "n": {"$lt": 4}})) == [3]
    assert not filled._engine.fields._columns, "and what it took is let go"


def test_columns_are_let_go_when_all_are_too_much(filled: Store, vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields_module, "_BYTES_MAX", (0, 450))
    for _ in range(2):
        for where, expected in (({"n": 3}, [3]), ({"id": "id-4"}, [4]), ({"tags": "t5"}, range(5, COUNT, 100))):
            assert numbers(filled.recall(vectors(1)[0], 50, where=where)) == list(expected)
            columns = filled._engine.fields._columns
            assert len(columns) <= 2 and sum(column.bytes for column in columns.values()) <= 450 * COUNT
    assert numbers(filled.recall(vectors(1)[0], 50, where={"n": 3, "id": "id-3", "tens": 0})) == [3]


def test_reading_candidates_again_and_again_ends_in_a_column(filled: Store, vectors: Any, reads: list[int]) -> None:
    where = {"n": {"$gt": 500}}
    for query in vectors(2 * COUNT // 10 + 2):
        assert len(filled.recall(query, 10, where=where)) == 10
    assert len(reads) <= 3 * COUNT
    reads.clear()
    for query in vectors(20):
        assert len(filled.recall(query, 10, where=where)) == 10
    assert reads == []


def test_a_damaged_memory_harms_only_answers_that_it_would_be_in(
    filled: Store, vectors: Any, path: Path, open_store: Callable[..., Store]
) -> None:
    filled.remember("here", vectors(1)[0], metadata={"n": "secret-here"})
    filled.checkpoint()
    filled.close()
    file = next(path.glob("gen-*/blobs.arena"))
    data = file.read_bytes()
    assert data.count(b"secret-here") == 1
    file.write_bytes(data.replace(b"secret-here", b"secret-hear"))
    with open_store(unknown_fields="ignore") as store:
        far = -vectors(1)[0]
        for _ in range(2):
            assert len(store.recall(far, 3, where={"n": {"$lt": 1000}})) == 3
            assert len(store.recall(far, 3, where={"n": {"$in": list(range(100))}})) == 3
            with pytest.raises(CorruptionError, match=r"blobs\.arena"):
                store.recall(vectors(1)[0], 3, where={"n": {"$in": list(range(100))}})


def test_values_that_are_equal_share_a_number_and_others_do_not(filled: Store, vectors: Any) -> None:
    kinds: list[Any] = [1, 1.0, True, "1", b"1", None, float("nan"), [1], {"a": 1}, -0.0, 0, False]
    for n, value in enumerate(kinds):
        filled.remember(str(COUNT + n), vectors(1)[0], metadata={"odd": value})
    query = vectors(1)[0]
    expected = {n: [m for m, found in enumerate(kinds) if _same(found, value)] for n, value in enumerate(kinds)}
    for n, value in enumerate(kinds):
        found = filled.recall(query, 50, where={"odd": {"$eq": value}, "n": {"$exists": False}})
        assert numbers(found) == [COUNT + m for m in expected[n]], value


def _same(found: Any, asked: Any) -> bool:
    if isinstance(found, list) and not isinstance(asked, list):
        return any(_same(each, asked) for each in found)
    alike = type(found) is type(asked) or {type(found), type(asked)} == {int, float}
    return alike and bool(np.all(found == asked))
