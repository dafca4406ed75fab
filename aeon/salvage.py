"""Salvage: what is provably whole in a damaged store, whatever else is gone. Reads everything, changes nothing.

A blob names its memory, its commit and everything but the vector, under one checksum; a row names the memory whose vector
it is; a frame of the log proves which store and segment it belongs to. So each is taken by itself, wherever it is found,
and what is derived (events, tables, the page index) is only asked where it says more: where a damaged blob ends, which
memories ended when, which ids there should be. Nothing is guessed: what cannot be proven is reported as lost.
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
from aeon.operations import Operation, decode_blob_ref, decode_extra
from aeon.results import IdRanges, Loss, Problem, Progress, id_ranges
from aeon.salience import SALIENCE_NAME, read_salience
from aeon.salvage_blobs import Salvaged, read_blobs, read_events
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
_CHUNK = 4096


class Salvage:
    """One run over the store at `root`. After `run` the attributes tell what was found.

    Attributes
    ----------
    manifest : the store's, as it was or as its files prove it. lsn, next_id : the newest commit known, and the id after it.
    memories : whole ones that are readable, by id. created : of a key's first version, by the newest version's id.
    changes : (LSN, operation) of links, archives and branches, in order. fields : metadata paths that the store knew.
    lost, rebuilt, missing_lsns, doubtful, doubts : see `RepairReport`.
    """

    def __init__(
        self, files: FileSystem, root: str, dim: int | None, embedder: str | None, progress: Progress | None = None
    ) -> None:
        self._files, self._root = files, root
        self._dim, self._embedder = dim, embedder
        self._progress = progress or (lambda what, done, total: None)
        self.lost: list[Loss] = []
        self.rebuilt: list[Problem] = []
        self.missing_lsns: IdRanges = ()
        self.doubtful: IdRanges = ()
        self.doubts: list[str] = []
        self.created: dict[int, int] = {}
        self.fields: set[str] = set()
        self.memories: dict[int, Salvaged] = {}
        self.changes: list[tuple[int, bytes]] = []
        self.salience: NDArray[Any] = np.empty(0, ACCESS.dtype)
        self._doubt_before_lsn = 0

    def run(self) -> None:
        """Read everything."""
        self._store = identify(self._files, self._root, self._embedder)
        self._path = self._store.path
        self.manifest, self._has_manifest = self._store.manifest, self._store.has_manifest
        self.lost += self._store.lost
        self.rebuilt += self._store.notes
        self._arenas = map_arenas(self._files, self._store)
        self.rebuilt += self._arenas.notes
        self._events = read_events(self._store, self._arenas)
        self.rebuilt += self._events.notes
        self._blobs = read_blobs(self._store, self._arenas, self._events, self._progress)
        self.changes = self._blobs.changes
        if not self.manifest.rows:
            self._store = prove_rows(self._files, self._store, self._arenas, self._blobs.memories, self._dim)
            self.manifest = self._store.manifest
        self._rows = read_rows(self._store, self._arenas, self._progress)
        self._rows.give_vectors(self._blobs.memories)
        self._events.fill_in({*self._blobs.memories, *self._rows.by_id})
        self._state = State(self._blobs.memories, self._blobs.tombstones)
        self._begin_state()
        self._read_log()
        self._finish()
        self._read_salience()

    def _table(self, kind: FileKind) -> NDArray[Any] | None:
        """A table's records if it is whole; damage is noted."""
        found = read_table(self._files, self._store, kind)
        if isinstance(found, Problem):
            self.rebuilt.append(found)
            return None
        return found

    # -- what ended when ----------------------------------------------------------------------------------------

    def _begin_state(self) -> None:
        """The state of the generation: which memories are alive, replaced or forgotten, and what each key names."""
        state, damaged = self._state, bool(self._blobs.damages)
        deaths = self._table(FileKind.EVENT_DEATHS)
        if deaths is not None and len(deaths) == len(self._events.ids):
            state.use_deaths(self._events.ids, deaths.view(DEATH.dtype)["lsn"], damaged=damaged)
        elif self.manifest.files and damaged:
            state.doubt_all("which memories had ended is lost, and so may be what told it again")
        state.rebuild_keys()
        self.doubts += state.doubts
        names = self._table(FileKind.NAMES)
        if names is not None:
            self.fields |= Names(names.tobytes(), "").fields
        self._begin_graph(names)
        keys = self._table(FileKind.KEYS)
        if keys is not None:
            self.created = dict(zip(keys.view(KEY.dtype)["id"].tolist(), keys["created"].tolist(), strict=True))
        for kind in _ONLY_DERIVED:
            self._table(kind)  # derived from what was read; only to tell what is damaged

    def _begin_graph(self, names: NDArray[Any] | None) -> None:
        """Links, archives and branches of the generation: from the blobs; if some are damaged, from the tables."""
        self.changes.sort(key=lambda change: change[0])
        tables = {kind: self._table(kind) for kind in (FileKind.LINKS, FileKind.ARCHIVED)}
        unexplained = [damage for damage in self._blobs.damages if not self._events.explain(damage)]
        if not unexplained:
            return
        whole = names is not None and all(
            table is not None or kind not in self.manifest.files for kind, table in tables.items()
        )
        if whole and self._has_manifest and names is not None:
            known = Names(names.tobytes(), "")
            branches = [
                (known.sessions[number], event, lsn, known.sessions[trunk])
                for number, (event, lsn, trunk) in known.branches.items()
            ]
            links, archived = tables[FileKind.LINKS], tables[FileKind.ARCHIVED]
            links = np.empty(0, LINK.dtype) if links is None else links
            archived = np.empty(0, ARCHIVED.dtype) if archived is None else archived
            self.changes = operations_of(links, archived, known.kind_name, branches)
            return
        for damage in unexplained:
            self.lost.append(
                Loss(
                    self._path(FileKind.BLOBS), damage.offset, damage.end - damage.offset,
                    "links, archives or branches, if any stood here: their tables are damaged as well",
                )
            )  # fmt: skip

    # -- the log ------------------------------------------------------------------------------------------------

    def _read_log(self) -> None:
        """Apply every whole commit behind the generation, in order."""
        manifest = self.manifest
        lsn, next_id = manifest.lsn + 1, manifest.next_id
        log = read_log(
            self._files, self._root, manifest.uuid, manifest.segment if self._has_manifest else None, lsn, next_id
        )
        if not self._has_manifest:
            lsn, next_id = self._where_the_log_begins(log)
        gaps, self.lsn, self.next_id = log.gaps(lsn, next_id)
        self._changes_until = max((change_lsn for change_lsn, _ in self.changes), default=0)  # the generation's
        for number in sorted(log.frames):
            frame = log.frames[number]
            if number < lsn and self._has_manifest:
                continue
            id_ = frame.first_id
            for operation in frame.operations:
                if operation.kind == OpKind.FORGET:
                    self._state.forget(np.frombuffer(operation.text, "<u8").tolist(), number)
                    continue
                if operation.kind in CHANGES:
                    if number > self._changes_until:
                        self.changes.append((number, bytes(operation.blob)))
                    continue
                if id_ not in self._state.memories and id_ not in self._state.forgotten:
                    self._state.remember(self._from_log(id_, number, operation))
                id_ += 1
        losses = log.losses(f"{self._root}/wal", gaps, self.lsn)
        self.lost += losses.lost
        self.rebuilt += losses.notes
        self.missing_lsns = id_ranges(losses.lsns)
        self.next_id += losses.ids_max  # ids that may have been given out are never given out again
        self._doubt_before_lsn = max(self._doubt_before_lsn, losses.doubt_before)
        if self._doubt_before_lsn:
            self.doubts.append(
                "commits are missing; memories older than them may have been forgotten or replaced there"
            )

    def _where_the_log_begins(self, log: SalvagedLog) -> tuple[int, int]:
        newest = max((m.lsn for m in self._state.memories.values()), default=0)
        newest = max([newest, *(lsn for lsn, _ in self._blobs.tombstones)])
        last_id = max([0, *self._state.memories, *map(int, self._events.ids), *self._rows.by_id])
        first_mark = min(log.marks, default=None)
        if first_mark is not None and (first_mark[0] <= newest + 1 or first_mark[0] == 1):
            return first_mark
        if first_mark is not None and self.manifest.files:  # commits that only forgot may have left no blob behind
            self._doubt_before_lsn = first_mark[0]
            return first_mark
        return newest + 1, last_id + 1

    def _from_log(self, id_: int, lsn: int, operation: Operation) -> Salvaged:
        memory = Salvaged(id_, lsn, operation.blob)
        if operation.flags & OpFlag.VECTOR:
            memory.scale, memory.codes = split_vector(operation.vector, self.manifest.rows)
        return memory

    def _read_salience(self) -> None:
        """How often memories were recalled: ACCESS[n] of those that are in the new store."""
        try:
            self.salience = read_salience(self._files, self._root, self.manifest.uuid)
        except FileNotFoundError:
            return
        except (CorruptionError, OSError) as error:
            self.lost.append(Loss(f"{self._root}/{SALIENCE_NAME}", 0, 0, f"how often memories were recalled: {error}"))
            return
        kept = np.array(sorted(self.memories), np.uint64)
        self.salience = self.salience[np.isin(self.salience["id"], kept)]

    # -- the result ---------------------------------------------------------------------------------------------

    def text(self, memory: Salvaged) -> memoryview | None:
        """A memory's text, or None if it was kept by reference and is not whole."""
        return self._arenas.text(memory.operation)

    def _finish(self) -> None:
        """Say what is lost, and leave only what can be read."""
        self.next_id = max(
            [self.next_id, *(id_ + 1 for id_ in self._state.memories), *(int(i) + 1 for i in self._events.ids)]
        )
        self._lose_blobs()
        vectorless: list[Salvaged] = []
        for memory in self._state.readable:
            id_ = memory.id
            try:
                text = self.text(memory)
                decode_extra(memory.operation.extra)
                if text is not None:
                    str(text, "utf-8")
            except ValueError as error:
                self.lost.append(
                    Loss(self._arenas.blob_path, max(memory.offset, 0), 0, f"malformed: {error}", id_ranges([id_]))
                )
                continue
            if text is None:
                offset, count, _ = decode_blob_ref(memory.operation.text)
                self.lost.append(
                    Loss(
                        self._arenas.blob_path,
                        offset,
                        BLOB.size + count,
                        "a text kept by reference is damaged or gone",
                        id_ranges([id_]),
                    )
                )
                continue
            if memory.operation.flags & OpFlag.VECTOR and memory.codes is None:
                vectorless.append(memory)
            self.memories[id_] = memory
        self._lose_vectors(vectorless)
        doubtful = {
            id_
            for id_, memory in self.memories.items()
            if memory.lsn < self._doubt_before_lsn or id_ in self._state.doubtful or id_ in self._blobs.looked_for
        }
        if self._blobs.looked_for & doubtful:
            self.doubts.append("memories found by looking through damaged bytes, whose event is damaged too")
        self.doubtful = id_ranges(doubtful)

    def _lose_blobs(self) -> None:
        """Ids that events or rows name and no whole blob holds, each with the damage it stood in."""
        state = self._state
        named = {int(id_) for id_ in self._events.ids if id_} | set(self._rows.by_id)
        gone = {
            id_
            for id_ in named
            if id_ not in state.memories and id_ not in state.forgotten and not 0 < state.ended.get(id_, 0) < SUPERSEDED
        }
        path = self._path(FileKind.BLOBS)
        end = data_offset(FileKind.BLOBS) + len(self._arenas.records[FileKind.BLOBS])
        for damage in self._blobs.damages:
            here = {id_ for id_ in gone if damage.offset <= self._events.offsets.get(id_, -1) < damage.end}
            gone -= here
            if here:
                self.lost.append(
                    Loss(
                        path,
                        damage.offset,
                        damage.end - damage.offset,
                        "memories: their blobs are damaged",
                        id_ranges(here),
                    )
                )
            else:
                self.rebuilt.append(
                    Problem(
                        path,
                        damage.offset,
                        f"{damage.end - damage.offset} damaged bytes of no memory that is still there",
                    )
                )
        if gone:
            self.lost.append(Loss(path, end, 0, "memories: their blobs are not there", id_ranges(gone)))
        unknown = int((self._events.ids == 0).sum())
        if unknown and self._blobs.damages:
            self.lost.append(
                Loss(self._path(FileKind.EVENTS), data_offset(FileKind.EVENTS), 0,
                     f"{unknown} events are damaged whose ids nothing else tells")
            )  # fmt: skip

    def _lose_vectors(self, memories: list[Salvaged]) -> None:
        stride = row_stride(self.manifest.dim, self.manifest.rows)
        for n, memory in enumerate(memories):
            row = self._events.rows.get(memory.id, self._rows.damaged[n] if n < len(self._rows.damaged) else 0)
            self.lost.append(
                Loss(
                    self._path(FileKind.CODES), data_offset(FileKind.CODES) + row * stride, stride,
                    f"the vector of row {row}, whose text is whole: the memory is kept without it", id_ranges([memory.id]),
                )
            )  # fmt: skip
