"""Generation files: arena files that are appended to, and tables written once. FORMAT: FILE_HEADER.

A file counts up to the length the manifest gives. Bytes beyond are what an interrupted checkpoint left: the next one
writes over them. A table's content is checksummed as a whole and verified when it is first read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.errors import CorruptionError
from aeon.files import Buffer, FileSystem, let_go, write_fully
from aeon.format import (
    FILE_HEADER,
    FILE_MAGIC,
    FORMAT_VERSION,
    RECORDS,
    FileKind,
    data_offset,
    generation_name,
)
from aeon.manifest import FileEntry
from aeon_native import dispatch

FIRST_TABLE = FileKind.EVENT_DEATHS  # kinds before it are arena files


def file_name(kind: FileKind) -> str:
    """Name of a file inside its generation's directory."""
    return kind.name.lower().replace("_", "-") + (".tbl" if kind >= FIRST_TABLE else ".arena")


def encode_header(
    kind: FileKind, uuid: bytes, generation: int, count: int, record_bytes: int, content_crc: int
) -> bytes:
    """Return the 64 bytes a generation file begins with."""
    header = FILE_HEADER.pack(
        FILE_MAGIC, FORMAT_VERSION, kind, uuid, count, generation, record_bytes, content_crc, 0, 0
    )[:-4]
    return header + dispatch.kernels.crc32c(header).to_bytes(4, "little")


class MappedFile:
    """A generation file, mapped; its header is checked here, its content by `content` (tables) or record by record.

    Parameters
    ----------
    private : map writable and private: changes stay in this process, the file is untouched.
    """

    def __init__(
        self, files: FileSystem, root: str, uuid: bytes, kind: FileKind, entry: FileEntry, *, private: bool = False
    ) -> None:
        self.path = f"{root}/{entry.path}"
        self.kind = kind
        self.entry = entry
        start = data_offset(kind)
        try:
            file = files.open(self.path)
        except FileNotFoundError as error:
            raise CorruptionError(self.path, 0, expected=f"a file of {entry.bytes} bytes", found="no file") from error
        try:
            size = file.size()
            if size < entry.bytes or entry.bytes < start:
                raise CorruptionError(self.path, size, expected=f"{entry.bytes} bytes", found=f"{size} bytes")
            buffer = file.map(entry.bytes, private=private)
        finally:
            file.close()
        try:
            self.alive: Callable[[], Any] = weakref.ref(buffer)  # None when nothing refers to the mapping any more
        except TypeError:  # a file system in memory maps nothing
            self.alive = lambda: None
        header = FILE_HEADER.unpack_from(buffer)
        magic, version, number, owner, count, _, self.record_bytes, self._content_crc, _, crc = header
        if dispatch.kernels.crc32c(bytes(buffer[: FILE_HEADER.size - 4])) != crc or magic != FILE_MAGIC:
            raise CorruptionError(self.path, 0, expected="a file header", found=bytes(buffer[: FILE_HEADER.size]).hex())
        if number != kind or owner != uuid or version > FORMAT_VERSION:
            raise CorruptionError(
                self.path, 0, expected=f"{kind.name} of store {uuid.hex()}", found=f"kind {number} of {owner.hex()}"
            )
        self._mapping = None if private else buffer  # private pages hold changes
        self.data: NDArray[np.uint8] = np.frombuffer(buffer, np.uint8)[start:]
        if self.record_bytes and len(self.data) != entry.count * self.record_bytes:
            raise CorruptionError(
                self.path,
                start,
                expected=f"{entry.count} records of {self.record_bytes}",
                found=f"{len(self.data)} bytes",
            )
        if kind >= FIRST_TABLE and count != entry.count:
            raise CorruptionError(self.path, 32, expected=f"{entry.count} records", found=count)
        if kind in RECORDS and self.record_bytes != RECORDS[kind].size:
            raise CorruptionError(self.path, 48, expected=RECORDS[kind].size, found=self.record_bytes)
        self._verified = kind < FIRST_TABLE

    def unverified(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The records without reading them: to append behind, not to believe."""
        return self.data.view(dtype)

    def let_go(self, start: int, stop: int) -> None:
        """Bytes of `data` that were read and need not stay in memory; they are mapped still."""
        if self._mapping is not None:
            begin = data_offset(self.kind)
            let_go(self._mapping, begin + start, min(begin + stop, len(self._mapping)))

    def content(self) -> NDArray[Any]:
        """The records (structured ndarray, or uint8 bytes); a table is verified on the first call."""
        if not self._verified:
            found = dispatch.kernels.crc32c(self.data)
            if found != self._content_crc:
                raise CorruptionError(
                    self.path,
                    FILE_HEADER.size,
                    expected=f"content checksum {self._content_crc:#010x}",
                    found=f"{found:#010x}",
                )
            self._verified = True
        if self.kind in RECORDS:
            return self.data.view(RECORDS[self.kind].dtype)
        return self.data


def write_table(
    files: FileSystem, root: str, uuid: bytes, generation: int, kind: FileKind, size: int, parts: Iterable[Buffer],
    count: int,
) -> FileEntry:  # fmt: skip
    """Write a table and sync it; its directory entry is synced by the caller.

    size, parts : the content's bytes, uint8 arrays or bytes one behind the other; each may be made when it is its turn.
    """
    record_bytes = RECORDS[kind].size if kind in RECORDS else 0
    path = f"{generation_name(generation)}/{file_name(kind)}"
    file = files.open(f"{root}/{path}", create=True)
    try:
        file.allocate(0, FILE_HEADER.size + size)  # NoSpaceError before anything is written
        crc, at = 0, FILE_HEADER.size
        for part in parts:
            crc = dispatch.kernels.crc32c(part, crc)
            write_fully(file, part, at)
            at += len(part)
        assert at == FILE_HEADER.size + size
        # Its checksum is known at last; that it comes behind the rest on disk as well counts for nothing: no MANIFEST
        # names the file before it is synced.
        write_fully(file, encode_header(kind, uuid, generation, count, record_bytes, crc), 0)
        file.fsync()
    finally:
        file.close()
    return FileEntry(path, at, count)


class ArenaWriter:
    """Appends to an arena file behind the bytes that count. Nothing counts before a manifest says so.

    Parameters
    ----------
    entry : the file so far, or None to create it in `generation`, or to go on in what was written ahead into it.
    """

    def __init__(
        self,
        files: FileSystem,
        root: str,
        uuid: bytes,
        generation: int,
        kind: FileKind,
        entry: FileEntry | None,
        record_bytes: int = 0,
        *,
        end: int = 0,
    ) -> None:
        if entry is None:
            path = f"{generation_name(generation)}/{file_name(kind)}"
            full = f"{root}/{path}"
            if not files.exists(full):
                self._file = files.open(full, create=True)
                header = encode_header(kind, uuid, generation, 0, record_bytes, 0)
                try:
                    write_fully(self._file, header.ljust(data_offset(kind), b"\0"), 0)
                except BaseException:
                    self._file.close()
                    raise
            else:
                self._file = files.open(full, writable=True)
            entry = FileEntry(path, data_offset(kind), 0)
        else:
            self._file = files.open(f"{root}/{entry.path}", writable=True)
        self.path = entry.path
        self.offset = max(entry.bytes, end)
        self.count = entry.count

    def reserve(self, count: int) -> None:
        """Make room for `count` bytes at the end; NoSpaceError if there is none."""
        if count:
            self._file.allocate(self.offset, count)

    def append(self, parts: Iterable[Buffer]) -> None:
        """Write `parts` one behind the other at the end."""
        for part in parts:
            write_fully(self._file, part, self.offset)
            self.offset += part.nbytes if hasattr(part, "nbytes") else len(part)

    def sync(self) -> None:
        """Reach the disk."""
        self._file.fsync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ArenaWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def entry(self) -> FileEntry:
        """What the manifest is to say of the file."""
        return FileEntry(self.path, self.offset, self.count)
