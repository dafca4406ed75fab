"""What the crash harness found in aeon, each with the kind of image that showed it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import aeon
from aeon.errors import CorruptionError
from aeon.files import NoSpaceError, OsFile, OsFileSystem
from aeon.format import EVENT
from aeon.wal import list_segments
from tests.crash.backends import (
    STORE,
    Change,
    Directory,
    Fault,
    FaultyFileSystem,
    Inode,
    MemoryFileSystem,
    RecordingFileSystem,
)
from tests.crash.conditions import Judge, after_kill, judge_all, record, recoveries
from tests.crash.damage import blob_bounds, make_specimen, swaps
from tests.crash.errors import judge_fault
from tests.crash.images import DROP, History, Image
from tests.crash.workloads import (
    DIM,
    STAGES,
    Runner,
    State,
    Step,
    Text,
    Workload,
    carry_out,
    open_store,
    plan,
    remember,
)

VECTOR = (1.0, 0.5, -0.25, 2.0)


def words(text: str, n: int = 1, **more: object) -> Step:
    return Step("remember", (Text(text, "kitchen", "user", n, vector=VECTOR, **more),))  # type: ignore[arg-type]


def make(durability: str, *steps: Step) -> Workload:
    settings = {"segment_bytes_max": 1024, "segment_growth_bytes": 512, "checkpoint_log_bytes": 0}
    return Workload("defect", 0, durability, "int8", settings, steps)


def run(workload: Workload) -> tuple[History, list[State], Judge]:
    history, states = record(workload)
    return history, states, Judge(workload, states)


EVERY_KIND_OF_NAME = make(
    "normal", words("one"), words("two " * 40), words("three " * 45), words("four " * 40), Step("checkpoint"), words("five"),
    Step("checkpoint"),
)  # fmt: skip


@pytest.mark.parametrize(
    "named",
    [
        pytest.param(lambda e: e.kind == "link" and e.arguments[0] == "agent.aeon", id="the store's directory"),
        pytest.param(lambda e: e.kind == "link" and e.arguments[0] == "wal", id="the log's directory"),
        pytest.param(lambda e: e.kind == "link" and str(e.arguments[0]).endswith(".wal"), id="a new segment"),
        pytest.param(lambda e: e.kind == "rename", id="a new MANIFEST"),
        pytest.param(lambda e: e.kind == "write" and "create_segment" in e.place, id="a new segment's header"),
        pytest.param(lambda e: e.kind == "write" and " append" in e.place, id="a frame"),
    ],
)
def test_what_a_killed_process_left_in_the_page_cache_is_synced_before_anything_relies_on_it(
    named: Callable[[Change], bool],
) -> None:
    """The process died between a change and its sync; its successor acknowledged commits; then the power went."""
    history, states, judge = run(EVERY_KIND_OF_NAME)
    points = [index + 1 for index, entry in enumerate(history.log) if entry.kind != "promise" and named(entry)]
    assert points
    for point in points:
        second, possible = after_kill(history, point, judge.workload, states)
        inner = Judge(judge.workload, possible)
        for image in second.images("BF", 8):
            if image.point > second.first_point:
                inner.judge(second.build(image), image)


def test_under_off_a_flushed_commit_finds_its_long_text() -> None:
    """The text's file was not synced under "off", and `flush` syncs the log only."""
    history, _, judge = run(make("off", words("long " * 100), Step("flush"), words("after")))
    assert judge_all(judge, history, history.images("ABCF")) == []


def test_a_torn_tail_is_cut_off_even_if_a_segment_without_header_follows() -> None:
    """The tail stayed, and a later commit of the same length would have brought a dropped one back."""
    workload = make("off", *(words(letter * 200, n) for n, letter in enumerate("abcdef", 1)))
    history, _, judge = run(workload)
    assert any(entry.kind == "link" and entry.arguments[0] == "00000002.wal" for entry in history.log)
    assert judge_all(judge, history, history.images("ABCE")) == []


def test_a_surplus_segment_that_was_removed_does_not_come_back() -> None:
    """Not a defect that was found: with its removal unsynced, new commits would be followed by dropped ones.

    And of several the newest goes first: a cut in between must not leave a gap.
    """
    workload = make("off", *(words(letter * 200, n) for n, letter in enumerate("abcdefghij", 1)))
    history, states, _ = run(workload)
    frames = [i for i, entry in enumerate(history.log) if " append" in entry.place]
    seen: list[int] = []
    for frame in frames[::2]:
        image = Image("B", frames[-1] + 1, ((frame, DROP),), 0, len(frames))
        second, possible = recoveries(history, image, workload, states)
        seen.append(sum(entry.kind == "unlink" for entry in second.log))
        inner = Judge(workload, possible)
        assert judge_all(inner, second, second.images("AB")) == []
    assert max(seen) >= 2


def test_a_frame_whose_padding_lies_beyond_the_end_of_the_file() -> None:
    """The next frame went to an unaligned offset, where the replay after it did not look: an acknowledged commit was lost."""
    for length in (0, 3, 7):
        history, _, judge = run(make("full", words("x" * length)))
        assert judge_all(judge, history, history.images("D")) == []


def test_a_commit_is_not_dropped_as_torn_because_the_generation_is_damaged() -> None:
    """Damage in a table or blob that a replayed commit needs was taken for a missing text, and the log was cut there."""
    workload = make(
        "full", words("one"), words("the plan", key="plan"), Step("checkpoint"), words("a better plan", key="plan"),
        words("last"),
    )  # fmt: skip
    states = plan(workload)
    history, _ = record(workload)
    whole = history.build(Image("A", len(history.log), (), 0, 0))
    for path, data in whole.contents():
        if "/gen-" in path and not path.endswith("/"):
            for offset in range(64, len(data), 3 if len(data) < 2000 else 61):
                changed = bytearray(data)
                changed[offset] ^= 0xFF
                files = whole.clone()
                files.write_file(path, bytes(changed))
                try:
                    with open_store(files, workload) as store:
                        assert store.lsn == len(states) - 1, f"{path}, offset {offset}: {store.recovery}"
                except CorruptionError:
                    pass
                assert files.read_file(f"{STORE}/wal/00000002.wal") == whole.read_file(f"{STORE}/wal/00000002.wal")


def test_events_that_changed_places_are_noticed() -> None:
    """Each has a good checksum; a search by id missed one of them, and `get` said that it had never been."""
    specimen = make_specimen()
    swapped = [(damage, data) for damage, data in swaps(specimen) if damage.path.endswith("events.arena")]
    assert swapped
    for damage, data in swapped:
        try:
            with open_store(specimen.damaged(damage.path, data), specimen.workload) as store:
                for id_ in specimen.states[-1].memories:
                    with contextlib.suppress(CorruptionError):
                        assert store.get(id_).text == specimen.states[-1].memories[id_][0]
                assert not store.check().ok
        except CorruptionError:
            pass


def test_check_reads_blobs_that_no_event_refers_to() -> None:
    """A `forget` stands in the blob file; damage there went unnoticed."""
    specimen = make_specimen()
    path = next(path for path in specimen.contents if path.endswith("blobs.arena"))
    data = specimen.contents[path]
    owners = {int.from_bytes(data[start + 8 : start + 16], "little") for start, _ in blob_bounds(data)}
    assert 0 in owners
    for start, _ in blob_bounds(data):
        changed = bytearray(data)
        changed[start + 30] ^= 1
        try:
            with open_store(specimen.damaged(path, bytes(changed)), specimen.workload) as store:
                assert any(problem.path == path for problem in store.check().problems)
        except CorruptionError as error:  # the log's replay needed it
            assert error.path == path


def test_a_checkpoint_that_cannot_write_leaves_no_descriptor_open() -> None:
    workload = make("full", words("one"), Step("checkpoint"), words("two"), Step("checkpoint"))
    judge = Judge(workload, plan(workload))
    counted = FaultyFileSystem()
    runner = Runner(workload, counted)
    runner.run()
    assert runner.store is not None
    runner.store.close()
    for nth in range(1, counted.counts["pwrite"] + 1):
        judge_fault(judge, Fault("pwrite", nth, errno.ENOSPC))


def test_a_text_that_cannot_be_read_leaves_no_half_applied_commit_in_sight() -> None:
    """Its memories were counted in `sessions()` although the commit was refused."""
    workload = make(
        "full", words("one"), Step("transaction", inner=(words("two", 2), words("long " * 100, 3))), words("three", 4)
    )
    judge = Judge(workload, plan(workload))
    for nth in range(1, 40):
        files = FaultyFileSystem(Fault("map", nth, errno.EIO))
        probe = Runner(workload, files)
        with contextlib.suppress(Exception):  # which reads fail is another matter; each of them is judged below
            probe.run()
        if not files.fired:
            break
        if probe.store is not None:
            probe.store.close()
        judge_fault(judge, Fault("map", nth, errno.EIO))
    assert nth > 1


def test_a_store_after_a_kill_says_truly_what_is_durable() -> None:
    """It took what it had read for durable, though it was in the page cache only."""
    workload = make("normal", words("one"), words("two"), Step("kill", durability="full"), words("three"))
    history, _, judge = run(workload)
    assert judge_all(judge, history, history.images("ABC")) == []


class WhileSyncing(RecordingFileSystem):
    """Calls `during` once, in the middle of the log's next fdatasync."""

    during: Callable[[], None] | None = None

    def sync(self, kind: str, path: str, target: Inode | Directory) -> None:
        if kind == "fdatasync" and self.during is not None:
            during, self.during = self.during, None
            super().sync(kind, path, target)  # what comes now is not covered by it
            during()
            return
        super().sync(kind, path, target)


def test_a_frame_written_while_a_sync_runs_is_not_covered_by_it_and_not_shown() -> None:
    """Not a defect that was found: the two things that only a second thread can show."""
    files = WhileSyncing()
    workload = make("full")
    store = open_store(files, workload)
    one, two = Text("one", "kitchen", "user", 1), Text("two", "kitchen", "user", 2)
    other = threading.Thread(target=remember, args=(store, two))
    seen: list[tuple[int, int]] = []

    def during() -> None:
        other.start()
        assert store._wal is not None
        deadline = time.monotonic() + 60
        while store._wal.appended_lsn < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        store._apply_pending()  # as a call that reads its own references does
        seen.append((store.lsn, store.durable_lsn))

    files.during = during
    kept, synced = store._wal, []
    assert kept is not None
    leader = kept._lead

    def lead() -> None:
        leader()
        synced.append((kept.durable_lsn, kept.appended_lsn))

    kept._lead = lead  # type: ignore[method-assign]
    remember(store, one)
    other.join()
    store.close()
    assert seen == [(0, 0)]
    # The first sync covered one frame although two were written by its end; the second one's leader covered both.
    assert [durable for durable, _ in synced[:2]] == [1, 2]


def test_a_commit_that_is_on_its_way_when_a_compaction_freezes_is_in_it_once() -> None:
    """Not a defect that was found: only a second thread has a commit in the log that is not applied yet."""
    files = WhileSyncing()
    store = open_store(files, make("full"))
    remember(store, Text("one", "kitchen", "user", 1))
    wal, syncing, frozen = store._wal, threading.Event(), threading.Event()
    assert wal is not None
    other = threading.Thread(target=remember, args=(store, Text("two", "kitchen", "user", 2)))
    prepare, discard = wal.prepare_checkpoint, wal.discard_prepared

    def during() -> None:
        syncing.set()
        assert frozen.wait(60)

    def prepare_and_go_on() -> None:
        prepare()
        files.during = during
        other.start()
        assert syncing.wait(60) and wal.appended_lsn == 2

    def discard_and_let_go() -> None:
        discard()
        assert list_segments(files, f"{STORE}/wal")[-1] == wal.segment, "what was prepared and not begun is gone"
        assert store.lsn == 1, "what was frozen is not applied yet"
        frozen.set()

    wal.prepare_checkpoint, wal.discard_prepared = prepare_and_go_on, discard_and_let_go  # type: ignore[method-assign]
    assert store.compact().memories == 2
    other.join()
    assert [memory.text for memory in store.history("kitchen")] == ["one", "two"] and store.lsn == 2
    assert store.check().ok and store._engine.manifest.lsn == 2
    store.close()
    with open_store(files, make("full")) as again:
        assert [memory.text for memory in again.history("kitchen")] == ["one", "two"] and again.lsn == 2


def test_a_writer_makes_no_segment_while_the_one_prepared_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed in its place, with what had been acknowledged there: a writer went on for more than a segment holds."""
    with aeon.open(
        tmp_path / "agent.aeon", DIM, checkpoint_log_bytes=0, segment_bytes_max=1024, durability="off"
    ) as store:
        ids = store.remember_many(["before"] * 4, [VECTOR] * 4)
        assert store._wal is not None
        begin, unlink, removed = store._wal.begin_checkpoint, store._files.unlink, []

        def remove(path: str) -> None:
            if path.endswith(".wal") and not removed:
                removed.append(path)
                ids.extend(store.remember(f"meanwhile {n}", VECTOR) for n in range(40))
            unlink(path)

        def begin_later(**options: bool) -> object:
            ids.append(store.remember("so that what was prepared is not begun", VECTOR))
            return begin(**options)

        monkeypatch.setattr(store._files, "unlink", remove)
        monkeypatch.setattr(store._wal, "begin_checkpoint", begin_later)
        store.checkpoint()
        assert removed
        kept = [(memory.id, memory.text) for memory in store.history(limit=None)]
    with aeon.open(tmp_path / "agent.aeon", DIM) as again:
        assert [(memory.id, memory.text) for memory in again.history(limit=None)] == kept and len(kept) == len(ids) == 45


@pytest.mark.parametrize("stages", [(0, 3, 3), (1, 1, 3), (3, 3, 3), (3, 4, 6), (0, 5, 7)], ids=str)
def test_what_ends_after_the_freeze_is_not_ended_in_the_generation(stages: tuple[int, ...]) -> None:
    """Not a defect that was found: the MANIFEST is on disk, and the commits that came meanwhile are lost with the log."""
    before = (words("one"), words("two", 2, key="plan"), words("three", 3), words("four", 4), Step("checkpoint"))
    begun = 4
    seed = next(
        seed for seed in itertools.count()
        if sorted(random.Random(f"{seed} {begun}").choices(range(len(STAGES)), k=len(stages))) == list(stages)
    )  # fmt: skip
    meanwhile = (words("five", 5, key="plan"), Step("forget", ids=(5,)), Step("branch", ids=(1,), topic="branch 0"))
    workload = replace(
        make("normal", *before, Step("compact", inner=meanwhile), words("six", 6), Step("kill", durability="full")),
        seed=seed,
    )
    history, _, judge = run(workload)
    assert judge_all(judge, history, history.images("AB")) == []


@pytest.mark.parametrize("stages", [(0, 3, 3), (1, 1, 3), (3, 3, 3), (3, 4, 6)], ids=str)
def test_edges_that_come_or_end_after_the_freeze_are_not_so_in_the_generation(stages: tuple[int, ...]) -> None:
    """The same for links: one is made, one ends, a memory is archived, behind what the generation holds."""
    linked = Step("link", ids=(2, 1, 3), topic="causes")
    before = (
        words("one"),
        words("two", 2),
        words("three", 3),
        words("four", 4),
        linked,
        Step("checkpoint"),
        words("five"),
    )
    begun = 6
    seed = next(
        seed for seed in itertools.count()
        if sorted(random.Random(f"{seed} {begun}").choices(range(len(STAGES)), k=len(stages))) == list(stages)
    )  # fmt: skip
    meanwhile = (
        Step("link", ids=(4, 1), topic="echoes"), Step("unlink", ids=(2, 3), topic="causes"), Step("archive", ids=(3,))
    )  # fmt: skip
    for kind in ("compact", "checkpoint"):
        steps = (*before, Step(kind, inner=meanwhile), words("six", 6), Step("kill", durability="full"))
        history, _, judge = run(replace(make("normal", *steps), seed=seed))
        assert judge_all(judge, history, history.images("AB")) == []


def test_the_harness_itself_sees_a_lost_commit() -> None:
    """A judge that cannot fail proves nothing."""
    workload = make("full", words("one"), words("two"))
    history, _, judge = run(workload)
    last = len(history.log)
    image = Image("B", last, (), 2, 2)
    files = history.build(image)
    with open_store(files, workload) as store:
        remember(store, Text("one too many", "kitchen", "user", 9))
        carry_out(store, Step("checkpoint"))
    with pytest.raises(AssertionError, match="3 commits, not 2 to 2"):
        judge.judge(files, image)


def test_a_generation_that_finds_no_room_leaves_nothing_and_the_next_one_has_it(tmp_path: Path) -> None:
    allocate = OsFile.allocate

    def full(self: OsFile, offset: int, count: int) -> None:
        if self.path.endswith("keys.tbl"):
            raise NoSpaceError(28, "No space left on device", self.path)
        allocate(self, offset, count)

    with aeon.open(tmp_path / "a.aeon", dim=DIM) as store:
        ids = store.remember_many(["a", "b", "c"], [[1.0] * DIM] * 3)
        store.forget(ids[0])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(OsFile, "allocate", full)
            for attempt in (store.compact, store.checkpoint):
                with pytest.raises(aeon.CapacityError):
                    attempt()
        assert not list(tmp_path.glob("*/gen-*"))
        store.compact()
        assert store.check().ok and [memory.text for memory in store.memories()] == ["b", "c"]


def test_a_row_with_a_damaged_id_is_damage_when_time_is_asked_for() -> None:
    """The blocks of time took the id as it stood: an IndexError, or the time of another memory."""
    files = MemoryFileSystem()
    with aeon.open(STORE, 4, files=files) as store:
        store.remember_many(["text"] * 9, [[1.0, n, 2.0, 3.0] for n in range(9)], timestamps=list(range(9)))
        store.checkpoint()
    path = f"{STORE}/gen-000001/rows.arena"
    for at in range(8):
        data = bytearray(files.read_file(path))
        data[64 + 16 * 4 + at] ^= 0xFF
        damaged = files.clone()
        damaged.write_file(path, bytes(data))
        with aeon.open(STORE, 4, files=damaged) as store:
            for ask in (
                lambda store=store: store.recall([1.0] * 4, 9, since=0, until=8),
                lambda store=store: store.trace.search([1.0] * 4, 9, since=0, until=8),
            ):
                with pytest.raises(aeon.CorruptionError) as raised:
                    ask()
                assert raised.value.path == path.replace("rows", "codes") or raised.value.path == path


def test_events_that_changed_places_are_damage_when_columns_are_read() -> None:
    """Each of them is whole by its own checksum; whoever reads all of them at once has to see that they are out of order."""
    files = MemoryFileSystem()
    with aeon.open(STORE, 4, files=files) as store:
        store.remember_many(["text"] * 9, [[1.0, n, 2.0, 3.0] for n in range(9)], role=["user", "tool", "user"] * 3)
        store.checkpoint()
    path = f"{STORE}/gen-000001/events.arena"
    data = bytearray(files.read_file(path))
    start, size = 64, EVENT.size
    for n in range(8):
        first, second = (
            slice(start + n * size, start + n * size + size),
            slice(start + n * size + size, start + n * size + 2 * size),
        )
        swapped = bytearray(data)
        swapped[first], swapped[second] = data[second], data[first]
        damaged = files.clone()
        damaged.write_file(path, bytes(swapped))
        with aeon.open(STORE, 4, files=damaged) as store:
            with pytest.raises(aeon.CorruptionError) as raised:
                store.recall([1.0] * 4, 9, roles="user")
            assert raised.value.path == path and start <= raised.value.offset < len(data)


def test_a_purge_leaves_nothing_of_a_run_that_could_not_be_cleared_away(tmp_path: Path) -> None:
    """A compaction found no room, and what it had written could not be deleted: the next one must not go on in those files."""
    secret, allocate, unlink = "the combination is 7-23-41 " * 400, OsFile.allocate, OsFileSystem.unlink

    def full(self: OsFile, offset: int, count: int) -> None:
        if self.path.endswith("keys.tbl"):
            raise NoSpaceError(errno.ENOSPC, "No space left on device", self.path)
        allocate(self, offset, count)

    def stays(self: OsFileSystem, path: str) -> None:
        if "/gen-" in path:
            raise OSError(errno.EIO, "Input/output error", path)
        unlink(self, path)

    def holding_it() -> list[str]:
        return [file.name for file in tmp_path.rglob("*") if file.is_file() and b"7-23-41" in file.read_bytes()]

    with aeon.open(tmp_path / "a.aeon", dim=DIM, checkpoint_log_bytes=0, compact_share=0) as store:
        store.remember("kept", [1.0] * DIM)
        id_ = store.remember(secret, [1.0] * DIM)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(OsFile, "allocate", full)
            patched.setattr(OsFileSystem, "unlink", stays)
            with pytest.raises(aeon.CapacityError):
                store.compact()
        assert "blobs.arena" in holding_it(), "what could not be cleared away"
        store.forget(id_)
        store.compact(purge=True)
        assert holding_it() == []
        assert [memory.text for memory in store.memories()] == ["kept"] and store.check().ok


def test_a_compaction_does_not_copy_the_blob_of_another_memory() -> None:
    """Two blobs of one size changed places, each of them whole: whose they are has to be looked at before they are copied."""
    files = MemoryFileSystem()
    with aeon.open(STORE, 4, files=files) as store:
        store.remember_many([f"text {n}" for n in range(9)], [[1.0, n, 2.0, 3.0] for n in range(9)])
        store.checkpoint()
    path = f"{STORE}/gen-000001/blobs.arena"
    data = files.read_file(path)
    (start, middle), (_, end) = blob_bounds(data)[4:6]
    assert middle - start == end - middle
    files.write_file(path, data[:start] + data[middle:end] + data[start:middle] + data[end:])
    with aeon.open(STORE, 4, files=files) as store:
        store.forget(1)
        for purge in (False, True):
            with pytest.raises(aeon.CorruptionError) as raised:
                store.compact(purge=purge)
            assert raised.value.path == path and raised.value.offset == start
        assert [memory.id for memory in store.memories()] == list(range(2, 10)), "the rest stays as it was"
