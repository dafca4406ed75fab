"""The Store through its public calls: what is remembered is found again, in order, once, and only what is asked for."""

from __future__ import annotations

import gc
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import check
from aeon.files import OsFileSystem
from aeon.store import Store

MIB = 1 << 20


def texts(memories: Any) -> list[str]:
    return [memory.text for memory in memories]


# -- remembering ------------------------------------------------------------------------------------------------------


def test_a_memory_comes_back_as_it_was_given(store: Store, vectors: Any) -> None:
    source = store.remember("source")
    id_ = store.remember(
        "Tess moved to Trieste.", vectors(1)[0], session="monday", role="assistant", namespace=("home", "tess"), key="city",
        metadata={"place": {"city": "Trieste"}, "sure": True, "n": [1, 2.5, None]}, timestamp=1_700_000_000_123_456,
        refs=[source], parent=source,
    )  # fmt: skip
    memory = store.get(id_)
    assert memory.to_dict() == {
        "id": id_, "text": "Tess moved to Trieste.", "session": "monday", "role": "assistant",
        "timestamp": 1_700_000_000_123_456, "namespace": ["home", "tess"], "key": "city",
        "metadata": {"place": {"city": "Trieste"}, "sure": True, "n": [1, 2.5, None]}, "parent": source, "refs": [source],
    }  # fmt: skip
    assert memory.preview == "Tess moved to Trieste."
    assert memory.vector == pytest.approx(vectors(1)[0], abs=1 / 127)


def test_defaults_of_a_memory(store: Store) -> None:
    before = datetime.now(timezone.utc)
    memory = store.get(store.remember("plain"))
    assert (memory.session, memory.role, memory.namespace, memory.key) == ("default", "user", (), None)
    assert (memory.metadata, memory.refs, memory.parent, memory.previous, memory.vector) == ({}, (), None, None, None)
    assert before - timedelta(milliseconds=1) <= memory.time <= datetime.now(timezone.utc)


def test_ids_count_up_from_one_over_all_calls(store: Store, vectors: Any) -> None:
    assert store.remember("a") == 1
    assert store.remember_many(["b", "c"]) == [2, 3]
    with store.transaction():
        assert store.remember("d") == 4
        assert store.remember_many(["e", "f"]) == [5, 6]
    assert store.remember("g") == 7


def test_an_id_is_not_given_out_again_after_forget_checkpoint_and_reopen(open_store: Any) -> None:
    store = open_store()
    assert store.remember_many(["a", "b", "c"]) == [1, 2, 3]
    store.forget([1, 2, 3])
    store.checkpoint()
    assert store.remember("d") == 4
    store.forget(4)
    store.close()
    assert open_store().remember("e") == 5


def test_remember_many_keeps_each_ones_own_values(store: Store, vectors: Any) -> None:
    ids = store.remember_many(
        ["a", "b", "c"], vectors(3), session=["x", "y", "x"], role=["user", "tool", "summary"], keys=["k", None, "l"],
        metadata=[{"n": 1}, None, {"n": 3}], timestamps=[10, 20, 30], parents=None,
    )  # fmt: skip
    again = store.remember_many(["d", "e"], refs=[[ids[0], ids[2]], ()], parents=[None, ids[1]])
    assert [(store.get(id_).refs, store.get(id_).parent) for id_ in again] == [((ids[0], ids[2]), None), ((), ids[1])]
    found = [store.get(id_) for id_ in ids]
    assert [(m.text, m.session, m.role, m.key, m.metadata, m.timestamp) for m in found] == [
        ("a", "x", "user", "k", {"n": 1}, 10),
        ("b", "y", "tool", None, {}, 20),
        ("c", "x", "summary", "l", {"n": 3}, 30),
    ]
    assert found[2].previous == ids[0]


def test_remember_many_takes_tuples_and_arrays(store: Store, vectors: Any) -> None:
    ids = store.remember_many(
        ("a", "b"), tuple(vectors(2)), session=("x", "y"), role=("tool", "user"), keys=("k", None),
        metadata=({"n": 1}, None), timestamps=np.array([5, 6]), parents=(None, None),
    )  # fmt: skip
    assert [store.get(id_).session for id_ in ids] == ["x", "y"]
    assert [store.get(id_).timestamp for id_ in ids] == [5, 6]
    assert store.get_key("k").id == ids[0]


def test_one_value_serves_a_whole_batch(store: Store) -> None:
    ids = store.remember_many(["a", "b"], session="s", role="tool", metadata={"n": 1}, timestamps=7, namespace="ns")
    for id_ in ids:
        memory = store.get(id_)
        assert (memory.session, memory.role, memory.metadata, memory.timestamp) == ("s", "tool", {"n": 1}, 7)
        assert memory.namespace == ("ns",)


def test_a_batch_may_lack_some_vectors(store: Store, vectors: Any) -> None:
    first, second, third = vectors(3)
    ids = store.remember_many(["a", "b", "c"], [first, None, third])
    assert store.get(ids[1]).vector is None
    assert [hit.id for hit in store.recall(third, 3)] == [ids[2], ids[0]]
    assert texts(store.history()) == ["a", "b", "c"]
    assert store.remember_many(["d", "e"], [None, None]) == [4, 5]
    assert len(store.recall(second, 9)) == 2


def test_a_batch_is_one_commit(store: Store) -> None:
    before = store.lsn
    store.remember_many([str(n) for n in range(50)])
    assert store.lsn == before + 1


@pytest.mark.parametrize("form", [list, tuple, np.float64, np.float16, np.int32], ids=lambda form: form.__name__)
def test_a_vector_may_be_any_array_of_numbers(store: Store, form: Any) -> None:
    direction = [4, 0, -3, 0, 0, 0, 0, 12]
    vector = form(direction) if form in (list, tuple) else np.array(direction, form)
    memory = store.get(store.remember("x", vector))
    assert memory.vector == pytest.approx(np.array(direction) / 13, abs=1 / 127)
    assert store.recall(vector, 1)[0].score == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
def test_the_length_of_a_vector_does_not_matter(store: Store, vectors: Any, scale: float) -> None:
    plain, scaled = store.remember("a", vectors(1)[0]), store.remember("b", vectors(1)[0] * np.float32(scale))
    assert store.get(plain).vector == pytest.approx(store.get(scaled).vector, abs=1 / 127)
    assert store.recall(vectors(1)[0] * np.float32(scale), 1)[0].score == pytest.approx(1, abs=1e-2)


def test_a_caller_may_change_its_arrays_and_mappings_afterwards(store: Store, vectors: Any) -> None:
    vector, metadata = vectors(1)[0].copy(), {"tags": ["a"]}
    id_ = store.remember("x", vector, metadata=metadata)
    kept = store.get(id_).vector.copy()
    vector[:] = -vector
    metadata["tags"].append("b")
    store.get(id_).vector[:] = 0
    assert (store.get(id_).vector == kept).all()
    assert store.get(id_).metadata == {"tags": ["a"]}


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "a\r\nb", "ü" * 70, "🙂" * 40, "e\u0301" * 50, "\ufeffx", "ﷺ", "x" * 64, "x" * 63 + "é"]
)
def test_any_well_formed_text_is_kept_to_the_byte(open_store: Any, text: str) -> None:
    store = open_store()
    id_ = store.remember(text)
    for _ in range(2):
        memory = store.get(id_)
        assert memory.text == text
        assert text.startswith(memory.preview)
        assert 61 <= len(memory.preview.encode()) <= 64 or memory.preview == text
        store.checkpoint()


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
def test_a_text_over_one_mebibyte_goes_by_reference(open_store: Any, path: Path, durability: Any) -> None:
    store = open_store(durability=durability)
    long = "é" * MIB
    log_before = sum(file.stat().st_size for file in (path / "wal").iterdir())
    id_ = store.remember(long, key="long", metadata={"n": 1})
    assert sum(file.stat().st_size for file in (path / "wal").iterdir()) - log_before <= MIB, "the log carried the text"
    for _ in range(2):
        assert store.get(id_).text == long
        assert store.get(id_).preview == "é" * 32
        store.remember("short")
        other = store.remember(long + "!")
        assert store.get(other).text == long + "!"
        store.close()
        store = open_store(durability=durability)
        assert store.get(id_).text == long
        store.checkpoint()
        assert store.get_key("long").text == long
        store.close()
        store = open_store(durability=durability)
    assert store.check().ok


def test_a_long_text_in_a_dropped_transaction_leaves_no_trace(open_store: Any, disk: Any, path: Path) -> None:
    store = open_store()
    with pytest.raises(KeyError, match="changed my mind"), store.transaction():
        store.remember("x" * (MIB + 1))
        raise KeyError("changed my mind")
    kept = store.remember("y" * (MIB + 1))
    store.close()
    store = open_store()
    assert store.get(kept).text == "y" * (MIB + 1)
    store.checkpoint()
    assert store.get(kept).text == "y" * (MIB + 1)
    assert len(store) == 1


def test_a_datetime_is_kept_to_the_microsecond(store: Store) -> None:
    moments = [
        datetime(1970, 1, 1, tzinfo=timezone.utc),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(1, 1, 1, tzinfo=timezone.utc),
    ]
    for moment in moments:
        assert store.get(store.remember("x", timestamp=moment)).time == moment


def test_a_naive_datetime_is_local_time(store: Store) -> None:
    moment = datetime(2024, 7, 1, 12, 0)
    assert store.get(store.remember("x", timestamp=moment)).time == moment.astimezone()


def test_a_ref_given_twice_is_one(store: Store) -> None:
    first = store.remember("first")
    second = store.remember("second", refs=[first, first])
    assert store.get(second).refs == (first,)
    assert [edge.dst for edge in store.trace.neighbours(second)] == [first]


def test_a_window_that_ends_before_it_begins_is_refused(store: Store) -> None:
    store.remember("at five", np.ones(8), timestamp=5)
    assert store.recall(np.ones(8), since=6, until=6) == []
    for ask in (
        lambda **window: store.recall(np.ones(8), **window),
        lambda **window: store.trace.search(np.ones(8), **window),
    ):
        with pytest.raises(aeon.InvalidInputError, match="since 9 is after until 5"):
            ask(since=9, until=5)


def test_refs_and_parent_are_kept(store: Store) -> None:
    concept, first = store.remember("Trieste", role="concept"), store.remember("a")
    id_ = store.remember("b", refs=(n for n in [concept, first]), parent=first)
    store.checkpoint()
    assert store.get(id_).refs == (concept, first)
    assert store.get(id_).parent == first


def test_a_ref_given_as_one_id(store: Store) -> None:
    one = store.remember("a")
    assert store.get(store.remember("b", refs=one)).refs == (one,)
    assert store.get(store.remember("c", refs=np.array([one], np.uint64))).refs == (one,)


def test_previous_is_the_event_before_in_the_session(store: Store) -> None:
    a, b = store.remember("a", session="x"), store.remember("b", session="y")
    c, d = store.remember("c", session="x"), store.remember("d", session="y")
    for _ in range(2):
        assert [store.get(id_).previous for id_ in (a, b, c, d)] == [None, None, a, b]
        store.checkpoint()
    e = store.remember("e", session="x")
    assert store.get(e).previous == c


# -- keys -------------------------------------------------------------------------------------------------------------


def test_an_upsert_shows_the_newest_and_keeps_the_old_readable_by_id(open_store: Any, vectors: Any) -> None:
    store = open_store()
    old = store.remember("lives in Trieste", vectors(1)[0], key="city")
    new = store.remember("lives in Graz", vectors(1)[0], key="city")
    for step in range(3):
        assert store.get_key("city").id == new
        assert store.get(old).text == "lives in Trieste"
        assert [hit.id for hit in store.recall(vectors(1)[0], 5)] == [new]
        assert [memory.id for memory in store.history()] == [new]
        assert (len(store), store.sessions()[0].count, store.stats().keys) == (1, 1, 1)
        if step == 0:
            store.checkpoint()
        else:
            store.close()
            store = open_store()


def test_a_key_belongs_to_its_namespace(store: Store) -> None:
    ids = [
        store.remember(str(n), key="k", namespace=parts) for n, parts in enumerate([(), ("a",), ("a", "b"), ("ab",)])
    ]
    assert [store.get_key("k", parts).id for parts in [(), ("a",), ("a", "b"), ("ab",)]] == ids
    assert store.get_key("k", "a").id == ids[1]
    assert store.get_key("k", ("b",)) is None
    assert store.get_key("K") is None
    assert len(store) == 4


def test_an_upsert_may_lose_its_vector_and_move_to_another_session(store: Store, vectors: Any) -> None:
    store.remember("a", vectors(1)[0], key="k", session="x")
    new = store.remember("b", key="k", session="y")
    assert store.recall(vectors(1)[0]) == []
    assert store.history("x") == []
    assert [memory.id for memory in store.history("y")] == [new]
    assert [info.name for info in store.sessions()] == ["y"]


def test_the_same_key_twice_in_a_batch(store: Store, vectors: Any) -> None:
    ids = store.remember_many(["a", "b", "c"], vectors(3), keys=["k", "k", "k"])
    assert store.get_key("k").id == ids[2]
    assert [hit.id for hit in store.recall(vectors(1)[0], 5)] == [ids[2]]
    assert [store.get(id_).text for id_ in ids] == ["a", "b", "c"]


def test_forgetting_the_newest_version_takes_the_old_ones_along(open_store: Any, vectors: Any) -> None:
    store = open_store()
    versions = [store.remember(f"v{n}", vectors(1)[0], key="k") for n in range(2)]
    store.checkpoint()
    versions += [store.remember(f"v{n}", vectors(1)[0], key="k") for n in range(2, 4)]
    assert store.forget(versions[-1]) == 1
    for _ in range(2):
        assert store.get_key("k") is None
        for id_ in versions:
            with pytest.raises(aeon.NotFoundError):
                store.get(id_)
        store.checkpoint()
    again = store.remember("v4", key="k")
    assert store.get_key("k").id == again


def test_forgetting_an_old_version_leaves_the_newest(store: Store) -> None:
    first, second, third = (store.remember(f"v{n}", key="k") for n in range(3))
    assert store.forget(second) == 1
    assert store.get_key("k").id == third
    for id_ in (first, second):
        with pytest.raises(aeon.NotFoundError):
            store.get(id_)
    assert texts(store.history()) == ["v2"]
    store.checkpoint()
    assert store.forget(third) == 1
    assert len(store) == 0


# -- forgetting -------------------------------------------------------------------------------------------------------


def test_forgotten_is_gone_from_everything(open_store: Any, vectors: Any) -> None:
    store = open_store()
    ids = store.remember_many(["a", "b", "c"], vectors(3), keys=["ka", "kb", "kc"])
    assert store.forget(ids[1]) == 1
    for step in range(3):
        with pytest.raises(aeon.NotFoundError, match="no memory has id 2, or it was forgotten"):
            store.get(ids[1])
        assert store.get_key("kb") is None
        assert {hit.id for hit in store.recall(vectors(3)[1], 5)} == {ids[0], ids[2]}
        assert texts(store.history()) == ["a", "c"]
        assert (store.stats().memories, store.stats().vectors, store.stats().keys, len(store)) == (2, 2, 2, 2)
        if step == 0:
            store.close()
            store = open_store()
        else:
            store.checkpoint()


def test_forget_counts_what_there_was(store: Store) -> None:
    ids = store.remember_many(list("abcdef"))
    assert store.forget(ids[0]) == 1
    assert store.forget(ids[0]) == 0
    assert store.forget([ids[0], ids[1], ids[1], ids[2]]) == 2
    assert store.forget([]) == 0
    assert store.forget(np.array(ids, np.uint64)) == 3
    assert len(store) == 0


def test_forget_by_filter(store: Store) -> None:
    store.remember_many(list("abcd"), session=["x", "x", "y", "y"], metadata=[{"n": n} for n in range(4)])
    assert store.forget(where={"n": {"$gte": 2}}, session="x") == 0
    assert store.forget(where={"n": {"$gte": 1}}, session="x") == 1
    assert store.forget(session="y") == 2
    assert store.forget(session="nobody") == 0
    assert texts(store.history("x")) == ["a"]
    store.remember("e", namespace=("a", "b"))
    store.remember("f", namespace=("ab",))
    assert store.forget(namespace=("a",)) == 1
    assert store.forget(where={}) == 2
    assert store.sessions() == []


def test_forget_does_not_take_an_empty_namespace_for_everything(store: Store) -> None:
    store.remember("a")
    with pytest.raises(aeon.InvalidInputError, match="forget what"):
        store.forget(namespace=())
    assert len(store) == 1


def test_forget_leaves_what_refers_to_it(store: Store) -> None:
    source = store.remember("source")
    id_ = store.remember("claim", refs=[source], parent=source)
    store.forget(source)
    for _ in range(2):
        assert store.get(id_).refs == (source,)
        store.checkpoint()


def test_a_store_of_forgotten_memories_only_checkpoints_and_opens(open_store: Any, vectors: Any) -> None:
    store = open_store()
    store.forget(store.remember_many(["a", "b"], vectors(2), keys=["k", None]))
    store.checkpoint()
    store.close()
    store = open_store()
    assert (len(store), store.recall(vectors(1)[0]), store.history(), store.sessions()) == (0, [], [], [])
    assert store.stats().events == 0
    new = store.remember("c", vectors(1)[0])
    store.checkpoint()
    assert [hit.id for hit in store.recall(vectors(1)[0])] == [new]
    store.forget(new)
    store.checkpoint()
    assert (len(store), store.recall(vectors(1)[0])) == (0, [])


# -- history and sessions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["in memory", "in a generation", "in both"])
def test_history_is_the_newest_oldest_first(store: Store, where: str) -> None:
    ids = []
    for n in range(700):
        ids.append(store.remember(f"{n}", session="long"))
        if n % 3 == 0:
            store.remember("noise", session="other")
        if n == 400 and where == "in both":
            store.checkpoint()
    if where == "in a generation":
        store.checkpoint()
    assert [m.id for m in store.history("long", limit=None)] == ids
    assert [m.id for m in store.history("long")] == ids[-100:]
    assert [m.id for m in store.history("long", 5, before=ids[10])] == ids[5:10]
    assert [m.id for m in store.history("long", 5, before=ids[3])] == ids[:3]
    assert store.history("long", 5, before=ids[0]) == []
    store.forget(ids[-300:])
    assert [m.id for m in store.history("long", 7)] == ids[393:400]
    assert store.history("unknown") == []


def test_history_goes_on_behind_many_dead_events(store: Store) -> None:
    first = store.remember("first")
    for n in range(600):
        store.remember(str(n), key="status")
    assert texts(store.history(limit=2)) == ["first", "599"]
    assert [m.id for m in store.history(limit=2, before=store.get_key("status").id)] == [first]


def test_sessions_in_the_order_they_were_begun(open_store: Any) -> None:
    store = open_store()
    store.remember_many(list("abc"), session=["z", "a", "z"], timestamps=[30, 20, 10])
    for _ in range(2):
        assert [(i.name, i.count, i.last_timestamp) for i in store.sessions()] == [("z", 2, 10), ("a", 1, 20)]
        store.checkpoint()
        store.close()
        store = open_store()


def test_sessions_tell_the_time_of_the_newest_memory_that_is_there(open_store: Any) -> None:
    store = open_store()
    store.remember("a", timestamp=1)
    store.forget(store.remember("b", timestamp=2))
    replaced = store.remember("c", key="k", timestamp=3)
    store.remember("d", key="k", session="elsewhere", timestamp=4)
    assert store.get(replaced).text == "c"
    for _ in range(3):
        assert [(i.name, i.count, i.last_timestamp) for i in store.sessions()] == [
            ("default", 1, 1),
            ("elsewhere", 1, 4),
        ]
        store.checkpoint()
        store.close()
        store = open_store()


# -- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_commit(open_store: Any, vectors: Any) -> None:
    store = open_store()
    old = store.remember("old", vectors(1)[0])
    lsn = store.lsn
    with store.transaction() as same:
        assert same is store
        a = store.remember("a", vectors(2)[1], key="k")
        b = store.remember("b", refs=[a], parent=a)
        assert store.forget([old, a]) == 2
        assert [m.id for m in store.history()] == [old], "reads inside show the store as it was before"
        with pytest.raises(aeon.NotFoundError):
            store.get(a)
    assert store.lsn == lsn + 1
    for _ in range(2):
        assert [m.id for m in store.history()] == [b]
        assert store.get_key("k") is None
        store.close()
        store = open_store()


def test_an_exception_drops_the_whole_transaction(open_store: Any, state: Any, disk: Any, path: Path) -> None:
    store = open_store()
    ids = store.remember_many(["a", "b"], keys=["k", None])
    before, bytes_before = state(store), disk(path)
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.remember("c", key="k")
        store.remember_many(["d", "e"])
        store.forget(ids)
        _ = 1 / 0
    assert state(store) == before
    assert disk(path) == bytes_before
    assert len(store) == 2
    with store.transaction():
        store.remember("f")
    assert len(store) == 3


def test_a_refused_call_inside_a_transaction_can_be_caught(store: Store) -> None:
    with store.transaction():
        store.remember("a")
        with pytest.raises(aeon.DimensionError):
            store.remember("b", [1.0])
        with pytest.raises(aeon.NotFoundError):
            store.forget(999)
        store.remember("c")
    assert texts(store.history()) == ["a", "c"]


def test_an_empty_transaction_commits_nothing(store: Store, disk: Any, path: Path) -> None:
    before = disk(path)
    with store.transaction():
        pass
    assert (store.lsn, disk(path)) == (0, before)


def test_forget_in_a_transaction_counts_once(store: Store) -> None:
    id_ = store.remember("a")
    with store.transaction():
        new = store.remember("b")
        assert [store.forget(id_), store.forget(id_), store.forget(new), store.forget([new, id_])] == [1, 0, 1, 0]
    assert len(store) == 0


@pytest.mark.parametrize("call", ["close", "checkpoint", "transaction"])
def test_what_cannot_be_done_inside_a_transaction(store: Store, call: str) -> None:
    with store.transaction():
        store.remember("a")
        with pytest.raises(aeon.InvalidInputError, match="transaction"):
            result = getattr(store, call)()
            if call == "transaction":
                result.__enter__()
    assert texts(store.history()) == ["a"]


def test_flush_and_check_inside_a_transaction_see_what_was_before(store: Store) -> None:
    with store.transaction():
        store.remember("a")
        assert store.flush() == 0
        assert store.check().ok
    assert store.flush() == 1


# -- durability and checkpoints ---------------------------------------------------------------------------------------


def test_durable_lsn_by_level(tmp_path: Path) -> None:
    for level, durable in (("full", 1), ("normal", 0), ("off", 0)):
        with aeon.open(tmp_path / level, 8, durability=level) as store:
            store.remember("a")
            assert (store.lsn, store.durable_lsn) == (1, durable)
            assert store.flush() == store.durable_lsn == 1
            assert store.flush() == 1


def test_a_checkpoint_empties_the_log_and_replays_nothing(open_store: Any, state: Any) -> None:
    store = open_store()
    store.remember_many([f"{n}" for n in range(20)])
    before = state(store)
    assert store.checkpoint() == 1
    assert store.checkpoint() == 1, "nothing new, no new generation"
    assert store.stats().log_bytes == 64
    store.close()
    store = open_store()
    assert store.recovery.commits_replayed == 0
    assert store.stats().generation == 1
    assert state(store) == before


def test_reopening_replays_the_log_and_says_so(open_store: Any, state: Any) -> None:
    store = open_store()
    store.remember_many(["a", "b"])
    store.checkpoint()
    store.remember_many(["c", "d", "e"])
    store.forget(1)
    before = state(store)
    store.close()
    store = open_store()
    assert (store.recovery.commits_replayed, store.recovery.memories_replayed) == (2, 3)
    assert (store.recovery.bytes_dropped, store.recovery.reason) == (0, "")
    assert state(store) == before


def test_a_checkpoint_runs_by_itself_when_the_log_is_long(open_store: Any) -> None:
    store = open_store(checkpoint_log_bytes=4096, segment_growth_bytes=512, background=False)
    for n in range(100):
        store.remember(f"{n} " + "x" * 100)
    assert store.stats().generation >= 2
    assert len(store.history(limit=None)) == 100


def test_no_checkpoint_by_itself_when_switched_off(open_store: Any) -> None:
    store = open_store(checkpoint_log_bytes=0, segment_bytes_max=1024, segment_growth_bytes=512)
    for n in range(100):
        store.remember(f"{n} " + "x" * 100)
    assert store.stats().generation == 0


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
def test_the_log_rotates_into_many_segments(open_store: Any, path: Path, state: Any, durability: Any) -> None:
    options = {"segment_bytes_max": 1024, "segment_growth_bytes": 512, "durability": durability}
    store = open_store(**options)
    for n in range(60):
        store.remember(f"{n} " + "x" * n)
    assert len(list((path / "wal").iterdir())) > 5
    before = state(store)
    store.close()
    store = open_store(**options)
    assert store.recovery.memories_replayed == 60
    assert state(store) == before
    store.checkpoint()
    assert len(list((path / "wal").iterdir())) == 1


def test_a_commit_longer_than_a_segment(open_store: Any) -> None:
    options = {"segment_bytes_max": 1024, "segment_growth_bytes": 512}
    store = open_store(**options)
    ids = store.remember_many([f"{n} " + "x" * 100 for n in range(100)])
    store.remember("after")
    store.close()
    store = open_store(**options)
    assert len(store) == 101
    assert store.get(ids[99]).text.startswith("99 ")


def test_many_small_checkpoints(open_store: Any, vectors: Any) -> None:
    store = open_store()
    for n in range(12):
        store.remember(f"{n}", vectors(12)[n], key=f"k{n % 4}", session=f"s{n % 2}")
        if n % 3 == 2:
            store.forget(store.history("s1", 1)[0].id)
        store.checkpoint()
        assert store.check().ok
    survivors = {m.id for info in store.sessions() for m in store.history(info.name)}
    assert {hit.id for hit in store.recall(vectors(1)[0], 20)} == survivors
    store.close()
    assert {hit.id for hit in open_store().recall(vectors(1)[0], 20)} == survivors


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_files_are_for_their_owner_only(open_store: Any, path: Path) -> None:
    store = open_store()
    store.remember("x" * (MIB + 1))
    store.checkpoint()
    store.remember("y")
    found = [path, *path.rglob("*")]
    assert len(found) > 12
    for each in found:
        assert stat.S_IMODE(each.stat().st_mode) == (0o700 if each.is_dir() else 0o600), each


def descriptors_into(path: Path) -> list[str]:
    """What this process holds open below `path`, mappings included."""
    listing = Path("/proc/self/fd")
    if not listing.is_dir():
        pytest.skip("no /proc here")
    return [name for name in map(os.path.realpath, listing.iterdir()) if name.startswith(str(path))]


def test_no_descriptor_is_left_when_the_last_reference_goes(path: Path, vectors: Any) -> None:
    gc.disable()
    try:
        for _ in range(2):
            store = aeon.open(path, 8, segment_bytes_max=1024, segment_growth_bytes=512, durability="off")
            for n in range(30):
                store.remember("x" * 50, vectors(1)[0], key=str(n % 3))
            store.checkpoint()
            store.get_key("1")
            store.recall(vectors(1)[0])
            store.check()
            store.stats()
            store.close()
            del store
            assert descriptors_into(path) == []
    finally:
        gc.enable()


def test_descriptors_do_not_pile_up_with_checkpoints(store: Store, path: Path) -> None:
    gc.disable()  # a generation is let go when its last reader is done, not when a collector comes by
    try:
        counts = []
        for n in range(5):
            store.remember(f"{n}", key="k")
            store.checkpoint()
            store.get_key("k")
            counts.append(len(descriptors_into(path)))
        assert counts == [counts[0]] * 5
    finally:
        gc.enable()


# -- inspection -------------------------------------------------------------------------------------------------------


def test_stats_count_what_is_there(store: Store, path: Path, vectors: Any) -> None:
    store.remember_many(
        ["a", "b", "c"], [vectors(1)[0], None, vectors(1)[0]], session=["x", "y", "x"], keys=[None, "k", None]
    )
    store.remember("d", vectors(1)[0], key="k", session="y")
    store.forget(1)
    stats = store.stats()
    assert (stats.memories, stats.vectors, stats.events, stats.sessions, stats.keys) == (2, 2, 4, 2, 1)
    assert (stats.dim, stats.rows, stats.embedder, stats.durability, stats.read_only) == (
        8,
        "int8",
        "",
        "normal",
        False,
    )
    assert (stats.lsn, stats.generation, stats.path) == (3, 0, str(path))
    assert stats.disk_bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert stats.log_bytes == sum(file.stat().st_size for file in (path / "wal").iterdir())


def test_check_finds_a_flipped_byte_in_every_file(open_store: Any, path: Path, vectors: Any) -> None:
    store = open_store()
    store.remember_many(["a", "b"], vectors(2), keys=["k", None])
    store.remember("c", vectors(2)[1], refs=[1], metadata={"n": 1})
    store.link(3, 2, "causes")
    store.archive(1)
    store.checkpoint()
    store.remember("in the log")
    store.close()
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "LOCK"]
    assert len(files) == 16
    for file in files:
        whole = file.read_bytes()
        at = len(whole) - 1 if file.suffix != ".wal" else 64 + 40 + 8
        at = {"codes.arena": 4096, "blobs.arena": 64 + 24}.get(file.name, at)
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            problems = check.check(OsFileSystem(), str(path)).problems
        except aeon.CorruptionError as error:
            problems = [error]
        names = ("rows.arena", "codes.arena") if file.name == "rows.arena" else (file.name,)  # one checksum covers both
        assert any(problem.path.endswith(names) for problem in problems), (file.name, problems)
        file.write_bytes(whole)
    with aeon.open(path, read_only=True) as reader:
        assert reader.check().ok


def test_a_stores_repr_says_what_it_is(store: Store) -> None:
    store.remember("a")
    assert "1 events, 0 vectors" in repr(store)
    assert repr(store.get(1)) == "<Memory 1 default/user: 'a'>"
    store.close()
    assert "is closed" in repr(store)


# -- results outlive what happens to the store ------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["in the log", "in a generation"])
@pytest.mark.parametrize("then", ["close", "checkpoint", "forget", "upsert"])
def test_results_stay_readable(open_store: Any, vectors: Any, kept: str, then: str) -> None:
    store = open_store()
    long = "x" * (MIB + 1)
    store.remember_many([long, "short"], vectors(2), keys=["k", "l"], metadata={"n": 1})
    if kept == "in a generation":
        store.checkpoint()
    hits, history, memory = store.recall(vectors(2)[0], 2), store.history(), store.get(1)
    if then == "close":
        store.close()
    elif then == "checkpoint":
        store.remember("more")
        store.checkpoint()
        store.checkpoint()
    elif then == "forget":
        store.forget([1, 2])
        store.checkpoint()
    else:
        store.remember_many(["new", "newer"], keys=["k", "l"])
        store.checkpoint()
    assert [hit.text for hit in hits] == [long, "short"]
    assert [(m.text, m.metadata, m.key, m.session) for m in history] == [
        (long, {"n": 1}, "k", "default"),
        ("short", {"n": 1}, "l", "default"),
    ]
    assert memory.vector == pytest.approx(vectors(2)[0], abs=1 / 127)
