"""The blob arena: operations with their texts, as they were committed; append only, read through a mapping.

What was committed since the last checkpoint is in memory (and in the log); the checkpoint appends it to the file.
Texts over TEXT_BYTES_INLINE are written and synced here before the log refers to them.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from aeon.errors import CorruptionError
from aeon.files import FileSystem
from aeon.format import BLOB, BLOB_ALIGNMENT, BLOB_REF, FileKind, OpFlag, data_offset, padded
from aeon.generation_files import MappedFile
from aeon.operations import Operation, decode_blob_ref
from aeon_native import dispatch

_PIECE_BYTES_MIN = 2048  # of the first piece of a tail; each is twice the one before
_PIECE_BYTES_MAX = 1 << 20


def encode_blob(operation: bytes | memoryview, id_: int, lsn: int) -> bytes:
    """Return the BLOB header that goes before `operation`."""
    header = BLOB.pack(0, len(operation), id_, lsn)
    crc32c = dispatch.kernels.crc32c
    return crc32c(operation, crc32c(header[4:])).to_bytes(4, "little") + header[4:]


def blob_padding(length: int) -> bytes:
    """Zeros that follow an operation of `length` bytes."""
    return bytes(-(BLOB.size + length) % BLOB_ALIGNMENT)


class Tail:
    """Operations in memory until the next checkpoint, one behind the other: an object for each would take 60 bytes more.

    Attributes
    ----------
    lsns : their commits, uint64.
    """

    def __init__(self) -> None:
        self._pieces: list[bytearray] = []
        self._used = 0  # of the newest piece
        self._ends = array("Q")  # of each operation: the number of its piece << 32 | where it ends there
        self.lsns = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, operation: memoryview, lsn: int) -> None:
        """Keep a copy of an operation; readers see it once its end is there."""
        size = len(operation)
        if not self._pieces or self._used + size > len(self._pieces[-1]):
            self._pieces.append(bytearray(max(size, min(_PIECE_BYTES_MIN << len(self._pieces), _PIECE_BYTES_MAX))))
            self._used = 0
        start, self._used = self._used, self._used + size
        self._pieces[-1][start : self._used] = operation
        self.lsns.append(lsn)
        self._ends.append(len(self._pieces) - 1 << 32 | self._used)

    def __getitem__(self, index: int) -> memoryview:
        piece, end = divmod(self._ends[index], 1 << 32)
        before, start = divmod(self._ends[index - 1], 1 << 32) if index else (piece, 0)
        return memoryview(self._pieces[piece])[start if before == piece else 0 : end]


class BlobArena:
    """Reads blobs from the mapped file and from the tail.

    Parameters
    ----------
    mapped : the file of the current generation, or None before the first checkpoint.
    ahead_path : the file that texts by reference are written to before a checkpoint maps them.
    """

    def __init__(self, files: FileSystem, mapped: MappedFile | None, ahead_path: str) -> None:
        self._files = files
        self._start = data_offset(FileKind.BLOBS)
        self._data: NDArray[np.uint8] = mapped.data if mapped else np.empty(0, np.uint8)
        self.path = mapped.path if mapped else ahead_path
        self.end = self._start + len(self._data)
        self._ahead = memoryview(b"")  # the file from its start, as far as texts by reference reach
        self.ahead_end = 0  # end of the furthest text by reference beyond the mapping; 0 = none
        self.tail = Tail()

    @property
    def words(self) -> NDArray[np.uint64]:
        """What is mapped, behind the header, as uint64[n]: records begin and end between two of them."""
        return self._data[: len(self._data) // BLOB_ALIGNMENT * BLOB_ALIGNMENT].view(np.uint64)

    def lsn_at(self, tail: int, offset: int) -> int:
        """LSN of the commit of an operation: the `tail`-th in memory, or (tail < 0) the one at `offset` in the file."""
        if tail >= 0:
            return self.tail.lsns[tail]
        return int(BLOB.unpack_from(memoryview(self._data), offset - self._start)[3])  # type: ignore[arg-type]

    def view(self, offset: int, count: int, id_: int) -> memoryview:
        """Borrow the operation of memory `id_` at `offset`; CorruptionError if it is not what was written there."""
        start = offset - self._start
        end = start + BLOB.size + count
        if start < 0 or end > len(self._data):
            raise CorruptionError(self.path, offset, expected=f"a blob of {count} bytes", found="the end of the file")
        return self._check(memoryview(self._data[start:end]), offset, count, id_)  # type: ignore[arg-type]

    def _check(self, record: memoryview, offset: int, count: int, id_: int) -> memoryview:
        crc, length, owner, _ = BLOB.unpack_from(record)
        if length != count or owner != id_:
            raise CorruptionError(
                self.path, offset, expected=f"{count} bytes of memory {id_}", found=f"{length} bytes of memory {owner}"
            )
        found = dispatch.kernels.crc32c(record[4:])
        if found != crc:
            raise CorruptionError(self.path, offset, expected=f"checksum {crc:#010x}", found=f"{found:#010x}")
        return record[BLOB.size :]

    def text(self, operation: Operation) -> memoryview:
        """Borrow the text of an operation, following a reference."""
        if not operation.flags & OpFlag.TEXT_REF:
            return operation.text
        return self.text_by_reference(operation.text)

    def text_by_reference(self, reference: memoryview) -> memoryview:
        """Borrow a text written ahead of its commit; CorruptionError if it is not there whole."""
        offset, count, crc = decode_blob_ref(reference)
        if offset + BLOB.size + count <= self.end:
            start = offset - self._start
            if start < 0:
                raise CorruptionError(self.path, offset, expected="a text's offset", found=offset)
            record = memoryview(self._data[start : start + BLOB.size + count])  # type: ignore[arg-type]
        else:
            record = self._read_ahead(offset, count)
            self.ahead_end = max(self.ahead_end, padded(offset + BLOB.size + count, BLOB_ALIGNMENT))
        text = self._check(record, offset, count, 0)
        if int.from_bytes(record[:4], "little") != crc:
            raise CorruptionError(self.path, offset, expected=f"the text with checksum {crc:#010x}", found="another")
        return text

    def _read_ahead(self, offset: int, count: int) -> memoryview:
        """Borrow a record that the generation's mapping does not cover, from one that does.

        It is kept: a compaction deletes the file while results and readers still refer to it.
        """
        end = offset + BLOB.size + count
        if end > len(self._ahead):
            try:
                file = self._files.open(self.path)
            except FileNotFoundError as error:
                raise CorruptionError(
                    self.path, offset, expected=f"a text of {count} bytes", found="no file"
                ) from error
            try:
                size = file.size()
                if size < end:
                    found = f"{max(0, size - offset)} bytes"
                    raise CorruptionError(self.path, offset, expected=f"a text of {count} bytes", found=found)
                self._ahead = memoryview(file.map(end))
            finally:
                file.close()
        return self._ahead[offset:end]


def encode_blob_ref(offset: int, count: int, header: bytes) -> bytes:
    """Return the BLOB_REF to a blob whose header was encoded as `header`."""
    return BLOB_REF.pack(offset, count, int.from_bytes(header[:4], "little"))
