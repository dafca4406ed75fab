"""What every kernel asks of its arguments: one function per kernel, which returns or raises.

The twins call these always. The compiled kernels test the same conditions themselves and come here only to say what was
wrong, so a valid call does not pay for the words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROW_ALIGNMENT = 64  # bytes
DIMS_MAX = 65_536  # int32 accumulators of the int8 kernels are proven up to here
SCALE = np.dtype(np.float32)
META = np.dtype([("id", "<u8"), ("scale", "<f4"), ("crc", "<u4")])

Array = np.ndarray[Any, np.dtype[Any]]


def _array(name: str, value: Any, dtype: Any, ndim: int, writable: bool = False, strided: bool = False) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, found {type(value).__name__}")
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected {np.dtype(dtype)}, found {value.dtype}")
    if value.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), found {value.ndim}")
    if not strided and not value.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array")
    if writable and not value.flags.writeable:
        raise ValueError(f"{name}: expected a writable array")


def _length(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{name}: expected length {expected}, found {found}")


def _stride(name: str, found: int, itemsize: int, dim: int = 0) -> None:
    if found * itemsize % ROW_ALIGNMENT or not dim <= found <= DIMS_MAX:
        raise ValueError(
            f"{name}: expected a row of {dim} to {DIMS_MAX} elements in whole multiples of {ROW_ALIGNMENT} bytes,"
            f" found {found}"
        )


def _dim(name: str, found: int) -> None:
    if not 1 <= found <= DIMS_MAX:
        raise ValueError(f"{name}: expected 1 to {DIMS_MAX} dimensions, found {found}")


def accepted(status: Any) -> Any:
    """The result of a compiled kernel that was called after its check."""
    if status < -1:
        raise ValueError("malformed arguments")
    return status


def quantize(vectors: Array, codes: Array, scales: Array) -> None:
    _array("vectors", vectors, np.float32, 2)
    _array("codes", codes, np.int8, 2, writable=True)
    _array("scales", scales, np.float32, 1, writable=True, strided=True)
    _dim("vectors", vectors.shape[1])
    _stride("codes", codes.shape[1], 1, vectors.shape[1])
    _length("codes", codes.shape[0], vectors.shape[0])
    _length("scales", scales.shape[0], vectors.shape[0])


def normalize(vectors: Array, rows: Array) -> None:
    _array("vectors", vectors, np.float32, 2)
    _array("rows", rows, np.float32, 2, writable=True)
    _dim("vectors", vectors.shape[1])
    _stride("rows", rows.shape[1], 4, vectors.shape[1])
    _length("rows", rows.shape[0], vectors.shape[0])


def prepare_query(vector: Array, query: Array) -> None:
    _array("vector", vector, np.float32, 1)
    _array("query", query, np.int16, 1, writable=True)
    _dim("vector", vector.shape[0])
    _stride("query", query.shape[0], 1, vector.shape[0])


def dot(row: Array, query: Array, row_type: Any, query_type: Any) -> None:
    _array("row", row, row_type, 1)
    _array("query", query, query_type, 1)
    _stride("row", row.shape[0], row.itemsize)
    _length("query", query.shape[0], row.shape[0])


def dot_rows(rows: Array, query: Array, out: Array, row_type: Any, out_type: Any) -> None:
    _array("rows", rows, row_type, 2)
    _array("query", query, row_type, 1)
    _array("out", out, out_type, 1, writable=True)
    _stride("rows", rows.shape[1], rows.itemsize)
    _length("query", query.shape[0], rows.shape[1])
    _length("out", out.shape[0], rows.shape[0])


def _rows(vectors: Array, row_type: Any, died: Array, query: Array, query_type: Any) -> None:
    name = "codes" if row_type is np.int8 else "vectors"
    _array(name, vectors, row_type, 2)
    _array("died", died, np.uint64, 1)
    _array("query", query, query_type, 1)
    _stride(name, vectors.shape[1], vectors.itemsize)
    _length("died", died.shape[0], vectors.shape[0])
    _length("query", query.shape[0], vectors.shape[1])


def topk(scores: Array, rows: Array, count: int) -> None:
    _array("scores", scores, np.float32, 1, writable=True)
    _array("rows", rows, np.int64, 1, writable=True)
    _length("rows", rows.shape[0], scores.shape[0])
    if not 0 <= count <= scores.shape[0]:
        raise ValueError(f"count: expected 0 to {scores.shape[0]}, found {count}")


def _allowed(allowed: Array, count: int) -> None:
    _array("allowed", allowed, np.uint8, 1)
    if allowed.shape[0] != 0:
        _length("allowed", allowed.shape[0], (count + 7) // 8)


def _scales(scales: Array, count: int) -> None:
    _array("scales", scales, np.float32, 1, strided=True)
    _length("scales", scales.shape[0], count)


def scan_int8(
    codes: Array, scales: Array, died: Array, query: Array, allowed: Array, scores: Array, rows: Array, count: int
) -> None:
    _rows(codes, np.int8, died, query, np.int16)
    _scales(scales, codes.shape[0])
    _allowed(allowed, codes.shape[0])
    topk(scores, rows, count)


def scan_f32(vectors: Array, died: Array, query: Array, allowed: Array, scores: Array, rows: Array, count: int) -> None:
    _rows(vectors, np.float32, died, query, np.float32)
    _allowed(allowed, vectors.shape[0])
    topk(scores, rows, count)


def _code_bytes(codes: Array) -> None:
    if not isinstance(codes, np.ndarray) or codes.dtype not in (np.int8, np.uint8):
        found = codes.dtype if isinstance(codes, np.ndarray) else type(codes).__name__
        raise TypeError(f"codes: expected an array of int8 or uint8, found {found}")
    _array("codes", codes, codes.dtype, 2)
    if codes.shape[1] % 8:
        raise ValueError(f"codes: expected rows of a multiple of 8 bytes, found {codes.shape[1]}")


def rows_checksum(codes: Array, ids: Array, scales: Array, out: Array) -> None:
    _code_bytes(codes)
    _array("ids", ids, np.uint64, 1, strided=True)
    _array("scales", scales, np.float32, 1, strided=True)
    _array("out", out, np.uint32, 1, writable=True, strided=True)
    for name, array in (("ids", ids), ("scales", scales), ("out", out)):
        _length(name, array.shape[0], codes.shape[0])


def records_checksum(records: Array, at: int, out: Array) -> None:
    _array("records", records, np.uint8, 2)
    _array("out", out, np.uint32, 1, writable=True, strided=True)
    _length("out", out.shape[0], records.shape[0])
    if not 0 <= at <= records.shape[1] - 4 or records.shape[1] < 8:
        raise ValueError(f"a checksum of 4 bytes at {at} in records of {records.shape[1]}")


def rows_verify(codes: Array, meta: Array) -> None:
    _code_bytes(codes)
    _array("meta", meta, META, 1)
    _length("meta", meta.shape[0], codes.shape[0])
