"""Repair: what is provably whole in a damaged store, written into a new one. The damaged store is only read.

The new store is one generation and an empty log. Memories keep their ids (ids have gaps in any store: what was forgotten
leaves one), their commits' LSNs, texts, vectors and metadata bit for bit; everything derived is made anew from them. It
has a uuid of its own, so that no file of the damaged store is ever taken for one of its.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from aeon import check as checks
from aeon import manifest as manifests
from aeon.blob_arena import blob_padding, encode_blob, encode_blob_ref
from aeon.check import file_sizes
from aeon.checkpoint import plan_sessions
from aeon.engine import apply_change
from aeon.errors import CorruptionError, InvalidInputError, NotAStoreError, OpenError
from aeon.files import FileSystem, OsFileSystem, absolute
from aeon.format import (
    EDGE,
    EVENT,
    KEY,
    OP,
    ROW,
    SEGMENT_HEADER,
    SUPERSEDED,
    EdgeKind,
    FileKind,
    OpFlag,
    cut_preview,
    generation_name,
    row_stride,
)
from aeon.generation_files import ArenaWriter, write_table
from aeon.graph import decode_change, parents_of, reverse_of
from aeon.key_table import encode_key, hash_key
from aeon.manifest import FileEntry, Manifest
from aeon.operations import Operation, decode_extra
from aeon.recovery import start_log
from aeon.results import Progress, RepairReport
from aeon.rows import row_checksums
from aeon.salience import write_salience
from aeon.salvage import Salvage
from aeon.salvage_blobs import Salvaged
from aeon.staging import require_free, staged
from aeon.trace import Names, Trace, event_checksums

_CHUNK = 4096  # memories written at a time
_GENERATION = 1


def repair(
    path: str | PathLike[str],
    to: str | PathLike[str],
    *,
    dim: int | None = None,
    embedder: str | None = None,
    progress: Progress | None = None,
    files: FileSystem | None = None,
) -> RepairReport:
    """Salvage what is provably whole from the store at `path` into a new store at `to`; say what was lost.

    Parameters
    ----------
    path : the damaged store; nothing in it is changed. Close its writer first.
    to : where nothing is yet; the store appears there whole or not at all.
    dim, embedder : length of the vectors and name of what made them, for a store whose MANIFEST is lost; without it the
        dimension is taken from the vectors, and the embedder's name cannot be known.
    progress : called with (what, done, total).

    Ids stay what they were. Commits behind damage in the log are salvaged too; what a missing one may have forgotten or
    replaced is in the new store and listed as doubtful. Raises InvalidInputError (`to` exists), NotAStoreError (nothing
    here proves to be aeon's), VersionError, OpenError. When this returns the new store is on disk, and was checked. Cost:
    reads everything once, and holds a few hundred bytes a memory.
    """
    seam = files or OsFileSystem()
    root, target = absolute(path), absolute(to)
    require_free(seam, target)
    if target.startswith(f"{root}/"):
        raise InvalidInputError(f"{target} lies inside the damaged store, which nothing is written into")
    try:
        if not seam.is_dir(root):
            raise NotAStoreError(f"{root}: no aeon store here")
        before = file_sizes(seam, root)
        salvage = Salvage(seam, root, dim, embedder, progress)
        salvage.run()
        manifest = replace(
            salvage.manifest, uuid=uuid.uuid4().bytes, generation=_GENERATION, lsn=salvage.lsn - 1,
            next_id=salvage.next_id, segment=1, files={},
            offset=SEGMENT_HEADER.size, history_from=salvage.lsn - 1,
        )  # fmt: skip
        with staged(seam, target) as made:
            vectors = _Writer(seam, made, manifest, salvage, progress).write()
            report = checks.check(seam, made, progress)
            if (
                not report.ok
            ):  # what was found whole fits together; if not, that is a defect, and nothing is left behind
                problem = report.problems[0]
                raise CorruptionError(problem.path, problem.offset, expected="a whole store", found=problem.message)
            if file_sizes(seam, root) != before:
                raise OpenError(f"{root} was written to meanwhile: close its writer, and repair it again")
    except OSError as error:
        raise OpenError(f"{root}: {error.strerror or error}") from error
    return RepairReport(
        path=root, to=target, memories=len(salvage.memories), vectors=vectors, lost=tuple(salvage.lost),
        rebuilt=tuple(salvage.rebuilt), missing_lsns=salvage.missing_lsns, doubtful=salvage.doubtful,
        doubts=tuple(salvage.doubts),
    )  # fmt: skip


class _Writer:
    """Writes the generation of a new store at `root`, which nobody sees yet."""

    def __init__(
        self, files: FileSystem, root: str, manifest: Manifest, salvage: Salvage, progress: Progress | None
    ) -> None:
        self._files, self._root, self._manifest, self._salvage = files, root, manifest, salvage
        self._progress = progress or (lambda what, done, total: None)
        self._memories = [salvage.memories[id_] for id_ in sorted(salvage.memories)]
        self._names = Names(b"", "")
        self._names.fields |= salvage.fields
        self._last: dict[int, int] = {}
        self._events = np.zeros(len(self._memories), EVENT.dtype)
        self._edges: list[tuple[int, int, int, int]] = []
        self._versions: dict[bytes, tuple[int, int]] = {}  # by key: (newest readable version, timestamp of the first)
        self._named: dict[bytes, tuple[int, int]] = {}  # the same for keys whose newest version is current

    def write(self) -> int:
        """Write everything, in the order of `checkpoint`; how many vectors there are. `staging` syncs the names."""
        files, root, manifest = self._files, self._root, self._manifest
        files.mkdir(f"{root}/{generation_name(_GENERATION)}")
        entries = self._arenas()
        entries |= self._tables()
        if len(self._salvage.salience):
            write_salience(files, root, manifest.uuid, self._salvage.salience)
        files.mkdir(f"{root}/wal")
        start_log(files, root, manifest)
        manifests.store(files, root, replace(manifest, files=entries))
        return entries[FileKind.ROWS].count

    def _open(self, kind: FileKind, record_bytes: int) -> ArenaWriter:
        return ArenaWriter(self._files, self._root, self._manifest.uuid, _GENERATION, kind, None, record_bytes)

    def _arenas(self) -> dict[FileKind, FileEntry]:
        stride = row_stride(self._manifest.dim, self._manifest.rows)
        with (
            self._open(FileKind.BLOBS, 0) as blobs,
            self._open(FileKind.CODES, stride) as codes,
            self._open(FileKind.ROWS, ROW.size) as rows,
            self._open(FileKind.EVENTS, EVENT.size) as events,
        ):
            for first in range(0, len(self._memories), _CHUNK):
                self._progress("salvaged memories", first, len(self._memories))
                part = self._memories[first : first + _CHUNK]
                records = self._events[first : first + len(part)]
                self._append_rows(part, records, codes, rows, stride)
                for record, memory in zip(records, part, strict=True):
                    self._append_blob(record, memory, blobs)
                records["crc"] = event_checksums(records)
                events.append([records.view(np.uint8).reshape(-1)])
                events.count += len(part)
            for lsn, operation in self._salvage.changes:
                blobs.append([b"".join((encode_blob(operation, 0, lsn), operation, blob_padding(len(operation))))])
            for writer in (blobs, codes, rows, events):
                writer.sync()
        return {
            FileKind.BLOBS: blobs.entry,
            FileKind.CODES: codes.entry,
            FileKind.ROWS: rows.entry,
            FileKind.EVENTS: events.entry,
        }

    def _append_rows(
        self, memories: Sequence[Salvaged], events: Any, codes: ArenaWriter, rows: ArenaWriter, stride: int
    ) -> None:
        with_vector = [n for n, memory in enumerate(memories) if memory.codes is not None]
        array, records = np.zeros((len(with_vector), stride), np.uint8), np.zeros(len(with_vector), ROW.dtype)
        for at, n in enumerate(with_vector):
            memory = memories[n]
            kept = np.frombuffer(memory.codes, np.uint8) if isinstance(memory.codes, bytes) else memory.codes
            assert kept is not None
            array[at, : len(kept)] = kept
            records[at]["id"], records[at]["scale"] = memory.id, memory.scale
            events[n]["row"] = rows.count + at + 1
        if not with_vector:
            return
        records["crc"] = row_checksums(array, records)
        codes.append([array.reshape(-1)])
        rows.append([records.view(np.uint8)])
        codes.count += len(records)
        rows.count += len(records)

    def _append_blob(self, event: Any, memory: Salvaged, blobs: ArenaWriter) -> None:
        """Write one memory's blob, and its text before it if that is kept by reference; fill in its event."""
        text, operation = self._salvage.text(memory), memory.operation
        assert text is not None
        blob = bytes(memory.blob)
        if operation.flags & OpFlag.TEXT_REF:
            header = encode_blob(text, 0, 0)
            reference = encode_blob_ref(blobs.offset, len(text), header)
            blobs.append([b"".join((header, text, blob_padding(len(text))))])
            blob = blob[: len(blob) - len(reference)] + reference
        if operation.flags & OpFlag.VECTOR and memory.codes is None:  # the vector is lost, the text is not
            fields = list(OP.unpack_from(blob))
            fields[2], fields[6] = operation.flags & ~OpFlag.VECTOR, 0
            blob = OP.pack(*fields) + blob[OP.size :]
            operation = Operation(memoryview(blob), 0, with_vector=False)
        extra = decode_extra(operation.extra)
        if extra.metadata:
            self._names.note_fields(extra.metadata)
        session, preview = self._names.session(extra.session), cut_preview(bytes(text[:72]))
        event["id"], event["previous"], event["parent"] = memory.id, self._last.get(session, 0), operation.parent
        event["timestamp"], event["session"] = operation.timestamp, session
        event["namespace"], event["role"] = self._names.namespace(extra.namespace), operation.role
        event["flags"], event["preview_bytes"], event["preview"] = operation.flags, len(preview), preview
        event["blob_offset"], event["blob_bytes"] = blobs.offset, len(blob)
        blobs.append([b"".join((encode_blob(blob, memory.id, memory.lsn), blob, blob_padding(len(blob))))])
        blobs.count += 1
        self._last[session] = memory.id
        self._edges += [(memory.id, ref, EdgeKind.REF, 0) for ref in extra.refs if ref in self._salvage.memories]
        if extra.key is not None:
            key = encode_key(extra.namespace, extra.key)
            before = self._versions.get(key)
            created = operation.timestamp if before is None else before[1]
            if before is not None:
                self._edges.append((memory.id, before[0], EdgeKind.REPLACES, 0))
            self._versions[key] = memory.id, created
            if not memory.death:
                self._named[key] = memory.id, self._salvage.created.get(memory.id, created)

    def _graph(self) -> list[tuple[FileKind, Any, int]]:
        """The tables of the graph, and kinds and branches noted in the names, as `check` derives them."""
        derived = Trace({}, 1)
        derived.names = self._names
        for lsn, operation in self._salvage.changes:
            change = decode_change(Operation(memoryview(operation), 0, with_vector=False))
            apply_change(derived, lsn, change, lambda id_: id_ in self._salvage.memories)
        edges, links, archived = (
            np.array(self._edges, EDGE.dtype),
            derived.graph.all_links(),
            derived.graph.all_archived(),
        )
        ids = np.array([memory.id for memory in self._memories], np.uint64)
        parents = parents_of(ids, self._events["parent"])
        reverse = reverse_of(edges, links, parents[np.isin(parents["dst"], ids)])
        tables = [(FileKind.EDGES, edges), (FileKind.REVERSE, reverse)]
        tables += [(kind, made) for kind, made in ((FileKind.LINKS, links), (FileKind.ARCHIVED, archived)) if len(made)]
        return [(kind, made, len(made)) for kind, made in tables]

    def _pack_names(self) -> bytes:
        names = self._names
        branches = [[number, *branch] for number, branch in names.branches.items()]
        return names.pack(np.arange(len(names.sessions)), np.arange(len(names.namespaces)), branches)

    def _tables(self) -> dict[FileKind, FileEntry]:
        events = self._events
        graph = self._graph()
        deaths = np.array([memory.death for memory in self._memories], "<u8")
        row_deaths = deaths[events["row"] > 0] & np.uint64(SUPERSEDED - 1)
        index = np.arange(len(events), dtype=np.uint32)
        postings, sessions = plan_sessions(events["session"], index, deaths, len(self._names.sessions))
        for number, id_ in self._last.items():
            sessions["last_id"][number] = id_
        keys = np.array(sorted((hash_key(key), id_, created) for key, (id_, created) in self._named.items()), KEY.dtype)
        tables: Iterator[tuple[FileKind, Any, int]] = iter((
            (FileKind.EVENT_DEATHS, deaths, len(deaths)),
            (FileKind.ROW_DEATHS, row_deaths, len(row_deaths)),
            (FileKind.KEYS, keys, len(keys)),
            (FileKind.NAMES, self._pack_names(), 1),
            (FileKind.SESSIONS, sessions, len(sessions)),
            (FileKind.POSTINGS, postings, len(postings)),
            *graph,
        ))  # fmt: skip
        entries = {}
        for kind, content, count in tables:
            table = content if isinstance(content, bytes) else content.view(np.uint8).reshape(-1)
            entries[kind] = write_table(
                self._files, self._root, self._manifest.uuid, _GENERATION, kind, len(table), [table], count
            )
        return entries
