"""Family I: damage of every byte of every file, every truncation, and neighbouring records swapped.

The store opens or raises CorruptionError; whatever it then answers is right, or raises CorruptionError. A byte whose damage
nobody notices (open, reading everything, `check`) must be declared padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aeon.errors import CorruptionError, NotFoundError
from aeon.format import (
    BLOB,
    BLOB_ALIGNMENT,
    CODE_DATA_OFFSET,
    FILE_HEADER,
    FRAME,
    FRAME_ALIGNMENT,
    RECORDS,
    SEGMENT_HEADER,
    FileKind,
    padded,
)
from aeon.store import Store
from tests.crash.backends import MemoryFileSystem
from tests.crash.workloads import (
    DIM,
    KEYS,
    Runner,
    State,
    Step,
    Text,
    Workload,
    open_store,
    plan,
)

_SEARCHED = ("pages.tbl", "codes.arena", "rows.arena", "row-deaths.tbl")  # what a search through the page index reads


@dataclass(frozen=True)
class Damage:
    """One piece of damage: what was done, to which file, where."""

    kind: str  # "xor 01", "xor FF", "truncate", "swap"
    path: str
    offset: int


@dataclass
class Specimen:
    """A small store that has every kind of file, and commits that only the log holds."""

    files: MemoryFileSystem
    workload: Workload
    states: list[State]
    contents: dict[str, bytes] = field(default_factory=dict)
    accesses: dict[int, tuple[int, int | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.contents = {path: data for path, data in self.files.contents() if not path.endswith("/")}
        with open_store(self.files.clone(), self.workload) as store:
            self.accesses = {id_: store.trace.accesses(id_) for id_ in self.states[-1].memories}

    def damaged(self, path: str, data: bytes) -> MemoryFileSystem:
        """A copy of the store with one file replaced."""
        files = self.files.clone()
        files.write_file(path, data)
        return files


def make_specimen(rows: str = "int8") -> Specimen:
    """A store of some 14 KB: two checkpoints, keys, refs, links, forgotten and replaced memories, a long text, a log."""

    def text(words: str, n: int, **more: Any) -> Text:
        vector = tuple(float((n * 7 + d * 3) % 11 - 5) + 0.25 for d in range(DIM))
        return Text(
            words, ("kitchen", "garden", "cellar")[n % 3], "user", 1_700_000_000_000_000 + n, vector=vector, **more
        )

    steps = [
        Step("many", tuple(text(f"turn {n}", n) for n in range(1, 8))),
        Step("remember", (text("the plan", 8, key="plan", metadata={"topic": "tea", "n": 8}),)),
        Step("remember", (text("refers to two", 9, refs=(1, 3), parent=2),)),
        Step("remember", (text("long " * 100, 10, metadata={"topic": "rain"}),)),
        Step("link", ids=(9, 2, 3), topic="causes"),
        Step("link", ids=(1, 9), topic="echoes"),
        Step("archive", ids=(2, 10)),
        Step("branch", ids=(3,), topic="branch 0"),
        Step("checkpoint"),
        Step("unlink", ids=(9, 3), topic="causes"),
        Step("restore", ids=(10,)),
        Step("ask"),
        Step("remember", (text("a better plan", 11, key="plan"),)),
        Step("forget", ids=(4,)),
        Step("remember", (Text("no vector 漢字", "cellar", "assistant", 5),)),
        Step("checkpoint"),
        Step("remember", (text("only in the log", 12, refs=(9,)),)),
        Step("link", ids=(13, 1), topic="contradicts"),
        Step("archive", ids=(8,)),
        Step("remember", (text("the best plan", 13, key="plan"),)),
        Step("remember", (text("long too " * 50, 14),)),
        Step("forget", ids=(5,)),  # two in a row: nothing but their LSNs tells which came first
        Step("forget", ids=(6,)),
        *(Step("remember", (text(f"fills the segment {n} " * 9, n),)) for n in range(16, 20)),
        Step("remember", (text("the last", 15, key="mood"),)),
    ]
    settings = {"segment_bytes_max": 1024, "segment_growth_bytes": 512, "checkpoint_log_bytes": 0}
    workload = Workload("specimen", 0, "full", rows, settings, tuple(steps))
    files = MemoryFileSystem()
    runner = Runner(workload, files)
    runner.run()
    assert runner.store is not None
    runner.store.close()
    return Specimen(files, workload, plan(workload))


# -- what is declared padding -------------------------------------------------------------------------------------


def declared_padding(path: str, data: bytes) -> set[int]:
    """Offsets in a file that hold nothing: zeros between records, whose damage changes nothing."""
    if path.endswith(".wal"):
        return _frame_padding(data)
    if path.endswith("codes.arena"):
        return set(range(FILE_HEADER.size, CODE_DATA_OFFSET))
    if path.endswith("blobs.arena"):
        return _blob_padding(data)
    return set()


def _frame_padding(data: bytes) -> set[int]:
    found: set[int] = set()
    for start, end in frame_bounds(data):
        length = FRAME.unpack_from(data, start)[3]
        found.update(range(start + FRAME.size + length, end))
    return found


def frame_bounds(data: bytes) -> list[tuple[int, int]]:
    """(offset, end) of each frame of an undamaged segment."""
    bounds, at = [], SEGMENT_HEADER.size
    while at + FRAME.size <= len(data) and any(data[at : at + FRAME.size]):
        end = padded(at + FRAME.size + FRAME.unpack_from(data, at)[3], FRAME_ALIGNMENT)
        bounds.append((at, end))
        at = end
    return bounds


def _blob_padding(data: bytes) -> set[int]:
    found: set[int] = set()
    for start, end in blob_bounds(data):
        found.update(range(start + BLOB.size + BLOB.unpack_from(data, start)[1], end))
    return found


def blob_bounds(data: bytes) -> list[tuple[int, int]]:
    """(offset, end) of each blob of an undamaged blob file."""
    bounds, at = [], FILE_HEADER.size
    while at < len(data):
        end = padded(at + BLOB.size + BLOB.unpack_from(data, at)[1], BLOB_ALIGNMENT)
        bounds.append((at, end))
        at = end
    return bounds


# -- making damage ------------------------------------------------------------------------------------------------


def flips(specimen: Specimen, step: int = 1, first: int = 0) -> Iterator[tuple[Damage, bytes]]:
    """Every `step`-th byte, both flips."""
    for path, data in specimen.contents.items():
        for offset in range(first % step, len(data), step):
            for mask, kind in ((0x01, "xor 01"), (0xFF, "xor FF")):
                changed = bytearray(data)
                changed[offset] ^= mask
                yield Damage(kind, path, offset), bytes(changed)


def truncations(specimen: Specimen, step: int = 1, first: int = 0) -> Iterator[tuple[Damage, bytes]]:
    """Every `step`-th shorter length of every file."""
    for path, data in specimen.contents.items():
        for length in range(first % step, len(data), step):
            yield Damage("truncate", path, length), data[:length]


def swaps(specimen: Specimen) -> Iterator[tuple[Damage, bytes]]:
    """Neighbouring frames, blobs and records, exchanged."""
    for path, data in specimen.contents.items():
        for (first, middle), (start, end) in _neighbours(path, data):
            if data[first:middle] != data[start:end]:
                yield Damage("swap", path, first), data[:first] + data[start:end] + data[first:middle] + data[end:]


def _neighbours(path: str, data: bytes) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    if path.endswith(".wal"):
        bounds = frame_bounds(data)
    elif path.endswith("blobs.arena"):
        bounds = blob_bounds(data)
    elif "/gen-" in path:
        kind = FileKind[path.rpartition("/")[2].rpartition(".")[0].upper().replace("-", "_")]
        start = CODE_DATA_OFFSET if kind == FileKind.CODES else FILE_HEADER.size
        width = 64 if kind == FileKind.CODES else RECORDS[kind].size if kind in RECORDS else 8
        bounds = [(at, at + width) for at in range(start, len(data) - width + 1, width)]
    else:
        return []
    return list(itertools.pairwise(bounds))


# -- judging ------------------------------------------------------------------------------------------------------


@dataclass
class Findings:
    """What came of damage: counted by outcome; `unnoticed` names each byte that nobody missed; `violations` must be empty."""

    tested: int = 0
    refused: int = 0
    reported: int = 0
    unnoticed: list[Damage] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def judge_damage(specimen: Specimen, damage: Damage, data: bytes, findings: Findings) -> None:
    """Open the damaged store, ask it everything, and note what happened."""
    findings.tested += 1
    files = specimen.damaged(damage.path, data)
    try:
        at_boundary = damage.kind == "truncate" and _may_drop(specimen, damage)
        at_boundary = at_boundary and _ends_with_a_frame(specimen.contents[damage.path], damage.offset)
        noticed = _ask_everything(
            specimen, files, at_boundary, _may_drop(specimen, damage), damage.path.endswith(_SEARCHED)
        )
    except CorruptionError:
        findings.refused += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        findings.violations.append(f"{damage}: {type(error).__name__}: {error}")
    else:
        if noticed:
            findings.reported += 1
        elif damage.kind == "truncate" or damage.offset not in declared_padding(
            damage.path, specimen.contents[damage.path]
        ):
            if damage.kind != "truncate" or not _is_padding(specimen, damage):
                findings.violations.append(f"{damage}: nobody noticed")
        else:
            findings.unnoticed.append(damage)
    if files.handles or files.locks:
        findings.violations.append(f"{damage}: left open {[file.path for file in files.handles]} {list(files.locks)}")


def _is_padding(specimen: Specimen, damage: Damage) -> bool:
    """Whether all that a truncation cut off was padding, or space never written to."""
    data = specimen.contents[damage.path]
    padding = declared_padding(damage.path, data)
    end = len(data)
    if damage.path.endswith(".wal"):
        bounds = frame_bounds(data)
        end = bounds[-1][1] if bounds else SEGMENT_HEADER.size
    return all(offset in padding for offset in range(damage.offset, end))


def _ends_with_a_frame(data: bytes, length: int) -> bool:
    """Whether a segment cut to `length` bytes ends where a frame does, its padding apart."""
    padding = _frame_padding(data)
    ends = {SEGMENT_HEADER.size, *(end for _, end in frame_bounds(data))}
    return any(end >= length and all(offset in padding for offset in range(length, end)) for end in ends)


def _may_drop(specimen: Specimen, damage: Damage) -> bool:
    """Whether the damage may cost a commit: a cut, or damage of the newest frame, which nothing later vouches for."""
    if not damage.path.endswith(".wal"):
        return False
    if damage.path != max(path for path in specimen.contents if path.endswith(".wal")):
        return False  # the segment after it says that it was synced whole
    bounds = frame_bounds(specimen.contents[damage.path])
    return damage.kind == "truncate" or (bool(bounds) and damage.offset >= bounds[-1][0])


def _ask_everything(
    specimen: Specimen, files: MemoryFileSystem, at_boundary: bool, may_drop: bool, through_index: bool
) -> bool:
    """Whether the damage was noticed; AssertionError for a wrong answer, CorruptionError if the store does not open."""
    newest = len(specimen.states) - 1
    with open_store(files, specimen.workload) as store:
        lsn = store.lsn
        noticed = bool(store.recovery.reason)
        # A log cut off exactly where a frame ends cannot be told from one that never went on: that alone may go unsaid.
        assert lsn == newest or (0 < lsn < newest and (noticed or at_boundary)), (
            f"LSN {lsn} without a word; {store.recovery}"
        )
        assert lsn == newest or may_drop, (
            f"a commit that a later frame proves to have been on disk was dropped; {store.recovery}"
        )
        ok = store.check().ok
        counts = {id_: store.trace.accesses(id_) for id_ in specimen.accesses if id_ in specimen.states[lsn].memories}
        if counts != {id_: specimen.accesses[id_] for id_ in counts}:
            assert not ok, "how often memories were recalled is wrong, without a word"
            assert not any(count for count, _ in counts.values()), "damaged counts count for none"
        noticed |= wrong_answers(store, specimen.states[lsn], through_index=through_index)
        noticed |= not ok
    return noticed or lsn < newest


def wrong_answers(store: Store, state: State, *, through_index: bool = True) -> bool:
    """Ask a store everything: each answer is right (else AssertionError) or refused; whether any was refused."""
    refused = False

    def ask(what: str, question: Callable[[], Any], expected: Any) -> None:
        nonlocal refused
        try:
            found = question()
        except CorruptionError:
            refused = True
        else:
            assert found == expected, f"{what}: {found}, expected {expected}"

    def memory(id_: int) -> Any:
        try:
            found = store.get(id_)
        except NotFoundError:
            return None
        vector = found.vector
        return (
            found.text, found.session, found.role, found.timestamp, found.namespace, found.key, found.metadata, found.refs,
            found.parent, None if vector is None else vector.tobytes(),
        )  # fmt: skip

    for id_ in range(1, state.next_id + 2):
        ask(f"memory {id_}", lambda id_=id_: memory(id_), state.memories.get(id_))
        ask(f"preview {id_}", lambda id_=id_: preview(store, id_), expected_preview(state, id_))
    for session, ids in state.history.items():
        ask(f"history of {session}", lambda s=session: tuple(m.id for m in store.history(s, None)), ids)
    ask(
        "sessions",
        lambda: {info.name: info.count for info in store.sessions()},
        {name: count for name, count in state.counts.items() if count},
    )
    for namespace, key in KEYS:
        found = state.keys.get((namespace, key))
        ask(f"key {key}", lambda k=key, n=namespace: getattr(store.get_key(k, n), "id", None), found)
    everything = len(state.searchable) + 3
    ask("search", lambda: reached(store, everything), state.searchable)
    ask(
        "where",
        lambda: {hit.id for hit in store.recall([1.0] * DIM, 9, where={"topic": "tea"})},
        with_topic(state, "tea"),
    )
    if through_index:
        ask("search through pages", lambda: unlike_exact(store, state), [])
    ask(
        "search along time",
        lambda: {hit.id for hit in store.trace.search([1.0] * DIM, everything, probes=2)},
        state.searchable,
    )
    ask("count", lambda: len(store), sum(state.counts.values()))
    for kind in {kind for _, _, kind in state.links}:
        for id_ in state.memories:
            leave = {dst for src, dst, name in state.links if src == id_ and name == kind}
            ask(f"{kind} of {id_}", lambda i=id_, k=kind: {e.dst for e in store.trace.neighbours(i, k, "out")}, leave)
            reach = {src for src, dst, name in state.links if dst == id_ and name == kind}
            ask(f"{kind} to {id_}", lambda i=id_, k=kind: {e.src for e in store.trace.neighbours(i, k, "in")}, reach)
    for id_ in state.memories:
        ask(f"archived {id_}", lambda i=id_: store.trace.is_archived(i), id_ in state.archived)
    return refused


def preview(store: Store, id_: int) -> str | None:
    """The preview of a memory, or None if there is none."""
    try:
        return store.get(id_).preview
    except NotFoundError:
        return None


def expected_preview(state: State, id_: int) -> str | None:
    """What the preview must be."""
    text = state.memories.get(id_)
    return None if text is None else text[0].encode()[:64].decode("utf-8", "ignore")


def reached(store: Store, count: int) -> frozenset[int]:
    """Ids that a vector search for more than there are returns."""
    ids, _ = store.atlas.search([1.0] * DIM, count)
    return frozenset(int(id_) for id_ in ids[0] if id_)


def unlike_exact(store: Store, state: State) -> list[tuple[int, float]]:
    """Hits of searches through the page index, if there is one, that are not what the memories' vectors give."""
    store.atlas.settle()
    wrong = []
    for id_ in sorted(state.searchable)[::4]:
        vector = np.frombuffer(state.memories[id_][9], np.float32)
        ids, scores = store.atlas.search(vector, 2)
        for found, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True):
            if found and found not in state.searchable:
                wrong.append((found, score))
            elif found:
                kept = np.frombuffer(state.memories[found][9], np.float32).astype(np.float64)
                if abs(float(kept @ vector) / float(np.linalg.norm(vector)) - score) > 1e-3:
                    wrong.append((found, score))
    return wrong


def with_topic(state: State, topic: str) -> set[int]:
    """Current memories with a vector and this topic."""
    return {id_ for id_ in state.searchable if state.memories[id_][6].get("topic") == topic}
