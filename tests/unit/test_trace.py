"""The Trace: events, names, postings and edges, with chunks and previews at their edges."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aeon
from aeon import atlas, columns, trace
from aeon.format import PREVIEW_BYTES_MAX, SUPERSEDED, EdgeKind, cut_preview
from aeon.store import Store
from aeon.trace import Names, Trace


@pytest.fixture(params=[3, 4096])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (columns, atlas, trace):
        monkeypatch.setattr(module, "CHUNK_RECORDS", request.param)
    return request.param


def append(events: Trace, id_: int, session: int = 0, text: bytes = b"") -> int:
    return events.append(
        id_, parent=0, timestamp=id_ * 10, session=session, namespace=0, role=1, flags=0, row=-1, blob_bytes=0,
        text=memoryview(text),
    )  # fmt: skip


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_a_preview_is_the_longest_prefix_that_fits(text: str) -> None:
    data = text.encode()
    preview = cut_preview(data)
    assert data.startswith(preview)
    assert preview.decode() == text[: len(preview.decode())]
    rest = text[len(preview.decode()) :]
    assert len(preview) <= PREVIEW_BYTES_MAX
    assert not rest or len(preview) + len(rest[0].encode()) > PREVIEW_BYTES_MAX


def test_events_in_order_of_ids(chunk: int) -> None:
    events = Trace({}, 1)
    for id_ in range(1, 12):
        assert append(events, id_, session=id_ % 2) == id_ - 1
    for id_ in range(1, 12):
        index = events.index_of(id_)
        event = events.event(index)
        assert (index, event.id, event.timestamp, event.row) == (id_ - 1, id_, id_ * 10, -1)
        assert event.previous == (id_ - 2 if id_ > 2 else 0)
    assert [events.index_of(id_) for id_ in (0, 12, 1 << 63)] == [-1, -1, -1]
    assert events.take(np.array([5, 0, 10]), "id").tolist() == [6, 1, 11]


def test_an_event_ends_once(chunk: int) -> None:
    events = Trace({}, 1)
    for id_ in (1, 2, 3):
        append(events, id_)
    assert events.session_live(0) == 3
    assert events.kill(0, 7, superseded=True)
    assert (events.death(0), events.session_live(0)) == (7 | SUPERSEDED, 2)
    assert not events.kill(0, 8, superseded=True), "already replaced"
    assert events.kill(0, 9, superseded=False), "a replaced one can still be forgotten"
    assert (events.death(0), events.session_live(0)) == (9, 2), "and is not counted twice"
    assert not events.kill(0, 10, superseded=False)
    assert not events.kill(0, 10, superseded=True)
    assert events.kill(1, 11, superseded=False)
    assert (events.death(1), events.session_live(0)) == (11, 1)


def test_postings_of_a_session(chunk: int) -> None:
    events = Trace({}, 1)
    for id_ in range(1, 21):
        append(events, id_, session=id_ % 3)
    assert events.session_events(1).tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert events.session_events(1, 2, 4).tolist() == [6, 9]
    assert events.session_events(1, 5, 99).tolist() == [15, 18]
    assert events.session_events(9).tolist() == []
    assert (events.session_count(1), events.session_count(9), events.last_id(1), events.last_id(9)) == (7, 0, 19, 0)


def test_postings_over_a_generation_and_what_came_since(chunk: int, open_store: Any) -> None:
    store = open_store()
    expected: dict[str, list[int]] = {}
    for n in range(40):
        session = f"s{n * n % 5}"
        expected.setdefault(session, []).append(store.remember(str(n), session=session))
        if n % 9 == 8:
            store.forget(expected[session].pop())
            store.checkpoint()
    events = store._engine.trace
    for name, ids in expected.items():
        number = events.names.session_numbers[name]
        everything = events.session_events(number).tolist()
        assert [events.event(index).id for index in everything if not events.death(index)] == ids
        assert everything == sorted(everything)
        for start in range(len(everything) + 1):
            for stop in range(start, len(everything) + 1):
                assert events.session_events(number, start, stop).tolist() == everything[start:stop]


def test_ids_are_found_over_gaps(chunk: int, open_store: Any) -> None:
    store = open_store()
    ids = store.remember_many([str(n) for n in range(30)])
    gone = ids[:2] + ids[5:9] + ids[20:21] + ids[28:]
    store.forget(gone)
    store.checkpoint()
    later = store.remember_many(["x", "y"])
    events = store._engine.trace
    for id_ in range(40):
        index = events.index_of(id_)
        if id_ in gone or id_ not in ids + later:
            assert index == -1
        else:
            assert events.event(index).id == id_


def test_edges_in_order_of_creation(store: Store) -> None:
    a, b, c = store.remember_many(["a", "b", "c"])
    d = store.remember("d", refs=[c, a, b])
    events = store._engine.trace
    expected = [(c, EdgeKind.REF), (a, EdgeKind.REF), (b, EdgeKind.REF)]
    assert events.edges_from(d) == expected
    store.checkpoint()
    e = store.remember("e", refs=[d], key="k")
    f = store.remember("f", refs=[e], key="k")
    for _ in range(2):
        events = store._engine.trace
        assert events.edges_from(d) == expected
        assert events.edges_from(f) == [(e, EdgeKind.REF), (e, EdgeKind.REPLACES)]
        assert events.edges_from(99) == events.edges_from(a) == []
        store.checkpoint()
        store.remember("more")
        store.checkpoint()
    store.forget(b)
    store.checkpoint()
    assert store._engine.trace.edges_from(d) == expected[:2], "an edge dies with its end"


def test_names_remember_every_path_of_metadata() -> None:
    names = Names(b"", "names")
    names.note_fields({"a": {"b": {"c": 1}, "x.y": 2}, "l": [{"no": 1}], "e": {}})
    names.note_fields({"a": {"d": None}})
    assert names.fields == {"a", "a.b", "a.b.c", "a.x.y", "a.d", "l", "e"}
    again = Names(names.pack(np.arange(len(names.sessions)), np.arange(len(names.namespaces)), []), "names")
    assert (again.fields, again.sessions, again.namespaces) == (names.fields, [], [])


def test_names_keep_their_numbers() -> None:
    names = Names(b"", "names")
    assert [names.session(name) for name in ("b", "a", "b", "c")] == [0, 1, 0, 2]
    assert [names.namespace(parts) for parts in ((), ("a",), (), ("a", "b"))] == [0, 1, 0, 2]
    again = Names(names.pack(np.arange(len(names.sessions)), np.arange(len(names.namespaces)), []), "names")
    assert [again.session(name) for name in ("c", "d")] == [2, 3]
    assert [again.namespace(parts) for parts in (("a", "b"), ("z",))] == [2, 3]


@pytest.mark.parametrize(
    "packed",
    [b"\xc1", b"\x00", msgpack.packb({}), msgpack.packb({"sessions": 1, "namespaces": [], "fields": []}), b"\x81"],
)
def test_names_that_are_damaged(packed: bytes) -> None:
    with pytest.raises(aeon.CorruptionError, match="a map of names"):
        Names(packed, "names")


def test_beyond_ten_thousand_fields_filters_are_no_longer_checked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeon import recall

    for module in (trace, recall):
        monkeypatch.setattr(module, "FIELDS_MAX", 5)
    store.remember("a", np.ones(8), metadata={f"f{n}": n for n in range(5)})
    with pytest.raises(aeon.FilterError):
        store.recall(np.ones(8), where={"unknown": 1})
    store.remember("b", np.ones(8), metadata={f"g{n}": n for n in range(50)})
    assert store.recall(np.ones(8), where={"unknown": 1}) == []
    assert len(store.recall(np.ones(8), where={"g49": 49})) == 1
    assert len(store._engine.trace.names.fields) == 6


def test_a_damaged_event_is_never_shown(chunk: int, open_store: Any, path: Any) -> None:
    store = open_store()
    store.remember_many([f"text {n}" for n in range(8)], np.eye(8), session=["a", "b"] * 4)
    store.checkpoint()
    store.close()
    file = next(path.rglob("events.arena"))
    whole = file.read_bytes()
    for at in range(64 + 5 * 128, 64 + 6 * 128):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with aeon.open(path, read_only=True) as reader:
            for call in (
                lambda: [m.preview for m in reader.history("b", limit=None)],
                lambda: reader.recall(np.ones(8), since=0),
                lambda: reader.stats(),
                lambda: reader.get(6).role,
            ):
                with pytest.raises(aeon.CorruptionError) as raised:
                    call()
                assert raised.value.path.endswith("events.arena")
            assert any(problem.path.endswith("events.arena") for problem in reader.check().problems)
    file.write_bytes(whole)


@pytest.mark.parametrize("damaged", range(30))
def test_a_damaged_id_does_not_make_another_memory_unknown(open_store: Any, path: Any, damaged: int) -> None:
    """An id that cannot be found because a record on the way to it is damaged is damage, not an unknown id."""
    store = open_store()
    ids = store.remember_many([f"text {n}" for n in range(40)])
    store.forget(ids[3:30:3])
    store.checkpoint()
    store.close()
    file = next(path.rglob("events.arena"))
    whole = bytearray(file.read_bytes())
    survivors = [id_ for id_ in ids if id_ not in ids[3:30:3]]
    at = 64 + 128 * damaged
    for value in (0, survivors[damaged] + 1, 1000, 1 << 60):
        whole[at : at + 8] = value.to_bytes(8, "little")
        file.write_bytes(whole)
        with aeon.open(path, read_only=True) as reader:
            for n, id_ in enumerate(survivors):
                try:
                    assert reader.get(id_).text == f"text {id_ - 1}"
                    assert n != damaged
                except aeon.CorruptionError as error:
                    assert error.path.endswith("events.arena")
