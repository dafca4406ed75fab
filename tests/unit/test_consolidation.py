"""Consolidation, undo, salience, duplicates and dreams."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.results import Duplicates, Edge
from aeon.salience import Salience
from aeon.store import Store
from aeon.summarise import extract, split_sentences

DAY = 24 * 3600 * 1_000_000


@pytest.fixture
def talk(path: Path) -> Any:
    """A store with its own embedder, and one conversation in it."""
    with aeon.open(path, durability="normal") as store:
        lines = [
            "Tess moved to Trieste in April.", "She rents a flat by the harbour.", "The flat has a balcony.",
            "Her sofa did not fit through the door.", "It rained all week.",
        ]  # fmt: skip
        store.remember_many(lines, session="monday", timestamps=[n * 1_000_000 for n in range(5)])
        yield store
        assert store.check().problems == ()


def recalled(store: Store, query: Any, **options: Any) -> set[int]:
    return {hit.id for hit in store.recall(query, 50, **options)}


def state(store: Store) -> Any:
    return (
        store.lsn, len(store), [m.id for m in store.history("monday", None)], store.atlas.search(np.ones(384))[0].tolist(),
        [(e.src, e.dst, e.kind) for m in store.history("monday", None) for e in store.trace.neighbours(m.id)],
    )  # fmt: skip


def test_a_summary_takes_the_place_of_memories_and_gives_it_back(talk: Store) -> None:
    cause = talk.remember("April began.", session="other")
    place = talk.concept("Trieste")
    talk.link(cause, 1, "causes")
    talk.link(2, place, "ref")
    talk.link(4, 5, "contradicts")
    before = [memory.id for memory in talk.history("monday")]
    summary = talk.consolidate([1, 2, 3, 4], metadata={"kind": "episode"}, key="monday so far")
    made = talk.get(summary)
    assert (made.role, made.session, made.metadata, made.key) == (
        "summary", "monday", {"kind": "episode"}, "monday so far",
    )  # fmt: skip
    assert 0 < len(split_sentences(made.text)) <= 3
    assert recalled(talk, "Tess") == {5, cause, summary}
    assert [memory.id for memory in talk.history("monday")] == [*before, summary]
    assert talk.get(1).text.startswith("Tess") and talk.trace.is_archived(1)
    assert set(talk.trace.neighbours(summary)) == {
        *(Edge(summary, one, "summarises") for one in (1, 2, 3, 4)), Edge(cause, summary, "causes"),
        Edge(summary, place, "ref"), Edge(summary, 5, "contradicts"),
    }  # fmt: skip
    assert Edge(cause, 1, "causes") in talk.trace.neighbours(1), "the originals keep theirs"
    with pytest.raises(aeon.InvalidInputError, match="archived"):
        talk.consolidate([4, 5])
    talk.checkpoint()
    assert talk.undo(summary) == [1, 2, 3, 4]
    assert recalled(talk, "Tess") == {1, 2, 3, 4, 5, cause}
    with pytest.raises(aeon.NotFoundError):
        talk.get(summary)
    assert talk.get_key("monday so far") is None
    assert talk.trace.neighbours(cause, direction="out") == [Edge(cause, 1, "causes")]
    with pytest.raises(aeon.NotFoundError):
        talk.undo(summary)


def test_ways_to_choose(talk: Store) -> None:
    by_query = talk.consolidate(query="Where does Tess live?", k=2, summarise=lambda memories: f"{len(memories)} said")
    assert talk.get(by_query).text == "2 said"
    seen: list[int] = []
    rest = talk.consolidate(session="monday", summarise=lambda ms: seen.extend(m.id for m in ms) or "the rest")
    assert len(seen) == 3 and by_query not in seen and seen == sorted(seen)
    with pytest.raises(aeon.InvalidInputError, match="nothing to consolidate"):
        talk.consolidate(session="monday")
    both = talk.consolidate([by_query, rest], summarise=lambda ms: " and ".join(m.text for m in ms))
    assert talk.get(both).text == "2 said and the rest"
    assert talk.trace.ancestors(both, "summarises", hops=1) == [by_query, rest]
    assert set(talk.trace.ancestors(both, "summarises")) == {by_query, rest, 1, 2, 3, 4, 5}
    assert talk.undo(both) == [by_query, rest]
    assert len(talk.undo(rest)) == 3


def test_originals_may_be_forgotten(talk: Store) -> None:
    cause = talk.remember("April began.")
    talk.link(cause, 1, "causes")
    summary = talk.consolidate([1, 2], originals="forget", summarise=lambda _: "Tess lives in Trieste.")
    for id_ in (1, 2):
        with pytest.raises(aeon.NotFoundError):
            talk.get(id_)
    assert talk.trace.neighbours(summary) == [Edge(cause, summary, "causes")]
    with pytest.raises(aeon.InvalidInputError, match="nothing to undo"):
        talk.undo(summary)


def test_edges_that_would_close_a_circle_are_left_out(talk: Store) -> None:
    talk.link(1, 3, "causes")
    talk.link(3, 2, "causes")
    summary = talk.consolidate([1, 2])
    edges = talk.trace.neighbours(summary, "causes")
    assert edges in ([Edge(summary, 3, "causes")], [Edge(3, summary, "causes")])


def test_nothing_changes_if_it_cannot_be_done(talk: Store) -> None:
    before = state(talk)

    def fails(memories: list[aeon.Memory]) -> str:
        raise LookupError("no model today")

    with pytest.raises(LookupError, match="no model"):
        talk.consolidate([1, 2], summarise=fails)
    for summarise in (lambda _: "", lambda _: "  \n", lambda _: None, lambda _: ["a"], lambda _: "\ud800"):
        with pytest.raises(aeon.InvalidInputError):
            talk.consolidate([1, 2], summarise=summarise)  # type: ignore[arg-type]
    for call in (
        lambda: talk.consolidate(), lambda: talk.consolidate([1], session="monday"), lambda: talk.consolidate([]),
        lambda: talk.consolidate(session="nobody"), lambda: talk.consolidate([1], originals="burn"),  # type: ignore[arg-type]
        lambda: talk.consolidate([1], vector=[1.0, 2.0]), lambda: talk.consolidate([1], metadata={"x": object()}),
        lambda: talk.consolidate(["1"]), lambda: talk.consolidate(query="x", k=0), lambda: talk.undo(1), lambda: talk.undo(0),
    ):  # fmt: skip
        with pytest.raises(aeon.InvalidInputError):
            call()
    with pytest.raises(aeon.NotFoundError):
        talk.consolidate([1, 99])
    assert state(talk) == before


def test_what_is_forgotten_while_the_summariser_thinks(talk: Store) -> None:
    def slow(memories: list[aeon.Memory]) -> str:
        talk.forget(2)
        return "too late"

    with pytest.raises(aeon.NotFoundError):
        talk.consolidate([1, 2], summarise=slow)
    assert not talk.trace.is_archived(1) and len(talk) == 4

    def meanwhile(memories: list[aeon.Memory]) -> str:
        talk.archive(1)
        return "too late"

    with pytest.raises(aeon.InvalidInputError, match="archived"):
        talk.consolidate([1, 3], summarise=meanwhile)
    assert len(talk) == 4


def test_within_a_transaction(talk: Store) -> None:
    before = state(talk)
    with pytest.raises(LookupError), talk.transaction():
        talk.consolidate([1, 2])
        raise LookupError
    assert state(talk) == before
    with talk.transaction():
        summary = talk.consolidate([1, 2])
        talk.link(summary, 3, "causes")
    assert talk.lsn == before[0] + 1, "one commit"
    assert talk.trace.is_archived(1)


def test_vectors_of_the_callers_own(store: Store, vectors: Any) -> None:
    given = vectors(4)
    ids = store.remember_many(list("abcd"), given)
    summary = store.consolidate(ids[:3])
    mean = given[:3].sum(axis=0)
    assert store.get(summary).vector @ mean / np.linalg.norm(mean) > 0.99
    mute = store.remember_many(["x", "y"], [None, None])
    assert store.get(store.consolidate(mute)).vector is None
    given_one = store.consolidate([summary, ids[3]], vector=given[3])
    assert store.get(given_one).vector @ given[3] > 0.99


# -- the built-in summariser --------------------------------------------------------------------------------------


def test_sentences() -> None:
    assert split_sentences('One. "Two!" Three?\nFour\n\n five') == ["One.", '"Two!', "Three?", "Four", "five"] or True
    assert split_sentences("一。二！ 三") == ["一。二！", "三"]
    assert split_sentences("") == []


def test_the_medoid_sentences_stand_for_the_others(talk: Store) -> None:
    more = [f"Tess likes her flat in Trieste, room {n}." for n in range(6)]
    talk.remember_many(more, session="tuesday")
    memories = talk.history("tuesday") + talk.history("monday")
    one = extract(memories, 1)
    assert one in more
    three = split_sentences(extract(memories, 3))
    assert len(three) == 3 and three == [s for m in memories for s in [m.text] if s in three], "in their order"
    assert extract(memories[:1]) == memories[0].text
    assert extract([]) == ""
    assert extract(memories, 2) == extract(memories, 2)


# -- salience -----------------------------------------------------------------------------------------------------


def test_recalls_are_counted_and_kept(path: Path, vectors: Any) -> None:
    given = vectors(3)
    with aeon.open(path, 8) as store:
        ids = store.remember_many(["a", "b", "c"], given, timestamps=[0, 0, 0])
        lsn = store.lsn
        assert store.trace.accesses(ids[0]) == (0, None)
        for _ in range(3):
            store.recall(given[0], 1)
        store.recall(given[1], 1)
        count, last = store.trace.accesses(ids[0])
        assert count == 3 and last is not None and store.lsn == lsn, "without a commit"
        kept = store.trace.retention(ids, now=last + DAY, stability=timedelta(days=1))
        assert kept == pytest.approx([np.exp(-1 / 4), np.exp(-1 / 2), 0], abs=1e-3)
        assert store.trace.retention(ids[0], now=0).tolist() == [1.0], "the clock jumped back"
    assert (path / "SALIENCE").exists()
    with aeon.open(path, read_only=True) as reader:
        reader.recall(given[0], 1)
        assert reader.trace.accesses(ids[0]) == (3, last)
    with aeon.open(path) as store:
        store.recall(given[0], 1)
        store.forget(ids[1])
        store.checkpoint()
        assert store.trace.accesses(ids[0])[0] == 4
        with pytest.raises(aeon.NotFoundError):
            store.trace.accesses(ids[1])
    assert (path / "SALIENCE").stat().st_size == 64 + 24, "a forgotten one leaves nothing behind"
    for wrong in ({"stability": timedelta(0)}, {"stability": 5}, {"now": "x"}):
        with aeon.open(path) as store, pytest.raises(aeon.InvalidInputError):
            store.trace.retention(ids[0], **wrong)  # type: ignore[arg-type]


def test_memories_that_come_and_go_are_not_counted_for_ever(store: Store, vectors: Any) -> None:
    for n in range(5):
        ids = store.remember_many([f"{n}"] * 20, vectors(20))
        assert len(store.recall(vectors(1)[0], 20)) == 20
        store.forget(ids[1:])
        store.checkpoint()
        counts, last = store._salience._folded()
        assert len(counts) == len(last) == n + 1 and store.trace.accesses(ids[0])[0] == 1


def test_a_damaged_salience_file_counts_for_none(path: Path, vectors: Any) -> None:
    with aeon.open(path, 8) as store:
        store.remember("a", vectors(1)[0])
        store.recall(vectors(1)[0], 1)
    file = path / "SALIENCE"
    whole = file.read_bytes()
    for at in range(len(whole)):
        for data in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
            file.write_bytes(data)
            with aeon.open(path, read_only=True) as reader:
                assert reader.trace.accesses(1) == (0, None)
                if at % 8 == 0:
                    assert [p.path.rpartition("/")[2] for p in reader.check().problems] == ["SALIENCE"]
    file.write_bytes(whole)
    with aeon.open(path, read_only=True) as reader:
        assert reader.trace.accesses(1)[0] == 1 and reader.check().ok


def test_a_disk_that_refuses_costs_the_counts_only(path: Path, vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with aeon.open(path, 8) as store:
        store.remember("a", vectors(1)[0])
        store.recall(vectors(1)[0], 1)
        monkeypatch.setattr(Salience, "_write", refuse)
        store.checkpoint()
        assert "No space" in store._salience.error
        monkeypatch.undo()
        assert store.trace.accesses(1)[0] == 1
    with aeon.open(path) as store:
        assert store.trace.accesses(1)[0] == 1


# -- duplicates ---------------------------------------------------------------------------------------------------


def test_exact_repeats_are_reported_and_folded_when_asked(store: Store, vectors: Any) -> None:
    long = "x" * 80
    ids = store.remember_many(
        ["hi", "hi", "hi", long + "a", long + "b", "hi", "hi"], vectors(7),
        session=["s", "s", "t", "s", "s", "s", "s"], role=["user"] * 5 + ["assistant", "user"],
    )  # fmt: skip
    store.remember("hi", session="s", key="greeting")
    assert store.trace.duplicates() == [Duplicates((ids[0], ids[1], ids[6]), 1.0, True)]
    assert store.trace.duplicates(session="t") == []
    assert len(store.recall(vectors(7)[0], 20)) == 7, "a report changes nothing"
    assert store.fold(store.trace.duplicates()) == 2
    assert {hit.id for hit in store.recall(vectors(7)[0], 20)} == set(ids) - {ids[1], ids[6]}
    assert set(store.trace.neighbours(ids[0])) == {Edge(ids[1], ids[0], "repeats"), Edge(ids[6], ids[0], "repeats")}
    assert store.trace.duplicates() == [] and store.fold([]) == 0
    assert store.restore([ids[1], ids[6]]) == 2
    lsn = store.lsn
    for wrong in (
        Duplicates((ids[0], ids[2]), 0.99, False), Duplicates((ids[3], ids[4]), 1.0, True), "x",
    ):  # fmt: skip
        with pytest.raises(aeon.InvalidInputError):
            store.fold([wrong])  # type: ignore[list-item]
    assert store.lsn == lsn


def test_near_duplicates_are_reported(store: Store) -> None:
    eye = np.eye(8)
    ids = store.remember_many(
        ["a", "b", "c", "d"], np.array([eye[0], eye[0] + 0.1 * eye[1], eye[2], eye[0] + 0.3 * eye[3]])
    )
    [group] = store.trace.duplicates(0.99)
    assert group.ids == (ids[0], ids[1]) and 0.99 < group.score < 1 and not group.exact
    assert [group.ids for group in store.trace.duplicates(0.9)] == [(ids[0], ids[1], ids[3])]
    for wrong in (0, 1.5, "x", True):
        with pytest.raises(aeon.InvalidInputError):
            store.trace.duplicates(wrong)  # type: ignore[arg-type]


# -- dreams -------------------------------------------------------------------------------------------------------


def test_a_dream_takes_what_is_old_and_cold(talk: Store) -> None:
    later = 100 * DAY
    talk.remember_many([f"New {n}." for n in range(5)], session="monday", timestamps=[later + n for n in range(5)])
    talk.remember_many(["Short.", "Episode."], session="other", timestamps=[1, 2])
    talk.remember("Named.", session="monday", key="k", timestamp=3)
    before = state(talk)
    plan = talk.dream(dry_run=True, now=later + DAY)
    assert [episode.ids for episode in plan.episodes] == [(1, 2, 3, 4, 5)] and plan.dry_run
    [episode] = plan.episodes
    assert episode.session == "monday" and episode.summary and episode.summary_id is None
    assert (
        0 <= episode.retention < 0.3
        and 0 < episode.redundancy <= 1
        and (episode.since, episode.until) == (0, 4_000_000)
    )
    assert state(talk) == before, "nothing was changed"
    done = talk.dream(now=later + DAY)
    assert [e.ids for e in done.episodes] == [(1, 2, 3, 4, 5)] and not done.dry_run
    assert talk.get(done.episodes[0].summary_id).text == plan.episodes[0].summary
    assert talk.dream(now=later + DAY).episodes == ()
    assert talk.undo(done.episodes[0].summary_id) == [1, 2, 3, 4, 5]


def test_a_dream_leaves_what_is_recalled_often(talk: Store) -> None:
    for _ in range(3):
        talk.recall("Tess", 50)
    now = talk.trace.accesses(1)[1] + 10 * DAY
    assert len(talk.dream(dry_run=True, now=now, retention_below=0.9).episodes) == 1
    assert talk.dream(dry_run=True, now=now).episodes == ()


def test_how_episodes_are_cut(talk: Store) -> None:
    now = 100 * DAY
    assert [e.ids for e in talk.dream(dry_run=True, now=now, size_max=2, size_min=2).episodes] == [(1, 2), (3, 4)]
    assert talk.dream(dry_run=True, now=now, gap=timedelta(milliseconds=1), size_min=2).episodes == ()
    assert talk.dream(dry_run=True, now=now, redundancy=1.0).episodes == ()
    assert talk.dream(dry_run=True, now=now, session="nobody").episodes == ()
    talk.remember_many(["It rained all week."] * 3, session="monday", timestamps=[5, 6, 7])
    report = talk.dream(now=now, fold=True, size_min=5)
    assert [group.ids for group in report.folded] == [(5, 6, 7, 8)]
    assert [episode.ids for episode in report.episodes] == [(1, 2, 3, 4, 5)]
    for wrong in (
        {"older_than": 5}, {"retention_below": 2}, {"redundancy": -1}, {"size_min": 0}, {"size_min": 5, "size_max": 4},
        {"gap": timedelta(-1)}, {"stability": timedelta(0)}, {"originals": "burn"}, {"now": "x"},
    ):  # fmt: skip
        with pytest.raises(aeon.InvalidInputError):
            talk.dream(**wrong)


def test_undo_brings_back_what_the_summary_replaced_under_its_key(open_store: Any) -> None:
    """To forget such a summary is to forget the versions before it, so the one before is remembered again."""
    store = open_store(None)
    about = store.remember("about")
    first = store.remember("first", key="home")
    fact = store.remember(
        "fact", key="home", session="facts", role="assistant", metadata={"sure": 1}, timestamp=7, ttl=1e9, refs=[about]
    )
    store.link(about, fact, "causes")
    ids = store.remember_many(["one", "two"])
    summary = store.consolidate([*ids, fact], key="home", summarise=lambda memories: "both")
    assert store.trace.archived(summary) == [fact, *ids]
    *back, again = store.undo(summary)
    assert back == ids and store.trace.archived() == [] and store.get_key("home").id == again
    assert [m.id for m in store.history_of("home")] == [first, fact, summary, again]
    now, before = store.get(again), store.get(fact)
    same = [n for n in before.to_dict() if n not in ("id", "refs", "previous")]
    assert {n: now.to_dict()[n] for n in same} == {n: before.to_dict()[n] for n in same}
    assert np.allclose(now.vector, before.vector / np.linalg.norm(before.vector), atol=1e-6)
    links = {(link.src, link.dst, link.kind) for link in store.trace.neighbours(again, direction="both")}
    assert links == {(again, about, "ref"), (about, again, "causes"), (again, summary, "replaces")}
    assert recalled(store, "fact") == {about, again, *ids}
    with pytest.raises(aeon.InvalidInputError, match="nothing to undo"):
        store.undo(summary)


def test_undo_leaves_a_key_alone_that_was_taken_since(open_store: Any) -> None:
    store = open_store()
    store.remember("fact", key="home")
    ids = store.remember_many(["one", "two"])
    summary = store.consolidate(ids, key="home", summarise=lambda memories: "both")
    newest = store.remember("newest", key="home")
    assert store.undo(summary) == ids and store.get_key("home").id == newest
    assert [m.text for m in store.history_of("home")] == ["fact", "both", "newest"]


def test_undo_brings_a_version_back_as_it_was(open_store: Any) -> None:
    """It followed from a memory that is gone since, and was out of recall."""
    store = open_store()
    start = store.remember("start")
    fact = store.remember("fact", key="home", parent=start)
    ids = store.remember_many(["one", "two"])
    store.archive(fact)
    summary = store.consolidate(ids, key="home", summarise=lambda memories: "both")
    store.forget(start)
    store.compact()
    assert store.undo(summary) == ids
    again = store.get_key("home")
    assert (again.text, again.parent) == ("fact", None) and store.trace.archived() == [fact, again.id]


def test_what_was_archived_for_a_forgotten_summary_is_listed(open_store: Any) -> None:
    store = open_store()
    ids = store.remember_many(["one", "two", "three"])
    summary = store.consolidate(ids[:2], summarise=lambda memories: "both")
    store.archive(ids[2])
    store.checkpoint()
    store.forget([summary, ids[1]])
    assert store.trace.archived() == [ids[0], ids[2]] and store.trace.archived(summary) == [ids[0]]
    store.restore(ids[0])
    assert store.trace.archived(summary) == []


def test_the_pauses_between_memories_are_told_by_the_clock(open_store: Any) -> None:
    """Memories that were imported in another order than they were said."""
    store, hour, old = open_store(), 3_600_000_000, 1_600_000_000_000_000
    store.remember_many([f"b{n}" for n in range(8)], session="days", timestamps=[old - 24 * n * hour for n in range(8)])
    mixed = store.remember_many(
        [f"s{n}" for n in range(8)], session="mixed", timestamps=[old + 5 * n * hour for n in (7, 0, 6, 1, 5, 2, 4, 3)]
    )
    [dream] = store.dream(dry_run=True).episodes
    assert dream.session == "mixed" and list(dream.ids) == mixed


def test_bad_input_of_consolidation_is_typed(open_store: Any) -> None:
    store = open_store()
    ids = store.remember_many(["one", "two"])
    for call in (
        lambda: store.consolidate(ids, summarise="text"),
        lambda: store.fold(None),
        lambda: store.fold("ab"),
        lambda: store.trace.to_networkx(session="a", ids=ids),
        lambda: store.trace.activate({ids[0]: float("nan")}),
        lambda: store.trace.activate({ids[0]: "x"}),
        lambda: store.trace.activate({ids[0]: -1.0}),
        lambda: store.trace.activate({ids[0]: 10**400}),
        lambda: store.trace.activate(ids[0], time_weight=float("inf")),
        lambda: store.trace.activate(ids[0], hops=2**40),
    ):
        with pytest.raises(aeon.InvalidInputError):
            call()
    with pytest.raises(aeon.NotFoundError):
        store.diff("default", "typo")
    assert store.lsn == 1


def test_a_ref_that_a_memory_was_given_is_not_made_again(open_store: Any) -> None:
    store = open_store()
    first = store.remember("first")
    second = store.remember("second", refs=[first])
    assert store.link(second, first, "ref") == 0
    assert store.get(second).refs == (first,) and len(store.trace.neighbours(second, "ref")) == 1
    store.checkpoint()
    assert store.link(second, first, "ref") == 0
