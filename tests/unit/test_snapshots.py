"""Pins, as_of, retention: reading what was, and forgetting by rule."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon

DIM = 16
CALM: dict[str, Any] = {"checkpoint_log_bytes": 0, "compact_share": 0}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[aeon.Store]:
    with aeon.open(tmp_path / "agent.aeon", DIM, **CALM) as opened:
        yield opened


def vector(n: int) -> Any:
    return np.random.default_rng(n).standard_normal(DIM).astype(np.float32)


def seen(reader: Any, query: int = 3) -> Any:
    return (
        [(m.id, m.text, m.key) for m in reader.memories()],
        [m.id for m in reader.history("s", None)],
        [(hit.id, hit.score) for hit in reader.recall(vector(query), 1000, exact=True)],
    )


def scramble(store: aeon.Store, ids: list[int]) -> None:
    """Everything that ends something, and a few that begin."""
    store.forget(ids[::3])
    for n in ids[1:20:3]:
        store.remember(f"new {n}", vector(n + 500), key=f"k{n}", session="s")
    store.remember_many(["more"] * 50, [vector(n) for n in range(50)], session="s")


@pytest.fixture
def ids(store: aeon.Store) -> list[int]:
    return [
        store.remember(f"text {n}", vector(n), key=f"k{n + 1}" if n < 30 else None, session="s") for n in range(100)
    ]


# -- pins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["nothing", "checkpoint", "compact"])
def test_a_pin_shows_what_was(store: aeon.Store, ids: list[int], first: str) -> None:
    if first != "nothing":
        getattr(store, first)()
    pin = store.pin()
    before = seen(store)
    assert seen(pin) == before and pin.lsn == store.lsn
    found = pin.atlas.search(vector(3), 5)[0].tolist()
    for work in (scramble, lambda s, i: s.checkpoint(), lambda s, i: s.compact(purge=True), lambda s, i: s.close()):
        work(store, ids)
        assert seen(pin) == before
        assert pin.get(ids[0]).text == "text 0" and pin.text(ids[3]) == b"text 3"
        assert pin.atlas.search(vector(3), 5)[0].tolist() == found
    pin.close()
    pin.close()
    with pytest.raises(aeon.ClosedError):
        pin.get(ids[0])
    with pytest.raises(aeon.ClosedError):
        store.pin()


def test_rows_and_texts_are_views_that_outlive_everything(store: aeon.Store, ids: list[int]) -> None:
    store.remember("without a vector")
    store.compact()
    late = store.remember("late", vector(777))
    with store.pin() as pin:
        blocks, text, late_text = pin.rows(), pin.text(ids[5]), pin.text(late)
    assert [len(block) for block in blocks] == [100, 1]
    store.forget(ids)
    store.compact(purge=True)
    store.close()
    del pin, store
    gc.collect()
    assert bytes(text) == b"text 5" and bytes(late_text) == b"late" and text.readonly
    block = blocks[0]
    assert block.ids.tolist() == ids and block.codes.shape == (100, DIM) and block.alive.all()
    kept = block.codes[7] * block.scales[7]
    assert np.allclose(kept, vector(7) / np.linalg.norm(vector(7)), atol=0.01)
    for array in (block.ids, block.codes, block.scales, blocks[1].codes):
        assert not array.flags.owndata and not array.flags.writeable
    assert np.shares_memory(block.codes, block.codes.base)
    with pytest.raises(TypeError):
        text[0] = 1


def test_the_old_generation_goes_with_its_last_reader(store: aeon.Store, ids: list[int]) -> None:
    store.checkpoint()
    pin = store.pin()
    rows = pin.rows()
    assert store.compact().held_by_readers
    del pin
    rows.clear()
    assert not store.compact().held_by_readers


def test_a_long_text_outlives_the_file_it_was_written_ahead_into(
    store: aeon.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aeon.store.TEXT_BYTES_INLINE", 100)
    for round_ in range(2):
        long = store.remember(f"{round_} " * 200, vector(1))
        held, pin = store.get(long), store.pin()
        with aeon.open(tmp_path / "agent.aeon", read_only=True) as reader:
            store.compact()
            assert held.text == bytes(pin.text(long)).decode() == reader.get(long).text == f"{round_} " * 200


# -- as_of ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoints", [False, True])
def test_as_of_shows_each_commit(store: aeon.Store, checkpoints: bool) -> None:
    states = {0: ([], [])}

    def note() -> None:
        states[store.lsn] = (
            [m.id for m in store.history("s", None)],
            [hit.id for hit in store.recall(vector(0), 100, exact=True)],
        )

    first = store.remember("a", vector(1), session="s", key="k")
    note()
    for n in range(2, 6):
        store.remember(f"{n}", vector(n), session="s", key="k" if n % 2 else None)
        note()
        if checkpoints and n == 3:
            store.checkpoint()
    store.forget(first)  # it had been replaced before
    note()
    store.remember_many(["x", "y"], [vector(7), vector(8)], session="s")
    note()
    if checkpoints:
        assert store._engine.manifest.history_from == 0
    for lsn, (history, hits) in states.items():
        assert [m.id for m in store.history("s", None, as_of=lsn)] == history, lsn
        assert [hit.id for hit in store.recall(vector(0), 100, as_of=lsn)] == hits, lsn
    for wrong in (-1, store.lsn + 1, True, "yesterday", 1.5):
        with pytest.raises(aeon.InvalidInputError):
            store.history("s", as_of=wrong)


def test_as_of_reaches_no_further_than_what_is_kept(store: aeon.Store, ids: list[int]) -> None:
    lsn = store.lsn
    store.forget(ids[5])
    forgotten_at = store.lsn
    store.remember("later", vector(1), session="s")
    assert len(store.history("s", None, as_of=lsn)) == 100
    store.compact()
    assert len(store.history("s", None, as_of=forgotten_at)) == 99
    for reader in (store.history, lambda session, as_of: store.recall(vector(1), as_of=as_of)):
        with pytest.raises(aeon.NotRetainedError, match=f"LSN {forgotten_at} and later"):
            reader("s", as_of=lsn)


def test_what_ended_twice_is_told_apart_or_refused(store: aeon.Store) -> None:
    old = store.remember("old", vector(1), key="k", session="s")
    store.remember("new", vector(2), key="k", session="s")
    replaced_at = store.lsn
    store.checkpoint()
    store.forget(old)
    assert [m.text for m in store.history("s", as_of=replaced_at)] == ["new"]
    assert [m.text for m in store.history("s", as_of=replaced_at - 1)] == ["old"]
    store.checkpoint()
    with pytest.raises(aeon.NotRetainedError):
        store.history("s", as_of=replaced_at)
    assert [m.text for m in store.history("s", as_of=replaced_at + 1)] == ["new"]


def test_as_of_a_time(store: aeon.Store) -> None:
    day = [int(datetime(2024, 5, n, tzinfo=timezone.utc).timestamp() * 1e6) for n in (1, 2, 3)]
    for n, when in enumerate(day):
        store.remember(f"day {n + 1}", vector(n), session="s", timestamp=when)
    noon = datetime(2024, 5, 2, 12, tzinfo=timezone.utc)
    assert [m.text for m in store.history("s", as_of=noon)] == ["day 1", "day 2"]
    assert len(store.history("s", as_of=datetime(2025, 1, 1, tzinfo=timezone.utc))) == 3
    assert store.history("s", as_of=datetime(2024, 1, 1, tzinfo=timezone.utc)) == []


# -- retention ------------------------------------------------------------------------------------------------------


def test_a_memory_lives_as_long_as_it_was_given(store: aeon.Store, tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    gone = store.remember("gone", vector(1), ttl=10, timestamp=now - 11_000_000, metadata={"a": 1})
    stays = store.remember("stays", vector(2), ttl=3600)
    store.remember_many(["u", "v"], [vector(3), vector(4)], timestamps=now - 11_000_000, ttl=[5, None])
    assert len(store) == 4, "until the next sweep"
    assert store.compact().memories == 2
    assert [m.text for m in store.memories()] == ["stays", "v"]
    with pytest.raises(aeon.NotFoundError):
        store.get(gone)
    assert store.check().ok
    store.close()
    with aeon.open(tmp_path / "agent.aeon", **CALM) as again:
        assert again._engine.may_expire and again.get(stays).text == "stays"
    for wrong in (-1, "1", True, float("nan"), float("inf")):
        with aeon.open(tmp_path / "agent.aeon") as again, pytest.raises(aeon.InvalidInputError):
            again.remember("x", vector(1), ttl=wrong)


def test_rules_of_a_store(tmp_path: Path) -> None:
    old = time.time_ns() // 1000 - 100_000_000
    with aeon.open(tmp_path / "a.aeon", DIM, ttl={("scratch",): 50, ("scratch", "kept"): 500}, **CALM) as store:
        store.remember("1", vector(1), namespace=("scratch",), timestamp=old)
        store.remember("2", vector(2), namespace=("scratch",))
        store.remember("3", vector(3), namespace=("other",), timestamp=old)
        assert store.compact().memories == 2
    with aeon.open(tmp_path / "b.aeon", DIM, keep_versions=False, **CALM) as store:
        for n in range(5):
            last = store.remember(f"{n}", vector(n), key="k")
        assert store.compact().memories == 1 and store.get_key("k").id == last  # type: ignore[union-attr]
    for wrong in ({"scratch": 5}, {("a",): -1}, [("a", 1)]):
        with pytest.raises(aeon.InvalidInputError):
            aeon.open(tmp_path / "c.aeon", DIM, ttl=wrong)


def test_a_budget_of_bytes(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "a.aeon", DIM, max_bytes=40_000, checkpoint_log_bytes=0, background=False) as store:
        for n in range(400):
            store.remember("x" * 200, vector(n))
        kept = [m.id for m in store.memories()]
        assert kept == list(range(400 - len(kept) + 1, 401)), "the oldest go first"
        assert 50 < len(kept) < 200
        report = store.compact()
        assert report.bytes_after < 48_000 and store.check().ok


# -- other processes ------------------------------------------------------------------------------------------------

_READER = """
import sys, time, aeon
import numpy as np
end = time.monotonic() + float(sys.argv[2])
rounds = 0
store = aeon.open(sys.argv[1], read_only=True)
while time.monotonic() < end or rounds < 3:
    if rounds % 4 == 3:
        store.close()
        store = aeon.open(sys.argv[1], read_only=True)
    store.refresh()
    seen = {m.id: m.text for m in store.memories()}
    assert all(text == f"text {id_}" for id_, text in seen.items()), seen
    ids = [m.id for m in store.history("default", None)]
    assert ids == sorted(seen)
    block = [b for b in store.pin().rows()]
    assert sum(int(b.alive.sum()) for b in block) == len(seen)
    low, high = store.history("default", 1)[0].id, store.lsn
    rounds += 1
print(rounds)
"""


def test_readers_of_other_processes_are_never_broken(store: aeon.Store, tmp_path: Path) -> None:
    """They open, follow and read while the writer forgets, compacts and purges as fast as it can."""
    store.remember_many([f"text {n}" for n in range(1, 201)], [vector(n) for n in range(200)])
    command = [sys.executable, "-c", _READER, str(tmp_path / "agent.aeon"), "2"]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    newest, compactions = 200, 0
    while any(reader.poll() is None for reader in readers):
        store.remember_many([f"text {n}" for n in range(newest + 1, newest + 11)], [vector(n) for n in range(10)])
        newest += 10
        store.forget(list(range(newest - 209, newest - 199)))
        store.compact(purge=compactions % 3 == 2)
        compactions += 1
    for reader in readers:
        out, errors = reader.communicate()
        assert reader.returncode == 0, errors
        assert int(out) >= 3
    assert compactions > 3
