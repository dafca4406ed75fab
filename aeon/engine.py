"""The engine: one generation and everything committed since, and how a commit changes it.

`apply` is the only way state changes, for a commit just written and for one replayed from the log, so what recovery
rebuilds is what was there. One thread applies at a time, in the order of LSNs; readers take a `View` and no lock.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from aeon.atlas import Atlas
from aeon.blob_arena import BlobArena
from aeon.errors import CorruptionError, NotFoundError
from aeon.fields import Fields
from aeon.files import FileSystem
from aeon.format import (
    KEY,
    OPTIONAL_FILES,
    SUPERSEDED,
    EdgeKind,
    FileKind,
    OpFlag,
    OpKind,
    data_offset,
    generation_name,
)
from aeon.generation_files import MappedFile
from aeon.graph import CHANGES, Change, decode_change
from aeon.key_table import KeyTable, encode_key
from aeon.manifest import Manifest
from aeon.operations import Extra, Operation, decode_commit, decode_extra, decode_metadata
from aeon.page_memory import Snapshot
from aeon.time_blocks import TimeBlocks
from aeon.trace import Event, Trace

_PRIVATE = (
    FileKind.EVENT_DEATHS,
    FileKind.ROW_DEATHS,
    FileKind.PAGES,
    FileKind.LINKS,
    FileKind.REVERSE,
    FileKind.ARCHIVED,
)  # changed in memory while the file stays as it is


_LET_GO_BYTES = 1 << 24  # a millisecond
_PIECE = 4096  # events whose fields are taken together
_serials = itertools.count(1)


class View(NamedTuple):
    """A consistent snapshot: everything up to one commit. Valid for as long as it is held."""

    engine: Engine
    events: int
    rows: int
    lsn: int


_new_view: Any = tuple.__new__  # every search takes a view, and View(...) costs twice as much


def view_of(engine: Engine, published: tuple[int, int, int]) -> View:
    """The view of what an engine had published."""
    events, rows, lsn = published
    view: View = _new_view(View, (engine, events, rows, lsn))
    return view


class Frozen(NamedTuple):
    """Everything a generation is written from: a view, and the counts of what carries no LSN. Others may go on writing.

    pages : what the index showed at that moment, None without one: a row that ended later has to be in the pages yet.
    """

    view: View
    sessions: int
    namespaces: int
    key_changes: int
    pages: Snapshot | None

    @property
    def next_id(self) -> int:
        """Memories with an id below it are there."""
        trace = self.view.engine.trace
        return trace.tail_first_id + self.view.events - trace.events.base_count


class Engine:
    """State of a store. Built from a manifest; what `view` shows is replaced by one assignment after each commit.

    Holds no reference to itself: when the last reader lets go, its mappings and their descriptors go at once.

    Attributes
    ----------
    live, vectors : how many memories, and how many with a vector, are alive and current.
    published : events, rows and LSN of the newest view, replaced by one assignment.
    serial : no other engine of this process has it; what was learned of one engine's rows is void in another.
    """

    def __init__(self, files: FileSystem, root: str, manifest: Manifest) -> None:
        self.serial = next(_serials)
        self.manifest = manifest
        self._root = root
        mapped = {
            kind: MappedFile(files, root, manifest.uuid, kind, entry, private=kind in _PRIVATE)
            for kind, entry in manifest.files.items()
        }
        missing = set(FileKind) - OPTIONAL_FILES - set(mapped) if mapped else set()
        if missing:
            raise CorruptionError(f"{root}/MANIFEST", 0, expected=f"files {sorted(missing)}", found="no entry")
        ahead = f"{root}/{generation_name(manifest.generation + 1)}/blobs.arena"
        self.blobs = BlobArena(files, mapped.get(FileKind.BLOBS), ahead)
        self.trace = Trace(mapped, manifest.next_id)
        self.atlas = Atlas(mapped, manifest.dim, manifest.rows, manifest.uuid)
        if self.trace.events.base_count and mapped[FileKind.ROWS].entry.count != mapped[FileKind.CODES].entry.count:
            raise CorruptionError(f"{root}/MANIFEST", 0, expected="as many rows as codes", found=manifest.files)
        self.fields = Fields()
        self.time_blocks = TimeBlocks(manifest.dim, mapped.get(FileKind.TIME_BLOCKS))
        self.mapped = mapped
        self._plain_extras: dict[bytes, tuple[int, int]] = {}
        self._expires_since = False
        self.forgotten_since = 0  # memories forgotten since the generation was written
        self.published = (self.trace.events.count, self.atlas.codes.count, manifest.lsn)

    @property
    def view(self) -> View:
        """The newest snapshot."""
        events, rows, lsn = self.published
        return _new_view(View, (self, events, rows, lsn))

    @property
    def forgotten(self) -> int:
        """How many memories are still in the files though they can no longer be read; 0 if none was forgotten lately."""
        return self.forgotten_since + self._forgotten_before if self.forgotten_since else 0

    @property
    def may_expire(self) -> bool:
        """Whether any memory has a time to live of its own."""
        return self._expires_since or bool(self.trace.base_flags() & OpFlag.EXPIRES)

    @cached_property
    def _forgotten_before(self) -> int:
        deaths = self.trace.deaths.base["lsn"]
        return int(np.count_nonzero((deaths != 0) & (deaths < SUPERSEDED) & (deaths <= self.manifest.lsn)))

    def freeze(self) -> Frozen:
        """The state after the commit that was applied last; called under the index lock. Cost: constant."""
        names, index = self.trace.names, self.atlas.index
        changes = self.keys.changes if "keys" in self.__dict__ else 0
        pages = None if index is None else index.snapshot
        return Frozen(self.view, len(names.sessions), len(names.namespaces), changes, pages)

    def take_over(self, frozen: Frozen, pause: Callable[[], None], is_stopping: Callable[[], bool]) -> None:
        """Take what the engine of the generation before knows beside its files: columns of metadata; its page index is next.

        Where rows were left out their numbers changed: then pages come from the file, before anything is applied.
        """
        old = frozen.view.engine
        if self.is_renumbered(frozen):
            self.atlas.serve(is_stopping)
        if old.fields.is_empty:
            return
        before, ids = old.trace.ids(old.view.events, pause), self.trace.ids(self.view.events, pause)
        self.fields.take_over(old.fields, np.searchsorted(before, ids), pause)

    def is_renumbered(self, frozen: Frozen) -> bool:
        """Whether rows have other numbers than in what this generation was written from."""
        return self.atlas.codes.base_count != frozen.view.rows

    def warm(self, pause: Callable[[], None]) -> None:
        """Verify what was mapped, so that no reader or writer has to wait for that later."""
        self.trace.warm(pause)
        self.atlas.warm(pause)
        _ = self.keys

    def let_go(self, pause: Callable[[], None]) -> None:
        """Take what was read of the arena files out of memory: another engine is to serve, and maps them as well.

        Who still holds this one may go on reading.
        """
        for kind in (FileKind.CODES, FileKind.ROWS, FileKind.EVENTS, FileKind.BLOBS):
            if kind in self.mapped:
                file = self.mapped[kind]
                for first in range(0, len(file.data), _LET_GO_BYTES):
                    file.let_go(first, first + _LET_GO_BYTES)
                    pause()

    @cached_property
    def keys(self) -> KeyTable:
        """The key table; verified when first needed."""
        base = self.mapped[FileKind.KEYS].content() if self.mapped else np.empty(0, KEY.dtype)
        myself = weakref.ref(self)  # alive whenever its table is asked
        return KeyTable(base, lambda id_: cast("Engine", myself())._key_of(id_))

    def _key_of(self, id_: int) -> bytes:
        extra = self.extra(self.trace.index_of(id_))
        return encode_key(extra.namespace, extra.key or "")

    # -- changing (one thread at a time) ------------------------------------------------------------------------

    def apply(self, lsn: int, first_id: int, payload: memoryview) -> None:
        """Carry out a commit and publish it.

        ValueError if the payload is not one; CorruptionError, with nothing changed, if a text by reference is missing.
        """
        id_ = first_id
        operations = list(decode_commit(payload))
        # Read before anything changes: a text in the arena may be missing, and reading it may fail.
        texts = [self.blobs.text(operation) for operation in operations]
        for operation, text in zip(operations, texts, strict=True):
            if operation.kind == OpKind.REMEMBER:
                self._remember(lsn, id_, operation, text)
                id_ += 1
            elif operation.kind == OpKind.FORGET:
                self._forget(lsn, operation)
            elif operation.kind in CHANGES:
                self._change(lsn, decode_change(operation), bytes(operation.blob))
            else:
                raise ValueError(f"unknown operation {operation.kind}")
        self.published = (self.trace.events.count, self.atlas.codes.count, lsn)

    def _remember(self, lsn: int, id_: int, operation: Operation, text: memoryview) -> None:
        trace, flags = self.trace, operation.flags
        extra_bytes = bytes(operation.extra)
        numbers = self._plain_extras.get(extra_bytes)
        extra: Extra | None = None
        if numbers is None:
            extra = decode_extra(extra_bytes)
            numbers = trace.names.session(extra.session), trace.names.namespace(extra.namespace)
            if extra.key is None and extra.metadata is None and not extra.refs and extra.expires is None:
                if len(self._plain_extras) > 4096:
                    self._plain_extras.clear()
                self._plain_extras[extra_bytes] = numbers
        row = -1
        self._expires_since |= bool(flags & OpFlag.EXPIRES)
        if flags & OpFlag.VECTOR:
            vector = operation.vector
            if len(vector) != self.atlas.code_bytes + 4 * self.atlas.quantised:
                raise ValueError(f"a vector of {len(vector)} bytes")
            if self.atlas.quantised:
                scale = np.frombuffer(vector[:4], "<f4")[0]
                row = self.atlas.append(id_, scale, vector[4:])
            else:
                row = self.atlas.append(id_, 1.0, vector)
        trace.append(
            id_, parent=operation.parent, timestamp=operation.timestamp, session=numbers[0], namespace=numbers[1],
            role=operation.role, flags=flags, row=row, blob_bytes=len(operation.blob), text=text,
        )  # fmt: skip
        self.blobs.tail.append(operation.blob, lsn)
        if extra is None:
            return
        if extra.metadata:
            trace.names.note_fields(extra.metadata)
        for ref in extra.refs:
            trace.graph.add_born(id_, ref, EdgeKind.REF)
        if extra.key is not None:
            self._supersede(lsn, id_, encode_key(extra.namespace, extra.key), operation.timestamp)

    def _supersede(self, lsn: int, id_: int, key: bytes, timestamp: int) -> None:
        """Let `key` name the new version; the one before stays readable by its id and leaves search and history."""
        before = self.keys.get(key)
        created = timestamp
        if before is not None:
            old_id, created = before
            index = self.trace.index_of(old_id)
            self.trace.kill(index, lsn, superseded=True)
            row = self.trace.event(index).row
            if row >= 0:
                self.atlas.kill(row, lsn)
            self.trace.graph.add_born(id_, old_id, EdgeKind.REPLACES)
        self.keys.set(key, id_, created)

    def _forget(self, lsn: int, operation: Operation) -> None:
        pending = np.frombuffer(operation.text, "<u8").tolist()
        while pending:
            id_ = pending.pop()
            index = self.trace.index_of(id_)
            if index < 0 or not self.trace.kill(index, lsn, superseded=False):
                continue
            self.forgotten_since += 1
            event = self.trace.event(index)
            if event.row >= 0:
                self.atlas.kill(event.row, lsn)
            if event.flags & OpFlag.KEY:
                key = self._key_of(id_)
                named = self.keys.get(key)
                if named is not None and named[0] == id_:
                    self.keys.set(key, 0, 0)
            # What a forgotten memory had replaced goes with it: its key would bring an old version back otherwise.
            pending += [dst for dst, kind in self.trace.edges_from(id_) if kind == EdgeKind.REPLACES]

    def _change(self, lsn: int, change: Change, operation: bytes) -> None:
        """Carry out an operation on the graph, but for ends that were forgotten meanwhile."""
        apply_change(self.trace, lsn, change, self._is_readable)
        self.trace.graph.log.append((lsn, operation))

    def _is_readable(self, id_: int) -> bool:
        index = self.trace.index_of(id_)
        return index >= 0 and not 0 < self.trace.death(index) < SUPERSEDED

    # -- reading ------------------------------------------------------------------------------------------------

    def operation(self, index: int) -> Operation:
        """The operation that made the event at `index`: checked against its checksum, decoded, borrowed."""
        tail = index - self.trace.events.base_count
        if tail >= 0:
            return Operation(self.blobs.tail[tail], 0, with_vector=False)
        event = self.trace.event(index)
        blob = self.blobs.view(event.blob_offset, event.blob_bytes, event.id)
        try:
            return Operation(blob, 0, with_vector=False)
        except ValueError as error:
            raise CorruptionError(
                self.blobs.path, event.blob_offset, expected="an operation", found=str(error)
            ) from error

    def lsn_of(self, index: int) -> int:
        """LSN of the commit that made the event at `index`; never smaller than that of the event before."""
        tail = index - self.trace.events.base_count
        if tail < 0:
            self.operation(index)  # checks the record
            return self.blobs.lsn_at(tail, self.event(index).blob_offset)
        return self.blobs.lsn_at(tail, 0)

    def extra(self, index: int) -> Extra:
        """Names, key, metadata and refs of the event at `index`."""
        operation = self.operation(index)
        try:
            return decode_extra(operation.extra)
        except ValueError as error:
            raise CorruptionError(
                self.blobs.path, data_offset(FileKind.BLOBS), expected="an operation's extra", found=str(error)
            ) from error

    def metadata_of(self, indexes: NDArray[np.int64]) -> Iterator[dict[str, Any] | CorruptionError | None]:
        """The metadata of each of the events at `indexes`, or what is wrong with it: for those who read that of many."""
        tail, base_count, view = self.blobs.tail, self.trace.events.base_count, self.blobs.view
        for first in range(0, len(indexes), _PIECE):
            piece = indexes[first : first + _PIECE]
            fields = (self.trace.take(piece, name).tolist() for name in ("blob_offset", "blob_bytes", "id"))
            for index, offset, size, id_ in zip(piece.tolist(), *fields, strict=True):
                try:
                    blob = view(offset, size, id_) if index < base_count else tail[index - base_count]
                    yield decode_metadata(blob)
                except CorruptionError as error:
                    yield error
                except ValueError as error:
                    yield CorruptionError(self.blobs.path, offset, expected="an operation's extra", found=str(error))

    def text(self, index: int) -> str:
        """The text of the event at `index`."""
        return str(self.blobs.text(self.operation(index)), "utf-8")

    def event(self, index: int) -> Event:
        """The event at `index`."""
        return self.trace.event(index)


def apply_change(trace: Trace, lsn: int, change: Change, is_readable: Callable[[int], bool]) -> None:
    """Carry out a decoded operation on a trace's graph and names; `check` does the same to prove the tables."""
    graph, names = trace.graph, trace.names
    if change.kind == OpKind.LINK:
        number = names.kind(change.name)
        for src, dst in change.pairs:
            if is_readable(src) and is_readable(dst):
                graph.link(src, dst, number, lsn)
    elif change.kind == OpKind.UNLINK:
        number = names.kind(change.name)
        for src, dst in change.pairs:
            graph.unlink(src, dst, number, lsn)
    elif change.kind == OpKind.BRANCH:
        trunk, session = names.session(change.second), names.session(change.name)
        names.branch(session, change.parent, lsn, trunk)
    else:
        for id_ in change.ids:
            if change.kind == OpKind.RESTORE:
                graph.restore(id_, lsn)
            elif is_readable(id_):
                graph.archive(id_, change.parent, lsn)


def find(view: View, id_: int) -> int:
    """Index of the memory with this id, if it can be read in `view`: alive, or replaced by a newer version.

    NotFoundError if no such id was ever given out, or if it was forgotten.
    """
    index = view.engine.trace.index_of(id_)
    if index < 0 or index >= view.events or not is_readable(view.engine.trace.death(index), view.lsn):
        raise NotFoundError(f"no memory has id {id_}, or it was forgotten")
    return index


def is_readable(death: int, lsn: int) -> bool:
    """Whether a DEATH leaves the event readable by id at `lsn`: alive, or superseded."""
    return not death or bool(death & SUPERSEDED) or death > lsn


_LSN = np.uint64(SUPERSEDED - 1)


def is_alive(trace: Trace, index: int, lsn: int) -> bool:
    """Whether the event at `index` is current at `lsn`."""
    death = trace.death(index)
    if not death:
        return True
    return (death & ~SUPERSEDED) > lsn and trace.superseded_at.get(index, lsn + 1) > lsn


def alive_mask(view: View, indexes: NDArray[np.int64]) -> NDArray[Any]:
    """Which of the events at `indexes` are current in `view`: bool[n]."""
    trace = view.engine.trace
    deaths = trace.deaths.take(indexes, "lsn")
    alive: NDArray[Any] = deaths == 0
    later = (deaths & _LSN) > view.lsn
    if later.any():
        alive |= later
        superseded_at = trace.superseded_at
        if superseded_at:  # what was forgotten after this view may have been replaced before it
            for n in np.flatnonzero(later).tolist():
                alive[n] = superseded_at.get(int(indexes[n]), view.lsn + 1) > view.lsn
    return alive


def alive_among(view: View, indexes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the events at `indexes` that are current in `view`."""
    if not np.count_nonzero(view.engine.trace.deaths.take(indexes, "lsn")):
        return indexes
    return indexes[alive_mask(view, indexes)]


def deaths_in(view: View) -> NDArray[np.uint64]:
    """The DEATH of each event as it was in `view`, while others may go on ending them: uint64[events]."""
    trace = view.engine.trace
    deaths: NDArray[np.uint64] = trace.deaths.field("lsn", view.events)
    later = np.flatnonzero((deaths & _LSN) > view.lsn)
    for index in later.tolist():
        before = trace.superseded_at.get(index, 0)
        deaths[index] = before | SUPERSEDED if 0 < before <= view.lsn else 0
    return deaths
