"""Whole rows of a damaged generation, by their checksums, and what a row is where the MANIFEST that says so is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.errors import InvalidInputError
from aeon.files import FileSystem
from aeon.format import DIM_MAX, OP, ROW, FileKind, OpFlag, row_stride
from aeon.results import Progress
from aeon.rows import row_checksums
from aeon.salvage_blobs import Salvaged
from aeon.salvage_files import Arenas
from aeon.salvage_identity import Identity
from aeon.salvage_log import read_log

_CHUNK = 4096  # rows whose checksums are taken at a time
_PROOFS_MAX = 64  # rows, and vectors of the log, that are looked at to tell what a row is


@dataclass(frozen=True)
class Rows:
    """Rows that are whole.

    Attributes
    ----------
    by_id : the row of each memory. damaged : rows that are not whole, or not there.
    codes, records : uint8[n, stride] and ROW[n], borrowed from the mapping; only those of `by_id` are to be believed.
    """

    by_id: dict[int, int]
    damaged: Sequence[int]
    codes: NDArray[np.uint8]
    records: NDArray[Any]

    def give_vectors(self, memories: dict[int, Salvaged]) -> None:
        """Give each memory that was made with a vector the one in its row."""
        for id_, row in self.by_id.items():
            memory = memories.get(id_)
            if memory is not None and memory.operation.flags & OpFlag.VECTOR:
                memory.codes, memory.scale = self.codes[row], float(self.records["scale"][row])


def read_rows(store: Identity, arenas: Arenas, progress: Progress) -> Rows:
    """Read every row whose checksum over id, scale and codes is right."""
    codes, records = _rows(arenas, row_stride(store.manifest.dim, store.manifest.rows))
    by_id: dict[int, int] = {}
    damaged: list[int] = []
    for first in range(0, len(records), _CHUNK):
        progress("rows", first, len(records))
        part = records[first : first + _CHUNK]
        good = row_checksums(codes[first : first + len(part)], part) == part["crc"]
        for n in np.flatnonzero(good).tolist():
            by_id[int(part["id"][n])] = first + n
        damaged += (np.flatnonzero(~good) + first).tolist()
    entry = store.manifest.files.get(FileKind.ROWS)
    if entry is not None and store.has_manifest:
        damaged += range(len(records), entry.count)
    return Rows(by_id, damaged, codes, records)


def prove_rows(
    files: FileSystem, store: Identity, arenas: Arenas, memories: dict[int, Salvaged], dim: int | None
) -> Identity:
    """Find dimension and kind of rows by what the checksums of rows, or the norms of vectors in the log, agree to.

    dim : the caller's word for the dimension, taken if nothing proves one; InvalidInputError if it is None then.
    """
    sizes: Counter[int] = Counter()
    for memory in memories.values():
        *_, size, _, _ = OP.unpack_from(memory.blob)
        sizes[int(size)] += 1
    log = read_log(files, store.root, store.manifest.uuid, None, 1, 1)
    vectors = [o.vector for frame in log.frames.values() for o in frame.operations if len(o.vector)]
    for vector in vectors:
        sizes[len(vector)] += 1
    for size in [size for size, _ in sizes.most_common() if size]:
        for proven, rows in ((size - 4, "int8"), (size // 4, "float32")):
            alike = [vector for vector in vectors if len(vector) == size]
            if 1 <= proven <= DIM_MAX and _agrees(arenas, proven, rows, alike):
                return replace(store, manifest=replace(store.manifest, dim=proven, rows=rows))
    if dim is None:
        raise InvalidInputError(
            f"{store.root}: the MANIFEST is lost and no vector is left to tell their dimension: give it (dim=)"
        )
    return replace(store, manifest=replace(store.manifest, dim=dim, rows="int8"))


def _agrees(arenas: Arenas, dim: int, rows: str, vectors: Sequence[memoryview]) -> bool:
    """Whether rows of this kind have the checksums and the norm that they were written with."""
    codes, records = _rows(arenas, row_stride(dim, rows))
    codes, records = codes[:_PROOFS_MAX], records[:_PROOFS_MAX]
    width = dim if rows == "int8" else 4 * dim
    found = [
        (float(records["scale"][row]), bytes(codes[row, :width]))
        for row in np.flatnonzero(row_checksums(codes, records) == records["crc"])
    ]
    found += [split_vector(vector, rows) for vector in vectors[:_PROOFS_MAX]]
    for scale, data in found:
        values = np.frombuffer(data, np.int8 if rows == "int8" else "<f4").astype(np.float64) * scale
        if not abs(float(np.linalg.norm(values)) - 1) < (0.05 if rows == "int8" else 1e-4):
            return False
    return bool(found)


def _rows(arenas: Arenas, stride: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Codes and records of as many rows of `stride` bytes as both files hold."""
    codes, rows = arenas.records[FileKind.CODES], arenas.records[FileKind.ROWS]
    count = min(len(codes) // stride, len(rows) // ROW.size)
    return codes[: count * stride].reshape(count, stride), rows[: count * ROW.size].view(ROW.dtype)


def split_vector(vector: memoryview, rows: str) -> tuple[float, bytes]:
    """(scale, codes) of a vector as the log holds it."""
    if rows != "int8":
        return 1.0, bytes(vector)
    return float(np.frombuffer(vector[:4], "<f4")[0]), bytes(vector[4:])
