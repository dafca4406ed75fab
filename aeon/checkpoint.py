"""Writing a generation: what is in memory and in the log goes into files, beside writers and readers that go on.

A checkpoint appends what is new to the arena files; a compaction writes new ones that hold only what can still be read.
Both write from a `Frozen` engine, a chunk at a time, and take no lock. Order of writes and syncs; a power cut at any point
leaves the old generation and its log, or the new one:
  1. the log is synced up to the frozen LSN (aeon.upkeep)
  2. arena files: behind the bytes that count, or new ones in the generation's own directory; each is synced
  3. the tables of the new generation, in its own directory; each is synced, then the directory, then the root
  4. the MANIFEST is replaced (aeon.upkeep): from here on the new generation counts
  5. files of the old generation and the log before the new one's position are deleted
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.blob_arena import blob_padding, encode_blob, encode_blob_ref
from aeon.engine import Engine, Frozen, deaths_in
from aeon.errors import CorruptionError
from aeon.files import Buffer, FileSystem, zeros
from aeon.format import (
    BLOB,
    BLOB_ALIGNMENT,
    BLOB_REF,
    DEATH,
    EVENT,
    POSTING,
    ROW,
    SESSION,
    SUPERSEDED,
    FileKind,
    OpFlag,
    data_offset,
    generation_name,
)
from aeon.generation_files import ArenaWriter, write_table
from aeon.graph import operations_of
from aeon.manifest import FileEntry, Manifest
from aeon.operations import encode_forget
from aeon.page_memory import Snapshot
from aeon.rows import row_checksums
from aeon.trace import Names, event_checksums
from aeon.wal import LogPosition
from aeon_native import dispatch

# Sizes of one piece of work between two pauses: some hundred microseconds for which readers may have to wait.
CHUNK_EVENTS = 2048  # events that are read, renumbered and written together
_COPY_BYTES = 1 << 18  # blobs copied together
_SLICE_OPERATIONS = 8  # operations encoded

_ALWAYS = (FileKind.EDGES, FileKind.REVERSE)  # of the graph's tables: the others only if there is something in them

Pause = Callable[[], None]
Indexes = NDArray[np.int64]


def next_generation(files: FileSystem, root: str, engine: Engine, *, compacting: bool) -> int:
    """Number of the generation to write; a compaction leaves alone the file that texts were written ahead into."""
    number = engine.manifest.generation + 1
    return number + (compacting and not engine.manifest.files and engine.blobs.ahead_end > 0)


def write_generation(
    files: FileSystem,
    root: str,
    frozen: Frozen,
    position: LogPosition,
    *,
    compacting: bool = False,
    purging: bool = False,
    pause: Pause = lambda: None,
) -> Manifest:
    """Write steps 2 and 3 for what `frozen` shows, and return the MANIFEST that makes it count.

    position : where the log goes on after `frozen`. compacting : new arena files, without what was forgotten.
    purging : the names of metadata fields that no memory has any more go, too.
    pause : called some thousand times a second; may raise to give up.

    Memories that were forgotten before they ever reached a generation are left out: their bytes go with the log.
    NoSpaceError before anything was written to a file that has no room.
    """
    engine = frozen.view.engine
    generation = next_generation(files, root, engine, compacting=compacting)
    directory = f"{root}/{generation_name(generation)}"
    if not files.exists(directory):
        files.mkdir(directory)
    writer = _Writer(files, root, frozen, generation, compacting, pause)
    arena = writer.write_arena()
    tables = writer.write_tables(purging)
    files.fsync_dir(directory)
    files.fsync_dir(root)
    return replace(
        engine.manifest, generation=generation, lsn=frozen.view.lsn, next_id=frozen.next_id, segment=position.segment,
        offset=position.offset, history_from=writer.history_from, files={**arena, **tables},
    )  # fmt: skip


def write_ahead(files: FileSystem, root: str, engine: Engine, text: bytes) -> bytes:
    """Write a long text to the arena and sync it, before a commit refers to it; return the BLOB_REF."""
    manifest = engine.manifest
    generation = manifest.generation + 1
    entry = manifest.files.get(FileKind.BLOBS)
    directory = f"{root}/{generation_name(generation)}"
    if entry is None and not files.exists(directory):
        files.mkdir(directory)
    with ArenaWriter(
        files, root, manifest.uuid, generation, FileKind.BLOBS, entry, end=engine.blobs.ahead_end
    ) as arena:
        header = encode_blob(text, 0, 0)
        offset = arena.offset
        arena.append([header, text, blob_padding(len(text))])
        # Under "off" too: `flush` syncs the log only, and a frame on disk must find its text.
        arena.sync()
        if entry is None:  # the file is new: its name and its directory's name have to be on disk as well
            files.fsync_dir(directory)
            files.fsync_dir(root)
    engine.blobs.ahead_end = arena.offset
    return encode_blob_ref(offset, len(text), header)


class _Writer:
    """One generation. Holds some 40 bytes a memory (deaths, ids, sessions, new numbers) and one chunk of everything else."""

    def __init__(
        self, files: FileSystem, root: str, frozen: Frozen, generation: int, compacting: bool, pause: Pause
    ) -> None:
        self._files, self._root, self._frozen, self._generation = files, root, frozen, generation
        self._compacting, self._pause = compacting, pause
        view = frozen.view
        self._engine = engine = view.engine
        self._uuid = engine.manifest.uuid
        self._trace, self._atlas, self._blobs = engine.trace, engine.atlas, engine.blobs
        self._deaths = deaths_in(view)
        gone = (self._deaths != 0) & (self._deaths < SUPERSEDED)
        self._base_count = self._trace.events.base_count
        self._first = 0 if compacting else self._base_count  # events before it stand in the files that are appended to
        self._kept: Indexes = self._first + np.flatnonzero(~gone[self._first :])
        self._readable = ~gone
        self.history_from = self._history_from(gone)
        pause()
        self._trace.warm(pause)
        self._sessions, self._namespaces = self._names_in_use()
        self._row_deaths = self._atlas.deaths.field("lsn", view.rows)
        self._row_deaths[self._row_deaths > view.lsn] = 0
        self._first_row = 0 if compacting else self._atlas.codes.base_count
        self._moved = zeros((view.rows,), np.dtype(np.int64))  # rows' new numbers
        self._moved[: self._first_row] = np.arange(self._first_row)
        self._moved[self._first_row :] = -1

    def _history_from(self, gone: NDArray[np.bool_]) -> int:
        """The oldest LSN that can be shown from the new generation.

        Not before the end of what is left out, nor of what had ended twice: a DEATH has one LSN.
        """
        ends = [self._deaths[self._first :][gone[self._first :]]]
        twice = np.array(list(self._trace.superseded_at.copy()), np.int64)
        twice = twice[twice < len(gone)]
        ends.append(self._deaths[twice[gone[twice]]])
        return max(self._engine.manifest.history_from, *(int(end.max(initial=0)) for end in ends))

    def _names_in_use(self) -> tuple[Indexes, Indexes]:
        """Numbers of the sessions and namespaces that the new generation names."""
        lsn = self._frozen.view.lsn
        self._branches = {n: branch for n, branch in self._trace.names.branches.copy().items() if branch[1] <= lsn}
        if not self._compacting:
            return np.arange(self._frozen.sessions), np.arange(self._frozen.namespaces)
        used = [np.zeros(self._frozen.sessions, bool), np.zeros(self._frozen.namespaces, bool)]
        for indexes in self._chunks():
            for mask, field in zip(used, ("session", "namespace"), strict=True):
                mask[self._trace.take(indexes, field)] = True
        self._branches = self._branches_in_use(used[0])
        return np.flatnonzero(used[0]), np.flatnonzero(used[1])

    def _branches_in_use(self, used: NDArray[np.bool_]) -> dict[int, tuple[int, int, int]]:
        """Branches with a trunk that still has memories: they are in the branch's history, whatever it has of its own.

        A trunk without memories is skipped, for the one that it branched off. Marks the sessions in `used`.
        """
        found = {}
        for number, (event, lsn, trunk) in self._branches.items():
            while not used[trunk] and trunk in self._branches:
                event, _, trunk = self._branches[trunk]
            if used[trunk]:
                found[number] = (event, lsn, trunk)
        used[list(found)] = True
        return found

    def _chunks(self) -> Iterator[Indexes]:
        for at in range(0, len(self._kept), CHUNK_EVENTS):
            self._pause()
            yield self._kept[at : at + CHUNK_EVENTS]

    # -- arena files --------------------------------------------------------------------------------------------

    def _open(self, kind: FileKind, record_bytes: int = 0, *, end: int = 0) -> ArenaWriter:
        entry = None if self._compacting else self._engine.manifest.files.get(kind)
        return ArenaWriter(self._files, self._root, self._uuid, self._generation, kind, entry, record_bytes, end=end)

    def write_arena(self) -> dict[FileKind, FileEntry]:
        """Append blobs, codes, rows and events, a chunk of each at a time."""
        ahead_end = 0 if self._compacting else self._blobs.ahead_end
        with (
            self._open(FileKind.BLOBS, end=ahead_end) as blobs,
            self._open(FileKind.CODES, self._atlas.stride) as codes,
            self._open(FileKind.ROWS, ROW.size) as rows,
            self._open(FileKind.EVENTS, EVENT.size) as events,
        ):
            self._reserve(blobs, codes, rows, events)
            self._last = np.zeros(self._frozen.sessions, np.uint64)  # by old session number: its newest event
            if not self._compacting:
                before = self._trace.base_sessions["last_id"]
                self._last[: len(before)] = before
            self._new_session = _numbering(self._sessions, self._frozen.sessions)
            self._new_namespace = _numbering(self._namespaces, self._frozen.namespaces)
            self._session_of: list[NDArray[np.uint32]] = []
            for indexes in self._chunks():
                for part in (indexes[indexes < self._base_count], indexes[indexes >= self._base_count]):
                    if len(part):
                        records = self._trace.events.take(part)
                        self._pause()
                        self._write_rows(records, codes, rows)
                        self._pause()
                        self._write_blobs(part, records, blobs)
                        self._write_events(records, events)
            self._write_changes(blobs)
            self._write_forgotten(blobs)
            writers = {FileKind.BLOBS: blobs, FileKind.CODES: codes, FileKind.ROWS: rows, FileKind.EVENTS: events}
            for writer in writers.values():
                writer.sync()
            return {kind: writer.entry for kind, writer in writers.items()}

    def _reserve(self, blobs: ArenaWriter, codes: ArenaWriter, rows: ArenaWriter, events: ArenaWriter) -> None:
        """Make room for everything, so that a full disk is noticed before anything is written."""
        blob_bytes = with_row = 0
        for indexes in self._chunks():
            sizes = self._trace.take(indexes, "blob_bytes").astype(np.int64) + BLOB.size
            blob_bytes += int((-(-sizes // BLOB_ALIGNMENT) * BLOB_ALIGNMENT).sum())
            with_row += int(np.count_nonzero(self._trace.take(indexes, "row")))
        blobs.reserve(blob_bytes)
        codes.reserve(with_row * self._atlas.stride)
        rows.reserve(with_row * ROW.size)
        events.reserve(len(self._kept) * EVENT.size)

    def _write_rows(self, events: NDArray[Any], codes: ArenaWriter, rows: ArenaWriter) -> None:
        """Append the events' rows, and give the events the indexes the rows have now."""
        with_row = np.flatnonzero(events["row"])
        if not len(with_row):
            return
        old = events["row"][with_row].astype(np.int64) - 1
        atlas, kernels = self._atlas, dispatch.kernels
        moving, records = atlas.codes.take(old), atlas.rows.take(old)
        based = int(np.searchsorted(old, atlas.codes.base_count))
        if based:  # their checksums go along; what is damaged is not spread
            bad = kernels.rows_verify(moving[:based], records[:based])
            if bad >= 0:
                raise atlas.damaged(int(old[bad]))
        if based < len(old):
            records["crc"][based:] = row_checksums(moving[based:], records[based:])
        first = rows.count
        self._moved[old] = first + np.arange(len(old))
        events["row"][with_row] = first + 1 + np.arange(len(old))
        codes.append([moving.reshape(-1)])
        rows.append([records.view(np.uint8)])
        codes.count += len(old)
        rows.count += len(old)

    def _write_events(self, events: NDArray[Any], writer: ArenaWriter) -> None:
        sessions = events["session"].astype(np.int64)
        order = np.argsort(sessions, kind="stable")
        grouped, ids = sessions[order], events["id"][order]
        first = np.diff(grouped, prepend=-1) != 0
        previous = np.empty(len(order), np.uint64)
        previous[1:] = ids[:-1]
        previous[first] = self._last[grouped[first]]
        # A forgotten event is left out, so the chain goes to the one before it.
        events["previous"][order] = previous
        ends = np.flatnonzero(np.append(first[1:], True))
        self._last[grouped[ends]] = ids[ends]
        events["session"] = self._new_session[sessions]
        events["namespace"] = self._new_namespace[events["namespace"]]
        events["crc"] = event_checksums(events)
        self._session_of.append(events["session"].copy())
        writer.append([events.view(np.uint8)])
        writer.count += len(events)

    # -- blobs --------------------------------------------------------------------------------------------------

    def _write_blobs(self, indexes: Indexes, events: NDArray[Any], writer: ArenaWriter) -> None:
        """Append the events' operations, and tell the events where they are now."""
        writer.count += len(events)
        in_base = indexes[0] < self._base_count
        by_reference = np.flatnonzero(events["flags"] & OpFlag.TEXT_REF) if self._compacting else indexes[:0]
        start = 0
        for at in [*by_reference.tolist(), len(events)]:
            if in_base:
                self._copy_blobs(events[start:at], writer)
            else:
                self._encode_blobs(indexes[start:at] - self._base_count, events[start:at], writer)
            if at < len(events):
                events["blob_offset"][at] = self._move_text(int(indexes[at]), events[at], writer)
            start = at + 1

    def _copy_blobs(self, events: NDArray[Any], writer: ArenaWriter) -> None:
        """Copy whole records from the old file, eight bytes at a time; their checksums go along."""
        if not len(events):
            return
        words = (BLOB.size + events["blob_bytes"].astype(np.int64) + BLOB_ALIGNMENT - 1) // BLOB_ALIGNMENT
        starts = (events["blob_offset"].astype(np.int64) - data_offset(FileKind.BLOBS)) // BLOB_ALIGNMENT
        source = self._blobs.words
        bad = np.flatnonzero((starts < 0) | (starts + words > len(source)))
        if len(bad):
            raise self._misplaced(events[bad[0]])
        batch = np.cumsum(words) // (_COPY_BYTES // BLOB_ALIGNMENT)
        bounds = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(events)]
        for low, high in itertools.pairwise(bounds):
            here, total = words[low:high], int(words[low:high].sum())
            into = np.cumsum(here) - here
            if starts[high - 1] + words[high - 1] - starts[low] == total:  # one behind the other
                copy = source[starts[low] : starts[low] + total]
            else:
                copy = source[np.repeat(starts[low:high] - into, here) + np.arange(total)]
            owners, lengths = copy[into + 1], copy[into] >> np.uint64(32)  # BLOB, as words
            wrong = np.flatnonzero((owners != events["id"][low:high]) | (lengths != events["blob_bytes"][low:high]))
            if len(wrong):
                raise self._misplaced(events[low + wrong[0]])
            events["blob_offset"][low:high] = writer.offset + into * BLOB_ALIGNMENT
            writer.append([copy])
            self._pause()

    def _misplaced(self, event: Any) -> CorruptionError:
        return CorruptionError(
            self._blobs.path, int(event["blob_offset"]),
            expected=f"{event['blob_bytes']} bytes of memory {event['id']}", found="something else",
        )  # fmt: skip

    def _encode_blobs(self, tail: Indexes, events: NDArray[Any], writer: ArenaWriter) -> None:
        """Write operations that were in memory."""
        blobs, ids = self._blobs, events["id"].tolist()
        # No list of views: the collector would look through the whole process for them.
        offsets, encoded = [], bytearray()
        for n, at in enumerate(tail.tolist()):
            operation = blobs.tail[at]
            offsets.append(writer.offset + len(encoded))
            encoded += encode_blob(operation, ids[n], blobs.tail.lsns[at])
            encoded += operation
            encoded += blob_padding(len(operation))
            if n % _SLICE_OPERATIONS == _SLICE_OPERATIONS - 1:
                self._pause()
            if len(encoded) >= _COPY_BYTES:
                writer.append([encoded])
                encoded = bytearray()
        if encoded:
            writer.append([encoded])
        events["blob_offset"] = offsets

    def _move_text(self, index: int, event: Any, writer: ArenaWriter) -> int:
        """Copy a text by reference and the operation that refers to it; return the operation's new offset."""
        operation = self._engine.operation(index)
        text = bytes(self._blobs.text(operation))
        header = encode_blob(text, 0, 0)
        reference = encode_blob_ref(writer.offset, len(text), header)
        writer.append([header, text, blob_padding(len(text))])
        moved = bytes(operation.blob[: -BLOB_REF.size]) + reference
        offset = writer.offset
        lsn = self._blobs.lsn_at(index - self._base_count, int(event["blob_offset"]))
        writer.append([encode_blob(moved, int(event["id"]), lsn), moved, blob_padding(len(moved))])
        self._pause()
        return offset

    def _write_changes(self, writer: ArenaWriter) -> None:
        """Write the operations on the graph, in the order of their LSNs; a compaction writes those that make what is left."""
        trace, lsn = self._trace, self._frozen.view.lsn
        if self._compacting:
            names = trace.names.sessions
            branches = [(names[n], event, at, names[trunk]) for n, (event, at, trunk) in self._branches.items()]
            changes = operations_of(
                self._graph[FileKind.LINKS], self._graph[FileKind.ARCHIVED], trace.names.kind_name, branches
            )
        else:
            changes = [(at, operation) for at, operation in list(trace.graph.log) if at <= lsn]
        parts: list[bytes] = []
        for at, operation in changes:
            parts += [encode_blob(operation, 0, at), operation, blob_padding(len(operation))]
            if len(parts) >= 3 * _SLICE_OPERATIONS:
                writer.append([b"".join(parts)])
                parts = []
                self._pause()
        if parts:
            writer.append([b"".join(parts)])

    def _write_forgotten(self, writer: ArenaWriter) -> None:
        """A forget operation for the memories of older generations that were forgotten since the last one."""
        if self._compacting:
            return
        deaths = self._deaths[: self._base_count]
        gone = np.flatnonzero((deaths > self._engine.manifest.lsn) & (deaths < SUPERSEDED))
        if len(gone):
            ids = np.ascontiguousarray(self._trace.events.base["id"][gone]).astype("<u8")
            operation = encode_forget(ids.tobytes(), 0)
            record = encode_blob(operation, 0, self._frozen.view.lsn)
            writer.append([record, operation, blob_padding(len(operation))])

    # -- tables -------------------------------------------------------------------------------------------------

    def write_tables(self, purging: bool) -> dict[FileKind, FileEntry]:
        """Write the tables that are derived from the arena."""
        entries = {}
        for kind, content, count in self._tables(purging):
            self._pause()
            table = content if isinstance(content, bytes) else content.view(np.uint8).reshape(-1)
            entries[kind] = self._write_table(kind, len(table), [table], count)
            del content, table
        if self._frozen.pages is not None:
            size, parts = self._encode_pages(self._frozen.pages)
            entries[FileKind.PAGES] = self._write_table(FileKind.PAGES, size, parts, size)
        return entries

    def _write_table(self, kind: FileKind, size: int, parts: Iterable[Buffer], count: int) -> FileEntry:
        return write_table(self._files, self._root, self._uuid, self._generation, kind, size, parts, count)

    def _encode_pages(self, pages: Snapshot) -> tuple[int, Iterator[NDArray[np.uint8]]]:
        shown = np.where(self._row_deaths == 0, self._moved, -1) if self._compacting else self._moved
        indexed = int(np.count_nonzero(self._moved[: pages.rows] >= 0))
        return self._atlas.encode_pages(pages, indexed, shown, self._pause)

    def _tables(self, purging: bool) -> Iterator[tuple[FileKind, bytes | NDArray[Any], int]]:
        """The content of each table but the pages, and how many records it has; each is made when the one before is written."""
        engine, frozen = self._engine, self._frozen
        self._pause()
        deaths = self._row_deaths[self._moved >= 0]
        yield FileKind.ROW_DEATHS, deaths.astype("<u8", copy=False), len(deaths)
        deaths = np.concatenate([self._deaths[: self._first], self._deaths[self._kept]])
        yield FileKind.EVENT_DEATHS, deaths.astype("<u8", copy=False), len(deaths)
        postings, sessions = self._group_by_session(deaths)
        del deaths
        yield FileKind.POSTINGS, postings, len(postings)
        del postings
        yield FileKind.SESSIONS, sessions, len(sessions)
        keys = engine.keys.records(frozen.key_changes, self._pause)
        yield FileKind.KEYS, keys, len(keys)
        branches = [
            [int(self._new_session[number]), event, lsn, int(self._new_session[trunk])]
            for number, (event, lsn, trunk) in self._branches.items()
        ]
        fields = self._fields() if purging else None
        names = self._trace.names.pack(self._sessions, self._namespaces, branches, fields)
        yield FileKind.NAMES, names, 1
        blocks = engine.time_blocks.encode(engine.atlas, self._moved)
        if blocks is not None:
            yield FileKind.TIME_BLOCKS, blocks, len(blocks)
        for kind, table in self._graph.items():
            if kind in _ALWAYS or len(table):
                yield kind, table, len(table)

    def _fields(self) -> Iterable[str]:
        """The metadata fields that the kept memories have."""
        found = Names(b"", "")
        for indexes in self._chunks():
            flags = self._trace.take(indexes, "flags")
            for at in np.flatnonzero(flags & OpFlag.METADATA).tolist():
                found.note_fields(self._engine.extra(int(indexes[at])).metadata or {})
                self._pause()
        return found.fields

    def _group_by_session(self, event_deaths: NDArray[np.uint64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (POSTING[events], SESSION[sessions])."""
        trace = self._trace
        session = np.concatenate([np.empty(0, np.uint32), *self._session_of])
        index = np.arange(self._first, self._first + len(session), dtype=np.uint32)
        if not self._compacting:
            counts = trace.base_sessions["postings_count"].astype(np.int64)
            session = np.concatenate([np.repeat(np.arange(len(counts), dtype=np.uint32), counts), session])
            index = np.concatenate([trace.base_postings, index])
        postings, sessions = plan_sessions(session, index, event_deaths, len(self._sessions))
        sessions["last_id"] = self._last[self._sessions]
        return postings, sessions

    @cached_property
    def _graph(self) -> dict[FileKind, NDArray[Any]]:
        """The tables of the graph. An edge stands there if both its ends can still be read: it lives and dies with them.

        A compaction leaves out the links that were ended, and the times that memories were archived and restored again: it
        is the only thing that ever would. Recall as of an LSN before such a restore is not to be had from then on.
        """
        graph, lsn, next_id = self._trace.graph, self._frozen.view.lsn, self._frozen.next_id
        tables = graph.all_edges(next_id), graph.all_links(lsn), graph.all_reverse(lsn, next_id)
        archived, ids = graph.all_archived(lsn), np.empty(0, np.uint64)
        if len(archived) or any(map(len, tables)):
            runs = [run["id"] for _, run in self._trace.events.runs(self._frozen.view.events)]
            ids = np.concatenate([*runs, ids])[self._readable]
        edges, links, reverse = (
            table[_among(table["src"], ids) & _among(table["dst"], ids)] for table in tables
        )
        if self._compacting:
            links, reverse = links[links["ended"] == 0], reverse[reverse["ended"] == 0]
            over = archived["restored"] != 0
            self.history_from = max(self.history_from, int(archived["restored"][over].max(initial=0)))
            archived = archived[~over]
        return {
            FileKind.EDGES: edges, FileKind.REVERSE: reverse, FileKind.LINKS: links,
            FileKind.ARCHIVED: archived[_among(archived["id"], ids)],
        }  # fmt: skip


def _among(values: NDArray[np.uint64], increasing: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `values` are in `increasing`: bool[n]."""
    if not len(increasing):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(increasing, values), len(increasing) - 1)
    found: NDArray[np.bool_] = increasing[at] == values
    return found


def _numbering(used: Indexes, count: int) -> NDArray[np.uint32]:
    """New numbers by old ones: uint32[count]; meaningless where not used."""
    numbers = np.zeros(count, np.uint32)
    numbers[used] = np.arange(len(used))
    return numbers


def plan_sessions(
    session: NDArray[np.uint32], index: NDArray[np.uint32], event_deaths: NDArray[np.uint64], count: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Group events by session: (POSTING[n], SESSION[count] without last_id).

    session, index : uint32[n], each event's session and index, increasing by index within a session.
    event_deaths : uint64 by event index.
    """
    order = np.argsort(session, kind="stable")
    session, index = session[order], index[order]
    sessions = np.zeros(count, SESSION.dtype)
    sessions["postings_count"] = np.bincount(session, minlength=count)
    sessions["postings_start"] = np.cumsum(sessions["postings_count"]) - sessions["postings_count"]
    sessions["live"] = np.bincount(session[event_deaths[index] == 0], minlength=count)
    return index.astype("<u4", copy=False).view(POSTING.dtype), sessions


assert DEATH.size == 8  # event_deaths are written as plain u64
assert [(field.name, field.offset) for field in BLOB.fields] == [("crc", 0), ("bytes", 4), ("id", 8), ("lsn", 16)]
