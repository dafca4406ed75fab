"""Links, branches, versions, concepts and archives through the public calls."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.results import Edge
from aeon.store import Store


@pytest.fixture(params=["in memory", "in a generation", "reopened"])
def settle(request: pytest.FixtureRequest, open_store: Callable[..., Store]) -> Callable[[Store], Store]:
    """What is done to a store before it is read: nothing, a checkpoint, or closing it with its log."""

    def settle_(store: Store) -> Store:
        if request.param == "in a generation":
            store.checkpoint()
        if request.param == "reopened":
            store.close()
            return open_store(None)
        return store

    return settle_


def ids(memories: list[aeon.Memory]) -> list[int]:
    return [memory.id for memory in memories]


# -- edges --------------------------------------------------------------------------------------------------------


def test_neighbours_by_kind_and_direction(store: Store, settle: Any) -> None:
    a, b = store.remember_many(["a", "b"], session="s")
    c = store.remember("c", parent=a, refs=[b], session="s")
    assert store.link(a, [b, c, b], "causes") == 2
    assert store.link(a, b, "causes") == 0, "it is there"
    assert store.link(b, a, "likes") == 1
    store = settle(store)
    trace = store.trace
    assert set(trace.neighbours(c, direction="out")) == {Edge(c, a, "parent"), Edge(c, b, "ref")}
    assert set(trace.neighbours(c, direction="in")) == {Edge(a, c, "causes")}
    assert set(trace.neighbours(a)) == {
        Edge(a, b, "causes"), Edge(a, c, "causes"), Edge(b, a, "likes"), Edge(c, a, "parent"),
    }  # fmt: skip
    assert trace.neighbours(a, "likes", "in") == [Edge(b, a, "likes")]
    assert trace.neighbours(b, "next") == [Edge(b, c, "next"), Edge(a, b, "next")]
    assert trace.neighbours(a, ["next", "causes"], "in") == []
    assert store.unlink(a, [b, c], "causes") == 2
    assert store.unlink(a, b, "causes") == 0
    assert trace.neighbours(a, "causes") == []
    assert store.link(a, b, "causes") == 1, "and can be made again"
    store.checkpoint()
    assert store.trace.neighbours(a, "causes", "out") == store.trace.neighbours(b, "causes", "in") != []


def test_an_edge_dies_with_either_end(store: Store, settle: Any) -> None:
    a, b, c = store.remember_many(["a", "b", "c"])
    store.link(a, b, "causes")
    store.link(b, c, "causes")
    store = settle(store)
    before = store.trace
    store.forget(b)
    assert before.neighbours(a) == store.trace.neighbours(c) == []
    assert store.trace.descendants(a) == []
    with pytest.raises(aeon.NotFoundError):
        store.trace.neighbours(b)
    store.checkpoint()
    assert len(store._engine.trace.graph.all_links()) == 0
    assert store.check().problems == ()


def test_a_snapshot_sees_one_graph(store: Store, settle: Any) -> None:
    a, b, c = store.remember_many(["a", "b", "c"])
    store.link(a, b, "causes")
    store = settle(store)
    view = store._view()
    from aeon import traversal

    seeds = np.array([a], np.uint64)
    store.unlink(a, b, "causes")
    store.link(a, c, "causes")
    store.forget(c)
    assert traversal.out_of(view, seeds).dst.tolist() == [b]
    assert traversal.into(view, np.array([b], np.uint64)).src.tolist() == [a]
    assert traversal.out_of(store._view(), seeds).dst.tolist() == []


@pytest.mark.parametrize("kind", ["causes", "derived_from", "summarises", "contains", "repeats"])
def test_circles_are_refused(store: Store, settle: Any, kind: str) -> None:
    chain = store.remember_many([str(n) for n in range(5)])
    for one, other in pairwise(chain):
        store.link(one, other, kind)
    store = settle(store)
    lsn = store.lsn
    with pytest.raises(aeon.InvalidInputError, match="circle"):
        store.link(chain[-1], chain[0], kind)
    with pytest.raises(aeon.InvalidInputError, match="circle"):
        store.link(chain[3], [chain[4], chain[1]], kind)
    assert store.lsn == lsn, "nothing was written"
    store.link(chain[-1], chain[0], "contradicts")
    store.link(chain[0], chain[-1], "contradicts")
    store.unlink(chain[1], chain[2], kind)
    assert store.link(chain[-1], chain[0], kind) == 1, "the circle is open now"
    with pytest.raises(aeon.InvalidInputError, match="circle"):
        store.link(chain[1], chain[2], kind)


def test_a_users_own_kind_may_be_kept_free_of_circles(store: Store) -> None:
    a, b, c = store.remember_many(["a", "b", "c"])
    store.link(a, b, "before", acyclic=True)
    store.link(b, c, "before", acyclic=True)
    with pytest.raises(aeon.InvalidInputError, match="circle"):
        store.link(c, a, "before", acyclic=True)
    assert store.link(c, a, "before") == 1
    assert store.link(b, a, "causes", acyclic=False) == store.link(a, b, "causes", acyclic=False) == 1


def test_circles_within_a_transaction(store: Store) -> None:
    a = store.remember("a")
    with pytest.raises(aeon.InvalidInputError, match="circle"), store.transaction():
        b, c = store.remember_many(["b", "c"])
        store.link(a, b, "causes")
        store.link(b, c, "causes")
        store.link(c, a, "causes")
    assert len(store) == 1 and store.trace.neighbours(a) == []
    with store.transaction():
        b, c = store.remember_many(["b", "c"])
        assert store.link(a, [b, c], "causes") == 2
        assert store.link(a, c, "causes") == 0
        assert store.unlink(a, c, "causes") == 1
        assert store.trace.neighbours(a) == [], "inside, the store is as it was before"
    assert store.trace.neighbours(a) == [Edge(a, b, "causes")]


def test_links_that_cannot_be(store: Store, disk: Any, path: Path) -> None:
    a, b = store.remember_many(["a", "b"])
    c = store.remember("c", refs=[a])
    store.forget(b)
    before = disk(path)
    for src, dst, kind, error in (
        (a, a, "causes", aeon.InvalidInputError), (a, [c, a], "causes", aeon.InvalidInputError),
        (a, b, "causes", aeon.NotFoundError), (b, a, "causes", aeon.NotFoundError), (a, 99, "causes", aeon.NotFoundError),
        (a, [c, 99], "causes", aeon.NotFoundError), (a, c, "", aeon.InvalidInputError), (a, c, None, aeon.InvalidInputError),
        (a, c, "next", aeon.InvalidInputError), (a, c, "parent", aeon.InvalidInputError),
        (a, c, "replaces", aeon.InvalidInputError), (0, c, "causes", aeon.InvalidInputError),
        (a, "c", "causes", aeon.InvalidInputError), (a, c, "\ud800", aeon.InvalidInputError),
        (a, c, "k" * 1025, aeon.CapacityError), (True, c, "causes", aeon.InvalidInputError),
    ):  # fmt: skip
        for call in (store.link, store.unlink):
            with pytest.raises(error):
                call(src, dst, kind)
    with pytest.raises(aeon.InvalidInputError, match="remembered with the ref"):
        store.unlink(c, a, "ref")
    with pytest.raises(aeon.InvalidInputError, match="was ever made"):
        store.trace.neighbours(a, "hates")
    with pytest.raises(aeon.InvalidInputError, match="direction"):
        store.trace.neighbours(a, direction="up")  # type: ignore[arg-type]
    with pytest.raises(aeon.NotFoundError, match="transaction"), store.transaction():
        store.forget(c)
        store.link(a, c, "causes")
    assert disk(path) == before


def test_ancestors_and_descendants_follow_what_came_first(store: Store, settle: Any) -> None:
    rain, mud, note, summary, group = store.remember_many(["rain", "mud", "note", "summary", "group"])
    reply = store.remember("reply", parent=note)
    store.link(rain, mud, "causes")
    store.link(note, mud, "derived_from")
    store.link(summary, [note, reply], "summarises")
    store.link(group, rain, "contains")
    store.link(mud, rain, "contradicts")
    store = settle(store)
    assert store.trace.ancestors(note) == [mud, rain, group]
    assert store.trace.ancestors(summary) == [note, reply, mud, rain, group]
    assert store.trace.ancestors(summary, hops=1) == [note, reply]
    assert store.trace.ancestors(summary, "summarises") == [note, reply]
    assert store.trace.descendants(rain) == [mud, note, summary, reply]
    assert store.trace.descendants(group, ["contains", "causes"]) == [rain, mud]
    assert store.trace.ancestors(mud, "contradicts") == [rain]
    assert store.trace.ancestors(group) == []


def test_paths_are_simple_and_shortest_first(store: Store, settle: Any) -> None:
    a, b, c, d, e = store.remember_many(list("abcde"))
    for src, dst in ((a, b), (b, d), (a, c), (c, d), (d, e), (a, e), (e, a)):
        store.link(src, dst, "leads to")
    store = settle(store)
    assert store.trace.paths(a, e) == [[a, e], [a, b, d, e], [a, c, d, e]]
    assert store.trace.paths(a, e, length_max=2) == [[a, e]]
    assert store.trace.paths(a, e, limit=2) == [[a, e], [a, b, d, e]]
    assert store.trace.paths(e, d) == [[e, a, b, d], [e, a, c, d]]
    assert store.trace.paths(a, a) == [[a]]
    lonely = store.remember("f")
    assert store.trace.paths(a, lonely) == []


def test_a_subgraph_is_what_is_within_reach(store: Store, settle: Any) -> None:
    chain = store.remember_many([str(n) for n in range(7)])
    for one, other in pairwise(chain):
        store.link(one, other, "causes")
    store.link(chain[0], chain[2], "contradicts")
    store = settle(store)
    part = store.trace.subgraph(chain[0], 2)
    assert part.ids.tolist() == [chain[0], chain[1], chain[2], chain[3]]
    assert part.distances.tolist() == [0, 1, 1, 2]
    assert set(part.edges()) == {
        Edge(chain[0], chain[1], "causes"), Edge(chain[1], chain[2], "causes"), Edge(chain[2], chain[3], "causes"),
        Edge(chain[0], chain[2], "contradicts"),
    }  # fmt: skip
    assert len(part.edges()) == 4
    assert store.trace.subgraph(chain[3], 1, direction="in").ids.tolist() == [chain[3], chain[2]]
    assert store.trace.subgraph(chain[3], 9, limit=3).ids.tolist() == [chain[3], chain[2], chain[4]]
    alone = store.trace.subgraph([chain[1], chain[2]], 0)
    assert (alone.ids.tolist(), alone.edges()) == ([chain[1], chain[2]], [Edge(chain[1], chain[2], "causes")])


# -- sessions that branch -----------------------------------------------------------------------------------------


def test_a_branch_goes_on_from_an_earlier_event(store: Store, settle: Any) -> None:
    one, two, three = store.remember_many(["1", "2", "3"], session="main")
    assert store.branch(two, "what if") == "what if"
    assert ids(store.history("what if")) == [one, two], "before anything was said in it"
    four = store.remember("4", session="main")
    other = store.remember("other", session="what if")
    deep = store.branch(other, "deeper")
    last = store.remember("last", session=deep)
    store = settle(store)
    assert ids(store.history("what if")) == [one, two, other], "another session's future is not in it"
    assert ids(store.history("deeper")) == [one, two, other, last]
    assert ids(store.history("main")) == [one, two, three, four]
    assert ids(store.history("deeper", 2)) == [other, last]
    assert ids(store.history("deeper", 3, before=last)) == [one, two, other]
    assert ids(store.history("deeper", before=other)) == [one, two]
    assert store.backtrack("deeper").id == other
    assert store.backtrack("deeper", 3).id == one
    shared, left, right = store.diff("main", "deeper")
    assert (shared.id, ids(left), ids(right)) == (two, [three, four], [other, last])
    with pytest.raises(aeon.NotFoundError):
        store.diff("main", "nobody")
    assert store.trace.neighbours(two, "next", "out") == [Edge(two, three, "next"), Edge(two, other, "next")]
    assert store.trace.neighbours(other, "next", "in") == [Edge(two, other, "next")]
    assert store.trace.descendants(one, "next") == [two, three, other, four, last]
    store.forget(two)
    assert ids(store.history("deeper")) == [one, other, last]
    store.checkpoint()
    assert ids(store.history("deeper")) == [one, other, last], "the event it branched off was forgotten"


@pytest.mark.parametrize("purge", [False, True])
def test_branches_after_a_compaction(path: Path, purge: bool) -> None:
    """Of a session that was emptied, of one that never had a memory, and of a trunk that was emptied."""
    with aeon.open(path) as store:
        root = [store.remember(str(n), session="root") for n in range(4)]
        store.branch(root[2], "emptied")
        store.branch(root[1], "never")
        gone = [store.remember("gone", session="emptied") for _ in range(2)]
        store.branch(gone[0], "twig")
        twig = store.remember("twig", session="twig")
        lost = store.remember("lost", session="lost")
        store.branch(lost, "of the lost")
        store.forget([*gone, lost])
        for _ in range(2):
            store.compact(purge=purge)
            assert ids(store.history("emptied")) == root[:3]
            assert ids(store.history("never")) == root[:2]
            assert ids(store.history("twig")) == [*root[:3], twig]
            assert store.history("of the lost") == []
            assert store.check().ok
        later = store.remember("later", session="emptied")
        store.branch(later, "leaf")
        store.compact(purge=purge)
    with aeon.open(path) as store:
        assert ids(store.history("leaf")) == [*root[:3], later]
        assert store.check().ok


def test_branches_that_cannot_be(store: Store) -> None:
    a, b = store.remember_many(["a", "b"], session="main")
    store.branch(a, "taken")
    store.forget(b)
    lsn = store.lsn
    for event, name, error in (
        (3, "x", aeon.NotFoundError), (b, "x", aeon.NotFoundError), (a, "main", aeon.InvalidInputError),
        (a, "taken", aeon.InvalidInputError), (a, "", aeon.InvalidInputError), (-1, "x", aeon.InvalidInputError),
    ):  # fmt: skip
        with pytest.raises(error):
            store.branch(event, name)
    for session, n, error in (
        ("main", 1, aeon.NotFoundError), ("nobody", 1, aeon.NotFoundError), ("main", 0, aeon.InvalidInputError),
    ):  # fmt: skip
        with pytest.raises(error):
            store.backtrack(session, n)
    assert store.lsn == lsn
    with store.transaction():
        new = store.remember("new", session="fresh")
        store.branch(new, "from fresh")
        for name in ("from fresh", "fresh"):
            with pytest.raises(aeon.InvalidInputError):
                store.branch(new, name)
    assert ids(store.history("from fresh")) == [new]


def test_timestamps_that_go_backwards_are_kept_and_order_stays(store: Store, settle: Any) -> None:
    times = [50, 40, 2_000_000_000_000_000, -7, 40]
    made = [store.remember(str(at), session="s", timestamp=at) for at in times]
    store = settle(store)
    assert [(memory.id, memory.timestamp) for memory in store.history("s")] == list(zip(made, times, strict=True))
    assert store.trace.descendants(made[0], "next") == made[1:]


# -- versions, concepts, archives ---------------------------------------------------------------------------------


def test_every_version_is_kept(store: Store, settle: Any) -> None:
    first = store.remember("v1", key="home")
    second = store.remember("v2", key="home")
    other = store.remember("other", key="home", namespace=("a",))
    third = store.remember("v3", key="home")
    store = settle(store)
    for what in ("home", first, second, third):
        assert ids(store.history_of(what)) == [first, second, third]
    assert [memory.text for memory in store.history_of("home")] == ["v1", "v2", "v3"]
    assert ids(store.history_of("home", ("a",))) == [other]
    assert store.history_of("nothing") == []
    store.forget(third)
    assert store.history_of("home") == []
    with pytest.raises(aeon.NotFoundError):
        store.history_of(first)


def test_concepts_are_made_once(store: Store, settle: Any) -> None:
    tea = store.concept("tea")
    assert store.concept("tea") == tea
    with store.transaction():
        milk = store.concept("milk")
        assert store.concept("milk") == milk and store.concept("tea") == tea
    assert store.get(tea).role == "concept" and store.get(tea).text == "tea"
    for n in range(4):
        store.remember(str(n), refs=[tea, milk] if n < 3 else [tea])
    cake = store.concept("cake")
    note = store.remember("cake with tea", refs=[cake, tea])
    store.link(note, milk, "ref")
    store = settle(store)
    assert store.concept("milk") == milk
    assert store.trace.cooccurring(tea) == [(milk, 4), (cake, 1)]
    assert store.trace.cooccurring(tea, 1) == [(milk, 4)]
    assert store.trace.cooccurring(cake) == [(tea, 1), (milk, 1)] or store.trace.cooccurring(cake)[0][1] == 1
    assert store.concept("tea", namespace=("drinks",)) != tea


def test_archived_is_out_of_recall_and_nothing_else(store: Store, settle: Any, vectors: Any) -> None:
    given = vectors(20)
    made = store.remember_many([str(n) for n in range(20)], given, session="s", metadata={"n": 1})
    assert store.archive(made[:15]) == 15
    assert store.archive(made[:16]) == 1
    store = settle(store)
    for options in ({}, {"session": "s"}, {"where": {"n": 1}}, {"exact": True}):
        assert {hit.id for hit in store.recall(given[0], 20, **options)} == set(made[16:])
    found, _ = store.atlas.search(given[0], 20)
    assert set(found[0].tolist()) - {0} == set(made[16:])
    assert {hit.id for hit in store.recall(given[0], 20, archived=True)} == set(made)
    assert ids(store.history("s")) == made and store.get(made[0]).text == "0" and len(store) == 20
    assert store.trace.is_archived(made[0]) and not store.trace.is_archived(made[-1])
    assert store.restore(made[:2]) == 2 and store.restore(made[:2]) == 0
    assert store.recall(given[0], 1)[0].id == made[0]
    store.checkpoint()
    assert len(store.recall(given[0], 20)) == 6
    with pytest.raises(aeon.NotFoundError):
        store.archive([made[0], 99])
    assert len(store.recall(given[0], 20)) == 6


def test_activation_spreads_and_fades(store: Store, settle: Any) -> None:
    a, b, c, d = store.remember_many(["a", "b", "c", "d"], session=["s", "t", "u", "v"])
    store.link(a, b, "likes")
    store.link(c, b, "likes")
    store = settle(store)
    found = dict(store.trace.activate(a, hops=2, decay=0.5))
    assert found[b] == 0.5
    assert found[c] == pytest.approx(0.5 * 0.5 / 2**0.5) and d not in found
    assert list(found) == [a, b, c] and found[a] == pytest.approx(1 + 0.25 / 2**0.5)
    assert store.trace.activate({a: 2.0}, hops=1) == [(a, 2.0), (b, 1.0)]
    assert store.trace.activate([a], hops=1, kinds="ref" if False else "likes", k=1) == [(a, 1.0)]
    e = store.remember("e", session="s")
    assert dict(store.trace.activate(a, hops=1, decay=1, time_weight=1))[e] == pytest.approx(1 / 2**0.5)
    assert e not in dict(store.trace.activate(a, hops=1, time_weight=0))
    for wrong in ({"decay": 2}, {"decay": "x"}, {"time_weight": -1}, {"hops": 0}, {"k": 0}):
        with pytest.raises(aeon.InvalidInputError):
            store.trace.activate(a, **wrong)


@pytest.mark.parametrize("table", ["links", "reverse", "archived"])
def test_check_proves_the_tables_of_the_graph(path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """Tables that are whole and do not say what the operations in the arena say."""
    from aeon import checkpoint

    real = checkpoint._Writer._graph.func

    def lame(writer: Any) -> Any:
        tables = real(writer)
        return {kind: rows[:-1] if kind.name.lower() == table else rows for kind, rows in tables.items()}

    with aeon.open(path, 8) as store:
        a, b, c = store.remember_many(["a", "b", "c"])
        store.link(a, [b, c], "causes")
        store.archive([a, b])
        monkeypatch.setattr(checkpoint._Writer, "_graph", property(lame))
        store.checkpoint()
        assert {problem.path.rpartition("/")[2] for problem in store.check().problems} == {f"{table}.tbl"}


def test_circles_are_seen_within_a_transaction_and_what_it_ended_is_gone(open_store: Any) -> None:
    store = open_store()
    a, b, c = store.remember_many(["a", "b", "c"])
    with store.transaction():
        store.link(a, b, "causes")
        store.link(b, c, "causes")
        with pytest.raises(aeon.InvalidInputError, match="circle"):
            store.link(c, a, "causes")
        store.unlink(a, b, "causes")
        assert store.link(c, a, "causes") == 1
    assert {(e.src, e.dst) for e in store.trace.neighbours([a, b, c], "causes")} == {(b, c), (c, a)}
