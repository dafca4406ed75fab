"""Compaction and checkpoints beside writers: what stays, what goes, and from which files."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import checkpoint, upkeep
from aeon.atlas import INDEX_FROM_ROWS
from aeon.files import NoSpaceError, OsFile
from aeon_native import dispatch

DIM = 16
SECRET = "the secret is Zabaglione-4711"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[aeon.Store]:
    with aeon.open(tmp_path / "agent.aeon", DIM, checkpoint_log_bytes=0, compact_share=0) as opened:
        yield opened


def vector(n: int) -> Any:
    return np.random.default_rng(n).standard_normal(DIM).astype(np.float32)


def fill(store: aeon.Store, count: int, **options: Any) -> list[int]:
    return store.remember_many([f"text {n}" for n in range(count)], [vector(n) for n in range(count)], **options)


def everything(store: aeon.Store) -> list[Any]:
    return [(memory.to_dict(), memory.vector.tobytes()) for memory in store.memories()]  # type: ignore[union-attr]


def in_files(folder: Path, needle: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def kept_codes(store: aeon.Store, id_: int) -> bytes:
    engine = store._engine
    return bytes(engine.atlas.codes[engine.event(engine.trace.index_of(id_)).row][:DIM].tobytes())


@pytest.mark.parametrize("in_a_generation", [True, False])
def test_what_was_forgotten_is_gone_and_the_rest_is_as_it_was(store: aeon.Store, in_a_generation: bool) -> None:
    ids = fill(store, 300, session="a")
    first = store.remember("one", vector(1000), key="k", metadata={"n": 1})
    second = store.remember("two", vector(1001), key="k", metadata={"n": 2}, refs=[first], parent=ids[5])
    if in_a_generation:
        store.checkpoint()
    assert store.forget(ids[::2]) == 150
    before = everything(store)
    hits = [(hit.id, hit.score) for hit in store.recall(vector(3), 20)]
    report = store.compact()
    assert (report.dropped, report.memories, report.purged) == (150, 152, False)
    assert everything(store) == before and len(store) == 151
    assert [(hit.id, hit.score) for hit in store.recall(vector(3), 20)] == hits
    assert store.get(first).text == "one" and store.get_key("k").id == second  # type: ignore[union-attr]
    for id_ in ids[::2]:
        with pytest.raises(aeon.NotFoundError):
            store.get(id_)
    history = store.history("a", None)
    assert [memory.id for memory in history] == ids[1::2]
    assert [memory.previous for memory in history] == [None, *ids[1:-2:2]]
    assert store.check().ok
    new = store.remember("after", vector(2000), session="a")
    assert new == second + 1 and store.get(new).previous == ids[-1]
    store.compact()
    assert store.compact().dropped == 0 and everything(store)[:-1] == before


def test_ids_with_gaps_are_found_after_a_reopen(store: aeon.Store, tmp_path: Path) -> None:
    ids = fill(store, 5000)
    gone = set(np.random.default_rng(0).choice(ids, 3000, replace=False).tolist())
    store.forget(sorted(gone))
    store.compact()
    store.close()
    with aeon.open(tmp_path / "agent.aeon") as again:
        for id_ in ids:
            if id_ in gone:
                with pytest.raises(aeon.NotFoundError):
                    again.get(id_)
            else:
                assert again.get(id_).text == f"text {id_ - 1}"
        assert again.check().ok


@pytest.mark.parametrize("first", ["nothing", "checkpoint", "compact"])
@pytest.mark.parametrize("long", [False, True])
def test_erasure(store: aeon.Store, tmp_path: Path, first: str, long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aeon.store.TEXT_BYTES_INLINE", 1000)
    text = SECRET * 100 if long else SECRET
    secret = store.remember(
        text, vector(9), session="session-Zabaglione", namespace=("space-Zabaglione",), key="key-Zabaglione",
        metadata={"field-Zabaglione": "value-Zabaglione"},
    )  # fmt: skip
    kept = store.remember("kept " * 500, vector(10), metadata={"kept": 1})
    if first != "nothing":
        getattr(store, first)()
    codes = kept_codes(store, secret)
    assert in_files(tmp_path, b"Zabaglione") and in_files(tmp_path, codes)
    store.forget(secret)
    store.remember("written since", vector(11))
    report = store.compact(purge=True)
    assert report.purged and report.dropped == 1 and not report.held_by_readers and report.files_removed
    assert in_files(tmp_path, b"Zabaglione") == [] and in_files(tmp_path, codes) == []
    assert store.get(kept).text == "kept " * 500 and store.check().ok
    assert [info.name for info in store.sessions()] == ["default"]
    with pytest.raises(aeon.FilterError):
        store.recall(vector(1), where={"field-Zabaglione": 1})


def test_a_purge_while_writers_go_on_still_begins_a_new_segment(
    store: aeon.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = store.remember(SECRET, vector(1))
    store.forget(secret)
    prepare = type(store._wal).prepare_checkpoint

    def and_one_more(wal: Any) -> None:
        prepare(wal)
        store.remember("in between", vector(2))

    monkeypatch.setattr(type(store._wal), "prepare_checkpoint", and_one_more)
    store.compact(purge=True)
    assert in_files(tmp_path, b"Zabaglione") == []
    assert [memory.text for memory in store.memories()] == ["in between"] and store.check().ok


def during(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Let `work` happen on another thread after the state was frozen, before a byte of the generation is written."""
    real = checkpoint.write_generation

    def interrupted(*args: Any, **options: Any) -> Any:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return real(*args, **options)

    monkeypatch.setattr(upkeep, "write_generation", interrupted)


@pytest.mark.parametrize("compacting", [True, False])
def test_what_is_committed_meanwhile_is_there_afterwards(
    store: aeon.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compacting: bool
) -> None:
    monkeypatch.setattr("aeon.store.TEXT_BYTES_INLINE", 1000)
    ids = fill(store, 100)
    old = store.remember("old", vector(500), key="k", session="s")
    replaced = store.remember("first", vector(501), key="both")
    store.remember("second", vector(502), key="both")
    long_before = store.remember("x" * 5000, vector(503))
    store.forget(ids[:10])
    made: dict[str, int] = {}

    def work() -> None:
        made["new"] = store.remember("new", vector(600), key="k", session="s", refs=[old])
        made["long"] = store.remember("y" * 5000, vector(601), session="another")
        store.forget([*ids[10:20], replaced])
        with store.transaction():
            made["in transaction"] = store.remember("z", vector(602), parent=ids[50])
            store.forget(ids[20])

    during(monkeypatch, work)
    store.compact() if compacting else store.checkpoint()
    assert store._engine.manifest.lsn < store.lsn, "the generation is of the moment it was begun"
    expected = everything(store)

    def holds(opened: aeon.Store) -> None:
        assert everything(opened) == expected
        assert [memory.id for memory in opened.memories(session="s")] == [made["new"]]
        assert opened.get(old).text == "old" and opened.get(made["long"]).text == "y" * 5000
        assert opened.get(long_before).text == "x" * 5000
        for id_ in [*ids[:21], replaced]:
            with pytest.raises(aeon.NotFoundError):
                opened.get(id_)
        assert {int(id_) for id_ in opened.atlas.search(vector(1), 200)[0][0] if id_} == {
            memory["id"] for memory, _ in expected
        }
        assert opened.check().ok

    holds(store)
    with aeon.open(tmp_path / "agent.aeon", read_only=True) as reader:
        holds(reader)
    monkeypatch.undo()
    store.close()
    with aeon.open(tmp_path / "agent.aeon") as again:
        holds(again)
        again.compact()
        holds(again)


def test_a_generation_is_begun_in_the_middle_of_a_segment(
    store: aeon.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that comes while the new segment is made: the log goes on in the old one, and replay begins within it."""
    fill(store, 10)
    prepare = type(store._wal).prepare_checkpoint

    def and_one_more(wal: Any) -> None:
        prepare(wal)
        store.remember("in between", vector(2))

    monkeypatch.setattr(type(store._wal), "prepare_checkpoint", and_one_more)
    store.checkpoint()
    monkeypatch.undo()
    assert store._engine.manifest.offset > 64 and store._engine.manifest.segment == 1
    store.remember("since", vector(3))
    expected = everything(store)
    store.close()
    with aeon.open(tmp_path / "agent.aeon") as again:
        assert everything(again) == expected and again.recovery.commits_replayed == 1
        again.remember("and on", vector(4))
        again.checkpoint()
        assert again.check().ok and again.stats().log_bytes == 64


def test_a_segment_made_ahead_and_not_begun_is_a_leftover(store: aeon.Store, tmp_path: Path) -> None:
    fill(store, 10)
    assert store._wal is not None
    store._wal.prepare_checkpoint()
    store.remember("goes on in the old one", vector(2))
    expected = everything(store)
    copy = tmp_path / "copy.aeon"
    shutil.copytree(tmp_path / "agent.aeon", copy)
    with aeon.open(copy) as again:
        assert everything(again) == expected
        assert again.recovery.bytes_dropped == 0 and again.recovery.reason == ""
        again.remember("more", vector(3))
        assert [path.name for path in (copy / "wal").iterdir()] == ["00000001.wal"]
    store.checkpoint()
    assert everything(store) == expected


def test_no_room_for_a_generation_is_no_harm(
    store: aeon.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(store, 100)
    store.checkpoint()
    store.forget(ids[:50])
    before = everything(store)
    files = sorted(tmp_path.glob("*/gen-*/*"))

    def full(self: OsFile, offset: int, count: int) -> None:
        raise NoSpaceError(28, "No space left on device", self.path)

    monkeypatch.setattr(OsFile, "allocate", full)
    for attempt in (store.compact, store.checkpoint):
        with pytest.raises(aeon.CapacityError):
            attempt()
    monkeypatch.undo()
    assert sorted(tmp_path.glob("*/gen-*/*")) == files
    assert everything(store) == before
    store.remember("goes on", vector(1))
    assert store.compact().dropped == 50 and store.check().ok


def test_a_compaction_runs_by_itself_when_much_was_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_COMPACT_EVENTS_MIN", 10)
    with aeon.open(tmp_path / "agent.aeon", DIM, background=False) as store:
        ids = fill(store, 100)
        store.forget(ids[:40])
        assert store.stats().generation == 0
        store.forget(ids[40:60])
        assert store.stats().generation == 1 and store.stats().events == 40
    with aeon.open(tmp_path / "agent.aeon") as store:
        store.forget(ids[60:90])
        store._upkeep._background.wait()
        assert store.stats().generation == 2 and store.stats().events == 10 and not store._upkeep.error


def test_results_from_before_stay_readable(store: aeon.Store) -> None:
    ids = fill(store, 50)
    store.checkpoint()
    memory, hit = store.get(ids[3]), store.recall(vector(4), 1)[0]
    iterator = store.memories()
    next(iterator)
    store.forget(ids)
    report = store.compact(purge=True)
    assert report.held_by_readers and report.memories == 0
    assert (
        memory.text == "text 3"
        and hit.text == "text 4"
        and [m.text for m in iterator] == [f"text {n}" for n in range(1, 50)]
    )


def test_not_inside_a_transaction_nor_read_only(store: aeon.Store, tmp_path: Path) -> None:
    with store.transaction(), pytest.raises(aeon.InvalidInputError):
        store.compact()
    with aeon.open(tmp_path / "agent.aeon", read_only=True) as reader, pytest.raises(aeon.ReadOnlyError):
        reader.compact()


def test_damage_is_not_spread(store: aeon.Store, tmp_path: Path) -> None:
    ids = fill(store, 50)
    store.checkpoint()
    store.close()
    path = next(tmp_path.rglob("codes.arena"))
    data = bytearray(path.read_bytes())
    data[4096 + 64 * 7] ^= 1
    path.write_bytes(data)
    with aeon.open(tmp_path / "agent.aeon") as again:
        again.forget(ids[0])
        with pytest.raises(aeon.CorruptionError):
            again.compact()
        assert again.get(ids[6]).text == "text 6"
        again.remember("goes on", vector(1))


def test_a_commit_gives_way_to_a_run_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(upkeep.time, "sleep", slept.append)
    run = upkeep.Upkeep()
    run.note_applied(10 + upkeep._BEHIND_MAX, 100)
    run.give_way()
    assert not slept, "nothing catches up"
    run._caught_up = 9
    run.give_way()
    assert slept == [upkeep._GIVE_WAY_S]
    run.note_applied(11 + upkeep._BEHIND_MAX, 1_000_000)
    run.give_way()
    assert slept[1:] == [1_000_000 * upkeep._GIVE_WAY_BYTE_S]
    run._caught_up = 11
    run.give_way()
    assert len(slept) == 2, "near enough for the swap"


def test_a_compaction_holds_neither_vectors_nor_texts(tmp_path: Path, compiled_kernels: None) -> None:
    """What it holds grows with the number of memories, not with their bytes: docs/decisions/0008 states how much."""
    count, dim = 20_000, 256
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    with aeon.open(tmp_path / "agent.aeon", dim, durability="off", checkpoint_log_bytes=0, compact_share=0) as store:
        ids = store.remember_many(["a text of some two hundred bytes " * 6] * count, vectors)
        store.atlas.settle()
        store.checkpoint()
        store.forget(ids[: count // 2])
        tracemalloc.start()
        try:
            report = store.compact()
            held = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert report.bytes_before > 500 * count, "or the bound below proves nothing"
    assert held < 220 * count


def test_compactions_leave_no_descriptor_and_no_mapping_behind(store: aeon.Store, tmp_path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    ids, counts = fill(store, 60), []

    def held() -> tuple[int, int]:
        names = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name.isdigit()
                 and os.path.islink(f"/proc/self/fd/{name}")]  # fmt: skip
        maps = Path("/proc/self/maps").read_text().splitlines()
        return sum(str(tmp_path) in name for name in names), sum(str(tmp_path) in line for line in maps)

    for n in range(24):
        store.forget(ids[n])
        ids += fill(store, 2)
        memory = store.get(ids[-1])
        store.compact(purge=n % 3 == 0)
        assert memory.text == "text 1", "a result keeps its generation, and lets go of it"
        del memory
        counts.append(held())
    assert counts[3] == counts[-1] and max(maps for _, maps in counts) < 40, counts


def test_readers_of_any_older_generation_are_told(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "agent.aeon", 4, durability="off", background=False) as store:
        ids = store.remember_many([f"text {n}" for n in range(50)], np.eye(4, dtype=np.float32)[np.arange(50) % 4])
        store.compact()
        pin = store.pin()
        rows = pin.rows()
        text = pin.text(ids[3])
        del pin
        store.remember("more", [1, 0, 0, 0])
        store.checkpoint()  # a generation between
        assert store.compact().held_by_readers
        del rows
        assert store.compact().held_by_readers, "a text is still out"
        assert bytes(text) == b"text 3"
        del text
        assert not store.compact().held_by_readers


def test_a_replaced_version_has_its_own_time_to_live(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "agent.aeon", ttl={("brief",): 3600}, background=False) as store:
        secret = store.remember("CARD 1234", key="k", ttl=1e-6)
        kept = store.remember("redacted", key="k")
        old = store.remember("of the namespace", namespace=("brief",), key="k", timestamp=1)
        new = store.remember("of it too", namespace=("brief",), key="k")
        store.compact(purge=True)
        for gone in (secret, old):
            with pytest.raises(aeon.NotFoundError):
                store.get(gone)
        assert [store.get(id_).text for id_ in (kept, new)] == ["redacted", "of it too"]
    for file in (tmp_path / "agent.aeon").rglob("*"):
        assert not file.is_file() or b"CARD 1234" not in file.read_bytes()


def test_a_compaction_leaves_out_links_and_archives_that_are_over(tmp_path: Path) -> None:
    path = tmp_path / "agent.aeon"
    with aeon.open(path, 4, durability="off", background=False) as store:
        a, b, c = store.remember_many(["a", "b", "c"], np.eye(4, dtype=np.float32)[:3])
        store.link(a, c, "causes")
        sizes = []
        for _ in range(3):
            for _ in range(200):
                store.link(a, b, "echoes")
                store.unlink(a, b, "echoes")
            sizes.append(store.compact().bytes_after)
            assert store.check().counts["links"] == 1
        assert len(set(sizes)) == 1, "nothing is left of them"
        before = store.lsn
        store.recall([0, 0, 1, 0], as_of=before)
        store.archive(c)
        archived = store.lsn
        store.restore(c)
        restored = store.lsn
        assert c not in {hit.id for hit in store.recall([0, 0, 1, 0], as_of=archived)}
        store.compact()
        for lsn in (before, archived):
            with pytest.raises(aeon.NotRetainedError):
                store.recall([0, 0, 1, 0], as_of=lsn)
        assert c in {hit.id for hit in store.recall([0, 0, 1, 0], as_of=restored)}
        assert [tuple(edge) for edge in store.trace.neighbours(a, ["causes"], "out")] == [(a, c, "causes")]
        assert store.trace.archived() == [] and store.check().ok
    with aeon.open(path) as again:
        assert [tuple(edge) for edge in again.trace.neighbours(c, ["causes"], "in")] == [(a, c, "causes")]
        assert again.check().ok


def test_what_a_checkpoint_replaces_goes_at_once_without_the_collector(tmp_path: Path) -> None:
    dispatch.start()
    assert dispatch.wait(120)
    with aeon.open(tmp_path / "indexed.aeon", DIM, checkpoint_log_bytes=0, compact_share=0, durability="off") as store:
        rows = np.random.default_rng(1).standard_normal((INDEX_FROM_ROWS + 100, DIM)).astype(np.float32)
        store.remember_many(["x"] * len(rows), rows)
        assert store.atlas.settle()
        gc.collect()
        gc.disable()
        try:
            before = weakref.ref(store._engine.atlas)
            store.checkpoint()
            assert before() is None
            before = weakref.ref(store._engine.atlas)
            store.compact()
            assert before() is None
        finally:
            gc.enable()
        assert store.atlas.settle() and store.check().ok
