"""Repair on a sample of damage; `python -m tests.crash.full` repairs after damage of every byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.cli import main
from aeon.repairing import repair
from tests.crash.backends import HOME, STORE, MemoryFileSystem
from tests.crash.damage import Specimen, flips, make_specimen, swaps, truncations
from tests.crash.repairs import NEW, Repairs, deletions, judge_files, judge_repair, listed, several


@pytest.fixture(scope="module", params=["int8", "float32"])
def specimen(request: pytest.FixtureRequest) -> Specimen:
    from tests.crash.workloads import short_texts_inline, small_index

    with short_texts_inline(), small_index():
        return make_specimen(request.param)


def test_a_whole_store_comes_out_whole(specimen: Specimen) -> None:
    files = specimen.files.clone()
    report = repair(STORE, NEW, files=files)
    assert report.whole and not report.rebuilt and not report.missing_lsns
    judged = Repairs()
    judge_files(specimen, specimen.files.clone(), "nothing", judged, None)
    assert judged.violations == [] and judged.whole == 1 and judged.missing == judged.doubtful == 0


def test_what_comes_out_is_right_and_what_does_not_is_listed(specimen: Specimen) -> None:
    repairs = Repairs()
    for damage in deletions(specimen):
        judge_repair(specimen, damage, None, repairs)
    for damages in (flips(specimen, step=61, first=7), truncations(specimen, step=67, first=5)):
        for damage, data in damages:
            judge_repair(specimen, damage, data, repairs)
    for n, (damage, data) in enumerate(swaps(specimen)):
        if n % 3 == 0:
            judge_repair(specimen, damage, data, repairs)
    assert repairs.violations == []
    assert repairs.whole and repairs.lossy and repairs.missing and repairs.doubtful


def test_several_files_damaged_at_once(specimen: Specimen) -> None:
    repairs = Repairs()
    for seed in range(60):
        files, what = several(specimen, seed)
        judge_files(specimen, files, what, repairs, None)
    assert repairs.violations == [] and repairs.missing


def test_links_that_a_cut_took_along_are_told_without_a_manifest(specimen: Specimen) -> None:
    """Nothing says how long the blob file was but what refers to it: events, and texts that are ahead of their commits."""
    repairs = Repairs()
    blobs = max(path for path in specimen.contents if path.endswith("blobs.arena"))
    for at in range(0, len(specimen.contents[blobs]), 41):
        files = specimen.files.clone()
        for path in specimen.contents:
            if path.endswith(("MANIFEST", "names.tbl", "links.tbl", "archived.tbl")):
                files.unlink(path)
        files.write_file(blobs, specimen.contents[blobs][:at])
        judge_files(specimen, files, f"cut at {at}", repairs, None)
    assert repairs.violations == [] and repairs.missing


def test_a_gap_in_the_log_is_named_and_what_it_may_have_forgotten_is_doubtful() -> None:
    files = MemoryFileSystem()
    with aeon.open(STORE, 4, files=files, checkpoint_log_bytes=0) as store:
        first = [store.remember(f"turn {n}", [1.0, n, 2.0, 3.0]) for n in range(3)]
        before = files.read_file(f"{STORE}/wal/00000001.wal").rstrip(b"\0")
        store.forget(first[1])
        after = len(files.read_file(f"{STORE}/wal/00000001.wal").rstrip(b"\0"))
        later = store.remember("later", [1.0, 1.0, 1.0, 1.0], parent=first[2])
    data = bytearray(files.read_file(f"{STORE}/wal/00000001.wal"))
    at = -(-len(before) // 8) * 8 + 40
    assert at < after
    data[at] ^= 0xFF
    files.write_file(f"{STORE}/wal/00000001.wal", bytes(data))
    with pytest.raises(aeon.CorruptionError):
        aeon.open(STORE, files=files)
    report = repair(STORE, NEW, files=files)
    (loss,) = report.lost
    assert loss.lsns == ((4, 4),) == report.missing_lsns and loss.offset == at - 40 and loss.path.endswith(".wal")
    assert (
        listed(report.doubtful) == set(first) and not report.whole
    )  # what came later cannot have been forgotten there
    with aeon.open(NEW, files=files) as store:
        assert store.get(first[1]).text == "turn 1" and store.get(later).parent == first[2]
        assert store.remember("new", [1.0, 0.0, 0.0, 0.0]) > later


def test_what_was_forgotten_is_not_in_the_new_store_and_the_old_one_is_not_written_to() -> None:
    files = MemoryFileSystem()
    with aeon.open(STORE, 4, files=files) as store:
        store.remember_many([f"secret {n}" for n in range(9)], np.eye(4, dtype=np.float32)[[0] * 9])
        store.checkpoint()
        store.forget(range(3, 6))
    files.mutations.clear()
    report = repair(STORE, NEW, files=files)
    assert report.whole and report.memories == 6
    assert not [change for change in files.mutations if f"{STORE}/" in change]
    bytes_of = {path: data for path, data in files.contents() if path.startswith(NEW)}
    assert not any(b"secret 2" in data or b"secret 4" in data for data in bytes_of.values())
    assert any(b"secret 8" in data for data in bytes_of.values())


def test_repair_refuses_what_it_must(tmp_path: Path) -> None:
    files = MemoryFileSystem()
    files.mkdir(f"{HOME}/empty")
    with pytest.raises(aeon.NotAStoreError):
        repair(f"{HOME}/empty", NEW, files=files)
    with pytest.raises(aeon.NotAStoreError):
        repair(f"{HOME}/nowhere", NEW, files=files)
    aeon.open(STORE, 4, files=files).close()
    with pytest.raises(aeon.InvalidInputError, match="there already"):
        repair(STORE, STORE, files=files)
    with pytest.raises(aeon.InvalidInputError, match="inside"):
        repair(STORE, f"{STORE}/new", files=files)
    assert not [path for path, _ in files.contents() if "partial" in path]


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A store whose second memory's text has a flipped bit; it has the built-in embedder."""
    path = tmp_path / "agent.aeon"
    with aeon.open(path) as store:
        store.remember_many(["Tess moved to Trieste.", "Gravy is a dog.", "We meet at nine."], session="s")
        store.checkpoint()
        store.remember("in the log", key="k")
    arena = path / "gen-000001" / "blobs.arena"
    data = bytearray(arena.read_bytes())
    data[data.index(b"Gravy")] ^= 1
    arena.write_bytes(bytes(data))
    return path


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "defect" not in err and "Traceback" not in err, err
    return code, out, err


def test_the_command_lists_what_was_lost(capsys: pytest.CaptureFixture[str], damaged: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    code, out, err = command(capsys, "repair", damaged, "--to", tmp_path / "new.aeon")
    assert code == 1 and "ids 2" in out and "blobs.arena, offset" in out and "1 loss" in err
    assert before == {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    with aeon.open(tmp_path / "new.aeon") as store:
        assert [memory.id for memory in store.history("s")] == [1, 3]
        assert store.embedder and store.recall("where is Tess?", 1)[0].id == 1
        assert store.check().ok
    code, out, _ = command(capsys, "repair", damaged, "--to", tmp_path / "other.aeon", "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 1 and not found["whole"] and found["lost"][0]["ids"] == [[2, 2]] and found["memories"] == 3
    code, out, err = command(capsys, "repair", tmp_path / "new.aeon", "--to", tmp_path / "again.aeon")
    assert code == 0 and not err
    code, out, err = command(capsys, "repair", damaged, "--to", tmp_path / "new.aeon")
    assert code == 1 and not out and "there already" in err
    code, _, err = command(capsys, "repair", damaged)
    assert code == 2 and "--to" in err


def test_a_lost_manifest_is_proven_by_the_other_files(
    capsys: pytest.CaptureFixture[str], damaged: Path, tmp_path: Path
) -> None:
    with aeon.open(damaged, read_only=True) as store:
        embedder, vector = store.embedder, store.get(1).vector
    (damaged / "MANIFEST").unlink()
    code, out, _ = command(capsys, "repair", damaged, "--to", tmp_path / "new.aeon", "--embedder", embedder)
    assert code == 1 and "MANIFEST is lost" in out
    with aeon.open(tmp_path / "new.aeon") as store:
        assert store.embedder == embedder and np.array_equal(store.get(1).vector, vector)
        assert store.recall("nine", 1)[0].id == 3
    shutil.rmtree(tmp_path / "new.aeon")
    code, out, _ = command(capsys, "repair", damaged, "--to", tmp_path / "new.aeon")
    assert code == 1 and "which embedder" in out
