"""The files of a damaged generation: arena files as far as the device gives them, tables if they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.errors import AeonError, VersionError
from aeon.files import File, FileSystem, read_whole
from aeon.format import BLOB, FILE_HEADER, FORMAT_VERSION, FileKind, OpFlag, data_offset, generation_name
from aeon.generation_files import MappedFile, file_name
from aeon.operations import Operation, decode_blob_ref
from aeon.results import Problem
from aeon.salvage_identity import Identity, is_whole_header
from aeon_native import dispatch

_ARENAS = (FileKind.BLOBS, FileKind.CODES, FileKind.ROWS, FileKind.EVENTS)
_SECTOR = 4096  # what is given up around a bad sector
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Arenas:
    """The arena files: mapped, or in memory where the device has bad sectors.

    Attributes
    ----------
    records : by kind, uint8[n] from where records begin, up to the bytes that count; empty if no file is there.
    blobs, blob_path : the blob file from where records begin to its very end, and its path: texts that only the log
        refers to stand behind the bytes that count.
    notes : what is damaged or missing.
    """

    records: dict[FileKind, NDArray[np.uint8]]
    blobs: NDArray[np.uint8]
    blob_path: str
    notes: Sequence[Problem]

    def text(self, operation: Operation) -> memoryview | None:
        """Borrow an operation's text; None if it is kept by reference and is not whole."""
        if not operation.flags & OpFlag.TEXT_REF:
            return operation.text
        offset, count, crc = decode_blob_ref(operation.text)
        at = offset - data_offset(FileKind.BLOBS)
        record = memoryview(self.blobs[max(at, 0) : at + BLOB.size + count])  # type: ignore[arg-type]
        if at < 0 or len(record) != BLOB.size + count:
            return None
        stored, length, id_, _ = BLOB.unpack_from(record)
        if (stored, length, id_) != (crc, count, 0) or dispatch.kernels.crc32c(record[4:]) != crc:
            return None
        return record[BLOB.size :]


def map_arenas(files: FileSystem, store: Identity) -> Arenas:
    """Map the arena files, as far as they are there; VersionError if one is of a newer format."""
    records: dict[FileKind, NDArray[np.uint8]] = {}
    blobs, blob_path = np.empty(0, np.uint8), store.path(FileKind.BLOBS)
    notes: list[Problem] = []
    for kind in _ARENAS:
        records[kind] = np.empty(0, np.uint8)
        entry = store.manifest.files.get(kind)
        path = store.path(kind)
        if entry is None and kind == FileKind.BLOBS:  # texts ahead of the first checkpoint
            path = f"{store.root}/{generation_name(store.manifest.generation + 1)}/{file_name(kind)}"
        if entry is None and not (kind == FileKind.BLOBS and files.exists(path)):
            continue
        data = _map(files, store, kind, path, notes)
        start = data_offset(kind)
        if kind == FileKind.BLOBS:
            blobs, blob_path = data[start:], path
        if entry is not None:
            records[kind] = data[start : entry.bytes]
            if len(data) < entry.bytes:
                notes.append(Problem(path, len(data), f"{entry.bytes - len(data)} bytes are not there"))
    return Arenas(records, blobs, blob_path, notes)


def _map(files: FileSystem, store: Identity, kind: FileKind, path: str, notes: list[Problem]) -> NDArray[np.uint8]:
    """The bytes of a file of this store, uint8[n] from its start; empty, with a note, if it is none."""
    try:
        file = files.open(path)
    except OSError as error:
        notes.append(Problem(path, 0, f"no file ({error.strerror or error})"))
        return np.empty(0, np.uint8)
    try:
        size = file.size()
        data = np.frombuffer(file.map(size), np.uint8) if size else np.empty(0, np.uint8)
        if not _is_readable(file, size):  # a bad sector in a mapping would be a signal
            data = _read_around(file, size, notes)
    finally:
        file.close()
    raw = bytes(data[: FILE_HEADER.size])
    if not is_whole_header(raw, FILE_HEADER.size):
        notes.append(Problem(path, 0, "the header is damaged; each record has a checksum of its own"))
        return data
    _, version, number, owner, *_ = FILE_HEADER.unpack_from(raw)
    if version > FORMAT_VERSION:
        raise VersionError(f"{path}: format {version}; this aeon reads up to {FORMAT_VERSION}")
    if owner != store.manifest.uuid or number != kind:
        notes.append(Problem(path, 0, f"a whole file of another store or kind ({owner.hex()}, {number})"))
        return np.empty(0, np.uint8)
    return data


def _is_readable(file: File, size: int) -> bool:
    try:
        return all(file.pread(min(_READ_BYTES, size - at), at) for at in range(0, size, _READ_BYTES))
    except OSError:
        return False


def _read_around(file: File, size: int, notes: list[Problem]) -> NDArray[np.uint8]:
    """The file in memory, with zeros where the device gives nothing."""
    data = np.zeros(size, np.uint8)
    for at in range(0, size, _SECTOR):
        try:
            part = file.pread(min(_SECTOR, size - at), at)
        except OSError as error:
            notes.append(Problem(file.path, at, f"cannot be read: {error.strerror or error}"))
        else:
            data[at : at + len(part)] = np.frombuffer(part, np.uint8)
    return data


def read_table(files: FileSystem, store: Identity, kind: FileKind) -> NDArray[Any] | Problem | None:
    """A table's records (uint8[n] if they differ in length) if it is whole, None if the store has none."""
    entry = store.manifest.files.get(kind)
    if entry is None:
        return None
    try:
        read_whole(files, store.path(kind))  # a bad sector is an error here, and a signal in a mapping
        return MappedFile(files, store.root, store.manifest.uuid, kind, entry).content()
    except (AeonError, OSError, ValueError) as error:
        return Problem(store.path(kind), 0, f"a derived table: {error}")
