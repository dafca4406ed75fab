"""The compiled kernels under the names of their twins. Importing this compiles them or loads them from the cache."""

from __future__ import annotations

from . import reference
from .checksum import crc32c, rows_checksum, rows_verify
from .int8 import (
    dot_f32,
    dot_int8,
    dot_int8_int8,
    dot_rows_f32,
    dot_rows_int8,
    normalize,
    prepare_query,
    quantize,
)
from .scan import finish_topk, gather_f32, gather_int8, scan_f32, scan_int8

__all__ = [
    "crc32c",
    "dot_f32",
    "dot_int8",
    "dot_int8_int8",
    "dot_rows_f32",
    "dot_rows_int8",
    "finish_topk",
    "gather_f32",
    "gather_int8",
    "normalize",
    "prepare_query",
    "quantize",
    "rows_checksum",
    "rows_verify",
    "scan_f32",
    "scan_int8",
]

for _name in __all__:
    globals()[_name].__doc__ = getattr(reference, _name).__doc__
