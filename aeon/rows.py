"""Rows: the vectors as they are kept, INT8 or float32, with their owners and their ends. FORMAT: ROW, codes.

Row r belongs to the r-th memory that has a vector. Rows are only ever added; they end by LSN and are never moved. What is
mapped is verified chunk by chunk when it is first read: a damaged row is never scored.
"""

from __future__ import annotations

import bisect
import threading
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon.columns import CHUNK_RECORDS, Column
from aeon.errors import CorruptionError, DimensionError, InvalidInputError
from aeon.files import zeros
from aeon.format import DEATH, ROW, FileKind, data_offset, row_stride
from aeon.generation_files import MappedFile
from aeon_native import dispatch
from aeon_native.page_layout import FIELD, FIELDS, padded_dim

_VERIFY_SINGLY = 1024  # rows
_VERIFY_EVERY = 16  # searches, to one chunk: a tenth of a millisecond or two, until all of a store is verified
_Block = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # ids, codes, scales, deaths
_NO_ROWS = np.empty(0, np.int64)


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


class RowContext(NamedTuple):
    """Where rows lie: the kernels' context, how many rows it reaches, and the arrays behind its addresses."""

    ctx: NDArray[np.int64]
    reach: int
    keep: Any


class Rows:
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
        self._deaths: Column | None = None
        self._deaths_lock = threading.Lock()
        self._looked = 0
        self._whole = False  # every mapped row was verified
        self._ended_rows: list[int] = []  # rows that ended since the generation was written, in the order of
        self._ended_lsns: list[int] = []  # these LSNs: pages may have lost them, and an older snapshot sees them
        self._row_context: RowContext | None = None
        self._longest = (0, 0.0)

    @property
    def deaths(self) -> Column:
        """DEATH[n] by row; writable, private to this process; verified when first needed."""
        deaths = self._deaths
        if deaths is None:
            with self._deaths_lock:  # a writer, readers and the index's thread may ask for the first time at once
                deaths = self._deaths
                if deaths is None:
                    base = self._files[FileKind.ROW_DEATHS].content() if self._files else np.empty(0, DEATH.dtype)
                    deaths = self._deaths = Column(base)
        return deaths

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

    def add(self, id_: int, scale: float, codes: memoryview) -> int:
        """Add a row and return its index; not visible to a reader before the store publishes it."""
        chunk, position = self.codes.slot()
        chunk[position, : len(codes)] = np.frombuffer(codes, np.uint8)
        records, at = self.rows.slot()
        ROW.pack_into(records, at * ROW.size, id_, scale, 0)  # type: ignore[arg-type]
        self.deaths.slot()
        self.deaths.commit()
        self.rows.commit()
        return self.codes.commit()

    def end(self, row: int, lsn: int) -> bool:
        """Let a row end at `lsn`; whether it had not ended before."""
        array, position = self.deaths.locate(row)
        if array[position]["lsn"]:
            return False
        self._ended_rows.append(row)
        self._ended_lsns.append(lsn)
        array[position] = lsn
        return True

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

    def unit_rows(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows as float32[n, padded dim], and their scales; CorruptionError if one is damaged."""
        if not self._all_verified:
            self._verify_rows(rows)
        scales = self.rows.take(rows, "scale")
        codes = self.codes.take(rows)
        if self.quantised:
            vectors = zeros(codes.shape, np.dtype(np.float32))
            return np.multiply(codes.view(np.int8), scales[:, None], out=vectors), scales
        vectors = zeros((len(rows), padded_dim(self.dim)), np.dtype(np.float32))
        vectors[:, : self.dim] = codes.view(np.float32)[:, : self.dim]
        return vectors, scales

    def dead(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `rows` have ended."""
        return self.deaths.take(rows, "lsn") != 0

    def _ended_after(self, lsn: int, stop: int) -> NDArray[np.int64]:
        """Rows below `stop` that ended after `lsn`, increasing: int64[n]."""
        lsns = self._ended_lsns
        count = len(lsns)
        if not count or lsns[count - 1] <= lsn:
            return _NO_ROWS
        found = np.array(self._ended_rows[bisect.bisect_right(lsns, lsn, 0, count) : count], np.int64)
        return np.sort(found[found < stop])

    @cached_property
    def _base_block(self) -> _Block:
        return self._block(self.rows.base, self.codes.base, self.deaths.base)

    def _block(self, rows: NDArray[Any], codes: NDArray[np.uint8], deaths: NDArray[Any]) -> _Block:
        vectors = codes.view(np.int8 if self.quantised else np.float32)[:, : self.dim]
        arrays = rows["id"], vectors, rows["scale"], deaths["lsn"]
        for array in arrays:
            array.flags.writeable = False
        return arrays

    def blocks(self, stop: int) -> list[_Block]:
        """The rows below `stop` as read-only views (ids, codes, scales, deaths), a block for each run of memory."""
        base_count = self.codes.base_count
        if stop == base_count:
            return [self._base_block] if stop else []
        found = [self._base_block] if base_count and stop > base_count else []
        for first, codes in self.codes.runs(stop, base_count if found else 0):
            rows, at = self.rows.locate(first)
            deaths, _ = self.deaths.locate(first)
            part = slice(at, at + len(codes))
            found.append(self._block(rows[part], codes, deaths[part]))
        return found

    # -- checksums ----------------------------------------------------------------------------------------------

    def verify_all(self) -> None:
        """Check every mapped row's checksum; CorruptionError names the first damaged one."""
        self._verify(0, self.codes.base_count)

    @property
    def _all_verified(self) -> bool:
        if not self._whole:
            self._whole = bool(self._verified.all())
        return self._whole

    def _verify_rows(self, rows: NDArray[np.int64]) -> None:
        """Check the checksums of single rows, those whose chunk was not checked before."""
        rows = rows[rows < self.codes.base_count]
        rows = rows[~self._verified[rows // CHUNK_RECORDS]]
        if len(rows):
            bad = dispatch.kernels.rows_verify(self.codes.base[rows], self.rows.base[rows])
            if bad >= 0:
                raise self.damaged(int(rows[bad]))

    def _verify_listed(self, rows: NDArray[np.int64]) -> None:
        """Check the checksums of `rows`, which increase: of few one by one, of many with all that lie between them."""
        if self._all_verified or not len(rows):
            return
        if len(rows) > _VERIFY_SINGLY:
            self._verify(int(rows[0]), int(rows[-1]) + 1)
        else:
            self._verify_rows(rows)
            self._verify_some()

    def _verify_some(self) -> None:
        """Now and then verify a chunk that nobody asked for, so that searches of a mapped store need not look any more."""
        self._looked += 1
        if self._looked % _VERIFY_EVERY == 0 and not self._all_verified:
            chunk = int(self._verified.argmin())
            self._verify(chunk * CHUNK_RECORDS, (chunk + 1) * CHUNK_RECORDS)

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
                    raise self.damaged(at + bad)
                self._verified[chunk] = True

    def damaged(self, row: int) -> CorruptionError:
        """The error that names a row whose checksum is wrong."""
        return CorruptionError(
            self._files[FileKind.CODES].path, data_offset(FileKind.CODES) + row * self.stride,
            expected=f"row {row} to match its checksum {int(self.rows.base[row]['crc']):#010x}", found="other bytes",
        )  # fmt: skip

    # -- what kernels ask of the rows ---------------------------------------------------------------------------

    def row_fields(self) -> tuple[dict[str, int], tuple[Any, ...]]:
        """Where rows, deaths and records lie, for the kernels; the arrays behind the addresses."""
        rows, row_chunks, keep_rows = self.codes.addresses()
        deaths, death_chunks, keep_deaths = self.deaths.addresses()
        records, record_chunks, keep_records = self.rows.addresses()
        chunks = min(len(row_chunks), len(death_chunks), len(record_chunks))
        return (
            {
                "row_bytes": self.stride,
                "row_int8": int(self.quantised),
                "base_count": self.codes.base_count,
                "row_base": rows,
                "row_chunks": row_chunks.ctypes.data,
                "death_base": deaths,
                "death_chunks": death_chunks.ctypes.data,
                "chunk_shift": CHUNK_RECORDS.bit_length() - 1,
                "reach": self.codes.base_count + CHUNK_RECORDS * chunks,
                "record_base": records,
                "record_chunks": record_chunks.ctypes.data,
            },
            (keep_rows, keep_deaths, keep_records),
        )

    def row_context(self, rows: int) -> RowContext:
        """Where the rows below `rows` lie, for kernels that score single rows."""
        context = self._row_context
        if context is None or context.reach < rows:
            fields, keep = self.row_fields()
            ctx = np.zeros(len(FIELDS), np.uint64)
            for name, value in fields.items():
                ctx[FIELD[name]] = value
            ctx[FIELD["dim"]] = padded_dim(self.dim)
            context = self._row_context = RowContext(ctx.view(np.int64), fields["reach"], keep)
        return context

    def longest(self, rows: int) -> float:
        """No row below `rows` has a larger norm, as it is kept. Cost: one pass over the rows that are new since last time."""
        if not self.quantised:
            return 1 + 1e-6
        done, found = self._longest
        for begin, codes in self.codes.runs(rows, done):
            scales = self.rows.take(np.arange(begin, begin + len(codes)), "scale")
            for at in range(0, len(codes), 1024):
                block = codes[at : at + 1024].view(np.int8).astype(np.float32)
                lengths = np.sqrt(np.einsum("ij,ij->i", block, block)) * scales[at : at + 1024]
                found = max(found, float(lengths.max()))
        if rows > self._longest[0]:
            self._longest = rows, found
        return found * (1 + 1e-5)


def row_checksums(codes: NDArray[np.uint8], records: NDArray[Any]) -> NDArray[np.uint32]:
    """The ROW.crc of each row, uint8[n, stride] C-contiguous and ROW[n]: uint32[n]."""
    out = np.empty(len(records), np.uint32)
    ids, scales = np.ascontiguousarray(records["id"]), np.ascontiguousarray(records["scale"])
    dispatch.kernels.rows_checksum(codes, ids, scales, out)
    return out
