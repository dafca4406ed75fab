"""Threads: writers, readers, checkpoints and closes at once. A race shows as a wrong answer against what was acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.store import Store

WRITERS = 8
DIM = 8
SMALL = {"segment_bytes_max": 4096, "segment_growth_bytes": 512}


def direction(text: str) -> Any:
    """The one vector that belongs to a text: a reader can tell a torn row by it."""
    seed = int.from_bytes(text.encode()[-8:], "little") % (1 << 32)
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run every callable on its own thread, all from the same moment; return their results, raise their first error."""
    start = threading.Barrier(len(work))

    def begin(call: Callable[[], Any]) -> Any:
        start.wait(30)
        return call()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(120) for future in [pool.submit(begin, call) for call in work]]


class Until:
    """Repeats a call until the writers are done, and then once more."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def repeat(self, call: Callable[[], Any]) -> Callable[[], int]:
        def loop() -> int:
            count, last = 0, False
            while not last:
                last = self.done.is_set()
                call()
                count += 1
            return count

        return loop

    def count_down(self, *work: Callable[[], Any]) -> list[Callable[[], Any]]:
        """The writers' calls; when the last has returned (or failed), the readers may stop."""
        left = [len(work)]
        lock = threading.Lock()

        def wrapped(call: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                try:
                    return call()
                finally:
                    with lock:
                        left[0] -= 1
                        if not left[0]:
                            self.done.set()

            return run

        return [wrapped(call) for call in work]


def sound(memory: aeon.Memory) -> None:
    """A memory is whole: text, vector, session and metadata all say the same."""
    writer, _, number = memory.text.partition(":")
    assert memory.session == writer
    assert memory.metadata == {"writer": writer, "number": int(number)}
    assert memory.preview == memory.text
    assert memory.vector @ direction(memory.text) > 0.99


@pytest.mark.parametrize("durability, rows", [("full", "int8"), ("normal", "float32"), ("off", "int8")])
def test_every_acknowledged_memory_is_there(path: Path, durability: Any, rows: Any, switch_often: None) -> None:
    per_writer = 25
    store = aeon.open(path, DIM, durability=durability, rows=rows, **SMALL)

    def write(name: str) -> dict[int, str]:
        acknowledged: dict[int, str] = {}
        for n in range(per_writer):
            text = f"{name}:{n}"
            id_ = store.remember(text, direction(text), session=name, metadata={"writer": name, "number": n})
            acknowledged[id_] = text
            assert store.get(id_).text == text, "a write is seen by who made it, at once"
        assert list(acknowledged) == sorted(acknowledged), "ids go up within a thread"
        return acknowledged

    until = Until()

    def read() -> None:
        for hit in store.recall(direction("w0:0"), 20):
            sound(hit)
        for info in store.sessions():
            numbers = [m.metadata["number"] for m in store.history(info.name, limit=None)]
            assert numbers == list(range(len(numbers))), "a session has no gap"
            assert len(numbers) >= info.count

    def checkpoint() -> None:
        store.checkpoint()
        assert store.check().ok

    writers = until.count_down(*(lambda name=f"w{n}": write(name) for n in range(WRITERS)))
    results = together(*writers, until.repeat(read), until.repeat(read), until.repeat(checkpoint))
    acknowledged = {id_: text for part in results[:WRITERS] for id_, text in part.items()}
    assert sorted(acknowledged) == list(range(1, WRITERS * per_writer + 1)), "unique, and no id was wasted"
    for _ in range(2):
        for id_, text in acknowledged.items():
            memory = store.get(id_)
            assert memory.text == text
            sound(memory)
        assert len(store) == len(acknowledged)
        store.close()
        store = aeon.open(path)
    assert store.check().ok
    store.close()


def test_readers_never_see_half_of_a_batch(path: Path, switch_often: None) -> None:
    size, rounds = 50, 12
    store = aeon.open(path, DIM, durability="off", checkpoint_log_bytes=20_000, **SMALL)
    ones = np.ones(DIM)

    def write(name: str) -> None:
        for n in range(rounds):
            store.remember_many(
                [f"{name} {n} {m}" for m in range(size)], np.tile(ones, (size, 1)), session=[name, "all"] * (size // 2),
                metadata={"round": n},
            )  # fmt: skip

    def read() -> None:
        whole = {}
        for hit in store.recall(ones, 10_000):
            whole.setdefault((hit.session, hit.text[:4]), []).append(hit.id)
        assert len(store.recall(ones, 10_000, where={"round": 0})) % size == 0
        assert len(store.recall(ones, 10_000, since=0)) % size == 0
        ids = store.atlas.search(ones, 2 * size * rounds * 2)[0][0]
        assert np.count_nonzero(ids) % size == 0
        assert len(store.history("all", limit=None)) % (size // 2) == 0
        assert len(store.history("v", limit=None)) % (size // 2) == 0
        assert store.stats().memories % size == 0
        assert len(store) % size == 0
        counts = {info.name: info.count for info in store.sessions()}
        assert sum(counts.values()) % size == 0
        assert counts.get("all", 0) == counts.get("v", 0) + counts.get("w", 0)

    until = Until()
    writers = until.count_down(lambda: write("v"), lambda: write("w"))
    together(*writers, *[until.repeat(read)] * 3, until.repeat(store.checkpoint))
    assert len(store) == 2 * rounds * size
    store.close()


def test_an_upserted_key_is_never_missing_and_never_goes_back(path: Path, switch_often: None) -> None:
    store = aeon.open(path, DIM, durability="normal", checkpoint_log_bytes=50_000, **SMALL)
    ones = np.ones(DIM)
    store.remember("0", ones, key="status", metadata={"n": 0})
    rounds = 80

    def write() -> None:
        for n in range(1, rounds):
            with store.transaction():
                store.remember_many([f"filler {m}" for m in range(5)], session="other")
                store.remember(str(n), ones, key="status", metadata={"n": n})

    seen = threading.local()

    def read() -> None:
        newest = getattr(seen, "newest", 0)
        memory = store.get_key("status")
        assert memory is not None, "the key vanished while it was given a new version"
        assert int(memory.text) >= newest
        seen.newest = int(memory.text)
        hits = store.recall(ones, 5)
        assert len(hits) == 1, "exactly one version is current"
        assert hits[0].metadata["n"] >= seen.newest
        history = store.history()
        assert len(history) == 1
        assert int(history[0].text) >= hits[0].metadata["n"]
        assert store.get(memory.id).text == memory.text, "old versions stay readable"

    until = Until()
    together(*until.count_down(write), *[until.repeat(read)] * 3, until.repeat(store.checkpoint))
    assert store.get_key("status").text == str(rounds - 1)
    assert store.check().ok
    store.close()


def test_moving_between_two_keys_is_seen_whole(path: Path, switch_often: None) -> None:
    """A transaction forgets under one key and remembers under another: a reader sees it at one of the two."""
    store = aeon.open(path, DIM, durability="off")
    ids = [store.remember("0", np.ones(DIM), key="even")]

    def write() -> None:
        for n in range(1, 100):
            with store.transaction():
                store.forget(ids[-1])
                ids.append(store.remember(str(n), np.ones(DIM), key=["even", "odd"][n % 2]))

    def read() -> None:
        assert len(store.history()) == 1
        assert len(store.recall(np.ones(DIM))) == 1
        assert len(store) == 1
        assert [info.count for info in store.sessions()] == [1]

    until = Until()
    together(*until.count_down(write), *[until.repeat(read)] * 3, until.repeat(store.checkpoint))
    store.close()


def test_a_forgotten_memory_never_comes_back(path: Path, switch_often: None) -> None:
    store = aeon.open(path, DIM, durability="off", **SMALL)
    gone: set[int] = set()

    def write(name: str) -> None:
        for n in range(30):
            ids = store.remember_many(
                [f"{name}:{n}:{m}" for m in range(4)], np.tile(np.ones(DIM), (4, 1)), session=name
            )
            store.forget(ids[1:3])
            gone.update(ids[1:3])

    def read() -> None:
        before = set(gone)
        for hit in store.recall(np.ones(DIM), 10_000):
            assert hit.id not in before
        for memory in store.history("a", limit=None):
            assert memory.id not in before
        for id_ in list(before)[-5:]:
            with pytest.raises(aeon.NotFoundError):
                store.get(id_)

    until = Until()
    together(
        *until.count_down(lambda: write("a"), lambda: write("b")),
        *[until.repeat(read)] * 2,
        until.repeat(store.checkpoint),
    )
    assert len(store) == 120
    store.close()


class Gate:
    """Holds the log's syncs until it is opened, and counts them."""

    def __init__(self) -> None:
        self.syncs = 0
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.shut = False

    def __call__(self, operation: str, path: str) -> None:
        if operation == "fdatasync" and self.shut:
            self.syncs += 1
            self.entered.release()
            assert self.open.wait(60)


def test_eight_threads_share_their_syncs(path: Path, hooked_files: Any) -> None:
    """While the disk works for the first committer the other seven append; one more sync serves them all."""
    gate = Gate()
    store = aeon.open(path, DIM, files=hooked_files(gate))
    gate.shut = True

    with ThreadPoolExecutor(WRITERS) as pool:
        first = pool.submit(store.remember, "first", np.ones(DIM))
        assert gate.entered.acquire(timeout=30)
        others = [pool.submit(store.remember, f"{n}", np.ones(DIM)) for n in range(WRITERS - 1)]
        while store._wal.appended_lsn < WRITERS:  # they append while the disk is busy: that is what this shows
            assert not first.done()
            threading.Event().wait(0.001)
        assert store.recall(np.ones(DIM)) == [], "what is not on disk is not shown under 'full'"
        assert not any(future.done() for future in others), "nor acknowledged"
        gate.open.set()
        ids = [future.result(30) for future in [first, *others]]
    assert sorted(ids) == list(range(1, WRITERS + 1))
    assert gate.syncs == 2
    assert store.durable_lsn == WRITERS
    store.close()


def test_readers_do_not_wait_for_the_disk(path: Path, hooked_files: Any) -> None:
    gate = Gate()
    store = aeon.open(path, DIM, files=hooked_files(gate))
    store.remember("there", np.ones(DIM), key="k", metadata={"n": 1})
    gate.shut = True
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(store.remember, "held", np.ones(DIM), key="k")
        assert gate.entered.acquire(timeout=30)
        assert [hit.text for hit in store.recall(np.ones(DIM), where={"n": 1})] == ["there"]
        assert store.get_key("k").text == store.get(1).text == "there"
        assert [m.text for m in store.history()] == ["there"]
        with pytest.raises(aeon.NotFoundError):  # a writer that looks for it meanwhile does not find it either
            store.remember("refers to what may be lost", refs=[2])
        assert [m.text for m in store.history()] == ["there"]
        assert (store.sessions()[0].count, len(store), store.stats().memories) == (1, 1, 1)
        assert not writer.done()
        gate.open.set()
        assert writer.result(30) == 2
    assert store.get_key("k").text == "held"
    store.close()


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_syncs_are_fewer_than_commits_under_load(path: Path, hooked_files: Any, durability: Any) -> None:
    """With a disk that is slow to answer, eight threads need at most about a quarter of one sync each."""

    def slow(operation: str, where: str) -> None:
        if operation == "fdatasync":
            threading.Event().wait(0.002)

    files = hooked_files(slow)
    store = aeon.open(path, DIM, files=files, durability=durability)
    before = files.counts["fdatasync"]
    commits = 25

    def write(name: str) -> None:
        for n in range(commits):
            store.remember(f"{name} {n}", np.ones(DIM))

    together(*(lambda name=f"w{n}": write(name) for n in range(WRITERS)))
    syncs = files.counts["fdatasync"] - before
    if durability == "normal":
        assert syncs == 0
    else:
        assert commits <= syncs <= WRITERS * commits // 3
    assert store.durable_lsn == (WRITERS * commits if durability == "full" else 0)
    store.close()


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
def test_close_among_writers(tmp_path: Path, durability: Any, switch_often: None) -> None:
    """A call that returned an id is there; a call that was told the store is closed left nothing."""
    for attempt in range(8):
        path = tmp_path / f"{attempt}.aeon"
        store = aeon.open(path, DIM, durability=durability, checkpoint_log_bytes=4096, **SMALL)
        acknowledged: list[dict[int, str]] = [{} for _ in range(WRITERS)]
        started = threading.Semaphore(0)

        def write(n: int, store: Store = store, acknowledged: Any = acknowledged, started: Any = started) -> None:
            for m in range(10_000):
                text = f"w{n}:{m}"
                try:
                    id_ = store.remember(text, direction(text), session=f"w{n}")
                except aeon.ClosedError:
                    return
                acknowledged[n][id_] = text
                started.release()

        def close(store: Store = store, started: Any = started, after: int = 5 * attempt + 1) -> None:
            for _ in range(after):
                started.acquire()
            store.close()

        together(*(lambda n=n: write(n) for n in range(WRITERS)), close)
        with aeon.open(path) as again:
            found = {m.id: m.text for info in again.sessions() for m in again.history(info.name, limit=None)}
            assert found == {id_: text for part in acknowledged for id_, text in part.items()}
            assert again.check().ok


def test_close_among_readers(tmp_path: Path, switch_often: None) -> None:
    for attempt in range(6):
        store = aeon.open(tmp_path / f"{attempt}.aeon", DIM, durability="off")
        store.remember_many(
            [f"{n}" for n in range(50)], np.tile(np.ones(DIM), (50, 1)), session="s", keys=[f"{n}" for n in range(50)]
        )
        store.checkpoint()
        closed = threading.Event()

        def read(store: Store = store, closed: threading.Event = closed) -> int:
            answers = 0
            while True:
                was_closed = closed.is_set()
                try:
                    hits = store.recall(np.ones(DIM), 100)
                    memories = [*store.history("s"), store.get_key("7"), store.get(9)]
                    store.stats()
                    assert (len(hits), len(memories), len(store)) == (50, 52, 50)
                    assert [hit.text for hit in hits] == [str(n) for n in range(50)]
                    assert not was_closed
                    answers += 1
                except aeon.ClosedError:
                    return answers

        def close(store: Store = store, closed: threading.Event = closed) -> None:
            threading.Event().wait(0.01)
            store.close()
            closed.set()

        together(read, read, read, close)


def test_a_failing_disk_among_eight_writers(path: Path, hooked_files: Any) -> None:
    """Once a sync has failed nobody is acknowledged any more; who was acknowledged is there after a reopen."""
    calls = []

    def hook(operation: str, where: str) -> None:
        if operation == "fdatasync":
            calls.append(where)
            if len(calls) == 12:
                raise OSError(5, "Input/output error", where)

    store = aeon.open(path, DIM, files=hooked_files(hook))

    def write(name: str) -> list[int]:
        acknowledged = []
        for n in range(1000):
            try:
                acknowledged.append(store.remember(f"{name} {n}", np.ones(DIM)))
            except aeon.PoisonedError as error:
                assert error.first_cause.errno == 5
                return acknowledged
        raise AssertionError("the store went on after a failed sync")

    results = together(*(lambda name=f"w{n}": write(name) for n in range(WRITERS)))
    acknowledged = {id_ for part in results for id_ in part}
    assert len(calls) == 12, "a failed sync is never retried"
    assert {hit.id for hit in store.recall(np.ones(DIM), 10_000)} == acknowledged
    store.close()
    with aeon.open(path) as again:
        assert acknowledged <= {memory.id for memory in again.history(limit=None)}


def test_transactions_of_two_threads_do_not_mix(path: Path, switch_often: None) -> None:
    store = aeon.open(path, DIM, durability="off")

    def write(name: str) -> list[list[int]]:
        groups = []
        for n in range(40):
            with store.transaction():
                groups.append([store.remember(f"{name} {n} {m}", session=name) for m in range(5)])
        return groups

    def single() -> None:
        for n in range(100):
            store.remember(f"single {n}", session="single")

    results = together(lambda: write("a"), lambda: write("b"), single)
    for groups in results[:2]:
        for ids in groups:
            assert ids == list(range(ids[0], ids[0] + 5)), "the ids of a transaction follow each other"
    assert store.lsn == 180
    assert [len(store.history(name, limit=None)) for name in ("a", "b", "single")] == [200, 200, 100]
    assert [m.text for m in store.history("a", limit=None)] == [f"a {n} {m}" for n in range(40) for m in range(5)]
    store.close()


def test_a_reader_in_the_same_process_follows_a_busy_writer(path: Path, switch_often: None) -> None:
    store = aeon.open(path, DIM, durability="normal", checkpoint_log_bytes=8192, **SMALL)
    store.remember_many(["0 a", "0 b"], np.eye(2, DIM), keys=["a", "b"])
    reader = aeon.open(path, read_only=True)

    def write() -> None:
        for n in range(1, 200):
            store.remember_many([f"{n} a", f"{n} b"], np.eye(2, DIM), keys=["a", "b"])

    last = [0]

    def follow() -> None:
        lsn = reader.refresh()
        assert lsn >= last[0]
        last[0] = lsn
        texts = [memory.text for memory in reader.history()]
        assert [text.split()[1] for text in texts] == ["a", "b"]
        assert texts[0].split()[0] == texts[1].split()[0] == str(lsn - 1), "both keys of the same commit"
        assert len(reader.recall(np.ones(DIM))) == 2

    until = Until()
    together(*until.count_down(write), until.repeat(follow))
    assert last[0] == 200
    assert reader.check().ok
    reader.close()
    store.close()


def test_stats_while_generations_come_and_go(path: Path) -> None:
    store = aeon.open(path, DIM, durability="off")

    def write() -> None:
        for n in range(60):
            store.remember(str(n), np.ones(DIM))
            store.checkpoint()

    until = Until()
    with aeon.open(path, read_only=True) as reader:
        together(*until.count_down(write), until.repeat(store.stats), until.repeat(reader.stats))
    store.close()


@pytest.mark.parametrize("vanishing", ["00000001.wal", "keys.tbl", "blobs.arena", "wal", "gen-000002"])
def test_stats_of_files_that_vanish_meanwhile(path: Path, hooked_files: Any, vanishing: str) -> None:
    """A file is listed, then a checkpoint of the writer deletes it, then it is to be opened."""
    store = aeon.open(path, DIM, durability="off")
    store.remember("a", np.ones(DIM))
    if vanishing != "00000001.wal":
        store.checkpoint()
    if vanishing == "gen-000002":
        store.remember("aa")
        store.checkpoint()
    generation = store.stats().generation
    armed = [False]

    def hook(operation: str, where: str) -> None:
        if armed[0] and operation in ("open", "listdir") and where.endswith(vanishing):
            armed[0] = False
            store.remember("b", np.ones(DIM))
            store.checkpoint()

    with aeon.open(path, read_only=True, files=hooked_files(hook)) as reader:
        armed[0] = True
        stats = reader.stats()
        assert not armed[0]
        assert (stats.memories, stats.generation) == (max(generation, 1), generation)
        assert reader.refresh() == store.lsn
    store.close()


# -- the same races, held still ---------------------------------------------------------------------------------------


def test_a_look_at_half_an_applied_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader comes while a commit is half in memory: it is shown the state before, or waits for the state after."""
    from aeon import engine

    store = aeon.open(path, DIM, durability="off")
    store.remember_many(["old", "other"], keys=["k", None], session=["s", "t"], timestamps=[1, 1])
    looks: list[tuple[threading.Thread, list[Any]]] = []
    before: list[Any] = ["old", [("s", 1, 1), ("t", 1, 1)], 2, ["old"], 2]
    after: list[Any] = ["new", [("s", 1, 2), ("t", 2, 2), ("u", 1, 2)], 4, ["new"], 4]
    supersede = engine.Engine._supersede

    def look_in_the_middle(self: engine.Engine, *args: Any) -> None:
        supersede(self, *args)
        for call in (
            lambda: (lambda memory: memory and memory.text)(store.get_key("k")),
            lambda: [(info.name, info.count, info.last_timestamp) for info in store.sessions()],
            lambda: len(store),
            lambda: [memory.text for memory in store.history("s")],
            lambda: store.stats().memories,
        ):
            seen: list[Any] = []
            reader = threading.Thread(target=lambda call=call, seen=seen: seen.append(call()))
            reader.start()
            reader.join(0.1)
            assert seen in ([], [before[len(looks)]]), "shown before the commit was whole"
            looks.append((reader, seen))

    monkeypatch.setattr(engine.Engine, "_supersede", look_in_the_middle)
    store.remember_many(["x", "new", "y"], keys=[None, "k", None], session=["t", "s", "u"], timestamps=[2, 2, 2])
    for reader, _ in looks:
        reader.join(30)
        assert not reader.is_alive()
    for (_, seen), old, new in zip(looks, before, after, strict=True):
        assert seen in ([old], [new])
    store.close()


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
@pytest.mark.parametrize("transaction", [False, True])
def test_a_store_closed_between_a_commits_append_and_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any, transaction: bool
) -> None:
    """The commit is in the log and will be there at the next open, so the call says so."""
    store = aeon.open(path, DIM, durability=durability, checkpoint_log_bytes=1)
    finish = Store._finish

    def closed_meanwhile(self: Store, lsn: int) -> None:
        if lsn:
            closer = threading.Thread(target=self.close)
            closer.start()
            closer.join(30)
            assert not closer.is_alive()
        finish(self, lsn)

    monkeypatch.setattr(Store, "_finish", closed_meanwhile)
    if transaction:
        with store.transaction():
            id_ = store.remember("in the log", np.ones(DIM))
    else:
        id_ = store.remember("in the log", np.ones(DIM))
    with pytest.raises(aeon.ClosedError):
        store.remember("after")
    monkeypatch.undo()
    with aeon.open(path) as again:
        assert again.get(id_).text == "in the log"
        assert len(again) == 1
