"""Checkpoint: what is in memory and in the log becomes a generation on disk, and the log begins anew.

Order of writes and syncs; a power cut at any point leaves the old generation and its log, or the new one:
  1. the log is synced and a new segment begun (wal.begin_checkpoint)
  2. arena files grow behind the bytes that count; each is synced
  3. the tables of the new generation are written into its own directory; each is synced, then the directory, then the root
  4. the MANIFEST is replaced: from here on the new generation counts
  5. files of the old generation and the log before the new segment are deleted
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon import manifest as manifests
from aeon.blob_arena import blob_padding, encode_blob, encode_blob_ref
from aeon.engine import Engine
from aeon.files import FileSystem
from aeon.format import DEATH, EVENT, POSTING, SESSION, SUPERSEDED, FileKind, generation_name
from aeon.generation_files import ArenaWriter, write_table
from aeon.manifest import FileEntry, Manifest
from aeon.operations import encode_forget
from aeon.trace import Trace, event_checksums

_WRITE_BYTES = 1 << 20  # blobs are gathered into writes of about this size


def write_generation(files: FileSystem, root: str, engine: Engine, *, next_id: int, segment: int) -> Manifest:
    """Write steps 2 to 4 for everything applied to `engine`, and return the new manifest.

    Memories that were forgotten before they ever reached a generation are left out: their bytes go with the log.
    """
    old = engine.manifest
    generation = old.generation + 1
    directory = f"{root}/{generation_name(generation)}"
    if not files.exists(directory):
        files.mkdir(directory)
    writer = _Writer(files, root, engine, generation)
    arena = writer.write_arena()
    tables = writer.write_tables()
    files.fsync_dir(directory)
    files.fsync_dir(root)
    new = replace(
        old, generation=generation, lsn=engine.view.lsn, next_id=next_id, segment=segment, files={**arena, **tables}
    )
    manifests.store(files, root, new)
    return new


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
    """One run of a checkpoint."""

    def __init__(self, files: FileSystem, root: str, engine: Engine, generation: int) -> None:
        self._files, self._root, self._engine, self._generation = files, root, engine, generation
        self._uuid = engine.manifest.uuid
        trace = engine.trace
        deaths = trace.deaths.tail()["lsn"]
        self._kept = np.flatnonzero((deaths == 0) | (deaths >= SUPERSEDED))  # of the tail, by position in it
        self._events: NDArray[Any] = trace.events.tail()[self._kept]
        self._base_count = trace.events.base_count
        self._tail_deaths = deaths[self._kept]

    def _open(self, kind: FileKind, record_bytes: int, *, end: int = 0) -> ArenaWriter:
        entry = self._engine.manifest.files.get(kind)
        return ArenaWriter(self._files, self._root, self._uuid, self._generation, kind, entry, record_bytes, end=end)

    def write_arena(self) -> dict[FileKind, FileEntry]:
        """Append blobs, codes, rows and events, in this order: an event refers to the others."""
        return {
            FileKind.BLOBS: self._append_blobs(),
            **self._append_rows(),
            FileKind.EVENTS: self._append_events(),
        }

    def _append_blobs(self) -> FileEntry:
        with self._open(FileKind.BLOBS, 0, end=self._engine.blobs.ahead_end) as writer:
            self._write_blobs(writer)
            writer.sync()
        return writer.entry

    def _write_blobs(self, writer: ArenaWriter) -> None:
        blobs = self._engine.blobs
        offset, size = writer.offset, 0
        parts: list[bytes] = []
        ids = self._events["id"].tolist()
        records = [(blobs.tail[at], id_, blobs.tail_lsns[at]) for at, id_ in zip(self._kept.tolist(), ids, strict=True)]
        records += [(operation, 0, lsn) for lsn, operation in self._engine.trace.graph.log]
        tombstone = self._forgotten_in_base()
        if tombstone:
            records.append((tombstone, 0, self._engine.view.lsn))
        offsets = []
        for operation, id_, lsn in records:
            record = encode_blob(operation, id_, lsn) + operation + blob_padding(len(operation))
            parts.append(record)
            offsets.append(offset)
            offset += len(record)
            size += len(record)
            if size >= _WRITE_BYTES:
                writer.append([b"".join(parts)])
                parts, size = [], 0
        writer.append([b"".join(parts)])
        writer.count += len(ids)
        self._events["blob_offset"] = offsets[: len(ids)]

    def _forgotten_in_base(self) -> bytes:
        """A forget operation for the memories of older generations that were forgotten since the last one."""
        trace = self._engine.trace
        deaths = trace.deaths.base["lsn"]
        gone = (deaths > self._engine.manifest.lsn) & (deaths < SUPERSEDED)
        ids = np.ascontiguousarray(trace.events.base["id"][gone]).astype("<u8")
        return encode_forget(ids.tobytes(), 0) if len(ids) else b""

    def _append_rows(self) -> dict[FileKind, FileEntry]:
        """Append the kept events' rows, and give the events the indexes the rows have now."""
        atlas, events = self._engine.atlas, self._events
        with_row = np.flatnonzero(events["row"])
        rows = events["row"][with_row].astype(np.int64) - 1
        codes, records = atlas.codes.take(rows), atlas.rows.take(rows)
        if len(rows):
            records["crc"] = atlas.checksums(codes, records)
        events["row"][with_row] = atlas.codes.base_count + 1 + np.arange(len(rows))
        self._moved = np.full(
            atlas.codes.count - atlas.codes.base_count, -1, np.int64
        )  # new numbers of the tail's rows
        self._moved[rows - atlas.codes.base_count] = atlas.codes.base_count + np.arange(len(rows))
        self._row_deaths = atlas.deaths.take(rows)
        entries = {}
        for kind, array in ((FileKind.CODES, codes), (FileKind.ROWS, records)):
            with self._open(kind, array.dtype.itemsize if kind == FileKind.ROWS else atlas.stride) as writer:
                if len(array):
                    writer.append([array.view(np.uint8).reshape(-1)])
                writer.count += len(array)
                writer.sync()
            entries[kind] = writer.entry
        return entries

    def _append_events(self) -> FileEntry:
        events, trace = self._events, self._engine.trace
        last: dict[int, int] = {}
        for n, session in enumerate(events["session"].tolist()):
            # A forgotten event is left out, so the chain goes to the one before it.
            if session not in last:
                last[session] = trace.base_last_id(session)
            events["previous"][n] = last[session]
            last[session] = int(events["id"][n])
        self._last = last
        if len(events):
            events["crc"] = event_checksums(events)
        with self._open(FileKind.EVENTS, EVENT.size) as writer:
            if len(events):
                writer.append([events.view(np.uint8).reshape(-1)])
            writer.count += len(events)
            writer.sync()
        return writer.entry

    # -- tables -------------------------------------------------------------------------------------------------

    def write_tables(self) -> dict[FileKind, FileEntry]:
        """Write the tables that are derived from the arena."""
        engine = self._engine
        trace, atlas = engine.trace, engine.atlas
        event_deaths = np.concatenate([trace.deaths.base["lsn"], self._tail_deaths])
        row_deaths = np.concatenate([atlas.deaths.base, self._row_deaths])
        postings, sessions = self._group_by_session(event_deaths)
        names = trace.names.pack()
        tables: list[tuple[FileKind, Any, int]] = [
            (FileKind.EVENT_DEATHS, event_deaths.astype("<u8"), len(event_deaths)),
            (FileKind.ROW_DEATHS, row_deaths, len(row_deaths)),
            (FileKind.KEYS, engine.keys.records(), len(engine.keys)),
            (FileKind.NAMES, names, 1),
            (FileKind.SESSIONS, sessions, len(sessions)),
            (FileKind.POSTINGS, postings, len(postings)),
        ]
        pages = atlas.encode_pages(self._moved)
        if pages is not None:
            tables.append((FileKind.PAGES, pages, len(pages)))
        blocks = engine.time_blocks.encode(atlas, self._moved)
        if blocks is not None:
            tables.append((FileKind.TIME_BLOCKS, blocks, len(blocks)))
        tables += graph_tables(trace)
        return {
            kind: write_table(
                self._files, self._root, self._uuid, self._generation, kind,
                content if isinstance(content, bytes) else content.view(np.uint8).reshape(-1), count,
            )
            for kind, content, count in tables
        }  # fmt: skip

    def _group_by_session(self, event_deaths: NDArray[np.uint64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (POSTING[events], SESSION[sessions])."""
        trace = self._engine.trace
        base_session = np.repeat(
            np.arange(len(trace.base_sessions)), trace.base_sessions["postings_count"].astype(np.int64)
        )
        session = np.concatenate([base_session, self._events["session"].astype(np.int64)])
        index = np.concatenate([
            trace.base_postings.astype(np.int64), self._base_count + np.arange(len(self._events))
        ])  # fmt: skip
        postings, sessions = plan_sessions(session, index, event_deaths, len(trace.names.sessions))
        sessions["last_id"][: len(trace.base_sessions)] = trace.base_sessions["last_id"]
        for number, id_ in self._last.items():
            sessions["last_id"][number] = id_
        return postings, sessions


def graph_tables(trace: Trace, *, ended_after: int = 0) -> list[tuple[FileKind, NDArray[Any], int]]:
    """The tables of the graph as (kind, records, count); an edge stands there if both its ends can still be read.

    ended_after : links that an `unlink` ended, and archived ids that a `restore` ended, up to this LSN are left out.
    """
    graph = trace.graph
    edges, links, reverse, archived = graph.all_edges(), graph.all_links(), graph.all_reverse(), graph.all_archived()
    edges = edges[readable(trace, edges["src"]) & readable(trace, edges["dst"])]
    links, reverse = (
        table[
            readable(trace, table["src"])
            & readable(trace, table["dst"])
            & ((table["ended"] == 0) | (table["ended"] > ended_after))
        ]
        for table in (links, reverse)
    )
    archived = archived[readable(trace, archived["id"])]
    archived = archived[(archived["restored"] == 0) | (archived["restored"] > ended_after)]
    tables = [(FileKind.EDGES, edges), (FileKind.REVERSE, reverse)]
    tables += [(kind, table) for kind, table in ((FileKind.LINKS, links), (FileKind.ARCHIVED, archived)) if len(table)]
    return [(kind, table, len(table)) for kind, table in tables]


def readable(trace: Trace, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `ids` can be read: alive, or replaced by a newer version. bool[n]"""
    indexes = trace.indexes_of(np.ascontiguousarray(ids))
    out = indexes >= 0
    deaths = trace.deaths.take(indexes[out], "lsn")
    out[out] = (deaths == 0) | (deaths >= SUPERSEDED)
    return out


def plan_sessions(
    session: NDArray[np.int64], index: NDArray[np.int64], event_deaths: NDArray[np.uint64], count: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Group events by session: (POSTING[n], SESSION[count] without last_id).

    session, index : int64[n], each event's session and index, increasing by index within a session.
    event_deaths : uint64 by event index.
    """
    order = np.argsort(session, kind="stable")
    session, index = session[order], index[order]
    sessions = np.zeros(count, SESSION.dtype)
    sessions["postings_count"] = np.bincount(session, minlength=count)
    sessions["postings_start"] = np.cumsum(sessions["postings_count"]) - sessions["postings_count"]
    sessions["live"] = np.bincount(session[event_deaths[index] == 0], minlength=count)
    return index.astype("<u4").view(POSTING.dtype), sessions


assert DEATH.size == 8  # event_deaths are written as plain u64
