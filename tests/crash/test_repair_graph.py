"""Repair of a store with a graph: each of its tables damaged alone, and together with the bytes it is derived from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aeon
from aeon.format import BLOB, OP, FileKind, OpKind
from aeon.graph import CHANGES
from aeon.repairing import repair
from aeon.results import RepairReport
from aeon.salience import SALIENCE_NAME
from aeon.store import Store
from aeon.time_blocks import BLOCK_ROWS
from tests.crash.backends import STORE, MemoryFileSystem
from tests.crash.damage import blob_bounds
from tests.crash.repairs import NEW
from tests.crash.workloads import small_index

GENERATION = f"{STORE}/gen-000001"
TABLES = [
    kind.name.lower().replace("_", "-")
    for kind in FileKind
    if kind >= FileKind.EVENT_DEATHS and kind not in (FileKind.SALIENCE, FileKind.TIME_BLOCKS)
]
SESSIONS = ("trunk", "branch", "twig", "empty")


def build(turns: int) -> tuple[MemoryFileSystem, int]:
    """A store whose graph is in the arena, in tables and in the log, after so many turns of talk; and the summary's id."""
    files = MemoryFileSystem()
    random = np.random.default_rng(3)
    with aeon.open(STORE, 4, files=files, checkpoint_log_bytes=0) as store:
        store.remember_many(
            [f"turn {n}" for n in range(turns)], random.standard_normal((turns, 4)), session="long",
            timestamps=list(range(turns)),
        )  # fmt: skip
        first = [store.remember(f"said {n}", [1.0, n, 2.0, 3.0], session="trunk", timestamp=n) for n in range(8)]
        store.remember("plan A", [1.0, 0.0, 0.0, 0.5], key="plan", session="trunk", timestamp=20)
        store.remember("plan B", [1.0, 0.0, 0.5, 0.0], key="plan", session="trunk", timestamp=21)
        store.link(first[0], first[1:3], "causes")
        store.link(first[3], first[0], "echoes")
        store.link(first[4], first[5], "contradicts")
        store.link(first[6], first[7], "causes")
        store.unlink(first[6], first[7], "causes")
        store.branch(first[3], "branch")
        store.remember("on the branch", [0.5, 1.0, 0.0, 0.0], session="branch", parent=first[3], timestamp=30)
        store.branch(first[1], "empty")
        store.archive([first[5], first[6]])
        store.restore(first[6])
        summary = store.consolidate(first[:2], summarise=lambda memories: "both", vector=[1.0, 1.0, 1.0, 1.0])
        for _ in range(2):
            store.recall([1.0, 1.0, 2.0, 3.0], 3)
        store.atlas.settle()
        store.trace.search([1.0, 1.0, 1.0, 1.0], 3, probes=2)
        store.checkpoint()
        late = store.remember("late", [0.0, 1.0, 1.0, 0.0], session="branch", refs=[first[2]], timestamp=40)
        store.link(late, first[4], "echoes")
        store.unlink(first[0], first[2], "causes")
        store.archive(late)
        store.branch(late, "twig")
        store.remember("plan C", [1.0, 0.5, 0.0, 0.0], key="plan", session="twig", timestamp=41)
        store.remember("forgotten", session="trunk", key="gone", timestamp=42)
        store.link(late + 2, first[2], "causes")
        store.forget(late + 2)
    return files, summary


def shown(store: Store, *, recalls: bool = True) -> dict[str, Any]:
    """What a store says of its graph."""
    assert store._wal is not None
    ids = [id_ for id_ in range(1, store._wal.next_id) if _is_there(store, id_)]
    graph = ids[-30:]
    kinds = ["causes", "contradicts", "echoes", "ref", "replaces", "summarises", "parent"]
    trace = store.trace
    return {
        "ids": ids,
        "out": sorted(tuple(e) for id_ in graph for e in trace.neighbours(id_, kinds, "out")),
        "in": sorted(tuple(e) for id_ in graph for e in trace.neighbours(id_, kinds, "in")),
        "archived": [id_ for id_ in ids if trace.is_archived(id_)],
        "histories": {name: [m.id for m in store.history(name, None)] for name in SESSIONS},
        "part": [[m.id for m in side] for side in store.diff("trunk", "twig")[1:]],
        "versions": [m.text for m in store.history_of("plan")],
        "counts": {info.name: info.count for info in store.sessions()},
        "search": [hit.id for hit in trace.search([1.0, 1.0, 1.0, 1.0], 5)],
        "recalls": [trace.accesses(id_) for id_ in ids] if recalls else [],
    }


def _is_there(store: Store, id_: int) -> bool:
    try:
        return store.get(id_).id == id_
    except aeon.NotFoundError:
        return False


@pytest.fixture(scope="module")
def built() -> tuple[MemoryFileSystem, int, dict[str, Any]]:
    with small_index():
        files, summary = build(8)
    with aeon.open(STORE, 4, files=files.clone()) as store:
        return files, summary, shown(store)


def repaired(files: MemoryFileSystem, *, recalls: bool = True) -> tuple[RepairReport, dict[str, Any], Store]:
    report = repair(STORE, NEW, files=files)
    with aeon.open(NEW, 4, files=files) as store:
        assert store.check().ok
        found = shown(store, recalls=recalls)
    return report, found, store


def changed(files: MemoryFileSystem, path: str, how: str) -> None:
    data = bytearray(files.read_file(path))
    if how == "gone":
        files.unlink(path)
        return
    if how == "cut":
        del data[len(data) // 2 :]
    else:
        data[64 if len(data) > 64 else 0] ^= 0x10
    files.write_file(path, bytes(data))


def test_a_whole_graph_comes_out_whole_and_undo_still_works(built: Any) -> None:
    original, summary, expected = built
    assert (
        expected["out"] and expected["in"] and len(expected["archived"]) == 4 and any(c for c, _ in expected["recalls"])
    )
    assert expected["histories"]["empty"] and expected["histories"]["twig"][-1] > expected["histories"]["branch"][0]
    files = original.clone()
    report, found, _ = repaired(files)
    assert report.whole and not report.rebuilt and found == expected
    with aeon.open(NEW, 4, files=files) as store:
        assert len(store.undo(summary)) == 2
        store.branch(expected["ids"][-2], "another")
        store.checkpoint()
        assert store.check().ok


@pytest.mark.parametrize("how", ["gone", "flip", "cut"])
@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_costs_nothing(built: Any, name: str, how: str) -> None:
    original, _, expected = built
    files = original.clone()
    path = f"{GENERATION}/{name}.tbl"
    if name == "pages" and not files.exists(path):
        pytest.skip("the twins make no page index")
    changed(files, path, how)
    report, found, _ = repaired(files)
    assert report.lost == () and found == expected, report.lost
    assert any(problem.path == path for problem in report.rebuilt)


def test_damaged_blocks_of_time_cost_nothing() -> None:
    original, _ = build(BLOCK_ROWS)
    with aeon.open(STORE, 4, files=original.clone()) as store:
        expected = shown(store)
    changed(original, f"{GENERATION}/time-blocks.tbl", "flip")
    report, found, _ = repaired(original)
    assert report.lost == () and found == expected and len(report.rebuilt) == 1


@pytest.mark.parametrize("how", ["gone", "flip", "cut"])
def test_counts_of_recalls_are_lost_by_name_and_nothing_else(built: Any, how: str) -> None:
    original, _, expected = built
    files = original.clone()
    changed(files, f"{STORE}/{SALIENCE_NAME}", how)
    report, found, _ = repaired(files, recalls=False)
    assert found == {**expected, "recalls": []}
    if how != "gone":  # a store that nobody has recalled from has none
        (loss,) = report.lost
        assert loss.path.endswith(SALIENCE_NAME)


def changes_in_arena(files: MemoryFileSystem) -> list[tuple[int, OpKind]]:
    """(offset, kind) of each blob that is an operation on the graph."""
    data = files.read_file(f"{GENERATION}/blobs.arena")
    found = []
    for start, _ in blob_bounds(data):
        _, _, id_, lsn = BLOB.unpack_from(data, start)
        kind = OP.unpack_from(data, start + BLOB.size)[0]
        if not id_ and lsn and kind in CHANGES:
            found.append((start, OpKind(kind)))
    return found


def test_a_damaged_operation_is_taken_from_the_tables(built: Any) -> None:
    original, _, expected = built
    places = changes_in_arena(original)
    assert {kind for _, kind in places} == CHANGES
    for start, _ in places:
        for at in (4, BLOB.size + OP.size + 2):  # length, names or ids
            files = original.clone()
            data = bytearray(files.read_file(f"{GENERATION}/blobs.arena"))
            data[start + at] ^= 1
            files.write_file(f"{GENERATION}/blobs.arena", bytes(data))
            report, found, _ = repaired(files)
            assert report.lost == () and found == expected, (start, at, report.lost)


def test_an_operation_and_its_table_damaged_together_are_listed(built: Any) -> None:
    original, _, expected = built
    visible = 0
    tables = {OpKind.LINK: "links", OpKind.ARCHIVE: "archived", OpKind.BRANCH: "names"}
    for start, kind in changes_in_arena(original):
        if kind not in tables:
            continue
        files = original.clone()
        data = bytearray(files.read_file(f"{GENERATION}/blobs.arena"))
        data[start + BLOB.size + 8] ^= 1
        files.write_file(f"{GENERATION}/blobs.arena", bytes(data))
        changed(files, f"{GENERATION}/{tables[kind]}.tbl", "flip")
        report, found, _ = repaired(files)
        (loss,) = report.lost
        assert (
            loss.path.endswith("blobs.arena") and loss.offset == start and "links, archives or branches" in loss.reason
        )
        assert found["ids"] == expected["ids"] and found["versions"] == expected["versions"]
        if kind == OpKind.LINK:
            visible += set(found["out"]) < set(expected["out"])  # one that was ended again is missed by nobody
            assert found["out"] == found["in"] and set(found["out"]) <= set(expected["out"])
        else:
            assert found["out"] == expected["out"]
    assert visible >= 3


def test_edges_of_a_lost_memory_go_with_it_and_no_others(built: Any) -> None:
    original, summary, expected = built
    files = original.clone()
    path = f"{GENERATION}/blobs.arena"
    data = bytearray(files.read_file(path))
    lost = expected["histories"]["trunk"][3]  # an end of a link, a parent, and where a session branches off
    start = next(start for start, _ in blob_bounds(bytes(data)) if BLOB.unpack_from(data, start)[2] == lost)
    data[start + BLOB.size + OP.size + 1] ^= 1
    files.write_file(path, bytes(data))
    report, found, _ = repaired(files)
    (loss,) = report.lost
    assert list(loss.ids) == [(lost, lost)] and not report.doubtful
    assert found["out"] == found["in"] == [edge for edge in expected["out"] if lost not in edge[:2]]
    assert found["archived"] == expected["archived"] and summary in found["ids"]
    for name, ids in expected["histories"].items():
        assert found["histories"][name] == [id_ for id_ in ids if id_ != lost]
