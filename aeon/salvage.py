"""Salvage: what is provably whole in a damaged store, whatever else is gone. Reads everything, changes nothing.

A blob names its memory, its commit and everything but the vector, under one checksum; a row names the memory whose vector
it is; a frame of the log proves which store and segment it belongs to. So each is taken by itself, wherever it is found,
and what is derived (events, tables, the page index) is only asked where it says more: where a damaged blob ends, which
memories ended when, which ids there should be. Nothing is guessed: what cannot be proven is reported as lost.

    salvage_identity   what store this is
    salvage_files      its arena files, around bad sectors, and its tables
    salvage_blobs      whole events and blobs
    salvage_rows       whole rows, and what a row is
    salvage_state      what ended when
    salvage_log        whole frames, and what is missing between them

Here they are put together: each step takes what the ones before it found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.errors import CorruptionError
from aeon.files import FileSystem
from aeon.format import (
    ACCESS,
    ARCHIVED,
    BLOB,
    BLOB_REF,
    DEATH,
    KEY,
    LINK,
    SUPERSEDED,
    FileKind,
    OpFlag,
    OpKind,
    data_offset,
    row_stride,
)
from aeon.graph import CHANGES, operations_of
from aeon.manifest import Manifest
from aeon.operations import Operation, decode_blob_ref, decode_extra
from aeon.results import IdRanges, Loss, Problem, Progress, id_ranges
from aeon.salience import SALIENCE_NAME, read_salience
from aeon.salvage_blobs import Damage, Salvaged, read_blobs, read_events
from aeon.salvage_files import map_arenas, read_table
from aeon.salvage_identity import identify
from aeon.salvage_log import SalvagedLog, read_log
from aeon.salvage_rows import prove_rows, read_rows, split_vector
from aeon.salvage_state import State
from aeon.trace import Names

_ONLY_DERIVED = (
    FileKind.ROW_DEATHS, FileKind.SESSIONS, FileKind.POSTINGS, FileKind.EDGES, FileKind.REVERSE, FileKind.PAGES,
    FileKind.TIME_BLOCKS,
)  # fmt: skip


class Salvage:
    """One run over the store at `root`. After `run` the attributes tell what was found.

    Attributes
    ----------
    lsn, next_id : the LSN and the id that follow the newest commit known.
    memories : whole ones that are readable, by id. created : of a key's first version, by the newest version's id.
    changes : (LSN, operation) of links, archives and branches, in order. fields : metadata paths that the store knew.
    salience : how often each of `memories` was recalled, ACCESS[n].
    lost, rebuilt, missing_lsns, doubtful, doubts : see `RepairReport`.
    """

    def __init__(
        self, files: FileSystem, root: str, dim: int | None, embedder: str | None, progress: Progress | None = None
    ) -> None:
        self._files, self._root = files, root
        self._dim, self._embedder = dim, embedder
        self._progress = progress or (lambda what, done, total: None)
        self.lsn, self.next_id = 0, 0
        self.memories: dict[int, Salvaged] = {}
        self.created: dict[int, int] = {}
        self.changes: list[tuple[int, bytes]] = []
        self.fields: set[str] = set()
        self.salience: NDArray[Any] = np.empty(0, ACCESS.dtype)
        self.lost: list[Loss] = []
        self.rebuilt: list[Problem] = []
        self.missing_lsns: IdRanges = ()
        self.doubtful: IdRanges = ()
        self.doubts: list[str] = []
        self._doubt_before = 0  # memories of commits before this LSN may have ended in one that is missing

    def run(self) -> None:
        """Read everything. Raises NotAStoreError, VersionError, InvalidInputError (no dimension is known), OSError."""
        files, progress = self._files, self._progress
        store = identify(files, self._root, self._embedder)
        self._arenas = map_arenas(files, store)
        self._events = read_events(store, self._arenas)
        self._blobs = read_blobs(store, self._arenas, self._events, progress)
        memories = self._blobs.memories
        if not store.manifest.rows:
            store = prove_rows(files, store, self._arenas, memories, self._dim)
        self._store = store
        self._log = self._open_log()
        if not store.has_manifest:
            self._blobs.damages += self._cut_off()
        self._rows = read_rows(store, self._arenas, progress)
        self._rows.give_vectors(memories)
        self._events.fill_in({*memories, *self._rows.by_id})
        self._state = State(memories, self._blobs.tombstones)
        self.changes = sorted(self._blobs.changes, key=lambda change: change[0])
        self.lost += store.lost
        self.rebuilt += [*store.notes, *self._arenas.notes, *self._events.notes]
        self._ask_tables()
        self._read_log()
        self._finish()
        self._read_salience()

    @property
    def manifest(self) -> Manifest:
        """The store's, as it was or as its files prove it."""
        return self._store.manifest

    # -- the generation -----------------------------------------------------------------------------------------

    def _cut_off(self) -> list[Damage]:
        """What is missing at the end of the blob file, without a MANIFEST that says how long it was: as far as whole events,
        and whole operations here and in the log, refer to it."""
        ends = list(self._events.ends.values())
        operations = [memory.operation for memory in self._blobs.memories.values()]
        operations += [operation for frame in self._log.frames.values() for operation in frame.operations]
        for operation in operations:
            if operation.flags & OpFlag.TEXT_REF and len(operation.text) == BLOB_REF.size:
                offset, count, _ = decode_blob_ref(operation.text)
                ends.append(offset + BLOB.size + count)
        length = data_offset(FileKind.BLOBS) + len(self._arenas.blobs)
        return [Damage(length, max(ends))] if ends and max(ends) > length else []

    def _table(self, kind: FileKind) -> NDArray[Any] | None:
        """A table's records if it is whole; damage is noted."""
        found = read_table(self._files, self._store, kind)
        if isinstance(found, Problem):
            self.rebuilt.append(found)
            return None
        return found

    def _ask_tables(self) -> None:
        """What derived tables say beyond the blobs: which memories ended, when keys were made, links whose blob is gone."""
        state, damaged = self._state, bool(self._blobs.damages)
        deaths = self._table(FileKind.EVENT_DEATHS)
        if deaths is not None and len(deaths) == len(self._events.ids):
            state.use_deaths(self._events.ids, deaths.view(DEATH.dtype)["lsn"], damaged=damaged)
        elif self.manifest.files and damaged:
            state.doubt_all("which memories had ended is lost, and so may be what told it again")
        state.rebuild_keys()
        self.doubts += state.doubts
        table = self._table(FileKind.NAMES)
        names = None if table is None else Names(table.tobytes(), "")
        if names is not None:
            self.fields |= names.fields
        self._mend_changes(names)
        keys = self._table(FileKind.KEYS)
        if keys is not None:
            self.created = dict(zip(keys.view(KEY.dtype)["id"].tolist(), keys["created"].tolist(), strict=True))
        for kind in _ONLY_DERIVED:
            self._table(kind)  # derived from what was read; only to tell what is damaged

    def _mend_changes(self, names: Names | None) -> None:
        """Take links, archives and branches from their tables if blobs that told of some may be damaged."""
        tables = {kind: self._table(kind) for kind in (FileKind.LINKS, FileKind.ARCHIVED)}
        unexplained = [damage for damage in self._blobs.damages if not self._events.explain(damage)]
        if not unexplained:
            return
        whole = all(table is not None or kind not in self.manifest.files for kind, table in tables.items())
        if whole and self._store.has_manifest and names is not None:
            branches = [
                (names.sessions[number], event, lsn, names.sessions[trunk])
                for number, (event, lsn, trunk) in names.branches.items()
            ]
            links, archived = tables[FileKind.LINKS], tables[FileKind.ARCHIVED]
            links = np.empty(0, LINK.dtype) if links is None else links
            archived = np.empty(0, ARCHIVED.dtype) if archived is None else archived
            self.changes = operations_of(links, archived, names.kind_name, branches)
            return
        for damage in unexplained:
            self.lost.append(
                Loss(
                    self._store.path(FileKind.BLOBS), damage.offset, damage.end - damage.offset,
                    "links, archives or branches, if any stood here: their tables are damaged as well",
                )
            )  # fmt: skip

    # -- the log ------------------------------------------------------------------------------------------------

    def _open_log(self) -> SalvagedLog:
        manifest = self.manifest
        segment = manifest.segment if self._store.has_manifest else None
        return read_log(self._files, self._root, manifest.uuid, segment, manifest.lsn + 1, manifest.next_id)

    def _read_log(self) -> None:
        """Apply every whole commit behind the generation, and tell what is missing between them."""
        manifest, has_manifest, log = self.manifest, self._store.has_manifest, self._log
        lsn, next_id = manifest.lsn + 1, manifest.next_id
        if not has_manifest:
            lsn, next_id = self._where_the_log_begins(log)
        self._apply(log, lsn if has_manifest else 0)
        gaps, self.lsn, self.next_id = log.gaps(lsn, next_id)
        losses = log.losses(f"{self._root}/wal", gaps, self.lsn)
        self.lost += losses.lost
        self.rebuilt += losses.notes
        self.missing_lsns = id_ranges(losses.lsns)
        self.next_id += losses.ids_max  # ids that may have been given out are never given out again
        self._doubt_before = max(self._doubt_before, losses.doubt_before)
        if self._doubt_before:
            self.doubts.append(
                "commits are missing; memories older than them may have been forgotten or replaced there"
            )

    def _where_the_log_begins(self, log: SalvagedLog) -> tuple[int, int]:
        """(LSN, next id) behind the generation, without a MANIFEST that says so."""
        newest = max((memory.lsn for memory in self._state.memories.values()), default=0)
        newest = max([newest, *(lsn for lsn, _ in self._blobs.tombstones)])
        last_id = max([0, *self._state.memories, *map(int, self._events.ids), *self._rows.by_id])
        first_mark = min(log.marks, default=None)
        if first_mark is not None and (first_mark[0] <= newest + 1 or first_mark[0] == 1):
            return first_mark
        if first_mark is not None and self.manifest.files:  # commits that only forgot may have left no blob behind
            self._doubt_before = first_mark[0]
            return first_mark
        return newest + 1, last_id + 1

    def _apply(self, log: SalvagedLog, lsn: int) -> None:
        """Apply the commits from `lsn` on, in order, as far as the generation does not hold them."""
        state = self._state
        changes_until = max((number for number, _ in self.changes), default=0)
        for number in sorted(log.frames):
            if number < lsn:
                continue
            frame = log.frames[number]
            id_ = frame.first_id
            for operation in frame.operations:
                if operation.kind == OpKind.FORGET:
                    state.forget(np.frombuffer(operation.text, "<u8").tolist(), number)
                    continue
                if operation.kind in CHANGES:
                    if number > changes_until:
                        self.changes.append((number, bytes(operation.blob)))
                    continue
                if id_ not in state.memories and id_ not in state.forgotten:
                    state.remember(self._from_log(id_, number, operation))
                id_ += 1

    def _from_log(self, id_: int, lsn: int, operation: Operation) -> Salvaged:
        memory = Salvaged(id_, lsn, operation.blob)
        if operation.flags & OpFlag.VECTOR:
            memory.scale, memory.codes = split_vector(operation.vector, self.manifest.rows)
        return memory

    # -- the result ---------------------------------------------------------------------------------------------

    def text(self, memory: Salvaged) -> memoryview | None:
        """Borrow a memory's text; None if it was kept by reference and is not whole."""
        return self._arenas.text(memory.operation)

    def _finish(self) -> None:
        """Say what is lost, and leave only what can be read."""
        state, looked_for = self._state, self._blobs.looked_for
        self.next_id = max(
            [self.next_id, *(id_ + 1 for id_ in state.memories), *(int(i) + 1 for i in self._events.ids)]
        )
        self._lose_blobs()
        vectorless: list[Salvaged] = []
        for memory in state.readable:
            loss = self._loss_of_text(memory)
            if loss is not None:
                self.lost.append(loss)
                continue
            if memory.operation.flags & OpFlag.VECTOR and memory.codes is None:
                vectorless.append(memory)
            self.memories[memory.id] = memory
        self._lose_vectors(vectorless)
        doubtful = {
            id_
            for id_, memory in self.memories.items()
            if memory.lsn < self._doubt_before or id_ in state.doubtful or id_ in looked_for
        }
        if looked_for & doubtful:
            self.doubts.append("memories found by looking through damaged bytes, whose event is damaged too")
        self.doubtful = id_ranges(doubtful)

    def _loss_of_text(self, memory: Salvaged) -> Loss | None:
        """Why a memory cannot be read, None if it can: whole bytes may still be malformed, or refer to a text that is gone."""
        operation, path, ids = memory.operation, self._arenas.blob_path, id_ranges([memory.id])
        try:
            text = self.text(memory)
            decode_extra(operation.extra)
            if text is not None:
                str(text, "utf-8")
        except ValueError as error:
            return Loss(path, max(memory.offset, 0), 0, f"malformed: {error}", ids)
        if text is not None:
            return None
        offset, count, _ = decode_blob_ref(operation.text)
        return Loss(path, offset, BLOB.size + count, "a text kept by reference is damaged or gone", ids)

    def _lose_blobs(self) -> None:
        """Ids that events or rows name and no whole blob holds, each with the damage it stood in."""
        state, events = self._state, self._events
        named = {int(id_) for id_ in events.ids if id_} | set(self._rows.by_id)
        gone = {
            id_
            for id_ in named
            if id_ not in state.memories and id_ not in state.forgotten and not 0 < state.ended.get(id_, 0) < SUPERSEDED
        }
        path, start = self._store.path(FileKind.BLOBS), data_offset(FileKind.BLOBS)
        for damage in self._blobs.damages:
            length = damage.end - damage.offset
            here = {id_ for id_ in gone if damage.offset <= events.offsets.get(id_, -1) < damage.end}
            gone -= here
            if here:
                reason = "memories: their blobs are damaged"
                self.lost.append(Loss(path, damage.offset, length, reason, id_ranges(here)))
            else:
                reason = f"{length} damaged bytes of no memory that is still there"
                self.rebuilt.append(Problem(path, damage.offset, reason))
        if gone:
            end = start + len(self._arenas.records[FileKind.BLOBS])
            self.lost.append(Loss(path, end, 0, "memories: their blobs are not there", id_ranges(gone)))
        unknown = int((events.ids == 0).sum())
        if unknown and self._blobs.damages:
            path, start = self._store.path(FileKind.EVENTS), data_offset(FileKind.EVENTS)
            self.lost.append(Loss(path, start, 0, f"{unknown} events are damaged whose ids nothing else tells"))

    def _lose_vectors(self, memories: list[Salvaged]) -> None:
        """Vectors of memories that are kept without: each with its row, or one that is damaged if its event is as well."""
        path, start = self._store.path(FileKind.CODES), data_offset(FileKind.CODES)
        stride = row_stride(self.manifest.dim, self.manifest.rows)
        damaged = self._rows.damaged
        for n, memory in enumerate(memories):
            row = self._events.rows.get(memory.id, damaged[n] if n < len(damaged) else 0)
            reason = f"the vector of row {row}, whose text is whole: the memory is kept without it"
            self.lost.append(Loss(path, start + row * stride, stride, reason, id_ranges([memory.id])))

    def _read_salience(self) -> None:
        """How often memories were recalled, of those that are kept."""
        try:
            found = read_salience(self._files, self._root, self.manifest.uuid)
        except FileNotFoundError:
            return
        except (CorruptionError, OSError) as error:
            self.lost.append(Loss(f"{self._root}/{SALIENCE_NAME}", 0, 0, f"how often memories were recalled: {error}"))
            return
        self.salience = found[np.isin(found["id"], np.array(sorted(self.memories), np.uint64))]
