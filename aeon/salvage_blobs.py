"""Whole blobs of a damaged blob file, wherever they stand, and what the whole events tell of them.

A blob names its memory and its commit under one checksum, so each is taken by itself. Events are only asked where a damaged
blob ends, and which of two blobs of one memory is the one that counts.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aeon.format import (
    BLOB,
    BLOB_ALIGNMENT,
    EVENT,
    OP,
    ROLES,
    SUPERSEDED,
    FileKind,
    OpKind,
    data_offset,
    padded,
)
from aeon.graph import CHANGES
from aeon.operations import Operation
from aeon.results import Problem, Progress
from aeon.salvage_files import Arenas
from aeon.salvage_identity import Identity
from aeon.trace import event_checksums
from aeon_native import dispatch

_TELL_EVERY = 4096  # blobs


class Salvaged:
    """One memory that was found whole.

    Attributes
    ----------
    blob : the operation as it stands in the blob file, without the vector. lsn : its commit.
    death : as in DEATH. codes : the vector's bytes, or None. scale : what goes with them.
    offset : where its blob stands, -1 in the log.
    """

    __slots__ = ("blob", "codes", "death", "id", "lsn", "offset", "scale")

    def __init__(self, id_: int, lsn: int, blob: memoryview, offset: int = -1) -> None:
        self.id, self.lsn, self.blob, self.offset = id_, lsn, blob, offset
        self.death = 0
        self.codes: bytes | NDArray[np.uint8] | None = None
        self.scale = 1.0

    @property
    def operation(self) -> Operation:
        """The operation, decoded."""
        return Operation(self.blob, 0, with_vector=False)

    @property
    def is_readable(self) -> bool:
        """Whether `get` would show it: current, or replaced by a newer version."""
        return not 0 < self.death < SUPERSEDED


@dataclass(frozen=True)
class Damage:
    """Bytes of the blob file that hold no whole blob."""

    offset: int
    end: int


@dataclass
class Events:
    """What the whole events of a generation tell.

    Attributes
    ----------
    ids : uint64[n], by index; 0 = not known.
    offsets, rows : where a memory's blob stands, and which row holds its vector (-1 = none), by id.
    ends : where a blob ends, by its offset.
    notes : each damaged event.
    """

    ids: NDArray[np.uint64]
    offsets: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)

    def fill_in(self, known: Iterable[int]) -> None:
        """Give damaged events the ids of `known` that lie between their neighbours', where the numbers agree."""
        ids = self.ids
        unknown = np.flatnonzero(ids == 0)
        at = 0
        candidates = np.array(sorted(set(known)), np.uint64)
        while at < len(unknown):  # a run of damaged events: as many memories as are known between their neighbours
            first = last = int(unknown[at])
            while at + 1 < len(unknown) and unknown[at + 1] == last + 1:
                at, last = at + 1, last + 1
            at += 1
            low = int(ids[first - 1]) if first else 0
            high = int(ids[last + 1]) if last + 1 < len(ids) else 1 << 63
            between = candidates[(candidates > low) & (candidates < high)]
            if len(between) == last - first + 1:
                ids[first : last + 1] = between

    def explain(self, damage: Damage) -> bool:
        """Whether the damage lies within blobs of memories, and nothing else."""
        at = damage.offset
        while at < damage.end and at in self.ends:
            at = padded(self.ends[at], BLOB_ALIGNMENT)
        return at >= damage.end


def read_events(store: Identity, arenas: Arenas) -> Events:
    """Read every whole event."""
    data, entry = arenas.records[FileKind.EVENTS], store.manifest.files.get(FileKind.EVENTS)
    records = data[: len(data) // EVENT.size * EVENT.size].view(EVENT.dtype)
    count = max(entry.count if entry else 0, len(records)) if store.has_manifest else len(records)
    found = Events(np.zeros(count, np.uint64))
    good = event_checksums(records) == records["crc"] if len(records) else np.zeros(0, bool)
    whole = records[good]
    # Two whole events that changed places: ids increase, so the places tell which is whose.
    found.ids[np.flatnonzero(good)] = np.sort(whole["id"])
    for id_, offset, size, row in zip(
        whole["id"].tolist(), whole["blob_offset"].tolist(), whole["blob_bytes"].tolist(), whole["row"].tolist(),
        strict=True,
    ):  # fmt: skip
        found.offsets[id_], found.rows[id_] = offset, row - 1
        found.ends[offset] = offset + BLOB.size + size
    path, start = store.path(FileKind.EVENTS), data_offset(FileKind.EVENTS)
    for index in np.flatnonzero(~good).tolist():
        found.notes.append(Problem(path, start + index * EVENT.size, "a damaged event"))
    return found


@dataclass
class Blobs:
    """What the blob file holds.

    Attributes
    ----------
    memories : whole ones, by id. looked_for : ids of those that were found by looking through damaged bytes.
    changes : (LSN, operation) of links, archives and branches. tombstones : (LSN, ids) of what was forgotten.
    damages : where no whole blob stands, in order.
    """

    memories: dict[int, Salvaged] = field(default_factory=dict)
    looked_for: set[int] = field(default_factory=set)
    changes: list[tuple[int, bytes]] = field(default_factory=list)
    tombstones: list[tuple[int, list[int]]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)


def read_blobs(store: Identity, arenas: Arenas, events: Events, progress: Progress) -> Blobs:
    """Read every whole blob; behind damage the next one is looked for."""
    return _BlobReader(store, arenas, events).read(progress)


class _BlobReader:
    """Offsets here are those of the records: the file's, less what stands before them (`_start`)."""

    def __init__(self, store: Identity, arenas: Arenas, events: Events) -> None:
        self._store, self._events = store, events
        self._data = memoryview(arenas.records[FileKind.BLOBS])  # type: ignore[arg-type]
        self._start = data_offset(FileKind.BLOBS)
        self._known_offsets = sorted(events.ends)
        self.found = Blobs()

    def read(self, progress: Progress) -> Blobs:
        data, start, damages = self._data, self._start, self.found.damages
        at, count, looked_for = 0, 0, False
        while at < len(data):
            count += 1
            if count % _TELL_EVERY == 0:
                progress("blobs", at, len(data))
            found = _blob_at(data, at)
            if found is None:
                end, looked_for = self._behind_damage(at)
                damages.append(Damage(start + at, start + end))
                at = end
                continue
            id_, lsn, end = found
            self._note(id_, lsn, at, end, looked_for)
            looked_for = False
            at = padded(end, BLOB_ALIGNMENT)
        entry = self._store.manifest.files.get(FileKind.BLOBS)
        if entry is not None and start + len(data) < entry.bytes:
            damages.append(Damage(start + len(data), entry.bytes))
        return self.found

    def _note(self, id_: int, lsn: int, at: int, end: int, looked_for: bool) -> None:
        """Keep a whole blob. Texts by reference have neither id nor LSN: whoever refers to one finds it."""
        found, blob, offset = self.found, self._data[at + BLOB.size : end], self._start + at
        if id_:
            told = self._events.offsets.get(id_) == offset  # the event says that it stands here
            if looked_for and not told:
                found.looked_for.add(id_)
            if id_ not in found.memories or told:
                found.memories[id_] = Salvaged(id_, lsn, blob, offset)
        elif lsn:
            operation = Operation(blob, 0, with_vector=False)
            if operation.kind == OpKind.FORGET:
                found.tombstones.append((lsn, np.frombuffer(operation.text, "<u8").tolist()))
            else:
                found.changes.append((lsn, bytes(blob)))

    def _behind_damage(self, at: int) -> tuple[int, bool]:
        """Where the next blob begins, and whether it had to be looked for."""
        data, start = self._data, self._start
        following = bisect.bisect_right(self._known_offsets, start + at)
        bound = len(data)
        if following < len(self._known_offsets):
            bound = min(bound, self._known_offsets[following] - start)
        hints = [self._events.ends.get(start + at, 0) - start]  # what the event says, then what the blob's header says
        if len(data) - at >= BLOB.size:
            hints.append(at + BLOB.size + BLOB.unpack_from(data, at)[1])
        for hint in hints:
            end = padded(hint, BLOB_ALIGNMENT)
            if at < end <= bound and (end == bound or _blob_at(data, end) is not None):
                return end, False
        words = np.frombuffer(data[at : at + (bound - at) // 8 * 8], "<u8")
        if len(words) >= 3:
            manifest = self._store.manifest
            lengths = words[:-2] >> np.uint64(32)
            likely = (lengths > 0) & (lengths <= np.uint64(len(data) - at))
            if self._store.has_manifest:
                likely &= (words[1:-1] < np.uint64(manifest.next_id)) & (words[2:] <= np.uint64(manifest.lsn))
            for place in np.flatnonzero(likely[1:]) + 1:
                if _blob_at(data, at + 8 * int(place)) is not None:
                    return at + 8 * int(place), True
        return bound, False


def _blob_at(data: memoryview, at: int) -> tuple[int, int, int] | None:
    """(id, LSN, end) of a whole blob at `at`."""
    if len(data) - at < BLOB.size:
        return None
    crc, length, id_, lsn = BLOB.unpack_from(data, at)
    end = at + BLOB.size + length
    if not length or end > len(data) or not _is_plausible(data, at, length, id_, lsn):
        return None
    return (id_, lsn, end) if dispatch.kernels.crc32c(data[at + 4 : end]) == crc else None


def _is_plausible(data: memoryview, at: int, length: int, id_: int, lsn: int) -> bool:
    """Whether lengths fit together, before a checksum is spent on them."""
    if not id_ and not lsn:
        return True  # a text
    if length < OP.size:
        return False
    kind, role, _, _, extra, text, *_ = OP.unpack_from(data, at + BLOB.size)
    if OP.size + extra + text != length:
        return False
    if id_:
        return bool(kind == OpKind.REMEMBER and 1 <= role <= len(ROLES))
    return bool(kind == OpKind.FORGET or kind in CHANGES)
