"""The engine: one generation and everything committed since, and how a commit changes it.

`apply` is the only way state changes, for a commit just written and for one replayed from the log, so what recovery
rebuilds is what was there. One thread applies at a time, in the order of LSNs; readers take a `View` and no lock.
"""

from __future__ import annotations

import itertools
import weakref
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from aeon.atlas import Atlas
from aeon.blob_arena import BlobArena
from aeon.errors import CorruptionError, NotFoundError
from aeon.files import FileSystem
from aeon.format import KEY, SUPERSEDED, EdgeKind, FileKind, OpFlag, OpKind, data_offset, generation_name
from aeon.generation_files import MappedFile
from aeon.key_table import KeyTable, encode_key
from aeon.manifest import Manifest
from aeon.operations import Extra, Operation, decode_commit, decode_extra
from aeon.trace import Event, Trace

_PRIVATE = (
    FileKind.EVENT_DEATHS,
    FileKind.ROW_DEATHS,
    FileKind.PAGES,
)  # changed in memory while the file stays as it is


_serials = itertools.count(1)


class View(NamedTuple):
    """A consistent snapshot: everything up to one commit. Valid for as long as it is held."""

    engine: Engine
    events: int
    rows: int
    lsn: int


class Engine:
    """State of a store. Built from a manifest; what `view` shows is replaced by one assignment after each commit.

    Holds no reference to itself: when the last reader lets go, its mappings and their descriptors go at once.

    Attributes
    ----------
    live, vectors : how many memories, and how many with a vector, are alive and current.
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
        missing = set(FileKind) - {FileKind.PAGES} - set(mapped) if mapped else set()
        if missing:
            raise CorruptionError(f"{root}/MANIFEST", 0, expected=f"files {sorted(missing)}", found="no entry")
        ahead = f"{root}/{generation_name(manifest.generation + 1)}/blobs.arena"
        self.blobs = BlobArena(files, mapped.get(FileKind.BLOBS), ahead)
        self.trace = Trace(mapped, manifest.next_id)
        self.atlas = Atlas(mapped, manifest.dim, manifest.rows, manifest.uuid)
        if self.trace.events.base_count and mapped[FileKind.ROWS].entry.count != mapped[FileKind.CODES].entry.count:
            raise CorruptionError(f"{root}/MANIFEST", 0, expected="as many rows as codes", found=manifest.files)
        self.mapped = mapped
        self._plain_extras: dict[bytes, tuple[int, int]] = {}
        self.deaths_since = 0
        self._published = (self.trace.events.count, self.atlas.codes.count, manifest.lsn)

    @property
    def view(self) -> View:
        """The newest snapshot."""
        return View(self, *self._published)

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
            else:
                raise ValueError(f"unknown operation {operation.kind}")
        self._published = (self.trace.events.count, self.atlas.codes.count, lsn)

    def _remember(self, lsn: int, id_: int, operation: Operation, text: memoryview) -> None:
        trace, flags = self.trace, operation.flags
        extra_bytes = bytes(operation.extra)
        numbers = self._plain_extras.get(extra_bytes)
        extra: Extra | None = None
        if numbers is None:
            extra = decode_extra(extra_bytes)
            numbers = trace.names.session(extra.session), trace.names.namespace(extra.namespace)
            if extra.key is None and extra.metadata is None and not extra.refs:
                if len(self._plain_extras) > 4096:
                    self._plain_extras.clear()
                self._plain_extras[extra_bytes] = numbers
        row = -1
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
        self.blobs.append(bytes(operation.blob), lsn)
        if extra is None:
            return
        if extra.metadata:
            trace.names.note_fields(extra.metadata)
        for ref in extra.refs:
            trace.link(id_, ref, EdgeKind.REF)
        if extra.key is not None:
            self._supersede(lsn, id_, encode_key(extra.namespace, extra.key), operation.timestamp)

    def _supersede(self, lsn: int, id_: int, key: bytes, timestamp: int) -> None:
        """Let `key` name the new version; the one before stays readable by its id and leaves search and history."""
        before = self.keys.get(key)
        created = timestamp
        if before is not None:
            old_id, created = before
            index = self.trace.index_of(old_id)
            if self.trace.kill(index, lsn, superseded=True):
                self.deaths_since += 1
            row = self.trace.event(index).row
            if row >= 0:
                self.atlas.kill(row, lsn)
            self.trace.link(id_, old_id, EdgeKind.REPLACES)
        self.keys.set(key, id_, created)

    def _forget(self, lsn: int, operation: Operation) -> None:
        pending = np.frombuffer(operation.text, "<u8").tolist()
        while pending:
            id_ = pending.pop()
            index = self.trace.index_of(id_)
            if index < 0 or not self.trace.kill(index, lsn, superseded=False):
                continue
            self.deaths_since += 1
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

    # -- reading ------------------------------------------------------------------------------------------------

    def operation(self, index: int) -> Operation:
        """The operation that made the event at `index`: checked against its checksum, decoded, borrowed."""
        tail = index - self.trace.events.base_count
        if tail >= 0:
            return Operation(memoryview(self.blobs.tail[tail]), 0, with_vector=False)
        event = self.trace.event(index)
        blob = self.blobs.view(event.blob_offset, event.blob_bytes, event.id)
        try:
            return Operation(blob, 0, with_vector=False)
        except ValueError as error:
            raise CorruptionError(
                self.blobs.path, event.blob_offset, expected="an operation", found=str(error)
            ) from error

    def extra(self, index: int) -> Extra:
        """Names, key, metadata and refs of the event at `index`."""
        operation = self.operation(index)
        try:
            return decode_extra(operation.extra)
        except ValueError as error:
            raise CorruptionError(
                self.blobs.path, data_offset(FileKind.BLOBS), expected="an operation's extra", found=str(error)
            ) from error

    def text(self, index: int) -> str:
        """The text of the event at `index`."""
        return str(self.blobs.text(self.operation(index)), "utf-8")

    def event(self, index: int) -> Event:
        """The event at `index`."""
        return self.trace.event(index)


def find(view: View, id_: int) -> int:
    """Index of the memory with this id, if it can be read in `view`: alive, or replaced by a newer version.

    NotFoundError if no such id was ever given out, or if it was forgotten.
    """
    index = view.engine.trace.index_of(id_)
    if index < 0 or index >= view.events or not is_readable(view.engine.trace.death(index), view.lsn):
        raise NotFoundError(f"no memory has id {id_}, or it was forgotten")
    return index


def is_alive(death: int, lsn: int) -> bool:
    """Whether a DEATH leaves the event current at `lsn`."""
    return not death or (death & ~SUPERSEDED) > lsn


def is_readable(death: int, lsn: int) -> bool:
    """Whether a DEATH leaves the event readable by id at `lsn`: alive, or superseded."""
    return not death or bool(death & SUPERSEDED) or death > lsn


def alive_mask(view: View, indexes: NDArray[np.int64]) -> NDArray[Any]:
    """Which of the events at `indexes` are current in `view`: bool[n]."""
    deaths = view.engine.trace.deaths.take(indexes, "lsn")
    return (deaths == 0) | ((deaths & np.uint64(~SUPERSEDED & (1 << 64) - 1)) > view.lsn)
