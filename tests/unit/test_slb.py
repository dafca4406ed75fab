"""The SLB: what it answers is what the Atlas answers, for the session it is asked in and for no other."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import slb, working_sets
from aeon.slb_policy import TAU_UNMEASURED, Drift, Policy

DIM, COUNT = 32, 3000
RNG = np.random.default_rng(3)
CENTRES = RNG.standard_normal((30, DIM)).astype(np.float32)
ROWS = CENTRES[RNG.integers(0, 30, COUNT)] + 0.6 * RNG.standard_normal((COUNT, DIM)).astype(np.float32)


def filled(path: Path, **options: Any) -> aeon.Store:
    store = aeon.open(path, DIM, durability="off", **options)
    store.remember_many(["text"] * COUNT, ROWS)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[aeon.Store]:
    with filled(tmp_path / "agent.aeon") as opened:
        yield opened


def near(vector: Any, noise: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (vector + noise * rng.standard_normal(len(vector))).astype(np.float32)


def found(hits: list[aeon.Hit]) -> list[tuple[int, float]]:
    return [(hit.id, hit.score) for hit in hits]


def kinds(hits: list[aeon.Hit]) -> set[str]:
    return {hit.answered for hit in hits}


def steady(store: aeon.Store, session: str, vector: Any, mode: str = "certified") -> None:
    """Turns that are near one another, so that a working set is fetched ahead."""
    for n in range(8):
        store.recall(near(vector, 0.05, n), asked_in=session, slb=mode)
    assert store.slb.settle(30)
    assert store.slb.stats()["fetch_error"] == ""


def test_a_repeated_query_is_exact_and_off_is_off(store: aeon.Store) -> None:
    query = ROWS[5]
    first = store.recall(query, asked_in="s", slb="certified")
    again = store.recall(query.copy(), asked_in="s", slb="certified")
    assert kinds(first) == {"atlas"} and kinds(again) == {"exact"} and found(first) == found(again)
    assert again[0].text == "text"
    for options in (
        {"slb": "off"},
        {"slb": None},
        {"asked_in": "other"},
        {"k": 9},
        {"exact": True},
        {"recall_target": 0.9},
    ):
        assert kinds(store.recall(query, **{"asked_in": "s", "slb": "certified", **options})) != {"exact"}, options
    assert kinds(store.recall(query, slb="certified")) == {"atlas"}, "nobody asked"


def test_the_stores_default(tmp_path: Path) -> None:
    with filled(tmp_path / "agent.aeon", slb="certified") as store:
        store.recall(ROWS[0], asked_in="s")
        assert kinds(store.recall(ROWS[0], asked_in="s")) == {"exact"}
        assert kinds(store.recall(ROWS[0], asked_in="s", slb="off")) == {"atlas"}


@pytest.mark.parametrize("rows", ("int8", "float32"))
def test_certified_is_the_exact_answer_to_the_bit(tmp_path: Path, rows: Any) -> None:
    with filled(tmp_path / "agent.aeon", rows=rows) as store:
        certified = 0
        for n in range(12):
            steady(store, f"s{n}", ROWS[n])
            for noise in (0.001, 0.01, 0.05, 0.1):
                query = near(ROWS[n], noise, 77 + n)
                hits = store.recall(query, asked_in=f"s{n}", slb="certified")
                if kinds(hits) == {"certified"}:
                    certified += 1
                    assert found(hits) == found(store.recall(query, exact=True))
                store.slb.settle(30)
        assert certified >= 12


def test_a_small_set_claims_no_more_than_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few candidates everything hangs on the bound of what lies outside."""
    monkeypatch.setattr(working_sets, "CANDIDATES", 24)
    with filled(tmp_path / "agent.aeon") as store:
        view, proven = store._view(), 0
        for n in range(60):
            made = working_sets.WorkingSet(view, ROWS[n], complete=True)
            for noise in (0.001, 0.02, 0.05, 0.1, 0.2, 0.4):
                query = near(ROWS[n], noise, n)
                ids, scores, _, certain = made.answer(view, query, 10, -1.0, prove=True)
                truth = found(store.recall(query, exact=True))
                if certain:
                    proven += 1
                    assert list(zip(ids.tolist(), scores.tolist(), strict=True)) == truth
        assert 20 < proven < 360


def test_approximate_only_when_asked_for(store: aeon.Store) -> None:
    steady(store, "s", ROWS[1], "approximate")
    query = near(ROWS[1], 0.12, 5)
    hits = store.recall(query, asked_in="s", slb="approximate")
    assert kinds(hits) <= {"approximate", "certified"}
    scores = dict(found(store.recall(query, COUNT, exact=True)))
    assert all(scores[id_] == score for id_, score in found(hits)), "the scores are those of the Atlas"
    assert "approximate" not in kinds(store.recall(near(ROWS[1], 0.12, 6), asked_in="s", slb="certified"))
    assert "approximate" not in kinds(store.recall(near(ROWS[1], 0.12, 7), asked_in="s", slb="approximate", exact=True))


@pytest.mark.parametrize("mode", ("certified", "approximate", "auto"))
def test_never_stale(store: aeon.Store, mode: Any) -> None:
    """After each insert, upsert, forget, archive and restore the answer is that of an exact search, however it was given."""
    rng = np.random.default_rng(9)
    steady(store, "s", ROWS[2], mode)
    fixed = near(ROWS[2], 0.01, 99)
    seen, seen_with_archived = set(), set()
    for n in range(60):
        best = store.recall(fixed, 3, exact=True)
        match n % 6:
            case 0:
                store.remember("new", near(ROWS[2], 0.02, n))
            case 1:
                store.forget(best[0].id)
            case 2:
                store.remember("newer", near(ROWS[2], 0.02, n), key="k")
            case 3:
                store.remember("far", rng.standard_normal(DIM))
            case 4:
                store.archive([best[0].id, best[2].id])
            case 5:
                store.restore(best[0].id if n % 4 else store.trace.archived()[0])
        for query in (fixed, near(ROWS[2], 0.001, n)):
            hits = store.recall(query, asked_in="s", slb=mode)
            seen |= kinds(hits)
            seen_with_archived |= kinds(hits) if store.trace.archived() else set()
            assert found(hits) == found(store.recall(query, exact=True))
        nearest = store.slb.lookup("s", fixed)
        assert nearest is not None and not set(nearest.ids.tolist()) & set(store.trace.archived())
        store.slb.settle(30)
    assert {"exact", "certified"} <= seen & seen_with_archived


def test_a_new_engine_voids_what_was_known_and_the_old_one_is_let_go(store: aeon.Store) -> None:
    steady(store, "s", ROWS[2])
    store.recall(ROWS[2], asked_in="s", slb="certified")
    old = weakref.ref(store._engine)
    store.checkpoint()
    gc.collect()
    assert old() is None, "the SLB holds no engine"
    assert kinds(store.recall(ROWS[2], asked_in="s", slb="certified")) == {"atlas"}
    assert kinds(store.recall(near(ROWS[2], 0.001), asked_in="s", slb="certified")) == {"atlas"}
    assert store.slb.lookup("s", near(ROWS[2], 0.05, 3), 0.5) is None or store.slb.lookup("s", ROWS[2]) is not None


def test_an_entry_does_not_serve_a_view_older_than_itself(store: aeon.Store) -> None:
    query, before = ROWS[2], store._view()
    gone = store.recall(query, 1)[0].id
    store.forget(gone)
    steady(store, "s", query)
    store.recall(query, asked_in="s", slb="certified")
    effort, filters = store._efforts[0], slb.NO_FILTERS
    for asked in (query, near(query, 0.001)):
        hits = store.slb.recall(before, asked, 10, filters, effort, "certified", "s")
        assert kinds(hits) == {"atlas"} and hits[0].id == gone


def test_filters_belong_to_the_question(store: aeon.Store) -> None:
    store.remember_many(["a"] * 50, ROWS[:50], session="a")
    store.remember_many(["b"] * 50, ROWS[:50], session="b")

    def asked(**options: Any) -> list[aeon.Hit]:
        return store.recall(ROWS[3], asked_in="s", slb="certified", **options)

    asked(session="a")
    assert kinds(asked(session="a")) == {"exact"} and {hit.session for hit in asked(session="a")} == {"a"}
    for options in ({"session": "b"}, {}, {"roles": "user"}, {"session": ["a", "b"]}):
        hits = asked(**options)
        assert kinds(hits) == {"atlas"}, options
        assert found(hits) == found(store.recall(ROWS[3], **options))
    asked(session="a")
    store.remember("a", ROWS[3], session="a")
    assert kinds(asked(session="a")) == {"atlas"}, "something changed"
    store.remember("c", ROWS[3], metadata={"n": 1})
    store.remember("d", ROWS[3], metadata={"n": 2})
    for n in (1, 2, 2):
        assert kinds(asked(where={"n": 1})) == {"exact" if n > 1 else "atlas"}, "the same filter is the same question"
    assert kinds(asked(where={"n": 2})) == {"atlas"} and [hit.text for hit in asked(where={"n": 2})] == ["d"]
    assert [hit.text for hit in asked(where={"n": True})] == [], "True is not 1"


def test_no_session_sees_what_another_asked(store: aeon.Store) -> None:
    """Tries to leak: the same query, a near one and the bare lookup, from another session, while the first one is warm."""
    steady(store, "secret", ROWS[4], "approximate")
    store.recall(ROWS[4], asked_in="secret", slb="approximate")
    assert kinds(store.recall(ROWS[4], asked_in="secret", slb="approximate")) == {"exact"}
    assert store.slb.lookup("secret", ROWS[4]) is not None
    for thief in ("thief", "", "secre", "secret ", "Secret", "default"):
        assert store.slb.lookup(thief, ROWS[4], -1.0) is None
        if not thief:
            continue
        for query in (ROWS[4], near(ROWS[4], 0.0001)):
            assert kinds(store.recall(query, asked_in=thief, slb="approximate")) == {"atlas"}
            assert kinds(store.recall(query, session=thief, slb="approximate")) <= {"atlas"}
    assert store.slb.drop_session("secret") and not store.slb.drop_session("secret")
    assert store.slb.lookup("secret", ROWS[4], -1.0) is None
    assert kinds(store.recall(ROWS[4], asked_in="secret", slb="approximate")) == {"atlas"}


def test_sharing_is_asked_for_and_dropping_a_session_takes_back_what_it_shared(tmp_path: Path) -> None:
    with filled(tmp_path / "agent.aeon", slb="certified", slb_shared=True) as store:
        first = store.recall(ROWS[4], asked_in="one")
        again = store.recall(ROWS[4], asked_in="two")
        assert kinds(again) == {"exact"} and found(first) == found(again)
        assert store.slb.lookup("two", near(ROWS[4], 0.01)) is not None
        for n in range(300):
            store.recall(ROWS[n + 100], asked_in=f"many{n % 5}")
        assert len(store.slb._shared.answers) == slb.RING_SHARED
        store.recall(ROWS[4], asked_in="one")
        store.slb.drop_session("one")
        assert store.slb.lookup("two", ROWS[4], 0.99) is None
        assert kinds(store.recall(ROWS[4], asked_in="three")) == {"atlas"}


def test_lookup_is_the_nearest_of_the_last_64(store: aeon.Store) -> None:
    asked = []
    for n in range(200):
        store.recall(ROWS[n], asked_in="s", slb="certified")
        asked.append(ROWS[n] / np.linalg.norm(ROWS[n]))
        query = near(ROWS[n // 2], 0.3, n)
        cosines = np.array(asked[-slb.RING :]) @ query / np.linalg.norm(query)
        nearest = store.slb.lookup("s", query, 0.5)
        if cosines.max() < 0.499:
            assert nearest is None
        elif cosines.max() > 0.501:
            assert nearest is not None and abs(nearest.cosine - cosines.max()) < 1e-5
            truth = store.recall(ROWS[max(0, n + 1 - slb.RING) + int(cosines.argmax())], exact=True)
            assert nearest.ids.tolist() == [hit.id for hit in truth]
    gone = int(nearest.ids[0])
    store.forget(gone)
    later = store.slb.lookup("s", query, 0.5)
    assert gone not in later.ids and len(later.ids) == len(later.scores) == 9
    with pytest.raises(aeon.DimensionError):
        store.slb.lookup("s", [1.0, 2.0])
    for query in ROWS[:1000] + 1:
        store.recall(query, asked_in="s", slb="certified")
        assert len(store.slb._sessions["s"].answers) <= slb.RING + slb._ROOM


def test_memory_is_bounded_and_the_least_recently_used_session_goes(tmp_path: Path) -> None:
    with filled(tmp_path / "agent.aeon", slb="certified", slb_bytes_max=500_000) as store:
        for n in range(300):
            store.recall(ROWS[n], asked_in="kept")
            store.recall(ROWS[n], asked_in=f"s{n}")
        stats = store.slb.stats()
        assert stats["bytes"] <= 500_000 and stats["evicted_sessions"] > 200
        assert "kept" in store.slb._sessions and "s0" not in store.slb._sessions and "s299" in store.slb._sessions
        assert kinds(store.recall(ROWS[299], asked_in="kept")) == {"exact"}
        assert stats["bytes"] == sum(session.bytes for session in store.slb._sessions.values())
        store.slb.clear()
        assert store.slb.stats()["bytes"] == 0


def test_context_is_the_decayed_mean_of_the_sessions_turns(store: aeon.Store, tmp_path: Path) -> None:
    query = ROWS[9]
    assert found(store.recall(query, asked_in="t", context=0.5)) == found(store.recall(query)), "no turns, no context"
    ids = [store.remember("turn", ROWS[n], session="t") for n in range(20)]

    def expected(kept: list[int], share: float) -> Any:
        turns = np.array([store.get(id_).vector for id_ in kept[::-1][:16]])
        mean = (7 / 8) ** np.arange(len(turns)) @ turns
        return (1 - share) * query / np.linalg.norm(query) + share * mean / np.linalg.norm(mean)

    def same(one: list[aeon.Hit], other: list[aeon.Hit]) -> bool:
        return [hit.id for hit in one] == [hit.id for hit in other]

    for share in (0.3, 1.0):
        for options in ({"asked_in": "t"}, {"session": "t"}):
            blended = store.recall(query, 5, context=share, **options)
            assert same(blended, store.recall(expected(ids, share), 5, session=options.get("session")))
    store.forget(ids[-1])
    assert same(store.recall(query, 5, asked_in="t", context=0.7), store.recall(expected(ids[:-1], 0.7), 5))
    store.checkpoint()
    store.close()
    with aeon.open(store._root) as again:
        vector, ahead = again.slb.context(again._view(), "t", query, 0.7)
        assert again.recall(query, 5, asked_in="t", context=0.7)[0].id == again.recall(vector, 5)[0].id
        assert ahead is not None
        again.recall(query, asked_in="t", context=0.7, slb="auto")
        again.slb.settle(30)
        assert again.slb.stats()["working_sets"] == 1, "warm from the Trace after the first turn"


def test_bad_arguments(store: aeon.Store) -> None:
    for options in (
        {"slb": "always"}, {"context": 1.5, "asked_in": "s"}, {"context": True, "asked_in": "s"}, {"context": 0.5},
        {"asked_in": 7}, {"asked_in": "", "slb": "auto"}, {"context": float("nan"), "asked_in": "s"},
    ):  # fmt: skip
        with pytest.raises(aeon.InvalidInputError):
            store.recall(ROWS[0], **options)
    for options in ({"slb": "on"}, {"slb_bytes_max": -1}, {"slb_shared": 1}):
        with pytest.raises(aeon.InvalidInputError):
            aeon.open(str(store._root) + "2", DIM, **options)


def test_fetching_ahead_ends_with_the_store(tmp_path: Path) -> None:
    store = filled(tmp_path / "agent.aeon", slb="certified")
    steady(store, "s", ROWS[0])
    threads = [thread for thread in threading.enumerate() if thread.name == "aeon-ahead"]
    assert threads
    store.close()
    assert not any(thread.is_alive() for thread in [store.slb._ahead._thread])
    dropped = filled(tmp_path / "other.aeon", slb="certified")
    steady(dropped, "s", ROWS[0])
    engine = weakref.ref(dropped._engine)
    del dropped
    gc.collect()
    assert engine() is None


def test_a_stream_without_inertia_fetches_nothing(store: aeon.Store) -> None:
    for _ in range(200):
        store.recall(RNG.standard_normal(DIM).astype(np.float32), asked_in="s", slb="auto")
    assert store.slb.stats()["fetched_ahead"] == 0


def test_auto_measures_and_moves_tau() -> None:
    policy = Policy()
    assert policy.tau(0.95) == TAU_UNMEASURED and not policy.measured(0.9) > 0
    for n in range(400):
        cosine = 0.9 + 0.1 * (n % 100) / 100
        policy.note_recall(cosine, 1.0 if cosine >= 0.95 else 0.7)
    tau = policy.tau(0.95)
    assert 0.93 < tau < 0.95 and policy.measured(tau) >= 0.95
    assert policy.tau(0.999) > tau
    for _ in range(2000):
        policy.note_recall(0.99, 0.5)
    assert policy.tau(0.95) >= 0.995, "only what is nearer still"
    for _ in range(20):
        policy.note_proof(0.9, False)
        policy.note_proof(0.98, True)
    assert policy.worth_proving(0.98) and not policy.worth_proving(0.9) and not policy.worth_proving(0.5)


def test_drift_is_told_once_with_what_to_do(store: aeon.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drift = Drift()
    for _ in range(300):
        drift.note_best(0.8)
        assert drift.warning() == ""
    told = []
    for _ in range(100):
        drift.note_best(0.1)
        told.append(drift.warning())
    assert sum(map(bool, told)) == 1 and drift.shift > 0.1
    assert "remember it" in max(told) and "embedder" in max(told)
    store.slb._drift = drift
    drift._told = False
    logged: list[str] = []
    monkeypatch.setattr(logging.getLogger("aeon.slb"), "warning", logged.append)
    asked = 8 * slb._TIDY_EVERY
    for n in range(asked):
        store.recall(ROWS[n], asked_in="s", slb="auto")
    assert len(logged) == 1 and "less than they used to" in logged[0]
    stats = store.stats().slb
    assert stats["drift"]["shift"] == drift.shift and stats["atlas"] == asked and 0 <= stats["drift"]["hit_rate"] <= 1


def test_a_read_only_store_that_follows_is_never_stale(store: aeon.Store) -> None:
    with aeon.open(store._root, read_only=True, slb="certified") as reader:
        reader.recall(ROWS[0], asked_in="s")
        assert kinds(reader.recall(ROWS[0], asked_in="s")) == {"exact"}
        id_ = store.remember("new", ROWS[0] * 2, key="k")
        store.forget(id_)
        store.remember("newest", ROWS[0])
        reader.refresh()
        assert found(reader.recall(ROWS[0], asked_in="s")) == found(store.recall(ROWS[0]))


def test_threads_get_right_answers_while_the_store_changes(store: aeon.Store) -> None:
    """16 threads in 40 sessions: nothing forgotten before the call is in an answer, and in the end each is an exact one's."""
    stop, failures = threading.Event(), []
    forgotten: set[int] = set()

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            n = int(rng.integers(0, 40))
            query = near(ROWS[n], 0.01, int(rng.integers(0, 5)))
            gone = set(forgotten)
            hits = store.recall(query, 3, asked_in=f"s{n}", slb="certified")
            if len(hits) != 3 or any(hit.id in gone for hit in hits):
                failures.append((n, hits))
            store.slb.lookup(f"s{n}", query)
            if rng.random() < 0.02:
                store.slb.drop_session(f"s{n}")

    workers = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
    for worker in workers:
        worker.start()
    for n in range(60):
        id_ = store.remember("x", near(ROWS[n % 40], 0.01, n))
        store.forget(id_)
        forgotten.add(id_)
        if n == 30:
            store.checkpoint()
    stop.set()
    for worker in workers:
        worker.join()
    assert failures == []
    assert store.slb.settle(30) and store.slb.stats()["fetch_error"] == ""
    for n in range(40):
        query = near(ROWS[n], 0.01, 0)
        assert found(store.recall(query, 3, asked_in=f"s{n}", slb="certified")) == found(
            store.recall(query, 3, exact=True)
        )


def test_auto_dozes_where_nothing_repeats_and_wakes_when_it_does(store: aeon.Store) -> None:
    """Counted: which queries are watched. The others are the Atlas's, and leave nothing behind."""
    plain = RNG.standard_normal((10_000, DIM)).astype(np.float32)
    for n in range(1000):
        store.recall(plain[n], asked_in=f"s{n % 7}", slb="auto")
    answers = sum(len(session.answers) for session in store.slb._sessions.values())
    watched = 0
    for n in range(1000, 10_000):
        before = store.slb._sessions["one"].answers if "one" in store.slb._sessions else {}
        known = set(before)
        store.recall(plain[n], asked_in="one", slb="auto")
        watched += set(store.slb._sessions["one"].answers) != known if "one" in store.slb._sessions else 0
    # Of 9,000 one in 128 or so, unless the session is one of those that always are.
    assert watched == 9000 if not hash("one") & slb.WATCHED else 30 <= watched <= 90
    assert store.slb.stats()["atlas"] >= 9990 and answers > 0
    for n in range(3):  # who asks for more than "auto" is always watched
        assert kinds(store.recall(plain[n], asked_in="two", slb="certified")) == {"atlas"}
        assert kinds(store.recall(plain[n], asked_in="two", slb="certified")) == {"exact"}
    kinds_of_repeats = [kinds(store.recall(plain[n % 20], asked_in="three", slb="auto")) for n in range(9000)]
    assert kinds_of_repeats[-200:].count({"exact"}) == 200
    store.slb.clear()
    store.recall(plain[0], asked_in="one", slb="auto")
    assert kinds(store.recall(plain[0], asked_in="one", slb="auto")) == {"exact"}


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_near_turns_are_watched_until_it_is_known_what_they_can_be_given(store: aeon.Store, before: int) -> None:
    """However the queries before fell: naps grow only where no turn is near another."""
    for other in RNG.standard_normal((32 + before, DIM)).astype(np.float32):
        store.recall(other, asked_in="other", slb="auto")
    for n in range(200):  # too far apart to be answered before tau is known, near enough to be fetched for
        store.recall(near(ROWS[n // 50], 0.3, n), asked_in="s", slb="auto")
        assert store.slb.settle(30)
    assert store.slb.stats()["audits"] >= 64


def test_who_asks_for_proofs_is_always_watched(store: aeon.Store) -> None:
    """However many queries before were answered by the Atlas: only "auto" dozes."""
    for other in RNG.standard_normal((200, DIM)).astype(np.float32):
        store.recall(other, asked_in="other", slb="certified")
    steady(store, "s", ROWS[7])
    assert store.slb.stats()["working_sets"] == 1
    assert kinds(store.recall(near(ROWS[7], 0.01, 99), 3, asked_in="s", slb="certified")) == {"certified"}


def test_queries_that_begin_alike_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    """An answer is found by the first bytes of its query, and given only to all of them."""
    dim = 96
    rows = RNG.standard_normal((500, dim)).astype(np.float32)
    rows[:, : slb._KEY_BYTES // 4] = rows[0, : slb._KEY_BYTES // 4]
    with aeon.open(tmp_path / "alike.aeon", dim, durability="off") as opened:
        opened.remember_many(["text"] * 500, rows)
        for n in (3, 4, 3, 4, 5):
            hits = opened.recall(rows[n], asked_in="s", slb="certified")
            assert hits[0].id == n + 1 and kinds(hits) == {"atlas"}
        hits = opened.recall(rows[5], asked_in="s", slb="certified")
        assert hits[0].id == 6 and kinds(hits) == {"exact"}
        nearest = opened.slb.lookup("s", rows[5], 0.99)
        assert nearest is not None and nearest.ids[0] == 6
