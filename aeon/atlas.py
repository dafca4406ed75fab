"""The Atlas: vectors as INT8 (or float32) rows, searched by exhaustive scan. FORMAT: ROW, codes.

Row r belongs to the r-th memory that has a vector. Rows are scored against the query quantised to 15 bits, so the only
loss is the rows' own rounding: recall@10 against exact float32 search is above 0.995 on real sentence embeddings.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon_native import dispatch

from aeon.columns import CHUNK_RECORDS, Column
from aeon.errors import CorruptionError, DimensionError, InvalidInputError
from aeon.format import DEATH, ROW, FileKind, data_offset, row_stride
from aeon.generation_files import MappedFile

_ALL = np.empty(0, np.uint8)  # an empty bitmap allows every row


def as_vectors(vectors: Any, dim: int, what: str = "vector") -> NDArray[np.float32]:
    """Return `vectors` as float32[n, dim], C-contiguous; DimensionError or InvalidInputError if they cannot be."""
    try:
        array = np.asarray(vectors)
        if array.dtype != np.float32:
            if array.dtype.kind not in "fiu":
                raise InvalidInputError(f"a {what} is an array of numbers, not of {array.dtype}")
            with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
                array = array.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"a {what} is an array of {dim} numbers: {error}") from None
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != dim:
        raise DimensionError(f"this store keeps vectors of {dim} dims; the {what} given has shape {np.shape(vectors)}")
    return np.ascontiguousarray(array)


def refuse_vector(vectors: NDArray[np.float32], index: int, what: str = "vector") -> InvalidInputError:
    """Return the error that says why row `index` was refused."""
    row = vectors[index]
    where = f" {index}" if len(vectors) > 1 else ""
    if not np.isfinite(row).all():
        return InvalidInputError(f"{what}{where} holds NaN or infinity")
    if not row.any():
        return InvalidInputError(f"{what}{where} is all zeros: it has no direction, so no cosine")
    return InvalidInputError(f"{what}{where} is too large or too small to be normalised")


class Atlas:
    """Rows of one generation and of what came since.

    Parameters
    ----------
    files : the generation's mapped files by kind; empty for a new store.
    dim, rows : length of the vectors; "int8" or "float32".
    """

    def __init__(self, files: dict[FileKind, MappedFile], dim: int, rows: str) -> None:
        self.dim = dim
        self.quantised = rows == "int8"
        self.stride = row_stride(dim, rows)
        self._files = files
        base = files[FileKind.CODES].data if files else np.empty(0, np.uint8)
        self.codes = Column(base.reshape(-1, self.stride))
        self.rows = Column(files[FileKind.ROWS].content() if files else np.empty(0, ROW.dtype))
        self._verified = np.zeros(-(-self.codes.base_count // CHUNK_RECORDS), bool)

    @cached_property
    def deaths(self) -> Column:
        """DEATH[n] by row; writable, private to this process; verified when first needed."""
        base = self._files[FileKind.ROW_DEATHS].content() if self._files else np.empty(0, DEATH.dtype)
        return Column(base)

    def encode(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return what a row keeps of each vector: (codes uint8[n, stride], scales float32[n]).

        Raises InvalidInputError for a vector that is zero, NaN or infinite; the message names its index.
        """
        count = len(vectors)
        codes = np.empty((count, self.stride), np.uint8)
        scales = np.ones(count, np.float32)
        if self.quantised:
            bad = dispatch.kernels.quantize(vectors, codes.view(np.int8), scales)
        else:
            bad = dispatch.kernels.normalize(vectors, codes.view(np.float32))
        if bad >= 0:
            raise refuse_vector(vectors, bad)
        return codes, scales

    @property
    def code_bytes(self) -> int:
        """Bytes of a row's codes without padding, as the log carries them."""
        return self.dim if self.quantised else 4 * self.dim

    # -- writing (under the index lock) -------------------------------------------------------------------------

    def append(self, id_: int, scale: float, codes: memoryview) -> int:
        """Add a row and return its index; not visible to a reader before the store publishes it."""
        chunk, position = self.codes.slot()
        chunk[position, : len(codes)] = np.frombuffer(codes, np.uint8)
        records, at = self.rows.slot()
        ROW.pack_into(records, at * ROW.size, id_, scale, 0)  # type: ignore[arg-type]
        self.deaths.slot()
        self.deaths.commit()
        self.rows.commit()
        return self.codes.commit()

    def kill(self, row: int, lsn: int) -> None:
        """Take a row out of every search that begins at `lsn` or later."""
        array, position = self.deaths.locate(row)
        if not array[position]["lsn"]:
            array[position] = lsn

    # -- reading ------------------------------------------------------------------------------------------------

    def prepare(self, query: NDArray[np.float32], what: str = "query") -> tuple[NDArray[Any], float]:
        """Return (the query as the scan wants it, its scale)."""
        if self.quantised:
            prepared = np.zeros(self.stride, np.int16)
            scale = dispatch.kernels.prepare_query(query, prepared)
            if not scale > 0:
                raise refuse_vector(query[None], 0, what)
            return prepared, scale
        normal = np.zeros((1, self.stride // 4), np.float32)
        if dispatch.kernels.normalize(query[None], normal) >= 0:
            raise refuse_vector(query[None], 0, what)
        return normal[0], 1.0

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        rows: int,
        lsn: int,
        among: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the best rows and their cosines, best first; equal scores in the order they were remembered.

        Parameters
        ----------
        query : float32[dim], C. k : how many; fewer come back only if fewer rows match.
        rows, lsn : the snapshot: rows below `rows` that had not ended by `lsn`.
        among : int64[m], increasing: only these rows; None = all.
        """
        prepared, scale = self.prepare(query)
        k = min(k, rows if among is None else len(among))
        scores, found, count = np.empty(k, np.float32), np.empty(k, np.int64), 0
        if k == 0:
            return found, scores
        kernels = dispatch.kernels
        deaths = self.deaths
        for first, codes in self.codes.runs(rows):
            end = first + len(codes)
            self._verify(first, end)
            records, position = self.rows.locate(first)
            scales = records["scale"][position : position + len(codes)]
            ended, at = deaths.locate(first)
            died = ended["lsn"][at : at + len(codes)]
            if among is None:
                run: tuple[Any, ...] = (codes, scales, died, lsn, prepared, scale, _ALL, first)
                scan = kernels.scan_int8
            else:
                low, high = np.searchsorted(among, (first, end))
                if low == high:
                    continue
                run = (codes, scales, died, lsn, prepared, scale, among[low:high] - first, first)
                scan = kernels.gather_int8
            if self.quantised:
                count = scan(codes.view(np.int8), *run[1:], scores, found, count)
            else:
                scan = kernels.scan_f32 if among is None else kernels.gather_f32
                count = scan(codes.view(np.float32), died, lsn, prepared, run[6], first, scores, found, count)
        kernels.finish_topk(scores, found, count)
        return found[:count], scores[:count]

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Ids of the memories that own `rows`."""
        return self.rows.take(rows, "id")

    def vector(self, row: int) -> NDArray[np.float32]:
        """The row as it is kept, as float32[dim]: a copy; norm 1 within the rounding."""
        if row < self.codes.base_count:
            self._verify(row, row + 1)
        codes = self.codes[row]
        if not self.quantised:
            return codes.view(np.float32)[: self.dim].copy()
        return codes.view(np.int8)[: self.dim].astype(np.float32) * np.float32(self.rows[row]["scale"])

    def verify_all(self) -> None:
        """Check every mapped row's checksum; CorruptionError names the first damaged one."""
        self._verify(0, self.codes.base_count)

    def _verify(self, first: int, end: int) -> None:
        """Check the rows' checksums the first time a chunk of the mapping is read; a damaged one is never scored."""
        end = min(end, self.codes.base_count)
        if first >= end:
            return
        low, high = first // CHUNK_RECORDS, -(-end // CHUNK_RECORDS)
        if self._verified[low:high].all():
            return
        for chunk in range(low, high):
            if not self._verified[chunk]:
                at = chunk * CHUNK_RECORDS
                codes, records = self.codes.base[at : at + CHUNK_RECORDS], self.rows.base[at : at + CHUNK_RECORDS]
                bad = dispatch.kernels.rows_verify(codes, records)
                if bad >= 0:
                    offset = data_offset(FileKind.CODES) + (at + bad) * self.stride
                    raise CorruptionError(
                        self._files[FileKind.CODES].path, offset,
                        expected=f"row {at + bad} to match its checksum {int(records[bad]['crc']):#010x}", found="other bytes",
                    )  # fmt: skip
                self._verified[chunk] = True

    def checksums(self, codes: NDArray[np.uint8], records: NDArray[Any]) -> NDArray[np.uint32]:
        """The ROW.crc of each row: uint32[n]."""
        out = np.empty(len(records), np.uint32)
        ids, scales = np.ascontiguousarray(records["id"]), np.ascontiguousarray(records["scale"])
        dispatch.kernels.rows_checksum(codes, ids, scales, out)
        return out
