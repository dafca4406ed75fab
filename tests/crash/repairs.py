"""Repair under damage: whatever was done to a store, what comes out of `repair` is right, and what does not is listed.

For each piece of damage: the damaged store is as it was; the new store opens and passes `check`; every memory in it is the
original's, bit for bit, or listed as doubtful; every memory that is missing is listed as lost; nothing is lost whose bytes
were not touched.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aeon import manifest as manifests
from aeon.errors import NotFoundError
from aeon.format import BLOB, FRAME, OP, FileKind, OpFlag, OpKind, data_offset, row_stride
from aeon.operations import Operation, decode_blob_ref, decode_commit
from aeon.repairing import repair
from aeon.results import RepairReport
from aeon.salience import SALIENCE_NAME
from aeon.store import Store
from tests.crash.backends import HOME, STORE, MemoryFileSystem
from tests.crash.damage import (
    Damage,
    Specimen,
    _ends_with_a_frame,
    _may_drop,
    _neighbours,
    blob_bounds,
    frame_bounds,
)
from tests.crash.workloads import DIM, KEYS, State, open_store

NEW = f"{HOME}/new.aeon"


@dataclass
class Repairs:
    """What came of repairs; `violations` must be empty."""

    tested: int = 0
    whole: int = 0
    lossy: int = 0
    memories: int = 0
    missing: int = 0
    doubtful: int = 0
    violations: list[str] = field(default_factory=list)


def judge_repair(specimen: Specimen, damage: Damage, data: bytes | None, repairs: Repairs) -> None:
    """Repair the store with one file changed (None = deleted), and hold what comes out against the original."""
    files = specimen.files.clone()
    if data is None:
        files.unlink(damage.path)
    else:
        files.write_file(damage.path, data)
    judge_files(specimen, files, str(damage), repairs, damage)


def judge_files(
    specimen: Specimen, files: MemoryFileSystem, what: str, repairs: Repairs, damage: Damage | None
) -> None:
    """The same for a store that was damaged already; without `damage` losses may be anywhere."""
    repairs.tested += 1
    files.mutations.clear()
    try:
        before = [entry for entry in files.contents() if entry[0].startswith(STORE)]
        report = repair(STORE, NEW, files=files, dim=DIM)
        assert before == [entry for entry in files.contents() if entry[0].startswith(STORE)], "the source was changed"
        assert not [change for change in files.mutations if STORE in change], "the source was written to"
        with open_store(files, specimen.workload, path=NEW) as store:
            missing = _compare(specimen, store, report, damage)
        repairs.whole += report.whole
        repairs.lossy += not report.whole
        repairs.memories += report.memories
        repairs.missing += missing
        repairs.doubtful += len(listed(report.doubtful))
        assert not files.handles and not files.locks, f"left open {[file.path for file in files.handles]}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        repairs.violations.append(f"{what}: {type(error).__name__}: {error}")


def listed(ranges: Iterable[tuple[int, int]]) -> set[int]:
    """Ids, or LSNs, of ranges."""
    return {id_ for first, last in ranges for id_ in range(first, last + 1)}


def _compare(specimen: Specimen, store: Store, report: RepairReport, damage: Damage | None) -> int:
    state = specimen.states[-1]
    doubtful = listed(report.doubtful)
    lost = {id_ for loss in report.lost for id_ in listed(loss.ids)}
    lost_lsns = listed(report.missing_lsns)
    unknown = any(not loss.ids for loss in report.lost)
    may_be_silent = damage is not None and _silent(specimen, damage)
    made_at = born(specimen)
    kept = {}
    vectorless = set()
    for id_ in range(1, state.next_id + 40):
        try:
            memory = store.get(id_)
        except NotFoundError:
            continue
        vector = memory.vector
        kept[id_] = (
            memory.text, memory.session, memory.role, memory.timestamp, memory.namespace, memory.key, memory.metadata,
            memory.refs, memory.parent, None if vector is None else vector.tobytes(),
        )  # fmt: skip
    for id_, found in kept.items():
        expected = original(specimen, id_)
        assert expected is not None, f"memory {id_} never was"
        if found != expected:
            assert found[:-1] == expected[:-1] and found[-1] is None, f"memory {id_} is {found}, was {expected}"
            assert id_ in lost, f"the vector of {id_} is gone without a word"
            vectorless.add(id_)
        if id_ not in state.memories:
            assert id_ in doubtful or may_be_silent, f"memory {id_} had been forgotten, and is back without a word"
    missing = set(state.memories) - set(kept)
    for id_ in missing:
        told = id_ in lost or made_at[id_] in lost_lsns or (lost_lsns and made_at[id_] > max(lost_lsns) - 1)
        assert told or may_be_silent or (damage is None and unknown), f"memory {id_} is gone without a word; {report}"
    if damage is not None:
        touched = touched_ids(specimen, damage)
        assert missing <= touched, f"{sorted(missing - touched)} are gone, and were not touched; {report}"
        assert vectorless <= touched, f"vectors of {sorted(vectorless - touched)} are gone, and were not touched"
    _compare_structure(store, state, report, set(kept), doubtful, vectorless, may_be_silent)
    counts = {id_: store.trace.accesses(id_) for id_ in kept if id_ in specimen.accesses}
    if counts != {id_: specimen.accesses[id_] for id_ in counts}:
        told = any(loss.path.endswith(SALIENCE_NAME) for loss in report.lost)
        gone = damage is None or (damage.kind == "delete" and damage.path.endswith(SALIENCE_NAME))
        assert told or gone, "how often memories were recalled is lost without a word"
        assert not any(count for count, _ in counts.values())
    return len(missing)


def _compare_structure(
    store: Store,
    state: State,
    report: RepairReport,
    kept: set[int],
    doubtful: set[int],
    vectorless: set[int],
    silent: bool,
) -> None:
    """History, keys and search of what is certain are the original's; new ids begin behind all old ones."""
    unsure = doubtful | (set(state.memories) if silent else set())
    shown = {memory.id for info in store.sessions() for memory in store.history(info.name, None)}
    current = {id_ for ids in state.history.values() for id_ in ids}
    assert (shown ^ (current & kept)) <= unsure, f"history shows {sorted(shown)}, {sorted(current & kept)} are current"
    for session, ids in state.history.items():
        order = [memory.id for memory in store.history(session, None) if memory.id in ids]
        assert order == sorted(order)
    if not report.missing_lsns and not silent and not any("links" in loss.reason for loss in report.lost):
        both = {(src, dst, kind) for src, dst, kind in state.links if {src, dst} <= kept}
        known = [kind for _, _, kind in both]
        for direction in ("out", "in"):
            links = (
                {tuple(e) for id_ in kept for e in store.trace.neighbours(id_, sorted(set(known)), direction)}
                if known
                else set()
            )
            assert links == both or links ^ both <= {link for link in links | both if set(link[:2]) & doubtful}
        assert {id_ for id_ in kept if store.trace.is_archived(id_)} - unsure == (state.archived & kept) - unsure
    else:
        unsure = unsure | state.archived | {id_ for id_ in kept if store.trace.is_archived(id_)}
    for namespace, key in KEYS:
        named = getattr(store.get_key(key, namespace), "id", None)
        expected = state.keys.get((namespace, key))
        assert named == (expected if expected in kept else None) or named in unsure, f"key {key} names {named}"
    reached = {int(id_) for id_ in store.atlas.search([1.0] * DIM, len(kept) + 3)[0][0] if id_}
    assert (reached ^ ((state.searchable & kept) - vectorless)) <= unsure, f"search reaches {sorted(reached)}"
    assert store._wal is not None
    if not silent and not any(not loss.length and not loss.ids for loss in report.lost):
        assert store._wal.next_id >= state.next_id or report.missing_lsns, f"id {store._wal.next_id} is given out again"
    assert store.embedder == manifests.load(store._files, NEW).embedder


def _silent(specimen: Specimen, damage: Damage) -> bool:
    """A log that ends where a frame does cannot be told from one that never went on; nor one whose last file is gone."""
    if damage.kind == "delete" or (damage.kind == "truncate" and not damage.offset):
        return damage.path == max(path for path in specimen.contents if path.endswith(".wal"))
    if damage.kind != "truncate" or not _may_drop(specimen, damage):
        return False
    return _ends_with_a_frame(specimen.contents[damage.path], damage.offset)


def born(specimen: Specimen) -> dict[int, int]:
    """The LSN that each memory was made by."""
    found: dict[int, int] = {}
    for lsn, state in enumerate(specimen.states):
        for id_ in state.memories:
            found.setdefault(id_, lsn)
    return found


def original(specimen: Specimen, id_: int) -> tuple[object, ...] | None:
    """The memory as it was when it was last readable."""
    return next((state.memories[id_] for state in reversed(specimen.states) if id_ in state.memories), None)


# -- what damage touches ------------------------------------------------------------------------------------------


def touched_ids(specimen: Specimen, damage: Damage) -> set[int]:
    """Memories any of whose own bytes (blob, text, row, frame) the damage reaches."""
    end = damage.offset + 1
    data = specimen.contents[damage.path]
    if damage.kind in ("truncate", "delete"):
        end = len(data)
    if damage.kind == "swap":
        end = next(last for (first, _), (_, last) in _neighbours(damage.path, data) if first == damage.offset)
    return {
        id_ for start, stop, ids in owners(specimen, damage.path) for id_ in ids if start < end and damage.offset < stop
    }


def owners(specimen: Specimen, path: str) -> list[tuple[int, int, set[int]]]:
    """(start, end, ids) of the structures of a file that hold what is nowhere else."""
    data = specimen.contents[path]
    if path.endswith(".wal"):
        found = []
        for start, end in frame_bounds(data):
            length, first_id = FRAME.unpack_from(data, start)[3], FRAME.unpack_from(data, start)[6]
            payload = memoryview(data)[start + FRAME.size : start + FRAME.size + length]
            count = sum(operation.kind == OpKind.REMEMBER for operation in decode_commit(payload))
            found.append((start, end, set(range(first_id, first_id + count))))
        return found
    if path.endswith("blobs.arena"):
        texts = _texts_by_reference(specimen)
        return [
            (start, end, {BLOB.unpack_from(data, start)[2]} | texts.get(start, set()))
            for start, end in blob_bounds(data)
        ]
    for kind, width in (
        (FileKind.CODES, row_stride(DIM, specimen.workload.rows)),
        (FileKind.ROWS, 16),
    ):
        if path.endswith(f"{kind.name.lower()}.arena"):
            rows = next(content for name, content in specimen.contents.items() if name.endswith("/rows.arena"))
            start = data_offset(kind)
            count = (len(rows) - data_offset(FileKind.ROWS)) // 16
            ids = [int.from_bytes(rows[64 + 16 * n : 72 + 16 * n], "little") for n in range(count)]
            return [(start + n * width, start + (n + 1) * width, {id_}) for n, id_ in enumerate(ids)]
    return []


def _texts_by_reference(specimen: Specimen) -> dict[int, set[int]]:
    """Ids whose text stands at an offset of the blob file."""
    found: dict[int, set[int]] = {}

    def note(operation: Operation, id_: int) -> None:
        if operation.kind == OpKind.REMEMBER and operation.flags & OpFlag.TEXT_REF:
            found.setdefault(decode_blob_ref(operation.text)[0], set()).add(id_)

    for path, data in specimen.contents.items():
        if path.endswith("blobs.arena"):
            for start, end in blob_bounds(data):
                _, length, id_, _ = BLOB.unpack_from(data, start)
                if id_ and end and length >= OP.size:
                    blob = memoryview(data)[start + BLOB.size : start + BLOB.size + length]
                    note(Operation(blob, 0, with_vector=False), id_)
        elif path.endswith(".wal"):
            for start, _ in frame_bounds(data):
                length, id_ = FRAME.unpack_from(data, start)[3], FRAME.unpack_from(data, start)[6]
                for operation in decode_commit(memoryview(data)[start + FRAME.size : start + FRAME.size + length]):
                    note(operation, id_)
                    id_ += operation.kind == OpKind.REMEMBER
    return found


# -- more damage than one byte ------------------------------------------------------------------------------------


def deletions(specimen: Specimen) -> Iterator[Damage]:
    """Each file gone."""
    for path in specimen.contents:
        yield Damage("delete", path, 0)


def several(specimen: Specimen, seed: int) -> tuple[MemoryFileSystem, str]:
    """A store with a few files damaged at once: bytes, runs of bytes, cuts, deletions."""
    pick = random.Random(seed)
    files = specimen.files.clone()
    told = []
    for path in pick.sample(sorted(specimen.contents), pick.randint(2, 5)):
        data = bytearray(specimen.contents[path])
        kind = pick.choice(("byte", "run", "run", "cut", "gone"))
        at = pick.randrange(len(data))
        if path == max(path for path in specimen.contents if path.endswith(".wal")):
            kind = "run"  # a log that ends early may look as if it had never gone on
        told.append(f"{kind} {path} {at}")
        if kind == "gone":
            files.unlink(path)
            continue
        if kind == "byte":
            data[at] ^= pick.randrange(1, 256)
        elif kind == "run":
            length = min(pick.choice((8, 64, 512)), len(data) - at)
            data[at : at + length] = pick.randbytes(length)
        else:
            del data[at:]
        files.write_file(path, bytes(data))
    return files, f"seed {seed}: {told}"
