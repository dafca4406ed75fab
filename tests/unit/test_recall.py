"""Recall: filters before ranking, cosines, order, and that it is the same as comparing with every vector by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import recall as recall_module
from aeon.intake import make_filters
from aeon.recall import recall as recall_at
from aeon.store import Store

COUNT = 300


@pytest.fixture(params=["int8", "float32"])
def rows(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["in the log", "in a generation", "in both"])
def filled(request: pytest.FixtureRequest, path: Path, vectors: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """300 memories: n % 5 names the session, n % 3 the namespace, n % 4 the role; timestamp n; metadata n, tags, nested."""
    monkeypatch.setattr(aeon.store.dispatch, "start", lambda: None)
    store = aeon.open(path, 32, rows=rows, durability="normal")
    roles = ["user", "assistant", "tool", "summary"]
    spaces = [(), ("a",), ("a", "b")]
    directions = vectors(COUNT, 32)
    for third in range(3):
        for space in range(3):
            numbers = [n for n in range(third * 100, third * 100 + 100) if n % 3 == space]
            store.remember_many(
                [f"text {n}" for n in numbers], directions[numbers], session=[f"s{n % 5}" for n in numbers],
                role=[roles[n % 4] for n in numbers], namespace=spaces[space], timestamps=numbers,
                metadata=[{"n": n, "tags": [f"t{n % 7}"], "deep": {"er": n % 2}} if n % 10 else None for n in numbers],
            )  # fmt: skip
        if (third == 1 and request.param == "in both") or (third == 2 and request.param == "in a generation"):
            store.checkpoint()
    yield store
    assert store.check().ok
    store.close()


def everything(store: Store) -> list[aeon.Memory]:
    return [memory for info in store.sessions() for memory in store.history(info.name, limit=None)]


def by_hand(store: Store, query: Any, keep: Any) -> list[tuple[float, int]]:
    """(cosine with the kept vector, id) of every memory that `keep` keeps, best first."""
    unit = query / np.linalg.norm(query)
    kept = [m for m in everything(store) if m.vector is not None and keep(m)]
    return sorted(((float(m.vector @ unit), m.id) for m in kept), key=lambda pair: (-pair[0], pair[1]))


FILTERS: dict[str, tuple[dict[str, Any], Any]] = {
    "none": ({}, lambda m: True),
    "session": ({"session": "s3"}, lambda m: m.session == "s3"),
    "sessions": ({"session": ["s0", "s4", "nobody"]}, lambda m: m.session in ("s0", "s4")),
    "set of sessions": ({"session": {"s1"}}, lambda m: m.session == "s1"),
    "no session": ({"session": []}, lambda m: False),
    "unknown session": ({"session": "nobody"}, lambda m: False),
    "namespace": ({"namespace": "a"}, lambda m: m.namespace[:1] == ("a",)),
    "deep namespace": ({"namespace": ("a", "b")}, lambda m: m.namespace == ("a", "b")),
    "unknown namespace": ({"namespace": ("a", "c")}, lambda m: False),
    "namespace is no text prefix": ({"namespace": ("",) and ("b",)}, lambda m: False),
    "empty namespace": ({"namespace": ()}, lambda m: True),
    "role": ({"roles": "tool"}, lambda m: m.role == "tool"),
    "roles": ({"roles": ["tool", "summary"]}, lambda m: m.role in ("tool", "summary")),
    "no role": ({"roles": []}, lambda m: False),
    "role nobody has": ({"roles": "system"}, lambda m: False),
    "since": ({"since": 250}, lambda m: m.timestamp >= 250),
    "until": ({"until": 7}, lambda m: m.timestamp < 7),
    "since until": ({"since": 100, "until": 103}, lambda m: 100 <= m.timestamp < 103),
    "since after until": ({"since": 9, "until": 9}, lambda m: False),
    "a moment": ({"until": datetime.fromtimestamp(0.00005, timezone.utc)}, lambda m: m.timestamp < 50),
    "where": ({"where": {"n": {"$gte": 290}}}, lambda m: m.metadata.get("n", 0) >= 290),
    "where rare": ({"where": {"n": 151}}, lambda m: m.metadata.get("n") == 151),
    "where nothing": ({"where": {"n": -1}}, lambda m: False),
    "where missing": ({"where": {"n": {"$exists": False}}}, lambda m: not m.metadata),
    "where not equal": ({"where": {"n": {"$ne": 1}}}, lambda m: m.metadata.get("n") != 1),
    "where tag": ({"where": {"tags": "t3"}}, lambda m: "t3" in m.metadata.get("tags", [])),
    "where nested": ({"where": {"deep.er": 1}}, lambda m: m.metadata.get("deep", {}).get("er") == 1),
    "where empty": ({"where": {}}, lambda m: True),
    "all at once": (
        {"session": ["s1", "s2"], "namespace": "a", "roles": ["user", "tool"], "since": 20, "until": 280,
         "where": {"$or": [{"tags": "t1"}, {"deep.er": 0}]}},
        lambda m: m.session in ("s1", "s2") and m.namespace[:1] == ("a",) and m.role in ("user", "tool")
        and 20 <= m.timestamp < 280 and ("t1" in m.metadata.get("tags", []) or m.metadata.get("deep", {}).get("er") == 0),
    ),
}  # fmt: skip


def agree(found: list[tuple[float, int]], expected: list[tuple[float, int]], k: int) -> None:
    """The k best, each with its score; within rounding of the query (2^-15) either of two equal ones may come first."""
    assert len(found) == min(k, len(expected))
    truth = {id_: score for score, id_ in expected}
    for (score, id_), (best, _) in zip(found, expected, strict=False):
        assert id_ in truth, "a memory that the filter does not let through"
        assert score == pytest.approx(truth[id_], abs=1e-4)
        assert truth[id_] == pytest.approx(best, abs=2e-4)
    assert len({id_ for _, id_ in found}) == len(found)
    assert [score for score, _ in found] == sorted((score for score, _ in found), reverse=True)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_apply_before_ranking(filled: Store, vectors: Any, name: str) -> None:
    arguments, keep = FILTERS[name]
    for seed, k in ((1, 1), (2, 10), (3, 1000)):
        query = vectors(1, 32, seed)[0] * 3
        expected = by_hand(filled, query, keep)
        hits = filled.recall(query, k, exact=True, **arguments)
        agree([(hit.score, hit.id) for hit in hits], expected, k)
        hits = filled.recall(query, k, **arguments)
        assert len(hits) == min(k, len(expected))
        if "where" not in arguments:
            ids, scores = filled.atlas.search(query, k, **arguments)
            assert ids[0, : len(hits)].tolist() == [hit.id for hit in hits]
            assert scores[0, : len(hits)].tolist() == [hit.score for hit in hits]
            assert (ids[0, len(hits) :] == 0).all() and (scores[0, len(hits) :] == -np.inf).all()


@pytest.mark.parametrize("name", FILTERS)
def test_memories_are_all_that_pass_in_the_order_they_were_remembered(filled: Store, name: str) -> None:
    arguments, keep = FILTERS[name]
    filled.forget([5, 250])
    expected = sorted(memory.id for memory in everything(filled) if keep(memory))
    assert [memory.id for memory in filled.memories(**arguments)] == expected


def test_memories_are_those_of_one_moment(store: Store) -> None:
    ids = store.remember_many(["a", "b", "c"])
    walk = store.memories()
    assert next(walk).text == "a"
    store.forget(ids[1])
    store.remember("d")
    store.checkpoint()
    assert [memory.text for memory in walk] == ["b", "c"]
    assert [memory.text for memory in store.memories()] == ["a", "c", "d"]


def test_filters_let_through_only_what_is_current(filled: Store, vectors: Any) -> None:
    gone = [memory.id for memory in everything(filled)][::3]
    filled.forget(gone)
    query = vectors(1, 32, 5)[0]
    for arguments, keep in FILTERS.values():
        hits = filled.recall(query, 500, exact=True, **arguments)
        assert not {hit.id for hit in hits} & set(gone)
        agree([(hit.score, hit.id) for hit in hits], by_hand(filled, query, keep), 500)


def test_a_batch_of_queries_is_each_query_alone(filled: Store, vectors: Any) -> None:
    queries = vectors(7, 32, 9)
    ids, scores = filled.atlas.search(queries, 5, session="s2")
    assert (ids.shape, ids.dtype, scores.shape, scores.dtype) == ((7, 5), np.uint64, (7, 5), np.float32)
    for n, query in enumerate(queries):
        alone = filled.atlas.search(query, 5, session="s2")
        assert (ids[n] == alone[0][0]).all() and (scores[n] == alone[1][0]).all()
        assert ids[n].tolist() == [hit.id for hit in filled.recall(query, 5, session="s2")]


def test_no_query_gives_no_row(filled: Store) -> None:
    ids, scores = filled.atlas.search(np.empty((0, 32)), 4)
    assert ids.shape == scores.shape == (0, 4)


def test_exact_recall_is_the_same_here(filled: Store, vectors: Any) -> None:
    query = vectors(1, 32, 4)[0]
    assert [h.id for h in filled.recall(query, exact=True)] == [h.id for h in filled.recall(query)]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_equal_scores_come_in_the_order_they_were_remembered(
    path: Path, vectors: Any, rows: Any, checkpoint: bool
) -> None:
    with aeon.open(path, 16, rows=rows, durability="normal") as store:
        same, other = vectors(2, 16)
        ids = [store.remember(f"same {n}", same) if n % 3 else store.remember(f"other {n}", other) for n in range(90)]
        if checkpoint:
            store.checkpoint()
        ids += store.remember_many(["late"] * 5, np.tile(same, (5, 1)))
        twins = [id_ for n, id_ in enumerate(ids) if n >= 90 or n % 3]
        for k in (1, 7, len(twins)):
            hits = store.recall(same, k)
            assert [hit.id for hit in hits] == twins[:k]
            assert len({hit.score for hit in hits}) == 1
        store.forget(twins[:3])
        assert [hit.id for hit in store.recall(same, 4)] == twins[3:7]
        assert [hit.id for hit in store.recall(same, 4, since=0)] == twins[3:7]


def test_scores_are_cosines(path: Path, vectors: Any, rows: Any) -> None:
    with aeon.open(path, 64, rows=rows, durability="normal") as store:
        base = vectors(50, 64)
        store.remember_many([str(n) for n in range(50)], base * 17)
        query = vectors(1, 64, 8)[0]
        for hit in store.recall(query * 5, 50):
            exact = float(base[hit.id - 1] @ query)
            assert hit.score == pytest.approx(exact, abs=1e-5 if rows == "float32" else 5e-3)
        assert store.recall(base[7], 1)[0].score == pytest.approx(1, abs=1e-6 if rows == "float32" else 5e-3)
        assert store.recall(-base[7], 50)[-1].id == 8
        assert store.recall(-base[7], 50)[-1].score == pytest.approx(-1, abs=1e-6 if rows == "float32" else 5e-3)


def test_a_float32_store_keeps_every_bit_of_the_direction(path: Path, vectors: Any) -> None:
    with aeon.open(path, 33, rows="float32", durability="normal") as store:
        base = vectors(20, 33)
        store.remember_many([str(n) for n in range(20)], base)
        for _ in range(2):
            for n in range(20):
                assert store.get(n + 1).vector == pytest.approx(base[n], abs=2e-7)
            store.checkpoint()
        assert store.stats().rows == "float32"
    with aeon.open(path) as store:
        assert store.get(20).vector == pytest.approx(base[19], abs=2e-7)


@pytest.mark.parametrize("dim", [1, 2, 3, 15, 16, 17, 63, 64, 65, 100, 384])
def test_any_dim(path: Path, vectors: Any, rows: Any, dim: int) -> None:
    with aeon.open(path, dim, rows=rows, durability="normal") as store:
        base = vectors(40, dim)
        store.remember_many([str(n) for n in range(40)], base)
        for step in range(2):
            query = vectors(1, dim, 3)[0]
            agree([(h.score, h.id) for h in store.recall(query, 10)], by_hand(store, query, lambda m: True), 10)
            if step == 0:
                store.checkpoint()
                store.remember_many([str(n) for n in range(40, 80)], vectors(40, dim, 1))


def test_events_without_a_vector_are_in_history_only(store: Store, vectors: Any) -> None:
    plain = store.remember("plain")
    assert store.recall(vectors(1)[0]) == []
    assert store.atlas.search(vectors(1)[0], 2)[0].tolist() == [[0, 0]]
    found = store.remember("found", vectors(1)[0])
    for _ in range(2):
        assert [hit.id for hit in store.recall(vectors(1)[0])] == [found]
        assert [hit.id for hit in store.recall(vectors(1)[0], session="default")] == [found]
        assert [memory.id for memory in store.history()] == [plain, found]
        store.checkpoint()


def test_namespaces_match_segment_by_segment(store: Store) -> None:
    for n, parts in enumerate([(), ("a",), ("ab",), ("a", "b"), ("a", "bc"), ("a", "b", "c"), ("b", "a")]):
        store.remember(str(n), np.ones(8), namespace=parts)

    def found(parts: Any) -> list[str]:
        return sorted(hit.text for hit in store.recall(np.ones(8), 99, namespace=parts))

    for _ in range(2):
        assert found(("a",)) == ["1", "3", "4", "5"]
        assert found("a") == ["1", "3", "4", "5"]
        assert found(("a", "b")) == ["3", "5"]
        assert found(["a", "b", "c"]) == ["5"]
        assert found(("a", "b", "c", "d")) == []
        assert found("b") == ["6"]
        assert len(found(())) == len(found(None)) == 7
        store.checkpoint()


def test_where_looks_on_until_k_match(store: Store, vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    query = vectors(1)[0]
    away = query + 0.02 * np.arange(400)[:, None] * np.array([-query[1], query[0], 0, 0, 0, 0, 0, 0])
    store.remember_many([str(n) for n in range(400)], away, metadata=[{"n": n, "late": n >= 390} for n in range(400)])
    ranked = [hit.metadata["n"] for hit in store.recall(query, 400)]
    late, early = [n for n in ranked if n >= 390], [n for n in ranked if n < 390]
    assert set(ranked[-10:]) == set(late), "the ten that match rank last"
    looked_at = []
    matches = recall_module.matches
    monkeypatch.setattr(
        recall_module, "matches", lambda view, index, where: looked_at.append(index) or matches(view, index, where)
    )
    assert [hit.metadata["n"] for hit in store.recall(query, 3, where={"late": False})] == early[:3]
    assert len(looked_at) == 3, "metadata is read in the order of rank, and no further than needed"
    assert [hit.metadata["n"] for hit in store.recall(query, 5, where={"late": True})] == late[:5]
    assert len(store.recall(query, 50, where={"late": True})) == 10


def test_where_on_bytes_and_deep_metadata(store: Store) -> None:
    store.remember(
        "a", np.ones(8), metadata={"digest": b"\x00\xff", "a": {"b": {"c": [1, {"d": 2}]}}, "nan": float("nan")}
    )
    store.checkpoint()
    assert len(store.recall(np.ones(8), where={"digest": b"\x00\xff"})) == 1
    assert len(store.recall(np.ones(8), where={"a.b.c": 1})) == 1
    assert len(store.recall(np.ones(8), where={"a": {"b": {"c": {"$exists": True}}}})) == 1
    assert store.recall(np.ones(8), where={"nan": float("nan")}) == []


def test_k_may_exceed_everything(store: Store, vectors: Any) -> None:
    store.remember_many(["a", "b"], vectors(2))
    assert len(store.recall(vectors(1)[0], 10**12)) == 2
    assert len(store.recall(vectors(1)[0], np.int64(1))) == 1


def test_an_empty_store_recalls_nothing(store: Store, vectors: Any) -> None:
    assert store.recall(vectors(1)[0]) == []
    assert store.recall(vectors(1)[0], session="x", where={"a": 1}) == []
    assert (len(store), len(store.atlas), store.atlas.dim) == (0, 0, 8)


def test_a_read_after_a_write_sees_it(store: Store, vectors: Any) -> None:
    base = vectors(60)
    for n in range(60):
        id_ = store.remember(str(n), base[n])
        assert store.recall(base[n], 1)[0].id == id_
        if n % 17 == 16:
            store.checkpoint()


def test_texts_of_hits_are_read_when_asked_for(store: Store, vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.remember_many(["a", "b"], vectors(2))
    store.checkpoint()
    reads = []
    view = aeon.blob_arena.BlobArena.view
    monkeypatch.setattr(aeon.blob_arena.BlobArena, "view", lambda *args: reads.append(args[1]) or view(*args))
    hits = store.recall(vectors(2)[0], 2)
    assert [hit.preview for hit in hits] == ["a", "b"] and reads == []
    assert hits[0].text == "a" and len(reads) == 1
    assert hits[0].text == "a" and len(reads) == 1, "and kept"


def test_a_damaged_row_is_never_scored(open_store: Any, path: Path, vectors: Any) -> None:
    store = open_store()
    store.remember_many(["a", "b"], vectors(2))
    store.checkpoint()
    store.close()
    codes = next(path.rglob("codes.arena"))
    data = bytearray(codes.read_bytes())
    data[4096 + 64] ^= 1
    codes.write_bytes(data)
    with aeon.open(path, read_only=True) as reader:
        with pytest.raises(aeon.CorruptionError) as raised:
            reader.recall(vectors(2)[0])
        assert raised.value.path.endswith("codes.arena") and raised.value.offset == 4096 + 64
        assert reader.get(1).text == "a"


def test_a_damaged_text_is_never_shown(open_store: Any, path: Path, vectors: Any) -> None:
    store = open_store()
    store.remember_many(["first text", "second text"], vectors(2), metadata={"n": 1})
    store.checkpoint()
    store.close()
    blobs = next(path.rglob("blobs.arena"))
    data = bytearray(blobs.read_bytes())
    data[data.index(b"second text")] ^= 1
    blobs.write_bytes(data)
    with aeon.open(path, read_only=True) as reader:
        hit = reader.recall(vectors(2)[1], 1)[0]
        assert hit.preview == "second text"
        for attribute in ("text", "metadata", "key", "refs"):
            with pytest.raises(aeon.CorruptionError, match="checksum"):
                getattr(hit, attribute)
        with pytest.raises(aeon.CorruptionError):
            reader.recall(vectors(2)[1], 1, where={"n": 1})
        assert reader.get(1).text == "first text"


def test_a_store_may_be_opened_so_that_an_unknown_field_is_no_match(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "agent.aeon", unknown_fields="ignore") as store:
        store.remember("a", metadata={"topic": "home"})
        assert store.recall("a", where={"kind": "fact"}) == []
        assert store.forget(where={"kind": "fact"}) == 0
        assert list(store.memories(where={"kind": "fact"})) == []
    with aeon.open(tmp_path / "agent.aeon") as store, pytest.raises(aeon.FilterError, match="unknown_fields='ignore'"):
        store.recall("a", where={"kind": "fact"})
    with pytest.raises(aeon.InvalidInputError, match="unknown_fields is 'error' or 'ignore'"):
        aeon.open(tmp_path / "agent.aeon", unknown_fields="warn")


def test_what_a_filter_chose_is_kept_and_grows(open_store: Callable[..., Store]) -> None:
    store = open_store(8)
    rng = np.random.default_rng(4)
    query = rng.standard_normal(8)
    filters: list[dict[str, Any]] = [
        {"session": "a"}, {"session": ["a", "new"]}, {"namespace": ["n"]}, {"roles": "tool"}, {"since": 50, "until": 120},
        {"session": "b", "roles": "user", "since": 10},
    ]  # fmt: skip
    for step in range(6):
        views = [store._view()]
        for n in range(30):
            number = 30 * step + n
            store.remember(
                "x", rng.standard_normal(8) if n % 4 else None, session="new" if step > 3 and n % 3 == 0 else "ab"[n % 2],
                namespace=["n", str(step)] if n % 5 == 0 else [], role=("user", "tool")[n % 7 == 0], timestamp=number,
            )  # fmt: skip
        for options in filters:
            found = [hit.id for hit in store.recall(query, 500, **options)]
            kept, store._engine.atlas.selections = store._engine.atlas.selections, {}
            assert found == [hit.id for hit in store.recall(query, 500, **options)]
            store._engine.atlas.selections = kept
            checked = make_filters(**options)
            old = [hit.id for hit in recall_at(views[0], query.astype(np.float32), 500, checked)]
            assert old == [id_ for id_ in found if id_ <= 30 * step]
        assert len(store._engine.atlas.selections) <= 8


def test_forget_refuses_any_field_that_no_memory_had(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "agent.aeon") as store:
        store.remember("a", metadata={"status": "keep"})
        store.remember("b", metadata={"status": "drop"})
        for where in ({"staus": {"$ne": "keep"}}, {"$not": {"staus": "keep"}}, {"staus": {"$exists": False}}):
            with pytest.raises(aeon.FilterError, match="did you mean 'status'"):
                store.forget(where=where)
        assert len(store) == 2 and store.recall("a", where={"staus": {"$exists": False}})
        assert store.forget(where={"status": {"$ne": "keep"}}) == 1
