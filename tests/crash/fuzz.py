"""Fuzzing of every decoder: bytes at random, and bytes that are nearly right, with their checksums put right again.

    python -m tests.crash.fuzz --inputs 10000000 --jobs 2

Coverage is fed back: of one input in sixteen the lines that it reaches in aeon are noted, and one that reaches a new line is
changed further from then on.
A decoder returns, or raises what it documents. Anything else is a finding, printed as a line of Python that shows it again.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import msgpack
import numpy as np

from aeon import manifest as manifests
from aeon.blob_arena import BlobArena, encode_blob
from aeon.engine import Engine
from aeon.errors import AeonError, CorruptionError
from aeon.format import EVENT, FILE_HEADER, FRAME, MANIFEST_HEADER, RECORDS, SEGMENT_HEADER, FileKind
from aeon.generation_files import MappedFile
from aeon.graph import CHANGES, decode_change, encode_archive, encode_branch, encode_link, encode_restore
from aeon.manifest import FileEntry, Manifest
from aeon.operations import decode_blob_ref, decode_commit, decode_extra, encode_extra, encode_forget, encode_remember
from aeon.page_file import decode_pages
from aeon.salience import SALIENCE_NAME, read_salience
from aeon.time_blocks import best_groups, rows_of
from aeon.trace import Event, Names
from aeon.wal import SegmentReader, decode_segment_header, encode_segment_header
from aeon_native import dispatch
from tests.crash.backends import STORE, MemoryFileSystem
from tests.crash.damage import Specimen, make_specimen
from tests.crash.workloads import DIM, short_texts_inline, small_index

UUID = bytes(range(16))
_NUMBERS = (
    0,
    1,
    7,
    8,
    63,
    64,
    127,
    128,
    255,
    256,
    1 << 15,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 62,
    1 << 63,
    (1 << 64) - 1,
)
_BATCH = 2000
_TRACED_SHARE = 1 / 16  # of the inputs: tracing takes some ten times as long
_HANG_SECONDS = 120  # for one batch of some 20 ms


@dataclass
class Target:
    """One decoder: valid inputs, the call, what it may raise, and how to make the checksums of an input right."""

    corpus: list[bytes]
    call: Callable[[bytes], object]
    allowed: tuple[type[BaseException], ...]
    repair: Callable[[bytearray], None] | None = None
    lines: set[tuple[str, int]] = field(default_factory=set)


def _crc(data: Any, seed: int = 0) -> bytes:
    return int(dispatch.kernels.crc32c(bytes(data), seed)).to_bytes(4, "little")


# -- checksums put right ------------------------------------------------------------------------------------------


def _repair_manifest(data: bytearray) -> None:
    size = MANIFEST_HEADER.size
    if len(data) >= size:
        data[12:16] = (len(data) - size).to_bytes(4, "little")
        data[16:20] = _crc(data[size:])
        data[20:24] = _crc(data[:20])


def _repair_segment_header(data: bytearray) -> None:
    if len(data) >= SEGMENT_HEADER.size:
        data[60:64] = _crc(data[:60])


def _repair_frames(data: bytearray) -> None:
    """Of a segment: header, then each frame for as long as they follow each other."""
    _repair_segment_header(data)
    seed = int.from_bytes(data[60:64], "little")
    at = SEGMENT_HEADER.size
    while at + FRAME.size <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 32 : at + 36] = _crc(data[at + FRAME.size : at + FRAME.size + length])
        data[at + 36 : at + 40] = _crc(data[at : at + 36], seed)
        at += FRAME.size + length + (-length % 8)


def _repair_file(data: bytearray) -> None:
    if len(data) >= FILE_HEADER.size:
        data[52:56] = _crc(data[64:])
        data[60:64] = _crc(data[:60])


def _repair_blob(data: bytearray) -> None:
    if len(data) >= 24:
        data[0:4] = _crc(data[4:])


# -- targets ------------------------------------------------------------------------------------------------------


def _read_segment(data: bytes) -> object:
    header = decode_segment_header(data[: SEGMENT_HEADER.size], "segment", UUID, 1)
    reader = SegmentReader(
        memoryview(data), "segment", header, lsn=header.first_lsn, offset=SEGMENT_HEADER.size, is_last=not data[-1] & 1
    )
    for frame in reader:
        try:
            list(decode_commit(frame.payload))
        except ValueError:
            break
    return list(reader.watermarks())


def _read_commit(data: bytes) -> object:
    return [decode_extra(operation.extra) for operation in decode_commit(memoryview(data))]


def _read_changes(data: bytes) -> object:
    return [decode_change(operation) for operation in decode_commit(memoryview(data)) if operation.kind in CHANGES]


def _read_salience(data: bytes) -> object:
    files = MemoryFileSystem()
    files.mkdir(STORE)
    files.write_file(f"{STORE}/{SALIENCE_NAME}", data)
    return read_salience(files, STORE, UUID)


def _read_event(data: bytes) -> object:
    return Event(data.ljust(EVENT.size, b"\0")[: EVENT.size], 0)


class _Mapped:
    path = "blobs"

    def __init__(self, data: bytes) -> None:
        self.data = np.frombuffer(data, np.uint8)


def _read_blob(data: bytes) -> object:
    arena = BlobArena(MemoryFileSystem(), _Mapped(data), "blobs")  # type: ignore[arg-type]
    return arena.view(64, max(0, len(data) - 24), 7)


def _map_file(kind: FileKind) -> Callable[[bytes], object]:
    def call(data: bytes) -> object:
        files = MemoryFileSystem()
        files.mkdir(STORE)
        files.write_file(f"{STORE}/file", data)
        return MappedFile(
            files,
            STORE,
            UUID,
            kind,
            FileEntry("file", len(data), max(0, len(data) - FILE_HEADER.size) // RECORDS[kind].size),
        ).content()

    return call


def _apply(specimen: Specimen) -> Callable[[bytes], object]:
    manifest = manifests.load(specimen.files, STORE)

    def call(data: bytes) -> object:
        engine = Engine(specimen.files, STORE, manifest)
        engine.apply(manifest.lsn + 1, manifest.next_id, memoryview(data))
        index = engine.trace.events.count - 1
        return engine.text(index), engine.extra(index), engine.event(index)

    return call


def _open(specimen: Specimen, path: str, repair: Callable[[bytearray], None]) -> Target:
    def call(data: bytes) -> object:
        return Engine(specimen.damaged(path, data), STORE, manifests.load(specimen.files, STORE)).view

    return Target([specimen.contents[path]], call, (AeonError,), repair)


def _search_along_time(specimen: Specimen, path: str) -> Target:
    """The blocks of time are read when they are first asked for."""
    manifest = manifests.load(specimen.files, STORE)

    def call(data: bytes) -> object:
        engine = Engine(specimen.damaged(path, data), STORE, manifest)
        with small_index():
            blocks = engine.time_blocks.upto(engine.atlas, engine.trace, engine.view.rows)
            return rows_of(blocks, best_groups(blocks, np.ones(DIM, np.float32), 9, None))

    return Target([specimen.contents[path]], call, (CorruptionError,), _repair_file)


def make_targets() -> dict[str, Target]:
    """Every decoder by name."""
    specimen = make_specimen()
    find = {path.rpartition("agent.aeon/")[2]: data for path, data in specimen.contents.items()}
    extras = [
        encode_extra("kitchen", (), None, None, ()),
        encode_extra(
            "garden",
            ("team", "b"),
            "plan",
            msgpack.packb({"topic": "tea", "n": 8, "deep": {"er": [1, 2.5, None]}}),
            (1, 300),
        ),
    ]
    remember = [
        encode_remember(
            role=1,
            flags=flags,
            parent=0,
            timestamp=5,
            extra=extra,
            text=b"a text",
            vector=b"\0\0\x80?" + b"\1\2\3\4" if flags & 1 else b"",
        )
        for flags in (0, 1, 5)
        for extra in extras
    ]
    changes = [
        encode_link([(3, 2), (9, 1)], "causes", 5), encode_link([(9, 2)], "causes", 5, ends=True), encode_archive([1, 3], 9, 5),
        encode_restore([2], 5), encode_branch("aside", 3, "kitchen", 5),
    ]  # fmt: skip
    commits = [
        *remember,
        *changes,
        encode_forget((3).to_bytes(8, "little") * 2, 9),
        b"".join(remember) + encode_forget(bytes(8), 1),
    ]
    header = encode_segment_header(UUID, 1, 5, 9, True)
    segment = bytearray(header)
    for n, commit in enumerate(commits):
        segment += FRAME.pack(0xA3E0, 1, 0, len(commit), 5 + n, 4, 9, 0, 0) + commit + bytes(-len(commit) % 8)
    segment += bytes(64)
    _repair_frames(segment)
    names = msgpack.packb(
        {"sessions": ["kitchen", "garden"], "namespaces": [[], ["team", "b"]], "fields": ["topic", "n"]}
    )
    manifest = Manifest(
        UUID, 4, "int8", "", 5, 1, 7, 9, 3, {FileKind.BLOBS: FileEntry("gen-000001/blobs.arena", 64, 0)}
    )
    blob = encode_blob(remember[1], 7, 3) + remember[1]
    pages = [data[FILE_HEADER.size :] for path, data in find.items() if path.endswith("pages.tbl")]
    salience = bytearray(find["SALIENCE"])
    salience[16:32] = UUID
    _repair_file(salience)
    targets = {
        "manifest": Target(
            [find["MANIFEST"], manifests.encode(manifest)],
            lambda d: manifests.decode(d, "MANIFEST"),
            (AeonError,),
            _repair_manifest,
        ),
        "segment header": Target(
            [header], lambda d: decode_segment_header(d, "segment", UUID, 1), (CorruptionError,), _repair_segment_header
        ),
        "segment": Target([bytes(segment)], _read_segment, (CorruptionError,), _repair_frames),
        "commit": Target(commits, _read_commit, (ValueError,)),
        "change": Target(changes, _read_changes, (ValueError,)),
        "salience": Target([bytes(salience)], _read_salience, (CorruptionError,), _repair_file),
        "extra": Target(extras, decode_extra, (ValueError,)),
        "blob reference": Target([bytes(16)], lambda d: decode_blob_ref(memoryview(d)), (ValueError,)),
        "blob": Target([blob], _read_blob, (CorruptionError,), _repair_blob),
        "event": Target([find["gen-000001/events.arena"][64:192]], _read_event, ()),
        "names": Target([names], lambda d: Names(d, "names"), (CorruptionError,)),
        "apply": Target(commits, _apply(specimen), (ValueError, CorruptionError)),
    }
    for kind in (kind for kind in RECORDS if FileKind.EVENT_DEATHS <= kind != FileKind.SALIENCE):
        name = kind.name.lower().replace("_", "-")
        table = bytearray(find[f"gen-000002/{name}.tbl"])
        table[16:32] = UUID
        _repair_file(table)
        targets[f"table {name}"] = Target([bytes(table)], _map_file(kind), (CorruptionError,), _repair_file)
    if pages:  # the NumPy twins make none
        targets["pages"] = Target(pages, lambda d: decode_pages(np.frombuffer(d, np.uint8)), (ValueError,))
    for name in ("gen-000001/codes.arena", "gen-000001/events.arena", "gen-000001/rows.arena", "gen-000002/keys.tbl"):
        targets[f"open {name}"] = _open(specimen, f"{STORE}/{name}", _repair_file)
    targets["open time-blocks.tbl"] = _search_along_time(specimen, f"{STORE}/gen-000002/time-blocks.tbl")
    return targets


WEIGHTS = {"apply": 0.1, "segment": 0.5, "pages": 0.3}  # the slow ones get fewer inputs; "open" ones a hundredth


# -- mutations ----------------------------------------------------------------------------------------------------


def mutate(data: bytes, corpus: list[bytes], pick: random.Random) -> bytearray:
    """A changed copy: a few of flips, numbers at boundaries, cuts, repeats, insertions, splices; sometimes all random."""
    if pick.random() < 0.02:
        return bytearray(pick.randbytes(pick.randint(0, 80)))
    made = bytearray(data)
    for _ in range(pick.choice((1, 1, 1, 2, 3, 6))):
        kind, at = pick.randrange(8), pick.randrange(len(made)) if made else 0
        if kind == 0 and made:
            made[at] ^= 1 << pick.randrange(8)
        elif kind == 1 and made:
            made[at] = pick.randrange(256)
        elif kind == 2 and made:
            width = pick.choice((1, 2, 4, 8))
            at -= at % width
            number = pick.choice(_NUMBERS) + pick.choice((-1, 0, 0, 1))
            made[at : at + width] = (number & (1 << 8 * width) - 1).to_bytes(width, "little")
        elif kind == 3:
            del made[at:]
        elif kind == 4:
            del made[at : at + pick.randint(1, 8)]
        elif kind == 5:
            made[at:at] = pick.randbytes(pick.randint(1, 8))
        elif kind == 6:
            made[at:at] = made[at : at + pick.randint(1, 40)]
        else:
            other = pick.choice(corpus)
            made[at:] = other[pick.randrange(len(other)) if other else 0 :]
    return made


def _call_traced(target: Target, data: bytes) -> None:
    """Call the decoder; keep the input if it reaches a line of aeon that none before it has reached."""
    reached: set[tuple[str, int]] = set()

    def note(frame: FrameType, event: str, argument: Any) -> Any:
        if "/aeon/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        target.call(data)
    finally:
        sys.settrace(before)
        if not reached <= target.lines:
            target.lines |= reached
            target.corpus.append(data)


def fuzz(target: Target, inputs: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Give a decoder so many inputs; (how often it returned or raised what, findings)."""
    pick = random.Random(seed)
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    for _ in range(inputs):
        data = mutate(pick.choice(target.corpus), target.corpus, pick)
        if target.repair is not None and pick.random() < 0.7:
            target.repair(data)
        try:
            if pick.random() < _TRACED_SHARE:
                _call_traced(target, bytes(data))
            else:
                target.call(bytes(data))
            outcomes["returned"] += 1
        except target.allowed as error:
            outcomes[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            outcomes[f"! {type(error).__name__}"] += 1
            if len(findings) < 20:
                findings.append(f"{type(error).__name__}: {error}: {bytes(data)!r}")
    return outcomes, findings


_targets: dict[str, Target] = {}


def _start() -> None:
    dispatch.start()
    dispatch.wait()
    with short_texts_inline(), small_index():
        _targets.update(make_targets())


def _run(task: tuple[str, int]) -> tuple[str, Counter[str], list[str]]:
    name, seed = task
    faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
    found = fuzz(_targets[name], _BATCH, seed)
    faulthandler.cancel_dump_traceback_later()
    return (name, *found)


def main(arguments: list[str] | None = None) -> int:
    """Fuzz everything; 0 if there is no finding."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="decoders whose name begins so")
    chosen = parser.parse_args(arguments)
    _start()
    names = [name for name in _targets if name.startswith(chosen.only)]
    weights = [
        WEIGHTS.get(name, 0.01 if name.startswith("open gen") else 0.1 if name.startswith("table") else 1.0)
        for name in names
    ]
    batches = -(-chosen.inputs // _BATCH)
    tasks = [
        (name, chosen.seed + (at << 8) + n)
        for at, name in enumerate(names)
        for n in range(max(1, round(batches * weights[at] / sum(weights))))
    ]
    random.Random(chosen.seed).shuffle(tasks)
    begin, total = time.perf_counter(), 0
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    findings: dict[str, list[str]] = {name: [] for name in names}
    with multiprocessing.get_context("spawn").Pool(chosen.jobs, _start) as pool:
        for done, (name, outcome, found) in enumerate(pool.imap_unordered(_run, tasks), 1):
            outcomes[name].update(outcome)
            findings[name] += found
            total += sum(outcome.values())
            if done % 200 == 0:
                rate = total / (time.perf_counter() - begin)
                print(
                    f"{total:,} inputs, {rate:,.0f} a second, {sum(map(len, findings.values()))} findings",
                    file=sys.stderr,
                    flush=True,
                )
    for name, outcome in outcomes.items():
        print(f"| {name} | {sum(outcome.values()):,} | {dict(outcome)} |")
        for finding in sorted(findings[name], key=len)[:5]:
            print(f"  FOUND {finding}")
    count = sum(map(len, findings.values()))
    print(f"{total:,} inputs in {time.perf_counter() - begin:.0f} s, {count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
