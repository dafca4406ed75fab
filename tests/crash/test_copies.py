"""Backup: one state of a store whose writer goes on; the copy appears whole or not at all, whatever is cut off."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aeon
from aeon.backups import backup
from aeon.cli import main
from aeon.repairing import repair
from tests.crash.backends import HOME, STORE, Fault, FaultyFileSystem, MemoryFile, MemoryFileSystem, RecordingFileSystem
from tests.crash.damage import Specimen, make_specimen
from tests.crash.images import History
from tests.crash.workloads import DIM, difference, open_store, short_texts_inline, small_index

COPY = f"{HOME}/copy.aeon"
REPOSITORY = Path(__file__).resolve().parents[2]
ACTIONS: dict[str, Callable[..., object]] = {"backup": backup, "repair": repair}


@pytest.fixture(scope="module")
def specimen() -> Specimen:
    with short_texts_inline(), small_index():
        return make_specimen()


def require_same(files: MemoryFileSystem, specimen: Specimen, path: str = COPY) -> None:
    """The store at `path` opens, passes `check` and shows the specimen's last state."""
    with open_store(files, specimen.workload, path=path) as store:
        assert difference(store, specimen.states[-1]) == "" and store.check().ok and not store.recovery.reason


def test_a_copy_is_the_store(specimen: Specimen) -> None:
    files = specimen.files.clone()
    before = {path: data for path, data in files.contents() if path.startswith(STORE)}
    report = backup(STORE, COPY, files=files)
    assert report.lsn == len(specimen.states) - 1 and report.attempts == 1
    assert before == {path: data for path, data in files.contents() if path.startswith(STORE)}
    require_same(files, specimen)
    backup(COPY, f"{HOME}/restored.aeon", files=files)
    require_same(files, specimen, f"{HOME}/restored.aeon")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_power_cut_leaves_a_whole_copy_or_none(specimen: Specimen, action: str) -> None:
    """Families A to F over the making of the copy: the store is untouched, and what stands at the target is all of it."""
    base = specimen.files.clone()
    files = RecordingFileSystem(base.root, 10_000)
    ACTIONS[action](STORE, COPY, files=files)
    files.promise("durable", 1)
    history = History.of(files)
    seen: set[int] = set()
    there = absent = 0
    images = list(history.images("ABCDEF", subsets=6, seed=1))
    for image in images[:: max(1, len(images) // 2500)] + images[-40:]:
        left = history.build(image)
        contents = left.contents()
        key = hash((tuple(contents), image.least))
        if key in seen:
            continue
        seen.add(key)
        assert [entry for entry in contents if entry[0].startswith(f"{STORE}/")] == [
            entry for entry in base.contents() if entry[0].startswith(f"{STORE}/")
        ]
        if not left.exists(COPY):
            assert not image.least, f"{action} had returned, and nothing is at the target: {image}"
            absent += 1
            continue
        there += 1
        require_same(left, specimen)
    assert there and absent > 50


@pytest.mark.parametrize("action", ACTIONS)
def test_a_failing_operation_leaves_nothing_at_the_target(specimen: Specimen, action: str) -> None:
    counting = FaultyFileSystem(root=specimen.files.clone().root)
    ACTIONS[action](STORE, COPY, files=counting)
    for kind, count in counting.counts.items():
        for nth in sorted({1, 2, count // 2, count - 1, count} - {0, -1}):
            files = FaultyFileSystem(Fault(kind, nth, 5), specimen.files.clone().root)
            try:
                report = ACTIONS[action](STORE, COPY, files=files)
            except aeon.AeonError:
                # The last sync of all may fail when the copy has its name already: it is whole then, and maybe not on disk.
                assert not files.exists(COPY) or kind == "fsync_dir", f"{kind} {nth}"
            except OSError as error:
                raise AssertionError(f"{action}, {kind} {nth}: {error!r} has no type of ours") from error
            else:
                # To repair, what cannot be read is damage like any other, and is listed.
                if getattr(report, "whole", True):
                    require_same(files, specimen)
            assert not files.handles, f"{kind} {nth}: left open {files.handles}"


class CheckpointsMeanwhile(MemoryFileSystem):
    """Lets the writer checkpoint and write on at chosen reads of the one who copies."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] | None = None
        self.reads = 0
        self.at: set[int] = set()

    def about(self, kind: str, path: str, count: int = 0) -> int:
        if kind == "pread" and self.meanwhile is not None and path.startswith(f"{STORE}/"):
            self.reads += 1
            if self.reads in self.at:
                act, self.meanwhile = self.meanwhile, None
                act()
                self.meanwhile = act
        return count


def test_a_checkpoint_in_the_middle_makes_it_start_over() -> None:
    for moment in range(1, 26):
        files = CheckpointsMeanwhile()
        with aeon.open(STORE, DIM, files=files, checkpoint_log_bytes=0, segment_bytes_max=2048) as store:
            for n in range(12):
                store.remember(
                    f"turn {n} " + "long " * (80 if n % 5 == 2 else 1), [1.0, n, 2.0, 3.0], key=f"key {n % 3}"
                )
                if n == 5:
                    store.checkpoint()
            acknowledged = store.lsn

            def write_on(store: aeon.Store = store) -> None:
                store.remember("meanwhile " + "long " * 90, [0.5, 0.5, 0.5, 0.5])
                store.checkpoint()
                store.forget(2)

            files.meanwhile, files.at = write_on, {moment, moment + 9}
            report = store.backup(COPY)
            files.meanwhile = None
        with aeon.open(COPY, DIM, files=files) as copy:
            assert acknowledged <= copy.lsn == report.lsn and copy.check().ok and not copy.recovery.reason
            assert [m.text.startswith("turn") for m in copy.history(limit=None)].count(True) >= 3
        assert moment > 20 or report.attempts > 1 or files.reads <= moment


def test_a_frame_that_is_read_half_is_read_again() -> None:
    """The writer is in the middle of a frame: what comes before it is copied."""

    class Torn(MemoryFileSystem):
        cut = 0

        def about(self, kind: str, path: str, count: int = 0) -> int:
            return count

    files = Torn()
    with aeon.open(STORE, DIM, files=files) as store:
        for n in range(6):
            store.remember(f"turn {n}", [1.0, n, 2.0, 3.0])
    path = f"{STORE}/wal/00000001.wal"
    whole = files.read_file(path)
    original, reads = MemoryFile.pread, itertools.count()

    def pread(self: MemoryFile, count: int, offset: int) -> bytes:
        data = original(self, count, offset)
        if self.path == path and next(reads) == 0:  # the fourth frame is not there yet, the fifth is: pages in turn
            at = data.index(b"turn 3")
            data = data[: at - 60] + bytes(60 + 6) + data[at + 6 :]
        return data

    MemoryFile.pread = pread  # type: ignore[method-assign]
    try:
        report = backup(STORE, COPY, files=files)
    finally:
        MemoryFile.pread = original  # type: ignore[method-assign]
    assert files.read_file(path) == whole and report.lsn == 6 and report.attempts == 2


def test_a_damaged_store_is_not_copied_in_silence(specimen: Specimen) -> None:
    for path in (p for p in specimen.contents if "/gen-" in p or p.endswith("00000003.wal")):
        data = bytearray(specimen.contents[path])
        data[-9 if path.endswith(".arena") else len(data) // 2] ^= 1
        files = specimen.damaged(path, bytes(data))
        with pytest.raises(aeon.CorruptionError) as caught:
            backup(STORE, COPY, files=files)
        assert STORE in caught.value.path and not [name for name in files.listdir(HOME) if name != "agent.aeon"]


_WRITER = """
import sys, aeon
with aeon.open(sys.argv[1], 4, durability=sys.argv[2], segment_bytes_max=1 << 14, checkpoint_log_bytes=0) as store:
    for n in range(1, 1_000_000):
        store.remember(f"turn {n} " + "x" * (n % 97), [1.0, n % 7, n % 5, 2.0], timestamp=n,
                       key=f"k{n % 50}" if n % 3 else None)
        print(n, flush=True)
        if n % 400 == 0:
            store.checkpoint()
"""


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_backups_of_a_store_that_another_process_writes_to(tmp_path: Path, durability: str) -> None:
    path = tmp_path / "agent.aeon"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), durability], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "AEON_KERNELS": "reference"},
    )  # fmt: skip
    acknowledged = [0]
    assert writer.stdout is not None

    def listen() -> None:
        for line in writer.stdout:  # type: ignore[union-attr]
            acknowledged[0] = int(line)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        while acknowledged[0] < 30:
            assert writer.poll() is None
        for n in range(8):
            least = acknowledged[0]
            report = backup(path, tmp_path / f"copy {n}.aeon")
            with aeon.open(tmp_path / f"copy {n}.aeon", 4, read_only=True) as copy:
                assert least <= copy.lsn == report.lsn
                for id_ in (1, copy.lsn // 2, copy.lsn):
                    assert copy.get(id_).text.startswith(f"turn {id_} ")
    finally:
        writer.kill()
        listener.join()
        writer.wait()
        writer.stdout.close()


def test_the_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    path, copy, back = tmp_path / "agent.aeon", tmp_path / "copy.aeon", tmp_path / "back.aeon"
    with aeon.open(path) as store:  # its writer is at work
        store.remember("Tess moved to Trieste.")
        code, out, err = run("backup", path, copy)
        assert code == 0 and "verified" in out and not err
        store.remember("and on it goes")
    code, out, err = run("backup", path, copy)
    assert code == 1 and not out and "there already" in err
    code, out, _ = run("restore", copy, back, "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0 and found["lsn"] == 1 and found["attempts"] == 1
    with aeon.open(back) as store:
        assert [memory.text for memory in store.memories()] == ["Tess moved to Trieste."]
    code, _, err = run("backup", tmp_path / "nowhere", tmp_path / "x")
    assert code == 1 and "no aeon store" in err and not (tmp_path / "x").exists()
